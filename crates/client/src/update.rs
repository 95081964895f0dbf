//! The news of a subscription for the application.

use std::time::{Duration, SystemTime};

use tickstream_wire::messages::Mode;

use crate::Error;

/// A piece of news of a subscription.
#[derive(Debug)]
pub enum StreamUpdate {
    /// Ticks.
    Batch(Batch),
    /// The server left ticks out: its clock was set forward, or it no longer keeps them. The batch that starts at
    /// `got` follows.
    Gap {
        /// The sequence that should have come.
        expected: u64,
        /// The sequence that came.
        got: u64,
    },
    /// The server's stream hasn't reached the position that was asked for (its rate was lowered, or its clock was ahead
    /// before): ticks go on with `got`, and sequences rise from there.
    Reset {
        /// The sequence that should have come.
        expected: u64,
        /// The sequence of the first tick to come.
        got: u64,
    },
    /// The server accepted [`Subscription::change_mode`](crate::Subscription::change_mode): batches that follow
    /// are of this mode.
    Subscribed {
        /// The new mode.
        mode: Mode,
        /// The sequence of the first tick to come.
        next_sequence: u64,
    },
    /// There is no connection. The client tries again by itself.
    Disconnected {
        /// Why.
        error: Error,
        /// In how long. At least what the server asked for, but an hour at the most.
        retry_in: Duration,
    },
    /// The subscription goes on after one or several [`StreamUpdate::Disconnected`].
    Reconnected {
        /// The server, as the builder was given it.
        server: String,
        /// The sequence of the first tick to come, as the server says. A later one than the next comes as
        /// [`StreamUpdate::Gap`] as soon as it is there.
        next_sequence: u64,
    },
    /// The server is about to close the connection in good order. The client stays for as long as the server
    /// asked it to, then goes to the next one.
    GoAway {
        /// The server's words, for people.
        reason: String,
        /// When the server wants the client to reconnect, if it said so.
        retry_after: Option<Duration>,
    },
}

/// Ticks with consecutive sequences, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Of which stream.
    pub mode: Mode,
    /// The sequence of the first of `ticks`.
    pub first_sequence: u64,
    /// The ticks.
    pub ticks: Vec<Tick>,
    /// When the last bytes of the batch were read from the socket, by this machine's clock.
    pub received_at: SystemTime,
    /// Ticks at the front that were due before the server accepted the subscription, by the server's clock: a replay.
    pub replayed: usize,
    /// Lead of the server's clock over this machine's, ms, when the server accepted the subscription: too small by the
    /// time that its answer took. 0 where the server didn't say its time.
    pub server_ahead_ms: i64,
}

/// One point in time of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Its number in the stream: the same on every server, one above the tick's before.
    pub sequence: u64,
    /// When it was due, Unix time, milliseconds, by the server's clock.
    pub epoch_ms: u64,
}
