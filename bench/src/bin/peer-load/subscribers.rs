//! One thread's subscribers: connects them, takes in what they get, and times it.

use std::{
    collections::VecDeque,
    io,
    net::Shutdown,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tickstream_load::wall_us;
use tickstream_uring::{
    Received,
    ring::{Completion, Ring, Setup},
    system::{bind_source, own_descriptor_table, run_on, thread_id},
};

use crate::{
    collector::{Collector, Tracker},
    message::Message,
    options::Options,
    protocol::{Event, Inbox, Stop},
};

/// As tickstream-load's where ticks are few, so that both cost alike; and where they come in batches.
const RING: Setup = Setup { submissions: 1024, completions: 8192, buffers: 1024, buffer_bytes: 512 };
const LARGE_BUFFERS: (u16, u32) = (256, 16 << 10);
/// From here on messages come in batches.
const BYTES_PER_SECOND_SMALL: u64 = 30_000;
/// A thread looks at what it is told at least this often.
const STEP: Duration = Duration::from_millis(20);

/// Tokens of the ring: the kind of an operation above the number of its subscriber.
const CONNECT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;

/// All that subscribers received so far.
#[derive(Clone, Copy, Debug)]
pub struct Deliveries {
    pub messages: u64,
    pub bytes: u64,
}

/// Everything that is sampled, at one moment.
pub type Snapshot = tickstream_load::snapshot::Snapshot<Deliveries>;

/// Commands to all threads, and their gauges.
#[derive(Debug, Default)]
pub struct Shared {
    /// For the publisher, if it is to stop before its time.
    pub stop_publishing: AtomicBool,
    /// For the subscribers.
    pub stop: AtomicBool,
    /// Messages due from here, and before there, are measured.
    pub steady_from_us: AtomicU64,
    pub steady_until_us: AtomicU64,
    /// Subscribers whose subscription holds.
    pub subscribed: AtomicU64,
    /// Subscribers that never came about, or were lost.
    pub gone: AtomicU64,
    pub last_subscribed_us: AtomicU64,
    pub messages: AtomicU64,
    pub bytes: AtomicU64,
    /// The kernel's ids of the threads, by their numbers.
    pub thread_ids: Vec<AtomicU64>,
}

#[derive(Debug, Default)]
struct Subscriber {
    socket: Option<OwnedFd>,
    inbox: Inbox,
    tracker: Tracker,
}

/// The subscribers of one thread.
pub struct Subscribers {
    thread: u32,
    options: Arc<Options>,
    shared: Arc<Shared>,
    ring: Ring,
    target: &'static SockAddr,
    all: Vec<Subscriber>,
    waiting: VecDeque<u32>,
    /// Opened, and not yet subscribed or gone.
    in_flight: u32,
    collector: Collector,
    /// Since the last [`Subscribers::show`].
    messages: u64,
    bytes: u64,
}

impl Subscribers {
    /// Prepares the calling thread, which holds them from now on.
    ///
    /// # Errors
    /// If the descriptor table, the CPU or the ring can't be had.
    pub fn new(thread: u32, options: Arc<Options>, shared: Arc<Shared>) -> io::Result<Self> {
        own_descriptor_table()?;
        if let Some(cpus) = &options.cpus {
            run_on(&[cpus.of_thread(thread as usize)])?;
        }
        shared.thread_ids[thread as usize].store(u64::from(thread_id()), Ordering::Relaxed);
        let small = u64::from(options.rate.get()) * options.size as u64 <= BYTES_PER_SECOND_SMALL;
        let (buffers, buffer_bytes) = if small { (RING.buffers, RING.buffer_bytes) } else { LARGE_BUFFERS };
        let count = options.share(thread);
        Ok(Self {
            thread,
            ring: Ring::new(Setup { buffers, buffer_bytes, ..RING })?,
            target: Box::leak(Box::new(SockAddr::from(options.addr))),
            all: (0..count).map(|_| Subscriber::default()).collect(),
            waiting: (0..count).collect(),
            in_flight: 0,
            collector: Collector::default(),
            messages: 0,
            bytes: 0,
            options,
            shared,
        })
    }

    /// Works until it is told to stop.
    ///
    /// # Errors
    /// If the ring fails.
    pub fn run(mut self) -> io::Result<Collector> {
        let enough = self.options.receive_batch.get() as usize;
        let mut completions = Vec::new();
        while !self.shared.stop.load(Ordering::Acquire) {
            self.open_some();
            // While connections are on their way the first answer counts.
            let patience = if self.in_flight > 0 { Duration::ZERO } else { self.options.receive_wait };
            self.ring.wait(enough, patience, STEP)?;
            // One time for all that arrived: the kernel handed it over at once.
            let now_us = wall_us();
            self.ring.completions(&mut completions);
            for completion in completions.drain(..) {
                self.complete(completion, now_us);
            }
            self.show();
        }
        self.collector.end(self.all.iter().map(|one| one.tracker));
        Ok(self.collector)
    }

    fn open_some(&mut self) {
        let share = (self.options.in_flight.get() / self.options.threads()).max(1);
        while self.in_flight < share {
            let Some(slot) = self.waiting.pop_front() else {
                return;
            };
            self.in_flight += 1;
            match self.open(slot) {
                Ok(socket) => {
                    self.ring.connect(socket.as_fd(), self.target, CONNECT | u64::from(slot));
                    self.all[slot as usize].socket = Some(socket);
                }
                Err(error) => self.count_end(slot, error.to_string()),
            }
        }
    }

    fn open(&self, slot: u32) -> io::Result<OwnedFd> {
        let socket = Socket::new(Domain::for_address(self.options.addr), Type::STREAM, None)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = self.options.source(self.thread, slot) {
            bind_source(socket.as_fd(), source)?;
        }
        Ok(socket.into())
    }

    fn complete(&mut self, completion: Completion, now_us: u64) {
        let slot = completion.token as u32;
        if completion.token & CONNECT != 0 {
            match completion.result {
                Ok(_) => self.greet(slot),
                Err(errno) => self.end(slot, io::Error::from_raw_os_error(errno).to_string()),
            }
            return;
        }
        if let Some(received) = completion.received {
            let taken = self.take(slot, &received, now_us);
            self.ring.recycle(received);
            if let Err(stop) = taken {
                self.end(slot, stop.to_string());
            }
        }
        match completion.result {
            Ok(0) => self.end(slot, "closed by the server".to_owned()),
            Ok(_) if completion.more => {}
            // Out of buffers, for the moment.
            Ok(_) | Err(libc::ENOBUFS) => self.receive(slot),
            Err(errno) => self.end(slot, io::Error::from_raw_os_error(errno).to_string()),
        }
    }

    fn greet(&mut self, slot: u32) {
        let peer = self.options.peer;
        let mut greeting = peer.hello(&format!("s{}-{slot}", self.thread));
        greeting.extend(peer.subscribe(&self.options.channel));
        match self.say(slot, &greeting) {
            Ok(()) => self.receive(slot),
            Err(error) => self.end(slot, error.to_string()),
        }
    }

    /// All that is said is short, and fits an empty socket buffer.
    fn say(&self, slot: u32, bytes: &[u8]) -> io::Result<()> {
        let Some(socket) = &self.all[slot as usize].socket else {
            return Ok(());
        };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let sent = SockRef::from(socket).send_with_flags(bytes, flags)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn receive(&mut self, slot: u32) {
        if let Some(socket) = &self.all[slot as usize].socket {
            self.ring.receive(socket.as_fd(), RECEIVE | u64::from(slot));
        }
    }

    /// Takes what one subscriber received.
    fn take(&mut self, slot: u32, received: &Received, now_us: u64) -> Result<(), Stop> {
        let Self { options, shared, ring, all, collector, messages, .. } = self;
        let Subscriber { inbox, tracker, .. } = &mut all[slot as usize];
        let from_us = shared.steady_from_us.load(Ordering::Relaxed);
        let until_us = shared.steady_until_us.load(Ordering::Relaxed);
        let (mut subscribed, mut pings) = (false, 0_usize);
        let bytes = ring.bytes(received);
        self.bytes += bytes.len() as u64;
        inbox.feed(options.peer, bytes, |event| match event {
            Event::Message(payload) => {
                let Some(message) = Message::decode(payload) else {
                    return;
                };
                *messages += 1;
                tracker.take(message.sequence, &mut collector.faults);
                collector.early += u64::from(now_us < message.due_us);
                if (from_us..until_us).contains(&message.due_us) {
                    collector.latency.saturating_record(now_us.saturating_sub(message.due_us));
                }
            }
            Event::Subscribed => subscribed = true,
            Event::Ping => pings += 1,
            Event::Other => {}
        })?;
        if subscribed && !tracker.subscribed {
            tracker.subscribed = true;
            self.in_flight -= 1;
            shared.subscribed.fetch_add(1, Ordering::Release);
            shared.last_subscribed_us.fetch_max(now_us, Ordering::Relaxed);
        }
        if pings > 0 {
            // A subscriber that can't answer is closed by the server, and counted then.
            let _ = self.say(slot, self.options.peer.pong().repeat(pings).as_slice());
        }
        Ok(())
    }

    /// The connection is over, or of no use; only the first reason counts.
    fn end(&mut self, slot: u32, why: String) {
        if let Some(socket) = self.all[slot as usize].socket.take() {
            // A receive that is armed keeps the socket open: this ends it.
            let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
            self.count_end(slot, why);
        }
    }

    fn count_end(&mut self, slot: u32, why: String) {
        let by = if self.all[slot as usize].tracker.subscribed {
            &mut self.collector.closes
        } else {
            self.in_flight -= 1;
            &mut self.collector.connect_errors
        };
        *by.entry(why).or_default() += 1;
        self.shared.gone.fetch_add(1, Ordering::Release);
    }

    fn show(&mut self) {
        self.shared.messages.fetch_add(std::mem::take(&mut self.messages), Ordering::Relaxed);
        self.shared.bytes.fetch_add(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}
