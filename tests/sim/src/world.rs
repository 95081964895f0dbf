//! A driver, its clocks and the network, all of them virtual, around a real shard and the model.

macro_rules! say {
    ($world:expr, $($what:tt)*) => {
        if $world.trace.is_verbose {
            println!("{:>12} {}", $world.mono / 1_000, format_args!($($what)*));
        }
    };
}

mod collecting;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tickstream_engine::{Action, CloseReason, ConnId, Now, Report, Secured, SendOutcome, Shard};

use crate::client::{Client, End, KINDS, Kind, Moment, Reader, proxy_header};
use crate::journal::Journal;
use crate::model::{Header, Model, Phase};
use crate::publisher::Publisher;
use crate::rng::Rng;
use crate::rules::shard_of;
use crate::scenario::Scenario;
use crate::ticks::{MS, SECOND};
use crate::trace::Trace;

#[global_allocator]
static MEMORY: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// The driver's longest sleep.
const SLEEP_NS: u64 = 100 * MS;

/// Outcome of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// Of everything that the shard did, in order.
    pub hash: u64,
    /// Actions that the shard asked of its driver.
    pub actions: u64,
    /// The shard's counters.
    pub counters: tickstream_engine::Counters,
    /// The most that the shard held, bytes.
    pub memory_most: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    Turn(usize),
    Deliver(usize),
    Secure(usize),
    Answer(usize),
    Writable(usize),
    Read(usize),
    Step,
    Stall,
    Meddle,
    Drain,
    /// A commit of the journal ends.
    Commit,
    /// The journal's disk changes.
    Disk,
    /// A publisher comes back.
    Return,
}

/// A driver, clocks, a network, clients, a shard and its model.
pub struct World {
    scenario: Scenario,
    rng: Rng,
    shard: Shard,
    model: Model,
    clients: Vec<Client>,
    /// `None`: events aren't collected.
    journal: Option<Journal>,
    /// Publishers that have lost their connections.
    returning: VecDeque<(Kind, Box<Publisher>)>,
    seed: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    events_pushed: u64,
    mono: u64,
    wall: u64,
    arrived: u64,
    unanswered: usize,
    /// Bytes that the shard allocated and didn't free.
    held: isize,
    held_most: isize,
    trace: Trace,
}

fn allocated() -> isize {
    let stats = MEMORY.stats();
    stats.bytes_allocated.wrapping_sub(stats.bytes_deallocated) as isize
}

impl World {
    /// The world of a seed; a verbose one prints what happens.
    pub fn new(seed: u64, is_verbose: bool) -> Self {
        let mut rng = Rng::new(seed);
        let scenario = Scenario::of(seed, &mut rng);
        if is_verbose {
            println!("{scenario:#?}");
        }
        let (mono, wall) = (77 * SECOND, scenario.unix_ns);
        let before = allocated();
        let shard = Shard::new(scenario.rules.engine(seed), Now { mono_ns: mono, unix_ns: wall });
        let held = allocated() - before;
        let mut model = Model::new(scenario.rules.clone(), shard_of(seed), mono, wall);
        model.is_overloaded =
            scenario.actions < 256 || scenario.oversleeps > 100 * MS || scenario.clients > 1_000;
        let mut world = Self {
            shard,
            model,
            clients: Vec::new(),
            journal: scenario.rules.events.as_ref().map(|_| Journal::new(&mut rng)),
            returning: VecDeque::new(),
            seed,
            events: BinaryHeap::new(),
            events_pushed: 0,
            mono,
            wall,
            arrived: 0,
            unanswered: 0,
            held,
            held_most: held,
            trace: Trace::new(is_verbose),
            scenario,
            rng,
        };
        world.after(0, Event::Arrive);
        world.change_disk();
        world.restore();
        let scenario = world.scenario.clone();
        for (every, event) in [
            (scenario.steps_every, Event::Step),
            (scenario.stalls_every, Event::Stall),
            (scenario.meddles_every, Event::Meddle),
        ] {
            if every > 0 {
                let pause = world.rng.below(2 * every);
                world.after(pause, event);
            }
        }
        if let Some((at, _)) = scenario.drain {
            world.after(at, Event::Drain);
        }
        world
    }

