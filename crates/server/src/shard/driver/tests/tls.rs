//! The same over TLS, where transport has records of its own between the engine's frames and the ring.

use std::io::Write;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// Bytes of a piece that is received: as a buffer of the ring.
const PIECE: usize = 1_000;

struct Client {
    conn: ConnId,
    tls: ClientConnection,
    plain: Vec<u8>,
    /// close_notify came.
    is_closed: bool,
}

/// Answer to a SEND.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Whole,
    OneByte,
    Nothing,
    Full,
}

const ANSWERS: [Answer; 4] = [Answer::Whole, Answer::OneByte, Answer::Nothing, Answer::Full];

/// Every sequence of so many answers.
fn sequences(length: u32) -> impl Iterator<Item = Vec<Answer>> {
    (0..4_usize.pow(length))
        .map(move |number| (0..length).map(|at| ANSWERS[number >> (2 * at) & 3]).collect())
}

impl Client {
    fn say(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).expect("room");
    }

    /// Bytes to send.
    fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records).expect("a vector");
        }
        records
    }

    /// Takes what the server's SENDs took.
    fn hear(&mut self, bench: &mut Bench) {
        let got = std::mem::take(bench.got.entry(self.conn).or_default());
        let mut rest = &got[..];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).expect("a slice");
            let state = self.tls.process_new_packets().expect("records that can be opened");
            self.is_closed |= state.peer_has_closed();
        }
        match self.tls.reader().read_to_end(&mut self.plain) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

impl Bench {
    /// A new connection on the port for TLS, on which nothing was said.
    fn tls_client(&mut self) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        Client { conn: self.connect(TLS), tls, plain: Vec::new(), is_closed: false }
    }

    /// Makes the client's bytes arrive.
    fn arrive(&mut self, client: &mut Client) {
        for piece in client.records().chunks(PIECE) {
            self.ring().inject_received(socket_id(client.conn), piece, true);
        }
        self.pass();
    }

    /// Answers SENDs by these, the rest whole, until there are none; a full socket takes more at once.
    fn settle(&mut self, client: &mut Client, answers: &[Answer]) {
        let mut answers = answers.iter();
        loop {
            if self.is_sending(client.conn) {
                self.answer_as(client.conn, *answers.next().unwrap_or(&Answer::Whole));
            } else if self.ring().kernel().is_polling(socket_id(client.conn)) {
                self.ring().inject_polled(socket_id(client.conn), libc::POLLOUT.into());
            } else {
                return;
            }
            self.pass();
            client.hear(self);
        }
    }

    fn answer_as(&mut self, conn: ConnId, answer: Answer) {
        let whole = self.ring().kernel().sending(socket_id(conn)).expect("a SEND").len() as i32;
        let result = match answer {
            Answer::Whole => whole,
            Answer::OneByte => 1,
            Answer::Nothing => 0,
            Answer::Full => -libc::EAGAIN,
        };
        self.answer(conn, result);
    }

    /// The handshake, up to the client's last flight, which has what it said before.
    fn shake_hands(&mut self, client: &mut Client) {
        self.arrive(client);
        self.settle(client, &[]);
        assert!(!client.tls.is_handshaking());
    }

    /// A client whose handshake is over, and who has authenticated.
    fn tls_member(&mut self) -> Client {
        let mut client = self.tls_client();
        client.say(&auth());
        self.shake_hands(&mut client);
        self.arrive(&mut client);
        self.settle(&mut client, &[]);
        assert_eq!(frames(&std::mem::take(&mut client.plain)), [FrameType::Ack]);
        client
    }
}

#[test]
fn a_handshake_s_flight_goes_out_once_however_its_sends_are_answered() {
    for answers in sequences(3) {
        let mut bench = Bench::new();
        let mut client = bench.tls_client();
        client.say(&auth());
        bench.arrive(&mut client);
        bench.settle(&mut client, &answers);
        bench.arrive(&mut client);
        bench.settle(&mut client, &answers);
        assert_eq!(frames(&client.plain), [FrameType::Ack], "{answers:?}");
        assert_eq!((bench.counters().handshakes_full, bench.counters().lagging), (1, 0));
    }
}

