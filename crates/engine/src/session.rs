//! One connection: its state machine, and the request in each frame that it sends.
//!
//! All fields are private: what changes a connection's state is a method here. The shard decides when to call it, and
//! keeps counters, deadlines and the lists of connections in step.

mod arrival;
mod outbound;
mod request;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use tickstream_wire::Decoder;
use tickstream_wire::messages::Mode;

use crate::batch::SealedFrame;
use crate::clock::{ActiveTime, MS};
use crate::close::CloseReason;
use crate::config::Config;
use crate::ids::{GroupId, Sequence};
use crate::network::{AddressKey, PeerAddress};
use crate::outbox::{Item, Outbox};
use crate::view::Standing;
pub(crate) use arrival::Header;
pub(crate) use outbound::{Offer, Step};
use request::FrameBudget;
pub(crate) use request::Request;

/// State of a connection, with the data that exists in that state alone.
#[derive(Debug)]
enum State {
    /// The slot is free.
    Free,
    /// Must begin with a PROXY header, of which `held` has come; then TLS, if `tls`.
    AwaitingProxyHeader { tls: bool, held: Option<Box<PartialHeader>> },
    /// TLS is being negotiated.
    Handshaking,
    /// Must send AUTH.
    Unauthenticated { certificate: Option<Box<Certificate>> },
    /// May subscribe and publish, and must send HEARTBEAT.
    Authenticated { subscription: Option<Subscription> },
    /// Its end is decided; pending frames are still sent. `peer_closed`: FIN came, and they may still arrive.
    Flushing { peer_closed: bool },
    /// FIN was sent; received bytes are thrown away.
    Lingering,
    /// To be released at once; `reset`: what the kernel holds for it is thrown away.
    Aborting { reset: bool },
}

/// Bytes of a PROXY header that came in pieces.
#[derive(Debug)]
struct PartialHeader(Vec<u8>);

/// A client's certificate.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// The name in it, which stands for AUTH's.
    pub user: Option<Box<str>>,
    pub subject: Option<Box<str>>,
}

/// A place among the subscribers of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscription {
    pub membership: Membership,
    /// Sequence of the next tick to hand to the socket.
    pub next_sequence: Sequence,
    /// True until it has caught up with the live stream.
    pub replaying: bool,
}

/// A subscription's group, and its position in the group's table of subscribers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membership {
    pub group: GroupId,
    pub position: u32,
}

/// State of the socket's sending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// Nothing is being sent.
    Idle,
    /// The newest batch of its stream, which the stream's log holds, is being sent.
    Batch,
    /// The first frame of its outbox is being sent.
    Frame,
    /// The socket took no more; the driver has yet to be asked to wait.
    Full,
    /// The driver waits until the socket takes more.
    Blocked,
}

/// A deadline of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    pub at: ActiveTime,
    /// The fault if it passes, with its detail; without one, the connection is released.
    pub fault: Option<(CloseReason, &'static str)>,
}

/// One connection. Bounds: see [`Limits`].
#[derive(Debug)]
pub(crate) struct Session {
    peer: PeerAddress,
    number: u64,
    opened: ActiveTime,
    state: State,
    /// Time from which the limit of its state runs: when it was accepted, TLS was done, AUTH was accepted or the last HEARTBEAT
    /// came. Where a drain closes it, or its end is decided: the deadline itself.
    since: ActiveTime,
    /// Bytes that its socket took.
    bytes_sent: u64,
    /// Bytes that came from it, but for TLS and PROXY headers.
    bytes_received: u64,
    outbox: Outbox,
    decoder: Decoder,
    budget: FrameBudget,
    /// Its subscription, the last one after it ended; for people.
    mode: Option<Mode>,
    sending: Sending,
    /// True while it is in the list of connections that have something to do.
    is_ready: bool,
    /// True while it counts among the connections of its address.
    is_counted: bool,
    /// True once it has sent something.
    has_received: bool,
    /// True once a drain has given it a time to end.
    is_draining: bool,
}

// 100,000 connections take 100,000 of these.
const _: () = assert!(size_of::<Session>() <= 120);

impl Session {
    /// A connection that was just accepted, the shard's `number`th. `proxied`: it begins with a PROXY header.
    pub fn new(peer: SocketAddr, number: u64, now: ActiveTime, proxied: bool, tls: bool) -> Self {
        let state = match (proxied, tls) {
            (true, _) => State::AwaitingProxyHeader { tls, held: None },
            (false, true) => State::Handshaking,
            (false, false) => State::Unauthenticated { certificate: None },
        };
        Self {
            peer: peer.into(),
            number,
            opened: now,
            state,
            since: now,
            bytes_sent: 0,
            bytes_received: 0,
            outbox: Outbox::default(),
            decoder: Decoder::new(),
            budget: FrameBudget::default(),
            mode: None,
            sending: Sending::Idle,
            is_ready: false,
            is_counted: !proxied,
            has_received: false,
            is_draining: false,
        }
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer.into()
    }

    /// Its number, counted from 1 on each shard.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Number that tells it apart from the others of its slot.
    pub fn generation(&self) -> u32 {
        self.number as u32
    }

    /// Milliseconds since it was accepted.
    pub fn open_ms(&self, now: ActiveTime) -> u64 {
        now.saturating_sub(self.opened) / MS
    }

