use tickstream_wire::Decoder;

use super::*;
use crate::Client;

const SECOND: Subscribe = Subscribe { mode: Mode::Second as i32, resume_after: None };

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A session that has sent its AUTH.
fn started(now: Instant) -> Session {
    let builder = Client::builder("localhost:1").credentials("alice", "secret").reply_timeout(ms(500));
    let mut session = Session::start(&builder.config().unwrap(), now);
    assert_eq!(sent(&mut session), [FrameType::Auth]);
    session
}

/// A session whose AUTH was accepted, with heartbeats every 15 s and a timeout of 20 s.
fn authenticated(now: Instant) -> Session {
    let mut session = started(now);
    let ack = Ack { heartbeat_interval_ms: 15_000, heartbeat_timeout_ms: 20_000, ..ack(MsgType::Auth) };
    assert_eq!(give(&mut session, &ack, now).unwrap(), Some(Message::Authenticated));
    session
}

fn ack(acked: MsgType) -> Ack {
    Ack { acked_type: acked.into(), next_sequence: 7, ..Ack::default() }
}

fn give<M: tickstream_wire::messages::Payload>(
    session: &mut Session,
    message: &M,
    now: Instant,
) -> Result<Option<Message>, Error> {
    session.handle_frame(Frame { kind: M::TYPE as u8, payload: &message.encode_to_vec() }, now)
}

fn echo(session: &mut Session, now: Instant) {
    let heartbeat = Frame { kind: FrameType::Heartbeat as u8, payload: &[] };
    assert!(session.handle_frame(heartbeat, now).unwrap().is_none());
}

/// The types of the frames that wait to be sent.
fn sent(session: &mut Session) -> Vec<FrameType> {
    let bytes = session.out().clone();
    session.sent(bytes.len());
    let mut input = &bytes[..];
    let mut decoder = Decoder::new();
    std::iter::from_fn(|| {
        let frame = decoder.next(&mut input, u32::MAX).unwrap()?;
        FrameType::from_byte(frame.kind)
    })
    .collect()
}

#[test]
fn heartbeats_go_out_at_the_announced_interval() {
    let t0 = Instant::now();
    let mut session = authenticated(t0);
    assert_eq!(session.deadline(true), t0 + ms(15_000));
    for count in 1..4 {
        session.heartbeat_if_due(t0 + ms(15_000 * count - 1));
        assert_eq!(sent(&mut session), []);
        session.heartbeat_if_due(t0 + ms(15_000 * count));
        assert_eq!(sent(&mut session), [FrameType::Heartbeat]);
        echo(&mut session, t0 + ms(15_000 * count));
        assert_eq!(session.deadline(true), t0 + ms(15_000 * (count + 1)));
    }
}

#[test]
fn an_ack_of_subscribe_does_not_put_a_heartbeat_off() {
    let t0 = Instant::now();
    let mut session = authenticated(t0);
    session.subscribe(SECOND, t0 + ms(14_000));
    let reply =
        Ack { heartbeat_interval_ms: 15_000, heartbeat_timeout_ms: 20_000, ..ack(MsgType::Subscribe) };
    give(&mut session, &reply, t0 + ms(14_000)).unwrap();
    assert_eq!(session.deadline(true), t0 + ms(15_000));
}

#[test]
fn a_heartbeat_that_the_network_does_not_take_is_not_piled_on() {
    let t0 = Instant::now();
    let mut session = authenticated(t0);
    (1..10_000).for_each(|count| session.heartbeat_if_due(t0 + ms(15_000 * count)));
    assert_eq!(sent(&mut session).len(), HEARTBEATS_PENDING_MAX as usize);
    session.heartbeat_if_due(t0 + ms(15_000 * 10_000));
    assert_eq!(sent(&mut session), [FrameType::Heartbeat]);
}

#[test]
fn silence_is_noticed_by_who_reads() {
    let t0 = Instant::now();
    let mut session = authenticated(t0);
    echo(&mut session, t0 + ms(1000));
    let dead = t0 + ms(21_000);
    assert!(session.check(dead - ms(1), true).is_ok());
    let Err(Error::Timeout { operation, after }) = session.check(dead, true) else { panic!() };
    assert_eq!((operation, after), (Operation::Heartbeat, ms(20_000)));

    assert!(session.check(dead, false).is_ok(), "who doesn't read can't tell");
    session.resumed_reading(dead);
    assert!(session.check(dead + ms(19_999), true).is_ok());
    assert!(session.check(dead + ms(20_000), true).is_err());
}

