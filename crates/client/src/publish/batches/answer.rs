//! The answer to a batch, and the reasons why there is none.

use std::time::Duration;

use tickstream_schema::events::Rejected;

/// The server's answer to a batch: all events without a rejection are on stable storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchAnswer {
    /// Events that were stored.
    pub accepted: u32,
    /// Events that were stored before.
    pub duplicates: u32,
    /// The others, by rising index.
    pub rejected: Vec<BatchRejection>,
    /// The time after which the server wants to see the events with a retryable rejection again; 0: it didn't say.
    pub retry_after: Duration,
}

/// Why an event wasn't stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRejection {
    /// Index in the batch, from 0.
    pub index: u32,
    /// Such as "FIELD_TOO_LONG": docs/protocol.md lists them.
    pub code: String,
    /// The server's words, for people; may be empty.
    pub message: String,
    /// The same event may be accepted later.
    pub retryable: bool,
}

impl From<Rejected> for BatchRejection {
    fn from(Rejected { index, code, message, retryable }: Rejected) -> Self {
        Self { index, code, message, retryable }
    }
}

/// Why there is no answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many bytes wait for an answer.
    #[error("the queue is full: {bytes} bytes have no answer yet")]
    Full {
        /// Bytes without an answer.
        bytes: usize,
    },
    /// The batch is empty, or larger than the server takes. It may have fit the server before.
    #[error("a batch must have 1 to {events_max} events of at most {bytes_max} bytes in all")]
    Size {
        /// Most events.
        events_max: usize,
        /// Most bytes.
        bytes_max: usize,
    },
    /// The publisher was closed, or its runtime is gone. The batch may have been stored.
    #[error("the publisher is closed")]
    Closed,
}
