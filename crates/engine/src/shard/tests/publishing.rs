//! Event collection from the frame to the PUBLISH_ACK, with a journal that syncs when it is told.

use std::num::NonZeroU32;

use proptest::prelude::*;
use tickstream_wire::frame;
use tickstream_wire::messages::events::{Body, Codec, CustomEvent, Event, Publish, StoredBatch};
use tickstream_wire::messages::{Message, Mode, PublishAck};

use super::world::{Seen, World, config};
use crate::clock::{MS, SECOND};
use crate::ingest::tests::samples::{event, event_id, events, log, packed, publish};
use crate::{
    CloseReason, Config, IngestConfig, IngestPressure, Limit, PrivacyConfig, RecordId, Secured, StorageFault,
    VerdictCode,
};

/// A record that the journal took.
#[derive(Clone, Debug)]
struct Kept {
    id: RecordId,
    producer: [u8; 16],
    sequence: u64,
    events: u32,
    payload: Vec<u8>,
}

impl Kept {
    fn batch(&self) -> StoredBatch {
        let batch = StoredBatch::decode(&self.payload[..]).expect("a StoredBatch");
        assert_eq!(batch.events.len(), self.events as usize);
        batch
    }
}

/// A world with a journal.
struct Site {
    world: World,
    appended: Vec<Kept>,
}

fn collecting(change: impl FnOnce(&mut IngestConfig)) -> Config {
    let mut ingest = IngestConfig::new("server-1", 7);
    change(&mut ingest);
    Config { ingest: Some(ingest), ..config() }
}

impl Site {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut IngestConfig)) -> Self {
        Self { world: World::new(collecting(change)), appended: Vec::new() }
    }

    /// A connection that has authenticated.
    fn publisher(&mut self) -> usize {
        let client = self.world.connect();
        self.world.send_auth(client);
        assert_eq!(self.world.client(client).take(), [Seen::AckAuth]);
        client
    }

    fn publish(&mut self, client: usize, publish: &Publish) {
        self.world.send(client, &frame::seal(publish));
        self.append();
    }

    /// The journal takes what there is.
    fn append(&mut self) {
        while let Some(record) = self.world.shard.poll_record() {
            self.appended.push(Kept {
                id: record.id,
                producer: record.producer,
                sequence: record.sequence,
                events: record.events,
                payload: record.payload.to_vec(),
            });
        }
    }

    /// The journal syncs all that it took.
    fn sync(&mut self) {
        if let Some(last) = self.appended.last() {
            self.world.shard.records_synced(last.id);
        }
        self.world.settle();
    }

    fn refuse(&mut self, id: u64, fault: StorageFault) {
        self.world.shard.record_refused(RecordId(id), fault);
        self.world.settle();
    }

    /// The PUBLISH_ACKs that a client got since the last call, and nothing else.
    fn acks(&mut self, client: usize) -> Vec<PublishAck> {
        let seen = self.world.client(client).take().into_iter();
        seen.map(|seen| match seen {
            Seen::PublishAck(ack) => ack,
            other => panic!("{other:?}"),
        })
        .collect()
    }

    /// Sequence, accepted and duplicates of them; none has a verdict.
    fn acked(&mut self, client: usize) -> Vec<(u64, u32, u32)> {
        let acks = self.acks(client).into_iter();
        acks.map(|ack| {
            assert_eq!(ack.rejected, [], "of {}", ack.sequence);
            (ack.sequence, ack.accepted, ack.duplicates)
        })
        .collect()
    }

    fn stored(&self) -> Vec<Event> {
        self.appended.iter().flat_map(|record| record.batch().events).collect()
    }

    /// The client was closed with this ERROR, for this reason.
    fn assert_closed(&mut self, client: usize, error: &str, reason: CloseReason) {
        assert!(self.world.client(client).closed);
        let seen = self.world.client(client).take();
        assert!(seen.contains(&Seen::Error(error.to_owned())), "{seen:?}");
        assert_eq!(self.world.reasons(), [reason]);
    }
}

/// `count` small events, numbered from `first` on.
fn logs(first: u64, count: u64) -> Vec<Event> {
    (first..first + count).map(log).collect()
}

/// Index and code of each verdict; whether it is retryable agrees with the code.
fn verdicts(ack: &PublishAck) -> Vec<(u32, &str)> {
    for rejected in &ack.rejected {
        let code = VerdictCode::ALL.into_iter().find(|code| code.as_str() == rejected.code).expect("a code");
        assert_eq!(code.is_retryable(), rejected.retryable);
    }
    ack.rejected.iter().map(|rejected| (rejected.index, &*rejected.code)).collect()
}