#[test]
fn answers_are_waited_for_in_vain_only_so_long() {
    let t0 = Instant::now();
    let check = |session: &Session, expected| {
        assert_eq!(session.deadline(true), t0 + ms(500));
        match session.check(t0 + ms(500), true) {
            Err(Error::Timeout { operation, .. }) => assert_eq!(operation, expected),
            other => panic!("{other:?}"),
        }
    };
    check(&started(t0), Operation::Authenticate);
    let mut session = authenticated(t0);
    session.subscribe(SECOND, t0);
    check(&session, Operation::Subscribe);
}

#[test]
fn announced_times_are_kept_within_reason() {
    let now = Instant::now();
    let check = |interval, timeout, expected| {
        let ack =
            Ack { heartbeat_interval_ms: interval, heartbeat_timeout_ms: timeout, ..ack(MsgType::Auth) };
        let liveness = Liveness::announced(&ack, now);
        assert_eq!((liveness.interval, liveness.timeout), expected);
    };
    check(15_000, 20_000, (ms(15_000), ms(20_000)));
    check(0, 0, (ms(15_000), ms(20_000)));
    check(1, 1, (ms(20), ms(40)));
    check(20_000, 20_000, (ms(15_000), ms(20_000)));
    check(u32::MAX, u32::MAX, (ms(u64::from(u32::MAX)) * 3 / 4, ms(u32::MAX.into())));
}

#[test]
fn the_smaller_limit_holds() {
    let check = |announced, expected| {
        let mut session = started(Instant::now());
        assert_eq!(session.payload_max(), 65_536);
        give(&mut session, &Ack { max_msg_size: announced, ..ack(MsgType::Auth) }, Instant::now()).unwrap();
        assert_eq!(session.payload_max(), expected);
    };
    check(1000, 1000);
    check(u32::MAX, 256 * 1024);
    check(0, 256 * 1024);
}

#[test]
fn frames_at_the_wrong_time_are_refused() {
    let now = Instant::now();
    let refused = |session: &mut Session, kind: FrameType| {
        let frame = Frame { kind: kind as u8, payload: &[] };
        matches!(session.handle_frame(frame, now), Err(Error::BadMessage(BadMessage::Unexpected { kind: k })) if k == kind)
    };
    for kind in [FrameType::Auth, FrameType::Subscribe, FrameType::Heartbeat, FrameType::DataBatch] {
        assert!(refused(&mut started(now), kind), "{kind:?}");
    }
    for kind in [FrameType::Auth, FrameType::Subscribe, FrameType::DataBatch, FrameType::Ack] {
        assert!(refused(&mut authenticated(now), kind), "{kind:?}");
    }
    assert!(give(&mut started(now), &ack(MsgType::Subscribe), now).is_err());
}

#[test]
fn unknown_types_are_skipped_from_0x80_on() {
    let now = Instant::now();
    for kind in 0..=u8::MAX {
        let known = FrameType::from_byte(kind).is_some();
        let said = authenticated(now).handle_frame(Frame { kind, payload: b"?" }, now);
        assert!(known || said.is_ok() == (kind >= 0x80), "0x{kind:02x}");
    }
}

#[test]
fn payloads_that_are_none_are_refused() {
    let now = Instant::now();
    let check = |kind: FrameType, expected: fn(&BadMessage) -> bool| {
        let mut session = authenticated(now);
        session.subscribe(SECOND, now);
        give(&mut session, &ack(MsgType::Subscribe), now).unwrap();
        match session.handle_frame(Frame { kind: kind as u8, payload: b"\xff\xff" }, now) {
            Err(Error::BadMessage(bad)) => assert!(expected(&bad), "{bad:?}"),
            other => panic!("{other:?}"),
        }
    };
    for kind in [FrameType::Ack, FrameType::Error, FrameType::GoAway, FrameType::DataBatch] {
        check(kind, |bad| matches!(bad, BadMessage::Payload { .. }));
    }
    check(FrameType::Heartbeat, |bad| *bad == BadMessage::HeartbeatPayload { length: 2 });
}

#[test]
fn a_batch_has_no_more_events_than_an_answer_has_room_for() {
    let check = |max_msg_size, expected| {
        let ack = Ack { max_msg_size, publish_credits: 3, max_publish_size: 9, ..Ack::default() };
        let limits = PublishLimits { credits: 3, payload_max: 9, events_max: expected };
        assert_eq!(PublishLimits::announced(&ack), limits);
    };
    check(0, 2048);
    check(65_536, 2048);
    check(1 << 20, 2048);
    check(4096, 128);
}