    /// Lets the time of the scenario pass, pass by pass.
    pub fn run(mut self) -> Outcome {
        let end = self.mono + self.scenario.lasts;
        while self.mono < end {
            self.pass();
            self.sleep();
        }
        let memory_most = self.held_most.max(0) as usize;
        Outcome {
            hash: self.trace.hash(),
            actions: self.model.actions,
            counters: self.shard.counters(),
            memory_most,
        }
    }

    fn after(&mut self, pause: u64, event: Event) {
        self.events_pushed += 1;
        self.events.push(Reverse((self.mono + pause, self.events_pushed, event)));
    }

    fn now(&self) -> Now {
        Now { mono_ns: self.mono, unix_ns: self.wall }
    }

    /// Calls the shard, and accounts for its memory.
    fn call<T>(&mut self, call: impl FnOnce(&mut Shard) -> T) -> T {
        let before = allocated();
        let answer = call(&mut self.shard);
        self.held += allocated() - before;
        answer
    }

    /// Drops what the shard gave away.
    fn drop<T>(&mut self, given: T) {
        let before = allocated();
        drop(given);
        self.held += allocated() - before;
    }

    // ---- The driver ---------------------------------------------------------------------------------------

    fn pass(&mut self) {
        let now = self.now();
        self.call(|shard| shard.advance(now));
        self.model.advance(now.mono_ns, now.unix_ns);
        for _ in 0..self.scenario.completions {
            if self.pass_is_spent() {
                break;
            }
            match self.events.peek() {
                Some(&Reverse((at, _, event))) if at <= self.mono => {
                    self.events.pop();
                    self.happens(event);
                }
                _ => break,
            }
        }
        self.pass_time(50_000);
        let now = self.now();
        self.model.advance(now.mono_ns, now.unix_ns);
        self.call(|shard| shard.handle_timeout(now));
        self.reports();
        self.model.timed();
        self.collect();
        for _ in 0..self.scenario.actions {
            let action = self.call(Shard::poll_action);
            self.reports();
            match action {
                Some(action) => self.act(action),
                None => break,
            }
        }
        let has_more = self.shard.has_actions() || self.events_are_due();
        self.model.passed(&self.shard, !has_more && self.unanswered == 0);
        self.model.check_counters(&self.shard);
        if self.rng.one_in(16) {
            self.model.check_view(&self.shard);
        }
        self.held_most = self.held_most.max(self.held);
        let most = self.model.memory_max(self.shard.slots_end().index());
        assert!(self.held <= most as isize, "the shard holds {} bytes, {most} are allowed", self.held);
        assert!(self.held >= 0);
    }

    fn events_are_due(&self) -> bool {
        self.events.peek().is_some_and(|Reverse((at, ..))| *at <= self.mono)
    }

    /// Time passes for both clocks.
    fn pass_time(&mut self, most: u64) {
        let passed = self.rng.below(most);
        (self.mono, self.wall) = (self.mono + passed, self.wall + passed);
    }

    fn sleep(&mut self) {
        if self.shard.has_actions() || self.events_are_due() {
            return self.pass_time(if self.scenario.actions < 256 { 3 * MS } else { 200_000 });
        }
        let mut wake = self.mono + SLEEP_NS;
        if let Some(due) = self.shard.poll_timeout() {
            wake = wake.min(due.max(self.mono + 1));
        }
        if let Some(Reverse((at, ..))) = self.events.peek() {
            wake = wake.min(*at);
        }
        let slept = wake - self.mono;
        (self.mono, self.wall) = (wake, self.wall + slept);
        if self.scenario.oversleeps > 0 && self.rng.one_in(4) {
            self.pass_time(self.scenario.oversleeps);
        }
    }

    /// The connections that ended in the last call.
    fn ended(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        while let Some(report) = self.call(Shard::poll_report) {
            say!(self, "{:?} ended: {:?}: {}", report.conn, report.reason, report.detail);
            self.trace.number(report.number << 8 | report.reason as u64);
            reports.push(report);
        }
        reports
    }

