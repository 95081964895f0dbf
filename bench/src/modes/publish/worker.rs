//! One thread with its ring, and its share of the publishing connections.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io,
    net::Shutdown,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use socket2::{SockAddr, SockRef};
use tickstream_wire::{frame::seal, messages::Auth};

use super::{
    acked::AckedFile,
    session::{Close, Outcome, Rules, Session, Stage},
    shared::{Phase, Shared},
    tally::Tally,
    template::{Producer, Template, payload_bytes},
};
use crate::{
    clock::wall_us,
    connection::{forever, heartbeat_forever},
    kernel::{Completion, Returned, Ring, RingSetup, thread_id},
    options::Plan,
    pace::Pace,
    stats::{Class, count},
    tls::TlsRoom,
    worker::{
        socket::{errno_name, open_socket, send_whole},
        token::{Kind, Token},
    },
};

const RING: RingSetup = RingSetup { submissions: 1024, completions: 8192, buffers: 1024, buffer_len: 2048 };
/// What isn't driven by arrivals is looked after this often: opening, heartbeats, throttled connections.
const STEP: Duration = Duration::from_millis(5);
/// The same where batches go out at a rate.
const PACED_STEP: Duration = Duration::from_micros(500);
const OPENED_PER_STEP: usize = 128;
/// Batches that are made before the first of them is handed to the kernel.
const SENT_AT_ONCE: usize = 8;
/// Buffers for batches that are kept for the next.
const SPARE_MAX: usize = 256;
/// A connection that ended is opened again after this, unless the server asks for more.
const RETRY_US: u64 = 20_000;
/// With `--resend`: how many batches one of a pair may be ahead of the other. The server remembers 256 of a producer.
const AHEAD_MAX: u64 = 64;

/// The worker.
pub struct Worker<'a> {
    number: u32,
    plan: Arc<Plan>,
    shared: &'a Shared,
    ring: Ring,
    target: &'static SockAddr,
    auth: &'static [u8],
    heartbeat: &'static [u8],
    tls: Option<TlsRoom>,
    template: Template,
    sessions: Vec<Session>,
    spare: Vec<Vec<u8>>,
    acked: Option<AckedFile>,
    tally: Tally,

    /// Connections that may have something to send, in turn.
    ready: VecDeque<u32>,
    /// Asked to wait: until when, µs, and which.
    quiet: BinaryHeap<Reverse<(u64, u32)>>,
    /// To be opened as soon as there is room.
    waiting: VecDeque<u32>,
    /// To be opened later: when, µs, and which.
    retries: BinaryHeap<Reverse<(u64, u32)>>,
    /// On their way to being live.
    opening: u32,
    /// Sockets that submissions may still name; closed after the next submit.
    closing: Vec<OwnedFd>,
    heartbeats: Option<Pace>,
    pace: Option<Pace>,
    /// New batches that the rate allows.
    allowed: u64,
    /// SENDs that aren't over.
    sending: usize,
}

impl<'a> Worker<'a> {
    /// Builds the calling thread's worker.
    ///
    /// # Errors
    /// If the ring or `--acked` can't be had.
    pub fn new(
        plan: &Arc<Plan>,
        number: u32,
        shared: &'a Shared,
        template: Template,
        run: u64,
    ) -> io::Result<Self> {
        shared.thread_ids[number as usize].store(thread_id() as u64, Ordering::Relaxed);
        let options = &plan.options.modes.publish;
        let count = plan.indices(number).count() as u32;
        let producer = |slot: u32| {
            let producer = if options.resend { slot / 2 } else { slot };
            Producer::new(run, u64::from(number) + u64::from(producer) * u64::from(plan.threads))
        };
        let auth = Auth { username: plan.options.user.clone(), password: plan.password.clone() };
        Ok(Self {
            number,
            shared,
            ring: Ring::new(RING)?,
            target: Box::leak(Box::new(SockAddr::from(plan.options.addr))),
            auth: forever(seal(&auth)),
            heartbeat: heartbeat_forever(),
            tls: plan.tls.as_ref().map(|tls| TlsRoom::new(tls, count as usize)),
            template,
            sessions: (0..count).map(|slot| Session::new(producer(slot))).collect(),
            spare: Vec::new(),
            acked: options.acked.as_deref().map(AckedFile::open).transpose()?,
            tally: Tally::new(),
            ready: VecDeque::new(),
            quiet: BinaryHeap::new(),
            waiting: (0..count).collect(),
            retries: BinaryHeap::new(),
            opening: 0,
            closing: Vec::new(),
            heartbeats: None,
            pace: None,
            allowed: 0,
            sending: 0,
            plan: plan.clone(),
        })
    }

