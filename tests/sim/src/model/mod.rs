//! The reference model: what docs/protocol.md lets a shard do, and what the shard was told and did so far.
//!
//! The model is told of each call and each answer, in their order, and panics at the first that is wrong.

mod conn;
mod gate;
mod history;
mod input;
mod output;
mod publisher;
mod publishing;
mod stored;

use std::net::SocketAddr;

use tickstream_engine::{CloseReason, ConnId, Counters, Limit, Refused, Report, Shard, Slot, Standing};

use conn::PendingReply;
pub use conn::{Closing, Conn, Header, Phase, Reply};
use gate::{Gate, address};
use history::History;
use publisher::Publisher;
use publishing::Publishing;

use crate::rules::Rules;
use crate::ticks::{MS, Stream};
use crate::wire;

/// The wheel's resolution: a deadline is noticed so much later at most.
const LATE_NS: u64 = 50 * MS;
const LINGER_NS: u64 = 2_000 * MS;
/// Frames that a client whose socket is full may have pending.
const FRAMES_PENDING_MAX: usize = 64;

/// A wall clock that was set forward: what was sent before, and until when ticks were left out.
#[derive(Clone, Copy, Debug)]
struct Step {
    before: u64,
    after: u64,
    /// The least that the clock was set back to behind the step: ticks from there on are published after all.
    after_least: u64,
}

#[derive(Clone, Copy, Debug)]
struct Drain {
    began: u64,
    over_ns: u64,
}

pub struct Model {
    pub rules: Rules,
    pub streams: [Stream; 2],
    pub conns: Vec<Conn>,
    pub gate: Gate,
    /// Expected counters of the shard, but for events.
    pub expected: Counters,
    /// `None`: events aren't collected.
    pub publishing: Option<Publishing>,
    mono: u64,
    pub wall: u64,
    pub active_ns: u64,
    wall_most: u64,
    /// The latest since the last step: where the shard stands in its streams.
    wall_high: u64,
    /// The wall clock when all was sent last.
    wall_settled: u64,
    was_settled: bool,
    steps: Vec<Step>,
    history: History,
    drain: Option<Drain>,
    pub actions: u64,
    /// Frames that the shard has counted in the call that is checked.
    pub frames_counted: u64,
    /// The driver is held up on purpose.
    pub is_overloaded: bool,
}

impl Model {
    pub fn new(rules: Rules, shard: u16, mono: u64, wall: u64) -> Self {
        let streams = [rules.stream(0), rules.stream(1)];
        let mut history = History::default();
        history.push(wall, wall, 0);
        history.settle();
        Self {
            publishing: rules.events.as_ref().map(|events| Publishing::new(events, shard.into())),
            rules,
            streams,
            conns: Vec::new(),
            gate: Gate::new(),
            expected: Counters::default(),
            mono,
            wall,
            active_ns: 0,
            wall_most: wall,
            wall_high: wall,
            wall_settled: wall,
            was_settled: true,
            steps: Vec::new(),
            history,
            drain: None,
            actions: 0,
            frames_counted: 0,
            is_overloaded: false,
        }
    }

    // ---- Time ---------------------------------------------------------------------------------------------

    /// A longer silence than 0.5 s was a stall, which ages nobody; a clock that gains more than that was set.
    pub fn advance(&mut self, mono: u64, wall: u64) {
        let passed = mono - self.mono;
        self.active_ns += if passed > 500 * MS { 100 * MS } else { passed };
        let expected = self.wall + passed;
        self.wall_high = self.wall_high.max(wall);
        if wall > expected + 500 * MS {
            let before = self.wall_settled.min(self.wall);
            self.steps.push(Step { before, after: wall, after_least: wall });
            self.expected.clock_forward.steps += 1;
            self.expected.clock_forward.ns += wall - expected;
            self.wall_high = wall;
        } else if wall + 500 * MS < expected.max(self.wall_high) {
            self.expected.clock_back.steps += 1;
            self.expected.clock_back.ns += expected.max(self.wall_high) - wall;
            self.wall_high = wall;
            self.history.set_back(wall);
            for step in &mut self.steps {
                step.after_least = step.after_least.min(wall);
            }
        }
        if wall < self.wall {
            self.wall_settled = self.wall_settled.min(wall);
        }
        (self.mono, self.wall) = (mono, wall);
        self.wall_most = self.wall_most.max(wall);
    }

