//! Events of a publisher, for the application.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use tickstream_schema::events;

use crate::Error;

/// One thing that happened to a publisher, for its [observer](crate::Publishing::observer).
#[derive(Debug)]
pub enum PublishEvent {
    /// The server answered a batch: all its events that aren't reported as rejected or retried are on stable storage.
    Acknowledged {
        /// The batch's number.
        sequence: u64,
        /// Events that were stored by it.
        accepted: u32,
        /// Events that were stored before.
        duplicates: u32,
    },
    /// An event won't be accepted, however often it is sent. That is final.
    Rejected(Box<Rejection>),
    /// The server couldn't take some events of a batch at present. They go again, in another batch.
    Retrying {
        /// Number of these events.
        events: usize,
        /// The first one's code, such as "STORAGE_FULL".
        code: String,
        /// The server's words, for people; may be empty.
        message: String,
        /// In how long.
        retry_in: Duration,
    },
    /// There is no connection. The publisher tries again by itself.
    Disconnected {
        /// Why.
        error: Error,
        /// In how long. At least what the server asked for, but an hour at the most.
        retry_in: Duration,
    },
    /// The publisher goes on after one or several [`PublishEvent::Disconnected`].
    Reconnected {
        /// The server, as the builder was given it.
        server: String,
        /// Batches that the old connection left unanswered; they go again, under the numbers that they had.
        resent: usize,
    },
    /// The server is about to close the connection in good order. The publisher waits for the pending answers,
    /// and goes to the next one.
    GoAway {
        /// The server's words, for people.
        reason: String,
        /// When the server wants the client to reconnect, if it said so.
        retry_after: Option<Duration>,
    },
    /// Parts of the disk queue's file can't be read: they were damaged, or a power cut kept them from being written.
    /// Everything else was taken over, also what lay behind; events in those parts are lost.
    DiskQueueDamaged {
        /// Bytes that couldn't be read.
        bytes: u64,
        /// Copy of the file as it was found.
        kept: PathBuf,
    },
    /// An error that no reconnect cures has ended the publisher.
    Ended {
        /// The error.
        error: Arc<Error>,
    },
}

/// An event that won't be accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// The application's own value for the event.
    pub tag: u64,
    /// The event.
    pub event: events::Event,
    /// The code, such as "FIELD_TOO_LONG": docs/protocol.md lists them.
    pub code: String,
    /// The server's words, for people; may be empty.
    pub message: String,
}

/// An event without a final answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Unanswered {
    /// The application's own value for the event.
    pub tag: u64,
    /// The event.
    pub event: events::Event,
    /// Sent, so perhaps stored: sent again as it is, it is stored once, by its id.
    pub was_sent: bool,
}

/// Why an event wasn't taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// As many events wait for an answer as may: from [`Publisher::try_publish`](crate::Publisher::try_publish) alone.
    #[error("the queue is full: {events} events of {bytes} bytes have no answer yet")]
    Full {
        /// Number of events.
        events: usize,
        /// Their size, bytes.
        bytes: usize,
    },
    /// The event alone is larger than a batch may be.
    #[error("the event has {bytes} bytes, at most {bytes_max} are taken")]
    TooLarge {
        /// Size of the event, bytes.
        bytes: usize,
        /// At most so many are possible.
        bytes_max: usize,
    },
    /// The disk queue couldn't be written.
    #[error("the disk queue can't be written")]
    Disk(#[source] Arc<io::Error>),
    /// The publisher was closed, or its task is gone: with its runtime, or by a panic of the application's observer.
    #[error("the publisher is closed")]
    Closed,
    /// The publisher was ended by an error that no reconnect cures.
    #[error("publishing has ended")]
    Ended(#[source] Arc<Error>),
}

/// Progress of a publisher. All numbers are events, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Taken from the application.
    pub published: u64,
    /// Stored.
    pub accepted: u64,
    /// Stored before.
    pub duplicates: u64,
    /// Rejected for good.
    pub rejected: u64,
    /// Sent again because the server couldn't take them; an event counts each time.
    pub retried: u64,
    /// Without a final answer.
    pub unanswered: u64,
}
