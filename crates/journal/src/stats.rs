//! What a journal counts.

use crate::progress::Progress;
use crate::record::Sequence;

/// Counters and gauges of one journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// How far records have come.
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
