//! Stored events, as the command line and the admin endpoint show them: conditions on them, and their lines of JSON.

mod filter;
mod json;

pub use filter::{Filter, KINDS, Moment, kind, kind_name, producer, service};
pub use json::{dead_letter, end_line, event, event_of, time};

use tickstream_schema::events::StoredBatch;

/// A record of a journal: the events of one PUBLISH.
#[derive(Clone, Copy, Debug)]
pub struct StoredRecord<'a> {
    /// Name of its journal.
    pub journal: &'a str,
    /// Sequence in it.
    pub record: u64,
    /// The producer's id.
    pub producer: [u8; 16],
    /// The producer's own number for it.
    pub sequence: u64,
    /// Events, dead letters, and what the server knows of them.
    pub stored: &'a StoredBatch,
}
