//! A subscription that outlives its connections.

use tickstream_client::{Error, ErrorCode, Mode, StreamUpdate};
use tickstream_wire::frame::seal;
use tokio::time::Instant;

use crate::support::{Events, Server, batch, error, go_away, ms, subscribed, subscribed_as};

#[tokio::test]
async fn a_resume_neither_loses_nor_repeats() {
    let server = Server::start().await;
    let (mut ticks, mut peer) = subscribed(&server, 10).await;
    peer.send(&batch(Mode::Second, 10, 3)).await;
    assert_eq!(ticks.sequences().await, [10, 11, 12]);
    drop(peer);
    ticks.disconnected().await;

    // A server may replay more than it was asked for, and than it announced.
    let (mut peer, request) = server.accept_subscriber(13).await;
    assert_eq!((request.mode(), request.resume_after), (Mode::Second, Some(12)));
    peer.send(&batch(Mode::Second, 11, 1)).await;
    peer.send(&batch(Mode::Second, 12, 3)).await;
    assert_eq!(ticks.reconnected().await, server.address());
    assert_eq!(ticks.sequences().await, [13, 14]);
}

#[tokio::test]
async fn a_connection_that_breaks_before_its_first_tick_loses_none() {
    let server = Server::start().await;
    let (mut ticks, peer) = subscribed(&server, 10).await;
    drop(peer);
    ticks.disconnected().await;
    let (mut peer, request) = server.accept_subscriber(10).await;
    assert_eq!(request.resume_after, Some(9));
    peer.send(&batch(Mode::Second, 10, 1)).await;
    ticks.reconnected().await;
    assert_eq!(ticks.sequences().await, [10]);
}

#[tokio::test]
async fn a_gap_is_reported() {
    let server = Server::start().await;
    let (mut ticks, mut peer) = subscribed(&server, 10).await;
    peer.send(&batch(Mode::Second, 10, 1)).await;
    peer.send(&batch(Mode::Second, 15, 1)).await;
    assert_eq!(ticks.sequences().await, [10]);
    assert!(matches!(ticks.event().await, StreamUpdate::Gap { expected: 11, got: 15 }));
    assert_eq!(ticks.sequences().await, [15]);

    drop(peer);
    ticks.disconnected().await;
    let (mut peer, _) = server.accept_subscriber(100).await;
    peer.send(&batch(Mode::Second, 100, 1)).await;
    ticks.reconnected().await;
    assert!(matches!(ticks.event().await, StreamUpdate::Gap { expected: 16, got: 100 }));
    assert_eq!(ticks.sequences().await, [100]);
}

#[tokio::test]
async fn a_server_behind_the_position_resets_it_and_goes_on() {
    let server = Server::start().await;
    let (mut ticks, mut peer) = subscribed(&server, 100).await;
    peer.send(&batch(Mode::Second, 100, 1)).await;
    assert_eq!(ticks.sequences().await, [100]);
    drop(peer);
    ticks.disconnected().await;
    let (mut peer, request) = server.accept_subscriber(51).await;
    assert_eq!(request.resume_after, Some(100));
    peer.send(&batch(Mode::Second, 51, 1)).await;
    ticks.reconnected().await;
    assert!(matches!(ticks.event().await, StreamUpdate::Reset { expected: 101, got: 51 }));
    assert_eq!(ticks.sequences().await, [51]);
}

#[tokio::test]
async fn servers_take_turns() {
    let (a, b) = (Server::start().await, Server::start().await);
    let (mut ticks, peer) = subscribed_as(&a, a.client().server(b.address()), 10).await;
    peer.refuse("INTERNAL", 0).await;
    ticks.disconnected().await;
    b.accept().await.refuse("SERVER_BUSY", 0).await;
    ticks.disconnected().await;
    let (_peer, request) = a.accept_subscriber(10).await;
    assert_eq!(request.resume_after, Some(9));
    assert_eq!(ticks.reconnected().await, a.address());
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let server = Server::start().await;
    let (mut ticks, peer) = subscribed(&server, 10).await;
    let refused = Instant::now();
    peer.refuse("RATE_LIMITED", 150).await;
    let (error, retry_in) = ticks.disconnected().await;
    assert!(matches!(error, Error::Refused { code: ErrorCode::RateLimited, .. }), "{error:?}");
    assert!((ms(150)..=ms(154)).contains(&retry_in), "{retry_in:?}");
    server.accept_subscriber(10).await;
    assert!(refused.elapsed() >= ms(150));
}

