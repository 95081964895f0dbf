//! Late completions: for a connection that is closed, and whose slot is another's by then.

use super::*;

/// Completions that a closed connection's requests may still have.
#[derive(Clone, Copy, Debug)]
enum Late {
    Bytes { goes_on: bool },
    Ended(i32),
    Sent(i32),
    Polled(i32),
    Ignored(i32),
}

const LATE: [Late; 17] = [
    Late::Bytes { goes_on: true },
    Late::Bytes { goes_on: false },
    Late::Ended(0),
    Late::Ended(-libc::ECANCELED),
    Late::Ended(-libc::ENOBUFS),
    Late::Ended(-libc::ECONNRESET),
    Late::Sent(i32::MAX),
    Late::Sent(1),
    Late::Sent(-libc::EAGAIN),
    Late::Sent(-libc::EPIPE),
    Late::Sent(-libc::ECONNRESET),
    Late::Polled(libc::POLLOUT as i32),
    Late::Polled(libc::POLLHUP as i32),
    Late::Polled(-libc::ECANCELED),
    // Of the ASYNC_CANCELs, and of CLOSE.
    Late::Ignored(libc::ENOENT),
    Late::Ignored(libc::EALREADY),
    Late::Ignored(libc::EIO),
];

impl Bench {
    fn tell(&mut self, conn: ConnId, late: Late, bytes: &[u8]) {
        match late {
            Late::Bytes { goes_on } => self.ring().inject_received(socket_id(conn), bytes, goes_on),
            Late::Ended(result) => self.ring().inject_receive_ended(socket_id(conn), result),
            Late::Sent(result) => {
                if let Some(most) = self.ring().kernel().sending(socket_id(conn)).map(<[u8]>::len) {
                    self.ring().inject_sent(socket_id(conn), result.min(most as i32));
                }
            }
            Late::Polled(result) => self.ring().inject_polled(socket_id(conn), result),
            Late::Ignored(errno) => self.ring().inject_ignored(errno),
        }
    }

    /// A connection with an answer underway, or waiting for its socket, is reset.
    fn lose_one(&mut self, is_full: bool) -> ConnId {
        let old = self.connect(PLAIN);
        self.ring().inject_received(socket_id(old), &auth(), true);
        self.pass();
        if is_full {
            self.answer(old, 3);
            self.pass();
            assert!(self.ring().kernel().is_polling(socket_id(old)));
        }
        assert_eq!(self.is_sending(old), !is_full);
        self.driver.shard.peer_reset(old, "a test".to_owned());
        self.pass();
        self.check_gone(old, CloseReason::PeerReset);
        assert!(self.ring().kernel().is_cancelled(socket_id(old)));
        old
    }
}

#[test]
fn what_comes_for_a_closed_connection_never_reaches_the_slot_s_next_one() {
    for late in LATE {
        for (is_full, next) in [(false, PLAIN), (true, PLAIN), (false, TLS), (true, TLS)] {
            let mut bench = Bench::new();
            let old = bench.lose_one(is_full);
            let new = bench.connect(next);
            assert_eq!((new.slot, new.generation), (old.slot, old.generation + 1));
            let before = bench.quiet();
            bench.tell(old, late, &auth());
            bench.pass();
            assert_eq!(bench.quiet(), before, "{late:?}");
            assert_eq!(bench.standing(new), Some(Standing::Unauthenticated), "{late:?}");
            assert!(bench.ring().kernel().is_receiving(socket_id(new)) && !bench.is_sending(new), "{late:?}");
            if next == PLAIN {
                bench.ring().inject_received(socket_id(new), &auth(), true);
                bench.pass();
                bench.answer_all(new);
                assert_eq!(bench.frames(new), [FrameType::Ack], "{late:?}");
                assert_eq!(bench.ring().stats().receives_armed, 2, "{late:?}");
            }
        }
    }
}

/// Both have a SEND or a POLL_ADD underway, and the old one's completes first.
#[test]
fn what_comes_for_a_closed_connection_never_answers_what_the_slot_s_next_one_waits_for() {
    for late in LATE {
        for is_full in [false, true] {
            let mut bench = Bench::new();
            let old = bench.lose_one(is_full);
            let new = bench.connect(PLAIN);
            bench.ring().inject_received(socket_id(new), &[auth(), frame::heartbeat()].concat(), true);
            bench.pass();
            if is_full {
                bench.answer(new, 3);
                bench.pass();
            }
            let before = bench.quiet();
            bench.tell(old, late, &frame::heartbeat());
            bench.pass();
            assert_eq!(bench.quiet(), before, "{late:?}");
            assert_eq!(
                (bench.is_sending(new), bench.ring().kernel().is_polling(socket_id(new))),
                (!is_full, is_full),
                "{late:?}"
            );
            if is_full {
                bench.ring().inject_polled(socket_id(new), libc::POLLOUT.into());
                bench.pass();
            }
            bench.answer_all(new);
            assert_eq!(bench.frames(new), [FrameType::Ack, FrameType::Heartbeat], "{late:?}");
        }
    }
}

