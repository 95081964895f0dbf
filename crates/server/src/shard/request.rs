//! Questions of operators to a shard, and its answers: plain owned data.

use std::net::IpAddr;
use std::sync::mpsc::Sender;

use tickstream_engine::{Connection, Counters, Latencies, Mode, Report, Standing};
use tickstream_journal as journal;

use crate::ring::RingStats;

/// Something that is asked of a shard.
#[derive(Debug)]
pub enum Request {
    /// All that it counts.
    Snapshot(Sender<Snapshot>),
    /// Some of its connections.
    Connections(Page, Sender<PageFound>),
    /// Close the connection with this number.
    Close(u64, Sender<Closed>),
}

/// All that a shard counts, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Number of the shard.
    pub shard: usize,
    /// Its counters.
    pub counters: Counters,
    /// Delays of frames until they reached their sockets.
    pub latencies: Latencies,
    /// Its socket ring's counters.
    pub ring: RingStats,
    /// Its subscribers that are behind, by stream, in the order of [`Mode`]'s numbers.
    pub lag: [Lag; 2],
    /// Passes of its loop.
    pub passes: u64,
    /// The last connections that ended, oldest first.
    pub closes: Vec<Closing>,
    /// Its journal, if events are collected.
    pub journal: Option<JournalSnapshot>,
}

/// Counters of a shard's journal, at one moment.
#[derive(Clone, Debug)]
pub struct JournalSnapshot {
    /// Its counters.
    pub stats: journal::Stats,
    /// Duration of a flush, from when it was handed to the kernel until it was on stable storage.
    pub syncs: Latencies,
}

/// Subscribers of one stream that are behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Those whose socket took no more when it was last asked.
    pub subscribers: u32,
    /// Age of the oldest of their unsent bytes, milliseconds.
    pub oldest_ms: u64,
}

/// The end of a connection, and when that was.
#[derive(Clone, Debug)]
pub struct Closing {
    /// When, Unix milliseconds.
    pub unix_ms: u64,
    /// Report of the engine.
    pub report: Report,
}

/// A request for connections: the slowest of those that pass the filter.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// So many of them.
    pub most: usize,
    /// Only these.
    pub filter: Filter,
}

/// A filter of connections. Each condition that is there must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// From this address, any port.
    pub peer: Option<IpAddr>,
    /// Subscribed to this stream.
    pub mode: Option<Mode>,
    /// As far as this.
    pub standing: Option<Standing>,
}

/// Connections for a [`Page`].
#[derive(Clone, Debug)]
pub struct PageFound {
    /// Number of the shard.
    pub shard: usize,
    /// Connections that pass the filter.
    pub total: u64,
    /// The slowest of them, in no order.
    pub connections: Vec<Connection>,
}

/// The outcome of closing a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The shard closes it now.
    Now,
    /// The shard was closing it already.
    Before,
    /// There is none with this number.
    Unknown,
}

impl Filter {
    pub(super) fn passes(&self, connection: &Connection) -> bool {
        self.peer.is_none_or(|peer| connection.peer.ip().to_canonical() == peer.to_canonical())
            && self.mode.is_none_or(|mode| connection.mode == Some(mode))
            && self.standing.is_none_or(|standing| connection.standing == standing)
    }
}