#[test]
fn every_kind_is_stored_as_it_was_sent_by_each_codec() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let mut site = Site::new();
        let client = site.publisher();
        let plain = publish(1, 1, events());
        site.publish(client, &if codec == Codec::None { plain } else { packed(plain, codec) });
        assert_eq!(site.acked(client), [], "not before the sync");
        site.sync();
        assert_eq!(site.acked(client), [(1, 8, 0)]);
        assert_eq!(site.stored(), events());
        let batch = site.appended[0].batch();
        assert_eq!((&*batch.peer, &*batch.server, &*batch.user), ("127.0.0.1", "server-1", "ada"));
        assert_eq!(batch.receive_time_ns, site.world.now().unix_ns);
        assert!(!batch.is_partial && batch.dead_letters.is_empty());
    }
}

#[test]
fn the_ack_of_auth_announces_credits_and_sizes() {
    let mut site = Site::new();
    let client = site.publisher();
    let ack = site.world.client(client).ack;
    assert_eq!((ack.publish_credits, ack.max_publish_size, ack.max_msg_size), (8, 524_288, 65_536));
    let mut off = World::new(config());
    let client = off.subscribed(Mode::Second, None);
    assert_eq!((off.client(client).ack.publish_credits, off.client(client).ack.max_publish_size), (0, 0));
    off.send(client, &frame::seal(&publish(1, 1, logs(1, 1))));
    assert!(off.client(client).take().contains(&Seen::Error("UNSUPPORTED_TYPE".into())));
}

#[test]
fn publishes_are_pipelined_and_acknowledged_in_order_once_synced() {
    let mut site = Site::new();
    let client = site.publisher();
    for sequence in 1..=8 {
        site.publish(client, &publish(1, sequence, logs(10 * sequence, 10)));
    }
    assert_eq!(site.world.shard.counters().ingest.in_flight, 8);
    site.world.shard.records_synced(RecordId(3));
    site.world.settle();
    assert_eq!(site.acked(client), [(1, 10, 0), (2, 10, 0), (3, 10, 0)]);
    // Credits are back.
    for sequence in 9..=11 {
        site.publish(client, &publish(1, sequence, logs(10 * sequence, 10)));
    }
    site.sync();
    assert_eq!(site.acked(client), (4..=11).map(|sequence| (sequence, 10, 0)).collect::<Vec<_>>());
    let counted = site.world.shard.counters().ingest;
    assert_eq!((counted.in_flight, counted.records_outstanding, counted.queue_bytes), (0, 0, 0));
    assert_eq!((counted.publishes, counted.accepted, counted.duplicates), (11, 110, 0));
}

#[test]
fn one_publish_beyond_the_credits_is_a_violation() {
    let mut site = Site::new();
    let client = site.publisher();
    for sequence in 1..=9 {
        site.publish(client, &publish(1, sequence, logs(sequence, 1)));
    }
    site.assert_closed(client, "PROTOCOL_VIOLATION", CloseReason::ProtocolViolation);
    assert_eq!(site.world.shard.counters().fired(Limit::PublishCredits), 1);
    assert_eq!(site.appended.len(), 8, "what came before is stored");
    site.sync();
    assert_eq!(site.world.shard.counters().ingest.in_flight, 0);
}

#[test]
fn what_is_sent_again_from_two_connections_is_stored_once() {
    let mut site = Site::new();
    let (first, second) = (site.publisher(), site.publisher());
    let batch = publish(1, 1, logs(1, 50));
    site.publish(first, &batch);
    site.publish(second, &batch);
    assert_eq!(
        (site.acked(first), site.acked(second)),
        (vec![], vec![]),
        "the second waits for the first's sync"
    );
    site.sync();
    assert_eq!((site.acked(first), site.acked(second)), (vec![(1, 50, 0)], vec![(1, 0, 50)]));
    // Stored: known at once, and by other producers and sequences, too, for the ids are the same.
    site.publish(first, &batch);
    assert_eq!(site.acked(first), [(1, 0, 50)]);
    site.publish(second, &publish(2, 9, logs(1, 51)));
    site.sync();
    assert_eq!(site.acked(second), [(9, 1, 50)]);
    assert_eq!(site.stored(), logs(1, 51));
}

#[test]
fn an_event_that_is_in_a_batch_twice_is_stored_once() {
    let mut site = Site::new();
    let client = site.publisher();
    site.publish(client, &publish(1, 1, vec![log(1), log(2), log(1)]));
    site.sync();
    assert_eq!(site.acked(client), [(1, 2, 1)]);
    assert_eq!(site.stored(), logs(1, 2));
}

