//! One thread with its ring, and its share of the connections.

mod lifecycle;
mod secure;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io,
    ops::Range,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    sync::{Arc, atomic::Ordering, mpsc::Sender},
    time::Duration,
};

use hdrhistogram::{Counter, Histogram};
use socket2::SockAddr;
use tickstream_uring::{
    ring::{Ring, Setup},
    system::{own_descriptor_table, run_on, thread_id},
};
use tickstream_wire::frame;

use crate::{
    clock::wall_us,
    connection::{Connection, FrameReader, Stage, greeting},
    control::{Command, Control, Gauges},
    pace::Pace,
    plan::Plan,
    stats::{Class, Counters, Recorder, SecondReport, coarse, second_of},
    tls::TlsSessions,
    token::{Kind, Token},
};

/// Interval of all that isn't driven by arrivals: opening, heartbeats, churn.
const STEP: Duration = Duration::from_millis(10);
/// The same while connections are being opened at a rate.
const RAMP_STEP: Duration = Duration::from_millis(1);
/// Connections that are opened before arrivals are looked at again.
const OPENED_PER_STEP: usize = 128;
const RING: (u32, u32) = (1024, 8192);

/// Results of a worker.
#[derive(Debug)]
pub struct WorkerResult {
    pub counters: Counters,
    pub steady: Histogram<u64>,
    pub storm: Histogram<u64>,
    /// From opening to the ACK of SUBSCRIBE, µs.
    pub handshake: Histogram<u32>,
    /// The same, of those that came back in the storm.
    pub storm_handshake: Histogram<u32>,
    /// From the TCP connection to the client's Finished, µs; empty without TLS.
    pub tls_full: Histogram<u32>,
    pub tls_resumed: Histogram<u32>,
    /// Duration of a turn of the loop between two waits, µs: an arrival may be found so late.
    pub turn: Histogram<u32>,
    /// For each delivery, how long `--receive-wait` may have held it back at most, µs.
    pub held: Histogram<u32>,
    pub turns: u64,
}

impl WorkerResult {
    /// Both together.
    pub fn merged(mut self, other: Self) -> Self {
        self.counters.merge(other.counters);
        add(&mut self.steady, &other.steady);
        add(&mut self.storm, &other.storm);
        add(&mut self.handshake, &other.handshake);
        add(&mut self.storm_handshake, &other.storm_handshake);
        add(&mut self.tls_full, &other.tls_full);
        add(&mut self.tls_resumed, &other.tls_resumed);
        add(&mut self.turn, &other.turn);
        add(&mut self.held, &other.held);
        self.turns += other.turns;
        self
    }
}

fn add<C: Counter>(into: &mut Histogram<C>, from: &Histogram<C>) {
    into.add(from).expect("all are built alike");
}

/// The worker.
pub struct Worker {
    number: u32,
    plan: Arc<Plan>,
    control: Arc<Control>,
    gauges: Arc<Gauges>,
    reports: Sender<SecondReport>,

    ring: Ring,
    target: &'static SockAddr,
    greeting: Rc<[u8]>,
    heartbeat: Rc<[u8]>,

    connections: Vec<Connection>,
    tls: Option<TlsSessions>,
    reader: FrameReader,
    counters: Counters,
    recorder: Recorder,
    handshake: Histogram<u32>,
    storm_handshake: Histogram<u32>,
    turn: Histogram<u32>,
    held: Histogram<u32>,
    turns: u64,

    /// To be opened, in order, as soon as there is room.
    waiting: VecDeque<u32>,
    /// To be opened later: when, µs, and which.
    retries: BinaryHeap<Reverse<(u64, u32)>>,
    /// On their way to being live.
    in_flight: u32,
    live: u64,
    connected: u64,
    gone: u64,
    /// Sockets that submissions may still name; closed after the next submit.
    closing: Vec<OwnedFd>,
    ramp: Option<Pace>,
    /// Connections that the ramp allows beyond those opened.
    ramp_allows: u64,
    heartbeats: Option<Pace>,
    churn: Option<Pace>,
    slow: Vec<u32>,
    slow_pace: Option<Pace>,
    storming: bool,
    second: Second,
}

