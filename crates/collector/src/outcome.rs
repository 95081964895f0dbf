//! Answers to a request, before a protocol puts them into its own words.

use std::{borrow::Cow, fmt, time::Duration};

use tickstream_client::BatchRejection;

/// Outcome of the events of a request. Those that are in no other count are on stable storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Events that were stored.
    pub accepted: u64,
    /// Events that were stored before.
    pub duplicates: u64,
    /// Events that the collector's own rules have dropped: the sender has nothing to do with it.
    pub filtered: u64,
    /// The others, by rising index.
    pub rejected: Vec<Rejection>,
    /// Items on stable storage, in the protocol's units: samples, histograms, exemplars.
    pub stored: [u64; 3],
    /// For each record, what the protocol's answer repeats of it.
    pub notes: Vec<String>,
    /// The time after which the events with a retryable rejection may come again; 0: nobody said.
    pub retry_after: Duration,
}

impl Outcome {
    /// The first rejection that sending again may cure.
    pub fn retryable(&self) -> Option<&Rejection> {
        self.rejected.iter().find(|rejection| rejection.retryable)
    }

    /// A few of the final rejections as one sentence; empty without any.
    pub fn summary(&self) -> String {
        let first: Vec<_> = self.rejected.iter().take(SUMMARY_MAX).map(ToString::to_string).collect();
        let more = self.rejected.len() - first.len();
        match (first.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => first.join("; "),
            (false, _) => format!("{}; and {more} more", first.join("; ")),
        }
    }
}

/// Rejections that a summary spells out.
const SUMMARY_MAX: usize = 5;
/// Longest message of a rejection, bytes.
const MESSAGE_BYTES_MAX: usize = 300;

/// An event that wasn't stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Index in the request, from 0.
    pub index: u32,
    /// A verdict of docs/protocol.md, or one of the collector's own: docs/collector.md.
    pub code: Cow<'static, str>,
    /// For people; may be empty.
    pub message: String,
    /// The same event may be accepted later.
    pub retryable: bool,
}

impl Rejection {
    /// A final rejection. Of a long message, such as one that names a key of the sender's, the beginning is kept.
    pub fn last(index: u32, code: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
            message.push('…');
        }
        Self { index, code: code.into(), message, retryable: false }
    }

    /// The server's verdict on the event with this index.
    pub fn of_server(index: u32, rejection: BatchRejection) -> Self {
        let BatchRejection { code, message, retryable, .. } = rejection;
        Self { index, code: code.into(), message, retryable }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, code, message, .. } = self;
        let colon = if message.is_empty() { "" } else { ": " };
        write!(f, "record {index}: {code}{colon}{message}")
    }
}

/// A body of which nothing can be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// A request of which nothing is known to be stored. The sender should send it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}; try again in {} s", seconds(*retry_after))]
pub struct Unavailable {
    /// Why.
    pub cause: Cause,
    /// The time after which the sender should try again.
    pub retry_after: Duration,
}

/// Why a request can't be taken at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Cause {
    /// The quota of the key is used up.
    #[error("the quota of this key is used up")]
    KeyQuota,
    /// The quota of the address is used up.
    #[error("the quota of this address is used up")]
    AddressQuota,
    /// The collector holds as many bytes as it may.
    #[error("the collector is full")]
    Full,
    /// The disk queue is full, or its disk can't be written to.
    #[error("the disk queue can't take it")]
    DiskQueue,
    /// No server can be reached.
    #[error("no server can be reached")]
    Disconnected,
    /// The servers didn't answer in time.
    #[error("the server didn't answer in time")]
    Timeout,
    /// The collector is about to end.
    #[error("the collector is shutting down")]
    Draining,
}

impl Cause {
    /// True if the sender itself sends too much.
    pub fn is_quota(self) -> bool {
        matches!(self, Self::KeyQuota | Self::AddressQuota)
    }

    /// Label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::KeyQuota => "key_quota",
            Self::AddressQuota => "address_quota",
            Self::Full => "full",
            Self::DiskQueue => "disk_queue",
            Self::Disconnected => "disconnected",
            Self::Timeout => "timeout",
            Self::Draining => "draining",
        }
    }
}

/// Whole seconds, rounded up, at least one: for Retry-After.
pub fn seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).clamp(1, 3600) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_stays_short() {
        let rejected = (0..7).map(|index| Rejection::last(index, "TOO_OLD", "1970")).collect();
        let outcome = Outcome { rejected, ..Outcome::default() };
        let summary = outcome.summary();
        assert!(
            summary.starts_with("record 0: TOO_OLD: 1970; ") && summary.ends_with("; and 2 more"),
            "{summary}"
        );
        assert_eq!(Outcome::default().summary(), "");
    }

    #[test]
    fn a_message_repeats_no_more_of_the_senders_than_it_must() {
        let message = Rejection::last(0, "MALFORMED", "é".repeat(1000)).message;
        assert_eq!((message.chars().count(), message.chars().last()), (151, Some('…')));
        assert_eq!(Rejection::last(0, "MALFORMED", "short").message, "short");
    }

    #[test]
    fn a_wait_is_whole_seconds_and_never_none() {
        let seconds_of = |ms| seconds(Duration::from_millis(ms));
        assert_eq!([0, 1, 1000, 1001, u64::MAX].map(seconds_of), [1, 1, 1, 2, 3600]);
    }
}
