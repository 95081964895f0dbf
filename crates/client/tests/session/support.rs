//! A server that a test plays by hand, frame by frame.

use std::time::Duration;

use tickstream_client::{Builder, Client, Error, Mode, StreamUpdate, Subscription};
use tickstream_wire::{
    Decoder, FrameType,
    frame::{self, HEADER_LEN, OVERHEAD},
    messages::{Ack, Auth, DataBatch, ErrorMsg, GoAway, Message, MsgType, Payload, Subscribe, Tick},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Longest wait of a test: mostly milliseconds, but longer on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(20);

/// Limits with which nothing happens by itself.
pub const QUIET: Ack = Ack {
    acked_type: 0,
    heartbeat_interval_ms: 60_000,
    heartbeat_timeout_ms: 120_000,
    max_msg_size: 65_536,
    batch_window_ms: 5,
    next_sequence: 0,
    server_time_ms: 0,
    publish_credits: 0,
    max_publish_size: 0,
};

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it should have happened by now")
}

pub struct Server {
    listener: TcpListener,
    limits: Ack,
}

impl Server {
    pub async fn start() -> Self {
        Self::with_limits(QUIET).await
    }

    /// A server whose ACKs carry `limits`.
    pub async fn with_limits(limits: Ack) -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), limits }
    }

    /// From now on, ACKs carry `limits`.
    pub fn set_limits(&mut self, limits: Ack) {
        self.limits = limits;
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// A client of this server that doesn't wait long.
    pub fn client(&self) -> Builder {
        Client::builder(self.address()).credentials("alice", "secret").backoff(ms(1), ms(4))
    }

    pub async fn accept(&self) -> Peer {
        let (stream, _) = soon(self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream, limits: self.limits }
    }

    /// Accepts a client, its credentials, and its subscription.
    pub async fn accept_subscriber(&self, next_sequence: u64) -> (Peer, Subscribe) {
        let mut peer = self.accept().await;
        peer.login().await;
        let request = peer.subscription(next_sequence).await;
        (peer, request)
    }

    /// True if nobody has connected.
    pub async fn is_alone(&self) -> bool {
        timeout(ms(20), self.listener.accept()).await.is_err()
    }
}

/// The server's end of one connection.
pub struct Peer<S = TcpStream> {
    pub stream: S,
    pub limits: Ack,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// The next frame; `None` when the client has closed.
    pub async fn frame(&mut self) -> Option<(FrameType, Vec<u8>)> {
        let mut bytes = vec![0; HEADER_LEN];
        soon(self.stream.read_exact(&mut bytes)).await.ok()?;
        let length = u32::from_be_bytes(bytes[4..].try_into().unwrap()) as usize;
        bytes.resize(length + OVERHEAD, 0);
        soon(self.stream.read_exact(&mut bytes[HEADER_LEN..])).await.ok()?;
        let mut decoder = Decoder::new();
        let frame = decoder.next(&mut &bytes[..], u32::MAX).unwrap().unwrap();
        Some((FrameType::from_byte(frame.kind).unwrap(), frame.payload.to_vec()))
    }

    pub async fn receive<M: Payload>(&mut self) -> M {
        self.receive_as(M::TYPE).await
    }

    pub async fn receive_as<M: Message + Default>(&mut self, expected: FrameType) -> M {
        let (kind, payload) = self.frame().await.expect("the client has closed");
        assert_eq!(kind, expected);
        M::decode(&payload[..]).unwrap()
    }

    pub async fn heartbeat(&mut self) {
        assert_eq!(self.frame().await, Some((FrameType::Heartbeat, Vec::new())));
    }

    pub async fn send<M: Payload>(&mut self, message: &M) {
        self.send_bytes(&frame::seal(message)).await;
    }

    pub async fn send_as<M: Message>(&mut self, kind: FrameType, message: &M) {
        self.send_bytes(&frame::seal_as(kind, message)).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
    }

    /// Sends an ERROR and closes.
    pub async fn refuse(mut self, code: &str, retry_after_ms: u32) {
        self.send(&error(code, retry_after_ms)).await;
        self.finish().await;
    }