#[test]
fn a_sequence_below_the_window_is_judged_by_its_ids() {
    let mut site = Site::new();
    let client = site.publisher();
    for sequence in (1..=600).rev().step_by(7) {
        site.publish(client, &publish(1, sequence, logs(sequence, 1)));
        site.sync();
        assert_eq!(site.acked(client), [(sequence, 1, 0)]);
    }
    site.publish(client, &publish(1, 5, logs(5, 1)));
    site.sync();
    assert_eq!(site.acked(client), [(5, 0, 1)], "stored under the same sequence, long ago");
}

#[test]
fn the_good_events_of_a_batch_are_kept_and_the_bad_ones_get_a_verdict_each() {
    let mut site = Site::new();
    let client = site.publisher();
    let mut batch = logs(0, 6);
    batch[1].platform.clear();
    batch[4].body = None;
    site.publish(client, &publish(1, 1, batch.clone()));
    site.sync();
    let ack = site.acks(client).remove(0);
    assert_eq!((ack.accepted, ack.duplicates, ack.throttle_ms), (4, 0, 0));
    assert_eq!(verdicts(&ack), [(1, "FIELD_MISSING"), (4, "BODY_MISMATCH")]);
    assert!(ack.rejected[0].message.contains("platform"), "{ack:?}");
    assert_eq!(site.stored(), [0, 2, 3, 5].map(|index: usize| batch[index].clone()));
    let letters = site.appended[0].batch().dead_letters;
    for (letter, index) in letters.iter().zip([1, 4]) {
        assert_eq!(letter.index, index);
        assert_eq!(Event::decode(letter.event()).unwrap(), batch[index as usize]);
    }
    assert_eq!(letters.len(), 2);
    // Sent again, the verdicts are the same, and nothing is written.
    site.publish(client, &publish(1, 1, batch));
    let again = site.acks(client).remove(0);
    assert_eq!((again.accepted, again.duplicates), (0, 4));
    assert_eq!(again.rejected, ack.rejected);
    assert_eq!(site.appended.len(), 1);
    assert_eq!(site.world.shard.counters().ingest.dead_letters, 2);
}

/// Found by simulation: seed 4 of its first with publishers.
#[test]
fn what_was_rejected_for_its_time_alone_is_not_a_duplicate_when_its_time_has_come() {
    let mut site = Site::new();
    let client = site.publisher();
    let mut batch = logs(1, 3);
    batch[1].timestamp = site.world.now().unix_ns + 605 * SECOND;
    site.publish(client, &publish(1, 1, batch.clone()));
    site.sync();
    assert_eq!(verdicts(&site.acks(client)[0]), [(1, "CLOCK_AHEAD")]);
    site.world.run(6 * SECOND);
    // That answer was lost, and so the batch comes again, under its number.
    site.publish(client, &publish(1, 1, batch.clone()));
    assert_eq!(site.acked(client), [], "not before the sync");
    site.sync();
    assert_eq!(site.acked(client), [(1, 1, 2)]);
    assert_eq!(site.stored(), [batch[0].clone(), batch[2].clone(), batch[1].clone()]);
    // Now it is known as a whole, after a restart, too.
    site.publish(client, &publish(1, 1, batch.clone()));
    assert_eq!(site.acked(client), [(1, 0, 3)]);
    let mut next = Site::new();
    let first = &site.appended[0];
    next.world.shard.restore(first.producer, first.sequence, &first.payload).unwrap();
    next.world.run(6 * SECOND);
    let client = next.publisher();
    next.publish(client, &publish(1, 1, batch));
    next.sync();
    assert_eq!(next.acked(client), [(1, 1, 2)]);
}

#[test]
fn an_event_that_cannot_be_read_costs_only_itself() {
    let mut site = Site::new();
    let client = site.publisher();
    let mut payload = publish(1, 1, logs(1, 2)).encode_to_vec();
    payload.extend(b"\x1a\x03\x0a\x09x"); // an event_id of nine bytes in an event of three
    payload.extend(b"\x1a\x04\x1a\x02\xff\xff"); // a platform that isn't UTF-8
    let mut bytes = Vec::new();
    frame::seal_with(&mut bytes, 0x10, |out| out.extend(payload));
    site.world.send(client, &bytes);
    site.append();
    site.sync();
    let ack = site.acks(client).remove(0);
    assert_eq!(ack.accepted, 2);
    assert_eq!(verdicts(&ack), [(2, "MALFORMED"), (3, "INVALID_UTF8")]);
    let letters = site.appended[0].batch().dead_letters;
    assert!(
        letters.iter().all(|letter| letter.event.is_none()),
        "rules can't be applied to what can't be read"
    );
}

