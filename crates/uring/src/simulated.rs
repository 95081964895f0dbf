//! A simulated kernel, for tests of code that drives a [`SocketRing`]. It takes submissions as the kernel does, by what
//! they point to, and completes what the test says, when and as the test says.
//!
//! Checks the caller's obligations to the kernel and to clients: a request that is armed while it is armed, a SEND
//! while one is unanswered or while there is no room, another connection's descriptor, or one that was closed, end the
//! test.
//!
//! Without the feature `simulated` nothing of it is compiled, and a ring has the kernel alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

use io_uring::{opcode, squeue};

use crate::completion::{Operation, UserData};
use crate::ring::{Entry, Ring};
use crate::sockets::{SocketId, SocketRing};

const BUFFER: u32 = 1;
const MORE: u32 = 2;

/// Both queues, and all requests that aren't complete.
#[derive(Default)]
pub struct Kernel {
    submitted: VecDeque<(squeue::Entry, UserData)>,
    completions: VecDeque<Entry>,
    /// ACCEPTs, RECVs and POLL_ADDs that aren't complete.
    armed: BTreeSet<u64>,
    /// RECVs and POLL_ADDs that were to be cancelled.
    cancelled: BTreeSet<u64>,
    /// SENDs that aren't answered, and their bytes.
    sends: BTreeMap<SocketId, Vec<u8>>,
    /// Owners of descriptors.
    owners: BTreeMap<RawFd, SocketId>,
    /// Entries of the ring of buffers that were taken.
    head: u16,
    /// Submissions stay in their queue.
    is_busy: bool,
}

/// A submission as the kernel reads it (io_uring_enter(2), struct io_uring_sqe).
struct Submission {
    opcode: u8,
    fd: RawFd,
    addr: u64,
    len: u32,
}

impl Kernel {
    /// A multishot RECV is armed.
    pub fn is_receiving(&self, id: SocketId) -> bool {
        self.armed.contains(&UserData::new(Operation::Receive, id.token()).into())
    }

    /// A POLL_ADD is armed.
    pub fn is_polling(&self, id: SocketId) -> bool {
        self.armed.contains(&UserData::new(Operation::Poll, id.token()).into())
    }

    /// The multishot ACCEPT of a listener is armed.
    pub fn is_accepting(&self, listener: usize) -> bool {
        self.armed.contains(&UserData::new(Operation::Accept, listener as u64).into())
    }

    /// The RECV and the POLL_ADD of a connection, as far as they are armed, are to be cancelled.
    pub fn is_cancelled(&self, id: SocketId) -> bool {
        let requests = [Operation::Receive, Operation::Poll]
            .map(|operation| UserData::new(operation, id.token()).into());
        requests.iter().all(|data| !self.armed.contains(data) || self.cancelled.contains(data))
    }

    /// All ACCEPTs that are armed are to be cancelled.
    pub fn are_accepts_cancelled(&self) -> bool {
        let mut armed =
            self.armed.iter().filter(|data| UserData::from(**data).operation() == Operation::Accept);
        armed.all(|data| self.cancelled.contains(data))
    }

    /// The bytes of a connection's unanswered SEND.
    pub fn sending(&self, id: SocketId) -> Option<&[u8]> {
        self.sends.get(&id).map(Vec::as_slice)
    }

    /// The connection's descriptor is open.
    pub fn is_open(&self, id: SocketId) -> bool {
        self.owners.values().any(|owner| *owner == id)
    }

    /// Stops or begins to take submissions.
    pub fn set_busy(&mut self, is_busy: bool) {
        self.is_busy = is_busy;
    }

    pub(crate) fn submit(&mut self, entry: squeue::Entry, data: UserData) {
        self.submitted.push_back((entry, data));
    }

    pub(crate) fn next_completion(&mut self) -> Option<Entry> {
        self.completions.pop_front()
    }

    fn complete(&mut self, data: UserData, result: i32, flags: u32) {
        if flags & MORE == 0 {
            self.armed.remove(&data.into());
        }
        self.completions.push_back(Entry { data, result, flags });
    }

    fn take(&mut self, entry: squeue::Entry, data: UserData) {
        let submission = Submission::of(entry);
        match submission.opcode {
            opcode::AcceptMulti::CODE if data.operation() == Operation::Accept => self.arm(data),
            opcode::RecvMulti::CODE => {
                let owner = self.owners.entry(submission.fd).or_insert(socket(data));
                assert_eq!(*owner, socket(data), "a RECV from another's socket");
                self.arm(data);
            }
            opcode::PollAdd::CODE => {
                assert_eq!(
                    self.owners.get(&submission.fd),
                    Some(&socket(data)),
                    "a POLL_ADD of another's socket"
                );
                self.arm(data);
            }
            opcode::Send::CODE => {
                assert_eq!(
                    self.owners.get(&submission.fd),
                    Some(&socket(data)),
                    "a SEND to another's socket"
                );
                let poll = UserData::new(Operation::Poll, data.token()).into();
                assert!(!self.armed.contains(&poll), "a SEND while it waits for room: {:?}", socket(data));
                // SAFETY: who submits it keeps what it points to until it was taken, which is now.
                let bytes = unsafe {
                    std::slice::from_raw_parts(submission.addr as *const u8, submission.len as usize)
                };
                let before = self.sends.insert(socket(data), bytes.to_vec());
                assert_eq!(before, None, "a SEND while one is unanswered: {:?}", socket(data));
            }
            opcode::AsyncCancel::CODE => {
                self.cancelled.insert(submission.addr);
            }
            opcode::Close::CODE => {
                assert!(self.owners.remove(&submission.fd).is_some(), "a descriptor that isn't open");
                // SAFETY: who submitted it has given it up.
                drop(unsafe { OwnedFd::from_raw_fd(submission.fd) });
            }
            opcode::Timeout::CODE | opcode::TimeoutUpdate::CODE => {}
            other => panic!("opcode {other} isn't known here"),
        }
    }

