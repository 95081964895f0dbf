//! The socket ring: every socket of one shard on one io_uring. With it, in `system`, system calls that std doesn't offer:
//! all `unsafe` code of the server is in this module.
//!
//! Why a ring of our own inside a glommio executor, and how the two meet: docs/decisions/0002-socket-ring.md.
//!
//! Memory that the kernel reads or writes:
//! - received bytes: the kernel writes into buffers of `BufferRing`, one of which belongs to us from
//!   its completion until [`SocketRing::recycle`];
//! - sent bytes: SEND has `MSG_DONTWAIT`, so the kernel copies or refuses them while it consumes the
//!   submission, and needs them no longer; [`SocketRing`] holds them until then;
//! - the timer's timespec: copied while the submission is consumed; it lives in a box of the ring;
//! - what the journal writes, and names of its files: held by `Files` until the operation has completed.
//!
//! Completions name a connection by slot and generation; one that comes late, for a connection that was
//! closed, is dropped here.

#![allow(unsafe_code, reason = "the one module that may")]

mod buffers;
mod completion;
mod files;
mod stats;
mod system;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod told;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{Fd, TimeoutFlags, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::SockRef;
use tickstream_engine::ConnId;
use tickstream_journal as journal;

use buffers::BufferRing;
pub use buffers::Received;
pub use completion::Completion;
pub use completion::SLOTS;
use completion::{Operation, UserData};
use files::Files;
pub use stats::RingStats;
pub use system::{
    be_nice, block_signals, clock, keep_descriptors, limit, now, own_descriptor_table, peer, raise_limit,
    run_on, take_descriptor, thread_id,
};

/// Submissions that one call of the kernel takes; a fuller queue is submitted early.
const SUBMISSIONS: u32 = 512;
/// Completions that wait without overflowing: those of some passes, and a backlog of arrivals. Before Linux 6.6 a
/// full queue ends a multishot ACCEPT and loses the connection.
const COMPLETIONS: u32 = 16_384;

/// The sockets of one shard.
pub struct SocketRing {
    /// Dropped before the buffers that it receives into.
    ring: IoUring,
    buffers: BufferRing,
    /// By slot.
    sockets: Vec<Socket>,
    /// Frames of SENDs that the kernel has yet to consume.
    unsubmitted: Vec<Rc<[u8]>>,
    timer: Timer,
    listeners: Vec<Listener>,
    /// The journal's, if events are collected.
    files: Option<Files>,
    /// Operations of the journal that couldn't even be begun.
    refused: VecDeque<journal::Completion>,
    stats: RingStats,
    /// What stands in the kernel's place.
    #[cfg(test)]
    kernel: Option<told::Kernel>,
}

/// A socket that connections come from.
struct Listener {
    fd: OwnedFd,
    /// A multishot ACCEPT is armed.
    accepting: bool,
    /// One was armed before.
    has_accepted: bool,
}

/// What the ring knows of one slot.
struct Socket {
    fd: Option<OwnedFd>,
    generation: u32,
    /// A multishot RECV is armed.
    receiving: bool,
    /// A POLL_ADD is armed.
    polling: bool,
}

/// The one timer, which wakes the shard for its next tick or deadline.
struct Timer {
    spec: Box<Timespec>,
    /// When it fires, CLOCK_MONOTONIC nanoseconds; `None` while it isn't armed.
    armed_ns: Option<u64>,
}

impl SocketRing {
    /// A ring that accepts on `listeners` once it is told to: [`SocketRing::accept`]. The calling thread is the only
    /// one that may ever use it.
    ///
    /// # Errors
    /// What the kernel says, notably: EINVAL before Linux 6.1, EPERM or ENOSYS where io_uring is forbidden or
    /// missing, ENOMEM above the memlock limit.
    pub fn new(listeners: impl IntoIterator<Item = OwnedFd>) -> io::Result<Self> {
        let ring = build()?;
        let buffers = BufferRing::register(&ring.submitter())?;
        let timer = Timer { spec: Box::new(Timespec::new()), armed_ns: None };
        Ok(Self {
            ring,
            buffers,
            sockets: Vec::new(),
            unsubmitted: Vec::with_capacity(SUBMISSIONS as usize),
            timer,
            listeners: listeners.into_iter().map(Listener::new).collect(),
            files: None,
            refused: VecDeque::new(),
            stats: RingStats::default(),
            #[cfg(test)]
            kernel: None,
        })
    }

    /// Arms the multishot ACCEPT of each listener that has none armed.
    pub fn accept(&mut self) {
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            if !std::mem::replace(&mut listener.accepting, true) {
                let fd = Fd(listener.fd.as_raw_fd());
                self.stats.accepts_armed += 1;
                self.stats.accepts_rearmed += u64::from(std::mem::replace(&mut listener.has_accepted, true));
                self.push(
                    opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build(),
                    UserData::accept(index),
                );
            }
        }
    }