    /// Called behind `handle_timeout`.
    pub fn timed(&mut self) {
        self.history.push(self.wall, self.wall_most, self.active_ns);
        let lag_ns = u64::from(self.rules.lag_ms) * MS;
        if lag_ns > 0 {
            if self.wall.saturating_sub(self.wall_settled) > lag_ns || !self.was_settled {
                self.gate.maybe_late_until = self.active_ns + 1_000 * MS;
            }
            let is_late = |conn: &Conn, streams: &[Stream; 2], wall: u64| {
                conn.subscription.as_ref().is_some_and(|subscription| {
                    let stream = &streams[subscription.mode];
                    let phase = subscription.phase_ms.filter(|_| subscription.is_live);
                    phase.is_some_and(|phase| {
                        let next =
                            stepped_over(&self.steps[subscription.steps..], stream, subscription.next, phase);
                        wall > stream.batch_due_ns(next) + phase * MS + lag_ns
                    })
                })
            };
            let is_plain =
                self.was_settled && self.steps.last().is_none_or(|step| step.after < self.wall_settled);
            let streams = self.streams;
            if is_plain
                && self.wall == self.wall_most
                && self.wall_settled < self.wall
                && self.conns.iter().any(|conn| {
                    conn.phase == Phase::Authenticated
                        && conn.mode == conn.subscription.as_ref().map(|subscription| subscription.mode)
                        && conn.frames() == 0
                        && is_late(conn, &streams, self.wall)
                })
            {
                self.gate.late_until = self.active_ns + 1_000 * MS;
                self.gate.maybe_late_until = self.active_ns + 1_000 * MS;
            }
        }
        self.was_settled = false;
        for conn in &mut self.conns {
            conn.is_over = conn.closing.is_some_and(|closing| self.active_ns >= closing.ends + LATE_NS);
        }
        self.check_deadlines();
    }

    /// Nothing that should have ended is still there.
    fn check_deadlines(&self) {
        for conn in self.conns.iter().filter(|conn| !conn.is_gone) {
            let late = |since: u64, ms: u32| self.active_ns >= since + u64::from(ms) * MS + LATE_NS;
            if conn.closing.is_some() {
                continue;
            }
            if conn.is_full
                && let Some(underway) = &conn.underway
            {
                // What is too old when the socket fills up is noticed as late as any deadline.
                let is_noticed = self.active_ns >= conn.full_since + LATE_NS;
                let is_over = is_noticed && late(underway.since_latest, self.rules.write_deadline_ms);
                assert!(!is_over, "the write deadline of {conn:?} has passed at {}", self.active_ns);
            }
            if self.drain.is_some() {
                continue;
            }
            let is_over = match conn.phase {
                Phase::Proxied => late(conn.opened, conn.auth_ms.1),
                Phase::Handshaking => late(conn.opened, self.rules.handshake_timeout_ms),
                Phase::Unauthenticated => late(conn.since, conn.auth_ms.1),
                Phase::Authenticated => late(conn.since, self.rules.heartbeat_timeout_ms),
                Phase::Closing => false,
            };
            assert!(!is_over, "the deadline of {conn:?} has passed at {}", self.active_ns);
        }
        if let Some(drain) = self.drain {
            let slack_ns = if self.is_overloaded { 3_000 * MS } else { 0 };
            let is_over = self.active_ns >= drain.began + drain.over_ns + slack_ns;
            assert!(!is_over || self.gate.open == 0, "{} left behind the drain's end", self.gate.open);
        }
    }

