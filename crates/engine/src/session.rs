//! One connection: what it may do next, and the judgement of each frame that it sends.

use std::net::SocketAddr;

use tickstream_wire::frame::SKIPPABLE_FROM;
use tickstream_wire::messages::{Auth, Message, Mode, Subscribe};
use tickstream_wire::{Decoder, Frame, FrameType, PayloadMax};

use crate::clock::{Lived, SECOND};
use crate::close::{CloseReason, Fault};
use crate::config::{Config, Limits};
use crate::limit::Limit;
use crate::network::AddressKey;
use crate::outbox::Outbox;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The slot is free.
    Free,
    /// Accepted; must begin with a PROXY header.
    Proxied,
    /// TLS is being negotiated.
    Handshaking,
    /// Must send AUTH.
    Unauthenticated,
    /// May subscribe and must heartbeat.
    Authenticated,
    /// Its end is decided; what it is owed is still sent.
    Flushing,
    /// FIN was sent; what the peer sends is thrown away.
    Lingering,
    /// To be let go of at once.
    Doomed,
}

impl State {
    /// Its frames are read.
    pub fn speaks(self) -> bool {
        matches!(self, Self::Unauthenticated | Self::Authenticated)
    }

    /// Nobody knows yet who it is.
    pub fn is_unproven(self) -> bool {
        matches!(self, Self::Proxied | Self::Handshaking | Self::Unauthenticated)
    }
}

/// What is known of a connection only until it has authenticated.
#[derive(Debug, Default)]
pub(crate) struct Arrival {
    /// What came of a PROXY header.
    pub proxy_header: Vec<u8>,
    /// The name in its certificate, which stands for AUTH's user name.
    pub user: Option<Box<str>>,
}

/// What its socket is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Nothing.
    Idle,
    /// Sending the newest batch of its stream, which the stream's log holds.
    Batch,
    /// Sending the first frame of its outbox.
    Owed,
    /// It took no more; the driver has yet to be asked to wait.
    Full,
    /// The driver waits until it takes more.
    Blocked,
}

/// A subscription: which group of a stream, and where in its table of subscribers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membership {
    pub group: u32,
    pub position: u32,
}

/// The state of one connection. Bounds: see [`Limits`].
#[derive(Debug)]
pub(crate) struct Session {
    pub peer: SocketAddr,
    /// Counted from 1 on each shard.
    pub number: u64,
    pub opened: Lived,
    /// When the last HEARTBEAT came, or AUTH was accepted; before: since when AUTH is awaited.
    pub heartbeat: Lived,
    /// When the connection has to be done: the end of its drain, its flush or its lingering.
    pub ends: Lived,
    /// Sequence of the next tick to hand to the socket.
    pub next_sequence: u64,
    /// Bytes that its socket took.
    pub bytes_sent: u64,
    pub membership: Option<Membership>,
    pub outbox: Outbox,
    pub decoder: Decoder,
    /// `None` where there is nothing to know.
    pub arrival: Option<Box<Arrival>>,
    pub generation: u32,
    /// Second of [`Session::frames`].
    budget_second: u32,
    /// Frames that came in that second.
    frames: u32,
    pub mode: Option<Mode>,
    pub state: State,
    pub sending: Sending,
    /// It has not yet caught up with the live stream.
    pub replaying: bool,
    /// It is in the list of those that have something to do.
    pub queued: bool,
    /// What the kernel holds for it is to be thrown away.
    pub abort: bool,
    /// The peer sent FIN; what it is owed may still reach it.
    pub peer_closed: bool,
    /// It was told to go away.
    pub draining: bool,
    /// It speaks TLS.
    pub tls: bool,
    /// It counts among the connections of its address.
    pub counted: bool,
    /// It counts among those that haven't authenticated.
    pub unproven: bool,
    /// It sent something.
    pub heard: bool,
}

// 100,000 connections take 100,000 of these.
const _: () = assert!(size_of::<Session>() <= 144);

/// What a valid frame asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// AUTH, with the right credentials or not.
    Authenticate {
        accepted: bool,
    },
    Subscribe {
        mode: Mode,
        resume_after: Option<u64>,
    },
    Heartbeat,
    /// To take the events in the payload.
    Publish,
    /// Nothing: a type of a later version.
    Nothing,
}

