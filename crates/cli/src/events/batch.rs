//! Content of one record.

use tickstream_schema::events::StoredBatch;
use tickstream_server::stored::{Filter, StoredRecord};

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

impl Batch {
    /// The record of the journal with this name.
    pub fn record<'a>(&'a self, journal: &'a str) -> StoredRecord<'a> {
        let Self { record, producer, sequence, ref stored, .. } = *self;
        StoredRecord { journal, record, producer, sequence, stored }
    }

    /// Tells whether it can have events that are meant.
    pub fn is_meant(&self, filter: &Filter) -> bool {
        filter.takes_record(&self.record(""))
    }
}
