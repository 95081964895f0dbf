//! A publisher and servers that don't make it easy.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tickstream_client::{
    Error, ErrorCode, PublishError, PublishEvent, Publisher, Publishing,
    events::{Event, Message, Publish, PublishAck, Rejected},
};
use tickstream_wire::{
    FrameType,
    frame::{seal, seal_as},
    messages::Ack,
};
use tokio::time::{Instant, timeout};

use crate::support::{Peer, QUIET, Server, error, go_away, ms, soon};

const LIMITS: Ack = Ack { publish_credits: 4, max_publish_size: 100_000, ..QUIET };
/// Long enough never to be the cause of anything.
const LINGER: Duration = Duration::from_secs(3600);

/// Events that the observer was told.
#[derive(Clone, Default)]
struct Observed(Arc<Mutex<Vec<PublishEvent>>>);

impl Observed {
    fn publishing(&self) -> Publishing {
        let observed = self.0.clone();
        let observer = move |event| observed.lock().unwrap().push(event);
        Publishing::default().batch_events(2).linger(LINGER).observer(observer)
    }

    fn take(&self) -> Vec<PublishEvent> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Waits until something is told that `is`.
    async fn find(&self, is: impl Fn(&PublishEvent) -> bool) -> PublishEvent {
        soon(async {
            loop {
                let found = {
                    let observed = &mut self.0.lock().unwrap();
                    observed.iter().position(&is).map(|place| observed.remove(place))
                };
                match found {
                    Some(found) => return found,
                    None => tokio::time::sleep(ms(1)).await,
                }
            }
        })
        .await
    }
}

fn event(name: u64) -> Event {
    Event { timestamp: name, ..Event::default() }
}

async fn publish(publisher: &Publisher, names: impl IntoIterator<Item = u64>) {
    for name in names {
        soon(publisher.publish_tagged(&event(name), name)).await.unwrap();
    }
}

async fn server() -> Server {
    Server::with_limits(LIMITS).await
}

async fn accept(server: &Server) -> Peer {
    let mut peer = server.accept().await;
    peer.login().await;
    peer
}

async fn publishing(server: &Server, publishing: Publishing) -> (Publisher, Peer) {
    let (publisher, peer) = tokio::join!(server.client().publisher(publishing), accept(server));
    (publisher.unwrap(), peer)
}

/// Sequence and names of the next batch.
async fn batch(peer: &mut Peer) -> (u64, Vec<u64>) {
    let (sequence, names, _) = batch_of(peer).await;
    (sequence, names)
}

async fn batch_of(peer: &mut Peer) -> (u64, Vec<u64>, Vec<u8>) {
    let publish: Publish = peer.receive_as(FrameType::Publish).await;
    (publish.sequence, publish.events.iter().map(|event| event.timestamp).collect(), publish.producer_id)
}

fn ack(producer: &[u8], sequence: u64, accepted: u32) -> PublishAck {
    PublishAck { sequence, accepted, producer_id: producer.to_vec(), ..PublishAck::default() }
}

fn rejection(index: u32, code: &str, retryable: bool) -> Rejected {
    Rejected { index, code: code.into(), message: "as the test wants it".into(), retryable }
}

/// True if nothing comes.
async fn is_quiet(peer: &mut Peer) -> bool {
    timeout(ms(30), peer.frame()).await.is_err()
}