    /// The end of a pass. All is sent and answered if the shard has no more to do and no send is unanswered.
    pub fn passed(&mut self, shard: &Shard, is_settled: bool) {
        for conn in &mut self.conns {
            if !conn.is_ready() {
                conn.served_by = None;
            } else {
                // Those that were ready before it, each in turn with one of a fan-out.
                let by = *conn.served_by.get_or_insert(self.actions + 2 * u64::from(self.gate.open) + 8);
                assert!(self.actions <= by, "{conn:?} waits for its turn behind {} actions", self.actions);
            }
        }
        let due = shard.poll_timeout();
        if !is_settled || due.is_some_and(|due| due <= self.mono) {
            return;
        }
        (self.was_settled, self.wall_settled) = (true, self.wall);
        self.history.settle();
        for conn in self.conns.iter_mut().filter(|conn| !conn.is_gone) {
            assert!(!conn.is_over, "{conn:?} outlives its end");
            if conn.is_full {
                continue;
            }
            assert!(conn.frames() == 0, "nothing goes on, and {conn:?} has pending frames");
            let is_subscribed = conn.phase == Phase::Authenticated && conn.subscription.is_some();
            if let Some(subscription) = &mut conn.subscription {
                subscription.is_live = true;
            }
            let Some(subscription) = conn.subscription.as_ref().filter(|_| is_subscribed) else {
                continue;
            };
            let stream = &self.streams[subscription.mode];
            let phase = subscription.phase_ms.unwrap_or(stream.phases - 1);
            let expected = stream.due_end(self.wall, phase);
            let next = stepped_over(&self.steps[subscription.steps..], stream, subscription.next, phase);
            if subscription.phase_ms.is_none() && self.steps.len() > subscription.steps {
                // What was stepped over depends on the phase.
                continue;
            }
            assert!(
                next >= expected,
                "{conn:?} lacks the ticks before {expected}, behind {next}, at {}; {:?}",
                self.wall,
                self.steps
            );
            if subscription.phase_ms.is_none() {
                continue;
            }
            let next_ns = stream.batch_due_ns(next.max(subscription.live.1)) + phase * MS;
            let sleeps_ns = due.map_or(u64::MAX, |due| due - self.mono);
            let is_awake = next_ns.saturating_sub(self.wall) >= sleeps_ns.min(100 * MS);
            assert!(is_awake, "{conn:?} has a tick in {} ns, {sleeps_ns} ns are slept", next_ns - self.wall);
        }
    }

    // ---- Arrival ------------------------------------------------------------------------------------------

    /// The shard's answer to a connection.
    pub fn accepted(
        &mut self,
        peer: SocketAddr,
        tls: bool,
        is_trusted: bool,
        header: Header,
        answer: &Result<ConnId, Refused>,
    ) -> Option<usize> {
        let is_proxied = is_trusted && self.rules.proxy > 0;
        let from = address(peer.ip());
        let known = (!is_proxied).then_some(from);
        let (must, may) = self.gate.refusals(&self.rules, known, tls, self.active_ns);
        let refused = match answer {
            Ok(id) => {
                assert!(self.drain.is_none() && must.is_empty(), "taken against {must:?}");
                assert!(self.rules.proxy < 2 || is_trusted, "taken from an untrusted proxy");
                let is_used =
                    self.conns.iter().any(|conn| conn.id == *id || !conn.is_gone && conn.id.slot == id.slot);
                assert!(!is_used, "{id:?} is used twice");
                self.gate.let_in(&self.rules);
                if !is_proxied {
                    self.gate.hold(from);
                }
                self.expected.accepted += 1;
                self.conns.push(self.conn(*id, peer, tls, is_proxied, header));
                return Some(self.conns.len() - 1);
            }
            Err(refused) => refused,
        };
        self.expected.refused += 1;
        let is_silent = tls || is_proxied;
        match refused.reason {
            CloseReason::ShuttingDown => assert!(self.drain.is_some() && refused.limit.is_none()),
            CloseReason::BadProxyHeader => {
                assert!(self.rules.proxy == 2 && !is_trusted && refused.limit == Some(Limit::UntrustedProxy));
            }
            _ => {
                let limit = refused.limit.expect("a limit");
                assert_eq!(refused.reason, CloseReason::ServerBusy);
                assert!(
                    must.contains(&limit) || may.contains(&limit),
                    "{limit:?} fired, it should be {must:?}"
                );
            }
        }
        if let Some(limit) = refused.limit {
            self.expected.fired[limit as usize] += 1;
        }
        match &refused.frame {
            None => assert!(is_silent || refused.reason == CloseReason::BadProxyHeader, "no ERROR"),
            Some(frame) => {
                assert!(!is_silent, "an ERROR that nobody can read");
                let code = if self.drain.is_some() { "SHUTTING_DOWN" } else { "SERVER_BUSY" };
                self.check_error(frame.as_bytes(), code, (1_000, 1_999));
            }
        }
        None
    }