#[test]
fn what_comes_for_a_closed_connection_finds_nobody_before_its_slot_is_used_again() {
    for late in LATE {
        let mut bench = Bench::new();
        let old = bench.lose_one(false);
        let before = bench.quiet();
        bench.tell(old, late, &auth());
        bench.pass();
        assert_eq!(bench.quiet(), before, "{late:?}");
        assert!(!bench.ring().kernel().is_open(socket_id(old)));
    }
}

/// A multishot RECV that is cancelled may have bytes before it ends, and its end may come before the cancel's answer,
/// which comes only if there was nothing to cancel, or behind it.
#[test]
fn a_cancelled_receive_may_end_before_and_behind_its_cancel() {
    let ended = Late::Ended(-libc::ECANCELED);
    let bytes = Late::Bytes { goes_on: true };
    let last_bytes = Late::Bytes { goes_on: false };
    for order in [
        &[ended][..],
        &[bytes, ended],
        &[last_bytes, Late::Ignored(libc::ENOENT)],
        &[Late::Ignored(libc::ENOENT), last_bytes],
        &[Late::Ignored(libc::EALREADY), bytes, ended],
        &[ended, Late::Ignored(libc::EALREADY)],
    ] {
        for (reused_at, apart) in (0..=order.len()).flat_map(|at| [(at, true), (at, false)]) {
            let mut bench = Bench::new();
            let old = bench.lose_one(false);
            let mut new = None;
            for (at, late) in order.iter().enumerate() {
                if at == reused_at {
                    new = Some(bench.connect(PLAIN));
                }
                bench.tell(old, *late, &auth());
                if apart {
                    bench.pass();
                }
            }
            let new = new.unwrap_or_else(|| bench.connect(PLAIN));
            bench.pass();
            assert_eq!((new.slot, bench.counters().authenticated), (old.slot, 1), "{order:?}");
            bench.ring().inject_received(socket_id(new), &auth(), false);
            bench.pass();
            bench.answer_all(new);
            assert_eq!(bench.frames(new), [FrameType::Ack]);
            assert_eq!(bench.ring().stats().receives_armed, 3, "{order:?}");
        }
    }
}

#[test]
fn bytes_that_the_kernel_has_yet_to_take_outlive_their_connection() {
    let mut bench = Bench::new();
    let conn = bench.connect(PLAIN);
    bench.ring().kernel().set_busy(true);
    bench.ring().inject_received(socket_id(conn), &auth(), true);
    bench.pass();
    bench.ring().inject_receive_ended(socket_id(conn), -libc::ECONNRESET);
    bench.pass();
    assert_eq!((bench.standing(conn), bench.ring().held()), (None, 1));
    bench.ring().kernel().set_busy(false);
    bench.pass();
    assert_eq!(bench.ring().held(), 0);
    let bytes = bench.ring().kernel().sending(socket_id(conn)).expect("a SEND").to_vec();
    assert_eq!(frames(&bytes), [FrameType::Ack]);
    bench.check_gone(conn, CloseReason::PeerReset);
    bench.ring().inject_sent(socket_id(conn), -libc::EPIPE);
    bench.pass();
}

#[test]
fn a_slow_client_is_closed_by_a_reset_and_its_poll_is_cancelled() {
    let mut bench = Bench::with(&[("write_deadline_ms", "500")]);
    let conn = bench.member();
    bench.ring().inject_received(socket_id(conn), &frame::heartbeat(), true);
    bench.pass();
    bench.answer(conn, 0);
    bench.pass();
    assert!(bench.ring().kernel().is_polling(socket_id(conn)));
    let began = std::time::Instant::now();
    while bench.standing(conn).is_some() && began.elapsed().as_secs() < 20 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        bench.pass();
    }
    bench.check_gone(conn, CloseReason::SlowConsumer);
    assert_eq!(bench.end(conn), End::Reset);
    bench.ring().inject_polled(socket_id(conn), -libc::ECANCELED);
    bench.ring().inject_receive_ended(socket_id(conn), -libc::ECANCELED);
    bench.pass();
    assert!(
        !bench.ring().kernel().is_polling(socket_id(conn))
            && !bench.ring().kernel().is_receiving(socket_id(conn))
    );
}
