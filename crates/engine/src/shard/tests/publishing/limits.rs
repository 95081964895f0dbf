//! Every limit on publishers, fired; those on what one PUBLISH unpacks to are in `session`.

use std::num::NonZeroU32;

use tickstream_wire::frame;
use tickstream_wire::messages::Message;

use super::site::{Site, logs, rejections};
use crate::clock::MS;
use crate::ingest::HASHES_MAX;
use crate::ingest::tests::samples::publish;
use crate::{CloseReason, IngestPressure, Limit, PrivacyConfig};

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
fn a_quota_takes_two_seconds_worth_of_a_batch_and_the_rest_comes_again() {
    let mut site = Site::with(|ingest| ingest.events_per_second = NonZeroU32::new(10));
    let client = site.publisher();
    let batch = logs(1, 1_000);
    site.publish(client, &publish(1, 1, batch.clone()));
    site.sync();
    let ack = site.acks(client).remove(0);
    assert_eq!((ack.accepted, ack.rejected.len(), ack.throttle_ms), (20, 980, 1_000));
    assert!(ack.rejected.iter().zip(20..).all(|(rejected, index)| {
        (rejected.index, &*rejected.code, rejected.retryable) == (index, "RATE_LIMITED", true)
    }));
    // The same batch again: nothing of it was forgotten, nor taken for stored.
    site.world.run(1_000 * MS);
    site.publish(client, &publish(1, 1, batch[15..].to_vec()));
    site.sync();
    let ack = site.acks(client).remove(0);
    assert_eq!((ack.accepted, ack.duplicates, ack.rejected.len()), (5, 5, 975));
    assert_eq!(site.stored().len(), 25);
}

#[test]
fn dead_letters_take_a_bounded_multiple_of_their_batch() {
    let mut site = Site::new();
    let client = site.publisher();
    let empty = |count: usize| {
        let mut batch = publish(1, 0, logs(1, count as u64));
        batch.events.iter_mut().for_each(|event| *event = Default::default());
        batch
    };
    let (mut left, mut sequence, mut kept) = (1_000, 0, 0);
    while left > 0 {
        sequence += 1;
        let mut batch = empty(left);
        batch.sequence = sequence;
        let batch_bytes = batch.encoded_len();
        site.publish(client, &batch);
        site.sync();
        let ack = site.acks(client).remove(0);
        let again = ack.rejected.iter().filter(|rejected| rejected.retryable).count();
        assert!(again < left, "no letter of {left} was kept");
        let stored = site.appended.last().unwrap();
        assert!(stored.payload.len() < 2 * batch_bytes + 1_024 + 512, "{} bytes", stored.payload.len());
        kept += stored.batch().dead_letters.len();
        left = again;
    }
    assert_eq!(kept, 1_000, "each has its letter in the end");
}

#[test]
fn hashed_fields_of_a_batch_are_bounded_and_the_rest_comes_again() {
    let mut site = Site::with(|ingest| {
        let rules = vec!["properties=hash".parse().unwrap()];
        ingest.privacy = PrivacyConfig::new(rules, [7; 32], false).unwrap();
    });
    let client = site.publisher();
    let mut batch = logs(1, 500);
    for event in &mut batch {
        event.properties = (0..60).map(|key| (format!("k{key}"), "v".to_owned())).collect();
    }
    site.publish(client, &publish(1, 1, batch));
    assert!(site.world.shard.ingest_is_spent());
    site.sync();
    let ack = site.acks(client).remove(0);
    assert_eq!(ack.accepted, HASHES_MAX.div_ceil(60));
    assert!(ack.rejected.iter().all(|rejected| rejected.code == "BATCH_FULL" && rejected.retryable));
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
fn unfinished_publishes_are_bounded_over_the_shard() {
    let mut site = Site::with(|ingest| ingest.partial_bytes = 250_000);
    let clients: Vec<usize> = (0..3).map(|_| site.publisher()).collect();
    let bytes = frame::seal_as(frame::FrameType::Publish, &publish(1, 1, logs(1, 1_200)));
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
fn records_that_nobody_asks_for_are_bounded() {
    let mut site = Site::with(|ingest| ingest.queue_bytes = 20_000);
    let client = site.publisher();
    for sequence in 1..=4 {
        site.world.send(
            client,
            &frame::seal_as(frame::FrameType::Publish, &publish(1, sequence, logs(100 * sequence, 80))),
        );
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
    assert_eq!(rejections(&acks[1]), [(0, "SERVER_BUSY"), (1, "SERVER_BUSY")]);
    assert_eq!(site.world.shard.counters().fired(Limit::Journal), 1);
    site.world.shard.set_ingest_pressure(IngestPressure::None);
    site.publish(client, &publish(1, 2, logs(3, 2)));
    site.sync();
    assert_eq!(site.acked(client), [(2, 2, 0)]);
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
