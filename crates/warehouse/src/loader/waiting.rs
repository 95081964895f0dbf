//! Rows that wait for one commit, and queries that wait for the rows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tickstream_journal::{Position, Sequence};

use super::files::Files;
use crate::dedup::EventId;
use crate::hash::HashSet;

/// Rows of one commit, and what belongs to them.
#[derive(Debug)]
pub struct Waiting {
    /// Rows that are encoded already.
    pub files: Files,
    /// Ids of the rows.
    pub ids: HashSet<EventId>,
    /// Positions that are reached with the rows, by the journal's directory.
    pub reached: BTreeMap<PathBuf, Position>,
    /// Duplicates and erased events among what was read.
    pub dropped: (u64, u64),
}

impl Waiting {
    /// Nothing. `ids` is an empty set.
    pub fn new(ids: HashSet<EventId>) -> Self {
        Self { files: Files::default(), ids, reached: BTreeMap::new(), dropped: (0, 0) }
    }

    /// True if nothing was read.
    pub fn is_empty(&self) -> bool {
        self.reached.is_empty()
    }
}

/// Queries that ask for what has come.
#[derive(Debug)]
pub struct Question {
    /// Number of the last of them.
    pub number: u64,
    /// Records that were on stable storage when they were noticed, by the journal's directory.
    pub synced: BTreeMap<PathBuf, Sequence>,
}