#[test]
fn a_publish_that_is_none_ends_the_connection() {
    let check = |payload: &[u8], error: &str, reason| {
        let mut site = Site::with(|ingest| ingest.unpacked_bytes = 10_000);
        let client = site.publisher();
        let mut bytes = Vec::new();
        frame::seal_with(&mut bytes, 0x10, |out| out.extend_from_slice(payload));
        site.world.send(client, &bytes);
        site.append();
        site.assert_closed(client, error, reason);
        assert!(site.appended.is_empty());
        site.world.shard.counters()
    };
    let bad = |publish: Publish| {
        check(&publish.encode_to_vec(), "BAD_FRAME", CloseReason::BadFrame);
    };
    let good = || publish(1, 1, logs(1, 1));
    check(b"\x1a\x05x", "BAD_FRAME", CloseReason::BadFrame);
    check(b"\x0a", "BAD_FRAME", CloseReason::BadFrame);
    bad(Publish { producer_id: vec![1; 15], ..good() });
    bad(Publish { producer_id: vec![0; 16], ..good() });
    bad(Publish { sequence: 0, ..good() });
    bad(Publish { events: vec![], ..good() });
    bad(Publish { codec: 3, ..good() });
    bad(Publish { codec: -1, ..good() });
    bad(Publish { compressed: vec![1], ..good() });
    bad(Publish { codec: Codec::Lz4.into(), ..good() });
    bad(Publish { codec: Codec::Zstd.into(), compressed: vec![1], events: vec![], ..good() });
    for codec in [Codec::Lz4, Codec::Zstd] {
        bad(packed(publish(1, 1, vec![]), codec));
        let bomb = packed(publish(1, 1, logs(1, 1_000)), codec).encode_to_vec();
        let counters = check(&bomb, "MESSAGE_TOO_LARGE", CloseReason::MessageTooLarge);
        assert_eq!(counters.fired(Limit::PublishUnpacked), 1);
    }
    let many = Publish { events: vec![Event::default(); 2_049], ..good() }.encode_to_vec();
    let counters = check(&many, "MESSAGE_TOO_LARGE", CloseReason::MessageTooLarge);
    assert_eq!(counters.fired(Limit::PublishEvents), 1);
}

#[test]
fn a_publish_has_a_frame_limit_of_its_own() {
    let mut site = Site::new();
    let (large, too_large, other) = (site.publisher(), site.publisher(), site.publisher());
    let batch = publish(1, 1, logs(1, 1_500));
    assert!(batch.encoded_len() > 65_536);
    site.publish(large, &batch);
    site.sync();
    assert_eq!(site.acked(large), [(1, 1_500, 0)]);
    site.world.send(too_large, b"TS\x01\x10\x00\x08\x00\x01");
    site.assert_closed(too_large, "MESSAGE_TOO_LARGE", CloseReason::MessageTooLarge);
    site.world.send(other, b"TS\x01\x02\x00\x01\x00\x01");
    site.assert_closed(other, "MESSAGE_TOO_LARGE", CloseReason::MessageTooLarge);
    assert_eq!(site.world.shard.counters().fired(Limit::FrameBytes), 2);
    // Before AUTH nobody has it.
    let stranger = site.world.connect();
    site.world.send(stranger, b"TS\x01\x10\x00\x00\x10\x01");
    site.assert_closed(stranger, "MESSAGE_TOO_LARGE", CloseReason::MessageTooLarge);
}

#[test]
fn the_answer_to_the_worst_batch_fits_the_limit_of_what_the_server_sends() {
    for payload_bytes in [1_024, 65_536] {
        let mut config = collecting(|_| {});
        config.limits.payload_bytes = payload_bytes;
        let mut site = Site { world: World::new(config), appended: Vec::new() };
        let client = site.publisher();
        let count = payload_bytes as usize / 32;
        site.publish(client, &publish(0xFF, u64::MAX, vec![Event::default(); count]));
        site.sync();
        let ack = site.acks(client).remove(0);
        assert_eq!(ack.rejected.len(), count);
        assert!(ack.encoded_len() <= payload_bytes as usize, "{} bytes", ack.encoded_len());
        assert!(!ack.rejected[0].message.is_empty() || payload_bytes == 1_024);
    }
}

