//! A server that keeps what it is sent in memory, and answers as it is told.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tickstream_client::{
    Client,
    events::{Event, Publish, PublishAck, Rejected},
};
use tickstream_collector::{
    Addresses, Collector, CollectorConfig,
    http::{ConnectionLimits, HttpConfig, RequestLimits},
    keys::Keys,
    source_config::SourceConfig,
    stream::StreamConfig,
    upstream::UpstreamConfig,
};
use tickstream_wire::{
    Decoder, FrameType,
    frame::{self, HEADER_LEN, OVERHEAD},
    messages::{Ack, Message, MsgType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The next answers of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Everything is stored.
    Store,
    /// The last event of each batch gets this verdict.
    Reject(&'static str, bool),
    /// The last event of the first batch gets this verdict.
    RejectOnce(&'static str),
    /// Everything is stored, and the connection closed in place of the answer.
    StoreAndHangUp,
    /// Nothing is answered.
    Silence,
}

#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    answer: Mutex<Answer>,
    events: Mutex<Vec<Event>>,
    ids: Mutex<HashSet<Vec<u8>>>,
    is_down: AtomicBool,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            answer: Mutex::new(Answer::Store),
            events: Mutex::default(),
            ids: Mutex::default(),
            is_down: AtomicBool::new(false),
        });
        let server = Self { address, state };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if !accepting.state.is_down.load(Ordering::Relaxed) {
                    tokio::spawn(accepting.clone().serve(stream));
                }
            }
        });
        server
    }

    pub fn answer(&self, answer: Answer) {
        *self.state.answer.lock().unwrap() = answer;
    }

    /// Takes no connections; those that there are end with their next PUBLISH.
    pub fn set_down(&self, is_down: bool) {
        self.state.is_down.store(is_down, Ordering::Relaxed);
    }

    /// Stored events, in their order.
    pub fn events(&self) -> Vec<Event> {
        self.state.events.lock().unwrap().clone()
    }

    /// Waits until so many events are stored.
    pub async fn wait_for(&self, count: usize) -> Vec<Event> {
        for _ in 0..2000 {
            let events = self.events();
            if events.len() >= count {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} of {count} events", self.events().len());
    }

    async fn serve(self, mut stream: TcpStream) -> Option<()> {
        loop {
            let mut bytes = vec![0; HEADER_LEN];
            stream.read_exact(&mut bytes).await.ok()?;
            let length = u32::from_be_bytes(bytes[4..].try_into().unwrap()) as usize;
            bytes.resize(length + OVERHEAD, 0);
            stream.read_exact(&mut bytes[HEADER_LEN..]).await.ok()?;
            let mut decoder = Decoder::new();
            let frame = decoder.next(&mut &bytes[..], u32::MAX).unwrap().unwrap();
            let answer = match FrameType::from_byte(frame.kind).unwrap() {
                FrameType::Auth => frame::seal(&Ack {
                    acked_type: MsgType::Auth.into(),
                    heartbeat_interval_ms: 60_000,
                    heartbeat_timeout_ms: 120_000,
                    max_msg_size: 65_536,
                    publish_credits: 8,
                    max_publish_size: 524_288,
                    ..Ack::default()
                }),
                FrameType::Publish => {
                    let ack = self.publish(&Publish::decode(frame.payload).unwrap())?;
                    frame::seal_as(FrameType::PublishAck, &ack)
                }
                _ => continue,
            };
            stream.write_all(&answer).await.ok()?;
        }
    }

    fn publish(&self, publish: &Publish) -> Option<PublishAck> {
        let answer = *self.state.answer.lock().unwrap();
        if answer == Answer::Silence || self.state.is_down.load(Ordering::Relaxed) {
            return None;
        }
        let answer = match answer {
            Answer::RejectOnce(code) => {
                *self.state.answer.lock().unwrap() = Answer::Store;
                Answer::Reject(code, false)
            }
            answer => answer,
        };
        let mut ack = PublishAck {
            sequence: publish.sequence,
            producer_id: publish.producer_id.clone(),
            ..PublishAck::default()
        };
        let last = publish.events.len() - 1;
        for (index, event) in publish.events.iter().enumerate() {
            if let Answer::Reject(code, retryable) = answer
                && index == last
            {
                let (code, message) = (code.to_owned(), "as the test wants it".to_owned());
                ack.rejected.push(Rejected { index: index as u32, code, message, retryable });
                ack.throttle_ms = if retryable { 1100 } else { 0 };
            } else if self.state.ids.lock().unwrap().insert(event.event_id.clone()) {
                self.state.events.lock().unwrap().push(event.clone());
                ack.accepted += 1;
            } else {
                ack.duplicates += 1;
            }
        }
        (answer != Answer::StoreAndHangUp).then_some(ack)
    }
}

