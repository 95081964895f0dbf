//! The protocol on one connection: what a frame means, what to send and when, and for how long to wait. No I/O,
//! no clock: bytes to send gather in [`Session::out`], time is passed in.

use std::time::Duration;

use tickstream_schema::events::PublishAck;
use tickstream_wire::{
    Frame, FrameType,
    frame::{self, SKIPPABLE_FROM},
    messages::{Ack, Auth, DataBatch, ErrorMsg, GoAway, Mode, MsgType, Subscribe},
};
use tokio::time::Instant;

use crate::{BadMessage, Error, Operation, config::Config};

/// The news of a frame beyond the session.
#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    /// The credentials are right.
    Authenticated,
    /// The server accepted `request`; its ticks follow.
    Subscribed { request: Subscribe, next_sequence: u64, server_time_ms: u64 },
    /// Ticks, not checked yet.
    Batch(DataBatch),
    /// The answer to a batch of events, not checked yet.
    Published(PublishAck),
    /// The server will close.
    GoAway(GoAway),
}

/// The limits of the server on events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PublishLimits {
    /// PUBLISHes that may be on the way without an answer; 0: none at all.
    pub credits: u32,
    /// Largest payload of a PUBLISH, bytes.
    pub payload_max: u32,
    /// Most events in a PUBLISH.
    pub events_max: u32,
}

impl PublishLimits {
    fn announced(ack: &Ack) -> Self {
        let answer_max = if ack.max_msg_size == 0 { PAYLOAD_MAX_BEFORE_ACK } else { ack.max_msg_size };
        Self {
            credits: ack.publish_credits,
            payload_max: ack.max_publish_size,
            events_max: EVENTS_MAX.min(answer_max / VERDICT_LEN),
        }
    }
}

/// The session of one connection, from AUTH on.
pub(crate) struct Session {
    out: Vec<u8>,
    /// The builder's limit, bytes.
    payload_cap: u32,
    /// Limit that holds at the moment, bytes: the smaller of the cap and the server's limit.
    payload_max: u32,
    reply_timeout: Duration,
    awaited: Option<Awaited>,
    /// `None` until AUTH was accepted.
    liveness: Option<Liveness>,
    mode: Option<Mode>,
    publish_limits: PublishLimits,
    has_published: bool,
    /// HEARTBEATs that were put into `out` since bytes of it were sent.
    heartbeats_pending: u32,
    /// When the last frame came.
    last_received: Instant,
}

/// A pending ACK.
struct Awaited {
    reply_to: Request,
    since: Instant,
}

#[derive(Clone, Copy)]
enum Request {
    Auth,
    Subscribe(Subscribe),
}

/// This library, as AUTH names it to the server's operators.
pub(crate) const LIBRARY: &str = concat!("tickstream-rust/", env!("CARGO_PKG_VERSION"));

/// Heartbeats, as the server's last ACK wants them.
struct Liveness {
    interval: Duration,
    timeout: Duration,
    next: Instant,
}

impl Session {
    /// A session that begins with AUTH.
    pub fn start(config: &Config, now: Instant) -> Self {
        let credentials = config.credentials.clone();
        Self {
            out: frame::seal(&Auth {
                username: credentials.username,
                password: credentials.password,
                client: Some(LIBRARY.to_owned()),
            }),
            payload_cap: config.payload_max,
            payload_max: config.payload_max.min(PAYLOAD_MAX_BEFORE_ACK),
            reply_timeout: config.reply_timeout,
            awaited: Some(Awaited { reply_to: Request::Auth, since: now }),
            liveness: None,
            mode: None,
            publish_limits: PublishLimits::default(),
            has_published: false,
            heartbeats_pending: 0,
            last_received: now,
        }
    }

    /// Bytes for the server; the caller tells by [`sent`](Self::sent) what it took from the front.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// So many bytes of [`out`](Self::out) were sent.
    pub fn sent(&mut self, len: usize) {
        self.out.drain(..len);
        if len > 0 {
            self.heartbeats_pending = 0;
        }
    }