    /// Works until all is acknowledged that was sent, or the grace after the run's end is over.
    ///
    /// # Errors
    /// If the ring fails, or `--acked` can't be written.
    pub fn run(mut self) -> io::Result<Tally> {
        let enough = self.plan.options.receive_batch.get() as usize;
        let wait = self.plan.options.receive_wait;
        let mut completions = Vec::new();
        let mut now_us = wall_us();
        let mut phase = Phase::Connect;
        let mut give_up_us = u64::MAX;
        loop {
            let next = self.shared.phase();
            if next > phase {
                self.enter(next, now_us);
                if next == Phase::Finish {
                    give_up_us = now_us + self.plan.options.grace.as_micros() as u64;
                }
                phase = next;
            }
            self.step(phase, now_us);
            if phase == Phase::Finish && (self.is_done() || now_us >= give_up_us) {
                break;
            }
            self.tally.turn.saturating_record(wall_us().saturating_sub(now_us));
            // What was sent is over at once, as a rule, and more can follow it.
            let patience = if self.sending > 0 || self.opening > 0 { Duration::ZERO } else { wait };
            let step = if self.pace.is_some() { PACED_STEP } else { STEP };
            self.ring.wait(enough, patience, step)?;
            now_us = wall_us();
            self.ring.completions(&mut completions);
            for completion in completions.drain(..) {
                self.complete(completion, now_us);
            }
            if let Some(acked) = &mut self.acked {
                acked.flush()?;
            }
            if !self.closing.is_empty() {
                self.ring.submit();
                self.closing.clear();
            }
        }
        for session in &self.sessions {
            self.tally.unanswered += session.unanswered() as u64;
        }
        let each = if self.plan.options.modes.publish.resend { 2 } else { 1 };
        for pair in self.sessions.chunks(each) {
            self.tally.distinct += pair.iter().map(Session::next_sequence).max().unwrap_or(1) - 1;
        }
        Ok(self.tally)
    }

    fn enter(&mut self, phase: Phase, now_us: u64) {
        let options = &self.plan.options.modes.publish;
        let rate = u64::from(self.plan.share(options.rate, self.number));
        let paced = phase == Phase::Publish && rate > 0;
        // So many batches in as many seconds as a batch has events.
        self.pace = paced.then(|| Pace::new(now_us, rate, u64::from(self.template.events()) * 1_000_000));
        for slot in 0..self.sessions.len() as u32 {
            self.enqueue(slot);
        }
    }

    fn is_done(&self) -> bool {
        let resend = self.plan.options.modes.publish.resend;
        self.sessions.iter().zip(0..).all(|(session, slot)| {
            let has_all = !resend || session.next_sequence() >= self.partner(slot).next_sequence();
            session.stage == Stage::Over || session.unanswered() == 0 && has_all
        })
    }

    fn partner(&self, slot: u32) -> &Session {
        &self.sessions[(slot ^ 1) as usize]
    }

    // ---- Things at a rate -------------------------------------------------------------------------------------