#[test]
fn a_refused_record_is_told_and_not_remembered() {
    for (fault, code) in [(StorageFault::Full, "STORAGE_FULL"), (StorageFault::Failed, "STORAGE_FAILED")] {
        let mut site = Site::new();
        let client = site.publisher();
        let mut batch = logs(1, 3);
        batch[1].platform.clear();
        site.publish(client, &publish(1, 1, batch.clone()));
        site.refuse(1, fault);
        let ack = site.acks(client).remove(0);
        assert_eq!((ack.accepted, ack.duplicates), (0, 0));
        assert_eq!(verdicts(&ack), [(0, code), (1, "FIELD_MISSING"), (2, code)]);
        // The same sequence and the same ids: as if they had never been here.
        site.publish(client, &publish(1, 1, batch));
        site.sync();
        let ack = site.acks(client).remove(0);
        assert_eq!((ack.accepted, ack.duplicates), (2, 0));
        let counted = site.world.shard.counters().ingest;
        assert_eq!((counted.accepted, counted.records_refused, counted.records_outstanding), (2, 1, 0));
    }
}

#[test]
fn a_duplicate_of_what_is_then_refused_is_refused_too() {
    let mut site = Site::new();
    let (first, second, third) = (site.publisher(), site.publisher(), site.publisher());
    site.publish(first, &publish(1, 1, logs(1, 2)));
    site.publish(second, &publish(1, 1, logs(1, 2)));
    // Record 2: of its three events, two are in record 1.
    site.publish(third, &publish(3, 1, vec![log(1), log(9), log(2)]));
    site.refuse(1, StorageFault::Full);
    assert_eq!(verdicts(&site.acks(first)[0]), [(0, "STORAGE_FULL"), (1, "STORAGE_FULL")]);
    assert_eq!(site.acks(third), [], "waits for its own record");
    site.sync();
    assert_eq!(verdicts(&site.acks(second)[0]), [(0, "STORAGE_FULL"), (1, "STORAGE_FULL")]);
    let ack = site.acks(third).remove(0);
    assert_eq!((ack.accepted, ack.duplicates), (1, 0));
    assert_eq!(verdicts(&ack), [(0, "STORAGE_FULL"), (2, "STORAGE_FULL")]);
    assert!(site.appended[1].batch().is_partial);
    // If that answer is lost, the same sequence comes again, and must not pass for a duplicate as a whole.
    site.publish(third, &publish(3, 1, vec![log(1), log(9), log(2)]));
    site.sync();
    assert_eq!(site.acked(third), [(1, 2, 1)]);
}

#[test]
fn after_a_restart_what_was_restored_is_known() {
    let mut site = Site::new();
    let client = site.publisher();
    let rejecting = |sequence| {
        let mut batch = logs(100 * sequence, 20);
        batch[3].event_name.clear();
        publish(1, sequence, batch)
    };
    for sequence in 1..=4 {
        site.publish(client, &rejecting(sequence));
    }
    let mut next = Site::new();
    for record in &site.appended {
        next.world.shard.restore(record.producer, record.sequence, &record.payload).unwrap();
    }
    let client = next.publisher();
    next.publish(client, &rejecting(2));
    let ack = next.acks(client).remove(0);
    assert_eq!((ack.accepted, ack.duplicates, ack.rejected.len()), (0, 19, 1));
    // By its ids alone.
    next.publish(client, &publish(7, 1, logs(300, 3)));
    assert_eq!(next.acked(client), [(1, 0, 3)]);
    next.publish(client, &publish(1, 5, logs(1, 3)));
    next.sync();
    assert_eq!(next.acked(client), [(5, 3, 0)]);
    assert!(next.world.shard.restore([1; 16], 9, b"\x1a\x05x").is_err());
}

#[test]
fn a_partial_batch_is_not_restored_as_a_whole() {
    let mut site = Site::with(|ingest| ingest.record_bytes = 0);
    let client = site.publisher();
    let large =
        |number| event(number, Body::Custom(CustomEvent { payload: vec![1; 60_000], ..Default::default() }));
    let batch: Vec<Event> = (1..=6).map(large).collect();
    site.publish(client, &publish(1, 1, batch.clone()));
    site.sync();
    let ack = site.acks(client).remove(0);
    assert_eq!((ack.accepted, verdicts(&ack)), (4, vec![(4, "BATCH_FULL"), (5, "BATCH_FULL")]));
    assert!(site.appended[0].payload.len() <= 256 << 10);
    let mut next = Site::new();
    let record = &site.appended[0];
    next.world.shard.restore(record.producer, record.sequence, &record.payload).unwrap();
    let client = next.publisher();
    next.publish(client, &publish(1, 1, batch));
    next.sync();
    assert_eq!(next.acked(client), [(1, 2, 4)]);
}