    /// Stops accepting for good; connections that wait to be accepted are reset.
    pub fn close_listeners(&mut self) {
        let listeners = std::mem::take(&mut self.listeners);
        for index in 0..listeners.len() {
            self.cancel(UserData::accept(index));
        }
        // Before the descriptors go.
        self.submit_or_panic();
    }

    /// Takes over an accepted socket under the name `conn`, and begins to receive from it.
    pub fn adopt(&mut self, conn: ConnId, fd: OwnedFd) {
        let index = conn.slot.index();
        if self.sockets.len() <= index {
            let vacant = || Socket { fd: None, generation: 0, receiving: false, polling: false };
            self.sockets.resize_with(index + 1, vacant);
        }
        self.sockets[index] =
            Socket { fd: Some(fd), generation: conn.generation, receiving: false, polling: false };
        self.receive(conn);
    }

    /// Sends `bytes` from `offset` on as far as the socket takes them at once. At most one SEND of a connection
    /// may be unanswered, unless it is about to be closed.
    pub fn send(&mut self, conn: ConnId, bytes: Rc<[u8]>, offset: u32) {
        let Some(fd) = self.fd(conn) else { return };
        let rest = &bytes[offset as usize..];
        let send = opcode::Send::new(Fd(fd), rest.as_ptr(), rest.len() as u32)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .build();
        self.push(send, UserData::conn(Operation::Send, conn));
        // Held after the push: to make room it may submit what was before, and let go of that.
        self.unsubmitted.push(bytes);
    }

    /// Asks for [`Completion::Writable`], unless it is asked for.
    pub fn await_writable(&mut self, conn: ConnId) {
        let Some(fd) = self.fd(conn) else { return };
        if std::mem::replace(&mut self.sockets[conn.slot.index()].polling, true) {
            return;
        }
        let poll = opcode::PollAdd::new(Fd(fd), libc::POLLOUT as u32).build();
        self.push(poll, UserData::conn(Operation::Poll, conn));
    }

    /// Sends FIN behind all that was sent.
    pub fn shutdown(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.get(conn.slot.index()).filter(|socket| socket.is(conn))
            && let Some(fd) = &socket.fd
        {
            // An error means that the peer is gone; receiving tells so.
            let _ = SockRef::from(fd).shutdown(std::net::Shutdown::Write);
        }
    }

    /// Lets go of a socket; with `abort`, by RST and without what the kernel still holds for the peer.
    pub fn close(&mut self, conn: ConnId, abort: bool) {
        let Some(socket) = self.sockets.get_mut(conn.slot.index()).filter(|socket| socket.is(conn)) else {
            return;
        };
        let Some(fd) = socket.fd.take() else { return };
        let (receiving, polling) = (socket.receiving, socket.polling);
        if abort {
            let _ = SockRef::from(&fd).set_linger(Some(Duration::ZERO));
        }
        // A request that is armed keeps the socket open beyond close(2).
        if receiving {
            self.cancel(UserData::conn(Operation::Receive, conn));
        }
        if polling {
            self.cancel(UserData::conn(Operation::Poll, conn));
        }
        let close = opcode::Close::new(Fd(fd.into_raw_fd())).build();
        self.push(close.flags(squeue::Flags::SKIP_SUCCESS), UserData::of(Operation::Ignored));
    }

    /// Lets the timer fire at `at_ns` (CLOCK_MONOTONIC) or before.
    pub fn wake_at(&mut self, at_ns: u64) {
        if self.timer.armed_ns.is_some_and(|armed_ns| armed_ns <= at_ns) {
            return;
        }
        *self.timer.spec = Timespec::new().sec(at_ns / 1_000_000_000).nsec((at_ns % 1_000_000_000) as u32);
        let spec: *const Timespec = &raw const *self.timer.spec;
        let timer = UserData::of(Operation::Timer);
        if self.timer.armed_ns.replace(at_ns).is_none() {
            self.push(opcode::Timeout::new(spec).flags(TimeoutFlags::ABS).build(), timer);
        } else {
            let update = opcode::TimeoutUpdate::new(timer.into(), spec).flags(TimeoutFlags::ABS).build();
            self.push(update, UserData::of(Operation::Ignored));
        }
    }

    /// Hands all submissions to the kernel and lets it complete what has arrived.
    ///
    /// # Errors
    /// Only what is a bug or the end of the process: EINTR and a full completion queue are handled.
    pub fn submit(&mut self) -> io::Result<()> {
        self.enter(0)
    }

    /// As [`SocketRing::submit`], and waits until there is a completion: at the latest that of the timer.
    ///
    /// # Errors
    /// As [`SocketRing::submit`].
    pub fn submit_and_wait(&mut self) -> io::Result<()> {
        self.enter(1)
    }