    fn step(&mut self, phase: Phase, now_us: u64) {
        while let Some(&Reverse((at_us, slot))) = self.retries.peek() {
            if at_us > now_us {
                break;
            }
            self.retries.pop();
            self.waiting.push_back(slot);
        }
        while let Some(&Reverse((at_us, slot))) = self.quiet.peek() {
            if at_us > now_us {
                break;
            }
            self.quiet.pop();
            self.enqueue(slot);
        }
        let room = self.plan.share(self.plan.options.in_flight.get(), self.number).max(1);
        for _ in 0..OPENED_PER_STEP {
            if self.opening >= room {
                break;
            }
            let Some(slot) = self.waiting.pop_front() else { break };
            self.open(slot, now_us);
        }
        self.beat(now_us);
        if let Some(pace) = &mut self.pace {
            let due = pace.due(now_us);
            self.allowed += due.end - due.start;
            // What can't be sent within a second isn't made up for.
            let most = (pace.count() / u64::from(self.template.events())).max(1);
            self.tally.left_out += self.allowed.saturating_sub(most);
            self.allowed = self.allowed.min(most);
        }
        self.publish(phase, now_us);
    }

    fn beat(&mut self, now_us: u64) {
        let due = self.heartbeats.as_mut().map_or(0..0, |pace| pace.due(now_us));
        for at in due {
            let slot = (at % self.sessions.len() as u64) as u32;
            self.sessions[slot as usize].heartbeat_due = true;
            self.beat_one(slot);
        }
    }

    /// Sends a HEARTBEAT that is due, unless a batch is being sent.
    fn beat_one(&mut self, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        if session.stage == Stage::Live && session.heartbeat_due && !session.sending {
            session.heartbeat_due = false;
            session.sending = true;
            let bytes = self.heartbeat.to_vec();
            self.send(slot, bytes, 0);
        }
    }

    // ---- Publishing -------------------------------------------------------------------------------------------

    fn enqueue(&mut self, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        if !session.queued {
            session.queued = true;
            self.ready.push_back(slot);
        }
    }

    /// Each connection in turn sends a batch, if it may.
    fn publish(&mut self, phase: Phase, now_us: u64) {
        let mut made = 0;
        for _ in 0..self.ready.len() {
            if self.pace.is_some() && self.allowed == 0 {
                break;
            }
            let Some(slot) = self.ready.pop_front() else { break };
            self.sessions[slot as usize].queued = false;
            if self.publish_one(slot, phase, now_us) {
                made += 1;
                if made % SENT_AT_ONCE == 0 {
                    self.ring.submit();
                }
            }
        }
    }

    fn publish_one(&mut self, slot: u32, phase: Phase, now_us: u64) -> bool {
        let session = &self.sessions[slot as usize];
        if session.quiet_until_us > now_us {
            self.quiet.push(Reverse((session.quiet_until_us, slot)));
            return false;
        }
        if !session.may_publish(now_us) || !(session.has_to_resend() || self.may_go_on(slot, phase)) {
            return false;
        }
        let is_new = !session.has_to_resend();
        let (producer, sequence) = (session.producer, session.sequence_to_send());
        let mut bytes = self.spare.pop().unwrap_or_default();
        let start = self.template.fill(&mut bytes, producer, sequence);
        let payload = payload_bytes(&bytes, start);
        self.sessions[slot as usize].handed_over(wall_us(), payload, &mut self.tally);
        self.send(slot, bytes, start);
        if is_new {
            self.allowed = self.allowed.saturating_sub(1);
            if self.plan.options.modes.publish.resend {
                // It may have waited for this one.
                self.enqueue(slot ^ 1);
            }
        }
        true
    }

    /// Whether a connection may send a batch that it hasn't sent before.
    fn may_go_on(&self, slot: u32, phase: Phase) -> bool {
        if !self.plan.options.modes.publish.resend {
            return phase == Phase::Publish;
        }
        let (own, other) = (self.sessions[slot as usize].next_sequence(), self.partner(slot).next_sequence());
        match phase {
            Phase::Connect => false,
            Phase::Publish => own < other + AHEAD_MAX,
            Phase::Finish => own < other,
        }
    }