/// The counters when the second of the time series began.
#[derive(Debug, Default)]
struct Second {
    number: u64,
    frames: u64,
    ticks: u64,
    bytes: u64,
}

impl Worker {
    /// Prepares the calling thread and builds its worker.
    ///
    /// # Errors
    /// If the descriptor table, the CPU or the ring can't be had.
    pub fn new(
        number: u32,
        plan: Arc<Plan>,
        control: Arc<Control>,
        gauges: Arc<Gauges>,
        reports: Sender<SecondReport>,
    ) -> io::Result<Self> {
        own_descriptor_table()?;
        if let Some(cpus) = &plan.options.cpus {
            let cpu = cpus.of_thread(number as usize);
            run_on(&[cpu]).map_err(|error| io::Error::new(error.kind(), format!("--cpus {cpu}: {error}")))?;
        }
        Gauges::set(&gauges.thread_id, u64::from(thread_id()));
        let (submissions, completions) = RING;
        let (buffers, buffer_bytes) = plan.buffers;
        let ring = Ring::new(Setup { submissions, completions, buffers, buffer_bytes })?;
        let connections: Vec<_> =
            plan.indices(number).map(|index| Connection::new(plan.class(index))).collect();
        let slots = 0..u32::try_from(connections.len()).expect("no more than there are connections");
        let slow = slots.clone().filter(|&slot| connections[slot as usize].class == Class::Slow).collect();
        let greeting = greeting(&plan.options.user, &plan.password, plan.schedule.mode(), None);
        let now_us = wall_us();
        let per_second = |count: u32| (count > 0).then(|| Pace::new(now_us, u64::from(count), 1_000_000));
        Ok(Self {
            number,
            control,
            gauges,
            reports,
            ring,
            target: Box::leak(Box::new(SockAddr::from(plan.options.addr))),
            greeting: greeting.into(),
            heartbeat: frame::heartbeat().into(),
            tls: plan.tls.as_ref().map(|tls| TlsSessions::new(tls, connections.len())),
            connections,
            reader: FrameReader::new(plan.schedule),
            counters: Counters::default(),
            recorder: Recorder::new(),
            handshake: coarse(),
            storm_handshake: coarse(),
            turn: coarse(),
            held: coarse(),
            turns: 0,
            waiting: slots.collect(),
            retries: BinaryHeap::new(),
            in_flight: 0,
            live: 0,
            connected: 0,
            gone: 0,
            closing: Vec::new(),
            ramp: per_second(plan.share(plan.options.ramp, number)),
            ramp_allows: 0,
            heartbeats: None,
            churn: per_second(plan.share(plan.options.churn, number)),
            slow,
            slow_pace: None,
            storming: false,
            second: Second { number: second_of(now_us), ..Second::default() },
            plan,
        })
    }

    /// Works until it is told to stop.
    ///
    /// # Errors
    /// If the ring fails.
    pub fn run(mut self) -> io::Result<WorkerResult> {
        let enough = self.plan.options.receive_batch.get() as usize;
        let patience = self.plan.options.receive_wait;
        let mut completions = Vec::new();
        let mut now_us = wall_us();
        while !self.control.is(Command::Stop) {
            self.step(now_us);
            let slept_us = wall_us();
            self.turn.saturating_record(slept_us.saturating_sub(now_us));
            self.turns += 1;

            let ramping = self.ramp.is_some() && !self.waiting.is_empty();
            // While connections are on their way, or there are more to open, the first answer counts.
            let patience = if self.in_flight > 0 { Duration::ZERO } else { patience };
            self.ring.wait(enough, patience, if ramping { RAMP_STEP } else { STEP })?;

            // One time for all that arrived: the kernel handed it over at once.
            now_us = wall_us();
            let frames_before = self.counters.frames;
            self.ring.completions(&mut completions);
            for completion in completions.drain(..) {
                self.complete(completion, now_us);
            }
            self.reader.flush(now_us, &mut self.recorder);
            let held_us = now_us.saturating_sub(slept_us).min(patience.as_micros() as u64);
            self.held.saturating_record_n(held_us, (self.counters.frames - frames_before) as u32);
            if !self.closing.is_empty() {
                self.ring.submit();
                self.closing.clear();
            }
            self.show(now_us);
        }
        Ok(self.finish())
    }

