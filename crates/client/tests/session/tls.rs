//! The client under TLS 1.3: what it accepts, what it refuses, and how it says so.

use std::io::{ErrorKind, Write};

use tickstream_client::{
    AlertDescription, Error, Mode, Operation, StreamUpdate, TlsConfig, TlsConfigError, TlsError,
};
use tickstream_wire::{FrameType, frame::seal, messages::Ack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::HandshakeKind;

use crate::{
    support::{Events, QUIET, Server, batch, failure, go_away, ms, soon},
    tls_support::{Authority, Identity, TlsServer, Validity, kind, subscribed},
};

/// Names of the servers of these tests.
const NAMES: &[&str] = &["127.0.0.1", "localhost"];

fn issued() -> (Authority, Identity) {
    let authority = Authority::new();
    let identity = authority.server(NAMES, Validity::Now);
    (authority, identity)
}

fn problem(error: Error) -> TlsError {
    match error {
        Error::Tls { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn ticks_heartbeats_and_an_orderly_end() {
    let (authority, identity) = issued();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(authority.pem.as_bytes()).unwrap();
    let tls = TlsConfig::with_ca_file(file.path()).unwrap();
    let server = TlsServer::start(&identity).await;
    let client =
        async { server.client(&tls).connect().await.unwrap().subscribe(Mode::Second).await.unwrap() };
    let play = async {
        let mut peer = server.accept().await;
        peer.limits = Ack { heartbeat_interval_ms: 20, ..QUIET };
        peer.login().await;
        peer.subscription(10).await;
        peer
    };
    let (mut ticks, mut peer) = tokio::join!(client, play);

    // More than one record holds, and more than is read at a time.
    peer.send(&batch(Mode::Second, 10, 4_000)).await;
    peer.send(&batch(Mode::Second, 4_010, 1)).await;
    assert_eq!(ticks.sequences().await, (10..4_010).collect::<Vec<_>>());
    assert_eq!(ticks.sequences().await, [4_010]);
    peer.heartbeat().await;

    // Only a close_notify makes the end an end: without one, reading fails.
    let (_, end) = tokio::join!(ticks.close(), async {
        while let Some((kind, _)) = peer.frame().await {
            assert_eq!(kind, FrameType::Heartbeat);
        }
        let end = peer.stream.read(&mut [0; 1]).await;
        drop(peer);
        end
    });
    assert_eq!(end.unwrap(), 0);
}

#[tokio::test]
async fn a_reconnect_resumes_the_session_and_so_does_a_clone() {
    let (authority, identity) = issued();
    let tls = authority.trust();
    let server = TlsServer::start(&identity).await;
    let (mut ticks, peer) = subscribed(&server, &tls).await;
    assert_eq!(kind(&peer), Some(HandshakeKind::Full));
    peer.finish().await;
    assert!(matches!(ticks.disconnected().await.0, Error::Ended));
    let (mut peer, request) = server.accept_subscriber(10).await;
    assert_eq!(kind(&peer), Some(HandshakeKind::Resumed));
    assert_eq!(request.resume_after, Some(9));
    peer.send(&batch(Mode::Second, 10, 1)).await;
    ticks.reconnected().await;
    assert_eq!(ticks.sequences().await, [10]);

    let (_ticks, peer) = subscribed(&server, &tls.clone()).await;
    assert_eq!(kind(&peer), Some(HandshakeKind::Resumed));
    let (_ticks, peer) = subscribed(&server, &authority.trust()).await;
    assert_eq!(kind(&peer), Some(HandshakeKind::Full), "another configuration has other tickets");
}

#[tokio::test]
async fn certificates_that_prove_nothing_are_refused() {
    let authority = Authority::new();
    let check = async |identity: Identity, tls: TlsConfig, expected: fn(&TlsError) -> bool, retryable| {
        let server = TlsServer::start(&identity).await;
        let error = failure(server.client(&tls), async {
            server.refuse().await;
        });
        let error = error.await;
        assert_eq!(error.is_retryable(), retryable, "{error:?}");
        let problem = problem(error);
        assert!(expected(&problem), "{problem:?}");
    };
    let good = || authority.server(NAMES, Validity::Now);
    for other in [Authority::new(), Authority::named("another")] {
        check(good(), other.trust(), |error| matches!(error, TlsError::Untrusted), false).await;
    }
    let past = authority.server(NAMES, Validity::Past);
    check(past, authority.trust(), |error| matches!(error, TlsError::Expired), true).await;
    let future = authority.server(NAMES, Validity::Future);
    check(future, authority.trust(), |error| matches!(error, TlsError::NotValidYet), true).await;
    let wrong_purpose = authority.client(Validity::Now);
    check(wrong_purpose, authority.trust(), |error| matches!(error, TlsError::Certificate(_)), false).await;
    let itself = authority.itself.clone();
    check(itself, authority.trust(), |error| matches!(error, TlsError::AuthorityItself), false).await;
    let other = authority.server(&["ticks.example", "10.1.2.3"], Validity::Now);
    let names = |error: &TlsError| {
        error.to_string()
            == "its certificate is for ticks.example, 10.1.2.3, not for 127.0.0.1; check the address, or set the \
                server's name"
    };
    check(other, authority.trust(), names, false).await;
    let mail = authority.trust().server_name("mail.example").unwrap();
    check(good(), mail, |error| matches!(error, TlsError::WrongName { .. }), false).await;
}

#[tokio::test]
async fn the_expected_name_can_be_set() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.server(&["ticks.example"], Validity::Now)).await;
    let tls = authority.trust().server_name("ticks.example").unwrap();
    let (_ticks, peer) = subscribed(&server, &tls).await;
    assert_eq!(peer.stream.get_ref().1.server_name(), Some("ticks.example"));
}

#[tokio::test]
async fn a_client_certificate_opens_a_server_that_wants_one() {
    let (authority, identity) = issued();
    let server = TlsServer::mutual(&identity, &authority).await;
    let tls = authority.client(Validity::Now).shown_by(authority.trust());
    let (mut ticks, mut peer) = subscribed(&server, &tls).await;
    assert_eq!(peer.stream.get_ref().1.peer_certificates().map(<[_]>::len), Some(1));
    peer.send(&batch(Mode::Second, 10, 1)).await;
    assert_eq!(ticks.sequences().await, [10]);
}

/// The server judges it after the client's handshake is over: its alert comes instead of the first ACK.
#[tokio::test]
async fn a_client_certificate_that_is_missing_or_bad_is_told() {
    let (authority, identity) = issued();
    let server = TlsServer::mutual(&identity, &authority).await;
    let check = async |tls: &TlsConfig, expected: fn(&TlsError) -> bool| {
        let error = failure(server.client(tls), async {
            server.refuse().await;
        });
        let error = error.await;
        assert!(!error.is_retryable());
        let problem = problem(error);
        assert!(expected(&problem) && problem.is_refusal(), "{problem:?}");
    };
    check(&authority.trust(), |error| matches!(error, TlsError::CertificateRequired)).await;
    let expired = authority.client(Validity::Past).shown_by(authority.trust());
    check(&expired, |error| {
        matches!(error, TlsError::ClientCertificate { alert: AlertDescription::CertificateExpired })
    })
    .await;
    for other in [Authority::new(), Authority::named("another")] {
        let foreign = other.client(Validity::Now).shown_by(authority.trust());
        check(&foreign, |error| matches!(error, TlsError::ClientCertificate { .. })).await;
    }
}

/// A server's answer to a ClientHello that offers TLS 1.3 alone, byte by byte.
#[tokio::test]
async fn servers_without_tls_1_3_are_refused() {
    let check = async |answer: &[u8], expected: fn(&TlsError) -> bool, retryable| {
        let server = Server::start().await;
        let tls = Authority::new().trust();
        let error = failure(server.client().tls(tls), async {
            let mut peer = server.accept().await;
            soon(peer.stream.read(&mut [0; 4096])).await.unwrap();
            peer.send_bytes(answer).await;
            peer.finish().await;
        });
        let error = error.await;
        assert_eq!(error.is_retryable(), retryable, "{error:?}");
        let problem = problem(error);
        assert!(expected(&problem), "{problem:?}");
    };
    // A ServerHello of TLS 1.2 (0x0303): random, no session id, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.
    let mut hello = vec![0x16, 0x03, 0x03, 0, 42, 0x02, 0, 0, 38, 0x03, 0x03];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x2b, 0]);
    check(&hello, |error| matches!(error, TlsError::Version), false).await;
    check(&[0x15, 0x03, 0x03, 0, 2, 2, 70], |error| matches!(error, TlsError::Version), false).await;
    check(b"HTTP/1.1 400 Bad Request\r\n\r\n", |error| matches!(error, TlsError::NotTls), false).await;
    check(&seal(&QUIET), |error| matches!(error, TlsError::NotTls), false).await;
    check(b"", |error| matches!(error, TlsError::Ended), true).await;
}