    /// Age of its oldest unsent byte, milliseconds; 0 without one.
    pub fn unsent_ms(&self, now: ActiveTime) -> u64 {
        self.outbox.oldest().map_or(0, |since| now.saturating_sub(since) / MS)
    }

    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Key of the limits by address.
    pub fn address(&self) -> AddressKey {
        self.peer.ip.into()
    }

    /// `None` for a slot that is free.
    pub fn standing(&self) -> Option<Standing> {
        match self.state {
            State::Free => None,
            State::AwaitingProxyHeader { .. } | State::Handshaking | State::Unauthenticated { .. } => {
                Some(Standing::Unauthenticated)
            }
            State::Authenticated { .. } => Some(Standing::Authenticated),
            State::Flushing { .. } | State::Lingering | State::Aborting { .. } => Some(Standing::Closing),
        }
    }

    pub fn is_free(&self) -> bool {
        matches!(self.state, State::Free)
    }

    pub fn awaits_proxy_header(&self) -> bool {
        matches!(self.state, State::AwaitingProxyHeader { .. })
    }

    pub fn is_handshaking(&self) -> bool {
        matches!(self.state, State::Handshaking)
    }

    /// True while its frames are read.
    pub fn accepts_frames(&self) -> bool {
        matches!(self.state, State::Unauthenticated { .. } | State::Authenticated { .. })
    }

    pub fn is_authenticated(&self) -> bool {
        matches!(self.state, State::Authenticated { .. })
    }

    /// True until it has authenticated.
    pub fn is_pre_auth(&self) -> bool {
        matches!(
            self.state,
            State::AwaitingProxyHeader { .. } | State::Handshaking | State::Unauthenticated { .. }
        )
    }

    /// True until its end is decided.
    pub fn is_open(&self) -> bool {
        !matches!(
            self.state,
            State::Free | State::Flushing { .. } | State::Lingering | State::Aborting { .. }
        )
    }

    /// True once its end is decided, until it is released at once.
    pub fn is_ending(&self) -> bool {
        matches!(self.state, State::Flushing { .. } | State::Lingering)
    }

    /// True while it counts among the connections of its address.
    pub fn is_counted(&self) -> bool {
        self.is_counted
    }

    pub fn has_received(&self) -> bool {
        self.has_received
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Lets the limit of its state run from `now` on.
    fn restart(&mut self, now: ActiveTime) {
        if !self.is_draining {
            self.since = now;
        }
    }

    /// The next deadline, if there is one.
    pub fn deadline(&self, config: &Config) -> Option<Deadline> {
        let limits = &config.limits;
        let (limit_ms, reason, detail) = match self.state {
            State::Free | State::Aborting { .. } => return None,
            State::Flushing { .. } | State::Lingering => {
                return Some(Deadline { at: self.since, fault: None });
            }
            _ if self.is_draining => (0, CloseReason::ShuttingDown, "the server is shutting down"),
            State::AwaitingProxyHeader { .. } => {
                (limits.auth_timeout_ms, CloseReason::AuthTimeout, "no PROXY header in time")
            }
            State::Handshaking => {
                (limits.handshake_timeout_ms, CloseReason::HandshakeTimeout, "no TLS handshake in time")
            }
            State::Unauthenticated { .. } => {
                (limits.auth_timeout_ms, CloseReason::AuthTimeout, "no AUTH in time")
            }
            State::Authenticated { .. } => {
                (config.heartbeat_timeout_ms, CloseReason::HeartbeatTimeout, "no HEARTBEAT in time")
            }
        };
        let after = |since: ActiveTime, ms: u32| since + u64::from(ms) * MS;
        let at = after(self.since, limit_ms);
        match self.outbox.oldest().map(|since| after(since, limits.write_deadline_ms)) {
            Some(write) if write < at => {
                let detail = "its oldest unsent byte is past the write deadline";
                Some(Deadline { at: write, fault: Some((CloseReason::SlowConsumer, detail)) })
            }
            _ => Some(Deadline { at, fault: Some((reason, detail)) }),
        }
    }

    /// The server drains: an open connection is closed at `closes_at`, one that is closing ends by `lingers_until`.
    /// False if there is nothing to change.
    pub fn drain(&mut self, closes_at: ActiveTime, lingers_until: ActiveTime) -> bool {
        match self.state {
            State::Free | State::Aborting { .. } => return false,
            State::Flushing { .. } | State::Lingering => self.since = self.since.min(lingers_until),
            _ => (self.since, self.is_draining) = (closes_at, true),
        }
        true
    }

    /// Its end is decided: pending frames, and `goodbye` behind them, are sent until then.
    pub fn flush(&mut self, goodbye: Option<SealedFrame>, now: ActiveTime, until: ActiveTime) {
        (self.state, self.since) = (State::Flushing { peer_closed: false }, until);
        if let Some(goodbye) = goodbye {
            self.outbox.push(Item::reply(goodbye, now));
        }
    }

    /// The peer sent FIN while its end was decided. Answers whether pending frames may still reach it.
    pub fn peer_closed(&mut self) -> bool {
        match &mut self.state {
            State::Flushing { peer_closed } => {
                *peer_closed = true;
                true
            }
            _ => false,
        }
    }

    /// Has it released at once; `reset`: without FIN.
    #[inline]
    pub fn abort(&mut self, reset: bool) {
        self.state = State::Aborting { reset };
    }

    /// Frees its slot. Its decoder was dropped when its end was decided.
    #[inline]
    pub fn release(&mut self) {
        debug_assert!(!self.is_free() && self.decoder.buffered() == 0);
        self.state = State::Free;
        self.outbox.clear();
    }
}
