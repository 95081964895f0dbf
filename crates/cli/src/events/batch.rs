//! Content of one record, and how parts of it are read.

use std::time::{Duration, UNIX_EPOCH};

use tickstream_schema::events::{DeadLetter, Event, StoredBatch};
use tickstream_wire::messages::Message;

/// Content of one record: the events of one PUBLISH.
#[derive(Debug)]
pub struct Batch {
    /// Of the record, in its journal.
    pub record: u64,
    /// The producer's id.
    pub producer: [u8; 16],
    /// The producer's own number for it.
    pub sequence: u64,
    /// Events, dead letters, and what the server knows of them.
    pub stored: StoredBatch,
    /// The bytes of the events, where they hold more than `stored` does; otherwise none.
    pub raw_events: Vec<Vec<u8>>,
}

/// The event of a dead letter, if it is one.
pub fn event_of(letter: &DeadLetter) -> Option<Event> {
    Event::decode(letter.event.as_deref()?).ok()
}

/// Unix nanoseconds as RFC 3339 has them.
pub fn time(unix_ns: u64) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(unix_ns)).to_string()
}
