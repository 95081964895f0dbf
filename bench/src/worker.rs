//! One thread with its ring, and its share of the connections.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io,
    net::Shutdown,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
        mpsc::Sender,
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::Histogram;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::{
    connection::{Close, Connection, FrameReader, Stage, forever, greeting, heartbeat_forever},
    kernel::{Completion, Ring, RingSetup, local_socket_options, pin_to_cpu, thread_id, unshare_descriptors},
    options::Plan,
    pace::Pace,
    stats::{Class, Counters, Gauges, Recorder, SecondReport, Window, coarse, count, second_of},
};

/// What isn't driven by arrivals (opening, heartbeats, churn) is looked after this often.
const STEP: Duration = Duration::from_millis(10);
/// The same while connections are being opened at a rate.
const RAMP_STEP: Duration = Duration::from_millis(1);
/// Connections that are opened before arrivals are looked at again.
const OPENED_PER_STEP: usize = 128;
/// A failed connection is tried again after this, unless the server asks for more.
const RETRY_US: u64 = 500_000;
const RING: (u32, u32) = (1024, 8192);

/// What the main thread tells all workers.
#[derive(Debug, Default)]
pub struct Control {
    command: AtomicU8,
    pub steady_from_us: AtomicU64,
    pub steady_until_us: AtomicU64,
    pub storm_from_us: AtomicU64,
    pub storm_until_us: AtomicU64,
    /// Ticks due before this must have come at the end.
    pub verify_until_us: AtomicU64,
}

/// What workers are to do; each includes the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Command {
    /// Open connections and hold them.
    Connect,
    /// Churn, too.
    Churn,
    /// No more churn.
    Hold,
    /// Drop and reconnect.
    Storm,
    /// Judge what is missing, and end.
    Stop,
}

impl Control {
    /// Sets what workers do from now on.
    pub fn command(&self, command: Command) {
        self.command.store(command as u8, Ordering::Release);
    }

    fn is(&self, command: Command) -> bool {
        self.command.load(Ordering::Acquire) == command as u8
    }

    fn window(from: &AtomicU64, until: &AtomicU64) -> Window {
        Window { from_us: from.load(Ordering::Relaxed), until_us: until.load(Ordering::Relaxed) }
    }
}

/// What a worker hands over at its end.
#[derive(Debug)]
pub struct WorkerResult {
    pub counters: Counters,
    pub steady: Histogram<u64>,
    pub storm: Histogram<u64>,
    /// From opening to the ACK of SUBSCRIBE, µs.
    pub handshake: Histogram<u32>,
    /// The same, of those that came back in the storm.
    pub storm_handshake: Histogram<u32>,
    /// What a turn of the loop takes between two waits, µs: how late it may find an arrival.
    pub turn: Histogram<u32>,
    /// For each delivery, how long `--receive-wait` may have held it back at most, µs.
    pub held: Histogram<u32>,
    pub turns: u64,
}

/// What kind of operation a completion is of, which connection's, and of which of its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    kind: Kind,
    generation: u16,
    slot: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Connect,
    Greeting,
    Heartbeat,
    Receive,
    Hangup,
}

impl Token {
    fn pack(self) -> u64 {
        u64::from(self.slot) | u64::from(self.generation) << 32 | (self.kind as u64) << 48
    }

    fn unpack(token: u64) -> Self {
        let kind = match token >> 48 {
            0 => Kind::Connect,
            1 => Kind::Greeting,
            2 => Kind::Heartbeat,
            3 => Kind::Receive,
            _ => Kind::Hangup,
        };
        Self { kind, generation: (token >> 32) as u16, slot: token as u32 }
    }
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
    greeting: &'static [u8],
    heartbeat: &'static [u8],