    fn conn(&self, id: ConnId, peer: SocketAddr, tls: bool, is_proxied: bool, header: Header) -> Conn {
        Conn {
            id,
            number: self.expected.accepted,
            peer,
            tls,
            user: None,
            phase: match (is_proxied, tls) {
                (true, _) => Phase::Proxied,
                (_, true) => Phase::Handshaking,
                _ => Phase::Unauthenticated,
            },
            opened: self.active_ns,
            since: self.active_ns,
            auth_ms: (self.rules.auth_timeout_ms, self.rules.auth_timeout_ms),
            header,
            header_seen: 0,
            is_counted: !is_proxied,
            is_pre_auth: true,
            is_over: false,
            has_received: false,
            unread: Vec::new(),
            budget: (0, 0),
            pending_replies: Default::default(),
            publisher: Publisher::new(),
            subscription: None,
            mode: None,
            underway: None,
            is_full: false,
            full_since: 0,
            is_awaited: false,
            is_shut: false,
            peer_closed: false,
            broken: false,
            goaway_seen: false,
            error_begun: false,
            closing: None,
            bytes_sent: 0,
            served_by: None,
            is_gone: false,
        }
    }

    pub fn secured(&mut self, index: usize, user: Option<String>, resumed: bool) {
        let conn = &mut self.conns[index];
        if conn.phase != Phase::Handshaking {
            return;
        }
        (conn.phase, conn.since, conn.user) = (Phase::Unauthenticated, self.active_ns, user);
        if resumed {
            self.expected.handshakes_resumed += 1;
        } else {
            self.expected.handshakes_full += 1;
        }
    }

    pub fn reconfigured(&mut self, rules: Rules) {
        if rules.auth_failures_per_minute != self.rules.auth_failures_per_minute {
            self.gate.forget_failures();
        }
        for conn in &mut self.conns {
            let (least, most) = conn.auth_ms;
            conn.auth_ms = (least.min(rules.auth_timeout_ms), most.max(rules.auth_timeout_ms));
        }
        self.rules = rules;
    }

    pub fn drained(&mut self, over_ms: u32) {
        self.drain.get_or_insert(Drain { began: self.active_ns, over_ns: u64::from(over_ms.max(500)) * MS });
    }

    // ---- The end of a connection --------------------------------------------------------------------------

    /// Its end is decided.
    fn end(&mut self, index: usize, reason: CloseReason, retry_ms: (u32, u32), limit: Option<Limit>) {
        let linger_ns = self.drain.map_or(LINGER_NS, |drain| LINGER_NS.min(drain.over_ns / 5));
        let active_ns = self.active_ns;
        let conn = &mut self.conns[index];
        assert!(conn.closing.is_none(), "ended twice");
        let reason = match reason {
            CloseReason::PeerClosed | CloseReason::PeerReset if !conn.has_received => CloseReason::Probe,
            reason => reason,
        };
        let sends_error =
            conn.accepts_frames() && reason.code().is_some() && reason != CloseReason::SlowConsumer;
        if sends_error {
            let code = expected_code(reason);
            conn.pending_replies
                .push_back(PendingReply { reply: Reply::Error { code, retry_ms }, since: active_ns });
        }
        use CloseReason::{PeerClosed, PeerReset, Probe, SlowConsumer};
        let is_aborted = matches!(reason, PeerClosed | PeerReset | Probe | SlowConsumer);
        conn.closing = Some(Closing {
            reason,
            ends: active_ns + linger_ns,
            is_aborted,
            is_reported: false,
            sends_error,
        });
        if let Some(mode) = conn.mode
            && conn.phase == Phase::Authenticated
        {
            self.expected.streams[mode].subscribers -= 1;
        }
        conn.phase = Phase::Closing;
        conn.unread = Vec::new();
        // Nobody waits for the answers; what was published is stored all the same.
        conn.publisher.pending.clear();
        self.leave_pre_auth(index);
        self.expected.closed[reason as usize] += 1;
        if let Some(limit) = limit {
            self.expected.fired[limit as usize] += 1;
        }
    }

