//! Operations on sockets, each named by a number of the caller's, on one io_uring.
//!
//! Memory that the kernel reads or writes:
//! - received bytes: the kernel writes into buffers of `BufferRing`, one of which belongs to the caller from its
//!   completion until [`Ring::recycle`];
//! - bytes of [`Ring::send`]: SEND has `MSG_DONTWAIT`, so the kernel copies or refuses them while it consumes the
//!   submission, and needs them no longer; `unsubmitted` holds them until then;
//! - bytes of [`Ring::send_all`]: `lent` holds them until the operation has completed;
//! - addresses of CONNECTs: 'static;
//! - the timer's timespec: copied while the submission is consumed; it lives in a box of the ring;
//! - what the journal writes, and names of its files: held by `Files` until the operation has completed.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, TimeoutFlags, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::SockAddr;

use crate::buffers::{self, BufferRing, Received};
use crate::completion::{Operation, UserData};
#[cfg(any(test, feature = "simulated"))]
use crate::simulated::Kernel;
use crate::stats::RingStats;
use crate::system;

/// SENDs never block the ring: a full socket answers EAGAIN, a closed one EPIPE without a signal.
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
/// A SEND that waits for room, and completes when all is sent.
const SEND_ALL_FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
const IORING_ENTER_GETEVENTS: u32 = 1;

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Submissions that one system call takes; a fuller queue is submitted early.
    pub submissions: u32,
    /// Completions that fit into their queue.
    pub completions: u32,
    /// Receive buffers; a power of two of at most 32,768.
    pub buffers: u16,
    /// Bytes of one receive buffer.
    pub buffer_bytes: u32,
}

/// One io_uring, and the buffers that it receives into. With DEFER_TASKRUN, completions appear only while its one
/// thread is in the kernel for it.
pub struct Ring {
    /// Dropped before the buffers.
    ring: IoUring,
    pub(crate) buffers: BufferRing,
    /// Bytes of SENDs that the kernel has yet to consume.
    pub(crate) unsubmitted: Vec<Rc<[u8]>>,
    /// Bytes of SENDs that wait for room, by their token, and how many of them are to be sent.
    lent: HashMap<u64, (Vec<u8>, u32)>,
    /// Of the timer.
    timespec: Box<Timespec>,
    has_min_wait: bool,
    pub(crate) stats: RingStats,
    #[cfg(any(test, feature = "simulated"))]
    pub(crate) kernel: Option<Kernel>,
}

/// The result of one operation.
#[derive(Debug)]
pub struct Completion {
    /// The number that the operation was submitted with.
    pub token: u64,
    /// Bytes or 0; or the errno.
    pub result: Result<u32, i32>,
    /// A connection that was accepted.
    pub accepted: Option<OwnedFd>,
    /// A multishot operation goes on.
    pub more: bool,
    /// Bytes that were received; give them back with [`Ring::recycle`].
    pub received: Option<Received>,
    /// The bytes that [`Ring::send_all`] was given.
    pub returned: Option<Returned>,
}

/// Bytes that [`Ring::send_all`] is done with.
#[derive(Debug)]
pub struct Returned {
    /// All that it was given.
    pub bytes: Vec<u8>,
    /// All of it was sent.
    pub is_whole: bool,
}

/// A completion as the kernel writes it.
pub(crate) struct Entry {
    pub data: UserData,
    pub result: i32,
    pub flags: u32,
}

impl From<cqueue::Entry> for Entry {
    fn from(entry: cqueue::Entry) -> Self {
        Self { data: entry.user_data().into(), result: entry.result(), flags: entry.flags() }
    }
}

impl Entry {
    /// The buffer that a RECV filled.
    pub fn received(&self) -> Option<Received> {
        cqueue::buffer_select(self.flags).map(|id| Received::new(id, self.result))
    }

