use std::time::Duration;

use tickstream_schema::events::{Event, Message, Publish, PublishAck, Rejected};
use tokio::time::Instant;

use super::*;

const PRODUCER: [u8; 16] = [7; 16];

fn limits(credits: u32) -> PublishLimits {
    PublishLimits { credits, payload_max: 4096, events_max: 100 }
}

fn connected(credits: u32) -> BatchQueue {
    let mut queue = BatchQueue::new(PRODUCER, 1, 10_000);
    queue.connected(limits(credits));
    queue
}

fn batch(names: impl IntoIterator<Item = u64>) -> EncodedBatch {
    let mut batch = EncodedBatch::default();
    names.into_iter().for_each(|name| batch.push(&Event { timestamp: name, ..Event::default() }));
    batch
}

/// Sequence and names of the next PUBLISH.
fn sent(queue: &mut BatchQueue, now: Instant) -> Option<(u64, Vec<u64>)> {
    let mut payload = Vec::new();
    queue.poll_publish(now, &mut payload).then(|| {
        let publish = Publish::decode(&payload[..]).unwrap();
        assert_eq!(publish.producer_id, PRODUCER);
        (publish.sequence, publish.events.iter().map(|event| event.timestamp).collect())
    })
}

fn ack(sequence: u64, accepted: u32, duplicates: u32) -> PublishAck {
    PublishAck { sequence, accepted, duplicates, producer_id: PRODUCER.to_vec(), ..PublishAck::default() }
}

#[test]
fn a_submitter_gets_the_answer_to_its_own_batch() {
    let t0 = Instant::now();
    let mut queue = connected(8);
    let mut first = queue.submit(batch([1, 2]), t0).unwrap();
    let mut second = queue.submit(batch([3, 4, 5]), t0).unwrap();
    assert_eq!(queue.next_timeout(), Some(t0));
    assert_eq!(sent(&mut queue, t0), Some((1, vec![1, 2])));
    assert_eq!(sent(&mut queue, t0), Some((2, vec![3, 4, 5])));
    assert_eq!((sent(&mut queue, t0), queue.next_timeout()), (None, None));
    let verdict = Rejected { index: 1, code: "TOO_OLD".into(), message: "1970".into(), retryable: false };
    queue.acknowledge(PublishAck { rejected: vec![verdict], ..ack(2, 1, 1) }, t0).unwrap();
    assert!(first.try_recv().is_err());
    let answer = second.try_recv().unwrap().unwrap();
    assert_eq!((answer.accepted, answer.duplicates, answer.retry_after), (1, 1, Duration::ZERO));
    assert_eq!((answer.rejected[0].index, &answer.rejected[0].code[..]), (1, "TOO_OLD"));
    queue.acknowledge(ack(1, 2, 0), t0).unwrap();
    assert_eq!(first.try_recv().unwrap().unwrap().accepted, 2);
    assert!(queue.is_empty() && queue.bytes() == 0 && queue.is_idle());
}

#[test]
fn a_lost_connection_sends_the_same_batch_under_the_same_number() {
    let t0 = Instant::now();
    let mut queue = connected(1);
    let _first = queue.submit(batch([1]), t0).unwrap();
    let _second = queue.submit(batch([2]), t0).unwrap();
    assert_eq!(sent(&mut queue, t0), Some((1, vec![1])));
    assert_eq!(sent(&mut queue, t0), None, "one credit");
    assert_eq!(queue.disconnected(), 1);
    assert!(!queue.is_connected());
    assert_eq!(sent(&mut queue, t0), None);
    queue.connected(limits(2));
    assert_eq!(sent(&mut queue, t0), Some((1, vec![1])));
    assert_eq!(sent(&mut queue, t0), Some((2, vec![2])));
}

