//! A publisher of whole batches, and servers that come and go.

use tickstream_client::{
    BatchAnswer, BatchPublisher, BatchPublishing, EncodedBatch, PublishEvent, SubmitError,
    events::{Event, Publish, PublishAck},
};
use tickstream_wire::{FrameType, messages::Ack};

use crate::support::{Peer, QUIET, Server, error, ms, soon};

const LIMITS: Ack = Ack { publish_credits: 4, max_publish_size: 100_000, ..QUIET };

fn batch(names: impl IntoIterator<Item = u64>) -> EncodedBatch {
    let mut batch = EncodedBatch::default();
    names.into_iter().for_each(|name| batch.push(&Event { timestamp: name, ..Event::default() }));
    batch
}

async fn accept(server: &Server) -> Peer {
    let mut peer = server.accept().await;
    peer.login().await;
    peer
}

async fn receive(peer: &mut Peer) -> Publish {
    peer.receive_as(FrameType::Publish).await
}

fn ack(publish: &Publish) -> PublishAck {
    PublishAck {
        sequence: publish.sequence,
        accepted: publish.events.len() as u32,
        producer_id: publish.producer_id.clone(),
        ..PublishAck::default()
    }
}

fn start(server: &Server) -> BatchPublisher {
    server.client().backoff(ms(1), ms(5)).batch_publisher(BatchPublishing::default()).unwrap()
}

#[tokio::test]
async fn a_batch_waits_for_its_connection_and_survives_the_loss_of_one() {
    let server = Server::with_limits(LIMITS).await;
    let publisher = start(&server);
    assert!(!publisher.status().is_connected);
    let answer = tokio::spawn(publisher.submit(batch([1, 2, 3])));
    let mut peer = accept(&server).await;
    let first = receive(&mut peer).await;
    assert_eq!(first.events.len(), 3);
    assert_eq!(publisher.status().events_max, 2048);
    drop(peer);
    let mut peer = accept(&server).await;
    let again = receive(&mut peer).await;
    assert_eq!(first, again);
    peer.send_as(FrameType::PublishAck, &PublishAck { accepted: 0, duplicates: 3, ..ack(&again) }).await;
    let answer = soon(answer).await.unwrap().unwrap();
    assert_eq!(answer, BatchAnswer { duplicates: 3, ..BatchAnswer::default() });
}

#[tokio::test]
async fn wrong_credentials_end_nothing() {
    let server = Server::with_limits(LIMITS).await;
    let (events, mut observed) = tokio::sync::mpsc::unbounded_channel();
    let observer = move |event| _ = events.send(event);
    let publishing = BatchPublishing::default().observer(observer);
    let publisher = server.client().backoff(ms(1), ms(5)).batch_publisher(publishing).unwrap();
    let answer = tokio::spawn(publisher.submit(batch([1])));
    let mut peer = server.accept().await;
    peer.frame().await;
    peer.send(&error("AUTH_FAILED", 0)).await;
    drop(peer);
    let mut peer = accept(&server).await;
    let publish = receive(&mut peer).await;
    peer.send_as(FrameType::PublishAck, &ack(&publish)).await;
    assert_eq!(soon(answer).await.unwrap().unwrap().accepted, 1);
    assert!(matches!(observed.recv().await, Some(PublishEvent::Disconnected { .. })));
    assert!(matches!(observed.recv().await, Some(PublishEvent::Reconnected { .. })));
}

#[tokio::test]
async fn closing_waits_for_answers_and_no_longer_than_it_is_told() {
    let server = Server::with_limits(LIMITS).await;
    let publisher = start(&server);
    let mut peer = accept(&server).await;
    let stored = tokio::spawn(publisher.submit(batch([1])));
    let lost = tokio::spawn(publisher.submit(batch([2])));
    let publish = receive(&mut peer).await;
    receive(&mut peer).await;
    let close = tokio::spawn(publisher.clone().close(ms(200)));
    peer.send_as(FrameType::PublishAck, &ack(&publish)).await;
    assert_eq!(soon(stored).await.unwrap().unwrap().accepted, 1);
    drop(peer);
    soon(close).await.unwrap();
    assert_eq!(soon(lost).await.unwrap(), Err(SubmitError::Closed));
    assert_eq!(soon(publisher.submit(batch([3]))).await, Err(SubmitError::Closed));
}

#[tokio::test]
async fn fault_92_and_93_what_is_no_answer_marks_nothing_as_sent() {
    let server = Server::with_limits(LIMITS).await;
    let publisher = start(&server);
    let answer = tokio::spawn(publisher.submit(batch([1, 2])));
    // A portal that answers everybody, a proxy that redirects, one that closes, and a server that has no room for long.
    let portal = &b"HTTP/1.1 200 OK\r\n\r\n<html>"[..];
    for garbage in [portal, b"HTTP/1.1 301 Moved\r\nlocation: /\r\n\r\n", b""] {
        let mut peer = server.accept().await;
        peer.send_bytes(garbage).await;
        peer.finish().await;
    }
    // Another's answer ends the connection, and the batch goes again.
    let mut peer = accept(&server).await;
    let first = receive(&mut peer).await;
    let other = PublishAck { sequence: first.sequence + 7, ..ack(&first) };
    peer.send_as(FrameType::PublishAck, &other).await;
    let mut peer = accept(&server).await;
    assert_eq!(receive(&mut peer).await, first);
    assert!(!answer.is_finished());
    assert_eq!(publisher.status().queued_bytes, batch([1, 2]).byte_len());
    peer.send_as(FrameType::PublishAck, &ack(&first)).await;
    assert_eq!(soon(answer).await.unwrap().unwrap().accepted, 2);
}
