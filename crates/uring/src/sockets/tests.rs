//! Completions as the kernel may send them, in any order and late: handed to a ring that never enters the kernel.
//!
//! `SocketRing::translate` is the seam: each completion goes through it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{IntoRawFd, OwnedFd};

use super::*;
use crate::completion::UserData;

const BUFFER: u32 = 1;
const MORE: u32 = 2;

fn id(slot: u32, generation: u32) -> SocketId {
    SocketId { slot, generation }
}

/// A ring with one listener, and a client's end that keeps a connected socket alive.
struct Bench {
    ring: SocketRing,
    address: SocketAddr,
    listener: TcpListener,
    clients: Vec<TcpStream>,
}

impl Bench {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut ring = SocketRing::new([listener.try_clone().expect("a copy").into()]).expect("io_uring");
        ring.accept();
        Self { ring, address, listener, clients: Vec::new() }
    }

    fn socket(&mut self) -> OwnedFd {
        self.clients.push(TcpStream::connect(self.address).expect("a connection"));
        self.listener.accept().expect("a connection").0.into()
    }

    fn adopt(&mut self, id: SocketId) {
        let fd = self.socket();
        self.ring.adopt(id, fd);
    }

    fn translate(&mut self, data: UserData, result: i32, flags: u32) -> Option<Completion> {
        self.ring.translate(Entry { data, result, flags })
    }

    fn complete(
        &mut self,
        operation: Operation,
        id: SocketId,
        result: i32,
        flags: u32,
    ) -> Option<Completion> {
        self.translate(UserData::new(operation, id.token()), result, flags)
    }

    /// Bytes in a buffer.
    fn receive(&mut self, id: SocketId, buffer: u32, result: i32, flags: u32) -> Option<Completion> {
        self.complete(Operation::Receive, id, result, flags | BUFFER | buffer << 16)
    }

    fn accepted(&mut self, result: i32, flags: u32) -> Option<Completion> {
        self.translate(UserData::new(Operation::Accept, 0), result, flags)
    }

    fn armed(&self) -> (u64, u64) {
        (self.ring.ring.stats.accepts_armed, self.ring.ring.stats.receives_armed)
    }

    fn is_receiving(&self, id: SocketId) -> bool {
        self.ring.sockets[id.slot as usize].receiving
    }
}

#[test]
fn fault_17_a_multishot_recv_that_ends_with_bytes_is_armed_again_when_they_were_handled() {
    let (mut bench, a) = (Bench::new(), id(0, 0));
    bench.adopt(a);
    assert_eq!(bench.armed(), (1, 1));
    assert!(matches!(bench.receive(a, 3, 5, MORE), Some(Completion::Received { .. })));
    bench.ring.receive(a);
    assert_eq!(bench.armed(), (1, 1), "it goes on");
    assert!(matches!(bench.receive(a, 4, 5, 0), Some(Completion::Received { .. })));
    bench.ring.receive(a);
    assert_eq!(bench.armed(), (1, 2));
}

#[test]
fn fault_19_a_recv_without_a_buffer_or_without_room_for_its_completion_is_armed_again() {
    for (error, exhausted) in [(libc::ENOBUFS, 1), (libc::ECANCELED, 0)] {
        let (mut bench, a) = (Bench::new(), id(0, 0));
        bench.adopt(a);
        assert!(bench.complete(Operation::Receive, a, -error, 0).is_none(), "nothing happened to the peer");
        assert_eq!((bench.armed(), bench.ring.ring.stats.buffers_exhausted), ((1, 2), exhausted));
        assert!(bench.is_receiving(a));
    }
}

#[test]
fn fault_17_a_multishot_accept_that_ends_is_armed_again() {
    let mut bench = Bench::new();
    let fd = bench.socket().into_raw_fd();
    assert!(matches!(bench.accepted(fd, MORE), Some(Completion::Accepted { listener: 0, .. })));
    bench.ring.accept();
    assert_eq!(bench.armed().0, 1, "it goes on");
    let fd = bench.socket().into_raw_fd();
    assert!(matches!(bench.accepted(fd, 0), Some(Completion::Accepted { .. })));
    bench.ring.accept();
    assert_eq!(bench.armed().0, 2);
    // A completion queue that was full.
    assert!(bench.accepted(-libc::ECANCELED, 0).is_none());
    assert_eq!(bench.armed().0, 3);
}

#[test]
fn the_first_accept_of_each_listener_is_none_that_had_ended() {
    let mut bench = Bench::new();
    bench.ring.listeners.push(Listener::new(bench.listener.try_clone().expect("a copy").into()));
    bench.ring.accept();
    assert_eq!((bench.armed().0, bench.ring.ring.stats.accepts_rearmed), (2, 0));
    assert!(bench.accepted(-libc::ECANCELED, 0).is_none());
    assert_eq!((bench.armed().0, bench.ring.ring.stats.accepts_rearmed), (3, 1));
}

#[test]
fn fault_16_an_accept_that_fails_is_not_armed_again_until_the_driver_says_so() {
    for error in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ECONNABORTED] {
        let mut bench = Bench::new();
        let completion = bench.accepted(-error, 0);
        assert!(
            matches!(&completion, Some(Completion::AcceptFailed { error: found }) if found.raw_os_error() == Some(error)),
            "{completion:?}"
        );
        assert_eq!(bench.armed().0, 1);
        bench.ring.accept();
        assert_eq!((bench.armed().0, bench.ring.ring.stats.accept_errors), (2, 1));
    }
}