/// The client's Finished is answered by a ticket. AUTH comes while that is underway, or waits for room, or was sent: what
/// the engine answers waits for the ticket's rest, and goes behind it.
#[test]
fn what_the_engine_sends_goes_behind_what_tls_is_sending_however_that_is_answered() {
    let mut bench = Bench::new();
    for (answers, arrives_at) in sequences(4).flat_map(|answers| (0..4).map(move |at| (answers.clone(), at)))
    {
        let mut client = bench.tls_client();
        bench.shake_hands(&mut client);
        bench.arrive(&mut client);
        assert!(bench.is_sending(client.conn), "a ticket");
        for (at, answer) in answers.iter().enumerate() {
            if at == arrives_at {
                client.say(&[auth(), frame::heartbeat()].concat());
                bench.arrive(&mut client);
            }
            if bench.is_sending(client.conn) {
                bench.answer_as(client.conn, *answer);
            } else if bench.ring().kernel().is_polling(socket_id(client.conn)) {
                bench.ring().inject_polled(socket_id(client.conn), libc::POLLOUT.into());
            }
            bench.pass();
            client.hear(&mut bench);
        }
        bench.settle(&mut client, &[]);
        assert_eq!(frames(&client.plain), [FrameType::Ack, FrameType::Heartbeat], "{answers:?} {arrives_at}");
        assert_eq!(bench.counters().lagging, 0);
        bench.ring().inject_receive_ended(socket_id(client.conn), 0);
        bench.pass();
    }
}

/// In pieces, with and without an end of the RECV between them.
#[test]
fn no_byte_of_a_record_is_lost_or_doubled_however_receiving_is_interrupted() {
    for length in [1, 16, 100, PIECE] {
        for errno in [None, Some(libc::ENOBUFS), Some(libc::ECANCELED)] {
            let mut bench = Bench::new();
            let mut client = bench.tls_client();
            let conn = client.conn;
            client.say(&[auth(), frame::heartbeat().repeat(20)].concat());
            for _flight in 0..2 {
                for piece in client.records().chunks(length) {
                    bench.ring().inject_received(socket_id(conn), piece, errno.is_some());
                    if let Some(errno) = errno {
                        bench.ring().inject_receive_ended(socket_id(conn), -errno);
                    }
                    bench.pass();
                    assert!(bench.ring().kernel().is_receiving(socket_id(conn)));
                }
                bench.settle(&mut client, &[]);
            }
            assert_eq!(frames(&client.plain)[1..], [FrameType::Heartbeat; 20]);
            assert_eq!(bench.counters().heartbeats, 20);
        }
    }
}

/// Stage of a connection when a SEND of its breaks.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Handshake,
    Ticket,
    /// And an answer of the engine's waits behind it.
    TicketAndAck,
    Ack,
}

#[test]
fn a_connection_whose_send_breaks_ends_once_whosever_bytes_they_were() {
    for stage in [Stage::Handshake, Stage::Ticket, Stage::TicketAndAck, Stage::Ack] {
        for (errno, before) in [libc::EPIPE, libc::ECONNRESET]
            .into_iter()
            .flat_map(|errno| ANSWERS.map(|answer| (errno, answer)))
        {
            for end in [None, Some(0), Some(-libc::ECONNRESET)] {
                let mut bench = Bench::new();
                let mut client = bench.tls_client();
                let conn = client.conn;
                if matches!(stage, Stage::Ack) {
                    client.say(&auth());
                }
                bench.arrive(&mut client);
                if !matches!(stage, Stage::Handshake) {
                    bench.settle(&mut client, &[]);
                    bench.arrive(&mut client);
                }
                if matches!(stage, Stage::TicketAndAck) {
                    client.say(&auth());
                    bench.arrive(&mut client);
                }
                if !matches!(before, Answer::Whole) {
                    bench.answer_as(conn, before);
                    bench.pass();
                    bench.ring().inject_polled(socket_id(conn), libc::POLLOUT.into());
                    bench.pass();
                }
                bench.answer(conn, -errno);
                if let Some(result) = end {
                    bench.ring().inject_receive_ended(socket_id(conn), result);
                }
                bench.pass();
                bench.check_gone(conn, CloseReason::PeerReset);
                assert!(!bench.is_sending(conn), "{stage:?} {before:?}");
                assert_eq!(bench.counters().closed.iter().sum::<u64>(), 1, "{stage:?} {before:?}");
                bench.tls_member();
            }
        }
    }
}