    fn arm(&mut self, data: UserData) {
        assert!(self.armed.insert(data.into()), "armed while it is armed: {data:?}");
    }
}

impl Submission {
    fn of(entry: squeue::Entry) -> Self {
        // SAFETY: plain numbers, all of which were set, zeros at first.
        let bytes: [u8; 64] = unsafe { std::mem::transmute(entry) };
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let addr = u64::from_ne_bytes(bytes[16..24].try_into().expect("eight bytes"));
        Self { opcode: bytes[0], fd: word(4) as RawFd, addr, len: word(24) }
    }
}

/// The connection that an operation was submitted for.
fn socket(data: UserData) -> SocketId {
    SocketId::from_token(data.token())
}

impl Ring {
    pub(crate) fn enter_simulated(&mut self) {
        self.stats.enters += 1;
        let Some(kernel) = self.kernel.as_mut().filter(|kernel| !kernel.is_busy) else { return };
        while let Some((entry, data)) = kernel.submitted.pop_front() {
            kernel.take(entry, data);
        }
        self.unsubmitted.clear();
    }
}

impl SocketRing {
    /// A ring that never enters the kernel: the test says what completes.
    ///
    /// # Errors
    /// As [`SocketRing::new`].
    pub fn simulated(listeners: impl IntoIterator<Item = OwnedFd>) -> io::Result<Self> {
        let mut this = Self::new(listeners)?;
        this.ring.kernel = Some(Kernel::default());
        Ok(this)
    }

    /// The simulated kernel.
    ///
    /// # Panics
    /// Unless the ring is [`SocketRing::simulated`].
    pub fn kernel(&mut self) -> &mut Kernel {
        self.ring.kernel.as_mut().expect("a simulated ring")
    }

    /// An ACCEPT has a connection.
    pub fn inject_accepted(&mut self, listener: usize, fd: OwnedFd, goes_on: bool) {
        let flags = if goes_on { MORE } else { 0 };
        self.kernel().complete(UserData::new(Operation::Accept, listener as u64), fd.into_raw_fd(), flags);
    }

    /// An ACCEPT ends with an error.
    pub fn inject_accept_failed(&mut self, listener: usize, errno: i32) {
        self.kernel().complete(UserData::new(Operation::Accept, listener as u64), -errno, 0);
    }

    /// A RECV has bytes, in a buffer of the ring.
    pub fn inject_received(&mut self, id: SocketId, bytes: &[u8], goes_on: bool) {
        let head = self.kernel().head;
        let buffer = self.ring.buffers.fill(head, bytes);
        let flags = BUFFER | u32::from(buffer) << 16 | if goes_on { MORE } else { 0 };
        let kernel = self.kernel();
        kernel.head = kernel.head.wrapping_add(1);
        kernel.complete(UserData::new(Operation::Receive, id.token()), bytes.len() as i32, flags);
    }

    /// A RECV ends without a buffer: 0 for FIN, or a negative errno.
    pub fn inject_receive_ended(&mut self, id: SocketId, result: i32) {
        self.kernel().complete(UserData::new(Operation::Receive, id.token()), result, 0);
    }

    /// A SEND is answered. Answers with the bytes that it took.
    ///
    /// # Panics
    /// If there is none.
    pub fn inject_sent(&mut self, id: SocketId, result: i32) -> Vec<u8> {
        let kernel = self.kernel();
        let mut bytes = kernel.sends.remove(&id).expect("a SEND");
        bytes.truncate(usize::try_from(result).unwrap_or(0));
        kernel.complete(UserData::new(Operation::Send, id.token()), result, 0);
        bytes
    }

    /// A POLL_ADD ends.
    pub fn inject_polled(&mut self, id: SocketId, result: i32) {
        self.kernel().complete(UserData::new(Operation::Poll, id.token()), result, 0);
    }

    /// A request whose success gives no completion (ASYNC_CANCEL, CLOSE) fails.
    pub fn inject_ignored(&mut self, errno: i32) {
        self.kernel().complete(UserData::new(Operation::Ignored, 0), -errno, 0);
    }

    /// Number of SENDs that the kernel has yet to take.
    pub fn held(&self) -> usize {
        self.ring.unsubmitted.len()
    }

    /// Checks that each buffer was given back, once, and that no request keeps a socket open that was closed.
    pub fn check_end(&mut self) {
        let kernel = self.kernel();
        let armed = kernel.armed.iter().map(|data| UserData::from(*data));
        for data in armed.filter(|data| data.operation() != Operation::Accept) {
            let is_left = !kernel.is_open(socket(data)) && !kernel.cancelled.contains(&data.into());
            assert!(!is_left, "it is armed on a socket that was closed: {data:?}");
        }
        let head = kernel.head;
        self.ring.buffers.check_all_are_back(head);
    }
}