#[tokio::test]
async fn go_away_is_followed_when_its_time_has_come() {
    let (a, b) = (Server::start().await, Server::start().await);
    let (mut ticks, mut peer) = subscribed_as(&a, a.client().server(b.address()), 10).await;
    let sent = Instant::now();
    // At once: on a busy machine the client may else have gone before the ticks.
    let frames = [seal(&go_away(100)), seal(&go_away(100)), seal(&batch(Mode::Second, 10, 1))];
    peer.send_bytes(&frames.concat()).await;
    match ticks.event().await {
        StreamUpdate::GoAway { reason, retry_after } => {
            assert_eq!((&reason[..], retry_after), ("maintenance", Some(ms(100))));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(ticks.sequences().await, [10], "the server goes on sending");

    let (_peer, request) = b.accept_subscriber(11).await;
    assert!(sent.elapsed() >= ms(100));
    assert_eq!(request.resume_after, Some(10));
    let (error, retry_in) = ticks.disconnected().await;
    assert!(matches!(error, Error::GoAway { .. }) && retry_in.is_zero(), "{error:?} {retry_in:?}");
    assert_eq!(ticks.reconnected().await, b.address());
}

#[tokio::test]
async fn a_server_that_goes_before_its_time_is_not_called_before_it() {
    let server = Server::start().await;
    let (mut ticks, mut peer) = subscribed(&server, 10).await;
    let sent = Instant::now();
    peer.send_bytes(&[seal(&go_away(100)), seal(&error("SHUTTING_DOWN", 0))].concat()).await;
    peer.finish().await;
    assert!(matches!(ticks.event().await, StreamUpdate::GoAway { .. }));
    let (error, _) = ticks.disconnected().await;
    assert!(matches!(error, Error::Refused { code: ErrorCode::ShuttingDown, .. }), "{error:?}");
    server.accept_subscriber(10).await;
    assert!(sent.elapsed() >= ms(100));
}

#[tokio::test]
async fn an_error_after_ticks_does_not_swallow_them() {
    let server = Server::start().await;
    let (mut ticks, mut peer) = subscribed(&server, 10).await;
    peer.send(&batch(Mode::Second, 10, 2)).await;
    peer.send(&error("INTERNAL", 0)).await;
    peer.finish().await;
    assert_eq!(ticks.sequences().await, [10, 11]);
    assert!(matches!(ticks.disconnected().await.0, Error::Refused { .. }));
}

#[tokio::test]
async fn the_mode_changes_and_stays_changed() {
    let server = Server::start().await;
    let (mut ticks, mut peer) = subscribed(&server, 600).await;
    ticks.change_mode(Mode::Second).unwrap();
    ticks.change_mode(Mode::Minute).unwrap();
    // A tick of the old mode may precede the ACK.
    peer.send(&batch(Mode::Second, 600, 1)).await;
    let request = peer.subscription(10).await;
    assert_eq!((request.mode(), request.resume_after), (Mode::Minute, None));
    peer.send(&batch(Mode::Minute, 10, 1)).await;
    assert_eq!(ticks.sequences().await, [600]);
    assert!(matches!(
        ticks.event().await,
        StreamUpdate::Subscribed { mode: Mode::Minute, next_sequence: 10 }
    ));
    assert_eq!(ticks.sequences().await, [10]);

    drop(peer);
    ticks.disconnected().await;
    let (_peer, request) = server.accept_subscriber(11).await;
    assert_eq!((request.mode(), request.resume_after), (Mode::Minute, Some(10)));
    ticks.reconnected().await;
}

#[tokio::test]
async fn a_mode_change_that_a_broken_connection_interrupted() {
    let server = Server::start().await;
    let (mut ticks, mut peer) = subscribed(&server, 600).await;
    ticks.change_mode(Mode::Minute).unwrap();
    peer.frame().await;
    drop(peer);
    ticks.disconnected().await;
    let (_peer, request) = server.accept_subscriber(10).await;
    assert_eq!((request.mode(), request.resume_after), (Mode::Minute, None));
    ticks.reconnected().await;
    assert!(matches!(ticks.event().await, StreamUpdate::Subscribed { mode: Mode::Minute, .. }));
}
