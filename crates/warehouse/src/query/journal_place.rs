//! Places in journals.

/// Place up to which an answer has a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalPlace {
    /// The journal.
    pub journal: String,
    /// Its last record in the answer.
    pub sequence: u64,
    /// True if more records were there, which the answer lacks.
    pub is_behind: bool,
}

impl JournalPlace {
    pub(super) fn new(journal: String, sequence: u64) -> Self {
        Self { journal, sequence, is_behind: false }
    }
}
