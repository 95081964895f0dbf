//! The driver of one shard: carries completions to the engine and its actions to the ring.

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use socket2::SockRef;
use tickstream_engine::{self as engine, Action, Refused, Shard};

#[cfg(debug_assertions)]
use super::chaos::Chaos;
use super::close_log::CloseLog;
use super::collection::Collection;
use super::inspector::Inspector;
use super::transport::Transport;
use super::{Command, Control, ShardError, Spec};
use crate::otlp::{Tracer, Work};
use crate::published::Seen;
use crate::ring::{self, Completion, SocketRing};
use crate::tls::Acceptor;

/// Completions of one pass, so that sending gets its turn.
const COMPLETIONS_PER_PASS: usize = 1_024;
/// Actions of one pass, so that receiving gets its turn: also the sends of one system call.
const ACTIONS_PER_PASS: usize = 256;
/// How long one pass goes on taking TLS handshakes, of which each costs some 100 µs, before ticks get their turn.
const HANDSHAKES_NS_PER_PASS: u64 = 50_000;
/// The longest sleep. The control word is looked at this often, and the engine takes a longer silence for a
/// stall. It doesn't hang on glommio's timers, which a parked executor can miss.
const SLEEP_NS_MAX: u64 = 100_000_000;
/// The longest that a drain waits for those that were accepted just before it.
const ARRIVING_NS_MAX: u64 = 100_000_000;
/// How long accepting pauses after it failed for want of descriptors or memory.
const ACCEPT_PAUSE_NS: u64 = 100_000_000;

