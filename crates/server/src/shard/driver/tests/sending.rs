//! Sends that are answered short, by a full or broken socket, before and behind the receive's end.

use tickstream_wire::messages::{DataBatch, Message, Mode, Subscribe};

use super::*;

const POLLS: [i32; 3] = [libc::POLLOUT as i32, (libc::POLLERR | libc::POLLHUP) as i32, -libc::ECANCELED];

#[test]
fn fault_24_a_frame_goes_out_once_however_its_sends_are_answered() {
    for answers in [&[1, 1, 1][..], &[0], &[-libc::EAGAIN], &[5, -libc::EAGAIN, 0, 3, -libc::EAGAIN]] {
        for (poll, heartbeats) in POLLS.into_iter().zip([0, 1, 5]) {
            let mut bench = Bench::new();
            let conn = bench.connect(PLAIN);
            let stream = [auth(), frame::heartbeat().repeat(heartbeats)].concat();
            bench.ring().inject_received(socket_id(conn), &stream, true);
            bench.pass();
            for answer in answers {
                bench.answer(conn, *answer);
                bench.pass();
                assert!(!bench.is_sending(conn), "not before there is room");
                assert!(bench.ring().kernel().is_polling(socket_id(conn)));
                bench.ring().inject_polled(socket_id(conn), poll);
                bench.pass();
                assert!(!bench.ring().kernel().is_polling(socket_id(conn)));
            }
            bench.answer_all(conn);
            let frames = bench.frames(conn);
            assert_eq!(frames[0], FrameType::Ack);
            assert_eq!(frames[1..], vec![FrameType::Heartbeat; heartbeats]);
            assert_eq!(bench.counters().lagging, 0);
        }
    }
}

#[test]
fn what_is_owed_to_a_full_socket_goes_out_in_order_once_it_takes_more() {
    let mut bench = Bench::new();
    let conn = bench.connect(PLAIN);
    bench.ring().inject_received(socket_id(conn), &auth(), true);
    bench.pass();
    // The heartbeat comes while the answer to AUTH is underway, with its answer, and while the socket is full.
    bench.ring().inject_received(socket_id(conn), &frame::heartbeat(), true);
    bench.answer(conn, 7);
    bench.pass();
    bench.ring().inject_received(socket_id(conn), &frame::heartbeat(), true);
    bench.pass();
    assert!(!bench.is_sending(conn) && bench.ring().kernel().is_polling(socket_id(conn)));
    bench.ring().inject_polled(socket_id(conn), libc::POLLOUT.into());
    bench.ring().inject_received(socket_id(conn), &frame::heartbeat(), true);
    bench.pass();
    bench.answer_all(conn);
    assert_eq!(bench.frames(conn)[1..], [FrameType::Heartbeat; 3]);
}

/// One of the two ends of a connection that a test tells.
#[derive(Clone, Copy, Debug)]
enum Injected {
    Sent(i32),
    Ended(i32),
    Received,
}

/// The answer to a send, and the end of receiving, in either order, in one pass and in two.
#[test]
fn a_connection_ends_once_whichever_of_its_completions_says_so_first() {
    let broken = [libc::EPIPE, libc::ECONNRESET, libc::ETIMEDOUT, libc::EHOSTUNREACH];
    let ends = broken.map(|errno| Injected::Ended(-errno)).into_iter().chain([Injected::Ended(0)]);
    let answers = broken.map(|errno| Injected::Sent(-errno)).into_iter().chain([
        Injected::Sent(3),
        Injected::Sent(i32::MAX),
        Injected::Sent(-libc::EAGAIN),
    ]);
    for (end, answer) in ends.flat_map(|end| answers.clone().map(move |answer| (end, answer))) {
        for order in [
            [end, answer, Injected::Received],
            [answer, end, Injected::Received],
            [answer, Injected::Received, end],
        ] {
            for apart in [true, false] {
                let mut bench = Bench::new();
                let conn = bench.connect(PLAIN);
                bench.ring().inject_received(socket_id(conn), &auth(), true);
                bench.pass();
                for injected in order {
                    match injected {
                        Injected::Sent(result) => {
                            let most =
                                bench.ring().kernel().sending(socket_id(conn)).map_or(0, <[u8]>::len) as i32;
                            bench.answer(conn, result.min(most));
                        }
                        Injected::Ended(result) => bench.ring().inject_receive_ended(socket_id(conn), result),
                        Injected::Received => {
                            bench.ring().inject_received(socket_id(conn), &frame::heartbeat()[..2], true);
                        }
                    }
                    if apart {
                        bench.pass();
                    }
                }
                bench.pass();
                assert_eq!(bench.standing(conn), None, "{order:?}");
                assert!(!bench.ring().kernel().is_open(socket_id(conn)), "{order:?}");
                let closed = bench.counters().closed;
                assert_eq!(closed.iter().sum::<u64>(), 1, "{order:?}");
                let is_broken = matches!(answer, Injected::Sent(errno) if broken.contains(&-errno));
                let says_fin = matches!(end, Injected::Ended(0));
                let first = if says_fin && (matches!(order[0], Injected::Ended(_)) || !is_broken) {
                    CloseReason::PeerClosed
                } else {
                    CloseReason::PeerReset
                };
                assert_eq!(bench.counters().closed(first), 1, "{order:?} {closed:?}");
                assert_eq!((bench.counters().connections, bench.counters().lagging), (0, 0));
            }
        }
    }
}