    // Things at a rate

    fn step(&mut self, now_us: u64) {
        if self.control.is(Command::Storm) && !self.storming {
            self.storm();
        }
        while let Some(&Reverse((at_us, slot))) = self.retries.peek() {
            if at_us > now_us {
                break;
            }
            self.retries.pop();
            self.waiting.push_back(slot);
        }
        self.open_some(now_us);
        self.send_heartbeats(now_us);
        if let Some(due) = self.churn.as_mut().map(|pace| pace.due(now_us))
            && self.control.is(Command::Churn)
        {
            self.drop_some(due);
        }
        self.rearm_slow(now_us);
    }

    fn open_some(&mut self, now_us: u64) {
        let room = if self.storming {
            usize::MAX
        } else {
            let in_flight_max = self.plan.share(self.plan.options.in_flight.get(), self.number).max(1);
            in_flight_max.saturating_sub(self.in_flight) as usize
        };
        let allowed = match &mut self.ramp {
            Some(ramp) if !self.storming => {
                let due = ramp.due(now_us);
                // What wasn't opened in its second isn't made up for in a burst.
                self.ramp_allows = (self.ramp_allows + (due.end - due.start)).min(ramp.count());
                usize::try_from(self.ramp_allows).unwrap_or(usize::MAX)
            }
            _ => usize::MAX,
        };
        for _ in 0..room.min(allowed).min(OPENED_PER_STEP) {
            let Some(slot) = self.waiting.pop_front() else {
                break;
            };
            self.ramp_allows = self.ramp_allows.saturating_sub(1);
            self.open(slot, now_us);
        }
    }

    fn send_heartbeats(&mut self, now_us: u64) {
        let announced = self.reader.heartbeat_interval_ms.map(|ms| Duration::from_millis(u64::from(ms)));
        let Some(interval) = self.plan.options.heartbeat_interval.or(announced) else {
            return;
        };
        let interval_us = interval.as_micros() as u64;
        if interval_us == 0 {
            return;
        }
        let count = self.connections.len() as u64;
        if !self.heartbeats.is_some_and(|pace| pace.is(count, interval_us)) {
            self.heartbeats = Some(Pace::new(now_us, count, interval_us));
        }
        let due = self.heartbeats.as_mut().map_or(0..0, |pace| pace.due(now_us));
        for at in due {
            let slot = (at % count) as u32;
            if self.connections[slot as usize].stage == Stage::Live {
                self.send_heartbeat(slot);
            }
        }
    }

    fn send_heartbeat(&mut self, slot: u32) {
        if self.tls.is_some() {
            return self.send_sealed(slot, &Rc::clone(&self.heartbeat));
        }
        let connection = &self.connections[slot as usize];
        if let Some(socket) = &connection.socket {
            let token = Token { kind: Kind::Heartbeat, generation: connection.generation, slot };
            self.ring.send(socket.as_fd(), Rc::clone(&self.heartbeat), 0, token.pack());
            self.counters.heartbeats_sent += 1;
        }
    }

