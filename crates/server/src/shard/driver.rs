//! The driver of one shard: the only place that talks to engine, TLS, journal and ring, and carries what one says to the
//! others.

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use socket2::SockRef;
use tickstream_engine::{self as engine, Action, ConnId, Limits, Refused, SendOutcome, Shard};
use tickstream_journal::Record;

#[cfg(debug_assertions)]
use super::chaos::Chaos;
use super::close_log::CloseLog;
use super::inspector::Inspector;
use super::journal_driver::{Appended, JournalDriver};
use super::pacing::{HandshakeTurns, STEP_NS};
use super::transport::{Output, Transport};
use super::{Command, Control, ShardError, Spec};
use crate::otlp::{Tracer, Work};
use crate::ring::{self, Completion, Received, SocketRing, conn_id, socket_id};
use crate::tls::Acceptor;
use crate::versioned::Reader;

/// Completions of one pass, so that sending gets its turn.
const COMPLETIONS_PER_PASS: usize = 1_024;
/// Actions of one pass, so that receiving gets its turn: also the sends of one system call.
const ACTIONS_PER_PASS: usize = 256;
/// Time for which one pass goes on taking TLS handshakes, of which each costs some 100 µs, before ticks get their turn.
const HANDSHAKES_NS_PER_PASS: u64 = 50_000;
/// The longest sleep. The control word is looked at this often, and the engine takes a longer silence for a
/// stall. It doesn't hang on glommio's timers, which a parked executor can miss.
const SLEEP_NS_MAX: u64 = 100_000_000;
/// The longest that a drain waits for those that were accepted just before it.
const ARRIVING_NS_MAX: u64 = 100_000_000;
/// Pause of accepting after it failed for want of descriptors or memory.
const ACCEPT_PAUSE_NS: u64 = 100_000_000;

pub(super) struct Driver {
    number: usize,
    shard: Shard,
    ring: SocketRing,
    /// The journal of published events.
    journal: Option<JournalDriver>,
    transport: Transport,
    /// Use of TLS, by listener.
    listeners: Vec<bool>,
    certificates: Option<Reader<Acceptor>>,
    settings: Reader<engine::Config>,
    control: Arc<Control>,
    log: CloseLog,
    inspector: Inspector,
    tracer: Option<Tracer>,
    handshake_turns: HandshakeTurns,
    #[cfg(debug_assertions)]
    chaos: Option<Chaos>,
    drain_ms: u32,
    /// When a drain ends at the latest, CLOCK_MONOTONIC nanoseconds; `None` while the shard serves.
    drain_ends_ns: Option<u64>,
    /// When clients are told of the drain: those that were accepted before it are let in until then.
    tell_at_ns: Option<u64>,
    /// Accepting pauses until then.
    accept_again_ns: Option<u64>,
}

impl Driver {
    ///
    /// # Errors
    /// If the shard's journal can't be opened.
    pub fn new(spec: Spec, mut ring: SocketRing) -> Result<Self, ShardError> {
        let (certificates, acceptor) = spec.certificates.map(Reader::new).unzip();
        let (settings, engine) = Reader::new(spec.settings);
        let engine = engine::Config { shard: spec.shard as u16, ..(*engine).clone() };
        let mut shard = Shard::new(engine, ring::now());
        let place = (spec.shard, spec.config.shards.get());
        let alive = || spec.control.mark_alive(spec.shard);
        let consumers = Arc::clone(spec.control.consumers(spec.shard));
        let restore = |record: &Record<'_>| restore(&mut shard, record);
        let open = |events| JournalDriver::open(events, place, &mut ring, consumers, restore, alive);
        let journal = spec.config.events.as_ref().map(open).transpose()?;
        ring.accept();
        Ok(Self {
            number: spec.shard,
            shard,
            ring,
            journal,
            transport: Transport::new(acceptor, spec.config.settings.handshakes_max.get()),
            listeners: spec.listeners.iter().map(|(_, tls)| *tls).collect(),
            certificates,
            settings,
            control: spec.control,
            log: CloseLog::new(spec.shard),
            inspector: Inspector::new(spec.shard),
            tracer: spec.tracer,
            handshake_turns: HandshakeTurns::default(),
            #[cfg(debug_assertions)]
            chaos: Chaos::of_environment(spec.shard),
            drain_ms: (spec.config.settings.drain_seconds.as_millis() as u32).max(Limits::DRAIN_MS_MIN),
            drain_ends_ns: None,
            tell_at_ns: None,
            accept_again_ns: None,
        })
    }

    pub fn shard_number(&self) -> usize {
        self.number
    }