#[test]
fn a_late_accept_of_a_closed_listener_arms_nothing_and_leaks_nothing() {
    let mut bench = Bench::new();
    bench.ring.close_listeners();
    let fd = bench.socket();
    let completion = bench.accepted(fd.into_raw_fd(), 0);
    assert!(matches!(completion, Some(Completion::Accepted { .. })), "whoever gets it owns the socket");
    assert!(bench.accepted(-libc::ECANCELED, 0).is_none());
    assert_eq!(bench.armed().0, 1);
}

#[test]
fn late_completions_never_reach_the_slot_s_next_connection() {
    for (old, new) in [(7, 8), (u32::MAX, 0)] {
        check_late_completions(id(5, old), id(5, new));
    }
}

fn check_late_completions(old: SocketId, new: SocketId) {
    let mut bench = Bench::new();
    bench.adopt(old);
    bench.ring.await_writable(old);
    bench.ring.close(old, false);
    // Between close and the next connection, and behind it.
    for round in 0..2 {
        let recycled = bench.ring.ring.buffers.tail();
        assert!(bench.receive(old, 9, 100, 0).is_none());
        assert_eq!(bench.ring.ring.buffers.tail(), recycled.wrapping_add(1), "its buffer isn't lost");
        for (operation, result) in [
            (Operation::Receive, 0),
            (Operation::Receive, -libc::ECONNRESET),
            (Operation::Receive, -libc::ENOBUFS),
            (Operation::Receive, -libc::ECANCELED),
            (Operation::Send, 40),
            (Operation::Send, -libc::EPIPE),
            (Operation::Poll, libc::POLLOUT.into()),
            (Operation::Poll, -libc::ECANCELED),
        ] {
            assert!(bench.complete(operation, old, result, 0).is_none(), "{operation:?} {result}");
        }
        if round == 0 {
            bench.adopt(new);
            bench.ring.await_writable(new);
        }
    }
    assert!(bench.is_receiving(new), "its RECV is still armed");
    assert!(bench.ring.sockets[5].polling);
    assert!(matches!(bench.complete(Operation::Send, new, 40, 0), Some(Completion::Sent { result: 40, .. })));
}

#[test]
fn the_end_of_a_connection_is_told_and_its_buffer_given_back() {
    let (mut bench, a) = (Bench::new(), id(0, 0));
    bench.adopt(a);
    let recycled = bench.ring.ring.buffers.tail();
    assert!(matches!(bench.receive(a, 1, 0, 0), Some(Completion::PeerClosed { .. })));
    assert_eq!(bench.ring.ring.buffers.tail(), recycled.wrapping_add(1));
    assert!(matches!(bench.complete(Operation::Receive, a, 0, 0), Some(Completion::PeerClosed { .. })));
    let reset = bench.complete(Operation::Receive, a, -libc::ECONNRESET, 0);
    assert!(
        matches!(&reset, Some(Completion::PeerReset { error, .. }) if error.raw_os_error() == Some(libc::ECONNRESET))
    );
    // The answer to a send that was before it comes behind it.
    assert!(matches!(bench.complete(Operation::Send, a, -libc::EPIPE, 0), Some(Completion::Sent { .. })));
}

#[test]
fn short_sends_and_a_full_socket_are_passed_on_as_they_are() {
    let (mut bench, a) = (Bench::new(), id(0, 0));
    bench.adopt(a);
    for result in [0, 1, 39, -libc::EAGAIN, -libc::EPIPE] {
        let completion = bench.complete(Operation::Send, a, result, 0);
        assert!(
            matches!(completion, Some(Completion::Sent { result: found, .. }) if found == result),
            "{completion:?}"
        );
    }
    bench.ring.await_writable(a);
    bench.ring.await_writable(a);
    assert!(matches!(
        bench.complete(Operation::Poll, a, libc::POLLOUT.into(), 0),
        Some(Completion::Writable { .. })
    ));
    assert!(!bench.ring.sockets[0].polling, "the next one is armed anew");
}

#[test]
fn the_timer_is_armed_again_after_it_fired_and_moved_only_nearer() {
    let mut bench = Bench::new();
    let pushed = |bench: &mut Bench| bench.ring.ring.queued();
    let before = pushed(&mut bench);
    bench.ring.wake_at(2_000);
    bench.ring.wake_at(3_000);
    assert_eq!((pushed(&mut bench), bench.ring.timer_ns), (before + 1, Some(2_000)));
    bench.ring.wake_at(1_000);
    assert_eq!((pushed(&mut bench), bench.ring.timer_ns), (before + 2, Some(1_000)));
    assert!(bench.translate(UserData::new(Operation::Timer, 0), -libc::ETIME, 0).is_none());
    assert_eq!(bench.ring.timer_ns, None);
    bench.ring.wake_at(5_000);
    assert_eq!(pushed(&mut bench), before + 3);
}

#[test]
fn tokens_hold_slot_and_generation_or_a_file_s_step() {
    for slot in [0, 1, SLOTS - 1] {
        for generation in [0, u32::MAX] {
            assert_eq!(SocketId::from_token(id(slot, generation).token()), id(slot, generation));
        }
    }
    for operation in journal::OperationId::ALL {
        for step in [Step::First, Step::Sync] {
            assert_eq!(file_step(file_token(operation, step)), Some((operation, step)));
        }
    }
}

#[test]
fn completions_that_nobody_knows_are_passed_over() {
    let mut bench = Bench::new();
    for bits in [0, u64::MAX, 0xff << 56, 6 << 56, (2 << 56) | (0x00ff_ffff << 32)] {
        assert!(bench.translate(bits.into(), -libc::EINVAL, 0).is_none(), "{bits:x}");
    }
}
