//! Log entries, for sources outside of this module.

use tickstream_client::events::LogLevel;

pub(crate) use super::fields::{put_text, set_message};
use super::syslog::{LEVELS, SEVERITIES};

/// Level, OpenTelemetry's number and syslog's word of a priority from 0 to 7.
pub(crate) fn level_of_priority(priority: usize) -> (LogLevel, u32, &'static str) {
    let at = priority.min(LEVELS.len() - 1);
    (LEVELS[at].0, LEVELS[at].1, SEVERITIES[at])
}