/// A collector with each listener once, in front of a server.
pub struct Fixture {
    pub server: Server,
    pub collector: Collector,
    pub http: SocketAddr,
    pub otlp_grpc: SocketAddr,
    pub otlp_http: SocketAddr,
    pub syslog_tcp: SocketAddr,
    pub relp: SocketAddr,
    pub fluent: SocketAddr,
    pub syslog_udp: SocketAddr,
    pub statsd: SocketAddr,
}

pub const KEYS: &str = r#"
[key.web]
secret = "public-key"
public = true
origins = ["https://shop.example"]

[key.backend]
secret = "secret-key"

[key.small]
secret = "small-key"
events_per_second = 1
burst_events = 10
"#;

pub fn config(keys: Option<&str>) -> CollectorConfig {
    let any: Vec<SocketAddr> = vec!["127.0.0.1:0".parse().unwrap()];
    CollectorConfig {
        addresses: Addresses {
            http: any.clone(),
            otlp_grpc: any.clone(),
            otlp_http: any.clone(),
            syslog_tcp: any.clone(),
            syslog_udp: any.clone(),
            relp: any.clone(),
            fluent: any.clone(),
            statsd: any,
        },
        keys: keys.map(|text| Keys::parse(text, "keys.toml").unwrap()),
        stream_key: "backend".to_owned(),
        fluent_auth: false,
        memory_bytes: 64 << 20,
        upstream: UpstreamConfig {
            connections: 2,
            queue_bytes: 16 << 20,
            answer_timeout: Duration::from_millis(1500),
        },
        http: HttpConfig {
            connections: 1000,
            connection: ConnectionLimits {
                idle_timeout: Duration::from_secs(2),
                head_bytes: 16 * 1024,
                streams: 100,
            },
            request: RequestLimits {
                body_bytes: 1 << 20,
                content_bytes: 2 << 20,
                events: 5000,
                body_timeout: Duration::from_secs(2),
            },
            ..HttpConfig::default()
        },
        sources: SourceConfig::default(),
        state_dir: None,
        spool: None,
        stream: StreamConfig { message_timeout: Duration::from_secs(2), ..StreamConfig::default() },
    }
}

impl Fixture {
    pub async fn start(keys: Option<&str>) -> Self {
        Self::with(config(keys)).await
    }

    pub async fn with(config: CollectorConfig) -> Self {
        let server = Server::start().await;
        let address = server.address.to_string();
        let builder = move |_| {
            let (min, max) = (Duration::from_millis(5), Duration::from_millis(50));
            Client::builder(address.clone()).credentials("collector", "secret").backoff(min, max)
        };
        let collector = Collector::start(config, builder).await.unwrap();
        let addresses = collector.addresses();
        let [http, otlp_grpc, otlp_http, syslog_tcp, relp, fluent, syslog_udp, statsd] = addresses[..] else {
            panic!("{addresses:?}")
        };
        let fixture = Self {
            server,
            collector,
            http,
            otlp_grpc,
            otlp_http,
            syslog_tcp,
            relp,
            fluent,
            syslog_udp,
            statsd,
        };
        while !fixture.collector.intake().is_ready() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fixture
    }
}