#[test]
fn the_last_frame_close_notify_and_fin_go_out_in_this_order_however_sends_are_answered() {
    for answers in sequences(4) {
        let mut bench = Bench::new();
        let mut client = bench.tls_client();
        client.say(&wrong_auth());
        bench.shake_hands(&mut client);
        bench.arrive(&mut client);
        for answer in answers.iter().chain(&[Answer::Whole; 8]) {
            if bench.is_sending(client.conn) {
                assert_eq!(bench.end(client.conn), End::Open);
                bench.answer_as(client.conn, *answer);
            } else if bench.ring().kernel().is_polling(socket_id(client.conn)) {
                bench.ring().inject_polled(socket_id(client.conn), libc::POLLOUT.into());
            } else {
                break;
            }
            bench.pass();
            client.hear(&mut bench);
            assert!(!client.is_closed || !client.plain.is_empty(), "close_notify before the frame");
        }
        assert_eq!((frames(&client.plain), client.is_closed), (vec![FrameType::Error], true), "{answers:?}");
        assert_eq!(bench.end(client.conn), End::Fin);
        bench.ring().inject_receive_ended(socket_id(client.conn), 0);
        bench.pass();
        bench.check_gone(client.conn, CloseReason::AuthFailed);
    }
}

/// The ticket and the pending frames of the engine would be sealed under earlier numbers than close_notify.
#[test]
fn who_leaves_right_behind_its_handshake_gets_records_that_it_can_open() {
    for says_goodbye in [true, false] {
        for fin in [true, false] {
            let mut bench = Bench::new();
            let mut client = bench.tls_client();
            client.say(&auth());
            bench.shake_hands(&mut client);
            if says_goodbye {
                client.tls.send_close_notify();
            }
            for piece in client.records().chunks(PIECE) {
                bench.ring().inject_received(socket_id(client.conn), piece, true);
            }
            // One pass takes both: the handshake's end is worked on behind it.
            bench.driver.pass().expect("a pass");
            if fin {
                bench.ring().inject_receive_ended(socket_id(client.conn), 0);
            }
            bench.pass();
            if fin || says_goodbye {
                bench.check_gone(client.conn, CloseReason::PeerClosed);
                let last = bench
                    .ring()
                    .kernel()
                    .sending(socket_id(client.conn))
                    .map(<[u8]>::to_vec)
                    .unwrap_or_default();
                bench.got.insert(client.conn, last);
                client.hear(&mut bench);
                assert!(client.is_closed, "close_notify");
                if bench.is_sending(client.conn) {
                    bench.ring().inject_sent(socket_id(client.conn), -libc::ECANCELED);
                }
            } else {
                bench.settle(&mut client, &[]);
                assert_eq!(frames(&client.plain), [FrameType::Ack]);
            }
        }
    }
}

#[test]
fn what_comes_behind_close_notify_and_fin_is_thrown_away() {
    for late in [&b"no record"[..], &[23, 3, 3, 0, 20]] {
        for fin in [0, -libc::ECONNRESET] {
            let mut bench = Bench::new();
            let mut client = bench.tls_member();
            let conn = client.conn;
            client.tls.send_close_notify();
            for piece in client.records().chunks(PIECE) {
                bench.ring().inject_received(socket_id(conn), piece, true);
            }
            bench.ring().inject_received(socket_id(conn), late, true);
            bench.ring().inject_receive_ended(socket_id(conn), fin);
            bench.ring().inject_received(socket_id(conn), late, false);
            bench.pass();
            bench.check_gone(conn, CloseReason::PeerClosed);
            assert_eq!(bench.counters().closed.iter().sum::<u64>(), 1);
        }
    }
}

