//! The request in a frame: the state decides first, then the type, then the payload.

use std::net::IpAddr;

use tickstream_wire::frame::SKIPPABLE_FROM;
use tickstream_wire::messages::{Auth, Message, Mode, Subscribe};
use tickstream_wire::{Decoder, Frame, FrameType, PayloadMax};

use super::{Session, State};
use crate::auth::Grant;
use crate::clock::{ActiveTime, SECOND};
use crate::close::{CloseReason, Fault};
use crate::config::{Config, Limits};
use crate::limit::Limit;

/// Request of a valid frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// AUTH: by a credential, `None` for a wrong one, of a client that calls itself so.
    Authenticate {
        grant: Option<Grant>,
        client: Option<Box<str>>,
    },
    Subscribe {
        mode: Mode,
        resume_after: Option<u64>,
    },
    Heartbeat,
    /// To take the events in the payload, which came from this address.
    Publish {
        payload: &'a [u8],
        peer: IpAddr,
    },
    /// Nothing: a type of a later version.
    Nothing,
}

/// Frames that a connection sent in the running second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FrameBudget {
    second: u32,
    frames: u32,
}

impl FrameBudget {
    /// Counts one more frame.
    #[inline]
    fn spend(&mut self, frames_max: u32, now: ActiveTime) -> Result<(), Fault> {
        let second = (now / SECOND) as u32;
        if second != self.second {
            (self.second, self.frames) = (second, 0);
        }
        self.frames += 1;
        if self.frames > frames_max {
            let detail = format!("more than {frames_max} frames in a second");
            return Err(Fault::limit(Limit::Frames, CloseReason::RateLimited, detail));
        }
        Ok(())
    }
}

impl Session {
    /// Largest payload that it may send now, bytes.
    #[inline]
    fn payload_bytes_max(state: &State, config: &Config) -> PayloadMax {
        let other = config.limits.payload_bytes;
        match (state, &config.ingest) {
            (State::Authenticated { .. }, Some(ingest)) => {
                PayloadMax { publish: ingest.publish_bytes, other }
            }
            (State::Authenticated { .. }, None) => other.into(),
            _ => other.min(Limits::PAYLOAD_BYTES_BEFORE_AUTH).into(),
        }
    }

    /// The request in the next frame of `bytes`, whose front is taken; `None` once they are used up. Call
    /// [`Session::release_decoder`] after the last.
    ///
    /// # Errors
    /// If the bytes are no frame, or one that isn't allowed.
    #[inline]
    pub fn next_request<'a, 'i: 'a>(
        &'a mut self,
        bytes: &mut &'i [u8],
        config: &Config,
        now: ActiveTime,
    ) -> Result<Option<Request<'a>>, Fault> {
        let Self { state, decoder, budget, peer, .. } = self;
        let payload_max = Self::payload_bytes_max(state, config);
        let Some(frame) = decoder.next(bytes, payload_max)? else { return Ok(None) };
        match state {
            State::Authenticated { .. } => after_auth(frame, peer.ip, budget, config, now).map(Some),
            State::Unauthenticated { certificate } => {
                let user = certificate.as_ref().and_then(|certificate| certificate.user.as_deref());
                before_auth(frame, user, config).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Bytes of an unfinished PUBLISH that it holds.
    #[inline]
    pub fn partial_publish(&self) -> u32 {
        self.decoder.publish_buffered() as u32 // at most a frame
    }

    /// Gives back the memory of a frame that was handed out.
    pub fn release_decoder(&mut self) {
        self.decoder.release();
    }

    /// Drops what came of a frame.
    pub fn drop_decoder(&mut self) {
        self.decoder = Decoder::new();
    }

    /// Counts one more frame against its budget.
    ///
    /// # Errors
    /// If it sent too many in this second.
    pub fn spend_frame(&mut self, frames_max: u32, now: ActiveTime) -> Result<(), Fault> {
        self.budget.spend(frames_max, now)
    }

    /// HEARTBEAT came.
    pub fn heartbeat_received(&mut self, now: ActiveTime) {
        self.restart(now);
    }
}

/// The request of a connection that hasn't authenticated; `user`: the name in its certificate.
fn before_auth<'a>(frame: Frame<'a>, user: Option<&str>, config: &Config) -> Result<Request<'a>, Fault> {
    match FrameType::from_byte(frame.kind) {
        Some(FrameType::Auth) => authenticate(frame.payload, user, config),
        _ => Err(Fault::new(CloseReason::AuthRequired, "the first frame must be AUTH")),
    }
}

/// The request of a connection that has authenticated.
#[inline]
fn after_auth<'a>(
    frame: Frame<'a>,
    peer: IpAddr,
    budget: &mut FrameBudget,
    config: &Config,
    now: ActiveTime,
) -> Result<Request<'a>, Fault> {
    let kind = FrameType::from_byte(frame.kind);
    if kind != Some(FrameType::Publish) {
        budget.spend(config.limits.frames_per_second, now)?;
    }
    match kind {
        // Its credits bound it.
        Some(FrameType::Publish) => Ok(Request::Publish { payload: frame.payload, peer }),
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

/// Compares the credentials. Where a certificate names the client, AUTH names nobody else.
fn authenticate<'a>(payload: &[u8], user: Option<&str>, config: &Config) -> Result<Request<'a>, Fault> {
    let auth = Auth::decode(payload).map_err(|error| bad_frame(format!("AUTH: {error}")))?;
    let grant = match user {
        Some(user) => {
            let named = auth.username.is_empty() || auth.username == user;
            config.credentials.accept_certified(user, &auth.password).filter(|_| named)
        }
        None => config.credentials.accept(&auth.username, &auth.password),
    };
    let client = auth.client.filter(|_| grant.is_some()).map(String::into_boxed_str);
    Ok(Request::Authenticate { grant, client })
}

fn subscribe<'a>(payload: &[u8]) -> Result<Request<'a>, Fault> {
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