#[tokio::test]
async fn batches_go_out_within_the_credits_and_a_flush_waits_for_their_answers() {
    let server = server().await;
    let observed = Observed::default();
    let (publisher, mut peer) = publishing(&server, observed.publishing()).await;
    publish(&publisher, 1..=11).await;
    let mut batches = Vec::new();
    for _ in 0..4 {
        batches.push(batch_of(&mut peer).await);
    }
    assert_eq!(batches.iter().map(|(sequence, ..)| *sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let producer = &batches[0].2;
    assert!(producer.len() == 16 && batches.iter().all(|(.., id)| id == producer), "{batches:?}");
    assert!(is_quiet(&mut peer).await, "four are on the way");
    peer.send_as(FrameType::PublishAck, &ack(producer, 2, 2)).await;
    assert_eq!(batch(&mut peer).await, (5, vec![9, 10]));

    let flush = async {
        soon(publisher.flush()).await.unwrap();
        Instant::now()
    };
    let serve = async {
        for sequence in [1, 3, 4, 5] {
            peer.send_as(FrameType::PublishAck, &ack(producer, sequence, 2)).await;
        }
        assert_eq!(batch(&mut peer).await, (6, vec![11]), "a flush waits for no company");
        assert!(is_quiet(&mut peer).await);
        let last = Instant::now();
        peer.send_as(FrameType::PublishAck, &PublishAck { duplicates: 1, ..ack(producer, 6, 0) }).await;
        last
    };
    let (flushed, last) = tokio::join!(flush, serve);
    assert!(flushed >= last);
    let progress = publisher.progress();
    assert_eq!((progress.accepted, progress.duplicates, progress.unanswered), (10, 1, 0));
    let acknowledged = observed.take().into_iter().map(|event| match event {
        PublishEvent::Acknowledged { sequence, .. } => sequence,
        other => panic!("{other:?}"),
    });
    assert_eq!(acknowledged.collect::<Vec<_>>(), [2, 1, 3, 4, 5, 6]);
    assert_eq!(soon(publisher.close(ms(1000))).await, []);
    assert_eq!(peer.frame().await, None);
}

#[tokio::test]
async fn an_event_does_not_wait_longer_than_it_should() {
    let server = server().await;
    let (publisher, mut peer) = publishing(&server, Observed::default().publishing().linger(ms(50))).await;
    let published = Instant::now();
    publish(&publisher, [1]).await;
    assert_eq!(batch(&mut peer).await, (1, vec![1]));
    assert!(published.elapsed() >= ms(50));
}

#[tokio::test]
async fn what_a_cut_left_unanswered_goes_again_under_the_same_numbers() {
    let (a, b) = (server().await, server().await);
    let observed = Observed::default();
    let builder = a.client().server(b.address());
    let (publisher, mut peer) = tokio::join!(builder.publisher(observed.publishing()), accept(&a));
    let publisher = publisher.unwrap();
    publish(&publisher, 1..=6).await;
    let first = batch_of(&mut peer).await;
    let producer = &first.2;
    let (second, third) = (batch_of(&mut peer).await, batch_of(&mut peer).await);
    peer.send_as(FrameType::PublishAck, &ack(producer, 1, 2)).await;
    observed.find(|event| matches!(event, PublishEvent::Acknowledged { .. })).await;
    drop(peer);
    publish(&publisher, 7..=8).await;

    let mut peer = accept(&b).await;
    assert_eq!(batch_of(&mut peer).await, second);
    assert_eq!(batch_of(&mut peer).await, third);
    assert_eq!(batch(&mut peer).await, (4, vec![7, 8]));
    let again = observed.find(|event| matches!(event, PublishEvent::Reconnected { .. })).await;
    assert!(matches!(again, PublishEvent::Reconnected { resent: 2..=3, server } if server == b.address()));
}

#[tokio::test]
async fn final_verdicts_are_told_and_others_tried_again() {
    let server = server().await;
    let observed = Observed::default();
    let (publisher, mut peer) = publishing(&server, observed.publishing().batch_events(3)).await;
    publish(&publisher, 1..=3).await;
    let (sequence, _, producer) = batch_of(&mut peer).await;
    let rejected = vec![rejection(0, "FIELD_MISSING", false), rejection(2, "STORAGE_FULL", true)];
    peer.send_as(FrameType::PublishAck, &PublishAck { rejected, ..ack(&producer, sequence, 1) }).await;
    let PublishEvent::Rejected(rejection) =
        observed.find(|event| matches!(event, PublishEvent::Rejected(_))).await
    else {
        panic!();
    };
    assert_eq!((rejection.tag, &*rejection.code, rejection.event), (1, "FIELD_MISSING", event(1)));
    let again = observed.find(|event| matches!(event, PublishEvent::Retrying { .. })).await;
    assert!(matches!(again, PublishEvent::Retrying { events: 1, code, .. } if code == "STORAGE_FULL"));

    let serve = async {
        assert_eq!(batch(&mut peer).await, (2, vec![3]));
        peer.send_as(FrameType::PublishAck, &ack(&producer, 2, 1)).await;
    };
    let (flushed, ()) = tokio::join!(soon(publisher.flush()), serve);
    flushed.unwrap();
    let progress = publisher.progress();
    assert_eq!((progress.accepted, progress.rejected, progress.retried), (2, 1, 1));
}

#[tokio::test]
async fn a_throttle_is_honoured() {
    let server = server().await;
    let (publisher, mut peer) = publishing(&server, Observed::default().publishing()).await;
    publish(&publisher, 1..=2).await;
    let (sequence, _, producer) = batch_of(&mut peer).await;
    let sent = Instant::now();
    peer.send_as(FrameType::PublishAck, &PublishAck { throttle_ms: 150, ..ack(&producer, sequence, 2) })
        .await;
    tokio::time::sleep(ms(20)).await;
    publish(&publisher, 3..=4).await;
    assert_eq!(batch(&mut peer).await, (2, vec![3, 4]));
    assert!(sent.elapsed() >= ms(150));
}

#[tokio::test]
async fn a_full_queue_refuses_or_waits() {
    let server = server().await;
    let (publisher, mut peer) = publishing(&server, Observed::default().publishing().queue(2, 1 << 20)).await;
    publish(&publisher, 1..=2).await;
    let full = publisher.try_publish(&event(3), 3);
    assert!(matches!(full, Err(PublishError::Full { events: 2, .. })), "{full:?}");
    let (sequence, _, producer) = batch_of(&mut peer).await;
    assert!(timeout(ms(30), publisher.publish(&event(3))).await.is_err());
    let (third, answer) = (event(3), ack(&producer, sequence, 2));
    let (published, ()) =
        tokio::join!(soon(publisher.publish(&third)), peer.send_as(FrameType::PublishAck, &answer));
    published.unwrap();
    publisher.try_publish(&event(4), 4).unwrap();
    assert_eq!(batch(&mut peer).await, (2, vec![3, 4]));
}

#[tokio::test]
async fn an_event_larger_than_a_batch_is_refused() {
    let server = Server::with_limits(Ack { max_publish_size: 2000, ..LIMITS }).await;
    let (publisher, _peer) = publishing(&server, Publishing::default()).await;
    let large = Event { event_name: "x".repeat(2000), ..Event::default() };
    let refused = publisher.publish(&large).await;
    assert!(matches!(refused, Err(PublishError::TooLarge { bytes: 2003, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_close_says_what_has_no_answer() {
    let server = server().await;
    let (publisher, mut peer) = publishing(&server, Observed::default().publishing()).await;
    publish(&publisher, 1..=3).await;
    let clone = publisher.clone();
    let serve = async {
        let (sequence, _, producer) = batch_of(&mut peer).await;
        assert_eq!(batch(&mut peer).await, (2, vec![3]), "a close waits for no company");
        peer.send_as(FrameType::PublishAck, &ack(&producer, sequence, 2)).await;
        // The connection ends, since the answer to the second takes too long.
        assert_eq!(peer.frame().await, None);
    };
    let (left, ()) = tokio::join!(soon(publisher.close(ms(100))), serve);
    let left: Vec<_> = left.into_iter().map(|left| (left.tag, left.was_sent)).collect();
    assert_eq!(left, [(3, true)]);
    assert!(matches!(clone.publish(&event(4)).await, Err(PublishError::Closed)));
}

#[tokio::test]
async fn a_close_without_a_server_gives_everything_back() {
    let server = server().await;
    let observed = Observed::default();
    let (publisher, peer) = publishing(&server, observed.publishing()).await;
    drop((peer, server));
    observed.find(|event| matches!(event, PublishEvent::Disconnected { .. })).await;
    publish(&publisher, 1..=3).await;
    let left = soon(publisher.close(ms(50))).await;
    assert_eq!(
        left.iter().map(|left| (left.tag, left.was_sent)).collect::<Vec<_>>(),
        [(1, false), (2, false), (3, false)]
    );
}

#[tokio::test]
async fn dropped_it_closes_its_connection() {
    let server = server().await;
    let (publisher, mut peer) = publishing(&server, Publishing::default()).await;
    let clone = publisher.clone();
    drop(publisher);
    assert!(is_quiet(&mut peer).await);
    drop(clone);
    assert_eq!(peer.frame().await, None);
}

#[tokio::test]
async fn a_server_without_event_collection_is_named() {
    let (off, on) = (Server::start().await, server().await);
    let (failed, _) = tokio::join!(off.client().publisher(Publishing::default()), accept(&off));
    let failed = failed.unwrap_err();
    assert!(matches!(&failed, Error::CollectionOff { server } if *server == off.address()), "{failed:?}");
    assert!(!failed.is_retryable());

    let builder = off.client().server(on.address());
    let (publisher, _, _) = tokio::join!(builder.publisher(Publishing::default()), accept(&off), accept(&on));
    publisher.unwrap();
}

#[tokio::test]
async fn collection_that_is_switched_off_for_a_while_loses_nothing() {
    let mut server = server().await;
    let observed = Observed::default();
    let (publisher, peer) = publishing(&server, observed.publishing()).await;
    publish(&publisher, 1..=2).await;
    drop(peer);
    server.set_limits(QUIET);
    accept(&server).await;
    let off = |event: &PublishEvent| {
        matches!(event, PublishEvent::Disconnected { error: Error::CollectionOff { .. }, .. })
    };
    observed.find(off).await;
    server.set_limits(LIMITS);
    assert_eq!(batch(&mut accept(&server).await).await, (1, vec![1, 2]));
}

#[tokio::test]
async fn go_away_is_followed_when_answers_have_come() {
    let (a, b) = (server().await, server().await);
    let observed = Observed::default();
    let builder = a.client().server(b.address());
    let (publisher, mut peer) = tokio::join!(builder.publisher(observed.publishing()), accept(&a));
    let publisher = publisher.unwrap();
    publish(&publisher, 1..=2).await;
    let (sequence, _, producer) = batch_of(&mut peer).await;
    peer.send(&go_away(10_000)).await;
    observed.find(|event| matches!(event, PublishEvent::GoAway { .. })).await;
    publish(&publisher, 3..=4).await;
    assert!(is_quiet(&mut peer).await, "nothing more goes to who wants to end");
    peer.send_as(FrameType::PublishAck, &ack(&producer, sequence, 2)).await;
    assert_eq!(peer.frame().await, None, "it leaves as soon as nothing is owed");
    let left = observed.find(|event| matches!(event, PublishEvent::Disconnected { .. })).await;
    assert!(matches!(left, PublishEvent::Disconnected { error: Error::GoAway { .. }, .. }));
    assert_eq!(publisher.progress().accepted, 2);
}

#[tokio::test]
async fn an_error_that_no_reconnect_cures_ends_it() {
    let server = server().await;
    let observed = Observed::default();
    let (publisher, mut peer) = publishing(&server, observed.publishing()).await;
    publish(&publisher, 1..=3).await;
    batch(&mut peer).await;
    peer.send(&error("PROTOCOL_VIOLATION", 0)).await;
    observed.find(|event| matches!(event, PublishEvent::Ended { .. })).await;
    let flushed = soon(publisher.flush()).await;
    let Err(PublishError::Ended(error)) = flushed else { panic!("{flushed:?}") };
    assert!(matches!(&*error, Error::Refused { code: ErrorCode::ProtocolViolation, .. }), "{error:?}");
    assert!(matches!(publisher.publish(&event(4)).await, Err(PublishError::Ended(_))));
    let left = soon(publisher.close(LINGER)).await;
    assert_eq!(
        left.iter().map(|left| (left.tag, left.was_sent)).collect::<Vec<_>>(),
        [(1, true), (2, true), (3, false)]
    );
}

#[tokio::test]
async fn wrong_credentials_after_a_cut_end_it() {
    let server = server().await;
    let (publisher, peer) = publishing(&server, Publishing::default()).await;
    drop(peer);
    publish(&publisher, [1]).await;
    server.accept().await.refuse("AUTH_FAILED", 0).await;
    assert!(matches!(soon(publisher.flush()).await, Err(PublishError::Ended(_))));
}

#[tokio::test]
async fn answers_that_fit_no_batch_end_it() {
    for wrong in [ack(&[9; 16], 1, 2), ack(&[9; 16], 2, 2)] {
        let server = server().await;
        let observed = Observed::default();
        let (publisher, mut peer) = publishing(&server, observed.publishing()).await;
        // Also where nothing was published.
        if wrong.sequence == 1 {
            publish(&publisher, 1..=2).await;
            batch(&mut peer).await;
        }
        peer.send_as(FrameType::PublishAck, &wrong).await;
        peer.finish().await;
        let ended = observed.find(|event| matches!(event, PublishEvent::Ended { .. })).await;
        let PublishEvent::Ended { error } = ended else { panic!() };
        assert!(matches!(&*error, Error::BadMessage(_)), "{error:?}");
        assert!(matches!(publisher.publish(&event(3)).await, Err(PublishError::Ended(_))));
    }
}

#[tokio::test]
async fn heartbeats_go_on_while_answers_are_awaited() {
    let limits = Ack { heartbeat_interval_ms: 20, heartbeat_timeout_ms: 2000, ..LIMITS };
    let server = Server::with_limits(limits).await;
    let (publisher, mut peer) = publishing(&server, Observed::default().publishing()).await;
    publish(&publisher, 1..=2).await;
    let mut kinds = Vec::new();
    while kinds.len() < 5 {
        let (kind, _) = peer.frame().await.unwrap();
        if kind == FrameType::Heartbeat {
            peer.send_bytes(&tickstream_wire::frame::heartbeat()).await;
        }
        kinds.push(kind);
    }
    assert_eq!(kinds.iter().filter(|kind| **kind == FrameType::Publish).count(), 1);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let limits = Ack { heartbeat_interval_ms: 20, heartbeat_timeout_ms: 60, ..LIMITS };
    let server = Server::with_limits(limits).await;
    let (publisher, mut peer) = publishing(&server, Observed::default().publishing()).await;
    publish(&publisher, 1..=2).await;
    let first = batch(&mut peer).await;
    assert_eq!(batch(&mut accept(&server).await).await, first);
}

#[tokio::test]
async fn batches_come_through_whole_however_large() {
    let limits = Ack { max_publish_size: 500_000, publish_credits: 64, ..LIMITS };
    let server = Server::with_limits(limits).await;
    let settings = Publishing::default().batch_events(1000).batch_bytes(400_000).linger(LINGER);
    let (publisher, mut peer) = publishing(&server, settings).await;
    let large = |name| Event { event_name: "x".repeat(50_000), ..event(name) };
    for name in 1..=100 {
        publisher.publish(&large(name)).await.unwrap();
    }
    let flush = async { soon(publisher.flush()).await.unwrap() };
    let serve = async {
        let (mut names, mut batches) = (Vec::new(), 0);
        while names.len() < 100 {
            let (kind, payload) = peer.frame().await.unwrap();
            assert!(kind == FrameType::Publish && payload.len() <= 400_000, "{kind:?} {}", payload.len());
            let publish: Publish = Message::decode(&payload[..]).unwrap();
            names.extend(publish.events.iter().map(|event| event.timestamp));
            batches += 1;
            peer.send_as(
                FrameType::PublishAck,
                &ack(&publish.producer_id, publish.sequence, publish.events.len() as u32),
            )
            .await;
        }
        assert_eq!(names, (1..=100).collect::<Vec<_>>());
        assert_eq!(batches, 100_usize.div_ceil(7));
    };
    tokio::join!(flush, serve);
}

#[tokio::test]
async fn answers_that_come_with_the_reason_for_the_end_count() {
    let server = server().await;
    let observed = Observed::default();
    let (publisher, mut peer) = publishing(&server, observed.publishing()).await;
    publish(&publisher, 1..=2).await;
    let (sequence, _, producer) = batch_of(&mut peer).await;
    peer.send_bytes(
        &[seal_as(FrameType::PublishAck, &ack(&producer, sequence, 2)), seal(&error("SHUTTING_DOWN", 0))]
            .concat(),
    )
    .await;
    soon(publisher.flush()).await.unwrap();
    observed.find(|event| matches!(event, PublishEvent::Disconnected { .. })).await;
}

#[tokio::test]
async fn an_observer_that_panics_leaves_nobody_waiting() {
    let server = server().await;
    let settings = Observed::default().publishing().observer(|_| panic!("as the test wants it"));
    let (publisher, mut peer) = publishing(&server, settings).await;
    publish(&publisher, 1..=2).await;
    let (sequence, _, producer) = batch_of(&mut peer).await;
    publish(&publisher, [3]).await;
    peer.send_as(FrameType::PublishAck, &ack(&producer, sequence, 2)).await;
    assert!(matches!(soon(publisher.flush()).await, Err(PublishError::Closed)));
    assert_eq!(soon(publisher.close(LINGER)).await.len(), 1);
}

#[tokio::test]
async fn a_disk_queue_outlives_its_publisher() {
    let server = server().await;
    let dir = tempfile::tempdir().unwrap();
    let settings = || Observed::default().publishing().disk_queue(dir.path(), 4 << 20);
    let (publisher, mut peer) = publishing(&server, settings()).await;
    publish(&publisher, 1..=5).await;
    let first = batch_of(&mut peer).await;
    let second = batch_of(&mut peer).await;
    let rejected = vec![rejection(1, "STORAGE_FULL", true)];
    peer.send_as(FrameType::PublishAck, &PublishAck { rejected, throttle_ms: 60_000, ..ack(&first.2, 1, 1) })
        .await;
    soon(async {
        while publisher.progress().accepted == 0 {
            tokio::time::sleep(ms(1)).await;
        }
    })
    .await;
    let busy = server.client().publisher(settings()).await.unwrap_err();
    assert!(matches!(busy, Error::DiskQueue { .. }), "{busy:?}");
    drop(publisher);
    assert_eq!(peer.frame().await, None);
    drop(peer);

    // Its task lets go of the directory when its connection is closed.
    tokio::time::sleep(ms(100)).await;
    let (publisher, mut peer) = publishing(&server, settings()).await;
    let waiting = publisher.flush();
    tokio::pin!(waiting);
    assert!(timeout(ms(1), &mut waiting).await.is_err());
    assert_eq!(batch_of(&mut peer).await, second);
    let (sequence, names, producer) = batch_of(&mut peer).await;
    assert_eq!((names, producer), (vec![2, 5], second.2));
    assert!(sequence > 1 << 32);
}