    fn enter(&mut self, completions: u32) -> io::Result<()> {
        #[cfg(test)]
        if self.kernel.is_some() {
            self.enter_told();
            return Ok(());
        }
        let pending = {
            let mut queue = self.ring.submission();
            queue.sync();
            queue.len() as u32
        };
        self.stats.enters += 1;
        self.stats.submissions += u64::from(pending);
        let submitter = self.ring.submitter();
        // SAFETY: there is no signal set to read. What the submissions point to is there until they are consumed
        // (`push`).
        let entered =
            unsafe { submitter.enter::<libc::sigset_t>(pending, completions, IORING_ENTER_GETEVENTS, None) };
        match entered.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) | Err((Some(libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => {}
            Err((_, error)) => return Err(error),
        }
        let queue = self.ring.submission();
        self.stats.overflows += u64::from(queue.cq_overflow());
        if queue.is_empty() {
            self.unsubmitted.clear();
        }
        Ok(())
    }

    /// Has the journal's files in `directory` from now on, in which there is the file `lock`.
    ///
    /// # Errors
    /// If the directory can't be used.
    pub fn open_files(&mut self, directory: OwnedFd) -> io::Result<()> {
        self.files = Some(Files::new(directory)?);
        Ok(())
    }

    /// The next completion, unless none is waiting.
    pub fn next_completion(&mut self) -> Option<Completion> {
        if let Some(refused) = self.refused.pop_front() {
            return Some(Completion::File(Box::new(refused)));
        }
        loop {
            let (data, result, flags) = self.next_entry()?;
            self.stats.completions += 1;
            if let Some(completion) = self.translate(data, result, flags) {
                return Some(completion);
            }
        }
    }

    /// What the kernel says of one completion: whose it is, its result, its flags.
    fn next_entry(&mut self) -> Option<(u64, i32, u32)> {
        #[cfg(test)]
        if let Some(kernel) = &mut self.kernel {
            return kernel.next_completion();
        }
        let entry = self.ring.completion().next()?;
        Some((entry.user_data(), entry.result(), entry.flags()))
    }

    /// Whether a completion is there without the kernel: then don't wait for one.
    pub fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// What was counted so far.
    pub fn stats(&self) -> RingStats {
        self.stats
    }

    /// The bytes that were received.
    pub fn bytes(&mut self, received: &mut Received) -> &mut [u8] {
        self.buffers.bytes(received)
    }

    /// Gives a buffer back to the kernel.
    pub fn recycle(&mut self, received: Received) {
        self.buffers.recycle(received);
    }

    /// What a completion means; `None` if it is nobody's business any more.
    fn translate(&mut self, data: u64, result: i32, flags: u32) -> Option<Completion> {
        let data = UserData::from(data);
        let ended = !cqueue::more(flags);
        match data.operation() {
            Operation::Accept => {
                let listener = data.listener();
                if let Some(listener) = self.listeners.get_mut(listener) {
                    listener.accepting &= !ended;
                }
                self.accepted(listener, result)
            }
            Operation::Receive => self.received(data.conn_id(), result, flags),
            Operation::Send => {
                let conn = self.known(data.conn_id())?;
                Some(Completion::Sent { conn, result })
            }
            Operation::Poll => {
                let conn = self.known(data.conn_id())?;
                self.sockets[conn.slot.index()].polling = false;
                Some(Completion::Writable { conn })
            }
            Operation::Timer => {
                self.timer.armed_ns = None;
                None
            }
            Operation::File => {
                let (id, step) = data.file_step()?;
                // SAFETY: `Files` calls it at most once, with the result of an OPENAT that went well: a new
                // descriptor that nobody else knows of.
                let take = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
                let completion = self.files.as_mut()?.completed(id, step, result, take)?;
                Some(Completion::File(Box::new(completion)))
            }
            Operation::Ignored => None,
        }
    }

    fn accepted(&mut self, listener: usize, result: i32) -> Option<Completion> {
        match result {
            fd @ 0.. => {
                // SAFETY: only ACCEPTs have this operation in their user data, without fixed files: a result of 0 or
                // above is a new descriptor that nobody else knows of, and each completion is taken once.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                Some(Completion::Accepted { fd, listener })
            }
            // Ours, and then there is no listener, or a full queue's.
            error if -error == libc::ECANCELED => {
                self.accept();
                None
            }
            error => {
                self.stats.accept_errors += 1;
                Some(Completion::AcceptFailed { error: io::Error::from_raw_os_error(-error) })
            }
        }
    }

    fn received(&mut self, conn: ConnId, result: i32, flags: u32) -> Option<Completion> {
        let received = cqueue::buffer_select(flags).map(|id| Received::new(id, result));
        let Some(conn) = self.known(conn) else {
            if let Some(received) = received {
                self.recycle(received);
            }
            return None;
        };
        if !cqueue::more(flags) {
            self.sockets[conn.slot.index()].receiving = false;
        }
        match (received, -result) {
            (Some(received), ..=0) if result > 0 => Some(Completion::Received { conn, received }),
            // No buffer, or no place in the completion queue: not the peer's fault.
            (None, libc::ENOBUFS | libc::ECANCELED) => {
                self.stats.buffers_exhausted += u64::from(-result == libc::ENOBUFS);
                self.receive(conn);
                None
            }
            (received, errno) => {
                if let Some(received) = received {
                    self.recycle(received);
                }
                match errno {
                    0 => Some(Completion::PeerClosed { conn }),
                    errno => Some(Completion::PeerReset { conn, error: io::Error::from_raw_os_error(errno) }),
                }
            }
        }
    }

    /// Arms the multishot RECV of a connection, unless it is armed. Call it after each [`Completion::Received`].
    pub fn receive(&mut self, conn: ConnId) {
        let Some(fd) = self.fd(conn) else { return };
        let socket = &mut self.sockets[conn.slot.index()];
        if !socket.receiving {
            socket.receiving = true;
            self.stats.receives_armed += 1;
            let receive = opcode::RecvMulti::new(Fd(fd), buffers::GROUP).build();
            self.push(receive, UserData::conn(Operation::Receive, conn));
        }
    }

    /// Cancels a request by its name, which the kernel hashes; by descriptor it would look through all.
    fn cancel(&mut self, armed: UserData) {
        let cancel = opcode::AsyncCancel::new(armed.into()).build();
        self.push(cancel.flags(squeue::Flags::SKIP_SUCCESS), UserData::of(Operation::Ignored));
    }

    /// Submits where an error has nowhere to go. One that lasts is a bug or the end of the process, and a panic
    /// of a shard ends it with this message.
    fn submit_or_panic(&mut self) {
        self.submit().expect("io_uring_enter fails on a valid ring");
    }

    /// Has the kernel take what waits, unless there is room for so many more: linked submissions go in one call.
    fn make_room(&mut self, entries: usize) {
        let queue = self.ring.submission();
        if queue.capacity() - queue.len() < entries {
            drop(queue);
            self.submit_or_panic();
        }
    }

    fn push(&mut self, entry: squeue::Entry, data: UserData) {
        let entry = entry.user_data(data.into());
        #[cfg(test)]
        if let Some(kernel) = &mut self.kernel {
            return kernel.submit(entry, data);
        }
        loop {
            // SAFETY: what the entry points to outlives its use (the module's documentation says why that is enough): a
            // SEND's bytes are held by the caller until this returns, then in `unsubmitted` until the queue is empty;
            // the timer's timespec by the ring; names and buffers of files by `Files` until they complete. RECVs use
            // `buffers`, and the rest points to nothing.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.submit_or_panic();
        }
    }

    /// `conn`, if it is still the connection of its slot.
    fn known(&self, conn: ConnId) -> Option<ConnId> {
        self.sockets.get(conn.slot.index()).is_some_and(|socket| socket.is(conn)).then_some(conn)
    }

    fn fd(&self, conn: ConnId) -> Option<RawFd> {
        let socket = self.sockets.get(conn.slot.index()).filter(|socket| socket.is(conn))?;
        socket.fd.as_ref().map(AsRawFd::as_raw_fd)
    }
}

impl journal::Storage for SocketRing {
    fn start(&mut self, id: journal::OperationId, operation: journal::Operation) {
        let files = self.files.as_mut().expect("a journal is given its files before it is driven");
        match files.start(id, operation) {
            Ok(submissions) => {
                self.make_room(submissions.len());
                for (entry, step) in submissions {
                    self.push(entry, UserData::file(id, step));
                }
            }
            Err(refused) => self.refused.push_back(refused),
        }
    }
}

impl Listener {
    fn new(fd: OwnedFd) -> Self {
        Self { fd, accepting: false, has_accepted: false }
    }
}

impl Socket {
    fn is(&self, conn: ConnId) -> bool {
        self.generation == conn.generation && self.fd.is_some()
    }
}

const IORING_ENTER_GETEVENTS: u32 = 1;

/// The ring itself. With DEFER_TASKRUN, completions appear only while its one thread is in the kernel for it.
fn build() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS)
}

/// Tries all that a shard needs of io_uring, on a ring that is thrown away.
///
/// # Errors
/// As [`SocketRing::new`].
pub fn probe() -> io::Result<()> {
    let mut ring = SocketRing::new([])?;
    // A filter may allow io_uring_setup and not io_uring_enter.
    ring.push(opcode::Nop::new().build(), UserData::of(Operation::Ignored));
    ring.submit_and_wait()
}
