//! Every bound of a journal.

use std::time::Duration;

use crate::buffer::BLOCK;
use crate::{group, record};

/// Bounds of one journal. [`Config::check`] says which go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Length of a segment's file, bytes, all of it allocated and zeroed before its first record.
    pub segment_bytes: u64,
    /// A segment that is this old is left for the next one, be it full or not, so that retention can remove it.
    pub segment_age: Option<Duration>,
    /// The most that one group writes, bytes. It bounds a record: [`Config::payload_max`].
    pub group_bytes: usize,
    /// Groups that memory is held for: one is being written, the others fill. At least 2.
    pub buffers: usize,
    /// The next segment is zeroed in pieces of this size, bytes: what an append may have to wait behind.
    pub zero_bytes: usize,
    /// Retention.
    pub retention: Retention,
    /// After this long without an append, a marker of one block says that all before is on stable storage.
    pub marker_after: Duration,
    /// After this long on a full disk it is tried again.
    pub retry_after: Duration,
}

/// Whole segments are removed, the oldest first, until both bounds hold; of the one being written only the age counts.
///
/// While a journal has consumers ([`Journal::set_consumers`](crate::Journal::set_consumers)), a segment with a record that one of them hasn't
/// loaded stays, and appends that don't fit are refused as [`AppendError::Full`](crate::AppendError::Full).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// All files of the journal together, bytes; the next segment counts from the moment it is begun.
    pub bytes: Option<u64>,
    /// Age of a segment's last record.
    pub age: Option<Duration>,
    /// True if age removes records that a consumer hasn't loaded, too.
    pub age_removes_unloaded: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 128 << 20,
            segment_age: Some(Duration::from_secs(3600)),
            group_bytes: 1 << 20,
            buffers: 4,
            zero_bytes: 256 << 10,
            retention: Retention::default(),
            marker_after: Duration::from_secs(1),
            retry_after: Duration::from_secs(1),
        }
    }
}

/// Bounds that don't go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A size isn't made of whole blocks.
    #[error("{what} is {bytes} bytes: it must be a multiple of {BLOCK}, and not 0")]
    Blocks {
        /// Name of the size.
        what: &'static str,
        /// Its value, bytes.
        bytes: u64,
    },
    /// A segment doesn't hold a group.
    #[error("a segment of {segment} bytes doesn't hold its header and a group of {group} bytes")]
    Segment {
        /// Length of a segment, bytes.
        segment: u64,
        /// The largest group, bytes.
        group: u64,
    },
    /// A group longer than its header can say.
    #[error("a group of {group} bytes is above 1 GiB")]
    Group {
        /// The largest group, bytes.
        group: u64,
    },
    /// One buffer can't fill while it is written.
    #[error("{buffers} buffers: at least 2 are needed, one to write and one to fill")]
    Buffers {
        /// Their number.
        buffers: usize,
    },
    /// Retention would always be exceeded.
    #[error(
        "a journal of {bytes} bytes doesn't hold three segments of {segment} bytes: full, current and next"
    )]
    Retention {
        /// The bound, bytes.
        bytes: u64,
        /// Length of a segment, bytes.
        segment: u64,
    },
}

impl Config {
    /// Checks that the bounds go together.
    pub fn check(&self) -> Result<(), ConfigError> {
        let (segment, group) = (self.segment_bytes, self.group_bytes as u64);
        for (what, bytes) in
            [("a segment", segment), ("a group", group), ("a piece to zero", self.zero_bytes as u64)]
        {
            if bytes == 0 || !bytes.is_multiple_of(BLOCK as u64) {
                return Err(ConfigError::Blocks { what, bytes });
            }
        }
        if group > 1 << 30 {
            return Err(ConfigError::Group { group });
        }
        if segment < group + BLOCK as u64 {
            return Err(ConfigError::Segment { segment, group });
        }
        if self.buffers < 2 {
            return Err(ConfigError::Buffers { buffers: self.buffers });
        }
        match self.retention.bytes {
            Some(bytes) if bytes < 3 * segment => Err(ConfigError::Retention { bytes, segment }),
            _ => Ok(()),
        }
    }

    /// The longest payload, bytes: a group must hold it.
    pub fn payload_max(&self) -> usize {
        self.group_bytes - group::HEADER_LEN - record::HEADER_LEN
    }

    /// The most memory that a journal holds, bytes: its buffers, each with room for a segment's header, and zeros.
    pub fn memory_max(&self) -> usize {
        self.buffers * (self.group_bytes + 2 * BLOCK) + self.zero_bytes + BLOCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_do_not_go_together_are_refused() {
        let check = |change: fn(&mut Config), expected: Result<(), ConfigError>| {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.check(), expected);
        };
        check(|_| {}, Ok(()));
        check(
            |config| config.segment_bytes = 1000,
            Err(ConfigError::Blocks { what: "a segment", bytes: 1000 }),
        );
        check(|config| config.zero_bytes = 0, Err(ConfigError::Blocks { what: "a piece to zero", bytes: 0 }));
        check(
            |config| config.segment_bytes = 1 << 20,
            Err(ConfigError::Segment { segment: 1 << 20, group: 1 << 20 }),
        );
        check(|config| config.buffers = 1, Err(ConfigError::Buffers { buffers: 1 }));
        check(
            |config| config.retention.bytes = Some(1 << 20),
            Err(ConfigError::Retention { bytes: 1 << 20, segment: 128 << 20 }),
        );
    }
}