    connections: Vec<Connection>,
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

/// Where the counters stood when the second of the time series began.
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
        unshare_descriptors()?;
        if let Some(cpus) = &plan.options.cpus {
            pin_to_cpu(cpus.0[number as usize % cpus.0.len()])?;
        }
        Gauges::set(&gauges.thread_id, thread_id() as u64);
        let (submissions, completions) = RING;
        let (buffers, buffer_len) = plan.buffers;
        let ring = Ring::new(RingSetup { submissions, completions, buffers, buffer_len })?;
        let connections: Vec<_> = plan.indices(number).map(|index| Connection::new(plan.class(index))).collect();
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
            greeting: forever(greeting),
            heartbeat: heartbeat_forever(),
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
        let patience_us = patience.as_micros() as u64;
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
            self.closing.clear();

            // One time for all that arrived: the kernel handed it over at once.
            now_us = wall_us();
            let frames_before = self.counters.frames;
            self.ring.completions(&mut completions);
            for completion in completions.drain(..) {
                self.complete(completion, now_us);
            }
            self.reader.flush(now_us, &mut self.recorder);
            let held_us = now_us.saturating_sub(slept_us).min(patience_us);
            self.held.saturating_record_n(held_us, (self.counters.frames - frames_before) as u32);
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
            let Some(slot) = self.waiting.pop_front() else { break };
            self.ramp_allows = self.ramp_allows.saturating_sub(1);
            self.open(slot, now_us);
        }
    }

    fn send_heartbeats(&mut self, now_us: u64) {
        let announced = self.reader.heartbeat_interval_ms.map(|ms| Duration::from_millis(u64::from(ms)));
        let Some(interval) = self.plan.options.heartbeat_interval.or(announced) else { return };
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
            let connection = &self.connections[slot as usize];
            if let (Stage::Live, Some(socket)) = (connection.stage, &connection.socket) {
                let token = Token { kind: Kind::Heartbeat, generation: connection.generation, slot };
                self.ring.send(socket.as_fd(), self.heartbeat, token.pack());
                self.counters.heartbeats_sent += 1;
            }
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
        let pace = self
            .slow_pace
            .get_or_insert_with(|| Pace::new(now_us, count, (pause.as_micros() as u64).max(1)));
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

    // A connection's life

    fn open(&mut self, slot: u32, now_us: u64) {
        let index = u64::from(self.number) + u64::from(slot) * u64::from(self.plan.threads);
        let connection = &mut self.connections[slot as usize];
        connection.restart();
        connection.opened_us = now_us as u32;
        match open_socket(&self.plan, connection.class, index) {
            Ok(socket) => {
                let token = Token { kind: Kind::Connect, generation: connection.generation, slot };
                self.ring.connect(socket.as_fd(), self.target, token.pack());
                connection.socket = Some(socket);
                connection.stage = Stage::Connecting;
                self.in_flight += 1;
            }
            Err(error) => {
                count(&mut self.counters.connect_errors, &errno_name(error.raw_os_error().unwrap_or(0)));
                self.failed(slot, now_us, 0);
            }
        }
    }

    fn complete(&mut self, completion: Completion, now_us: u64) {
        let token = Token::unpack(completion.token);
        let slot = token.slot;
        let connection = &mut self.connections[slot as usize];
        if connection.generation == token.generation {
            if token.kind == Kind::Receive && !completion.more {
                connection.armed = false;
            }
            match token.kind {
                Kind::Connect => self.connected(slot, completion.result, now_us),
                Kind::Greeting => self.sent(self.greeting, completion.result),
                Kind::Heartbeat => self.sent(self.heartbeat, completion.result),
                Kind::Receive => self.received(slot, &completion, now_us),
                Kind::Hangup => self.hung_up(slot),
            }
        }
        if let Some(receipt) = completion.receipt {
            self.ring.recycle(receipt);
        }
    }

    fn connected(&mut self, slot: u32, result: Result<u32, i32>, now_us: u64) {
        let connection = &mut self.connections[slot as usize];
        if let Err(errno) = result {
            count(&mut self.counters.connect_errors, &errno_name(errno));
            self.in_flight -= 1;
            self.close_socket(slot);
            self.failed(slot, now_us, 0);
            return;
        }
        self.counters.connects += 1;
        self.connected += 1;
        connection.stage = Stage::Greeting;
        let Some(socket) = &connection.socket else { return };
        match connection.resume_after() {
            None => {
                let token = Token { kind: Kind::Greeting, generation: connection.generation, slot };
                self.ring.send(socket.as_fd(), self.greeting, token.pack());
            }
            resume_after => {
                let Plan { options, password, schedule, .. } = &*self.plan;
                let greeting = greeting(&options.user, password, schedule.mode(), resume_after);
                // A socket that was just connected takes a few bytes. If the peer is gone, receiving says so.
                if SockRef::from(socket).send(&greeting).is_err() {
                    self.counters.sends_refused += 1;
                }
            }
        }
        self.arm(slot);
    }

    fn sent(&mut self, frame: &[u8], result: Result<u32, i32>) {
        if result != Ok(frame.len() as u32) {
            self.counters.sends_refused += 1;
        }
    }

    fn received(&mut self, slot: u32, completion: &Completion, now_us: u64) {
        let connection = &mut self.connections[slot as usize];
        if connection.stage == Stage::Leaving {
            if !completion.more {
                self.close_socket(slot);
                self.connections[slot as usize].stage = Stage::Waiting;
                self.waiting.push_back(slot);
            }
            return;
        }
        match (completion.result, &completion.receipt) {
            (Ok(len), Some(receipt)) if len > 0 => {
                let bytes = self.ring.bytes(receipt);
                let Self { reader, counters, recorder, .. } = self;
                let outcome = reader.receive(connection, bytes, now_us, counters, recorder);
                if outcome.subscribed && connection.stage == Stage::Greeting {
                    self.subscribed(slot, now_us);
                }
                match outcome.close {
                    Some(close) => self.closed(slot, &close, now_us),
                    None => self.rearm(slot, completion.more),
                }
            }
            (Err(libc::ENOBUFS), _) => self.rearm(slot, completion.more),
            (Ok(_), _) => self.ended(slot, "end of stream without ERROR", now_us),
            (Err(errno), _) => self.ended(slot, &errno_name(errno), now_us),
        }
    }

    fn subscribed(&mut self, slot: u32, now_us: u64) {
        let connection = &mut self.connections[slot as usize];
        connection.stage = Stage::Live;
        connection.failures = 0;
        let took_us = u64::from((now_us as u32).wrapping_sub(connection.opened_us));
        let handshake = if self.storming { &mut self.storm_handshake } else { &mut self.handshake };
        handshake.saturating_record(took_us);
        self.in_flight -= 1;
        self.live += 1;
        Gauges::set(&self.gauges.last_subscribed_us, now_us);
    }

    /// Receives again where that has ended, in the way of the connection's class.
    fn rearm(&mut self, slot: u32, more: bool) {
        let connection = &self.connections[slot as usize];
        match (connection.class, connection.stage) {
            _ if more => {}
            // The pace of the slow ones does it.
            (Class::Slow, Stage::Live) => {}
            (Class::Stalled, Stage::Live) => self.arm_hangup(slot),
            _ => self.arm(slot),
        }
    }

    fn arm(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let Some(socket) = &connection.socket else { return };
        connection.armed = true;
        let token = Token { kind: Kind::Receive, generation: connection.generation, slot }.pack();
        match connection.class {
            Class::Steady | Class::Churned => self.ring.receive(socket.as_fd(), token),
            Class::Slow | Class::Stalled => self.ring.receive_once(socket.as_fd(), token),
        }
    }

    fn arm_hangup(&mut self, slot: u32) {
        let connection = &self.connections[slot as usize];
        if let Some(socket) = &connection.socket {
            let token = Token { kind: Kind::Hangup, generation: connection.generation, slot };
            self.ring.poll_hangup(socket.as_fd(), token.pack());
        }
    }

    /// A stalled connection is over: its last words are read after all.
    fn hung_up(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if connection.stage == Stage::Live {
            // From here on it reads whatever comes, like a slow one that is always due.
            self.arm(slot);
        }
    }

    /// Drops a live connection; it comes back when its receive is over.
    fn leave(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let Some(socket) = &connection.socket else { return };
        self.live -= 1;
        connection.stage = Stage::Leaving;
        // Its receive is armed, and ends. An error means that the peer was faster, which ends it as well.
        let _ = SockRef::from(socket).shutdown(Shutdown::Both);
    }

    fn closed(&mut self, slot: u32, close: &Close, now_us: u64) {
        match close {
            Close::Error { code, retry_after_ms } => {
                self.over(slot, code, now_us, u64::from(*retry_after_ms) * 1_000);
            }
            Close::Malformed(what) => {
                count(&mut self.counters.malformed, what);
                self.over(slot, "malformed", now_us, 0);
            }
        }
    }

    fn ended(&mut self, slot: u32, how: &str, now_us: u64) {
        self.over(slot, how, now_us, 0);
    }

    fn over(&mut self, slot: u32, how: &str, now_us: u64, retry_after_us: u64) {
        let connection = &self.connections[slot as usize];
        count(&mut self.counters.closes[connection.class as usize], how);
        let was_live = connection.stage == Stage::Live;
        if was_live {
            self.live -= 1;
        } else {
            self.in_flight -= 1;
        }
        self.close_socket(slot);
        if was_live && !self.plan.options.reconnect {
            self.gone += 1;
            self.connections[slot as usize].stage = Stage::Gone;
        } else {
            self.failed(slot, now_us, retry_after_us);
        }
    }

    /// An attempt to connect came to nothing: another one, or none any more.
    fn failed(&mut self, slot: u32, now_us: u64, retry_after_us: u64) {
        let connection = &mut self.connections[slot as usize];
        connection.failures = connection.failures.saturating_add(1);
        if connection.failures >= self.plan.options.attempts {
            connection.stage = Stage::Gone;
            self.gone += 1;
        } else {
            connection.stage = Stage::Waiting;
            self.retries.push(Reverse((now_us + retry_after_us.max(RETRY_US), slot)));
        }
    }

    /// Closes a socket once no queued submission can name it any more.
    fn close_socket(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if let Some(socket) = connection.socket.take() {
            if connection.armed {
                // Ends the receive, whose completion then belongs to an old generation.
                let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
                connection.armed = false;
            }
            connection.restart();
            self.closing.push(socket);
        }
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
        let control = &self.control;
        self.recorder.steady_window = Control::window(&control.steady_from_us, &control.steady_until_us);
        self.recorder.storm_window = Control::window(&control.storm_from_us, &control.storm_until_us);
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
            let missing = connection.missing(self.plan.schedule, verify_until_us);
            self.counters.faults[connection.class as usize].missing += missing;
        }
        self.counters.ticks_early = self.recorder.early;
        WorkerResult {
            counters: self.counters,
            steady: self.recorder.steady,
            storm: self.recorder.storm,
            handshake: self.handshake,
            storm_handshake: self.storm_handshake,
            turn: self.turn,
            held: self.held,
            turns: self.turns,
        }
    }
}