    /// The model learns of them.
    fn tell(&mut self, reports: Vec<Report>) {
        for report in reports {
            let index = self.index(report.conn);
            self.model.reported(index, &report);
            self.drop(report);
        }
    }

    fn reports(&mut self) {
        let reports = self.ended();
        self.tell(reports);
    }

    fn index(&self, id: ConnId) -> usize {
        let index = self.model.conns.iter().rposition(|conn| conn.id == id);
        index.unwrap_or_else(|| panic!("nobody is called {id:?}"))
    }

    fn act(&mut self, action: Action) {
        self.model.actions += 1;
        match action {
            Action::Send { conn, frame, offset } => {
                let index = self.index(conn);
                let answer = self.socket_takes(index, frame.as_bytes().len() as u64 - u64::from(offset));
                say!(self, "{conn:?} is sent type {} from {offset}: {answer:?}", frame.as_bytes()[3]);
                self.trace.number(1 << 60 | u64::from(conn.slot.0) << 32 | u64::from(offset));
                self.trace.bytes(frame.as_bytes());
                self.model.offered(index, &frame, offset, answer);
                self.drop(frame);
                self.unanswered += 1;
                let late = if self.scenario.answers_late > 0 && self.rng.one_in(3) {
                    self.rng.below(self.scenario.answers_late)
                } else {
                    0
                };
                self.after(late, Event::Answer(index));
            }
            Action::AwaitWritable { conn } => {
                say!(self, "{conn:?} is awaited");
                self.trace.number(2 << 60 | u64::from(conn.slot.0));
                let index = self.index(conn);
                self.model.awaits(index);
                self.read(index);
            }
            Action::Shutdown { conn } => {
                say!(self, "{conn:?} gets FIN");
                self.trace.number(3 << 60 | u64::from(conn.slot.0));
                let index = self.index(conn);
                self.model.shut(index);
                // A decent client closes its side then.
                let client = &mut self.clients[index];
                if client.end.is_none() && self.rng.one_in(2) {
                    client.end = Some(End::Fin);
                    self.deliver_soon(index);
                }
            }
            Action::Close { conn, abort } => {
                say!(self, "{conn:?} is let go of{}", if abort { " by RST" } else { "" });
                self.trace.number(4 << 60 | u64::from(conn.slot.0) << 1 | u64::from(abort));
                let index = self.index(conn);
                self.model.released(index, abort);
                self.leave(index);
            }
        }
    }

    // ---- The network --------------------------------------------------------------------------------------

    /// A socket's answer to so many bytes.
    fn socket_takes(&mut self, index: usize, bytes: u64) -> SendOutcome {
        let client = &mut self.clients[index];
        if client.ended == Some(End::Reset) {
            return SendOutcome::Broken;
        }
        let mut taken = client.room(self.mono).min(bytes);
        if self.scenario.short_one_in > 0 && self.rng.one_in(self.scenario.short_one_in) {
            taken = taken.min(self.rng.below(bytes));
        }
        client.unread += taken;
        if taken == 0 { SendOutcome::WouldBlock } else { SendOutcome::Sent(taken as u32) }
    }

    /// The client reads, now or in a while, and then its socket takes more.
    fn read(&mut self, index: usize) {
        let pause = match self.clients[index].reader {
            Reader::Prompt => self.rng.below(20 * MS),
            Reader::Drip { every, .. } => every,
            Reader::Stalls { until, .. } => until.saturating_sub(self.mono) + self.rng.below(20 * MS),
        };
        self.after(pause, Event::Read(index));
    }

