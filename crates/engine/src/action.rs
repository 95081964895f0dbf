//! What a shard asks its driver to do, and what the driver tells it back.

use std::borrow::Cow;
use std::net::SocketAddr;

use tickstream_wire::messages::Mode;

use crate::batch::SealedFrame;
use crate::close::CloseReason;
use crate::ids::ConnId;
use crate::limit::Limit;

/// What the driver is asked to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send `frame` from `offset` on, without waiting, and tell [`crate::Shard::sent`] what came of it. There is
    /// never more than one unanswered `Send` for a connection.
    Send {
        /// To whom.
        conn: ConnId,
        /// The whole frame.
        frame: SealedFrame,
        /// Bytes of it that were sent before.
        offset: u32,
    },
    /// The socket takes no more: call [`crate::Shard::writable`] once it does.
    AwaitWritable {
        /// Whose socket.
        conn: ConnId,
    },
    /// Send FIN; go on receiving.
    Shutdown {
        /// Whose socket.
        conn: ConnId,
    },
    /// Let go of the socket. The id is not valid any more.
    Close {
        /// Whose socket.
        conn: ConnId,
        /// Throw away what the kernel still holds for the peer (RST), instead of FIN.
        abort: bool,
    },
}

/// How a TLS handshake went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secured {
    /// It resumed a session.
    pub resumed: bool,
    /// The name that a verified client certificate puts in the place of AUTH's user name.
    pub user: Option<Box<str>>,
}

/// What came of a send.
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
    /// Which it was; valid until its [`Action::Close`].
    pub conn: ConnId,
    /// Its number, counted from 1 on each shard.
    pub number: u64,
    /// Whose it was.
    pub peer: SocketAddr,
    /// Why it ended.
    pub reason: CloseReason,
    /// More about that, for people; may be empty.
    pub detail: Cow<'static, str>,
    /// What it was subscribed to.
    pub mode: Option<Mode>,
    /// How long it was open, milliseconds.
    pub open_ms: u64,
    /// How long its oldest unsent byte had waited, milliseconds; 0 if it was owed nothing.
    pub unsent_ms: u64,
}
