//! All sockets of one shard by slot and generation, its timer, and the files of its journal.
//!
//! A completion names a connection by slot and generation; one that comes late, for a connection that was closed, is
//! dropped here.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tickstream_journal as journal;

use crate::buffers::Received;
use crate::completion::Operation;
use crate::files::{Files, Step};
use crate::ring::{Entry, Ring, Setup};
use crate::stats::RingStats;

/// Sizes of a shard's ring.
///
/// Completions are those of some passes and a backlog of arrivals: before Linux 6.6 a full queue ends a multishot
/// ACCEPT and loses the connection. Buffers are handled and given back one after the other, so that few are out at a
/// time; when all are, the kernel ends the multishot RECV and it is armed again. Clients of the tick stream send tens of
/// bytes at a time.
const SETUP: Setup = Setup { submissions: 512, completions: 16_384, buffers: 512, buffer_bytes: 1_024 };

/// Slots, and so connections, of one ring.
pub const SLOTS: u32 = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 24;

/// The name of a connection: a place, and a number that no earlier or later connection in that place has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketId {
    /// Below [`SLOTS`].
    pub slot: u32,
    /// Differs for each connection of the slot.
    pub generation: u32,
}

impl SocketId {
    pub(crate) fn token(self) -> u64 {
        debug_assert!(self.slot < SLOTS);
        u64::from(self.slot % SLOTS) << 32 | u64::from(self.generation)
    }

    pub(crate) fn from_token(token: u64) -> Self {
        Self { slot: (token >> 32) as u32 % SLOTS, generation: token as u32 }
    }
}

/// An event of a socket, a listener or a file.
#[derive(Debug)]
pub enum Completion {
    /// A new connection.
    Accepted {
        /// Its socket.
        fd: OwnedFd,
        /// Index of its listener.
        listener: usize,
    },
    /// Accepting failed: out of descriptors or memory, or the connection was gone. Accepting has ended.
    AcceptFailed {
        /// The reason.
        error: io::Error,
    },
    /// Bytes came. They are the caller's until [`SocketRing::recycle`]; then call [`SocketRing::receive`].
    Received {
        /// The connection.
        socket: SocketId,
        /// The buffer.
        received: Received,
    },
    /// The peer sent FIN.
    PeerClosed {
        /// The connection.
        socket: SocketId,
    },
    /// The connection broke.
    PeerReset {
        /// The connection.
        socket: SocketId,
        /// The reason.
        error: io::Error,
    },
    /// A send was answered.
    Sent {
        /// The connection.
        socket: SocketId,
        /// Bytes, or the negative errno.
        result: i32,
    },
    /// A full socket takes bytes again, or broke.
    Writable {
        /// The connection.
        socket: SocketId,
    },
    /// An operation of the journal is done.
    File(Box<journal::Completion>),
}

/// The sockets of one shard.
pub struct SocketRing {
    pub(crate) ring: Ring,
    /// By slot.
    sockets: Vec<Socket>,
    /// Time at which the one timer fires, which wakes the shard for its next tick or deadline: CLOCK_MONOTONIC
    /// nanoseconds; `None` while it isn't armed.
    timer_ns: Option<u64>,
    listeners: Vec<Listener>,
    /// The journal's, if events are collected.
    files: Option<Files>,
    /// Operations of the journal that couldn't even be begun.
    refused: VecDeque<journal::Completion>,
}

/// A socket that connections come from.
struct Listener {
    fd: OwnedFd,
    /// A multishot ACCEPT is armed.
    accepting: bool,
    /// One was armed before.
    has_accepted: bool,
}

/// One slot.
struct Socket {
    fd: Option<OwnedFd>,
    generation: u32,
    /// A multishot RECV is armed.
    receiving: bool,
    /// A POLL_ADD is armed.
    polling: bool,
}

impl SocketRing {
    /// A ring that accepts on `listeners` from [`SocketRing::accept`] on. The calling thread is the only one that may
    /// ever use it.
    ///
    /// # Errors
    /// As [`Ring::new`].
    pub fn new(listeners: impl IntoIterator<Item = OwnedFd>) -> io::Result<Self> {
        Ok(Self {
            ring: Ring::new(SETUP)?,
            sockets: Vec::new(),
            timer_ns: None,
            listeners: listeners.into_iter().map(Listener::new).collect(),
            files: None,
            refused: VecDeque::new(),
        })
    }