#[test]
fn a_handshake_that_ends_with_the_connection_gives_its_place_to_the_next() {
    // By its peer, by a broken send, by what isn't TLS, and by a deadline of the engine's, which is an orderly close.
    for how in 0..4 {
        let mut bench = Bench::with(&[("handshakes_max", "1")]);
        let mut first = bench.tls_client();
        let mut second = bench.tls_client();
        bench.arrive(&mut first);
        bench.arrive(&mut second);
        assert!(bench.is_sending(first.conn) && !bench.is_sending(second.conn), "one at a time");
        match how {
            0 => bench.ring().inject_receive_ended(socket_id(first.conn), 0),
            1 => bench.answer(first.conn, -libc::EPIPE),
            2 => bench.ring().inject_received(socket_id(first.conn), b"GET / HTTP/1.1\r\n\r\n", true),
            _ => assert!(bench.driver.shard.kick(first.conn)),
        }
        bench.pass();
        bench.pass();
        assert!(bench.is_sending(second.conn), "{how}");
        bench.settle(&mut second, &[]);
        bench.arrive(&mut second);
        bench.settle(&mut second, &[]);
        assert_eq!((bench.counters().handshakes_full, bench.counters().unauthenticated), (1, 1));
    }
}

#[test]
fn a_handshake_in_the_queue_is_never_the_slot_s_next_connection_s() {
    for apart in [false, true] {
        let mut bench = Bench::with(&[("handshakes_max", "1")]);
        let mut first = bench.tls_client();
        bench.arrive(&mut first);
        let mut old = bench.tls_client();
        let hello = old.records();
        // It is queued in the pass in which it ends, or waits for the first one's end.
        bench.ring().inject_received(socket_id(old.conn), &hello, true);
        if apart {
            bench.pass();
        }
        bench.ring().inject_receive_ended(socket_id(old.conn), 0);
        bench.pass();
        let mut new = bench.tls_client();
        assert_eq!((new.conn.slot, new.conn.generation), (old.conn.slot, old.conn.generation + 1));
        // A part of its own hello has come when the old one's turn does.
        let hello = new.records();
        bench.ring().inject_received(socket_id(new.conn), &hello[..50], true);
        bench.pass();
        bench.settle(&mut first, &[]);
        bench.arrive(&mut first);
        bench.settle(&mut first, &[]);
        assert_eq!((bench.counters().handshakes_full, bench.is_sending(new.conn)), (1, false));
        // And takes no place with it.
        let mut third = bench.tls_client();
        bench.arrive(&mut third);
        assert!(bench.is_sending(third.conn));
        bench.settle(&mut third, &[]);
        bench.arrive(&mut third);
        bench.settle(&mut third, &[]);
        bench.ring().inject_received(socket_id(new.conn), &hello[50..], true);
        bench.pass();
        bench.settle(&mut new, &[]);
        bench.arrive(&mut new);
        bench.settle(&mut new, &[]);
        assert_eq!(bench.counters().handshakes_full, 3);
    }
}

/// Of a record that was underway, or waited for room, when its connection was lost.
#[test]
fn an_answer_to_a_closed_connection_s_record_never_moves_the_slot_s_next_one() {
    for (answer, is_full) in ANSWERS.into_iter().flat_map(|answer| [(answer, false), (answer, true)]) {
        let mut bench = Bench::new();
        let mut old = bench.tls_member();
        old.say(&frame::heartbeat());
        bench.arrive(&mut old);
        if is_full {
            bench.answer_as(old.conn, Answer::OneByte);
            bench.pass();
        }
        bench.driver.shard.peer_reset(old.conn, "a test".to_owned());
        bench.pass();
        let mut new = bench.tls_client();
        assert_eq!(new.conn.slot, old.conn.slot);
        bench.arrive(&mut new);
        assert!(bench.is_sending(new.conn), "its first flight");
        if is_full {
            bench.ring().inject_polled(socket_id(old.conn), libc::POLLOUT.into());
        } else {
            bench.answer_as(old.conn, answer);
        }
        bench.ring().inject_received(socket_id(old.conn), b"GET / HTTP/1.1\r\n\r\n", true);
        bench.ring().inject_receive_ended(socket_id(old.conn), -libc::ECANCELED);
        bench.pass();
        assert!(bench.is_sending(new.conn) && !bench.ring().kernel().is_polling(socket_id(new.conn)));
        new.say(&auth());
        bench.settle(&mut new, &[]);
        bench.arrive(&mut new);
        bench.settle(&mut new, &[]);
        assert_eq!(frames(&new.plain), [FrameType::Ack], "{answer:?}");
        assert!(bench.counters().closed(CloseReason::TlsFailed) == 0);
    }
}