#[test]
fn a_batch_whose_submitter_has_gone_is_not_sent() {
    let t0 = Instant::now();
    let mut queue = connected(1);
    let first = queue.submit(batch([1]), t0).unwrap();
    let second = queue.submit(batch([2]), t0).unwrap();
    let third = queue.submit(batch([3]), t0).unwrap();
    assert_eq!(sent(&mut queue, t0), Some((1, vec![1])));
    drop((first, second));
    queue.acknowledge(ack(1, 1, 0), t0).unwrap();
    assert_eq!(sent(&mut queue, t0), Some((3, vec![3])));
    queue.disconnected();
    drop(third);
    queue.connected(limits(8));
    assert_eq!(sent(&mut queue, t0), None, "it was on its way when the connection was lost");
    assert_eq!((queue.bytes(), queue.is_empty()), (0, true));
}

#[test]
fn what_the_queue_holds_is_bounded() {
    let t0 = Instant::now();
    let mut queue = BatchQueue::new(PRODUCER, 1, 30);
    let first = queue.submit(batch(0..10), t0).unwrap();
    assert_eq!(queue.submit(batch([1]), t0).unwrap_err(), SubmitError::Full { bytes: queue.bytes() });
    drop(first);
    let _second = queue.submit(batch([1]), t0).unwrap();
    queue.close();
    assert_eq!(queue.submit(batch([2]), t0).unwrap_err(), SubmitError::Closed);
}

#[test]
fn batches_that_the_server_would_not_take_are_refused() {
    let t0 = Instant::now();
    let mut queue = connected(8);
    let size = SubmitError::Size { events_max: 100, bytes_max: 4096 - 48 };
    assert_eq!(queue.submit(batch(0..101), t0).unwrap_err(), size);
    assert_eq!(queue.submit(EncodedBatch::default(), t0).unwrap_err(), size);
    let mut taken = queue.submit(batch(0..100), t0).unwrap();
    queue.disconnected();
    queue.connected(PublishLimits { events_max: 99, ..limits(8) });
    assert_eq!(taken.try_recv().unwrap(), Err(SubmitError::Size { events_max: 99, bytes_max: 4096 - 48 }));
    assert_eq!((queue.bytes(), sent(&mut queue, t0)), (0, None));
}

#[test]
fn a_server_that_asks_for_time_gets_it() {
    let t0 = Instant::now();
    let mut queue = connected(8);
    let mut first = queue.submit(batch([1]), t0).unwrap();
    sent(&mut queue, t0);
    queue.acknowledge(PublishAck { throttle_ms: 500, ..ack(1, 1, 0) }, t0).unwrap();
    let wait = Duration::from_millis(500);
    assert_eq!(first.try_recv().unwrap().unwrap().retry_after, wait);
    let _second = queue.submit(batch([2]), t0).unwrap();
    assert_eq!((sent(&mut queue, t0), queue.next_timeout()), (None, Some(t0 + wait)));
    assert_eq!(sent(&mut queue, t0 + wait), Some((2, vec![2])));
}

#[test]
fn answers_that_a_server_must_not_send_change_nothing() {
    let t0 = Instant::now();
    let mut queue = connected(8);
    let mut first = queue.submit(batch([1, 2]), t0).unwrap();
    assert_eq!(queue.acknowledge(ack(1, 2, 0), t0).unwrap_err(), BadMessage::UnknownBatch { sequence: 1 });
    sent(&mut queue, t0);
    assert_eq!(queue.acknowledge(ack(1, 1, 0), t0).unwrap_err(), BadMessage::Rejections { sequence: 1 });
    assert_eq!(queue.acknowledge(ack(2, 2, 0), t0).unwrap_err(), BadMessage::UnknownBatch { sequence: 2 });
    assert!(first.try_recv().is_err());
    queue.acknowledge(ack(1, 2, 0), t0).unwrap();
    assert_eq!(first.try_recv().unwrap().unwrap().accepted, 2);
}

#[test]
fn encoded_events_are_the_messages_they_were_made_of() {
    let event = Event { event_name: "x".repeat(300), ..Event::default() };
    let mut batch = EncodedBatch::with_capacity(1024);
    batch.push(&event);
    batch.push_parts(&[&event.encode_to_vec()]);
    let len = EncodedBatch::field_len(event.encoded_len());
    assert_eq!((batch.len(), batch.byte_len()), (2, 2 * len));
    assert_eq!(Publish::decode(batch.as_bytes()).unwrap().events, [event.clone(), event]);
}