    /// Arms the multishot ACCEPT of each listener that has none armed.
    pub fn accept(&mut self) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if !std::mem::replace(&mut listener.accepting, true) {
                let stats = &mut self.ring.stats;
                stats.accepts_armed += 1;
                stats.accepts_rearmed += u64::from(std::mem::replace(&mut listener.has_accepted, true));
                self.ring.accept(listener.fd.as_fd(), index as u64);
            }
        }
    }

    /// Stops accepting for good; connections that wait to be accepted are reset.
    pub fn close_listeners(&mut self) {
        let listeners = std::mem::take(&mut self.listeners);
        for index in 0..listeners.len() {
            self.ring.cancel(Operation::Accept, index as u64);
        }
        // Before the descriptors go.
        self.ring.submit_or_panic();
    }

    /// Takes over an accepted socket under the name `id`, and begins to receive from it.
    pub fn adopt(&mut self, id: SocketId, fd: OwnedFd) {
        let index = id.slot as usize;
        if self.sockets.len() <= index {
            let vacant = || Socket { fd: None, generation: 0, receiving: false, polling: false };
            self.sockets.resize_with(index + 1, vacant);
        }
        self.sockets[index] =
            Socket { fd: Some(fd), generation: id.generation, receiving: false, polling: false };
        self.receive(id);
    }

    /// Sends `bytes` from `offset` on as far as the socket takes them at once. At most one SEND of a connection
    /// may be unanswered, unless it is about to be closed.
    pub fn send(&mut self, id: SocketId, bytes: Rc<[u8]>, offset: u32) {
        if let Some(fd) = self.sockets.get(id.slot as usize).and_then(|socket| socket.fd(id)) {
            self.ring.send(fd.as_fd(), bytes, offset, id.token());
        }
    }

    /// Asks for [`Completion::Writable`], unless it is asked for.
    pub fn await_writable(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(id.slot as usize)
            && let Some(fd) = socket.fd(id)
            && !socket.polling
        {
            self.ring.await_writable(fd.as_fd(), id.token());
            socket.polling = true;
        }
    }

    /// Sends FIN behind all that was sent.
    pub fn shutdown(&mut self, id: SocketId) {
        if let Some(fd) = self.sockets.get(id.slot as usize).and_then(|socket| socket.fd(id)) {
            // An error means that the peer is gone; receiving tells so.
            let _ = SockRef::from(fd).shutdown(std::net::Shutdown::Write);
        }
    }

    /// Lets go of a socket; with `abort`, by RST and without what the kernel still holds for the peer.
    pub fn close(&mut self, id: SocketId, abort: bool) {
        let Some(socket) = self.sockets.get_mut(id.slot as usize).filter(|socket| socket.is(id)) else {
            return;
        };
        let Some(fd) = socket.fd.take() else { return };
        if abort {
            let _ = SockRef::from(&fd).set_linger(Some(Duration::ZERO));
        }
        // A request that is armed keeps the socket open beyond close(2).
        if socket.receiving {
            self.ring.cancel(Operation::Receive, id.token());
        }
        if socket.polling {
            self.ring.cancel(Operation::Poll, id.token());
        }
        self.ring.close(fd);
    }

    /// Lets the timer fire at `at_ns` (CLOCK_MONOTONIC) or before.
    pub fn wake_at(&mut self, at_ns: u64) {
        if self.timer_ns.is_none_or(|armed_ns| armed_ns > at_ns) {
            let is_armed = self.timer_ns.replace(at_ns).is_some();
            self.ring.set_timer(at_ns, is_armed);
        }
    }

    /// Hands all submissions to the kernel and lets it complete what has arrived.
    ///
    /// # Errors
    /// Only what is a bug or the end of the process: EINTR and a full completion queue are handled.
    pub fn submit(&mut self) -> io::Result<()> {
        self.ring.submit_and_wait(0)
    }

    /// As [`SocketRing::submit`], and waits until there is a completion: at the latest that of the timer.
    ///
    /// # Errors
    /// As [`SocketRing::submit`].
    pub fn submit_and_wait(&mut self) -> io::Result<()> {
        self.ring.submit_and_wait(1)
    }

    /// Opens the journal's directory, in which there are the files `lock` and `synced`, for the operations to come.
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
            let entry = self.ring.next_entry()?;
            if let Some(completion) = self.translate(entry) {
                return Some(completion);
            }
        }
    }

    /// A completion is there without the kernel: then don't wait for one.
    pub fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Counts so far.
    pub fn stats(&self) -> RingStats {
        self.ring.stats
    }

    /// The bytes that were received.
    pub fn bytes_mut(&mut self, received: &mut Received) -> &mut [u8] {
        self.ring.bytes_mut(received)
    }

    /// Gives a buffer back to the kernel.
    pub fn recycle(&mut self, received: Received) {
        self.ring.recycle(received);
    }

    /// The meaning of a completion; `None` if it concerns nothing that is still there.
    fn translate(&mut self, entry: Entry) -> Option<Completion> {
        let (operation, token) = (entry.data.operation(), entry.data.token());
        match operation {
            Operation::Accept => self.accepted(entry),
            Operation::Receive => self.received(&entry),
            Operation::Send => {
                let socket = SocketId::from_token(token);
                self.state(socket).map(|_| Completion::Sent { socket, result: entry.result })
            }
            Operation::Poll => {
                let socket = SocketId::from_token(token);
                self.state(socket)?.polling = false;
                Some(Completion::Writable { socket })
            }
            Operation::Timer => {
                self.timer_ns = None;
                None
            }
            Operation::File => {
                let (id, step) = file_step(token)?;
                // SAFETY: `Files` calls it at most once, with the result of an OPENAT that went well: a new
                // descriptor that nothing else owns.
                let take = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
                let completion = self.files.as_mut()?.completed(id, step, entry.result, take)?;
                Some(Completion::File(Box::new(completion)))
            }
            Operation::Connect | Operation::SendAll | Operation::Ignored => None,
        }
    }

    fn accepted(&mut self, entry: Entry) -> Option<Completion> {
        let (index, error) = (entry.data.token() as usize, -entry.result);
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.accepting &= entry.goes_on();
        }
        if let Some(fd) = entry.into_accepted() {
            return Some(Completion::Accepted { fd, listener: index });
        }
        // Ours, and then there is no listener, or a full queue's.
        if error == libc::ECANCELED {
            self.accept();
            return None;
        }
        self.ring.stats.accept_errors += 1;
        Some(Completion::AcceptFailed { error: io::Error::from_raw_os_error(error) })
    }

    fn received(&mut self, entry: &Entry) -> Option<Completion> {
        let socket = SocketId::from_token(entry.data.token());
        let received = entry.received();
        let Some(state) = self.state(socket) else {
            if let Some(received) = received {
                self.recycle(received);
            }
            return None;
        };
        if !entry.goes_on() {
            state.receiving = false;
        }
        match (received, -entry.result) {
            (Some(received), ..=0) if entry.result > 0 => Some(Completion::Received { socket, received }),
            // No buffer, or no place in the completion queue: not the peer's fault.
            (None, libc::ENOBUFS | libc::ECANCELED) => {
                self.ring.stats.buffers_exhausted += u64::from(-entry.result == libc::ENOBUFS);
                self.receive(socket);
                None
            }
            (received, errno) => {
                if let Some(received) = received {
                    self.recycle(received);
                }
                match errno {
                    0 => Some(Completion::PeerClosed { socket }),
                    errno => {
                        Some(Completion::PeerReset { socket, error: io::Error::from_raw_os_error(errno) })
                    }
                }
            }
        }
    }

    /// Arms the multishot RECV of a connection, unless it is armed. Call it after each [`Completion::Received`].
    pub fn receive(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(id.slot as usize)
            && let Some(fd) = socket.fd(id)
            && !socket.receiving
        {
            self.ring.stats.receives_armed += 1;
            self.ring.receive(fd.as_fd(), id.token());
            socket.receiving = true;
        }
    }

    /// The slot of `id`, if that is still its connection.
    fn state(&mut self, id: SocketId) -> Option<&mut Socket> {
        self.sockets.get_mut(id.slot as usize).filter(|socket| socket.is(id))
    }
}