pub(super) struct Driver {
    number: usize,
    shard: Shard,
    ring: SocketRing,
    /// The journal of published events.
    collection: Option<Collection>,
    transport: Transport,
    /// Whether TLS is spoken, by listener.
    listeners: Vec<bool>,
    certificates: Option<Seen<Acceptor>>,
    settings: Seen<engine::Config>,
    control: Arc<Control>,
    log: CloseLog,
    inspector: Inspector,
    tracer: Option<Tracer>,
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
        let (certificates, acceptor) = spec.certificates.map(Seen::new).unzip();
        let (settings, engine) = Seen::new(spec.settings);
        let engine = engine::Config { shard: spec.shard as u16, ..(*engine).clone() };
        let mut shard = Shard::new(engine, ring::now());
        let place = (spec.shard, spec.config.shards.get());
        let alive = || spec.control.mark_alive(spec.shard);
        let open = |events| Collection::open(events, place, &mut shard, &mut ring, alive);
        let collection = spec.config.events.as_ref().map(open).transpose()?;
        ring.accept();
        Ok(Self {
            number: spec.shard,
            shard,
            ring,
            collection,
            transport: Transport::new(acceptor, spec.config.settings.handshakes_max.get()),
            listeners: spec.listeners.iter().map(|(_, tls)| *tls).collect(),
            certificates,
            settings,
            control: spec.control,
            log: CloseLog::new(spec.shard),
            inspector: Inspector::new(spec.shard),
            tracer: spec.tracer,
            #[cfg(debug_assertions)]
            chaos: Chaos::of_environment(spec.shard),
            drain_ms: spec.config.settings.drain_seconds.as_millis() as u32,
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
    /// It sleeps in the socket ring, which knows of all that wakes it, and never yields: an executor that parks can
    /// sleep for ever, and it has no other task (docs/decisions/0001-executor.md).
    pub fn run(mut self) -> Result<(), ShardError> {
        while !self.is_finished() {
            self.pass()?;
            self.control.mark_alive(self.number);
        }
        if let Some(collection) = self.collection.take() {
            collection
                .finish(&mut self.ring, || self.control.mark_alive(self.number))
                .map_err(ShardError::Ring)?;
        }
        self.log.finish(&self.shard.counters());
        Ok(())
    }

    /// What has arrived, what is due, what is to be done, each bounded; then one system call that submits it and
    /// sleeps if there is nothing more to do.
    fn pass(&mut self) -> Result<(), ShardError> {
        let (began, mut work) = (ring::now(), Work::default());
        self.shard.advance(began);
        self.apply_command();
        let mailbox = self.control.mailbox(self.number);
        self.inspector.pass(mailbox, &mut self.shard, &self.ring, self.collection.as_ref());
        #[cfg(debug_assertions)]
        self.chaos.iter_mut().for_each(Chaos::pass);
        for _ in 0..COMPLETIONS_PER_PASS {
            // What has come of events is enough for one pass: ticks first.
            if self.shard.ingest_is_spent() {
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
        while let Some(report) = self.shard.poll_report() {
            self.log.log(&report, || self.transport.subject(report.conn));
            if let Some(tracer) = &self.tracer {
                tracer.ended(&report, &self.shard, now);
            }
            self.inspector.keep(report, now.unix_ns);
        }
        if let Some(collection) = &mut self.collection {
            collection.pass(&mut self.shard, &mut self.ring)?;
        }
        for _ in 0..ACTIONS_PER_PASS {
            match self.shard.poll_action() {
                Some(action) => self.act(action),
                None => break,
            }
            work.actions += 1;
        }
        self.transport.flush(&mut self.ring);
        work.handshakes = self.shake_hands(now.mono_ns);
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
        let journal = self.collection.as_ref().and_then(Collection::next_timeout);
        let earliest = [self.shard.poll_timeout(), journal].into_iter().flatten().min();
        self.ring.wake_at(earliest.map_or(latest, |at| at.min(latest)));
        // Returns at once if completions are waiting, such as those of sends that it submits.
        self.ring.submit_and_wait().map_err(ShardError::Ring)
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { fd, listener } => self.accepted(fd, self.listeners[listener]),
            Completion::AcceptFailed { error } => self.accept_failed(&error),
            Completion::Received { conn, received } => {
                self.transport.received(conn, received, &mut self.shard, &mut self.ring);
                self.ring.receive(conn);
            }
            Completion::PeerClosed { conn } => self.shard.peer_closed(conn),
            Completion::PeerReset { conn, error } => self.shard.peer_reset(conn, error.to_string()),
            Completion::Sent { conn, result } => {
                self.transport.sent(conn, result, &mut self.shard, &mut self.ring);
            }
            #[cfg_attr(not(debug_assertions), expect(unused_mut, reason = "chaos changes it"))]
            Completion::File(mut completion) => {
                #[cfg(debug_assertions)]
                self.chaos.iter_mut().for_each(|chaos| chaos.change(&mut completion));
                if let Some(collection) = &mut self.collection {
                    collection.completed(*completion);
                }
            }
            Completion::Writable { conn } => self.transport.writable(conn, &mut self.shard, &mut self.ring),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { conn, frame, offset } => {
                self.transport.send(conn, frame, offset, &mut self.shard, &mut self.ring);
            }
            Action::AwaitWritable { conn } => self.ring.await_writable(conn),
            Action::Shutdown { conn } => self.transport.shutdown(conn, &mut self.ring),
            Action::Close { conn, abort } => {
                self.transport.close(conn, abort, &mut self.ring);
                self.ring.close(conn, abort);
            }
        }
    }

    /// Works on handshakes for a while. Returns how many steps of them it took.
    fn shake_hands(&mut self, began_ns: u64) -> u32 {
        let mut steps = 0;
        if !self.transport.has_work() {
            return steps;
        }
        let until_ns = began_ns.max(ring::now().mono_ns) + HANDSHAKES_NS_PER_PASS;
        while self.transport.work(&mut self.shard, &mut self.ring) {
            steps += 1;
            if ring::now().mono_ns >= until_ns {
                break;
            }
        }
        steps
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
                self.ring.adopt(conn, fd);
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

    /// Does what the process is told: takes new certificates and settings, refuses connections, drains.
    fn apply_command(&mut self) {
        self.shard.set_memory_is_short(self.control.memory_is_short());
        if let Some(acceptor) = self.certificates.as_mut().and_then(Seen::replaced) {
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