    /// Sends a frame, which begins at `start` of `bytes`.
    fn send(&mut self, slot: u32, bytes: Vec<u8>, start: usize) {
        let session = &self.sessions[slot as usize];
        let Some(socket) = &session.socket else { return };
        let token = Token { kind: Kind::Publish, generation: session.generation, slot }.pack();
        let Some(room) = &mut self.tls else {
            self.sending += 1;
            return self.ring.send_all(socket.as_fd(), bytes, start, token);
        };
        if room.seal(slot, &bytes[start..]).is_ok() {
            self.sending += 1;
            self.ring.send_all(socket.as_fd(), room.output().to_vec(), 0, token);
        } else {
            // Then receiving ends, and says so.
            let _ = SockRef::from(socket).shutdown(Shutdown::Both);
        }
        self.keep(bytes);
    }

    /// Keeps a buffer for the next batch.
    fn keep(&mut self, bytes: Vec<u8>) {
        if bytes.len() > self.heartbeat.len() && self.spare.len() < SPARE_MAX {
            self.spare.push(bytes);
        }
    }

    // ---- What becomes of a connection -------------------------------------------------------------------------

    fn open(&mut self, slot: u32, now_us: u64) {
        let index = u64::from(self.number) + u64::from(slot) * u64::from(self.plan.threads);
        let session = &mut self.sessions[slot as usize];
        session.restart();
        self.opening += 1;
        match open_socket(&self.plan, Class::Steady, index) {
            Ok(socket) => {
                session.stage = Stage::Connecting;
                let token = Token { kind: Kind::Connect, generation: session.generation, slot };
                self.ring.connect(socket.as_fd(), self.target, token.pack());
                session.socket = Some(socket);
            }
            Err(error) => {
                session.stage = Stage::Connecting;
                let why = errno_name(error.raw_os_error().unwrap_or(0));
                self.close(slot, Close::passing(why), now_us);
            }
        }
    }

    fn complete(&mut self, completion: Completion, now_us: u64) {
        let Token { kind, generation, slot } = Token::unpack(completion.token);
        let is_current = self.sessions[slot as usize].generation == generation;
        match kind {
            Kind::Publish => {
                self.sending -= 1;
                let Some(Returned { bytes, is_whole }) = completion.returned else { return };
                if self.tls.is_none() {
                    self.keep(bytes);
                }
                // Where less was sent than there was, nothing may follow, and receiving says what happened.
                if is_current && is_whole {
                    self.sessions[slot as usize].sending = false;
                    self.beat_one(slot);
                    self.enqueue(slot);
                }
            }
            Kind::Connect if is_current => match completion.result {
                Ok(_) => self.connected(slot, now_us),
                Err(errno) => self.close(slot, Close::passing(errno_name(errno)), now_us),
            },
            Kind::Receive if is_current && self.sessions[slot as usize].socket.is_some() => {
                self.received(slot, &completion, now_us);
            }
            _ => {}
        }
        if let Some(receipt) = completion.receipt {
            self.ring.recycle(receipt);
        }
    }

    fn connected(&mut self, slot: u32, now_us: u64) {
        let session = &mut self.sessions[slot as usize];
        let Some(socket) = &session.socket else { return };
        let sent = match &mut self.tls {
            None => {
                session.stage = Stage::Greeting;
                send_whole(socket, self.auth).map_err(|error| format!("send: {error}"))
            }
            Some(room) => {
                session.stage = Stage::Securing;
                let entered = room.enter(slot, now_us).map_err(|error| format!("TLS: {error}"));
                entered.and_then(|()| {
                    send_whole(socket, room.output()).map_err(|error| format!("send: {error}"))
                })
            }
        };
        match sent {
            Ok(()) => self.receive(slot),
            Err(why) => self.close(slot, Close::passing(why), now_us),
        }
    }

    fn receive(&mut self, slot: u32) {
        let session = &self.sessions[slot as usize];
        if let Some(socket) = &session.socket {
            let token = Token { kind: Kind::Receive, generation: session.generation, slot };
            self.ring.receive(socket.as_fd(), token.pack());
        }
    }