    /// Drives the shard until it is told to end.
    ///
    /// The driver sleeps in the socket ring, which knows of all that wakes it, and never yields: an executor that parks can
    /// sleep for ever, and it has no other task (docs/decisions/0001-executor.md).
    pub fn run(mut self) -> Result<(), ShardError> {
        while !self.is_finished() {
            self.pass()?;
            self.control.mark_alive(self.number);
        }
        if let Some(journal) = self.journal.take() {
            journal
                .finish(&mut self.ring, || self.control.mark_alive(self.number))
                .map_err(ShardError::Ring)?;
        }
        self.log.finish(&self.shard.counters());
        Ok(())
    }

    /// One pass: arrivals, due work, actions, each bounded; then one system call that submits them and
    /// sleeps if there is nothing more to do.
    fn pass(&mut self) -> Result<(), ShardError> {
        let (began, mut work) = (ring::now(), Work::default());
        self.shard.advance(began);
        self.apply_commands();
        let mailbox = self.control.mailbox(self.number);
        self.inspector.pass(mailbox, &mut self.shard, &self.ring, self.journal.as_ref());
        #[cfg(debug_assertions)]
        self.chaos.iter_mut().for_each(Chaos::pass);
        for _ in 0..COMPLETIONS_PER_PASS {
            // What has come of events is enough for one pass, and so is what has come when a tick is due: ticks first.
            if self.shard.ingest_is_spent() || self.tick_is_due(work.completions) {
                break;
            }
            match self.ring.next_completion() {
                Some(completion) => self.complete(completion),
                None => break,
            }
            work.completions += 1;
        }
        let now = ring::now();
        self.shard.handle_timeout(now);
        let second = now.mono_ns / 1_000_000_000;
        if self.log.is_over(second) {
            self.log.turn_to(second, &self.shard.counters());
        }
        if let Some(step) = self.shard.poll_clock_step() {
            self.log.clock_was_set(step);
        }
        while let Some(report) = self.shard.poll_report() {
            self.log.log(&report, || self.transport.subject(report.conn));
            if let Some(tracer) = &self.tracer {
                tracer.ended(&report, &self.shard, now);
            }
            self.inspector.keep(report, now.unix_ns);
        }
        self.store_events()?;
        for _ in 0..ACTIONS_PER_PASS {
            match self.shard.poll_action() {
                Some(action) => self.act(action),
                None => break,
            }
            work.actions += 1;
        }
        self.transport.flush();
        self.relay();
        work.handshakes = self.shake_hands()?;
        self.resume_accepting(now.mono_ns);
        let goes_on = self.shard.has_actions()
            || self.transport.has_work()
            || self.inspector.is_busy()
            || self.ring.has_refused();
        if goes_on {
            self.ring.submit().map_err(ShardError::Ring)?;
        }
        if let Some(tracer) = &self.tracer {
            tracer.passed(began, work);
        }
        if goes_on {
            return Ok(());
        }
        let latest = now.mono_ns + SLEEP_NS_MAX;
        let journal = self.journal.as_ref().and_then(JournalDriver::next_timeout);
        let earliest = [self.shard.poll_timeout(), journal].into_iter().flatten().min();
        self.ring.wake_at(earliest.map_or(latest, |at| at.min(latest)));
        // Returns at once if completions are waiting, such as those of sends that it submits.
        self.ring.submit_and_wait().map_err(ShardError::Ring)
    }

