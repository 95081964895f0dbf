//! A shard: connections, their streams and their deadlines, joined.
//!
//! This file has what comes in (bytes, time); `arrival` has a connection's way in, `outbound` what goes out, `ingest`
//! the events that are published.

mod arrival;
mod ingest;
mod outbound;
#[cfg(test)]
pub(crate) mod tests;
mod view;

use std::collections::VecDeque;
use std::rc::Rc;

use tickstream_wire::messages::{Ack, ErrorMsg, GoAway, Mode, MsgType};

use crate::action::{ConnId, Report};
use crate::admission::Admission;
use crate::auth_limiter::AuthLimiter;
use crate::batch::SealedFrame;
use crate::clock::{Clock, Lived, MS, Now};
use crate::close::{CloseReason, Fault};
use crate::config::{Config, Limits};
use crate::counters::Counters;
use crate::drain::Drain;
use crate::ingest::Ingest;
use crate::latency::Latencies;
use crate::outbox::Item;
use crate::session::{Request, Sending, State};
use crate::slots::Slots;
use crate::streams::Streams;
use crate::tally::Tally;
use crate::wheel::Wheel;

/// Deadlines that one call handles, so that sending gets its turn.
const EXPIRED_PER_CALL: usize = 1_024;
/// What a refused client is told to wait, milliseconds: between so much and twice that, each another time.
const BUSY_RETRY_AFTER_MS: u32 = 1_000;

/// The whole server on one core, without its sockets. See the crate's documentation for how it is driven.
#[derive(Debug)]
pub struct Shard {
    config: Config,
    clock: Clock,
    slots: Slots,
    streams: Streams,
    admission: Admission,
    auth_limiter: AuthLimiter,
    wheel: Wheel,
    /// Connections that have something to do other than the wave.
    ready: VecDeque<u32>,
    /// Whose turn it is: the ready ones' or the wave's.
    wave_turn: bool,
    reports: VecDeque<Report>,
    counters: Counters,
    latencies: Latencies,
    tally: Tally,
    drain: Option<Drain>,
    heartbeat: SealedFrame,
    /// `None`: event collection is off.
    ingest: Option<Box<Ingest>>,
    /// The user that AUTH names.
    user: Rc<str>,
}

impl Shard {
    /// A shard without connections at time `now`.
    pub fn new(config: Config, now: Now) -> Self {
        Self {
            clock: Clock::new(now),
            slots: Slots::default(),
            streams: Streams::new(&config),
            admission: Admission::new(&config.limits),
            auth_limiter: AuthLimiter::new(config.limits.auth_failures_per_minute, config.seed),
            wheel: Wheel::new(),
            ready: VecDeque::new(),
            wave_turn: false,
            reports: VecDeque::new(),
            counters: Counters::default(),
            latencies: Latencies::default(),
            tally: Tally::new(),
            drain: None,
            heartbeat: SealedFrame::heartbeat(),
            ingest: config
                .ingest
                .as_ref()
                .map(|ingest| Box::new(Ingest::new(ingest, config.limits.payload_bytes))),
            user: config.credentials.user().into(),
            config,
        }
    }

