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

use tickstream_wire::messages::{Ack, ErrorMsg, GoAway, Mode, MsgType};

use crate::action::Report;
use crate::admission::Admission;
use crate::auth_limiter::AuthLimiter;
use crate::batch::SealedFrame;
use crate::clock::{Clock, ClockStep, MS, Now};
use crate::close::{CloseReason, Fault};
use crate::config::{Config, Limits};
use crate::counters::Counters;
use crate::deliveries::Deliveries;
use crate::drain::Drain;
use crate::identity::Identities;
use crate::ids::{ConnId, Sequence, Slot};
use crate::ingest::{Ingest, Source};
use crate::latency::Latencies;
use crate::session::Request;
use crate::slots::Slots;
use crate::streams::Streams;
use crate::wheel::Wheel;

/// Deadlines that one call handles, so that sending gets its turn.
const EXPIRED_PER_CALL: usize = 1_024;
/// Delay that a refused client is told, milliseconds: between so much and twice that, each another time.
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
    /// Connections that have something to do other than the fan-out.
    ready: VecDeque<Slot>,
    /// True if the fan-out had the last turn, not a ready connection.
    fan_out_turn: bool,
    reports: VecDeque<Report>,
    counters: Counters,
    /// The last step of Unix time that wasn't told.
    clock_step: Option<ClockStep>,
    latencies: Latencies,
    deliveries: Deliveries,
    drain: Option<Drain>,
    heartbeat: SealedFrame,
    /// `None`: event collection is off.
    ingest: Option<Box<Ingest>>,
    identities: Identities,
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
            fan_out_turn: false,
            reports: VecDeque::new(),
            counters: Counters::default(),
            clock_step: None,
            latencies: Latencies::default(),
            deliveries: Deliveries::new(),
            drain: None,
            heartbeat: SealedFrame::heartbeat(),
            ingest: config
                .ingest
                .as_ref()
                .map(|ingest| Box::new(Ingest::new(ingest, config.limits.payload_bytes))),
            identities: Identities::default(),
            config,
        }
    }

    /// Bytes came: of TLS, those that it protects. Answers with what isn't the engine's: TLS behind a PROXY header.
    pub fn received<'b>(&mut self, conn: ConnId, mut bytes: &'b [u8]) -> &'b [u8] {
        let Some(slot) = self.slots.find(conn) else { return &[] };
        self.counters.bytes_received += bytes.len() as u64;
        if self.slots[slot].awaits_proxy_header() && !self.take_proxy_header(slot, &mut bytes) {
            return &[];
        }
        let session = &mut self.slots[slot];
        if session.is_handshaking() {
            if !bytes.is_empty() {
                session.note_received(0);
            }
            return bytes;
        }
        if !bytes.is_empty() {
            session.note_received(bytes.len());
        }
        let active = self.clock.active();
        let held_before = session.partial_publish();
        loop {
            let session = &mut self.slots[slot];
            if !session.accepts_frames() {
                break;
            }
            let served = match session.next_request(&mut bytes, &self.config, active) {
                Ok(None) => break,
                Ok(Some(Request::Publish { payload, peer })) => {
                    let source = Source { conn, peer, shard: self.config.shard };
                    let taken = match (&mut self.ingest, self.identities.get(slot)) {
                        (Some(ingest), Some(account)) if account.access().publish => {
                            ingest.publish(payload, source, account, self.clock.now(), active)
                        }
                        (Some(_), _) => Err(not_permitted("publish events", "publish")),
                        (None, _) => Err(not_collected()),
                    };
                    self.published(slot, taken)
                }
                Ok(Some(Request::Authenticate { grant, client })) => self.authenticate(slot, grant, client),
                Ok(Some(Request::Subscribe { mode, resume_after })) => {
                    self.subscribe(slot, mode, resume_after)
                }
                Ok(Some(Request::Heartbeat)) => self.heartbeat(slot),
                Ok(Some(Request::Nothing)) => Ok(()),
                Err(fault) => Err(fault),
            };
            self.counters.frames_received += 1;
            if let Err(fault) = served {
                self.close(slot, fault);
            }
        }
        if let Err(fault) = self.hold_partial(slot, held_before) {
            self.close(slot, fault);
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

    /// Sets the time to `now`. What is told next happened about now.
    pub fn advance(&mut self, now: Now) {
        self.settle_deliveries();
        if let Some(ingest) = &mut self.ingest {
            ingest.begin_pass();
        }
        let Some(step) = self.clock.advance(now) else { return };
        self.counters.count_step(step);
        self.clock_step = Some(step);
        match step {
            ClockStep::Forward(_) => self.streams.skip_to(now, &mut self.counters),
            ClockStep::Back(_) => self.streams.set_back(now),
        }
    }

    /// Sets the time to `now`, after what happened before was told: publishes what is due and looks after deadlines. Call it
    /// at least ten times a second: a longer silence counts as a stall, during which no deadline ages.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
        let active = self.clock.active();
        let late_ns = self.streams.publish_due(now, active, &mut self.counters);
        let lag_ms = self.config.limits.lag_ms;
        if lag_ms > 0 && late_ns > u64::from(lag_ms) * MS {
            self.admission.late(active);
        }
        for _ in 0..EXPIRED_PER_CALL {
            match self.wheel.expire(active) {
                Some(slot) => self.expired(slot),
                None => break,
            }
        }
        self.tell_draining();
    }

    /// Time to call [`Shard::handle_timeout`], on the clock of [`Now::mono_ns`]; `None` if nothing is planned.
    pub fn poll_timeout(&self) -> Option<u64> {
        let now = self.clock.now();
        let tick = self.streams.next_due_ns().map(|due| due.saturating_sub(now.unix_ns));
        let deadline = self.wheel.next_expiry().map(|at| at.saturating_sub(self.clock.active()));
        let drain = self.drain.as_ref().filter(|drain| drain.is_telling()).map(|_| 10 * MS);
        [tick, deadline, drain].into_iter().flatten().min().map(|in_ns| now.mono_ns.saturating_add(in_ns))
    }

    /// True if a tick is due until `unix_ns`.
    pub fn has_tick_until(&self, unix_ns: u64) -> bool {
        self.streams.next_due_ns().is_some_and(|due_ns| due_ns <= unix_ns)
    }

    /// Takes what may change while it runs from `config` ([`Config::reload`]). A user that isn't listed any more loses its
    /// connections, and one without the role subscribe its subscribers. What was counted stays counted.
    pub fn reconfigure(&mut self, config: &Config) {
        let new = &config.limits;
        if new.auth_failures_per_minute != self.config.limits.auth_failures_per_minute {
            self.auth_limiter = AuthLimiter::new(new.auth_failures_per_minute, self.config.seed);
        }
        self.admission.count_again(new, self.slots.counted());
        self.config.reload(config);
        if self.identities.update(&config.credentials) {
            self.close_unpermitted();
        }
    }

    /// Closes every connection in good order within `over_ms`, and takes no more.
    pub fn begin_drain(&mut self, over_ms: u32) {
        if self.drain.is_none() {
            self.drain = Some(Drain::new(self.clock.active(), over_ms, self.slots.end()));
        }
    }

    /// True if no connection is left.
    pub fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// The next connection that ended.
    #[inline]
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// The last step of Unix time, once.
    #[inline]
    pub fn poll_clock_step(&mut self) -> Option<ClockStep> {
        self.clock_step.take()
    }

    fn heartbeat(&mut self, slot: Slot) -> Result<(), Fault> {
        self.counters.heartbeats += 1;
        self.slots[slot].heartbeat_received(self.clock.active());
        self.enqueue(slot, self.heartbeat.clone())
    }

    fn subscribe(&mut self, slot: Slot, mode: Mode, resume_after: Option<u64>) -> Result<(), Fault> {
        if !self.identities.get(slot).is_some_and(|account| account.access().subscribe) {
            return Err(not_permitted("subscribe", "subscribe"));
        }
        self.unsubscribe(slot);
        let session = &mut self.slots[slot];
        let joined = self.streams.join(slot, session.number(), mode, resume_after, self.clock.now());
        session.subscribe(mode, joined);
        self.counters.subscribed += 1;
        self.enqueue(slot, self.ack(MsgType::Subscribe, joined.next_sequence))
    }

    /// Takes the connection out of its stream; a batch that is being sent stays its own.
    fn unsubscribe(&mut self, slot: Slot) {
        if self.slots[slot].subscription().is_none() {
            return;
        }
        self.detach_batch(slot);
        if let Some(membership) = self.slots[slot].unsubscribe()
            && let Some(moved) = self.streams.leave(membership)
        {
            self.slots[moved].moved_to(membership);
        }
    }

    /// The connection is gone, whatever we would still have sent.
    fn lost(&mut self, conn: ConnId, fault: Fault) {
        let Some(slot) = self.slots.find(conn) else { return };
        let session = &mut self.slots[slot];
        if session.is_open() {
            self.close(slot, fault);
        } else if !(fault.reason == CloseReason::PeerClosed && session.peer_closed()) && session.is_ending() {
            self.abort(slot, false);
        }
    }

    /// Decides the end of a connection: its ERROR frame, if it gets one, then FIN.
    fn close(&mut self, slot: Slot, mut fault: Fault) {
        let session = &self.slots[slot];
        if !session.is_open() {
            return;
        }
        if !session.has_received() && matches!(fault.reason, CloseReason::PeerClosed | CloseReason::PeerReset)
        {
            fault.reason = CloseReason::Probe;
        }
        if let Some(limit) = fault.limit {
            self.counters.count_fired(limit);
        }
        let reason = fault.reason;
        let sends_error = session.accepts_frames() && reason.code().is_some();
        let goodbye = sends_error.then(|| error_frame(&fault, session.number()));
        self.leave_pre_auth(slot);
        self.unsubscribe(slot);
        self.report(slot, fault);
        self.stop_publishing(slot);
        match reason {
            CloseReason::PeerClosed | CloseReason::PeerReset | CloseReason::Probe => self.abort(slot, false),
            CloseReason::SlowConsumer => self.abort(slot, true),
            _ => {
                let active = self.clock.active();
                let linger_ns =
                    self.drain.as_ref().map_or(u64::from(Limits::LINGER_MS) * MS, Drain::linger_ns);
                self.slots[slot].flush(goodbye, active, active + linger_ns);
                self.rearm(slot);
                self.make_ready(slot);
            }
        }
    }

    /// Releases a connection at the next opportunity; `reset`: without FIN.
    fn abort(&mut self, slot: Slot, reset: bool) {
        self.slots[slot].abort(reset);
        self.make_ready(slot);
    }

    fn report(&mut self, slot: Slot, fault: Fault) {
        self.counters.count_close(fault.reason);
        let active = self.clock.active();
        let session = &self.slots[slot];
        self.reports.push_back(Report {
            conn: self.slots.id(slot),
            number: session.number(),
            peer: session.peer(),
            reason: fault.reason,
            detail: fault.detail,
            mode: session.mode(),
            open_ms: session.open_ms(active),
            unsent_ms: session.unsent_ms(active),
        });
    }

    /// The deadline of a connection came up: acts on it if it has passed, and sets the next.
    fn expired(&mut self, slot: Slot) {
        let session = &self.slots[slot];
        let Some(deadline) = session.deadline(&self.config) else { return };
        if self.clock.active() < deadline.at {
            return self.wheel.arm(slot, deadline.at);
        }
        match deadline.fault {
            Some((reason, detail)) => self.close(slot, Fault::new(reason, detail)),
            None => {
                let reset = session.has_pending();
                self.abort(slot, reset);
            }
        }
    }

    /// Sets the connection's deadline anew, after something that may have brought it nearer.
    fn rearm(&mut self, slot: Slot) {
        if let Some(deadline) = self.slots[slot].deadline(&self.config) {
            self.wheel.arm(slot, deadline.at);
        }
    }

    /// Tells the next connections to go away, if the server drains.
    fn tell_draining(&mut self) {
        let active = self.clock.active();
        for _ in 0..Drain::per_call() {
            let Some(drain) = &mut self.drain else { return };
            let Some(slot) = drain.next_slot(active) else {
                return;
            };
            let (closes_at, lingers_until) = (drain.closes_at(active), active + drain.linger_ns());
            let session = &mut self.slots[slot];
            if !session.drain(closes_at, lingers_until) {
                continue;
            }
            // Before AUTH it can't be told; it may still learn from a GOAWAY behind the answer to its AUTH.
            if session.is_authenticated()
                && let Err(fault) = self.enqueue(slot, go_away(slot))
            {
                self.close(slot, fault);
            }
            self.rearm(slot);
        }
    }

    fn ack(&self, acked_type: MsgType, next_sequence: Sequence) -> SealedFrame {
        SealedFrame::new(&Ack {
            acked_type: acked_type.into(),
            heartbeat_interval_ms: self.config.heartbeat_interval_ms,
            heartbeat_timeout_ms: self.config.heartbeat_timeout_ms,
            max_msg_size: self.config.limits.payload_bytes,
            batch_window_ms: self.config.batch_window_ms,
            next_sequence: next_sequence.0,
            server_time_ms: self.clock.now().unix_ns / MS,
            publish_credits: self.config.ingest.as_ref().map_or(0, |ingest| ingest.credits.get()),
            max_publish_size: self.config.ingest.as_ref().map_or(0, |ingest| ingest.publish_bytes),
        })
    }

    fn make_ready(&mut self, slot: Slot) {
        if self.slots[slot].make_ready() {
            self.ready.push_back(slot);
        }
    }

    /// Enqueues a reply to the connection.
    fn enqueue(&mut self, slot: Slot, frame: SealedFrame) -> Result<(), Fault> {
        let session = &mut self.slots[slot];
        if session.enqueue(frame, self.clock.active())? && session.make_ready() {
            self.ready.push_back(slot);
        }
        Ok(())
    }
}

/// The fault of a PUBLISH where event collection is off.
fn not_collected() -> Fault {
    let detail = "this server takes no events: event collection is switched off";
    Fault::new(CloseReason::UnsupportedType, detail)
}

/// The fault of a user without a role.
fn not_permitted(what: &str, role: &str) -> Fault {
    let detail = format!("this user may not {what}: it lacks the role {role}");
    Fault::new(CloseReason::PermissionDenied, detail)
}

/// The GOAWAY of the connection in `slot`.
fn go_away(slot: Slot) -> SealedFrame {
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
