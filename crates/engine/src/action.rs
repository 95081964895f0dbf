//! Actions that a shard asks of its driver, and what the driver tells it back.

use std::borrow::Cow;
use std::net::SocketAddr;

use tickstream_wire::messages::Mode;

use crate::batch::SealedFrame;
use crate::close::CloseReason;
use crate::ids::ConnId;
use crate::limit::Limit;

/// Action that the driver is asked for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send `frame` from `offset` on, without waiting, and tell [`crate::Shard::sent`] what came of it. There is
    /// never more than one unanswered `Send` for a connection.
    Send {
        /// The receiver.
        conn: ConnId,
        /// The whole frame.
        frame: SealedFrame,
        /// Bytes of it that were sent before.
        offset: u32,
    },
    /// The socket takes no more: call [`crate::Shard::writable`] once it does.
    AwaitWritable {
        /// The connection.
        conn: ConnId,
    },
    /// Send FIN; go on receiving.
    Shutdown {
        /// The connection.
        conn: ConnId,
    },
    /// Let go of the socket. The id is not valid any more.
    Close {
        /// The connection.
        conn: ConnId,
        /// Throw away what the kernel still holds for the peer (RST), instead of FIN.
        abort: bool,
    },
}

/// Result of a TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secured {
    /// True if a session was resumed.
    pub resumed: bool,
    /// The name that a verified client certificate puts in the place of AUTH's user name.
    pub user: Option<Box<str>>,
    /// Subject of a verified client certificate, for people.
    pub subject: Option<Box<str>>,
}

/// Outcome of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// So many bytes were taken, maybe fewer than offered.
    Sent(u32),
    /// None: the socket is full.
    WouldBlock,
    /// The connection is broken.
    Broken,
}

/// A connection that wasn't taken.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Why.
    pub reason: CloseReason,
    /// The limit that fired; `None`: the server ends.
    pub limit: Option<Limit>,
    /// The ERROR frame to send before closing; `None` where the peer doesn't speak the protocol yet.
    pub frame: Option<SealedFrame>,
}

/// The end of a connection, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Identity, valid until its [`Action::Close`].
    pub conn: ConnId,
    /// Its number, counted from 1 on each shard.
    pub number: u64,
    /// Address of the peer.
    pub peer: SocketAddr,
    /// Reason of the end.
    pub reason: CloseReason,
    /// More about that, for people; may be empty.
    pub detail: Cow<'static, str>,
    /// Last subscription.
    pub mode: Option<Mode>,
    /// Time that it was open, milliseconds.
    pub open_ms: u64,
    /// Age of its oldest unsent byte, milliseconds; 0 without one.
    pub unsent_ms: u64,
}
