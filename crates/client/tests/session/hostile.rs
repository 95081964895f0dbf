//! Servers that don't keep to the protocol, and networks that cut its frames anywhere.

use tickstream_client::{BadMessage, Error, FrameError, Mode, StreamUpdate};
use tickstream_wire::{
    frame::{self, seal, seal_with},
    messages::{MsgType, Subscribe},
};

use crate::support::{Events, Server, batch, failure, soon, subscribed};

#[tokio::test]
async fn every_byte_on_its_own_and_all_at_once() {
    let server = Server::start().await;
    let (mut ticks, mut peer) = subscribed(&server, 10).await;
    let frames: Vec<u8> = (10..20).flat_map(|sequence| seal(&batch(Mode::Second, sequence, 1))).collect();
    for byte in &frames {
        peer.send_bytes(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    for sequence in 10..20 {
        assert_eq!(ticks.sequences().await, [sequence]);
    }
    let frames: Vec<u8> = (20..1000).flat_map(|sequence| seal(&batch(Mode::Second, sequence, 1))).collect();
    peer.send_bytes(&frames).await;
    for sequence in 20..1000 {
        assert_eq!(ticks.sequences().await, [sequence]);
    }
}

#[tokio::test]
async fn ticks_in_the_same_packet_as_the_acks() {
    let server = Server::start().await;
    let client = async { server.client().connect().await.unwrap().subscribe(Mode::Second).await.unwrap() };
    let play = async {
        let mut peer = server.accept().await;
        peer.login().await;
        let _: Subscribe = peer.receive().await;
        let mut bytes = seal(&peer.ack(MsgType::Subscribe, 10));
        bytes.extend(seal(&batch(Mode::Second, 10, 2)));
        peer.send_bytes(&bytes).await;
        peer
    };
    let (mut ticks, _peer) = tokio::join!(client, play);
    assert_eq!(ticks.sequences().await, [10, 11]);
}

#[tokio::test]
async fn garbage_instead_of_a_server() {
    let server = Server::start().await;
    let error = failure(server.client(), async {
        let mut peer = server.accept().await;
        peer.send_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        peer.finish().await;
    });
    let error = error.await;
    assert!(matches!(error, Error::Frame(FrameError::Magic { found: b'H' })), "{error:?}");
}

#[tokio::test]
async fn damaged_bytes_lead_to_a_reconnect() {
    let server = Server::start().await;
    let (mut ticks, mut peer) = subscribed(&server, 10).await;
    let mut damaged = seal(&batch(Mode::Second, 10, 1));
    damaged[frame::HEADER_LEN] ^= 1;
    peer.send_bytes(&damaged).await;
    let (error, _) = ticks.disconnected().await;
    assert!(matches!(error, Error::Frame(FrameError::Crc { .. })), "{error:?}");
    let (mut peer, request) = server.accept_subscriber(10).await;
    assert_eq!(request.resume_after, Some(9));
    ticks.reconnected().await;

    peer.send_bytes(b"garbage").await;
    let (error, _) = ticks.disconnected().await;
    assert!(matches!(error, Error::Frame(FrameError::Magic { found: b'g' })), "{error:?}");
    server.accept_subscriber(10).await;
    ticks.reconnected().await;
}

#[tokio::test]
async fn what_no_reconnect_cures_ends_the_subscription() {
    let check = async |bytes: Vec<u8>, expected: fn(&Error) -> bool| {
        let server = Server::start().await;
        let (mut ticks, mut peer) = subscribed(&server, 10).await;
        peer.send_bytes(&bytes).await;
        let error = ticks.end().await;
        assert!(expected(&error), "{error:?}");
        assert!(!error.is_retryable());
        assert!(server.is_alone().await);
    };
    let sealed = |kind: u8, payload: &[u8]| {
        let mut bytes = Vec::new();
        seal_with(&mut bytes, kind, |out| out.extend_from_slice(payload));
        bytes
    };
    // 65,537 bytes are announced, one above the ACK's limit, and never sent.
    check(b"TS\x01\x04\0\x01\0\x01".to_vec(), |error| {
        matches!(error, Error::Frame(FrameError::TooLarge { length: 65_537, max: 65_536 }))
    })
    .await;
    check(b"TS\x02".to_vec(), |error| matches!(error, Error::Frame(FrameError::Version { found: 2 }))).await;
    check(sealed(0x7f, b""), |error| {
        matches!(error, Error::BadMessage(BadMessage::UnknownType { kind: 0x7f }))
    })
    .await;
    check(sealed(0x04, b"\xff"), |error| matches!(error, Error::BadMessage(BadMessage::Payload { .. })))
        .await;
    check(sealed(0x04, b""), |error| {
        matches!(error, Error::BadMessage(BadMessage::SchemaVersion { found: 0 }))
    })
    .await;
    check(seal(&batch(Mode::Minute, 10, 1)), |error| {
        matches!(error, Error::BadMessage(BadMessage::WrongMode { found: 1 }))
    })
    .await;
}

#[tokio::test]
async fn types_of_later_versions_are_skipped() {
    let server = Server::start().await;
    let (mut ticks, mut peer) = subscribed(&server, 10).await;
    let mut bytes = Vec::new();
    seal_with(&mut bytes, 0x80, |out| out.extend_from_slice(b"from the future"));
    bytes.extend(seal(&batch(Mode::Second, 10, 1)));
    peer.send_bytes(&bytes).await;
    assert_eq!(ticks.sequences().await, [10]);
}

#[tokio::test]
async fn noise_in_valid_frames_ends_in_an_error_and_nothing_worse() {
    for seed in 0..64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let server = Server::start().await;
        let (mut ticks, mut peer) = subscribed(&server, 10).await;
        let mut bytes = Vec::new();
        for _ in 0..random.usize(1..8) {
            let mut payload = vec![0; random.usize(..64)];
            random.fill(&mut payload);
            seal_with(&mut bytes, random.u8(1..=7), |out| out.extend(payload));
        }
        bytes.extend(b"TS\x01\x04");
        bytes.extend_from_slice(&random.u128(..).to_be_bytes());
        peer.send_bytes(&bytes).await;
        drop(peer);
        loop {
            match soon(ticks.next()).await.expect("it ends with an error, not without") {
                Ok(StreamUpdate::Disconnected { .. }) | Err(_) => break,
                Ok(_) => {}
            }
        }
    }
}