impl Session {
    pub fn new(peer: SocketAddr, number: u64, generation: u32, lived: Lived) -> Self {
        Self {
            peer,
            number,
            opened: lived,
            heartbeat: lived,
            ends: Lived::MAX,
            next_sequence: 0,
            bytes_sent: 0,
            membership: None,
            outbox: Outbox::default(),
            decoder: Decoder::new(),
            arrival: None,
            generation,
            budget_second: 0,
            frames: 0,
            mode: None,
            state: State::Unauthenticated,
            sending: Sending::Idle,
            replaying: false,
            queued: false,
            abort: false,
            peer_closed: false,
            draining: false,
            tls: false,
            counted: false,
            unproven: true,
            heard: false,
        }
    }

    /// Largest payload that it may send now, bytes.
    pub fn payload_bytes_max(&self, config: &Config) -> PayloadMax {
        let other = config.limits.payload_bytes;
        match (self.state, &config.ingest) {
            (State::Authenticated, Some(ingest)) => PayloadMax { publish: ingest.publish_bytes, other },
            (State::Authenticated, None) => other.into(),
            _ => other.min(Limits::PAYLOAD_BYTES_BEFORE_AUTH).into(),
        }
    }

    /// Judges a frame whose CRC was right: the state, then the type, then the payload.
    pub fn judge(&mut self, frame: Frame<'_>, config: &Config, lived: Lived) -> Result<Request, Fault> {
        let kind = FrameType::from_byte(frame.kind);
        if self.state == State::Unauthenticated {
            return match kind {
                Some(FrameType::Auth) => self.authenticate(frame.payload, config),
                _ => Err(Fault::new(CloseReason::AuthRequired, "the first frame must be AUTH")),
            };
        }
        if kind != Some(FrameType::Publish) {
            self.spend_frame(config.limits.frames_per_second, lived)?;
        }
        match kind {
            // Its credits bound it.
            Some(FrameType::Publish) => Ok(Request::Publish),
            Some(FrameType::Subscribe) => subscribe(frame.payload),
            Some(FrameType::Heartbeat) if frame.payload.is_empty() => Ok(Request::Heartbeat),
            Some(FrameType::Heartbeat) => Err(bad_frame("HEARTBEAT has no payload")),
            Some(FrameType::Auth) => Err(violation("a second AUTH")),
            Some(FrameType::DataBatch) => Err(violation("DATA_BATCH is the server's to send")),
            Some(FrameType::Error) => Err(violation("ERROR is the server's to send")),
            Some(FrameType::Ack) => Err(violation("ACK is the server's to send")),
            Some(FrameType::GoAway) => Err(violation("GOAWAY is the server's to send")),
            Some(FrameType::PublishAck) => Err(violation("PUBLISH_ACK is the server's to send")),
            None if frame.kind >= SKIPPABLE_FROM => Ok(Request::Nothing),
            None => Err(Fault::new(
                CloseReason::UnsupportedType,
                format!("type 0x{:02x} is not known in version 1", frame.kind),
            )),
        }
    }

    /// Counts a frame against the budget of the running second.
    pub fn spend_frame(&mut self, frames_max: u32, lived: Lived) -> Result<(), Fault> {
        let second = (lived / SECOND) as u32;
        if second != self.budget_second {
            (self.budget_second, self.frames) = (second, 0);
        }
        self.frames += 1;
        if self.frames > frames_max {
            let detail = format!("more than {frames_max} frames in a second");
            return Err(Fault::limit(Limit::Frames, CloseReason::RateLimited, detail));
        }
        Ok(())
    }

    /// Compares the credentials. Where a certificate names the client, AUTH names nobody else.
    fn authenticate(&self, payload: &[u8], config: &Config) -> Result<Request, Fault> {
        let auth = Auth::decode(payload).map_err(|error| bad_frame(format!("AUTH: {error}")))?;
        let accepted = match self.arrival.as_ref().and_then(|arrival| arrival.user.as_deref()) {
            Some(user) => {
                let named = auth.username.is_empty() || auth.username == user;
                config.credentials.accept_password(&auth.password) & named
            }
            None => config.credentials.accept(&auth.username, &auth.password),
        };
        Ok(Request::Authenticate { accepted })
    }

    /// What limits by address count it under.
    pub fn address(&self) -> AddressKey {
        self.peer.ip().into()
    }
}

fn subscribe(payload: &[u8]) -> Result<Request, Fault> {
    let subscribe = Subscribe::decode(payload).map_err(|error| bad_frame(format!("SUBSCRIBE: {error}")))?;
    let mode = Mode::try_from(subscribe.mode)
        .map_err(|_| bad_frame(format!("mode {} is neither SECOND (0) nor MINUTE (1)", subscribe.mode)))?;
    Ok(Request::Subscribe { mode, resume_after: subscribe.resume_after })
}