    /// True if a tick is due meanwhile; looks once in so many completions.
    fn tick_is_due(&self, completions: u32) -> bool {
        const LOOKED_EVERY: u32 = 16;
        completions % LOOKED_EVERY == LOOKED_EVERY - 1 && self.shard.has_tick_until(ring::now().unix_ns)
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { fd, listener } => self.accepted(fd, self.listeners[listener]),
            Completion::AcceptFailed { error } => self.accept_failed(&error),
            Completion::Received { socket, received } => self.received(conn_id(socket), received),
            Completion::PeerClosed { socket } => self.shard.peer_closed(conn_id(socket)),
            Completion::PeerReset { socket, error } => {
                self.shard.peer_reset(conn_id(socket), error.to_string());
            }
            Completion::Sent { socket, result } => self.sent(conn_id(socket), outcome(result)),
            #[cfg_attr(not(debug_assertions), expect(unused_mut, reason = "chaos changes it"))]
            Completion::File(mut completion) => {
                #[cfg(debug_assertions)]
                self.chaos.iter_mut().for_each(|chaos| chaos.change(&mut completion));
                if let Some(journal) = &mut self.journal {
                    journal.completed(*completion);
                }
            }
            Completion::Writable { socket } => self.writable(conn_id(socket)),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { conn, frame, offset } if self.transport.holds(conn) => {
                self.transport.send(conn, frame, offset);
                self.relay();
            }
            Action::Send { conn, frame, offset } => {
                self.ring.send(socket_id(conn), frame.into_shared(), offset);
            }
            Action::AwaitWritable { conn } => self.ring.await_writable(socket_id(conn)),
            Action::Shutdown { conn } if self.transport.holds(conn) => {
                self.transport.shutdown(conn);
                self.relay();
            }
            Action::Shutdown { conn } => self.ring.shutdown(socket_id(conn)),
            Action::Close { conn, abort } => {
                self.transport.close(conn, abort);
                self.relay();
                self.ring.close(socket_id(conn), abort);
            }
        }
    }

    /// Bytes came: the engine gets those of a plain connection and PROXY headers, TLS the others.
    fn received(&mut self, conn: ConnId, mut received: Received) {
        let bytes = self.ring.bytes_mut(&mut received);
        if self.transport.holds(conn) {
            let rest = if self.shard.awaits_proxy_header(conn) {
                self.shard.received(conn, bytes).len()
            } else {
                bytes.len()
            };
            if rest > 0 {
                let begin = bytes.len() - rest;
                self.transport.received(conn, &mut bytes[begin..]);
                self.relay();
            }
        } else {
            self.shard.received(conn, bytes);
        }
        self.ring.recycle(received);
        self.ring.receive(socket_id(conn));
    }

    /// A SEND was answered.
    fn sent(&mut self, conn: ConnId, outcome: SendOutcome) {
        if self.transport.holds(conn) {
            self.transport.sent(conn, outcome);
            self.relay();
        } else {
            self.shard.sent(conn, outcome);
        }
    }

    /// The socket takes more.
    fn writable(&mut self, conn: ConnId) {
        if self.transport.holds(conn) {
            self.transport.writable(conn);
            self.relay();
        } else {
            self.shard.writable(conn);
        }
    }

    /// Carries what TLS has to say to ring and engine.
    fn relay(&mut self) {
        let Self { transport, shard, ring, .. } = self;
        while let Some(output) = transport.poll_output() {
            match output {
                Output::Send { conn, bytes, offset } => ring.send(socket_id(conn), bytes, offset),
                Output::AwaitWritable { conn } => ring.await_writable(socket_id(conn)),
                Output::Shutdown { conn } => ring.shutdown(socket_id(conn)),
                Output::HandshakeReceived { conn } => shard.handshake_received(conn),
                Output::HandshakeWaits => shard.handshake_waits(),
                Output::Secured { conn, secured } => shard.secured(conn, secured),
                Output::Received { conn } => {
                    shard.received(conn, transport.plaintext());
                    transport.clear_plaintext();
                }
                Output::Sent { conn, outcome } => shard.sent(conn, outcome),
                Output::Writable { conn } => shard.writable(conn),
                Output::PeerClosed { conn } => shard.peer_closed(conn),
                Output::PeerReset { conn, error } => shard.peer_reset(conn, error),
                Output::TlsFailed { conn, error } => shard.tls_failed(conn, error),
            }
        }
    }

    /// Tells the engine what is on stable storage, appends what it has, and has the disk go on.
    ///
    /// # Errors
    /// If the journal failed.
    fn store_events(&mut self) -> Result<(), ShardError> {
        let Self { journal: Some(journal), shard, ring, .. } = self else { return Ok(()) };
        if let Some(stored) = journal.poll_synced() {
            shard.records_synced(stored);
        }
        let mut appended = journal.retry();
        loop {
            match appended {
                Appended::Taken => {}
                Appended::Waits => break,
                Appended::Refused(id, fault) => shard.record_refused(id, fault),
            }
            let Some(record) = shard.poll_record() else { break };
            appended = journal.append(&record);
        }
        let gone_on = journal.go_on(ring);
        shard.set_ingest_pressure(journal.pressure());
        Ok(gone_on?)
    }

    /// Works on handshakes for a while, unless ticks go first. Returns how many steps of them it took.
    ///
    /// # Errors
    /// If the ring failed.
    fn shake_hands(&mut self) -> Result<u32, ShardError> {
        let mut steps = 0;
        if !self.transport.has_work() {
            return Ok(steps);
        }
        let has_ticks = self.shard.has_actions() || self.shard.has_tick_until(ring::now().unix_ns + STEP_NS);
        if !self.handshake_turns.is_due(ring::now().mono_ns, has_ticks) {
            return Ok(steps);
        }
        // What is to be sent doesn't wait for handshakes.
        self.ring.submit().map_err(ShardError::Ring)?;
        let until_ns = ring::now().mono_ns + HANDSHAKES_NS_PER_PASS;
        while self.transport.work() {
            self.relay();
            steps += 1;
            if ring::now().mono_ns >= until_ns {
                break;
            }
        }
        Ok(steps)
    }

    fn accepted(&mut self, fd: OwnedFd, tls: bool) {
        // The multishot ACCEPT may have ended with this completion.
        self.ring.accept();
        // An error means that the peer is gone already.
        let Ok(peer) = ring::peer(fd.as_fd()) else { return };
        match self.shard.accept(peer, tls) {
            Ok(conn) => {
                if tls {
                    self.transport.adopt(conn);
                }
                self.ring.adopt(socket_id(conn), fd);
            }
            Err(refused) => refuse(&fd, &refused),
        }
    }

    fn accept_failed(&mut self, error: &io::Error) {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                self.pause_accepting(error, "accepting pauses; raise RLIMIT_NOFILE or lower max_connections");
            }
            // One connection that was gone before it was accepted.
            Some(libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::EPROTO) => self.ring.accept(),
            _ => self.pause_accepting(error, "accepting failed and pauses"),
        }
    }

    fn pause_accepting(&mut self, error: &io::Error, message: &str) {
        let pause_ms = ACCEPT_PAUSE_NS / 1_000_000;
        tracing::warn!(shard = self.number, %error, pause_ms, "{message}");
        self.accept_again_ns = Some(ring::now().mono_ns + ACCEPT_PAUSE_NS);
    }

    fn resume_accepting(&mut self, now_ns: u64) {
        if self.accept_again_ns.is_some_and(|at| at <= now_ns) {
            self.accept_again_ns = None;
            self.ring.accept();
        }
    }

    /// Applies what the process is told: takes new certificates and settings, refuses connections, drains.
    fn apply_commands(&mut self) {
        self.shard.set_memory_is_short(self.control.memory_is_short());
        if let Some(acceptor) = self.certificates.as_mut().and_then(Reader::replaced) {
            self.transport.set_acceptor(acceptor);
        }
        if let Some(settings) = self.settings.replaced() {
            self.shard.reconfigure(&settings);
        }
        if self.control.command() >= Command::Drain && self.drain_ends_ns.is_none() {
            self.ring.close_listeners();
            let (now_ns, drain_ns) = (ring::now().mono_ns, u64::from(self.drain_ms) * 1_000_000);
            self.drain_ends_ns = Some(now_ns + drain_ns);
            self.tell_at_ns = Some(now_ns + (drain_ns / 10).min(ARRIVING_NS_MAX));
        }
        if self.tell_at_ns.is_some_and(|at| at <= ring::now().mono_ns) {
            self.tell_at_ns = None;
            self.shard.begin_drain(self.drain_ms - self.drain_ms / 10);
        }
    }

    fn is_finished(&self) -> bool {
        let drained =
            |ends: u64| self.tell_at_ns.is_none() && self.shard.is_empty() || ring::now().mono_ns >= ends;
        self.control.command() == Command::Stop || self.drain_ends_ns.is_some_and(drained)
    }
}

