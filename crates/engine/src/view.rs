//! A connection as people see it.

use std::net::SocketAddr;

use tickstream_wire::messages::Mode;

use crate::ids::ConnId;

/// A connection as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its name while it lasts.
    pub id: ConnId,
    /// Its number, counted from 1 on each shard; the log has it.
    pub number: u64,
    /// Address of the peer.
    pub peer: SocketAddr,
    /// Progress from AUTH to its end.
    pub standing: Standing,
    /// Last subscription.
    pub mode: Option<Mode>,
    /// Time since it was accepted, milliseconds.
    pub open_ms: u64,
    /// Its socket took no more when it was last asked.
    pub lagging: bool,
    /// Age of its oldest unsent byte, milliseconds; 0 without one.
    pub unsent_ms: u64,
    /// Published ticks of its stream that weren't handed to its socket yet.
    pub ticks_behind: u64,
    /// Bytes that its socket took.
    pub bytes_sent: u64,
    /// Bytes of frames that came from it.
    pub bytes_received: u64,
    /// Events of it that were accepted and acknowledged.
    pub events_accepted: u64,
}

/// Identity of a connection as operators see it. All of it is foreign text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identified<'a> {
    /// User that AUTH or its certificate named; `None` before AUTH was accepted.
    pub user: Option<&'a str>,
    /// Subject of its certificate.
    pub subject: Option<&'a str>,
    /// Library of its client, as AUTH says.
    pub client: Option<&'a str>,
}

/// Progress of a connection from AUTH to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Not authenticated yet.
    Unauthenticated,
    /// Authenticated, and served.
    Authenticated,
    /// Closing: its end is decided.
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