    fn leave_pre_auth(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        if std::mem::take(&mut conn.is_pre_auth) {
            self.gate.unauthenticated -= 1;
            if conn.is_counted {
                self.gate.held.get_mut(&address(conn.peer.ip())).expect("it is counted").1 -= 1;
            }
        }
    }

    /// The shard says that a connection ended.
    pub fn reported(&mut self, index: usize, report: &Report) {
        let (active_ns, drain) = (self.active_ns, self.drain);
        if self.conns[index].closing.is_none() {
            let conn = &self.conns[index];
            let past = |since: u64, ms: u32| active_ns >= since + u64::from(ms) * MS;
            let (is_right, retry_ms) = match report.reason {
                CloseReason::AuthTimeout => {
                    let since = if conn.phase == Phase::Proxied { conn.opened } else { conn.since };
                    let awaits = matches!(conn.phase, Phase::Proxied | Phase::Unauthenticated);
                    (awaits && past(since, conn.auth_ms.0), (0, 0))
                }
                CloseReason::HandshakeTimeout => (
                    conn.phase == Phase::Handshaking && past(conn.opened, self.rules.handshake_timeout_ms),
                    (0, 0),
                ),
                CloseReason::HeartbeatTimeout => (
                    conn.phase == Phase::Authenticated && past(conn.since, self.rules.heartbeat_timeout_ms),
                    (0, 0),
                ),
                CloseReason::ShuttingDown => {
                    let grace = |drain: Drain| drain.began + (drain.over_ns / 5).min(1_000 * MS);
                    (drain.is_some_and(|drain| active_ns >= grace(drain)), (1_000, 1_999))
                }
                CloseReason::SlowConsumer => (self.may_be_slow(conn), (0, 0)),
                _ => (false, (0, 0)),
            };
            assert!(is_right, "at {active_ns} nothing ends {conn:?}: {report:?}");
            self.end(index, report.reason, retry_ms, None);
        }
        let conn = &mut self.conns[index];
        let closing = conn.closing.as_mut().expect("its end is decided");
        assert!(!closing.is_reported, "reported twice: {report:?}");
        assert_eq!(report.reason, closing.reason, "{report:?}");
        closing.is_reported = true;
        let mode = report.mode.map(|mode| mode as usize);
        assert_eq!((report.number, report.peer, mode), (conn.number, conn.peer, conn.mode), "{report:?}");
        assert_eq!(report.open_ms, (active_ns - conn.opened) / MS, "{report:?}");
    }