    /// Bytes came: of TLS, those that it protects. Answers with what isn't the engine's: TLS behind a PROXY header.
    pub fn received<'b>(&mut self, conn: ConnId, mut bytes: &'b [u8]) -> &'b [u8] {
        let Some(slot) = self.slots.find(conn) else { return &[] };
        self.counters.bytes_received += bytes.len() as u64;
        if self.slots[slot].state == State::Proxied && !self.take_proxy_header(slot, &mut bytes) {
            return &[];
        }
        self.slots[slot].heard |= !bytes.is_empty();
        if self.slots[slot].state == State::Handshaking {
            return bytes;
        }
        // The decoder is taken out while its frames, which borrow from it, are acted upon.
        let mut decoder = std::mem::take(&mut self.slots[slot].decoder);
        let held = decoder.publish_buffered();
        while self.slots[slot].state.speaks() {
            let session = &mut self.slots[slot];
            let payload_max = session.payload_bytes_max(&self.config);
            let lived = self.clock.lived();
            let served = match decoder.next(&mut bytes, payload_max) {
                Ok(None) => {
                    decoder.release();
                    self.slots[slot].decoder = decoder;
                    if let Err(fault) = self.hold_partial(slot, held) {
                        self.close(slot, fault);
                    }
                    return &[];
                }
                Ok(Some(frame)) => {
                    self.counters.frames_received += 1;
                    match session.judge(frame, &self.config, lived) {
                        Ok(Request::Publish) => self.publish(slot, frame.payload),
                        Ok(request) => self.serve(slot, request),
                        Err(fault) => Err(fault),
                    }
                }
                Err(error) => {
                    self.counters.frames_received += 1;
                    Err(Fault::from(error))
                }
            };
            if let Err(fault) = served {
                self.close(slot, fault);
            }
        }
        // It was closed, and its decoder is dropped with what it held.
        if let Some(ingest) = &mut self.ingest {
            ingest.hold(held, 0);
        }
        &[]
    }

    /// The peer closed its side.
    pub fn peer_closed(&mut self, conn: ConnId) {
        self.lost(conn, Fault::new(CloseReason::PeerClosed, ""));
    }

    /// The connection broke; `error` says how.
    pub fn peer_reset(&mut self, conn: ConnId, error: String) {
        self.lost(conn, Fault::new(CloseReason::PeerReset, error));
    }

    /// It is `now`. What is told next happened about now.
    pub fn advance(&mut self, now: Now) {
        self.settle_tally();
        if let Some(ingest) = &mut self.ingest {
            ingest.begin_pass();
        }
        if self.clock.advance(now) {
            self.streams.skip_to(now, &mut self.counters);
        }
    }

    /// It is `now`, and what happened before was told: publishes what is due and looks after deadlines. Call it
    /// at least ten times a second: a longer silence counts as a stall, during which no deadline ages.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
        let lived = self.clock.lived();
        let late_ns = self.streams.publish_due(now, lived, &mut self.counters);
        let lag_ms = self.config.limits.lag_ms;
        if lag_ms > 0 && late_ns > u64::from(lag_ms) * MS {
            self.admission.late(lived);
        }
        for _ in 0..EXPIRED_PER_CALL {
            match self.wheel.expire(lived) {
                Some(slot) => self.expired(slot),
                None => break,
            }
        }
        self.tell_draining();
    }

    /// When to call [`Shard::handle_timeout`], on the clock of [`Now::mono_ns`]; `None` if nothing is planned.
    pub fn poll_timeout(&self) -> Option<u64> {
        let now = self.clock.now();
        let tick = self.streams.next_due_ns().map(|due| due.saturating_sub(now.unix_ns));
        let deadline = self.wheel.next_expiry().map(|at| at.saturating_sub(self.clock.lived()));
        let drain = self.drain.as_ref().filter(|drain| drain.is_telling()).map(|_| 10 * MS);
        [tick, deadline, drain].into_iter().flatten().min().map(|in_ns| now.mono_ns.saturating_add(in_ns))
    }

    /// Takes what may change while it runs from `config`: credentials, whose PROXY headers are believed, deadlines of
    /// those who arrive, and limits but for the sizes that clients were told of. What was counted stays counted.
    pub fn reconfigure(&mut self, config: &Config) {
        let new = &config.limits;
        if new.auth_failures_per_minute != self.config.limits.auth_failures_per_minute {
            self.auth_limiter = AuthLimiter::new(new.auth_failures_per_minute, self.config.seed);
        }
        self.admission.count_again(new, self.slots.counted());
        self.rename_user(config.credentials.user());
        self.config.credentials = config.credentials.clone();
        self.config.proxy_protocol = config.proxy_protocol;
        self.config.proxy_trusted.clone_from(&config.proxy_trusted);
        let old = self.config.limits;
        self.config.limits = Limits {
            payload_bytes: old.payload_bytes,
            write_deadline_ms: old.write_deadline_ms,
            replay_window_ms: old.replay_window_ms,
            replay_ticks: old.replay_ticks,
            ..*new
        };
    }

    /// Closes every connection in good order within `over_ms`, and takes no more.
    pub fn begin_drain(&mut self, over_ms: u32) {
        if self.drain.is_none() {
            self.drain = Some(Drain::new(self.clock.lived(), over_ms, self.slots.end()));
        }
    }

    /// Whether no connection is left.
    pub fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// The next connection that ended.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// Does what a valid frame asks for.
    fn serve(&mut self, slot: u32, request: Request) -> Result<(), Fault> {
        match request {
            Request::Authenticate { accepted } => self.authenticate(slot, accepted),
            Request::Subscribe { mode, resume_after } => self.subscribe(slot, mode, resume_after),
            Request::Heartbeat => {
                self.counters.heartbeats += 1;
                self.slots[slot].heartbeat = self.clock.lived();
                self.owe(slot, self.heartbeat.clone())
            }
            // A PUBLISH is served where its payload is.
            Request::Publish | Request::Nothing => Ok(()),
        }
    }

    fn subscribe(&mut self, slot: u32, mode: Mode, resume_after: Option<u64>) -> Result<(), Fault> {
        self.unsubscribe(slot);
        let number = self.slots[slot].number;
        let joined = self.streams.join(slot, number, mode, resume_after, self.clock.now())?;
        self.counters.subscribed += 1;
        let session = &mut self.slots[slot];
        session.mode = Some(mode);
        session.membership = Some(joined.membership);
        session.next_sequence = joined.first;
        session.replaying = joined.replaying;
        self.owe(slot, self.ack(MsgType::Subscribe, joined.first))
    }

    /// Takes the connection out of its stream; a batch that is being sent stays its own.
    fn unsubscribe(&mut self, slot: u32) {
        self.detach_batch(slot);
        if let Some(membership) = self.slots[slot].membership.take()
            && let Some(moved) = self.streams.leave(membership)
        {
            self.slots[moved].membership = Some(membership);
        }
    }

    /// The connection is gone, whatever we would still have sent.
    fn lost(&mut self, conn: ConnId, fault: Fault) {
        let Some(slot) = self.slots.find(conn) else { return };
        match self.slots[slot].state {
            // It may still read why it is closed.
            State::Flushing if fault.reason == CloseReason::PeerClosed => self.slots[slot].peer_closed = true,
            State::Flushing | State::Lingering => self.doom(slot, false),
            _ => self.close(slot, fault),
        }
    }

    /// Decides the end of a connection: its ERROR frame, if it gets one, then FIN.
    fn close(&mut self, slot: u32, mut fault: Fault) {
        let session = &mut self.slots[slot];
        let state = session.state;
        if !state.speaks() && !state.is_unproven() {
            return;
        }
        if !session.heard && matches!(fault.reason, CloseReason::PeerClosed | CloseReason::PeerReset) {
            fault.reason = CloseReason::Probe;
        }
        if let Some(limit) = fault.limit {
            self.counters.count_fired(limit);
        }
        self.proven(slot);
        self.unsubscribe(slot);
        let reason = fault.reason;
        let is_told = state.speaks() && reason.code().is_some();
        let goodbye = is_told.then(|| error_frame(&fault, self.slots[slot].number));
        self.report(slot, fault);
        self.stop_publishing(slot);
        let session = &mut self.slots[slot];
        session.decoder = Default::default();
        session.arrival = None;
        match reason {
            CloseReason::PeerClosed | CloseReason::PeerReset | CloseReason::Probe => self.doom(slot, false),
            CloseReason::SlowConsumer => self.doom(slot, true),
            _ => {
                let lived = self.clock.lived();
                let linger_ns =
                    self.drain.as_ref().map_or(u64::from(Limits::LINGER_MS) * MS, Drain::linger_ns);
                let session = &mut self.slots[slot];
                session.state = State::Flushing;
                session.ends = lived + linger_ns;
                if let Some(goodbye) = goodbye {
                    session.outbox.push(Item::reply(goodbye, lived));
                }
                self.rearm(slot);
                self.make_ready(slot);
            }
        }
    }

    /// Lets go of a connection at the next opportunity.
    fn doom(&mut self, slot: u32, abort: bool) {
        let session = &mut self.slots[slot];
        session.state = State::Doomed;
        session.abort = abort;
        self.make_ready(slot);
    }

    fn report(&mut self, slot: u32, fault: Fault) {
        self.counters.count_close(fault.reason);
        let lived = self.clock.lived();
        let session = &self.slots[slot];
        self.reports.push_back(Report {
            conn: self.slots.id(slot),
            number: session.number,
            peer: session.peer,
            reason: fault.reason,
            detail: fault.detail,
            mode: session.mode,
            open_ms: (lived - session.opened) / MS,
            unsent_ms: session.outbox.oldest().map_or(0, |since| lived.saturating_sub(since) / MS),
        });
    }

    /// The deadline of a connection came up: acts on it if it has passed, and sets the next.
    fn expired(&mut self, slot: u32) {
        let (deadline, fault) = self.deadline(slot);
        if self.clock.lived() < deadline {
            return self.wheel.arm(slot, deadline);
        }
        match fault {
            Some(fault) => self.close(slot, fault),
            None => {
                let abort = !self.slots[slot].outbox.is_empty();
                self.doom(slot, abort);
            }
        }
    }

    /// Sets the connection's deadline anew, after something that may have brought it nearer.
    fn rearm(&mut self, slot: u32) {
        let (deadline, _) = self.deadline(slot);
        self.wheel.arm(slot, deadline);
    }

    /// The connection's next deadline, and the fault if it passes; without one, it is let go of.
    fn deadline(&self, slot: u32) -> (Lived, Option<Fault>) {
        let session = &self.slots[slot];
        let after = |since: Lived, ms: u32| since + u64::from(ms) * MS;
        let limits = &self.config.limits;
        let (at, reason, detail) = match session.state {
            state if session.draining && (state.speaks() || state.is_unproven()) => {
                (session.ends, CloseReason::ShuttingDown, "the server is shutting down")
            }
            State::Proxied => {
                let at = after(session.opened, limits.auth_timeout_ms);
                (at, CloseReason::AuthTimeout, "no PROXY header in time")
            }
            State::Handshaking => {
                let at = after(session.opened, limits.handshake_timeout_ms);
                (at, CloseReason::HandshakeTimeout, "no TLS handshake in time")
            }
            State::Unauthenticated => {
                let at = after(session.heartbeat, limits.auth_timeout_ms);
                (at, CloseReason::AuthTimeout, "no AUTH in time")
            }
            State::Authenticated => {
                let at = after(session.heartbeat, self.config.heartbeat_timeout_ms);
                (at, CloseReason::HeartbeatTimeout, "no HEARTBEAT in time")
            }
            State::Flushing | State::Lingering | State::Doomed | State::Free => return (session.ends, None),
        };
        match session.outbox.oldest().map(|since| after(since, limits.write_deadline_ms)) {
            Some(write) if write < at => {
                let detail = "its oldest unsent byte is past the write deadline";
                (write, Some(Fault::new(CloseReason::SlowConsumer, detail)))
            }
            _ => (at, Some(Fault::new(reason, detail))),
        }
    }

    /// Tells the next connections to go away, if the server drains.
    fn tell_draining(&mut self) {
        let lived = self.clock.lived();
        for _ in 0..Drain::per_call() {
            let Some(drain) = &mut self.drain else { return };
            let Some(slot) = drain.next_slot(lived) else {
                return;
            };
            let (closes_at, lingers_until) = (drain.closes_at(lived), lived + drain.linger_ns());
            let session = &mut self.slots[slot];
            match session.state {
                State::Authenticated => {
                    session.draining = true;
                    session.ends = closes_at;
                    if let Err(fault) = self.owe(slot, go_away(slot)) {
                        self.close(slot, fault);
                    }
                    self.rearm(slot);
                }
                // It can't be told yet; it may still learn from a GOAWAY behind the answer to its AUTH.
                State::Proxied | State::Handshaking | State::Unauthenticated => {
                    session.draining = true;
                    session.ends = closes_at;
                    self.rearm(slot);
                }
                State::Flushing | State::Lingering => {
                    session.ends = session.ends.min(lingers_until);
                    self.rearm(slot);
                }
                State::Free | State::Doomed => {}
            }
        }
    }

    fn ack(&self, acked_type: MsgType, next_sequence: u64) -> SealedFrame {
        SealedFrame::new(&Ack {
            acked_type: acked_type.into(),
            heartbeat_interval_ms: self.config.heartbeat_interval_ms,
            heartbeat_timeout_ms: self.config.heartbeat_timeout_ms,
            max_msg_size: self.config.limits.payload_bytes,
            batch_window_ms: self.config.batch_window_ms,
            next_sequence,
            server_time_ms: self.clock.now().unix_ns / MS,
            publish_credits: self.config.ingest.as_ref().map_or(0, |ingest| ingest.credits.get()),
            max_publish_size: self.config.ingest.as_ref().map_or(0, |ingest| ingest.publish_bytes),
        })
    }

    fn make_ready(&mut self, slot: u32) {
        let session = &mut self.slots[slot];
        if !session.queued {
            session.queued = true;
            self.ready.push_back(slot);
        }
    }

    /// Appends a reply to what the connection is owed.
    fn owe(&mut self, slot: u32, frame: SealedFrame) -> Result<(), Fault> {
        let lived = self.clock.lived();
        let session = &mut self.slots[slot];
        let full = matches!(session.sending, Sending::Full | Sending::Blocked);
        if full && session.outbox.len() >= Limits::FRAMES_OWED {
            return Err(Fault::new(CloseReason::SlowConsumer, "it asks without reading the answers"));
        }
        session.outbox.push(Item::reply(frame, lived));
        if session.sending == Sending::Idle {
            self.make_ready(slot);
        }
        Ok(())
    }
}

/// The GOAWAY of the connection in `slot`.
fn go_away(slot: u32) -> SealedFrame {
    let reason = "the server is shutting down".to_owned();
    SealedFrame::new(&GoAway { reason, retry_after_ms: Drain::retry_after_ms(slot) })
}

/// The ERROR frame that tells the `number`th peer why it is closed.
fn error_frame(fault: &Fault, number: u64) -> SealedFrame {
    let retry_after_ms = match fault.reason {
        _ if fault.retry_after_ms > 0 => fault.retry_after_ms,
        CloseReason::ServerBusy
        | CloseReason::RateLimited
        | CloseReason::ShuttingDown
        | CloseReason::Kicked => {
            // Consecutive numbers fall evenly over the range.
            BUSY_RETRY_AFTER_MS + (number as u32).wrapping_mul(0x9E37_79B1) % BUSY_RETRY_AFTER_MS
        }
        _ => 0,
    };
    let code = fault.reason.code().map_or("", |code| code.as_str());
    SealedFrame::new(&ErrorMsg { code: code.to_owned(), message: fault.detail.to_string(), retry_after_ms })
}