    /// A multishot operation goes on.
    pub fn goes_on(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The connection of an ACCEPT that succeeded.
    pub fn into_accepted(self) -> Option<OwnedFd> {
        // SAFETY: only ACCEPTs have this operation in their user data (`Ring::accept`), without fixed files: a result
        // of 0 or above is a new descriptor that nothing else owns. Each completion is taken once, and this consumes
        // it.
        (self.data.operation() == Operation::Accept && self.result >= 0)
            .then(|| unsafe { OwnedFd::from_raw_fd(self.result) })
    }
}

impl Ring {
    /// Builds the ring for the calling thread, the only one that may ever use it.
    ///
    /// # Errors
    /// Errors of the kernel, notably: EINVAL before Linux 6.1, EPERM or ENOSYS where io_uring is forbidden or
    /// missing, ENOMEM above the memlock limit.
    pub fn new(setup: Setup) -> io::Result<Self> {
        let is_short = |error: &io::Error| error.raw_os_error() == Some(libc::ENOMEM);
        system::once_released(|| Self::build(setup), is_short)
    }

    fn build(setup: Setup) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(setup.completions)
            .build(setup.submissions)?;
        let buffers = BufferRing::register(&ring.submitter(), setup.buffers, setup.buffer_bytes)?;
        Ok(Self {
            has_min_wait: ring.params().is_feature_min_timeout(),
            ring,
            buffers,
            unsubmitted: Vec::with_capacity(setup.submissions as usize),
            lent: HashMap::new(),
            timespec: Box::new(Timespec::new()),
            stats: RingStats::default(),
            #[cfg(any(test, feature = "simulated"))]
            kernel: None,
        })
    }

    /// Accepts connections until a completion says that there won't be more.
    pub fn accept(&mut self, listener: BorrowedFd<'_>, token: u64) {
        let accept = opcode::AcceptMulti::new(fd(listener)).flags(libc::SOCK_CLOEXEC);
        self.push(accept.build(), UserData::new(Operation::Accept, token));
    }

    /// Connects a socket.
    pub fn connect(&mut self, socket: BorrowedFd<'_>, to: &'static SockAddr, token: u64) {
        let connect = opcode::Connect::new(fd(socket), to.as_ptr().cast(), to.len());
        self.push(connect.build(), UserData::new(Operation::Connect, token));
    }