/// µs of Unix time.
pub fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn open_socket(plan: &Plan, class: Class, index: u64) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(plan.options.addr), Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    if matches!(class, Class::Slow | Class::Stalled) {
        socket.set_recv_buffer_size(plan.options.slow_receive_buffer as usize)?;
    }
    if !plan.sources.is_empty() {
        let source = plan.sources[(index % plan.sources.len() as u64) as usize];
        local_socket_options(socket.as_fd(), source)?;
    }
    Ok(socket.into())
}

fn errno_name(errno: i32) -> String {
    let name = match errno {
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::ECONNRESET => "ECONNRESET",
        libc::ETIMEDOUT => "ETIMEDOUT",
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
        libc::EADDRINUSE => "EADDRINUSE",
        libc::EMFILE => "EMFILE",
        libc::ENFILE => "ENFILE",
        libc::ENOBUFS => "ENOBUFS",
        libc::ENOMEM => "ENOMEM",
        libc::EPIPE => "EPIPE",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::EHOSTUNREACH => "EHOSTUNREACH",
        libc::ECANCELED => "ECANCELED",
        other => return format!("errno {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_ring() {
        for kind in [Kind::Connect, Kind::Greeting, Kind::Heartbeat, Kind::Receive, Kind::Hangup] {
            let token = Token { kind, generation: 0xFEDC, slot: u32::MAX - 1 };
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