#[tokio::test]
async fn a_handshake_that_hangs_counts_into_the_time_to_connect() {
    let server = Server::start().await;
    let builder = server.client().tls(Authority::new().trust()).connect_timeout(ms(30));
    let error = failure(builder, async {
        let mut peer = server.accept().await;
        // Until the client gives up.
        _ = soon(peer.stream.read_to_end(&mut Vec::new())).await;
    });
    let error = error.await;
    assert!(matches!(error, Error::Timeout { operation: Operation::Handshake, after } if after == ms(30)));
}

#[tokio::test]
async fn a_client_without_tls_is_told_that_the_server_speaks_it() {
    let (_, identity) = issued();
    let server = TlsServer::start(&identity).await;
    let builder = tickstream_client::Client::builder(server.address()).credentials("alice", "secret");
    let error = failure(builder, async {
        server.refuse().await;
    });
    assert!(matches!(problem(error.await), TlsError::Expected));
}

#[tokio::test]
async fn an_end_without_close_notify_is_a_broken_connection() {
    let (authority, identity) = issued();
    let server = TlsServer::start(&identity).await;
    let (mut ticks, mut peer) = subscribed(&server, &authority.trust()).await;
    soon(peer.stream.get_mut().0.shutdown()).await.unwrap();
    match ticks.disconnected().await.0 {
        Error::Lost(source) => assert_eq!(source.kind(), ErrorKind::UnexpectedEof),
        other => panic!("{other:?}"),
    }
    server.accept_subscriber(10).await;
    ticks.reconnected().await;
}

