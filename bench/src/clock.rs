//! The only clock: Unix time, which the ticks' labels are in.

use std::time::{SystemTime, UNIX_EPOCH};

/// µs of Unix time.
pub fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