    fn deliver_soon(&mut self, index: usize) {
        if !std::mem::replace(&mut self.clients[index].is_delivering, true) {
            let pause = self.rng.below(20 * MS);
            self.after(pause, Event::Deliver(index));
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Turn(index) => self.turn(index),
            Event::Deliver(index) => self.deliver(index),
            Event::Secure(index) => self.secure(index),
            Event::Answer(index) => self.answer(index),
            Event::Read(index) => {
                let client = &mut self.clients[index];
                client.unread = match client.reader {
                    Reader::Drip { reads, .. } => client.unread.saturating_sub(reads),
                    _ => 0,
                };
                let has_room = client.room(self.mono) > 0 || client.ended.is_some();
                if self.model.conns[index].is_awaited && has_room {
                    let pause = self.rng.below(3 * MS);
                    self.after(pause, Event::Writable(index));
                } else if self.model.conns[index].is_awaited
                    && !matches!(client.reader, Reader::Drip { holds: 0, .. })
                {
                    self.read(index);
                }
            }
            Event::Writable(index) => {
                let id = self.model.conns[index].id;
                self.call(|shard| shard.writable(id));
                self.model.writable(index);
            }
            Event::Step => {
                let by = self.rng.pick(&[300 * MS, 999 * MS, SECOND, 7 * SECOND, 3_600 * SECOND]);
                let (sign, wall) =
                    if self.rng.one_in(2) { ("-", self.wall - by) } else { ("+", self.wall + by) };
                say!(self, "the wall clock is set: {sign}{} ms", by / MS);
                self.wall = wall;
                let now = self.now();
                self.call(|shard| shard.advance(now));
                self.model.advance(now.mono_ns, now.unix_ns);
                let pause = self.rng.below(2 * self.scenario.steps_every);
                self.after(pause, Event::Step);
            }
            Event::Stall => {
                let passed = self.rng.pick(&[200 * MS, 501 * MS, 2 * SECOND, 9 * SECOND, 30 * SECOND]);
                say!(self, "a stall of {} ms", passed / MS);
                (self.mono, self.wall) = (self.mono + passed, self.wall + passed);
                let now = self.now();
                self.call(|shard| shard.advance(now));
                self.model.advance(now.mono_ns, now.unix_ns);
                let pause = self.rng.below(2 * self.scenario.stalls_every);
                self.after(pause, Event::Stall);
            }
            Event::Meddle => self.meddle(),
            Event::Commit => self.committed(),
            Event::Disk => self.change_disk(),
            Event::Return => self.come_back(),
            Event::Drain => {
                let over_ms = self.scenario.drain.expect("a drain").1;
                say!(self, "a drain of {over_ms} ms");
                self.call(|shard| shard.begin_drain(over_ms));
                self.model.drained(over_ms);
            }
        }
    }

    fn arrive(&mut self) {
        if self.arrived < self.scenario.clients {
            let pause = self.rng.below(2 * self.scenario.arrivals + 1);
            self.after(pause, Event::Arrive);
        }
        self.arrived += 1;
        let kind = KINDS[self.rng.weighted(&self.scenario.kinds)];
        let tls = self.rng.one_in(self.scenario.tls_one_in);
        let publisher = self.publisher(kind);
        // Who is refused doesn't come again.
        let _ = self.connect(kind, tls, publisher);
    }

    /// A client connects.
    ///
    /// # Errors
    /// If it is refused: its publisher.
    fn connect(
        &mut self,
        kind: Kind,
        tls: bool,
        publisher: Option<Box<Publisher>>,
    ) -> Result<(), Option<Box<Publisher>>> {
        let is_trusted = self.scenario.rules.proxy > 0 && self.rng.below(3) > 0;
        let host: &str = if is_trusted { "10.1.2.3" } else { self.rng.pick(&ADDRESSES) };
        let peer = SocketAddr::new(host.parse().expect("an address"), self.rng.range(1_024..60_000) as u16);
        let mut client = Client::new(kind, tls, self.mono, &mut self.rng);
        let mut header = Header { bytes: 0, source: None, is_valid: true };
        if is_trusted && (self.scenario.rules.proxy == 2 || self.rng.one_in(2)) {
            let host: IpAddr = self.rng.pick(&ADDRESSES).parse().expect("an address");
            let source = SocketAddr::new(host, self.rng.range(1_024..60_000) as u16);
            let (bytes, source, is_valid) = proxy_header(source, &mut self.rng);
            if self.scenario.rules.proxy == 2 && self.rng.one_in(8) {
                header = Header { bytes: 1, source: None, is_valid: false };
            } else {
                client.write(&bytes);
                header = Header { bytes: bytes.len(), source, is_valid };
            }
        }
        if tls {
            let hello = vec![0x16; self.rng.range(1..300) as usize];
            client.write(&hello);
        }
        client.bare = client.written.len();
        let answer = self.call(|shard| shard.accept(peer, tls));
        self.trace.number(5 << 60 | answer.as_ref().map_or(u64::MAX >> 8, |id| u64::from(id.slot.0)));
        say!(
            self,
            "{peer} arrives, {kind:?}, TLS {tls}, {header:?}, {:?}: {:?}",
            client.reader,
            answer.as_ref().map_err(|refused| refused.limit)
        );
        let index = self.model.accepted(peer, tls, is_trusted, header, &answer);
        self.drop(answer);
        let Some(index) = index else { return Err(publisher) };
        assert_eq!(index, self.clients.len());
        client.publisher = publisher;
        self.clients.push(client);
        if self.clients[index].bare > 0 {
            self.deliver_soon(index);
        }
        let pause = self.rng.pick(&[0, 10 * MS, SECOND, 4_950 * MS]);
        self.after(pause, Event::Turn(index));
        Ok(())
    }

