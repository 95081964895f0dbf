use tickstream_wire::FrameType;
use tickstream_wire::frame::{self, SKIPPABLE_FROM};
use tickstream_wire::messages::{Auth, Subscribe};

use super::*;
use crate::auth::Grant;
use crate::clock::SECOND;
use crate::config::Limits;
use crate::shard::tests::config;

const PEER: ([u8; 4], u16) = ([127, 0, 0, 1], 1);

fn session(is_authenticated: bool) -> Session {
    let mut session = Session::new(PEER.into(), 1, 0, false, false);
    if is_authenticated {
        assert_eq!(session.authenticated(0), None);
    }
    session
}

/// Checks the request that a session, authenticated or not, makes of a frame.
#[expect(clippy::needless_pass_by_value, reason = "callers write expectations, not references to them")]
fn check(is_authenticated: bool, kind: u8, payload: &[u8], expected: Result<Request<'_>, CloseReason>) {
    let mut bytes = Vec::new();
    frame::seal_with(&mut bytes, kind, |out| out.extend_from_slice(payload));
    let mut session = session(is_authenticated);
    let request = session.next_request(&mut &bytes[..], &config(), 0);
    let request = request.map(|request| request.expect("a whole frame")).map_err(|fault| fault.reason);
    assert_eq!(request, expected, "type {kind}");
}

fn payload<M: tickstream_wire::messages::Payload>(message: &M) -> Vec<u8> {
    let sealed = frame::seal(message);
    sealed[frame::HEADER_LEN..sealed.len() - frame::TRAILER_LEN].to_vec()
}

fn auth(username: &str, password: &str) -> Vec<u8> {
    payload(&Auth { username: username.into(), password: password.into(), client: None })
}

#[test]
fn before_auth_only_auth_is_taken() {
    for kind in (0..=u8::MAX).filter(|&kind| kind != FrameType::Auth as u8) {
        check(false, kind, b"", Err(CloseReason::AuthRequired));
    }
    let check = |payload: &[u8], expected| check(false, FrameType::Auth as u8, payload, expected);
    let wrong = || Ok(Request::Authenticate { grant: None, client: None });
    check(&auth("ada", "s3cret"), Ok(Request::Authenticate { grant: Some(Grant::Pair), client: None }));
    check(&auth("ada", "wrong"), wrong());
    check(&auth("", ""), wrong());
    check(b"", wrong());
    check(b"\xff\xff", Err(CloseReason::BadFrame));
}

#[test]
fn after_auth_each_type_has_one_answer() {
    for kind in 0..=u8::MAX {
        let expected = match FrameType::from_byte(kind) {
            Some(FrameType::Subscribe) => Ok(Request::Subscribe { mode: Mode::Second, resume_after: None }),
            Some(FrameType::Heartbeat) => Ok(Request::Heartbeat),
            Some(FrameType::Publish) => Ok(Request::Publish { payload: b"", peer: PEER.0.into() }),
            Some(_) => Err(CloseReason::ProtocolViolation),
            None if kind >= SKIPPABLE_FROM => Ok(Request::Nothing),
            None => Err(CloseReason::UnsupportedType),
        };
        check(true, kind, b"", expected);
    }
}

#[test]
fn a_subscription_with_nonsense_in_it_is_a_bad_frame() {
    check(true, FrameType::Heartbeat as u8, b"x", Err(CloseReason::BadFrame));
    let check = |payload: &[u8], expected| check(true, FrameType::Subscribe as u8, payload, expected);
    let subscribe = |mode, resume_after| payload(&Subscribe { mode, resume_after });
    let minute = Request::Subscribe { mode: Mode::Minute, resume_after: Some(u64::MAX) };
    check(&subscribe(1, Some(u64::MAX)), Ok(minute));
    check(&subscribe(2, None), Err(CloseReason::BadFrame));
    check(&subscribe(i32::MIN, None), Err(CloseReason::BadFrame));
    check(b"\x08", Err(CloseReason::BadFrame));
    // a field of a later version
    let later = [&subscribe(1, None)[..], b"\x7a\x03new"].concat();
    check(&later, Ok(Request::Subscribe { mode: Mode::Minute, resume_after: None }));
}

#[test]
fn frames_are_budgeted_by_the_second() {
    let mut session = session(true);
    let heartbeat = frame::heartbeat();
    let mut send = |now| {
        let request = session.next_request(&mut &heartbeat[..], &config(), now);
        request.map(|request| assert_eq!(request, Some(Request::Heartbeat))).map_err(|fault| fault.reason)
    };
    for second in 0..3 {
        for _ in 0..config().limits.frames_per_second {
            assert_eq!(send(second * SECOND), Ok(()));
        }
    }
    assert_eq!(send(2 * SECOND), Err(CloseReason::RateLimited));
}

#[test]
fn what_is_pending_goes_before_fin_and_nothing_after_it() {
    let mut session = session(true);
    let goodbye = SealedFrame::heartbeat();
    session.flush(Some(goodbye.clone()), 0, 2 * SECOND);
    assert_eq!((session.standing(), session.accepts_frames()), (Some(Standing::Closing), false));
    assert!(matches!(session.next_step(), Step::Send(frame, 0) if frame == goodbye));
    assert!(matches!(session.next_step(), Step::Nothing), "the send isn't answered");
    session.frame_sent(goodbye.len());
    assert!(matches!(session.next_step(), Step::Shutdown));
    assert!(matches!(session.next_step(), Step::Nothing), "it lingers");
    assert!(!session.peer_closed(), "nothing can reach it any more");
    assert_eq!(session.deadline(&config()), Some(Deadline { at: 2 * SECOND, fault: None }));
    session.abort(true);
    assert_eq!(session.deadline(&config()), None, "no deadline changes how it is released");
    assert!(matches!(session.next_step(), Step::Release { reset: true }));
    session.release();
    assert_eq!((session.standing(), session.deadline(&config())), (None, None));
}

#[test]
fn no_payload_before_auth_is_larger_than_credentials() {
    let mut header = frame::heartbeat()[..frame::HEADER_LEN].to_vec();
    header[frame::HEADER_LEN - 4..].copy_from_slice(&(Limits::PAYLOAD_BYTES_BEFORE_AUTH + 1).to_be_bytes());
    let fault = session(false).next_request(&mut &header[..], &config(), 0).unwrap_err();
    assert_eq!(fault.reason, CloseReason::MessageTooLarge);
    assert_eq!(session(true).next_request(&mut &header[..], &config(), 0), Ok(None));
}
