//! Events of commit cc7ce70, before the schema was extended: a StoredBatch as the server of then wrote it, and the JSON
//! lines of then. Its first events are the examples of then; the others have random contents in every field.

#![cfg(feature = "json")]

use tickstream_schema::Plan;
use tickstream_schema::events::{Event, Message, StoredBatch};
use tickstream_schema::json::{parse_event, write_event};
use tickstream_schema::validate::{Clocks, validate};

const STORED: &[u8] = include_bytes!("../../../tests/events/cc7ce70.stored-batch");
const LINES: &str = include_str!("../../../tests/events/cc7ce70.jsonl");
/// The examples, but for the one of the guide that leaves its body out.
const EXAMPLES: usize = 17;
const WITHOUT_BODY: usize = 8;

fn batch() -> StoredBatch {
    StoredBatch::decode(STORED).unwrap()
}

#[test]
fn they_decode_and_encode_to_the_same_bytes() {
    let batch = batch();
    assert_eq!(batch.encode_to_vec(), STORED);
    assert_eq!((batch.events.len(), batch.dead_letters.len(), batch.is_partial), (57, 1, true));
    let kinds: std::collections::BTreeSet<_> = batch.events.iter().map(|event| event.event_type).collect();
    assert_eq!(kinds, (1..=8).collect());
}

#[test]
fn they_are_valid() {
    let plan = Plan::new(&[]).unwrap();
    for (index, event) in batch().events[..EXAMPLES].iter().enumerate() {
        if index == WITHOUT_BODY {
            continue;
        }
        let clocks = Clocks { now_ns: event.timestamp, age_ns_max: 0, ahead_ns_max: 0 };
        let valid = validate(&plan, &event.encode_to_vec(), clocks)
            .unwrap_or_else(|rejection| panic!("{index}: {rejection:?}"));
        assert_eq!(valid.event_id[..], event.event_id);
    }
}

#[test]
fn they_are_the_same_json() {
    let batch = batch();
    assert_eq!(LINES.lines().count(), batch.events.len());
    for (event, line) in batch.events.iter().zip(LINES.lines()) {
        let mut out = Vec::new();
        write_event(event, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), line);
        let read: Event = parse_event(line).unwrap();
        assert_eq!(read.encode_to_vec(), event.encode_to_vec(), "{line}");
    }
}
