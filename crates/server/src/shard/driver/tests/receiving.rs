//! Multishot receives that end, run out of buffers, or end for good.

use super::*;

/// Buffers of a ring, as `ring/buffers.rs` has them.
const BUFFERS: usize = 512;

#[test]
fn fault_17_a_receive_that_ends_with_bytes_is_armed_again_once() {
    let mut bench = Bench::new();
    let conn = bench.connect(PLAIN);
    let (first, second) = (&auth()[..5], &auth()[5..]);
    bench.ring().inject_received(socket_id(conn), first, true);
    bench.pass();
    assert!(bench.ring().kernel().is_receiving(socket_id(conn)), "it goes on");
    bench.ring().inject_received(socket_id(conn), second, false);
    assert!(!bench.ring().kernel().is_receiving(socket_id(conn)));
    bench.pass();
    assert!(bench.ring().kernel().is_receiving(socket_id(conn)));
    bench.answer_all(conn);
    assert_eq!(bench.frames(conn), [FrameType::Ack]);
    assert_eq!(bench.ring().stats().receives_armed, 2);
}

#[test]
fn fault_17_the_last_bytes_of_a_receive_may_wait_with_those_before_them() {
    let mut bench = Bench::new();
    let conn = bench.connect(PLAIN);
    for (piece, goes_on) in [(&auth()[..5], true), (&auth()[5..9], true), (&auth()[9..], false)] {
        bench.ring().inject_received(socket_id(conn), piece, goes_on);
    }
    bench.pass();
    bench.answer_all(conn);
    assert_eq!(bench.frames(conn), [FrameType::Ack]);
    assert!(bench.ring().kernel().is_receiving(socket_id(conn)));
    assert_eq!(bench.ring().stats().receives_armed, 2);
}

#[test]
fn fault_19_a_receive_that_ends_without_bytes_is_armed_again_and_the_peer_hears_nothing_of_it() {
    for errno in [libc::ENOBUFS, libc::ECANCELED] {
        let mut bench = Bench::new();
        let conn = bench.connect(PLAIN);
        bench.ring().inject_received(socket_id(conn), &auth()[..5], true);
        bench.ring().inject_receive_ended(socket_id(conn), -errno);
        bench.pass();
        assert!(bench.ring().kernel().is_receiving(socket_id(conn)));
        bench.ring().inject_received(socket_id(conn), &auth()[5..], true);
        bench.pass();
        bench.answer_all(conn);
        assert_eq!(bench.frames(conn), [FrameType::Ack]);
        assert_eq!(bench.ring().stats().receives_armed, 2);
    }
}

#[test]
fn fault_19_when_all_buffers_are_out_all_of_them_come_back_with_their_bytes() {
    let mut bench = Bench::new();
    let conn = bench.connect(PLAIN);
    // More bytes than there are buffers, each in one of its own.
    let mut stream = auth();
    while stream.len() < BUFFERS {
        stream.extend(frame::heartbeat());
    }
    let (first, rest) = stream.split_at(BUFFERS);
    for byte in first {
        bench.ring().inject_received(socket_id(conn), &[*byte], true);
    }
    bench.ring().inject_receive_ended(socket_id(conn), -libc::ENOBUFS);
    bench.pass();
    bench.ring().check_end();
    bench.ring().inject_receive_ended(socket_id(conn), -libc::ENOBUFS);
    bench.pass();
    bench.ring().inject_received(socket_id(conn), rest, true);
    bench.pass();
    bench.answer_all(conn);
    let heartbeats = (stream.len() - auth().len()) / frame::heartbeat().len();
    assert_eq!(bench.frames(conn).len(), 1 + heartbeats);
    assert_eq!(bench.counters().bytes_received, stream.len() as u64);
    assert_eq!(bench.ring().stats().buffers_exhausted, 2);
}

/// Interruptions between two pieces.
const BETWEEN: [&[Interruption]; 5] = [
    &[],
    &[Interruption::Ends],
    &[Interruption::NoBuffer],
    &[Interruption::Ends, Interruption::NoBuffer, Interruption::NoPlace],
    &[Interruption::NoPlace, Interruption::NoBuffer],
];

#[derive(Clone, Copy, PartialEq)]
enum Interruption {
    /// The completion before it has no F_MORE.
    Ends,
    NoBuffer,
    NoPlace,
}

/// In pieces of each length, with each interruption, each piece in a pass of its own and all in one.
#[test]
fn no_byte_is_lost_or_doubled_however_receiving_is_interrupted() {
    let mut stream = auth();
    (0..30).for_each(|_| stream.extend(frame::heartbeat()));
    for length in [1, 7, 12, 13, 100, 1_024] {
        for (shift, apart) in [(0, true), (1, true), (2, false), (3, false), (4, true)] {
            let mut bench = Bench::new();
            let conn = bench.connect(PLAIN);
            for (index, piece) in stream.chunks(length).enumerate() {
                // A pass between, since a RECV that has ended says no more until it was armed again.
                let between = BETWEEN[(index + shift) % BETWEEN.len()];
                let ends = between.contains(&Interruption::Ends);
                bench.ring().inject_received(socket_id(conn), piece, !ends);
                if apart || ends {
                    bench.pass();
                }
                for interruption in between {
                    let errno = match interruption {
                        Interruption::Ends => continue,
                        Interruption::NoBuffer => libc::ENOBUFS,
                        Interruption::NoPlace => libc::ECANCELED,
                    };
                    bench.ring().inject_receive_ended(socket_id(conn), -errno);
                    bench.pass();
                }
            }
            bench.pass();
            bench.answer_all(conn);
            let counters = bench.counters();
            assert_eq!((counters.heartbeats, counters.bytes_received), (30, stream.len() as u64));
            assert_eq!(bench.frames(conn)[1..], [FrameType::Heartbeat; 30], "{length} {shift}");
        }
    }
}

#[test]
fn what_comes_behind_fin_is_thrown_away() {
    for apart in [true, false] {
        for (goes_on, has_buffer) in [(true, false), (false, false), (true, true)] {
            let mut bench = Bench::new();
            let conn = bench.member();
            if has_buffer {
                bench.ring().inject_received(socket_id(conn), b"", false);
            } else {
                bench.ring().inject_receive_ended(socket_id(conn), 0);
            }
            if apart {
                bench.pass();
            }
            bench.ring().inject_received(socket_id(conn), &frame::heartbeat(), goes_on);
            bench.pass();
            assert_eq!((bench.counters().heartbeats, bench.is_sending(conn)), (0, false));
            bench.check_gone(conn, CloseReason::PeerClosed);
            assert_eq!(bench.end(conn), End::Fin);
        }
    }
}

#[test]
fn who_is_being_told_why_it_is_closed_may_close_first_and_say_more() {
    for reset in [false, true] {
        let mut bench = Bench::new();
        let conn = bench.connect(PLAIN);
        bench.ring().inject_received(socket_id(conn), &wrong_auth(), true);
        bench.pass();
        assert!(bench.is_sending(conn));
        bench.ring().inject_received(socket_id(conn), &auth(), false);
        bench.pass();
        bench.ring().inject_receive_ended(socket_id(conn), if reset { -libc::ECONNRESET } else { 0 });
        bench.ring().inject_received(socket_id(conn), &auth(), false);
        bench.pass();
        assert_eq!(bench.counters().frames_received, 1, "what comes is thrown away");
        assert_eq!(bench.standing(conn).is_none(), reset, "it may still read");
        bench.answer_all(conn);
        assert_eq!(bench.frames(conn), [FrameType::Error]);
        bench.check_gone(conn, CloseReason::AuthFailed);
    }
}