#[test]
fn fin_goes_out_behind_the_last_byte() {
    let mut bench = Bench::new();
    let conn = bench.connect(PLAIN);
    bench.ring().inject_received(socket_id(conn), &wrong_auth(), true);
    bench.pass();
    for answer in [1, -libc::EAGAIN, 4] {
        bench.answer(conn, answer);
        bench.pass();
        bench.ring().inject_polled(socket_id(conn), libc::POLLOUT.into());
        bench.pass();
        assert_eq!(bench.end(conn), End::Open);
    }
    bench.answer_all(conn);
    assert_eq!((bench.frames(conn), bench.end(conn)), (vec![FrameType::Error], End::Fin));
    assert!(bench.ring().kernel().is_open(socket_id(conn)), "until the peer closes, too");
    bench.ring().inject_receive_ended(socket_id(conn), 0);
    bench.pass();
    bench.check_gone(conn, CloseReason::AuthFailed);
}

/// Answers to a subscriber's sends.
const ANSWERS: u32 = 300;

/// 1,000 ticks a second for a subscriber whose socket takes what a small generator says.
#[test]
fn a_subscriber_gets_each_tick_once_however_its_sends_are_answered() {
    let mut bench = Bench::with(&[("ticks_per_second", "1000"), ("batch_window_ms", "0")]);
    let conn = bench.member();
    let subscribe = Subscribe { mode: Mode::Second.into(), resume_after: None };
    bench.ring().inject_received(socket_id(conn), &frame::seal(&subscribe), true);
    bench.pass();
    let (mut draw, began) = (1_u32, std::time::Instant::now());
    let mut answered = 0;
    while answered < ANSWERS && began.elapsed().as_secs() < 20 {
        draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if let Some(bytes) = bench.ring().kernel().sending(socket_id(conn)).map(|bytes| bytes.len() as i32) {
            let answer = match draw >> 30 {
                0 => -libc::EAGAIN,
                1 => (draw >> 16) as i32 % bytes,
                _ => bytes,
            };
            bench.answer(conn, answer);
            answered += 1;
        } else if bench.ring().kernel().is_polling(socket_id(conn)) {
            bench.ring().inject_polled(socket_id(conn), libc::POLLOUT.into());
        } else {
            std::thread::sleep(std::time::Duration::from_micros(300));
        }
        bench.pass();
    }
    while bench.is_sending(conn) || bench.ring().kernel().is_polling(socket_id(conn)) {
        if bench.ring().kernel().is_polling(socket_id(conn)) {
            bench.ring().inject_polled(socket_id(conn), libc::POLLOUT.into());
            bench.pass();
        }
        bench.answer_all(conn);
    }
    let got = std::mem::take(bench.got.entry(conn).or_default());
    let (mut decoder, mut rest, mut ticks, mut next) = (Decoder::new(), &got[..], 0, None);
    while let Some(frame) = decoder.next(&mut rest, 65_536).expect("valid frames") {
        if frame.kind == FrameType::DataBatch as u8 {
            let batch = DataBatch::decode(frame.payload).expect("a batch");
            assert_eq!(*next.get_or_insert(batch.first_sequence), batch.first_sequence);
            next = Some(batch.first_sequence + batch.ticks.len() as u64);
            ticks += batch.ticks.len() as u64;
        }
    }
    assert_eq!(decoder.buffered(), 0, "the last frame is whole");
    let stream = *bench.counters().stream(Mode::Second);
    assert_eq!(answered, ANSWERS);
    assert!(ticks > 0);
    assert_eq!(stream.ticks_sent, ticks);
}
