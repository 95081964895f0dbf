//! Events that are sent again: those stored before are known, those refused aren't.

use tickstream_schema::events::{Body, CustomEvent, Event};

use super::site::{Site, logs, rejections};
use crate::StorageFault;
use crate::clock::SECOND;
use crate::ingest::tests::samples::{event, log, publish};

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
        assert_eq!(rejections(&ack), [(0, code), (1, code), (2, code)]);
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
    assert_eq!(rejections(&site.acks(first)[0]), [(0, "STORAGE_FULL"), (1, "STORAGE_FULL")]);
    assert_eq!(site.acks(third), [], "waits for its own record");
    site.sync();
    assert_eq!(rejections(&site.acks(second)[0]), [(0, "STORAGE_FULL"), (1, "STORAGE_FULL")]);
    let ack = site.acks(third).remove(0);
    assert_eq!((ack.accepted, ack.duplicates), (1, 0));
    assert_eq!(rejections(&ack), [(0, "STORAGE_FULL"), (2, "STORAGE_FULL")]);
    assert!(site.appended[1].batch().is_partial);
    // If that answer is lost, the same sequence comes again, and must not pass for a duplicate as a whole.
    site.publish(third, &publish(3, 1, vec![log(1), log(9), log(2)]));
    site.sync();
    assert_eq!(site.acked(third), [(1, 2, 1)]);
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
    assert_eq!((ack.accepted, rejections(&ack)), (4, vec![(4, "BATCH_FULL"), (5, "BATCH_FULL")]));
    assert!(site.appended[0].payload.len() <= 256 << 10);
    let mut next = Site::new();
    let record = &site.appended[0];
    next.world.shard.restore(record.producer, record.sequence, &record.payload).unwrap();
    let client = next.publisher();
    next.publish(client, &publish(1, 1, batch));
    next.sync();
    assert_eq!(next.acked(client), [(1, 2, 4)]);
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
    assert_eq!(rejections(&site.acks(client)[0]), [(1, "CLOCK_AHEAD")]);
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
