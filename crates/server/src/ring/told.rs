//! What stands in the kernel's place in tests of driver and transport. It takes submissions as the kernel does, by what
//! they point to, and completes what the test tells it to, when and as the test says.
//!
//! It holds the server to what it owes the kernel and its clients: a request that is armed while it is armed, a SEND while
//! one is unanswered or while there is no room, another connection's descriptor, or one that was closed, end the test.
//!
//! Nothing of it is in a build without tests, where `SocketRing` has the kernel alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

const BUFFER: u32 = 1;
const MORE: u32 = 2;

/// Both queues, and all that was asked for.
#[derive(Default)]
pub struct Kernel {
    submitted: VecDeque<(squeue::Entry, UserData)>,
    completions: VecDeque<(u64, i32, u32)>,
    /// ACCEPTs, RECVs and POLL_ADDs that aren't complete.
    armed: BTreeSet<u64>,
    /// RECVs and POLL_ADDs that were to be cancelled.
    cancelled: BTreeSet<u64>,
    /// SENDs that aren't answered, and what they held.
    sends: BTreeMap<ConnId, Vec<u8>>,
    /// Whose the descriptors are.
    owners: BTreeMap<RawFd, ConnId>,
    /// Entries of the ring of buffers that were taken.
    head: u16,
    /// It takes no submissions.
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
    /// Whether a multishot RECV is armed.
    pub fn is_receiving(&self, conn: ConnId) -> bool {
        self.armed.contains(&UserData::conn(Operation::Receive, conn).into())
    }

    /// Whether a POLL_ADD is armed.
    pub fn is_polling(&self, conn: ConnId) -> bool {
        self.armed.contains(&UserData::conn(Operation::Poll, conn).into())
    }

    /// Whether the multishot ACCEPT of a listener is armed.
    pub fn is_accepting(&self, listener: usize) -> bool {
        self.armed.contains(&UserData::accept(listener).into())
    }

    /// Whether the RECV and the POLL_ADD of a connection, as far as they are armed, are to be cancelled.
    pub fn is_cancelled(&self, conn: ConnId) -> bool {
        let requests =
            [Operation::Receive, Operation::Poll].map(|operation| UserData::conn(operation, conn).into());
        requests.iter().all(|data| !self.armed.contains(data) || self.cancelled.contains(data))
    }

    /// Whether all ACCEPTs that are armed are to be cancelled.
    pub fn are_accepts_cancelled(&self) -> bool {
        let mut armed =
            self.armed.iter().filter(|data| UserData::from(**data).operation() == Operation::Accept);
        armed.all(|data| self.cancelled.contains(data))
    }

    /// What the unanswered SEND of a connection holds.
    pub fn sending(&self, conn: ConnId) -> Option<&[u8]> {
        self.sends.get(&conn).map(Vec::as_slice)
    }

