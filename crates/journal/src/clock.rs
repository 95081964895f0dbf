//! Time as the journal is told it.

use std::time::Duration;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// A clock that only moves forward, nanoseconds from anywhere. Trying again runs on it.
    pub mono_ns: u64,
    /// Unix time, nanoseconds. Commit groups are labelled with it, and retention by age runs on it.
    pub unix_ns: u64,
}

/// `duration` in nanoseconds; as many as there are if it's longer than 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