#[test]
fn who_hangs_up_before_the_sync_is_stored_and_found_again() {
    let mut site = Site::new();
    let client = site.publisher();
    site.publish(client, &publish(1, 1, logs(1, 5)));
    site.world.hang_up(client);
    assert_eq!(site.world.shard.counters().ingest.in_flight, 0);
    // Another in the same slot gets none of its answers.
    let next = site.publisher();
    site.sync();
    assert_eq!(site.acked(next), []);
    site.publish(next, &publish(1, 1, logs(1, 5)));
    assert_eq!(site.acked(next), [(1, 0, 5)]);
    assert_eq!(site.world.shard.counters().ingest.accepted, 5);
}

#[test]
fn a_connection_subscribes_and_publishes_at_once_and_must_heartbeat() {
    let mut site = Site::new();
    let client = site.world.subscribed(Mode::Second, None);
    for sequence in 1..=10 {
        site.world.run(SECOND);
        site.world.send_heartbeat(client);
        site.publish(client, &publish(1, sequence, logs(sequence, 1)));
        site.sync();
    }
    let seen = site.world.client(client).take();
    let acks = seen.iter().filter(|seen| matches!(seen, Seen::PublishAck(ack) if ack.accepted == 1)).count();
    assert_eq!((acks, site.world.client(client).sequences().len()), (10, 10));
    let silent = site.publisher();
    for sequence in 11..=40 {
        site.world.run(SECOND);
        site.world.send_heartbeat(client);
        if !site.world.client(silent).closed {
            site.publish(silent, &publish(2, sequence, logs(sequence, 1)));
            site.sync();
        }
    }
    assert_eq!(site.world.reasons(), [CloseReason::HeartbeatTimeout], "PUBLISH is no heartbeat");
}

#[test]
fn publishes_are_not_counted_as_frames_unless_they_are_refused() {
    let mut site = Site::new();
    let client = site.publisher();
    for sequence in 1..=500 {
        site.publish(client, &publish(1, sequence, logs(sequence, 1)));
        site.sync();
    }
    assert_eq!(site.acked(client).len(), 500);
    site.world.shard.set_ingest_pressure(IngestPressure::Refuse { ms: 50 });
    for sequence in 501..=601 {
        site.publish(client, &publish(1, sequence, logs(sequence, 1)));
    }
    site.assert_closed(client, "RATE_LIMITED", CloseReason::RateLimited);
}

#[test]
fn under_pressure_publishers_are_asked_to_wait_and_then_refused() {
    let mut site = Site::new();
    let client = site.publisher();
    site.world.shard.set_ingest_pressure(IngestPressure::Throttle { ms: 20 });
    site.publish(client, &publish(1, 1, logs(1, 2)));
    site.world.shard.set_ingest_pressure(IngestPressure::Refuse { ms: 300 });
    site.publish(client, &publish(1, 2, logs(3, 2)));
    assert_eq!(site.acks(client), [], "answers keep their order");
    site.sync();
    let acks = site.acks(client);
    assert_eq!((acks[0].accepted, acks[0].throttle_ms), (2, 20));
    assert_eq!((acks[1].accepted, acks[1].throttle_ms), (0, 300));
    assert_eq!(verdicts(&acks[1]), [(0, "SERVER_BUSY"), (1, "SERVER_BUSY")]);
    assert_eq!(site.world.shard.counters().fired(Limit::Journal), 1);
    site.world.shard.set_ingest_pressure(IngestPressure::None);
    site.publish(client, &publish(1, 2, logs(3, 2)));
    site.sync();
    assert_eq!(site.acked(client), [(2, 2, 0)]);
}

#[test]
fn records_that_nobody_asks_for_are_bounded() {
    let mut site = Site::with(|ingest| ingest.queue_bytes = 20_000);
    let client = site.publisher();
    for sequence in 1..=4 {
        site.world.send(client, &frame::seal(&publish(1, sequence, logs(100 * sequence, 80))));
    }
    site.append();
    site.sync();
    let accepted: Vec<_> = site.acks(client).iter().map(|ack| ack.accepted).collect();
    assert_eq!(
        accepted,
        [80, 80, 0, 0],
        "{:?}",
        site.appended.iter().map(|r| r.payload.len()).collect::<Vec<_>>()
    );
    assert_eq!(site.world.shard.counters().ingest.queue_bytes, 0);
}