    fn turn(&mut self, index: usize) {
        let sequences = [0, 1].map(|mode| self.model.streams[mode].due_end(self.wall, 0));
        let client = &mut self.clients[index];
        if client.ended.is_some() || self.model.conns[index].is_gone {
            return;
        }
        let moment = Moment { mono: self.mono, wall: self.wall, sequences };
        let pause = client.turn(moment, &mut self.rng);
        self.tell_made(index);
        if let Some(pause) = pause {
            self.after(pause, Event::Turn(index));
        }
        self.deliver_soon(index);
    }

    /// Some of what a client wrote arrives, or its end.
    fn deliver(&mut self, index: usize) {
        self.clients[index].is_delivering = false;
        let client = &mut self.clients[index];
        if client.ended.is_some() {
            return;
        }
        let ready = match (client.bare, client.secured) {
            (0, true) => client.written.len(),
            (bare, _) => bare,
        };
        if client.end == Some(End::Reset) || client.end == Some(End::Fin) && client.written.is_empty() {
            return self.end(index);
        }
        if ready == 0 {
            return;
        }
        let length = match self.rng.below(4) {
            0 => self.rng.range(1..9).min(ready as u64) as usize,
            1 => self.rng.below(ready as u64) as usize + 1,
            _ => ready,
        };
        let bytes: Vec<u8> = client.written.drain(..length).collect();
        let was_bare = client.bare > 0;
        client.bare = client.bare.saturating_sub(length);
        let is_hello_over = was_bare && client.bare == 0 && client.tls;
        if !client.written.is_empty() || client.end.is_some() {
            self.deliver_soon(index);
        }
        self.arrives(index, &bytes);
        if is_hello_over {
            let pause = self.rng.pick(&[0, 100 * MS, 100 * MS, 4_990 * MS]);
            self.after(pause, Event::Secure(index));
        }
    }

    fn arrives(&mut self, index: usize, bytes: &[u8]) {
        let (id, phase) = (self.model.conns[index].id, self.model.conns[index].phase);
        if self.model.conns[index].is_gone {
            let rest = self.call(|shard| shard.received(id, bytes).len());
            return assert_eq!(rest, 0, "bytes for a connection that is gone");
        }
        say!(self, "{id:?} sends {} bytes", bytes.len());
        let awaits = self.shard.awaits_proxy_header(id);
        assert_eq!(awaits, phase == Phase::Proxied);
        let is_handshake = phase == Phase::Handshaking;
        if is_handshake && self.rng.one_in(2) {
            self.call(|shard| shard.handshake_received(id));
            self.model.conns[index].has_received = true;
            return;
        }
        let seen = self.model.conns[index].header_seen;
        let rest = self.call(|shard| shard.received(id, bytes).len());
        let reports = self.ended();
        let said = reports.iter().find(|report| report.conn == id).map(|report| report.reason);
        self.model.frames_counted = self.shard.counters().frames_received;
        self.model.received(index, bytes, said);
        self.tell(reports);
        self.model.check_reported(index);
        let conn = &self.model.conns[index];
        if conn.phase == Phase::Handshaking {
            let expected = bytes.len() - (conn.header_seen - seen);
            assert_eq!(rest, expected, "TLS isn't the shard's: {conn:?}");
        } else if said.is_none() {
            assert_eq!(rest, 0, "{conn:?}");
        }
    }