    /// Closes for writing, then takes what the client still sends.
    pub async fn finish(mut self) {
        soon(self.stream.shutdown()).await.unwrap();
        // A reset is an end as well.
        _ = soon(self.stream.read_to_end(&mut Vec::new())).await;
    }

    pub fn ack(&self, acked: MsgType, next_sequence: u64) -> Ack {
        Ack { acked_type: acked.into(), next_sequence, ..self.limits }
    }

    pub async fn login(&mut self) {
        let auth: Auth = self.receive().await;
        assert_eq!((&auth.username[..], &auth.password[..]), ("alice", "secret"));
        self.send(&self.ack(MsgType::Auth, 0)).await;
    }

    pub async fn subscription(&mut self, next_sequence: u64) -> Subscribe {
        let request = self.receive().await;
        self.send(&self.ack(MsgType::Subscribe, next_sequence)).await;
        request
    }
}

pub fn error(code: &str, retry_after_ms: u32) -> ErrorMsg {
    ErrorMsg { code: code.into(), message: "as the test wants it".into(), retry_after_ms }
}

pub fn go_away(retry_after_ms: u32) -> GoAway {
    GoAway { reason: "maintenance".into(), retry_after_ms }
}

/// A batch of `ticks` ticks.
pub fn batch(mode: Mode, first_sequence: u64, ticks: u64) -> DataBatch {
    let tick = |sequence| Tick { mode: mode.into(), epoch_ms: sequence * 1000 };
    let ticks = (first_sequence..first_sequence + ticks).map(tick).collect();
    DataBatch { schema_version: 1, ticks, first_sequence }
}

/// A client and its peer at `server`, subscribed to seconds that start at `next_sequence`.
pub async fn subscribed(server: &Server, next_sequence: u64) -> (Subscription, Peer) {
    subscribed_as(server, server.client(), next_sequence).await
}

pub async fn subscribed_as(server: &Server, builder: Builder, next_sequence: u64) -> (Subscription, Peer) {
    let client = async { builder.connect().await.unwrap().subscribe(Mode::Second).await.unwrap() };
    let (ticks, (peer, request)) = tokio::join!(client, server.accept_subscriber(next_sequence));
    assert_eq!((request.mode(), request.resume_after), (Mode::Second, None));
    (ticks, peer)
}

/// Connects, and subscribes if that works; what a server makes of it that `play`s its part.
pub async fn failure(builder: Builder, play: impl Future<Output = ()>) -> Error {
    let client = async { builder.connect().await?.subscribe(Mode::Second).await };
    let (result, ()) = tokio::join!(client, play);
    result.map(drop).expect_err("it should have failed")
}

/// Requests of a test to an event stream.
pub trait Events {
    async fn event(&mut self) -> StreamUpdate;
    async fn sequences(&mut self) -> Vec<u64>;
    async fn disconnected(&mut self) -> (Error, Duration);
    async fn reconnected(&mut self) -> String;
    async fn end(&mut self) -> Error;
}

impl Events for Subscription {
    async fn event(&mut self) -> StreamUpdate {
        soon(self.next()).await.expect("the subscription goes on").expect("without an error")
    }

    /// The sequences of the next event, a batch.
    async fn sequences(&mut self) -> Vec<u64> {
        match self.event().await {
            StreamUpdate::Batch(batch) => {
                assert_eq!(batch.first_sequence, batch.ticks[0].sequence);
                assert!(batch.ticks.iter().all(|tick| tick.epoch_ms == tick.sequence * 1000));
                batch.ticks.iter().map(|tick| tick.sequence).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    async fn disconnected(&mut self) -> (Error, Duration) {
        match self.event().await {
            StreamUpdate::Disconnected { error, retry_in } => (error, retry_in),
            other => panic!("{other:?}"),
        }
    }

    async fn reconnected(&mut self) -> String {
        match self.event().await {
            StreamUpdate::Reconnected { server, .. } => server,
            other => panic!("{other:?}"),
        }
    }

    /// The error that ends the subscription; nothing may come before or after.
    async fn end(&mut self) -> Error {
        let error = soon(self.next()).await.expect("an error is told").expect_err("it should have failed");
        assert!(soon(self.next()).await.is_none());
        error
    }
}