#[test]
fn a_quota_of_events_throttles_before_it_refuses() {
    let mut site = Site::with(|ingest| ingest.events_per_second = NonZeroU32::new(2_000));
    let (client, other) = (site.publisher(), site.publisher());
    let mut said = Vec::new();
    for sequence in 1..=5 {
        site.publish(client, &publish(1, sequence, logs(1_000 * sequence, 1_000)));
        site.sync();
        let ack = site.acks(client).remove(0);
        said.push((ack.accepted, ack.throttle_ms));
        assert!(ack.rejected.iter().all(|rejected| rejected.code == "RATE_LIMITED" && rejected.retryable));
    }
    assert_eq!(said, [(1_000, 0), (1_000, 0), (1_000, 500), (1_000, 1_000), (0, 500)]);
    assert_eq!(site.world.shard.counters().fired(Limit::EventRate), 1);
    site.publish(other, &publish(2, 1, logs(9_000, 10)));
    site.sync();
    assert_eq!(site.acked(other), [(1, 10, 0)], "a neighbour has its own");
    site.world.run(500 * MS);
    site.publish(client, &publish(1, 5, logs(5_000, 1_000)));
    site.sync();
    assert_eq!(site.acks(client)[0].accepted, 1_000);
}

#[test]
fn unfinished_publishes_are_bounded_over_the_shard() {
    let mut site = Site::with(|ingest| ingest.partial_bytes = 250_000);
    let clients: Vec<usize> = (0..3).map(|_| site.publisher()).collect();
    let bytes = frame::seal(&publish(1, 1, logs(1, 1_200)));
    for &client in &clients {
        site.world.send(client, &bytes[..100_000]);
    }
    site.assert_closed(clients[2], "SERVER_BUSY", CloseReason::ServerBusy);
    assert_eq!(site.world.shard.counters().fired(Limit::PartialPublishes), 1);
    assert_eq!(site.world.shard.counters().ingest.partial_bytes, 200_000);
    site.world.send(clients[0], &bytes[100_000..]);
    site.append();
    assert_eq!(site.world.shard.counters().ingest.partial_bytes, 100_000);
    site.world.hang_up(clients[1]);
    assert_eq!(site.world.shard.counters().ingest.partial_bytes, 0);
    assert_eq!(site.world.reasons(), [CloseReason::PeerClosed]);
    // A frame that ends the connection takes what was held with it.
    let violator = site.publisher();
    site.world.send(violator, &bytes[..100_000]);
    let mut rest = bytes[100_000..].to_vec();
    *rest.last_mut().unwrap() ^= 1;
    site.world.send(violator, &rest);
    site.assert_closed(violator, "BAD_CRC", CloseReason::BadCrc);
    assert_eq!(site.world.shard.counters().ingest.partial_bytes, 0);
}

#[test]
fn a_pass_knows_when_publishes_have_had_their_share() {
    let mut site = Site::new();
    let client = site.publisher();
    let mut published = 0;
    while !site.world.shard.ingest_is_spent() {
        published += 1;
        site.publish(client, &publish(1, published, logs(1_000 * published, 500)));
        site.sync();
    }
    assert!((1..=2).contains(&published), "{published} of about 60 KB: a share is 64 KiB");
    let now = site.world.now();
    site.world.shard.advance(now);
    assert!(!site.world.shard.ingest_is_spent());
}

#[test]
fn rules_are_applied_before_anything_is_written_dead_letters_included() {
    let mut site = Site::with(|ingest| {
        let rules = [
            "user_id=hash",
            "log.context.user_id=hash",
            "properties.email=mask",
            "log.message=drop",
            "context.client_ip=truncate",
        ];
        let rules = rules.map(|rule| rule.parse().unwrap()).into();
        ingest.privacy = PrivacyConfig::new(rules, [9; 32], true).unwrap();
    });
    let client = site.publisher();
    let mut batch = events();
    batch.extend(logs(100, 3));
    batch[2].platform.clear();
    batch[5].event_name = "e".repeat(200);
    site.publish(client, &publish(1, 1, batch.clone()));
    site.sync();
    assert_eq!(verdicts(&site.acks(client)[0]), [(2, "FIELD_MISSING"), (5, "FIELD_TOO_LONG")]);
    let record = &site.appended[0];
    for secret in ["user-1", "ada@example.org", "192.0.2.77", "no stock", "line 100", "127.0.0.1"] {
        let bytes = secret.as_bytes();
        assert!(!record.payload.windows(bytes.len()).any(|window| window == bytes), "{secret}");
    }
    let batch = record.batch();
    assert_eq!((batch.peer.as_str(), batch.events.len(), batch.dead_letters.len()), ("127.0.0.0", 9, 2));
    for letter in &batch.dead_letters {
        let event = Event::decode(letter.event()).unwrap();
        assert_eq!((&*event.properties["email"], &*event.context["client_ip"]), ("***", "192.0.2.0"));
    }
    // Ids are left alone: duplicates are known all the same.
    assert_eq!(batch.events[0].event_id, event_id(1));
    site.publish(client, &publish(2, 1, events()));
    site.sync();
    assert_eq!(site.acks(client)[0].duplicates, 6);
}

