//! Settings of a loader.

use std::path::PathBuf;
use std::time::Duration;

use tickstream_journal::NOTICED_AFTER;

use crate::dedup::Sizes;
use crate::events::enrichment::Geo;

/// Settings of a loader.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of this consumer in the journals' directories.
    pub consumer: String,
    /// Time after which a new consumer is noticed, and nothing is removed any more that isn't loaded.
    pub noticed_after: Duration,
    /// Events of one commit, at most about.
    pub batch_events: usize,
    /// Text of one commit's events, bytes, at most about.
    pub batch_bytes: usize,
    /// Text of the rows that are encoded together, bytes, at most about: less than that of a commit, so that the same
    /// memory is used again and again.
    pub encoded_bytes: usize,
    /// Ids that are kept to drop duplicates.
    pub ids: Sizes,
    /// Directories of journals whose lost or changed records are accepted.
    pub accepted: Vec<PathBuf>,
    /// Database of addresses.
    pub geo: Geo,
    /// Commits of one batch that are tried before it is given up.
    pub attempts: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            consumer: "tables".to_owned(),
            noticed_after: NOTICED_AFTER,
            batch_events: 250_000,
            batch_bytes: 192 << 20,
            encoded_bytes: 4 << 20,
            ids: Sizes::default(),
            accepted: Vec::new(),
            geo: Geo::default(),
            attempts: 8,
        }
    }
}
