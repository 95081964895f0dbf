//! Multishot accepts that end, fail, and come too late.

use super::*;

fn accepting(bench: &mut Bench) -> [bool; 2] {
    [PLAIN, TLS].map(|listener| bench.ring().kernel().is_accepting(listener))
}

#[test]
fn fault_17_an_accept_that_ends_with_a_connection_is_armed_again_once() {
    for listener in [PLAIN, TLS] {
        let mut bench = Bench::new();
        bench.connect(listener);
        assert_eq!(bench.ring().stats().accepts_armed, 2, "it goes on");
        let (_client, fd) = bench.sockets(listener);
        bench.ring().inject_accepted(listener, fd, false);
        bench.pass();
        assert_eq!((accepting(&mut bench), bench.ring().stats().accepts_armed), ([true; 2], 3));
        assert_eq!(bench.counters().accepted, 2);
    }
}

#[test]
fn fault_17_an_accept_whose_completion_found_no_place_is_armed_again_once() {
    let mut bench = Bench::new();
    bench.ring().inject_accept_failed(PLAIN, libc::ECANCELED);
    bench.pass();
    assert_eq!((accepting(&mut bench), bench.ring().stats().accepts_armed), ([true; 2], 3));
    assert_eq!(bench.driver.accept_again_ns, None);
}

#[test]
fn one_connection_that_was_gone_before_it_was_accepted_stops_nobody() {
    for errno in [libc::ECONNABORTED, libc::EINTR, libc::EAGAIN, libc::EPROTO] {
        let mut bench = Bench::new();
        bench.ring().inject_accept_failed(TLS, errno);
        bench.pass();
        assert_eq!((accepting(&mut bench), bench.ring().stats().accepts_armed), ([true; 2], 3), "{errno}");
        assert_eq!(bench.driver.accept_again_ns, None);
        bench.connect(PLAIN);
        bench.connect(TLS);
    }
}

#[test]
fn fault_16_out_of_descriptors_accepting_pauses_and_the_others_are_served() {
    for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EINVAL] {
        let mut bench = Bench::new();
        let conn = bench.connect(PLAIN);
        let before_ns = ring::now().mono_ns;
        bench.ring().inject_accept_failed(PLAIN, errno);
        bench.ring().inject_received(socket_id(conn), &auth(), true);
        // One, lest the pause be over on a machine that is busy.
        bench.driver.pass().expect("a pass");
        let again_ns = bench.driver.accept_again_ns.expect("a pause");
        assert!(again_ns >= before_ns + ACCEPT_PAUSE_NS && again_ns <= ring::now().mono_ns + ACCEPT_PAUSE_NS);
        assert_eq!((accepting(&mut bench), bench.ring().stats().accepts_armed), ([false, true], 2));
        bench.driver.accept_again_ns = Some(u64::MAX);
        bench.answer_all(conn);
        assert_eq!(bench.frames(conn), [FrameType::Ack]);
        assert!(!accepting(&mut bench)[PLAIN], "{errno}: it pauses still");
        bench.driver.accept_again_ns = Some(ring::now().mono_ns);
        bench.pass();
        bench.pass();
        assert_eq!((accepting(&mut bench), bench.ring().stats().accepts_armed), ([true; 2], 3));
        assert_eq!(bench.driver.accept_again_ns, None);
        bench.connect(PLAIN);
    }
}

#[test]
fn fault_16_both_ports_out_of_descriptors_pause_and_go_on_together() {
    let mut bench = Bench::new();
    bench.ring().inject_accept_failed(PLAIN, libc::EMFILE);
    bench.ring().inject_accept_failed(TLS, libc::ENFILE);
    bench.driver.pass().expect("a pass");
    assert_eq!(accepting(&mut bench), [false; 2]);
    bench.driver.accept_again_ns = Some(0);
    bench.pass();
    assert_eq!((accepting(&mut bench), bench.ring().stats().accepts_armed), ([true; 2], 4));
}

#[test]
fn a_connection_that_is_gone_once_it_was_accepted_takes_no_slot() {
    let mut bench = Bench::new();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    bench.ring().inject_accepted(PLAIN, socket.into(), false);
    bench.pass();
    assert_eq!((bench.counters().accepted, accepting(&mut bench)), (0, [true; 2]));
}

#[test]
fn who_is_refused_is_told_why_and_takes_no_slot() {
    let mut bench = Bench::new();
    for _ in 0..CONNECTIONS {
        bench.connect(PLAIN);
    }
    for (listener, expected) in [(PLAIN, vec![FrameType::Error]), (TLS, vec![])] {
        let (mut client, fd) = bench.sockets(listener);
        bench.ring().inject_accepted(listener, fd, false);
        bench.pass();
        let mut got = Vec::new();
        client.set_nonblocking(false).expect("a socket");
        client.read_to_end(&mut got).expect("FIN");
        assert_eq!(frames(&got), expected);
        assert_eq!(accepting(&mut bench), [true; 2]);
    }
    assert_eq!((bench.counters().refused, bench.counters().connections), (2, CONNECTIONS));
}

#[test]
fn an_accept_that_ends_behind_the_listeners_close_arms_nothing() {
    let mut bench = Bench::new();
    bench.driver.control.issue(Command::Drain);
    bench.pass();
    assert!(bench.driver.ring.kernel().are_accepts_cancelled());
    // One that was accepted just before is let in still.
    let (client, fd) = bench.sockets(PLAIN);
    bench.ring().inject_accepted(PLAIN, fd, true);
    bench.pass();
    let conn = bench.newest();
    bench.clients.insert(conn, client);
    bench.ring().inject_accept_failed(PLAIN, libc::ECANCELED);
    bench.ring().inject_accept_failed(TLS, libc::EMFILE);
    bench.pass();
    bench.driver.accept_again_ns = Some(0);
    bench.pass();
    assert_eq!((accepting(&mut bench), bench.ring().stats().accepts_armed), ([false; 2], 2));
    bench.ring().inject_received(socket_id(conn), &auth(), true);
    bench.pass();
    bench.answer_all(conn);
    assert_eq!(bench.frames(conn)[0], FrameType::Ack);
}