#[test]
fn a_drain_still_acknowledges_what_was_received() {
    let mut site = Site::new();
    let client = site.publisher();
    site.publish(client, &publish(1, 1, logs(1, 5)));
    site.world.shard.begin_drain(10_000);
    site.world.run(100 * MS);
    site.publish(client, &publish(1, 2, logs(11, 5)));
    assert!(matches!(site.world.client(client).take()[..], [Seen::GoAway { .. }]));
    site.sync();
    assert_eq!(site.acked(client), [(1, 5, 0), (2, 5, 0)]);
    site.world.run_until_closed(client);
    assert_eq!(site.world.reasons(), [CloseReason::ShuttingDown]);
}

#[test]
fn a_certificate_s_name_and_the_credentials_of_the_time_stand_in_the_record() {
    let mut site = Site::new();
    let old = site.publisher();
    let secured = site.world.connect_from("192.0.2.7", true).unwrap();
    let id = site.world.client(secured).id;
    site.world.shard.secured(id, Secured { resumed: false, user: Some("grace".into()) });
    site.world.send_auth_as(secured, "", "s3cret");
    site.world.client(secured).take();
    let mut changed = collecting(|_| {});
    changed.credentials = crate::Credentials::new("eve", "s3cret").unwrap();
    site.world.shard.reconfigure(&changed);
    let new = site.world.connect();
    site.world.send_auth_as(new, "eve", "s3cret");
    for (client, sequence) in [(old, 1), (secured, 2), (new, 3)] {
        site.publish(client, &publish(1, sequence, logs(sequence, 1)));
    }
    let users: Vec<_> = site.appended.iter().map(|record| record.batch().user).collect();
    assert_eq!(users, ["ada", "grace", "eve"]);
    assert_eq!(site.appended[1].batch().peer, "192.0.2.7");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_stored_is_what_was_sent_less_what_is_bad_known_or_private(
        batches in prop::collection::vec(prop::collection::vec((0..12_u64, 0..4_u8), 1..12), 1..8),
        is_private: bool,
        codec in 0..3_i32,
    ) {
        let mut site = Site::with(|ingest| {
            let rules = if is_private { vec!["log.message=mask".parse().unwrap()] } else { vec![] };
            ingest.privacy = PrivacyConfig::new(rules, [1; 32], false).unwrap();
        });
        let client = site.publisher();
        let (mut expected, mut known): (Vec<Event>, Vec<u64>) = (Vec::new(), Vec::new());
        for (batch, sequence) in batches.into_iter().zip(1..) {
            let (mut accepted, mut duplicates, mut rejected) = (0, 0, 0);
            // Some kinds have no field that the rule names: they are copied as they come, between others.
            let kinds = events();
            let sent: Vec<Event> = batch.iter().map(|&(number, what)| {
                let kind = kinds[if what == 1 { 5 } else { number as usize % 5 }].clone();
                let mut event = Event { event_id: event_id(number), ..kind };
                if what == 2 {
                    event.platform.clear();
                    rejected += 1;
                } else if known.contains(&number) {
                    duplicates += 1;
                } else {
                    known.push(number);
                    accepted += 1;
                    let mut stored = event.clone();
                    if let (true, Some(Body::Log(log))) = (is_private, &mut stored.body) {
                        log.message = "***".into();
                    }
                    expected.push(stored);
                }
                event
            }).collect();
            let plain = publish(1, sequence, sent);
            let codec = Codec::try_from(codec).unwrap();
            site.publish(client, &if codec == Codec::None { plain } else { packed(plain, codec) });
            site.sync();
            let ack = site.acks(client).remove(0);
            prop_assert_eq!((ack.accepted, ack.duplicates, ack.rejected.len()), (accepted, duplicates, rejected));
        }
        prop_assert_eq!(site.stored(), expected);
    }
}
