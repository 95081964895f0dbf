//! A connection as people see it.

use std::net::SocketAddr;

use tickstream_wire::messages::Mode;

use crate::ids::ConnId;

/// What there is to tell about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its name while it lasts.
    pub id: ConnId,
    /// Its number, counted from 1 on each shard; the log has it.
    pub number: u64,
    /// Whose it is.
    pub peer: SocketAddr,
    /// How far it got.
    pub standing: Standing,
    /// What it is subscribed to.
    pub mode: Option<Mode>,
    /// How long it has been open, milliseconds.
    pub open_ms: u64,
    /// Its socket took no more when it was last asked.
    pub lagging: bool,
    /// How long its oldest unsent byte has waited, milliseconds; 0 if it is owed nothing.
    pub unsent_ms: u64,
    /// Published ticks of its stream that weren't handed to its socket yet.
    pub ticks_behind: u64,
    /// Bytes that its socket took.
    pub bytes_sent: u64,
}

/// How far a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It has yet to authenticate.
    Unauthenticated,
    /// It is served.
    Authenticated,
    /// Its end is decided.
    Closing,
}

impl Standing {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Unauthenticated, Self::Authenticated, Self::Closing];

    /// Its name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Authenticated => "authenticated",
            Self::Closing => "closing",
        }
    }
}