    fn end(&mut self, index: usize) {
        let (id, end) = (self.model.conns[index].id, self.clients[index].end);
        self.clients[index].ended = end;
        say!(self, "{id:?} ends by {end:?}");
        let reason = if end == Some(End::Fin) { CloseReason::PeerClosed } else { CloseReason::PeerReset };
        self.call(|shard| match reason {
            CloseReason::PeerClosed => shard.peer_closed(id),
            _ => shard.peer_reset(id, "reset by peer".to_owned()),
        });
        if !self.model.conns[index].is_gone {
            self.model.lost(index, reason);
            self.reports();
            self.model.check_reported(index);
        }
        self.leave(index);
    }

    /// A handshake is done, or has failed.
    fn secure(&mut self, index: usize) {
        let id = self.model.conns[index].id;
        if self.rng.one_in(10) {
            self.call(|shard| shard.tls_failed(id, "a bad record".to_owned()));
            if !self.model.conns[index].is_gone {
                self.model.lost(index, CloseReason::TlsFailed);
                self.reports();
            }
            return;
        }
        let user = self.rng.one_in(3).then(|| self.rng.pick(&["ada", "probe-7"]).to_owned());
        let resumed = self.rng.one_in(2);
        let secured = Secured { resumed, user: user.clone().map(String::into_boxed_str), subject: None };
        // The shard owns the name from now on.
        let name_bytes = user.as_ref().map_or(0, String::len) as isize;
        self.call(|shard| shard.secured(id, secured));
        self.held += name_bytes;
        say!(self, "{id:?} has shaken hands as {user:?}");
        if !self.model.conns[index].is_gone {
            self.model.secured(index, user, resumed);
        }
        self.clients[index].secured = true;
        self.deliver_soon(index);
    }

    fn answer(&mut self, index: usize) {
        self.unanswered -= 1;
        let conn = &self.model.conns[index];
        let id = conn.id;
        let answer = conn.underway.as_ref().and_then(|underway| underway.answer);
        // Gone meanwhile: a late word.
        let outcome = answer.unwrap_or(SendOutcome::Sent(17));
        say!(self, "{id:?} is answered {outcome:?}");
        self.call(|shard| shard.sent(id, outcome));
        self.hear(index);
        self.model.answered(index);
        self.reports();
        self.model.check_reported(index);
    }

    /// Operators at work.
    fn meddle(&mut self) {
        let pause = self.rng.below(2 * self.scenario.meddles_every);
        self.after(pause, Event::Meddle);
        match self.rng.below(4) {
            0 if !self.clients.is_empty() => {
                let index = self.rng.below(self.clients.len() as u64) as usize;
                let id = self.model.conns[index].id;
                say!(self, "an operator closes {id:?}");
                let kicked = self.call(|shard| shard.kick(id));
                assert_eq!(kicked, self.model.kicked(index));
                self.reports();
            }
            1 => {
                let is_short = self.rng.one_in(2);
                say!(self, "memory is short: {is_short}");
                self.call(|shard| shard.set_memory_is_short(is_short));
                self.model.gate.memory_is_short = is_short;
            }
            2 => {
                self.call(Shard::handshake_waits);
                self.model.expected.fired[tickstream_engine::Limit::Handshakes as usize] += 1;
            }
            _ => {
                let rules = self.model.rules.changed(&mut self.rng);
                say!(self, "other settings: {rules:?}");
                let config = rules.engine(self.seed);
                self.call(|shard| shard.reconfigure(&config));
                self.model.reconfigured(rules);
            }
        }
    }
}

/// Addresses of clients; two of them count as one.
const ADDRESSES: [&str; 6] =
    ["192.0.2.1", "192.0.2.2", "198.51.100.7", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"];
