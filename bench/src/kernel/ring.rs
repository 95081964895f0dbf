//! One io_uring for the sockets of one thread: completions appear only when the thread waits for them
//! (DEFER_TASKRUN), so that a thousand arrivals wake nobody until it does.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    collections::{HashMap, hash_map::Entry},
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use socket2::SockAddr;

/// The only buffer group of a ring.
const GROUP: u16 = 0;
/// A buffer ring must be page-aligned.
const PAGE: usize = 4096;
/// SENDs never block the ring: a full socket answers EAGAIN, a closed one EPIPE without a signal.
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
/// A SEND that waits for room, and is over when all is sent.
const SEND_ALL_FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct RingSetup {
    /// Submissions that are taken before a submit is forced.
    pub submissions: u32,
    /// Completions that fit between two drains.
    pub completions: u32,
    /// Receive buffers; a power of two of at most 32,768.
    pub buffers: u16,
    /// Bytes of one receive buffer.
    pub buffer_len: u32,
}

/// The ring, and the buffers that it receives into.
pub struct Ring {
    // Dropped before the buffers that it refers to.
    ring: IoUring,
    buffers: Buffers,
    /// What SENDs that aren't over send, by their token, and how many bytes of it.
    lent: HashMap<u64, (Vec<u8>, u32)>,
    waits_for_some: bool,
}

/// What became of one operation.
#[derive(Debug)]
pub struct Completion {
    /// The number that the operation was submitted with.
    pub token: u64,
    /// Bytes or 0; or the error.
    pub result: Result<u32, i32>,
    /// A connection that was accepted.
    pub accepted: Option<OwnedFd>,
    /// A multishot operation goes on.
    pub more: bool,
    /// Bytes that were received; give it back with [`Ring::recycle`].
    pub receipt: Option<Receipt>,
    /// What [`Ring::send_all`] was given.
    pub returned: Option<Returned>,
}

/// What a SEND is done with.
#[derive(Debug)]
pub struct Returned {
    /// What [`Ring::send_all`] was given.
    pub bytes: Vec<u8>,
    /// All was sent.
    pub is_whole: bool,
}

/// A receive buffer that the kernel filled and the caller owns until it gives it back.
#[derive(Debug)]
pub struct Receipt {
    buffer: u16,
    len: u32,
}

impl Ring {
    /// The token of accepts, and of nothing else.
    pub const ACCEPTED: u64 = u64::MAX;