impl journal::Storage for SocketRing {
    fn start(&mut self, id: journal::OperationId, operation: journal::Operation) {
        let files = self.files.as_mut().expect("a journal is given its files before it is driven");
        match files.start(id, operation) {
            Ok(submissions) => {
                self.ring.make_room(submissions.len());
                for (entry, step) in submissions {
                    // SAFETY: `Files` holds what they point to until it was told all their completions, and doesn't
                    // free it when it is dropped before.
                    unsafe { self.ring.file(entry, file_token(id, step)) }
                }
            }
            Err(refused) => self.refused.push_back(refused),
        }
    }

    fn publish(&mut self, synced: journal::Synced) {
        self.files.as_mut().expect("a journal is given its files before it is driven").publish(synced);
    }
}

impl Listener {
    fn new(fd: OwnedFd) -> Self {
        Self { fd, accepting: false, has_accepted: false }
    }
}

impl Socket {
    fn is(&self, id: SocketId) -> bool {
        self.fd(id).is_some()
    }

    /// The descriptor, if `id` is still the connection here.
    fn fd(&self, id: SocketId) -> Option<&OwnedFd> {
        self.fd.as_ref().filter(|_| self.generation == id.generation)
    }
}

/// A step of an operation of the journal.
fn file_token(id: journal::OperationId, step: Step) -> u64 {
    (id as u64) << 32 | step as u64
}

/// The operation of the journal, and which of its steps, of a token.
fn file_step(token: u64) -> Option<(journal::OperationId, Step)> {
    let step = if token as u32 == Step::First as u32 { Step::First } else { Step::Sync };
    Some((journal::OperationId::from_byte((token >> 32) as u8)?, step))
}

/// Tries all that a shard needs of io_uring, on a ring that is thrown away.
///
/// # Errors
/// As [`SocketRing::new`].
pub fn probe() -> io::Result<()> {
    let mut ring = SocketRing::new([])?;
    // A filter may allow io_uring_setup and not io_uring_enter.
    ring.ring.no_op();
    ring.submit_and_wait()
}