#[tokio::test]
async fn a_client_that_is_sent_away_ends_with_a_close_notify() {
    let (authority, identity) = issued();
    let server = TlsServer::start(&identity).await;
    let (mut ticks, mut peer) = subscribed(&server, &authority.trust()).await;
    peer.send(&go_away(0)).await;
    assert!(matches!(ticks.event().await, StreamUpdate::GoAway { .. }));
    assert!(matches!(ticks.disconnected().await.0, Error::GoAway { .. }));
    assert_eq!(soon(peer.stream.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn damaged_records_lead_to_a_reconnect() {
    let (authority, identity) = issued();
    let server = TlsServer::start(&identity).await;
    let (mut ticks, mut peer) = subscribed(&server, &authority.trust()).await;
    // A record of application data whose tag can't be right.
    let mut record = vec![0x17, 0x03, 0x03, 0, 32];
    record.extend([7; 32]);
    soon(peer.stream.get_mut().0.write_all(&record)).await.unwrap();
    let problem = problem(ticks.disconnected().await.0);
    assert!(matches!(problem, TlsError::Protocol(_)), "{problem:?}");
    server.accept_subscriber(10).await;
    ticks.reconnected().await;
}

#[tokio::test]
async fn new_keys_are_taken_and_answered() {
    let (authority, identity) = issued();
    let server = TlsServer::start(&identity).await;
    let (mut ticks, mut peer) = subscribed(&server, &authority.trust()).await;
    for sequence in 10..20 {
        peer.stream.get_mut().1.refresh_traffic_keys().unwrap();
        peer.send(&batch(Mode::Second, sequence, 1)).await;
        assert_eq!(ticks.sequences().await, [sequence]);
    }
    // What the client sends under its own new keys is understood.
    ticks.change_mode(Mode::Minute).unwrap();
    peer.subscription(3).await;
    assert!(matches!(ticks.event().await, StreamUpdate::Subscribed { mode: Mode::Minute, .. }));
}

#[tokio::test]
async fn a_slow_application_loses_nothing() {
    const BIG: u64 = 4_000;
    let (authority, identity) = issued();
    let server = TlsServer::start(&identity).await;
    let client = async {
        let client = server.client(&authority.trust()).queue(1).connect().await.unwrap();
        client.subscribe(Mode::Second).await.unwrap()
    };
    let (mut ticks, (mut peer, _)) = tokio::join!(client, server.accept_subscriber(0));
    let writer = tokio::spawn(async move {
        for first in 0..100 {
            peer.send(&batch(Mode::Second, first * BIG, BIG)).await;
        }
        peer
    });
    for first in 0..100 {
        if first % 10 == 0 {
            tokio::time::sleep(ms(5)).await;
        }
        assert_eq!(ticks.sequences().await[0], first * BIG);
    }
    soon(writer).await.unwrap();
}

#[test]
fn settings_that_cannot_work_say_what_to_do() {
    let (authority, identity) = issued();
    let other = authority.client(Validity::Now);
    let check = |result: Result<TlsConfig, TlsConfigError>, expected: &str| {
        let error = result.expect_err("it can't work").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(TlsConfig::with_ca_file("absent.pem"), "can't read absent.pem");
    check(TlsConfig::with_ca_pem(b"hello"), "the CA's PEM text holds no certificate");
    check(TlsConfig::with_ca_pem(b"-----BEGIN CERTIFICATE-----\n!\n-----END"), "is not valid PEM");
    check(
        TlsConfig::with_ca_pem(b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----"),
        "a certificate of the CA's PEM text can't be used",
    );
    let pem = |certificate: &str, key: &str| {
        authority.trust().client_certificate_pem(certificate.as_bytes(), key.as_bytes())
    };
    check(pem(&identity.key, &identity.key), "the client certificate's PEM text holds no certificate");
    check(
        pem(&identity.certificate, &identity.certificate),
        "the client key's PEM text holds no private key",
    );
    check(pem(&identity.certificate, &other.key), "is no usable client certificate");
    check(authority.trust().client_certificate_files("a.pem", "a.key"), "can't read a.pem");
    check(authority.trust().server_name("not a name"), "neither a DNS name nor an IP address");
}

#[tokio::test]
async fn an_address_that_no_certificate_can_have_is_refused_at_once() {
    let builder = tickstream_client::Client::builder("127.0.0.1:1")
        .server("under score!:2")
        .credentials("alice", "secret")
        .tls(Authority::new().trust());
    let error = builder.connect().await.unwrap_err();
    assert!(matches!(error, Error::TlsConfig(TlsConfigError::ServerName { name }) if name == "under score!"));
}

#[test]
fn secrets_stay_out_of_debug() {
    let authority = Authority::new();
    let identity = authority.client(Validity::Now);
    let tls = identity.shown_by(authority.trust());
    let debug = format!("{:?}", tickstream_client::Client::builder("a:1").tls(tls));
    assert!(debug.contains("has_client_certificate: true"), "{debug}");
    assert!(debug.len() < 500, "{debug}");
}