fn bad_frame(detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(CloseReason::BadFrame, detail)
}

fn violation(detail: &'static str) -> Fault {
    Fault::new(CloseReason::ProtocolViolation, detail)
}

#[cfg(test)]
mod tests {
    use tickstream_wire::frame;

    use super::*;
    use crate::shard::tests::config;

    /// What a session in `state` answers to a frame of type `kind`.
    fn judge(state: State, kind: u8, payload: &[u8]) -> Result<Request, CloseReason> {
        let mut session = Session::new(([127, 0, 0, 1], 1).into(), 1, 0, 0);
        session.state = state;
        session.judge(Frame { kind, payload }, &config(), 0).map_err(|fault| fault.reason)
    }

    fn payload<M: tickstream_wire::messages::Payload>(message: &M) -> Vec<u8> {
        let sealed = frame::seal(message);
        sealed[frame::HEADER_LEN..sealed.len() - frame::TRAILER_LEN].to_vec()
    }

    fn auth(username: &str, password: &str) -> Vec<u8> {
        payload(&Auth { username: username.into(), password: password.into() })
    }

    #[test]
    fn before_auth_only_auth_is_taken() {
        for kind in (0..=u8::MAX).filter(|&kind| kind != FrameType::Auth as u8) {
            assert_eq!(judge(State::Unauthenticated, kind, b""), Err(CloseReason::AuthRequired), "{kind}");
        }
        let check = |payload: &[u8], expected| {
            assert_eq!(judge(State::Unauthenticated, FrameType::Auth as u8, payload), expected);
        };
        let wrong = Ok(Request::Authenticate { accepted: false });
        check(&auth("ada", "s3cret"), Ok(Request::Authenticate { accepted: true }));
        check(&auth("ada", "wrong"), wrong);
        check(&auth("", ""), wrong);
        check(b"", wrong);
        check(b"\xff\xff", Err(CloseReason::BadFrame));
    }

    #[test]
    fn after_auth_each_type_has_one_answer() {
        for kind in 0..=u8::MAX {
            let expected = match FrameType::from_byte(kind) {
                Some(FrameType::Subscribe) => {
                    Ok(Request::Subscribe { mode: Mode::Second, resume_after: None })
                }
                Some(FrameType::Heartbeat) => Ok(Request::Heartbeat),
                Some(FrameType::Publish) => Ok(Request::Publish),
                Some(_) => Err(CloseReason::ProtocolViolation),
                None if kind >= SKIPPABLE_FROM => Ok(Request::Nothing),
                None => Err(CloseReason::UnsupportedType),
            };
            assert_eq!(judge(State::Authenticated, kind, b""), expected, "{kind}");
        }
    }

    #[test]
    fn a_subscription_with_nonsense_in_it_is_a_bad_frame() {
        let check = |payload: &[u8], expected| {
            assert_eq!(judge(State::Authenticated, FrameType::Subscribe as u8, payload), expected);
        };
        let subscribe = |mode, resume_after| payload(&Subscribe { mode, resume_after });
        let minute = Request::Subscribe { mode: Mode::Minute, resume_after: Some(u64::MAX) };
        check(&subscribe(1, Some(u64::MAX)), Ok(minute));
        check(&subscribe(2, None), Err(CloseReason::BadFrame));
        check(&subscribe(i32::MIN, None), Err(CloseReason::BadFrame));
        check(b"\x08", Err(CloseReason::BadFrame));
        // a field of a later version
        let later = [&subscribe(1, None)[..], b"\x7a\x03new"].concat();
        check(&later, Ok(Request::Subscribe { mode: Mode::Minute, resume_after: None }));
        assert_eq!(judge(State::Authenticated, 3, b"x"), Err(CloseReason::BadFrame));
    }

    #[test]
    fn frames_are_budgeted_by_the_second() {
        let mut session = Session::new(([127, 0, 0, 1], 1).into(), 1, 0, 0);
        session.state = State::Authenticated;
        let mut send = |lived| {
            session.judge(Frame { kind: 3, payload: b"" }, &config(), lived).map_err(|fault| fault.reason)
        };
        for second in 0..3 {
            for _ in 0..config().limits.frames_per_second {
                assert_eq!(send(second * SECOND), Ok(Request::Heartbeat));
            }
        }
        assert_eq!(send(2 * SECOND), Err(CloseReason::RateLimited));
    }
}
