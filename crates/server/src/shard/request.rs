//! Questions of operators to a shard, and its answers: plain owned data.

use std::collections::HashMap;
use std::sync::mpsc::Sender;

use tickstream_engine::{AddressKey, Connection, Counters, Identified, Latencies, Report};
use tickstream_journal as journal;

use super::filter::Filter;
use super::order::{Place, Sort};
use crate::ring::RingStats;

/// Something that is asked of a shard.
#[derive(Debug)]
pub enum Request {
    /// All that it counts.
    Snapshot(Sender<Snapshot>),
    /// Some of its connections.
    Connections(Page, Sender<PageFound>),
    /// Count its connections by address; the answer begins with the number of the shard.
    Addresses(Sender<(usize, HashMap<AddressKey, AddressCounts>)>),
    /// Close the connection with this number.
    Close(u64, Sender<Closed>),
    /// Close the connections that pass the filter; the answer is the number of the shard, and how many they were.
    CloseAll(Filter, Sender<(usize, u64)>),
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
    /// Its subscribers that are behind, by stream, in the order of the numbers of their modes.
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
    /// Duration of a commit group, from when it was handed to the kernel until it was on stable storage.
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

/// A request for connections: the first of those that pass the filter, in an order.
#[derive(Clone, Debug)]
pub struct Page {
    /// So many of them.
    pub most: usize,
    /// Only these.
    pub filter: Filter,
    /// In this order.
    pub sort: Sort,
    /// Behind this place; `None`: from the begin on.
    pub after: Option<Place>,
}

/// Connections for a [`Page`].
#[derive(Clone, Debug)]
pub struct PageFound {
    /// Number of the shard.
    pub shard: usize,
    /// Connections that pass the filter.
    pub total: u64,
    /// Those of them that stand behind the page's place.
    pub behind: u64,
    /// The first of these, in no order.
    pub connections: Vec<Found>,
}

/// A connection of a page.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its place in the order.
    pub place: Place,
    /// The connection.
    pub connection: Connection,
    /// Its identity.
    pub identity: Identity,
}

/// Identity of a connection. All of it is foreign text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User that AUTH or its certificate named.
    pub user: Option<Box<str>>,
    /// Subject of its certificate.
    pub subject: Option<Box<str>>,
    /// Library of its client.
    pub client: Option<Box<str>>,
}

/// Connections of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressCounts {
    /// All of them.
    pub connections: u32,
    /// Those that lag.
    pub lagging: u32,
    /// Those that haven't authenticated.
    pub unauthenticated: u32,
    /// Bytes that their sockets took.
    pub bytes_sent: u64,
}

impl AddressCounts {
    /// Adds those of another shard.
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.lagging += other.lagging;
        self.unauthenticated += other.unauthenticated;
        self.bytes_sent += other.bytes_sent;
    }
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

impl From<Identified<'_>> for Identity {
    fn from(Identified { user, subject, client }: Identified<'_>) -> Self {
        Self { user: user.map(Into::into), subject: subject.map(Into::into), client: client.map(Into::into) }
    }
}