    /// Drops as many connections as numbers became due, in turn.
    fn drop_some(&mut self, due: Range<u64>) {
        let count = self.connections.len() as u64;
        for at in due {
            // A stride that visits all, and no neighbours one after the other.
            let slot = (at.wrapping_mul(0x9E37_79B1) % count) as u32;
            let connection = &mut self.connections[slot as usize];
            if connection.stage == Stage::Live && matches!(connection.class, Class::Steady | Class::Churned) {
                connection.class = Class::Churned;
                self.counters.churned += 1;
                self.leave(slot);
            }
        }
    }

    fn rearm_slow(&mut self, now_us: u64) {
        if self.slow.is_empty() {
            return;
        }
        let (count, pause) = (self.slow.len() as u64, self.plan.options.slow_pause);
        let pace =
            self.slow_pace.get_or_insert_with(|| Pace::new(now_us, count, (pause.as_micros() as u64).max(1)));
        for at in pace.due(now_us) {
            let slot = self.slow[(at % count) as usize];
            let connection = &self.connections[slot as usize];
            if connection.stage == Stage::Live && !connection.armed {
                self.arm(slot);
            }
        }
    }

    fn storm(&mut self) {
        self.storming = true;
        let size = self.plan.share(self.plan.storm_size().unwrap_or(0), self.number);
        let mut left = size;
        for slot in 0..self.connections.len() as u32 {
            let connection = &mut self.connections[slot as usize];
            let stays = matches!(connection.class, Class::Slow | Class::Stalled);
            if left > 0 && connection.stage == Stage::Live && !stays {
                connection.stormed = true;
                left -= 1;
                self.leave(slot);
            }
        }
        Gauges::set(&self.gauges.subscribed, self.live);
        self.gauges.storm_begun.store(1, Ordering::Release);
    }

    // What is shown

    fn show(&mut self, now_us: u64) {
        let gauges = &self.gauges;
        Gauges::set(&gauges.connected, self.connected);
        Gauges::set(&gauges.subscribed, self.live);
        Gauges::set(&gauges.gone, self.gone);
        Gauges::set(&gauges.frames, self.counters.frames);
        Gauges::set(&gauges.ticks, self.counters.ticks);
        Gauges::set(&gauges.bytes, self.counters.bytes);
        let faults = self.counters.faults[Class::Steady as usize];
        Gauges::set(&gauges.faults, faults.total());
        self.recorder.steady_window = self.control.steady_window();
        self.recorder.storm_window = self.control.storm_window();
        if second_of(now_us) != self.second.number {
            self.end_second(now_us);
        }
    }

    fn end_second(&mut self, now_us: u64) {
        let Counters { frames, ticks, bytes, .. } = self.counters;
        let report = SecondReport {
            second: self.second.number,
            frames: frames - self.second.frames,
            ticks: ticks - self.second.ticks,
            bytes: bytes - self.second.bytes,
            latency: std::mem::replace(&mut self.recorder.second, coarse()),
        };
        // Nobody listens any more when the run is over.
        let _ = self.reports.send(report);
        self.second = Second { number: second_of(now_us), frames, ticks, bytes };
    }

    fn finish(mut self) -> WorkerResult {
        self.end_second(wall_us());
        let verify_until_us = self.control.verify_until_us.load(Ordering::Relaxed);
        for connection in &self.connections {
            self.counters.connections[connection.class as usize] += 1;
            self.counters.subscribed += u64::from(connection.was_subscribed());
            let missing = connection.missing(self.plan.schedule, verify_until_us);
            self.counters.faults[connection.class as usize].missing += missing;
        }
        self.counters.ticks_early = self.recorder.early;
        let (tls_full, tls_resumed) =
            self.tls.map_or_else(|| (coarse(), coarse()), |tls| (tls.full, tls.resumed));
        WorkerResult {
            counters: self.counters,
            steady: self.recorder.steady,
            storm: self.recorder.storm,
            handshake: self.handshake,
            storm_handshake: self.storm_handshake,
            tls_full,
            tls_resumed,
            turn: self.turn,
            held: self.held,
            turns: self.turns,
        }
    }
}