    /// The age of a connection's pending frames may be past the write deadline, or there are too many.
    fn may_be_slow(&self, conn: &Conn) -> bool {
        let deadline_ns = u64::from(self.rules.write_deadline_ms) * MS;
        let goaway = usize::from(self.drain.is_some() && !conn.goaway_seen);
        if conn.is_full && conn.frames() + goaway >= FRAMES_PENDING_MAX {
            return true;
        }
        // A replay that is far behind is given up; ticks that were left out count but for the last ones.
        let is_replay = |subscription: &conn::Subscription| {
            !subscription.is_live && self.steps.len() >= subscription.steps + 2
        };
        if conn.underway.is_none() && conn.subscription.as_ref().is_some_and(is_replay) {
            return true;
        }
        let since = match (&conn.underway, conn.pending_replies.front(), &conn.subscription) {
            (Some(underway), ..) => Some(underway.since_earliest),
            (None, Some(pending_replies), _) => Some(pending_replies.since),
            (None, None, Some(subscription)) => {
                let phase = subscription.phase_ms.unwrap_or(0);
                self.history.earliest(self.streams[subscription.mode].due_ns(subscription.next) + phase * MS)
            }
            _ => None,
        };
        since.is_some_and(|since| self.active_ns >= since + deadline_ns)
    }

    /// All reports of the call before are in.
    pub fn check_reported(&self, index: usize) {
        let conn = &self.conns[index];
        assert!(conn.closing.is_none_or(|closing| closing.is_reported), "it should have ended: {conn:?}");
    }

    // ---- What is counted ----------------------------------------------------------------------------------

    pub fn check_counters(&self, shard: &Shard) {
        let counted = shard.counters();
        let mut expected = self.expected;
        expected.connections = self.gate.open;
        expected.unauthenticated = self.gate.unauthenticated;
        expected.lagging = self.conns.iter().filter(|conn| !conn.is_gone && conn.is_awaited).count() as u32;
        if let Some(publishing) = &self.publishing {
            let in_flight = self.conns.iter().map(|conn| conn.publisher.pending.len()).sum();
            expected.ingest = publishing.counters(in_flight, self.all_partial_bytes());
        }
        for (expected, counted) in expected.streams.iter_mut().zip(&counted.streams) {
            // What the shard seals is its own affair; what it sends isn't.
            assert_eq!(counted.batch_sizes.iter().sum::<u64>(), counted.batches);
            assert!(counted.ticks >= counted.batches);
            assert!(
                counted.ticks_skipped == 0 || !self.steps.is_empty(),
                "ticks were skipped without a step"
            );
            *expected = tickstream_engine::StreamCounters {
                subscribers: expected.subscribers,
                frames_sent: expected.frames_sent,
                ticks_sent: expected.ticks_sent,
                ..*counted
            };
        }
        assert_eq!(counted, expected, "counters");
        assert_eq!(shard.is_empty(), self.gate.open == 0);
        let accepted = counted.closed.iter().sum::<u64>();
        let alive = self.conns.iter().filter(|conn| conn.closing.is_none()).count() as u64;
        assert_eq!(counted.accepted, accepted + alive, "who came is there or was closed");
        let timed: u64 = shard.latencies().counts().iter().sum();
        let sent: u64 = counted.streams.iter().map(|stream| stream.frames_sent).sum();
        assert!(timed <= sent, "more frames were timed than sent");
    }

    pub fn check_view(&self, shard: &Shard) {
        let (mut seen, alive) = (0, self.conns.iter().filter(|conn| !conn.is_gone));
        for conn in alive {
            let view = shard.connection(conn.id.slot).expect("it is in the table");
            let standing = match conn.phase {
                Phase::Proxied | Phase::Handshaking | Phase::Unauthenticated => Standing::Unauthenticated,
                Phase::Authenticated => Standing::Authenticated,
                Phase::Closing => Standing::Closing,
            };
            assert_eq!(
                (view.id, view.number, view.peer, view.standing, view.bytes_sent),
                (conn.id, conn.number, conn.peer, standing, conn.bytes_sent)
            );
            assert_eq!(
                (view.lagging, view.mode.map(|mode| mode as usize)),
                (conn.is_full, conn.mode),
                "{conn:?}"
            );
            seen += 1;
        }
        assert_eq!(
            (0..shard.slots_end().0).filter(|slot| shard.connection(Slot(*slot)).is_some()).count(),
            seen
        );
    }

