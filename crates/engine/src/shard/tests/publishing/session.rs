//! PUBLISH as a connection sees it: what it is told, in which order, and what ends it.

use tickstream_schema::events::{Codec, Event, Publish};
use tickstream_wire::frame;
use tickstream_wire::messages::{Message, Mode};

use super::super::world::{Seen, World, config};
use super::site::{Site, collecting, logs};
use crate::clock::{MS, SECOND};
use crate::ingest::tests::samples::{packed, publish};
use crate::{CloseReason, Limit, RecordId};

#[test]
fn the_ack_of_auth_announces_credits_and_sizes() {
    let mut site = Site::new();
    let client = site.publisher();
    let ack = site.world.client(client).ack;
    assert_eq!((ack.publish_credits, ack.max_publish_size, ack.max_msg_size), (8, 524_288, 65_536));
    let mut off = World::new(config());
    let client = off.subscribed(Mode::Second, None);
    assert_eq!((off.client(client).ack.publish_credits, off.client(client).ack.max_publish_size), (0, 0));
    off.send(client, &frame::seal_as(frame::FrameType::Publish, &publish(1, 1, logs(1, 1))));
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