    /// Whether the connection's descriptor is open.
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.owners.values().any(|owner| *owner == conn)
    }

    /// From now on it takes no submissions, or takes them again.
    pub fn set_busy(&mut self, is_busy: bool) {
        self.is_busy = is_busy;
    }

    pub(super) fn submit(&mut self, entry: squeue::Entry, data: UserData) {
        self.submitted.push_back((entry, data));
    }

    pub(super) fn next_completion(&mut self) -> Option<(u64, i32, u32)> {
        self.completions.pop_front()
    }

    fn complete(&mut self, data: UserData, result: i32, flags: u32) {
        if flags & MORE == 0 {
            self.armed.remove(&data.into());
        }
        self.completions.push_back((data.into(), result, flags));
    }

    fn take(&mut self, entry: squeue::Entry, data: UserData) {
        let submission = Submission::of(entry);
        match submission.opcode {
            opcode::AcceptMulti::CODE if data.operation() == Operation::Accept => self.arm(data),
            opcode::RecvMulti::CODE => {
                let owner = self.owners.entry(submission.fd).or_insert(data.conn_id());
                assert_eq!(*owner, data.conn_id(), "a RECV from another's socket");
                self.arm(data);
            }
            opcode::PollAdd::CODE => {
                assert_eq!(
                    self.owners.get(&submission.fd),
                    Some(&data.conn_id()),
                    "a POLL_ADD of another's socket"
                );
                self.arm(data);
            }
            opcode::Send::CODE => {
                assert_eq!(
                    self.owners.get(&submission.fd),
                    Some(&data.conn_id()),
                    "a SEND to another's socket"
                );
                let poll = UserData::conn(Operation::Poll, data.conn_id()).into();
                assert!(!self.armed.contains(&poll), "a SEND while it waits for room: {:?}", data.conn_id());
                // SAFETY: who submits it keeps what it points to until it was taken, which is now.
                let bytes = unsafe {
                    std::slice::from_raw_parts(submission.addr as *const u8, submission.len as usize)
                };
                let before = self.sends.insert(data.conn_id(), bytes.to_vec());
                assert_eq!(before, None, "a SEND while one is unanswered: {:?}", data.conn_id());
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

impl SocketRing {
    /// A ring that never enters the kernel: the test says what completes.
    pub fn told(listeners: impl IntoIterator<Item = OwnedFd>) -> io::Result<Self> {
        Ok(Self { kernel: Some(Kernel::default()), ..Self::new(listeners)? })
    }

    /// What stands in the kernel's place.
    ///
    /// # Panics
    /// Unless the ring is [`SocketRing::told`].
    pub fn kernel(&mut self) -> &mut Kernel {
        self.kernel.as_mut().expect("a ring that is told")
    }

    pub(super) fn enter_told(&mut self) {
        self.stats.enters += 1;
        let kernel = self.kernel();
        if kernel.is_busy {
            return;
        }
        while let Some((entry, data)) = kernel.submitted.pop_front() {
            kernel.take(entry, data);
        }
        self.unsubmitted.clear();
    }

    /// An ACCEPT has a connection.
    pub fn tell_accepted(&mut self, listener: usize, fd: OwnedFd, goes_on: bool) {
        let flags = if goes_on { MORE } else { 0 };
        self.kernel().complete(UserData::accept(listener), fd.into_raw_fd(), flags);
    }

    /// An ACCEPT ends with an error.
    pub fn tell_accept_failed(&mut self, listener: usize, errno: i32) {
        self.kernel().complete(UserData::accept(listener), -errno, 0);
    }

    /// A RECV has bytes, in a buffer of the ring.
    pub fn tell_received(&mut self, conn: ConnId, bytes: &[u8], goes_on: bool) {
        let head = self.kernel().head;
        let id = self.buffers.fill(head, bytes);
        let flags = BUFFER | u32::from(id) << 16 | if goes_on { MORE } else { 0 };
        let kernel = self.kernel();
        kernel.head = kernel.head.wrapping_add(1);
        kernel.complete(UserData::conn(Operation::Receive, conn), bytes.len() as i32, flags);
    }

    /// A RECV ends without a buffer: 0 for FIN, or a negative errno.
    pub fn tell_receive_ended(&mut self, conn: ConnId, result: i32) {
        self.kernel().complete(UserData::conn(Operation::Receive, conn), result, 0);
    }

    /// A SEND is answered. Answers with the bytes that it took.
    ///
    /// # Panics
    /// If there is none.
    pub fn tell_sent(&mut self, conn: ConnId, result: i32) -> Vec<u8> {
        let kernel = self.kernel();
        let mut bytes = kernel.sends.remove(&conn).expect("a SEND");
        bytes.truncate(usize::try_from(result).unwrap_or(0));
        kernel.complete(UserData::conn(Operation::Send, conn), result, 0);
        bytes
    }

    /// A POLL_ADD ends.
    pub fn tell_polled(&mut self, conn: ConnId, result: i32) {
        self.kernel().complete(UserData::conn(Operation::Poll, conn), result, 0);
    }

    /// A request whose success isn't told (ASYNC_CANCEL, CLOSE) fails.
    pub fn tell_ignored(&mut self, errno: i32) {
        self.kernel().complete(UserData::of(Operation::Ignored), -errno, 0);
    }

    /// How many SENDs have bytes that the kernel has yet to take.
    pub fn held(&self) -> usize {
        self.unsubmitted.len()
    }

    /// That each buffer was given back, once, and that no request keeps a socket open that was closed.
    pub fn check_end(&mut self) {
        let kernel = self.kernel();
        let armed = kernel.armed.iter().map(|data| UserData::from(*data));
        for data in armed.filter(|data| data.operation() != Operation::Accept) {
            let is_left = !kernel.is_open(data.conn_id()) && !kernel.cancelled.contains(&data.into());
            assert!(!is_left, "it is armed on a socket that was closed: {data:?}");
        }
        let head = kernel.head;
        self.buffers.check_all_are_back(head);
    }
}
