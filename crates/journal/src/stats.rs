//! Counters of a journal.

use crate::progress::Progress;
use crate::record::Sequence;

/// Counters and gauges of one journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Progress of records.
    pub progress: Progress,
    /// The oldest record that is kept: 0 if there is no segment.
    pub first_sequence: Sequence,
    /// Commit groups that are on stable storage, markers included, since start.
    pub groups: u64,
    /// Of these, commit markers: groups without a record.
    pub markers: u64,
    /// Bytes of these groups, padding included.
    pub written_bytes: u64,
    /// Bytes of their records.
    pub record_bytes: u64,
    /// Segments with records.
    pub segments: usize,
    /// Segments removed by retention since start.
    pub removed: u64,
    /// Of these, those with a record that a consumer hadn't loaded: age may remove them.
    pub removed_unloaded: u64,
    /// The last record that all consumers have loaded; `None` without consumers.
    pub loaded: Option<Sequence>,
    /// Bytes of segments with a record that a consumer hasn't loaded.
    pub unloaded_bytes: u64,
    /// When the oldest of these was begun, Unix time in nanoseconds.
    pub unloaded_since_ns: Option<u64>,
    /// Since when such records take all that the journal may, Unix time in nanoseconds: appends that need a new segment are
    /// refused.
    pub held_since_ns: Option<u64>,
    /// Removals that failed and are tried again.
    pub removals_failed: u64,
    /// Length of all files, the next segment included, bytes.
    pub disk_bytes: u64,
    /// Memory of records that aren't on stable storage yet, bytes.
    pub waiting_bytes: usize,
    /// The most that it may be, bytes.
    pub waiting_bytes_max: usize,
    /// Since when the disk is full, Unix time in nanoseconds. Appends may still fit into the current segment.
    pub full_since_ns: Option<u64>,
}
