//! One thread with its ring, and its share of the publishing connections.

mod lifecycle;

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
use tickstream_uring::{
    ring::{Ring, Setup},
    system::thread_id,
};
use tickstream_wire::{
    frame::{heartbeat, seal},
    messages::Auth,
};

use super::{
    acked::AckedFile,
    counts::Counts,
    session::{Session, Stage},
    shared::{Phase, Shared},
    template::{Producer, Template, payload_bytes},
};
use crate::{
    clock::wall_us,
    pace::Pace,
    plan::Plan,
    tls::TlsSessions,
    token::{Kind, Token},
};

const RING: Setup = Setup { submissions: 1024, completions: 8192, buffers: 1024, buffer_bytes: 2048 };
/// Interval of all that isn't driven by arrivals: opening, heartbeats, throttled connections.
const STEP: Duration = Duration::from_millis(5);
/// The same where batches go out at a rate.
const PACED_STEP: Duration = Duration::from_micros(500);
const OPENED_PER_STEP: usize = 128;
/// Batches that are made before the first of them is handed to the kernel.
const SENT_AT_ONCE: usize = 8;
/// Buffers for batches that are kept for the next.
const SPARE_MAX: usize = 256;
/// With `--resend`: how many batches one of a pair may be ahead of the other. The server remembers 256 of a producer.
const AHEAD_MAX: u64 = 64;

/// The worker.
pub struct Worker<'a> {
    number: u32,
    plan: Arc<Plan>,
    shared: &'a Shared,
    ring: Ring,
    target: &'static SockAddr,
    auth: Vec<u8>,
    heartbeat: Vec<u8>,
    tls: Option<TlsSessions>,
    template: Template,
    sessions: Vec<Session>,
    spare: Vec<Vec<u8>>,
    acked: Option<AckedFile>,
    counts: Counts,

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
        shared.thread_ids[number as usize].store(u64::from(thread_id()), Ordering::Relaxed);
        let options = &plan.options.modes.publish;
        let count = plan.indices(number).count() as u32;
        let producer = |slot: u32| {
            let producer = if options.resend { slot / 2 } else { slot };
            Producer::new(run, u64::from(number) + u64::from(producer) * u64::from(plan.threads))
        };
        let auth =
            Auth { username: plan.options.user.clone(), password: plan.password.clone(), client: None };
        Ok(Self {
            number,
            shared,
            ring: Ring::new(RING)?,
            target: Box::leak(Box::new(SockAddr::from(plan.options.addr))),
            auth: seal(&auth),
            heartbeat: heartbeat(),
            tls: plan.tls.as_ref().map(|tls| TlsSessions::new(tls, count as usize)),
            template,
            sessions: (0..count).map(|slot| Session::new(producer(slot))).collect(),
            spare: Vec::new(),
            acked: options.acked.as_deref().map(AckedFile::open).transpose()?,
            counts: Counts::new(),
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
    pub fn run(mut self) -> io::Result<Counts> {
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
            self.counts.turn.saturating_record(wall_us().saturating_sub(now_us));
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
            self.counts.unanswered += session.unanswered() as u64;
        }
        let each = if self.plan.options.modes.publish.resend { 2 } else { 1 };
        for pair in self.sessions.chunks(each) {
            self.counts.distinct += pair.iter().map(Session::next_sequence).max().unwrap_or(1) - 1;
        }
        Ok(self.counts)
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
        self.send_heartbeats(now_us);
        if let Some(pace) = &mut self.pace {
            let due = pace.due(now_us);
            self.allowed += due.end - due.start;
            // What can't be sent within a second isn't made up for.
            let most = (pace.count() / u64::from(self.template.events())).max(1);
            self.counts.left_out += self.allowed.saturating_sub(most);
            self.allowed = self.allowed.min(most);
        }
        self.publish(phase, now_us);
    }

    fn send_heartbeats(&mut self, now_us: u64) {
        let due = self.heartbeats.as_mut().map_or(0..0, |pace| pace.due(now_us));
        for at in due {
            let slot = (at % self.sessions.len() as u64) as u32;
            self.sessions[slot as usize].heartbeat_due = true;
            self.send_heartbeat(slot);
        }
    }

    /// Sends a HEARTBEAT that is due, unless a batch is being sent.
    fn send_heartbeat(&mut self, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        if session.stage == Stage::Live && session.heartbeat_due && !session.sending {
            session.heartbeat_due = false;
            session.sending = true;
            let bytes = self.heartbeat.clone();
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
        self.sessions[slot as usize].handed_over(wall_us(), payload, &mut self.counts);
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

    /// A connection may send a batch that it hasn't sent before.
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
        let Some(tls) = &mut self.tls else {
            self.sending += 1;
            return self.ring.send_all(socket.as_fd(), bytes, start, token);
        };
        if tls.seal(slot, &bytes[start..]).is_ok() {
            self.sending += 1;
            self.ring.send_all(socket.as_fd(), tls.output().to_vec(), 0, token);
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
}