/// Remembers what is in a record of a journal, so that it is known if it comes again.
fn restore(shard: &mut Shard, record: &Record<'_>) {
    // It was checked by its CRC: a payload that isn't a batch was written by something else, and holds no events.
    if let Err(error) = shard.restore(record.producer, record.producer_sequence, record.payload) {
        tracing::warn!(sequence = record.sequence, %error, "a record of the journal is no batch of events, and is passed over");
    }
}

/// Outcome of a SEND that was answered by a number of bytes or a negative errno.
fn outcome(result: i32) -> SendOutcome {
    match result {
        bytes @ 0.. => SendOutcome::Sent(bytes as u32),
        error if -error == libc::EAGAIN => SendOutcome::WouldBlock,
        _ => SendOutcome::Broken,
    }
}

/// Tells a client that isn't taken why, as far as that can be done at once.
fn refuse(fd: &OwnedFd, refused: &Refused) {
    let socket = SockRef::from(fd);
    // What it sent already would turn the close into a reset that overtakes the answer.
    let mut unread = [std::mem::MaybeUninit::uninit(); 1_024];
    let _ = socket.recv_with_flags(&mut unread, libc::MSG_DONTWAIT);
    if let Some(frame) = &refused.frame {
        let _ = socket.send_with_flags(frame.as_bytes(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    }
    let _ = socket.shutdown(std::net::Shutdown::Write);
}