    /// The largest payload to take, bytes.
    pub fn payload_max(&self) -> u32 {
        self.payload_max
    }

    /// The mode that the server accepted on this connection.
    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// True while an ACK is pending. One request at a time, so that an ACK can't be taken for another's.
    pub fn is_waiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// Asks for ticks.
    pub fn subscribe(&mut self, request: Subscribe, now: Instant) {
        self.out.extend(frame::seal(&request));
        self.awaited = Some(Awaited { reply_to: Request::Subscribe(request), since: now });
    }

    /// The limits of the server on events; none until AUTH was accepted.
    pub fn publish_limits(&self) -> PublishLimits {
        self.publish_limits
    }

    /// Puts a PUBLISH into [`out`](Self::out) whose payload `write` appends, if it says that it has one.
    pub fn publish(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let (start, mut has_written) = (self.out.len(), false);
        frame::seal_with(&mut self.out, FrameType::Publish as u8, |payload| has_written = write(payload));
        if !has_written {
            self.out.truncate(start);
        }
        self.has_published |= has_written;
        has_written
    }

    /// Handles one frame.
    pub fn handle_frame(&mut self, frame: Frame<'_>, now: Instant) -> Result<Option<Message>, Error> {
        self.last_received = now;
        let Some(kind) = FrameType::from_byte(frame.kind) else {
            return match frame.kind {
                SKIPPABLE_FROM.. => Ok(None),
                kind => Err(BadMessage::UnknownType { kind }.into()),
            };
        };
        match kind {
            FrameType::Error => Err(decode::<ErrorMsg>(kind, frame)?.into()),
            FrameType::Ack => self.acknowledged(&decode(kind, frame)?, now).map(Some),
            FrameType::GoAway => Ok(Some(Message::GoAway(decode(kind, frame)?))),
            FrameType::DataBatch if self.mode.is_some() => Ok(Some(Message::Batch(decode(kind, frame)?))),
            FrameType::PublishAck if self.has_published => Ok(Some(Message::Published(decode(kind, frame)?))),
            FrameType::Heartbeat if self.liveness.is_some() => match frame.payload.len() {
                0 => Ok(None),
                length => Err(BadMessage::HeartbeatPayload { length }.into()),
            },
            FrameType::DataBatch
            | FrameType::Heartbeat
            | FrameType::Auth
            | FrameType::Subscribe
            | FrameType::Publish
            | FrameType::PublishAck => Err(BadMessage::Unexpected { kind }.into()),
        }
    }

    fn acknowledged(&mut self, ack: &Ack, now: Instant) -> Result<Message, Error> {
        let unexpected = BadMessage::Unexpected { kind: FrameType::Ack };
        let awaited = self.awaited.take().ok_or_else(|| unexpected.clone())?;
        let message = match (awaited.reply_to, ack.acked_type()) {
            (Request::Auth, MsgType::Auth) => Message::Authenticated,
            (Request::Subscribe(request), MsgType::Subscribe) => {
                self.mode = Some(request.mode());
                let Ack { next_sequence, server_time_ms, .. } = *ack;
                Message::Subscribed { request, next_sequence, server_time_ms }
            }
            _ => return Err(unexpected.into()),
        };
        let before = self.liveness.take().map(|liveness| liveness.next);
        let mut liveness = Liveness::announced(ack, now);
        liveness.next = before.map_or(liveness.next, |before| before.min(liveness.next));
        self.liveness = Some(liveness);
        self.publish_limits = PublishLimits::announced(ack);
        self.payload_max = match ack.max_msg_size {
            0 => self.payload_cap,
            announced => announced.min(self.payload_cap),
        };
        Ok(message)
    }

