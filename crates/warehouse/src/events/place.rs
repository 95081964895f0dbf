//! Places of rows: where they came from, and where they go.

/// Place of a record.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Journal, hexadecimal digits.
    pub journal: &'a str,
    /// Id of the journal.
    pub journal_id: [u8; 16],
    /// Sequence of the record in it.
    pub sequence: u64,
}

/// Partition of rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionKey {
    /// Date of loading.
    pub load_date: String,
    /// Kind of the events.
    pub event_type: String,
}
