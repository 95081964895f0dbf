//! The model's state of one connection.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tickstream_engine::{CloseReason, ConnId, SendOutcome};

use super::publisher::Publisher;
use crate::events::Ack;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Proxied,
    Handshaking,
    Unauthenticated,
    Authenticated,
    Closing,
}

/// A reply that is to be sent, and since when.
#[derive(Debug)]
pub struct PendingReply {
    pub reply: Reply,
    pub since: u64,
}

#[derive(Debug)]
pub enum Reply {
    AckAuth {
        unix_ms: u64,
    },
    /// `next_sequence` is one of these.
    AckSubscribe {
        mode: usize,
        next: (u64, u64),
        live: (u64, u64),
        steps: usize,
        is_ahead: bool,
        unix_ms: u64,
    },
    Heartbeat,
    PublishAck(Ack),
    Error {
        code: &'static str,
        retry_ms: (u32, u32),
    },
}

/// The first bytes of a connection from a trusted proxy.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub bytes: usize,
    /// The client that it names; `None`: none.
    pub source: Option<SocketAddr>,
    pub is_valid: bool,
}

/// A subscription, as far as the stream of bytes has got.
#[derive(Debug)]
pub struct Subscription {
    pub mode: usize,
    pub next: u64,
    /// Known from the first label.
    pub phase_ms: Option<u64>,
    /// The first live tick is one of these; below, it's a replay.
    pub live: (u64, u64),
    /// Steps of the wall clock that came before it.
    pub steps: usize,
    /// The wall clock had never said more: nobody before can have been sent the ticks that it will be.
    pub is_ahead: bool,
    /// True once the replay is over: all older ticks have been sent.
    pub is_live: bool,
}

/// A frame that isn't answered whole.
#[derive(Debug)]
pub struct Underway {
    pub bytes: Vec<u8>,
    pub kind: u8,
    /// Bytes that the socket took, as far as they were reported to the shard.
    pub reported: u32,
    /// Of an unanswered send: what the socket will say.
    pub answer: Option<SendOutcome>,
    pub ticks: u64,
    pub mode: usize,
    pub is_replay: bool,
    /// The least and the most for which its bytes can have waited, as since when.
    pub since_latest: u64,
    pub since_earliest: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Closing {
    pub reason: CloseReason,
    pub ends: u64,
    /// True if it is closed without sending more.
    pub is_aborted: bool,
    pub is_reported: bool,
    /// An ERROR goes before the end.
    pub sends_error: bool,
}

#[derive(Debug)]
pub struct Conn {
    pub id: ConnId,
    pub number: u64,
    pub peer: SocketAddr,
    pub tls: bool,
    pub user: Option<String>,
    pub phase: Phase,
    pub opened: u64,
    /// When AUTH began to be awaited, or the last HEARTBEAT came.
    pub since: u64,
    /// Deadlines that held while it arrived: shortest and longest, milliseconds.
    pub auth_ms: (u32, u32),
    pub header: Header,
    pub header_seen: usize,
    /// True if the connection counts for its address.
    pub is_counted: bool,
    /// True before AUTH was accepted.
    pub is_pre_auth: bool,
    /// True once a byte came.
    pub has_received: bool,
    /// True if the connection lingers for longer than it may.
    pub is_over: bool,
    pub unread: Vec<u8>,
    pub budget: (u64, u32),
    pub pending_replies: VecDeque<PendingReply>,
    pub publisher: Publisher,
    pub subscription: Option<Subscription>,
    /// The last SUBSCRIBE that was accepted.
    pub mode: Option<usize>,
    pub underway: Option<Underway>,
    /// The socket took no more, and hasn't said since that it does.
    pub is_full: bool,
    pub full_since: u64,
    pub is_awaited: bool,
    pub is_shut: bool,
    pub peer_closed: bool,
    pub broken: bool,
    pub goaway_seen: bool,
    pub error_begun: bool,
    pub closing: Option<Closing>,
    pub bytes_sent: u64,
    /// True if it has something to send: its turn comes before so many actions.
    pub served_by: Option<u64>,
    pub is_gone: bool,
}

impl Conn {
    pub fn accepts_frames(&self) -> bool {
        matches!(self.phase, Phase::Unauthenticated | Phase::Authenticated)
    }

    /// Frames that are to be sent.
    pub fn frames(&self) -> usize {
        self.pending_replies.len() + usize::from(self.underway.is_some())
    }

    pub fn is_answered(&self) -> bool {
        self.underway.as_ref().is_none_or(|underway| underway.answer.is_none())
    }

    /// True if it has something to send and may.
    pub fn is_ready(&self) -> bool {
        let wants =
            self.is_over || self.frames() > 0 || self.closing.is_some_and(|closing| closing.is_aborted);
        wants && self.is_answered() && !self.is_awaited && !self.is_gone
    }
}