    /// Puts a HEARTBEAT into [`out`](Self::out) if one is due.
    pub fn heartbeat_if_due(&mut self, now: Instant) {
        let Some(liveness) = self.liveness.as_mut().filter(|liveness| liveness.next <= now) else {
            return;
        };
        liveness.next = now + liveness.interval;
        // Above that the network has taken nothing for long; more of the same wouldn't get through either.
        if self.heartbeats_pending < HEARTBEATS_PENDING_MAX {
            self.heartbeats_pending += 1;
            self.out.extend(frame::heartbeat());
        }
    }

    /// Nothing was read for a while because the application was slow: the server's silence counts from now.
    pub fn resumed_reading(&mut self, now: Instant) {
        self.last_received = now;
        if let Some(awaited) = &mut self.awaited {
            awaited.since = now;
        }
    }

    /// The time at which to call [`heartbeat_if_due`](Self::heartbeat_if_due) and [`check`](Self::check) next.
    pub fn deadline(&self, reading: bool) -> Instant {
        let limit = self.limits(reading).map(|(since, timeout, _)| since + timeout).min();
        let heartbeat = self.liveness.as_ref().map(|liveness| liveness.next);
        // Before AUTH's ACK the application can't hold up reading, after it there are heartbeats.
        [limit, heartbeat].into_iter().flatten().min().unwrap_or(self.last_received + self.reply_timeout)
    }

    /// Fails if the server was silent for too long, which only a client that reads can tell.
    pub fn check(&self, now: Instant, reading: bool) -> Result<(), Error> {
        match self.limits(reading).find(|(since, timeout, _)| *since + *timeout <= now) {
            Some((_, after, operation)) => Err(Error::Timeout { operation, after }),
            None => Ok(()),
        }
    }

    fn limits(&self, reading: bool) -> impl Iterator<Item = (Instant, Duration, Operation)> {
        let reply = self.awaited.as_ref().map(|awaited| match awaited.reply_to {
            Request::Auth => (awaited.since, self.reply_timeout, Operation::Authenticate),
            Request::Subscribe(_) => (awaited.since, self.reply_timeout, Operation::Subscribe),
        });
        let silence = self
            .liveness
            .as_ref()
            .map(|liveness| (self.last_received, liveness.timeout, Operation::Heartbeat));
        [reply, silence].into_iter().flatten().filter(move |_| reading)
    }
}

impl Liveness {
    fn announced(ack: &Ack, now: Instant) -> Self {
        let ms = |announced: u32, default_ms: u32| {
            Duration::from_millis(if announced == 0 { default_ms } else { announced }.into())
        };
        let timeout = ms(ack.heartbeat_timeout_ms, TIMEOUT_DEFAULT_MS).max(TIMEOUT_MIN);
        // The server's word, unless its own timeout would then strike, or heartbeats alone exceed the 100 frames
        // a second that it takes.
        let interval =
            ms(ack.heartbeat_interval_ms, INTERVAL_DEFAULT_MS).max(INTERVAL_MIN).min(timeout * 3 / 4);
        Self { interval, timeout, next: now + interval }
    }
}

/// The protocol's defaults, for an ACK without these fields.
const INTERVAL_DEFAULT_MS: u32 = 15_000;
const TIMEOUT_DEFAULT_MS: u32 = 20_000;
const INTERVAL_MIN: Duration = Duration::from_millis(20);
const TIMEOUT_MIN: Duration = Duration::from_millis(40);
/// The protocol's default `max_msg_size`: until the server names its own.
const PAYLOAD_MAX_BEFORE_ACK: u32 = 65_536;
/// The protocol's limit on the events of one PUBLISH, and what it reserves for the rejection of each in the answer, bytes.
const EVENTS_MAX: u32 = 2048;
const VERDICT_LEN: u32 = 32;
/// As many heartbeats as anyone could want.
const HEARTBEATS_PENDING_MAX: u32 = 100;

fn decode<M: prost::Message + Default>(kind: FrameType, frame: Frame<'_>) -> Result<M, BadMessage> {
    M::decode(frame.payload).map_err(|source| BadMessage::Payload { kind, source })
}

#[cfg(test)]
mod tests;