    fn received(&mut self, slot: u32, completion: &Completion, now_us: u64) {
        match completion.result {
            Ok(0) => return self.close(slot, Close::passing("closed without a word"), now_us),
            Err(libc::ENOBUFS) | Ok(_) => {}
            Err(errno) => return self.close(slot, Close::passing(errno_name(errno)), now_us),
        }
        let outcome = self.understand(slot, completion, now_us);
        if let Some(ms) = outcome.heartbeat_interval_ms {
            let interval = self.plan.options.heartbeat_interval.unwrap_or(Duration::from_millis(ms.into()));
            let interval_us = interval.as_micros() as u64;
            let count = self.sessions.len() as u64;
            if interval_us > 0 && !self.heartbeats.is_some_and(|pace| pace.is(count, interval_us)) {
                self.heartbeats = Some(Pace::new(now_us, count, interval_us));
            }
        }
        if outcome.live {
            self.opening -= 1;
            self.shared.live.fetch_add(1, Ordering::Relaxed);
        }
        if outcome.live || outcome.acknowledged {
            self.enqueue(slot);
        }
        match outcome.close {
            Some(close) => self.close(slot, close, now_us),
            None if !completion.more => self.receive(slot),
            None => {}
        }
    }

    /// What arrived on a connection, and what it means.
    fn understand(&mut self, slot: u32, completion: &Completion, now_us: u64) -> Outcome {
        let Self { ring, tls, sessions, tally, acked, plan, shared, template, auth, .. } = self;
        let Some(receipt) = &completion.receipt else { return Outcome::default() };
        let mut rules = Rules {
            window: shared.window(),
            events: template.events(),
            ignore_throttle: plan.options.modes.publish.ignore_throttle,
            acked: acked.as_mut(),
            tally,
        };
        let session = &mut sessions[slot as usize];
        let Some(room) = tls else {
            return session.receive(ring.bytes(receipt), now_us, &mut rules);
        };
        let mut opened = room.receive(slot, ring.bytes(receipt), now_us);
        if opened.as_ref().is_ok_and(|opened| opened.agreed) {
            session.stage = Stage::Greeting;
            opened = room.seal_more(slot, auth).and(opened);
        }
        let sent = match &session.socket {
            Some(socket) if !room.output().is_empty() => send_whole(socket, room.output()),
            _ => Ok(()),
        };
        let mut outcome = session.receive(room.plaintext(), now_us, &mut rules);
        outcome.close = outcome.close.or_else(|| match (opened, sent) {
            (Err(error), _) => Some(Close {
                is_passing: matches!(error, rustls::Error::AlertReceived(_)),
                ..Close::for_good(format!("TLS: {error}"))
            }),
            (Ok(opened), _) if opened.closed => Some(Close::passing("close_notify without a word")),
            (_, Err(error)) => Some(Close::passing(format!("TLS: {error}"))),
            _ => None,
        });
        outcome
    }

    /// A connection is over, or wasn't made. It is opened again if that may help.
    fn close(&mut self, slot: u32, close: Close, now_us: u64) {
        let options = &self.plan.options;
        let session = &mut self.sessions[slot as usize];
        if let Some(socket) = session.socket.take() {
            // Ends what the ring still does with it.
            let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
            self.closing.push(socket);
        }
        let was_live = session.stage == Stage::Live;
        if was_live {
            self.shared.live.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.opening -= 1;
        }
        session.failures = session.failures.saturating_add(1);
        let made = !matches!(session.stage, Stage::Connecting);
        count(if made { &mut self.tally.closes } else { &mut self.tally.connect_errors }, &close.why);
        let tries = options.reconnect || !made && session.failures < options.attempts;
        if close.is_passing && tries {
            session.stage = Stage::Waiting;
            let delay_us = RETRY_US.max(u64::from(close.retry_after_ms) * 1_000);
            // Not all at once.
            let spread_us = u64::from(slot) * 7_919 % RETRY_US;
            self.retries.push(Reverse((now_us + delay_us + spread_us, slot)));
        } else {
            session.stage = Stage::Over;
            self.shared.over.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(room) = &mut self.tls {
            room.leave(slot);
        }
    }
}