    /// Receives until a completion says that there won't be more: end of stream, error, or no buffer left.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, token: u64) {
        let receive = opcode::RecvMulti::new(fd(socket), buffers::GROUP);
        self.push(receive.build(), UserData::new(Operation::Receive, token));
    }

    /// Receives once, at most one buffer.
    pub fn receive_once(&mut self, socket: BorrowedFd<'_>, token: u64) {
        // With BUFFER_SELECT the null pointer isn't used.
        let receive = opcode::Recv::new(fd(socket), std::ptr::null_mut(), 0).buf_group(buffers::GROUP);
        let receive = receive.build().flags(squeue::Flags::BUFFER_SELECT);
        self.push(receive, UserData::new(Operation::Receive, token));
    }

    /// Sends `bytes` from `offset` on, as far as the socket takes them at once.
    pub fn send(&mut self, socket: BorrowedFd<'_>, bytes: Rc<[u8]>, offset: u32, token: u64) {
        let rest = &bytes[offset as usize..];
        let send = opcode::Send::new(fd(socket), rest.as_ptr(), rest.len() as u32).flags(SEND_FLAGS);
        self.push(send.build(), UserData::new(Operation::Send, token));
        // Held after the push: to make room it may submit earlier ones, and let go of those.
        self.unsubmitted.push(bytes);
    }

    /// Sends all of `bytes` from `start` on, however long the socket takes for it. The completion gives them back: until
    /// then no other [`Ring::send_all`] may have this token.
    ///
    /// # Panics
    /// If `start` is behind the end, or if a `send_all` with this token isn't over.
    pub fn send_all(&mut self, socket: BorrowedFd<'_>, bytes: Vec<u8>, start: usize, token: u64) {
        let rest = &bytes[start..];
        let len = u32::try_from(rest.len()).expect("frames are below 4 GiB");
        let send = opcode::Send::new(fd(socket), rest.as_ptr(), len).flags(SEND_ALL_FLAGS);
        let data = UserData::new(Operation::SendAll, token);
        // By the number as the completion has it.
        assert!(!self.lent.contains_key(&data.token()), "a SEND with the token {token:#x} isn't over");
        // A Vec that is moved leaves its bytes where they are.
        self.lent.insert(data.token(), (bytes, len));
        self.push(send.build(), data);
    }

    /// Completes once when the socket takes bytes again, or broke.
    pub fn await_writable(&mut self, socket: BorrowedFd<'_>, token: u64) {
        self.poll(socket, libc::POLLOUT, token);
    }

    /// Completes once when the peer has closed or reset the connection, without reading from it.
    pub fn await_hangup(&mut self, socket: BorrowedFd<'_>, token: u64) {
        self.poll(socket, libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR, token);
    }

    fn poll(&mut self, socket: BorrowedFd<'_>, events: libc::c_short, token: u64) {
        let poll = opcode::PollAdd::new(fd(socket), events as u32).build();
        self.push(poll, UserData::new(Operation::Poll, token));
    }

    /// Closes a descriptor behind all that was submitted before.
    pub(crate) fn close(&mut self, socket: OwnedFd) {
        let close = opcode::Close::new(Fd(socket.into_raw_fd())).build();
        self.push(close.flags(squeue::Flags::SKIP_SUCCESS), UserData::new(Operation::Ignored, 0));
    }

    /// Cancels an operation by its name, which the kernel hashes; by descriptor it would look through all.
    pub(crate) fn cancel(&mut self, operation: Operation, token: u64) {
        let cancel = opcode::AsyncCancel::new(UserData::new(operation, token).into()).build();
        self.push(cancel.flags(squeue::Flags::SKIP_SUCCESS), UserData::new(Operation::Ignored, 0));
    }

    /// Sets the one timer to `at_ns` (CLOCK_MONOTONIC); with `is_armed`, moves it there.
    pub(crate) fn set_timer(&mut self, at_ns: u64, is_armed: bool) {
        *self.timespec = Timespec::new().sec(at_ns / 1_000_000_000).nsec((at_ns % 1_000_000_000) as u32);
        let spec: *const Timespec = &raw const *self.timespec;
        let timer = UserData::new(Operation::Timer, 0);
        if is_armed {
            let update = opcode::TimeoutUpdate::new(timer.into(), spec).flags(TimeoutFlags::ABS).build();
            self.push(update, UserData::new(Operation::Ignored, 0));
        } else {
            self.push(opcode::Timeout::new(spec).flags(TimeoutFlags::ABS).build(), timer);
        }
    }

    /// Does nothing in the kernel.
    pub(crate) fn no_op(&mut self) {
        self.push(opcode::Nop::new().build(), UserData::new(Operation::Ignored, 0));
    }

    /// An operation on a file.
    ///
    /// # Safety
    /// Memory that `entry` points to must be there until its completion.
    pub(crate) unsafe fn file(&mut self, entry: squeue::Entry, token: u64) {
        self.push(entry, UserData::new(Operation::File, token));
    }

    /// Hands all submissions to the kernel. Those that name a descriptor have looked it up when this returns.
    ///
    /// # Panics
    /// If the kernel refuses them for good.
    pub fn submit(&mut self) {
        while !self.ring.submission().is_empty() {
            self.enter(0, 0).expect("io_uring_enter fails on a valid ring");
        }
    }

    /// Hands all submissions to the kernel and lets it complete what has arrived; waits until there are `completions`.
    ///
    /// # Errors
    /// Only what is a bug or the end of the process: EINTR and a full completion queue are handled.
    pub(crate) fn submit_and_wait(&mut self, completions: u32) -> io::Result<()> {
        #[cfg(any(test, feature = "simulated"))]
        if self.kernel.is_some() {
            self.enter_simulated();
            return Ok(());
        }
        self.enter(completions, IORING_ENTER_GETEVENTS)
    }

    /// Hands all submissions to the kernel, then sleeps until `enough` completions are there, or at least one and
    /// `patience` is over, or `timeout` is over.
    ///
    /// # Errors
    /// Only what is a bug or the end of the process: EINTR and a full completion queue are handled.
    pub fn wait(&mut self, enough: usize, patience: Duration, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec::from(timeout);
        let mut args = SubmitArgs::new().timespec(&timeout);
        let mut enough = enough.max(1);
        if self.has_min_wait {
            // 0 would mean no such limit.
            args = args.min_wait_usec(u32::try_from(patience.as_micros()).unwrap_or(u32::MAX).max(1));
        } else {
            enough = 1;
        }
        let entered = self.ring.submitter().submit_with_args(enough, &args);
        self.entered(entered)
    }

    fn enter(&mut self, completions: u32, flags: u32) -> io::Result<()> {
        let pending = {
            let mut queue = self.ring.submission();
            queue.sync();
            queue.len() as u32
        };
        self.stats.enters += 1;
        self.stats.submissions += u64::from(pending);
        let submitter = self.ring.submitter();
        // SAFETY: there is no signal set to read. Memory that the submissions point to is there until they are
        // consumed (`push`).
        let entered = unsafe { submitter.enter::<libc::sigset_t>(pending, completions, flags, None) };
        self.entered(entered)
    }

    fn entered(&mut self, entered: io::Result<usize>) -> io::Result<()> {
        match entered.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) | Err((Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ETIME), _)) => {}
            Err((_, error)) => return Err(error),
        }
        let queue = self.ring.submission();
        self.stats.overflows += u64::from(queue.cq_overflow());
        if queue.is_empty() {
            self.unsubmitted.clear();
        }
        Ok(())
    }

    /// The next completion, unless none is waiting.
    pub(crate) fn next_entry(&mut self) -> Option<Entry> {
        #[cfg(any(test, feature = "simulated"))]
        if let Some(kernel) = &mut self.kernel {
            return kernel.next_completion();
        }
        let entry = self.ring.completion().next()?;
        self.stats.completions += 1;
        Some(entry.into())
    }

    /// Appends the completions that are waiting to `out`.
    pub fn completions(&mut self, out: &mut Vec<Completion>) {
        let Self { ring, lent, .. } = self;
        out.extend(ring.completion().map(|entry| {
            let entry = Entry::from(entry);
            let result = u32::try_from(entry.result).map_err(|_| -entry.result);
            let token = entry.data.token();
            let lent = if entry.data.operation() == Operation::SendAll { lent.remove(&token) } else { None };
            Completion {
                token,
                result,
                more: entry.goes_on(),
                received: entry.received(),
                returned: lent.map(|(bytes, len)| Returned { bytes, is_whole: result == Ok(len) }),
                accepted: entry.into_accepted(),
            }
        }));
    }

    /// The bytes that were received.
    pub fn bytes(&self, received: &Received) -> &[u8] {
        self.buffers.bytes(received)
    }

    /// The bytes that were received, to be changed in place.
    pub fn bytes_mut(&mut self, received: &mut Received) -> &mut [u8] {
        self.buffers.bytes_mut(received)
    }

    /// Gives a buffer back to the kernel.
    pub fn recycle(&mut self, received: Received) {
        self.buffers.recycle(received);
    }

    /// Submits what is queued unless there is room for so many more: linked submissions go in one call.
    pub(crate) fn make_room(&mut self, entries: usize) {
        let queue = self.ring.submission();
        if queue.capacity() - queue.len() < entries {
            drop(queue);
            self.submit_or_panic();
        }
    }

    /// Submits where an error has nowhere to go. One that lasts is a bug or the end of the process, and a panic
    /// of a shard ends it with this message.
    pub(crate) fn submit_or_panic(&mut self) {
        self.submit_and_wait(0).expect("io_uring_enter fails on a valid ring");
    }

    fn push(&mut self, entry: squeue::Entry, data: UserData) {
        let entry = entry.user_data(data.into());
        #[cfg(any(test, feature = "simulated"))]
        if let Some(kernel) = &mut self.kernel {
            return kernel.submit(entry, data);
        }
        loop {
            // SAFETY: what the entry points to outlives its use (the module's documentation says why that is enough): a
            // SEND's bytes are held by the caller until this returns, then in `unsubmitted` until the queue is empty,
            // or in `lent` until their completion, whose token no other has meanwhile; `drop` doesn't free those,
            // either. The timer's timespec is the ring's; names and buffers of files are there by the promise of
            // `file`. RECVs use `buffers`, an address is 'static, and the rest points to nothing.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.submit_or_panic();
        }
    }

    /// Submissions that wait to be handed over.
    #[cfg(test)]
    pub(crate) fn queued(&mut self) -> usize {
        self.ring.submission().len()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may go on reading them after the ring's descriptor is closed.
        mem::forget(mem::take(&mut self.lent));
    }
}

fn fd(descriptor: BorrowedFd<'_>) -> Fd {
    Fd(descriptor.as_raw_fd())
}