    /// Bytes that the shard may hold, with room for what its tables double to.
    pub fn memory_max(&self, slots: usize) -> usize {
        let alive = self.conns.iter().filter(|conn| !conn.is_gone);
        let unread: usize =
            alive.clone().map(|conn| 2 * conn.unread.len() + conn.header_seen.min(2_048)).sum();
        // A pending frame is shared, or small, but for the answer to a PUBLISH with many rejections.
        let pending_replies = |conn: &Conn| {
            let answers = conn.pending_replies.iter().map(|pending_replies| match &pending_replies.reply {
                Reply::PublishAck(ack) => {
                    ack.rejected.iter().map(|rejected| 64 + 2 * rejected.message.len()).sum()
                }
                _ => 0,
            });
            let underway = conn.underway.as_ref().filter(|underway| underway.kind == wire::PUBLISH_ACK);
            let underway = underway.map_or(0, |underway| underway.bytes.len());
            conn.frames() * 512 + answers.sum::<usize>() + 2 * underway
        };
        let pending_replies: usize = alive.map(pending_replies).sum();
        let deadline_s = u64::from(self.rules.write_deadline_ms) / 1_000 + 3;
        let logged: u64 = (0..2)
            .map(|mode| {
                let ticks = u64::from(self.rules.ticks[mode]) * deadline_s;
                let stream = &self.streams[mode];
                // A log for each phase that is in use.
                let logs = (slots as u64).min(stream.phases);
                logs * (ticks * 40 + 4_096)
            })
            .sum();
        // The table of failed AUTHs comes with the first of them.
        let failures = if self.expected.auth_failures > 0 { 400 << 10 } else { 0 };
        (128 << 10)
            + failures
            + slots * 1_024
            + unread
            + pending_replies
            + 2 * logged as usize
            + self.collected_max()
    }

    fn check_error(&self, frame: &[u8], code: &str, retry_ms: (u32, u32)) {
        let (kind, payload) = wire::open(frame).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(kind, wire::ERROR);
        let message = wire::message(payload, &[3], &[1, 2]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(message.text(1), code, "code");
        let retry = message.number(3);
        let (least, most) = retry_ms;
        assert!((u64::from(least)..=u64::from(most)).contains(&retry), "{code}: retry_after_ms {retry}");
        assert!(!message.text(2).is_empty(), "an ERROR without a message");
        assert!(frame.len() <= 1_024, "an ERROR of {} bytes", frame.len());
    }
}

/// The code that docs/protocol.md gives to the end of a connection.
fn expected_code(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::AuthRequired | CloseReason::AuthTimeout => "AUTH_REQUIRED",
        CloseReason::AuthFailed => "AUTH_FAILED",
        CloseReason::RateLimited => "RATE_LIMITED",
        CloseReason::BadCrc => "BAD_CRC",
        CloseReason::BadFrame => "BAD_FRAME",
        CloseReason::UnsupportedVersion => "UNSUPPORTED_VERSION",
        CloseReason::UnsupportedType => "UNSUPPORTED_TYPE",
        CloseReason::MessageTooLarge => "MESSAGE_TOO_LARGE",
        CloseReason::ProtocolViolation => "PROTOCOL_VIOLATION",
        CloseReason::HeartbeatTimeout => "HEARTBEAT_TIMEOUT",
        CloseReason::SlowConsumer => "SLOW_CONSUMER",
        CloseReason::ServerBusy => "SERVER_BUSY",
        CloseReason::ShuttingDown | CloseReason::Kicked => "SHUTTING_DOWN",
        other => panic!("{other:?} has no code"),
    }
}

/// The tick that comes behind `next` where those in between were due in time that the clock was set over.
fn stepped_over(steps: &[Step], stream: &Stream, next: u64, phase: u64) -> u64 {
    stepped_to(steps, stream, next, phase, |step| step.after)
}

fn stepped_to(
    steps: &[Step],
    stream: &Stream,
    mut next: u64,
    phase: u64,
    after: impl Fn(&Step) -> u64,
) -> u64 {
    for step in steps {
        let after = stream.due_end(after(step), phase);
        if stream.due_end(step.before, stream.phases - 1) <= next && next < after {
            next = after;
        }
    }
    next
}
