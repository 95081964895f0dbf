//! Heartbeats, dead links, slow applications, and the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use tickstream_client::{Error, Mode, Operation, StreamUpdate};
use tickstream_wire::{
    FrameType, frame,
    messages::{Ack, MsgType, Subscribe},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Events, QUIET, Server, batch, ms, soon, subscribed, subscribed_as};

const LIVELY: Ack = Ack { heartbeat_interval_ms: 20, ..QUIET };

#[tokio::test]
async fn heartbeats_do_not_need_the_application() {
    let server = Server::with_limits(LIVELY).await;
    let (client, mut peer) = tokio::join!(server.client().connect(), async {
        let mut peer = server.accept().await;
        peer.login().await;
        peer
    });
    let client = client.unwrap();
    // Nobody has subscribed yet.
    peer.heartbeat().await;
    peer.heartbeat().await;

    let subscribe = client.subscribe(Mode::Second);
    let accept = async {
        // A heartbeat may have been on its way.
        while let Some((kind, _)) = peer.frame().await {
            if kind == FrameType::Subscribe {
                break;
            }
        }
        peer.send(&peer.ack(MsgType::Subscribe, 10)).await;
    };
    let (ticks, ()) = tokio::join!(subscribe, accept);
    for _ in 0..3 {
        peer.heartbeat().await;
        peer.send_bytes(&frame::heartbeat()).await;
    }
    drop(ticks);
}

#[tokio::test]
async fn a_dead_link_is_left() {
    let server = Server::start().await;
    // The last ACK has the say, so that nothing but the silence after it can be too long.
    let client = async { server.client().connect().await.unwrap().subscribe(Mode::Second).await.unwrap() };
    let (mut ticks, _silent) = tokio::join!(client, async {
        let mut peer = server.accept().await;
        peer.login().await;
        let _: Subscribe = peer.receive().await;
        let ack = peer.ack(MsgType::Subscribe, 10);
        peer.send(&Ack { heartbeat_interval_ms: 20, heartbeat_timeout_ms: 80, ..ack }).await;
        peer
    });
    let (error, _) = ticks.disconnected().await;
    assert!(matches!(error, Error::Timeout { operation: Operation::Heartbeat, after } if after == ms(80)));
    server.accept_subscriber(10).await;
    ticks.reconnected().await;
}

/// Batches so large that the sockets' buffers hold few of them.
const BIG: u64 = 4000;
/// More than any socket buffers hold, some 10 GB: a client that reads on regardless takes it, and fails the test.
const BATCHES_MAX: u64 = 250_000;

#[tokio::test]
async fn a_slow_application_slows_the_server_but_not_the_heartbeats() {
    let server = Server::with_limits(LIVELY).await;
    let (mut ticks, peer) = subscribed_as(&server, server.client().queue(2), 0).await;
    let (mut from_client, mut to_client) = peer.stream.into_split();
    let written = Arc::new(AtomicU64::new(0));
    let enough = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (written, enough) = (written.clone(), enough.clone());
        async move {
            while !enough.load(Relaxed) {
                let first = written.load(Relaxed) * BIG;
                assert!(first < BATCHES_MAX * BIG, "the client reads what nobody takes");
                to_client.write_all(&frame::seal(&batch(Mode::Second, first, BIG))).await.unwrap();
                written.fetch_add(1, Relaxed);
            }
            to_client
        }
    });

    // The server gets no further, yet the heartbeats go on.
    let mut heartbeats_since_progress = 0;
    let mut progress = 0;
    while heartbeats_since_progress < 3 {
        soon(from_client.read_exact(&mut [0; frame::OVERHEAD])).await.unwrap();
        let now = written.load(Relaxed);
        heartbeats_since_progress = if now == progress { heartbeats_since_progress + 1 } else { 0 };
        progress = now;
    }
    enough.store(true, Relaxed);

    // Nothing of it is lost.
    let mut next = 0;
    while !(writer.is_finished() && next == written.load(Relaxed) * BIG) {
        let StreamUpdate::Batch(batch) = ticks.event().await else { panic!("only batches were sent") };
        assert_eq!(batch.first_sequence, next);
        assert!(batch.received_at <= SystemTime::now());
        next += batch.ticks.len() as u64;
        tokio::task::yield_now().await;
    }
    soon(writer).await.unwrap();
}

#[tokio::test]
async fn close_and_drop_both_close_in_good_order() {
    let server = Server::start().await;
    let (ticks, mut peer) = subscribed(&server, 10).await;
    peer.send(&batch(Mode::Second, 10, 1)).await;
    let (_, read) = tokio::join!(ticks.close(), async {
        let read = soon(peer.stream.read(&mut [0; 1])).await;
        drop(peer);
        read
    });
    assert_eq!(read.unwrap(), 0);

    let (ticks, mut peer) = subscribed(&server, 10).await;
    drop(ticks);
    assert_eq!(soon(peer.stream.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn close_does_not_wait_for_a_reconnect() {
    let server = Server::start().await;
    let (mut ticks, peer) = subscribed(&server, 10).await;
    peer.refuse("SERVER_BUSY", 3_000_000).await;
    ticks.disconnected().await;
    soon(ticks.close()).await;
    assert!(server.is_alone().await);
}