    /// Builds the ring for the calling thread, the only one that may use it.
    ///
    /// # Errors
    /// If the kernel refuses it: too old (6.1 is needed), or io_uring is denied.
    pub fn new(setup: RingSetup) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(setup.completions)
            .build(setup.submissions)?;
        let buffers = Buffers::new(setup.buffers, setup.buffer_len);
        // SAFETY: the entries are page-aligned memory for `count` of them (`Buffers::new`), and are freed after the
        // ring: here if this fails, which registers nothing, otherwise by the field order of `Ring`.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffers.entries.as_ptr() as u64,
                buffers.count,
                GROUP,
                0,
            )?;
        }
        let waits_for_some = ring.params().is_feature_min_timeout();
        let mut this = Self { ring, buffers, lent: HashMap::new(), waits_for_some };
        for buffer in 0..setup.buffers {
            this.buffers.give(buffer);
        }
        Ok(this)
    }

    /// Connects `socket`.
    pub fn connect(&mut self, socket: BorrowedFd<'_>, to: &'static SockAddr, token: u64) {
        let entry = opcode::Connect::new(types::Fd(socket.as_raw_fd()), to.as_ptr().cast(), to.len());
        // SAFETY: the address is 'static.
        unsafe { self.push(&entry.build().user_data(token)) }
    }

    /// Accepts connections until a completion says that there won't be more. Their token is [`Ring::ACCEPTED`].
    pub fn accept(&mut self, listener: BorrowedFd<'_>) {
        let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC);
        // SAFETY: the operation refers to no memory, and is an accept.
        unsafe { self.push_any(&entry.build().user_data(Self::ACCEPTED)) }
    }

    /// Receives until a completion says that there won't be more: end of stream, error, or no buffer left.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, token: u64) {
        let entry = opcode::RecvMulti::new(types::Fd(socket.as_raw_fd()), GROUP);
        // SAFETY: the memory is the ring's own, in `buffers`, which is freed after it.
        unsafe { self.push(&entry.build().user_data(token)) }
    }

    /// Receives once, at most one buffer.
    pub fn receive_once(&mut self, socket: BorrowedFd<'_>, token: u64) {
        let entry =
            opcode::Recv::new(types::Fd(socket.as_raw_fd()), std::ptr::null_mut(), 0).buf_group(GROUP);
        let entry = entry.build().flags(squeue::Flags::BUFFER_SELECT);
        // SAFETY: with BUFFER_SELECT the null pointer isn't used; the memory is the ring's own, in `buffers`, which
        // is freed after it.
        unsafe { self.push(&entry.user_data(token)) }
    }

    /// Completes when the peer has closed or reset the connection, without reading from it.
    pub fn poll_hangup(&mut self, socket: BorrowedFd<'_>, token: u64) {
        let events = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
        let entry = opcode::PollAdd::new(types::Fd(socket.as_raw_fd()), events as u32);
        // SAFETY: the operation refers to no memory.
        unsafe { self.push(&entry.build().user_data(token)) }
    }

    /// Sends `bytes`, as far as the socket takes them at once.
    pub fn send(&mut self, socket: BorrowedFd<'_>, bytes: &'static [u8], token: u64) {
        // SAFETY: the bytes are 'static.
        unsafe { self.push_send(socket, bytes, token) }
    }

    /// Sends all of `bytes` from `start` on, however long the socket takes for it. The completion gives them back: until
    /// then nothing else may have this token.
    ///
    /// # Panics
    /// If `start` is behind the end, or if a SEND with this token isn't over.
    pub fn send_all(&mut self, socket: BorrowedFd<'_>, bytes: Vec<u8>, start: usize, token: u64) {
        let part = &bytes[start..];
        let len = u32::try_from(part.len()).expect("frames are below 4 GiB");
        let entry =
            opcode::Send::new(types::Fd(socket.as_raw_fd()), part.as_ptr(), len).flags(SEND_ALL_FLAGS);
        let entry = entry.build().user_data(token);
        // Not `insert`, which would free what is being sent before it could be found wrong.
        let Entry::Vacant(place) = self.lent.entry(token) else { panic!("one SEND for each token") };
        place.insert((bytes, len));
        // SAFETY: a Vec that is moved leaves its bytes where they are. In `lent` nobody touches it until a completion
        // has its token, which is that of this SEND: tokens of SENDs have a kind of their own. `drop` doesn't free
        // it, either.
        unsafe { self.push(&entry) }
    }

    /// Sends `bytes` to each of `sockets`, submitting after every `batch`; all are submitted on return.
    ///
    /// # Panics
    /// Aborts the process if the kernel refuses submissions for good: it would keep pointers into `bytes`.
    pub fn fan_out<'s>(
        &mut self,
        bytes: &[u8],
        sockets: impl Iterator<Item = (BorrowedFd<'s>, u64)>,
        batch: usize,
    ) {
        let mut queued = 0;
        for (socket, token) in sockets {
            // SAFETY: `bytes` outlives this call, and all is submitted before it returns; if `sockets` panics, the
            // ring goes with its thread, and what is queued is never submitted.
            unsafe { self.push_send(socket, bytes, token) }
            queued += 1;
            if queued % batch == 0 {
                self.submit();
            }
        }
        self.submit();
    }

    /// Submits what is queued, then sleeps until `enough` completions are there, or at least one and `patience`
    /// is over, or `timeout` is over.
    ///
    /// # Errors
    /// What `io_uring_enter` answers, but for a timeout and a signal.
    pub fn wait(&mut self, enough: usize, patience: Duration, timeout: Duration) -> io::Result<()> {
        let timeout = types::Timespec::from(timeout);
        let mut args = types::SubmitArgs::new().timespec(&timeout);
        let mut enough = enough.max(1);
        if self.waits_for_some {
            // 0 would mean no such limit.
            args = args.min_wait_usec(u32::try_from(patience.as_micros()).unwrap_or(u32::MAX).max(1));
        } else {
            enough = 1;
        }
        match self.ring.submitter().submit_with_args(enough, &args) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Appends the completions that are there to `out`.
    pub fn completions(&mut self, out: &mut Vec<Completion>) {
        let Self { ring, lent, .. } = self;
        out.extend(ring.completion().map(|entry| {
            let result = u32::try_from(entry.result()).map_err(|_| -entry.result());
            let buffer = cqueue::buffer_select(entry.flags());
            let accepted = result.ok().filter(|_| entry.user_data() == Self::ACCEPTED).map(|descriptor| {
                // SAFETY: only accepts have this token (`push`), without fixed files: a result that is no error is a
                // new descriptor, and each completion is taken once.
                unsafe { OwnedFd::from_raw_fd(descriptor as i32) }
            });
            let lent = if lent.is_empty() { None } else { lent.remove(&entry.user_data()) };
            Completion {
                accepted,
                token: entry.user_data(),
                result,
                more: cqueue::more(entry.flags()),
                receipt: buffer.map(|buffer| Receipt { buffer, len: result.unwrap_or(0) }),
                returned: lent.map(|(bytes, len)| Returned { bytes, is_whole: result == Ok(len) }),
            }
        }));
    }

    /// The bytes that were received.
    pub fn bytes(&self, receipt: &Receipt) -> &[u8] {
        self.buffers.get(receipt.buffer, receipt.len)
    }

    /// Gives a buffer back to the kernel.
    #[expect(clippy::needless_pass_by_value, reason = "a buffer can be given back only once")]
    pub fn recycle(&mut self, receipt: Receipt) {
        self.buffers.give(receipt.buffer);
    }

    /// # Safety
    /// As for [`Ring::push`]: `bytes` must be there until the entry was submitted.
    unsafe fn push_send(&mut self, socket: BorrowedFd<'_>, bytes: &[u8], token: u64) {
        let len = u32::try_from(bytes.len()).expect("frames are below 4 GiB");
        let entry = opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), len).flags(SEND_FLAGS);
        // SAFETY: a SEND with MSG_DONTWAIT is over when it was submitted: it has copied the bytes or failed with
        // EAGAIN. Until then they are there, by the caller's promise.
        unsafe { self.push(&entry.build().user_data(token)) }
    }

    /// # Safety
    /// Memory that the entry refers to must be valid until the operation is over.
    unsafe fn push(&mut self, entry: &squeue::Entry) {
        assert_ne!(entry.get_user_data(), Self::ACCEPTED, "this token means a descriptor");
        // SAFETY: the memory by the caller's promise, the token by the assertion.
        unsafe { self.push_any(entry) }
    }

    /// # Safety
    /// As for [`Ring::push`]; and only accepts may have their token.
    unsafe fn push_any(&mut self, entry: &squeue::Entry) {
        // SAFETY: what the entry refers to is there until it is over, by the caller's promise; a full queue takes no
        // copy of it.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.submit();
        }
    }

    /// Submits what is queued. What refers to a descriptor has looked it up when this returns.
    ///
    /// # Panics
    /// Aborts the process if the kernel refuses for good.
    pub fn submit(&mut self) {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Ok(_) => {}
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {}
                Err(error) => {
                    eprintln!("io_uring refuses submissions: {error}");
                    std::process::abort();
                }
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may go on reading them after the ring's descriptor is closed.
        mem::forget(mem::take(&mut self.lent));
    }
}

