//! Connecting, credentials, and the first subscription, where errors go to the caller.

use tickstream_client::{Client, Error, ErrorCode, Mode, Operation};
use tokio::net::TcpSocket;

use crate::support::{Events, Server, failure, go_away, ms, soon, subscribed};

fn code(error: &Error) -> Option<ErrorCode> {
    match error {
        Error::Refused { code, .. } => Some(*code),
        _ => None,
    }
}

#[tokio::test]
async fn wrong_credentials_are_told_at_once_and_tried_nowhere_else() {
    let (server, other) = (Server::start().await, Server::start().await);
    let refused = failure(server.client().server(other.address()), async {
        server.accept().await.refuse("AUTH_FAILED", 0).await;
    });
    let error = refused.await;
    assert_eq!(code(&error), Some(ErrorCode::AuthFailed));
    assert!(!error.is_retryable());
    assert!(other.is_alone().await);
}

#[tokio::test]
async fn credentials_that_became_wrong_end_the_subscription() {
    let server = Server::start().await;
    let (mut ticks, peer) = subscribed(&server, 10).await;
    peer.finish().await;
    assert!(matches!(ticks.disconnected().await.0, Error::Ended));
    server.accept().await.refuse("AUTH_FAILED", 0).await;
    assert_eq!(code(&ticks.end().await), Some(ErrorCode::AuthFailed));
    assert!(server.is_alone().await);
    assert!(matches!(ticks.change_mode(Mode::Minute), Err(Error::Closed)));
}

#[tokio::test]
async fn a_busy_server_is_passed_over() {
    let (busy, free) = (Server::start().await, Server::start().await);
    let client = async {
        let client = busy.client().server(free.address()).connect().await.unwrap();
        client.subscribe(Mode::Second).await.unwrap()
    };
    let servers = async {
        busy.accept().await.refuse("SERVER_BUSY", 60_000).await;
        free.accept_subscriber(10).await
    };
    let (_ticks, (_peer, request)) = tokio::join!(client, servers);
    assert_eq!(request.mode(), Mode::Second);
}

#[tokio::test]
async fn no_server_at_all() {
    // Bound, so that no other test gets the port, but not listening.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = socket.local_addr().unwrap().to_string();
    let error = Client::builder(&nobody).credentials("alice", "secret").connect().await.unwrap_err();
    assert!(matches!(&error, Error::Connect { server, .. } if *server == nobody));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_server_that_does_not_answer() {
    let server = Server::start().await;
    let error = failure(server.client().reply_timeout(ms(30)), async {
        let mut peer = server.accept().await;
        peer.frame().await;
        assert_eq!(peer.frame().await, None, "the client has given up");
    });
    let error = error.await;
    assert!(matches!(error, Error::Timeout { operation: Operation::Authenticate, .. }), "{error:?}");
}

#[tokio::test]
async fn what_ends_an_idle_connection_is_told_by_subscribe() {
    let server = Server::start().await;
    let (client, mut peer) = tokio::join!(server.client().connect(), async {
        let mut peer = server.accept().await;
        peer.login().await;
        peer
    });
    peer.send(&go_away(0)).await;
    peer.refuse("SHUTTING_DOWN", 500).await;
    let error = soon(client.unwrap().subscribe(Mode::Second)).await.unwrap_err();
    assert_eq!(code(&error), Some(ErrorCode::ShuttingDown));
    assert_eq!(error.retry_after(), Some(ms(500)));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn an_application_that_knows_where_it_was() {
    let server = Server::start().await;
    let client = async { server.client().connect().await.unwrap().subscribe_after(Mode::Minute, 41).await };
    let (ticks, (_peer, request)) = tokio::join!(client, server.accept_subscriber(42));
    assert!(ticks.is_ok());
    assert_eq!((request.mode(), request.resume_after), (Mode::Minute, Some(41)));
}