/// Receive buffers, and the ring of entries through which the kernel is given them.
///
/// The kernel writes into the buffers only while the thread is inside `io_uring_enter` (DEFER_TASKRUN), which
/// needs `&mut Ring`: no slice that was lent out is alive then.
struct Buffers {
    entries: NonNull<types::BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    len: u32,
    tail: u16,
}

impl Buffers {
    fn new(count: u16, len: u32) -> Self {
        assert!(count.is_power_of_two() && len > 0, "the kernel takes a power of two of buffers");
        Self {
            entries: allocate(Self::entries_layout(count)).cast(),
            memory: allocate(Self::memory_layout(count, len)),
            count,
            len,
            tail: 0,
        }
    }

    fn entries_layout(count: u16) -> Layout {
        let size = usize::from(count) * size_of::<types::BufRingEntry>();
        Layout::from_size_align(size.next_multiple_of(PAGE), PAGE).expect("at most 512 KiB")
    }

    fn memory_layout(count: u16, len: u32) -> Layout {
        Layout::from_size_align(usize::from(count) * len as usize, PAGE).expect("fits the address space")
    }

    fn get(&self, buffer: u16, len: u32) -> &[u8] {
        assert!(buffer < self.count && len <= self.len, "the kernel fills the buffers that it was given");
        // SAFETY: within `memory`, by the assertion, which was zeroed, so that all of it may be read. The kernel
        // doesn't write while it is borrowed: see `Buffers`.
        unsafe {
            let start = self.memory.add(usize::from(buffer) * self.len as usize);
            std::slice::from_raw_parts(start.as_ptr(), len as usize)
        }
    }

    fn give(&mut self, buffer: u16) {
        // SAFETY: the mask keeps the index within the entries; `buffer` is below `count`, for `Ring::new` counts up
        // to it and a `Receipt` has a number that the kernel was given here. There are as many entries as buffers,
        // and each is given once at a time (a `Receipt` can't be copied), so that the entry at the tail is this
        // side's until the tail moves past it; the tail is only ever written here, and read by the kernel.
        unsafe {
            let entry = self.entries.add(usize::from(self.tail & (self.count - 1))).as_mut();
            entry.set_addr(self.memory.add(usize::from(buffer) * self.len as usize).as_ptr() as u64);
            entry.set_len(self.len);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = types::BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with the same layouts, for neither number changes. The ring that used them is
        // gone (field order of `Ring`): nobody is inside its io_uring_enter any more, where the kernel writes.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), Self::entries_layout(self.count));
            dealloc(self.memory.as_ptr(), Self::memory_layout(self.count, self.len));
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    assert!(layout.size() > 0);
    // SAFETY: the size isn't 0, by the assertion.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
    };

    use super::*;

    #[test]
    fn receives_through_few_buffers_and_tells_the_end() {
        let setup = RingSetup { submissions: 8, completions: 64, buffers: 2, buffer_len: 16 };
        let mut ring = Ring::new(setup).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let sent: Vec<u8> = (0..200).collect();
        near.write_all(&sent).unwrap();
        drop(near);

        let (mut got, mut ended) = (Vec::new(), false);
        ring.receive(far.as_fd(), 7);
        for _ in 0..100 {
            ring.wait(1, Duration::ZERO, Duration::from_secs(1)).unwrap();
            let mut completions = Vec::new();
            ring.completions(&mut completions);
            for completion in completions {
                assert_eq!(completion.token, 7);
                if let Some(receipt) = completion.receipt {
                    got.extend_from_slice(ring.bytes(&receipt));
                    ring.recycle(receipt);
                }
                ended |= completion.result == Ok(0);
                if !completion.more && !ended {
                    ring.receive(far.as_fd(), 7);
                }
            }
            if ended {
                break;
            }
        }
        assert!(ended);
        assert_eq!(got, sent);
    }

    #[test]
    fn sends_all_to_a_socket_that_takes_little_at_once() {
        let setup = RingSetup { submissions: 4, completions: 64, buffers: 2, buffer_len: 16 };
        let mut ring = Ring::new(setup).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| n as u8).collect();
        let expected = bytes[7..].to_vec();
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; expected.len()];
            std::io::Read::read_exact(&mut far, &mut got).unwrap();
            got == expected
        });
        ring.send_all(near.as_fd(), bytes, 7, 1);
        let mut completions = Vec::new();
        for _ in 0..100 {
            ring.wait(1, Duration::ZERO, Duration::from_secs(1)).unwrap();
            ring.completions(&mut completions);
            if !completions.is_empty() {
                break;
            }
        }
        assert_eq!(completions[0].result, Ok(20_000_000 - 7));
        let returned = completions[0].returned.as_ref().unwrap();
        assert_eq!((returned.bytes.len(), returned.is_whole), (20_000_000, true));
        assert!(reader.join().unwrap());
    }

    #[test]
    fn fans_out_more_than_the_queue_holds() {
        let setup = RingSetup { submissions: 4, completions: 64, buffers: 2, buffer_len: 16 };
        let mut ring = Ring::new(setup).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _far = listener.accept().unwrap();
        ring.fan_out(&[1, 2, 3], (0..11).map(|token| (near.as_fd(), token)), 3);
        let mut completions = Vec::new();
        ring.wait(1, Duration::ZERO, Duration::from_secs(1)).unwrap();
        ring.completions(&mut completions);
        assert_eq!(completions.len(), 11);
        assert!(completions.iter().all(|completion| completion.result == Ok(3)));
    }
}
