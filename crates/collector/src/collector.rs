//! The collector as a whole: listeners, and what they share.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use socket2::SockRef;
use tickstream_client::{Builder, Error};
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    http::{HttpConfig, HttpServer, Listener, SharedKeys},
    intake::{Intake, SharedIntake},
    keys::{Key, Keys},
    sources::{
        fluent::FluentStream,
        statsd::StatsdDatagrams,
        syslog::{RelpStream, SyslogDatagrams, SyslogStream},
    },
    stream::{NewDecoder, StreamConfig, StreamServer, UdpServer},
    upstream::{Upstream, UpstreamConfig},
};

/// Addresses to listen at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Own API, Segment, PostHog, Prometheus, Elasticsearch.
    pub http: Vec<SocketAddr>,
    /// OTLP over gRPC.
    pub otlp_grpc: Vec<SocketAddr>,
    /// OTLP over HTTP.
    pub otlp_http: Vec<SocketAddr>,
    /// Syslog over TCP.
    pub syslog_tcp: Vec<SocketAddr>,
    /// Syslog over UDP.
    pub syslog_udp: Vec<SocketAddr>,
    /// Syslog over RELP.
    pub relp: Vec<SocketAddr>,
    /// Fluent Forward.
    pub fluent: Vec<SocketAddr>,
    /// StatsD.
    pub statsd: Vec<SocketAddr>,
}

/// Options of a collector.
#[derive(Clone, Debug)]
pub struct CollectorConfig {
    /// Where to listen.
    pub addresses: Addresses,
    /// The keys of senders; `None`: whoever reaches a listener may send.
    pub keys: Option<Keys>,
    /// Name of the key under which protocols send that have no place for one.
    pub stream_key: String,
    /// Bytes of all requests together.
    pub memory_bytes: usize,
    /// Connections to the servers.
    pub upstream: UpstreamConfig,
    /// Options of the HTTP listeners.
    pub http: HttpConfig,
    /// Options of the TCP listeners beside HTTP.
    pub stream: StreamConfig,
}

/// Why a collector can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The connections to the servers can't be as they are set.
    #[error("the connections to the servers can't be set up")]
    Upstream(#[from] Error),
    /// An address can't be listened at.
    #[error("can't listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The key of the protocols without keys isn't in the file.
    #[error(
        "there is no [key.{0}] in the file of keys, which syslog, RELP, Fluent and StatsD would send under"
    )]
    StreamKey(String),
}

/// A collector that runs.
#[derive(Debug)]
pub struct Collector {
    intake: SharedIntake,
    keys: SharedKeys,
    http: Vec<HttpServer>,
    streams: Vec<StreamServer>,
    datagrams: Vec<UdpServer>,
}

/// A socket's buffer for datagrams that come while the collector is busy, bytes.
const UDP_BUFFER_BYTES: usize = 8 << 20;

impl Collector {
    /// Starts to listen, and to connect to the servers. `builder` makes a client for the connection with this index.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        config: CollectorConfig,
        builder: impl FnMut(usize) -> Builder,
    ) -> Result<Self, StartError> {
        let stream_key = stream_key(&config)?;
        let upstream = Upstream::start(config.upstream, builder)?;
        let intake = Arc::new(Intake::new(upstream, config.memory_bytes));
        let keys = Arc::new(RwLock::new(config.keys.map(Arc::new)));
        let mut collector =
            Self { intake, keys, http: Vec::new(), streams: Vec::new(), datagrams: Vec::new() };
        let addresses = config.addresses;
        let http = [
            (Listener::Http, addresses.http),
            (Listener::OtlpGrpc, addresses.otlp_grpc),
            (Listener::OtlpHttp, addresses.otlp_http),
        ];
        for (kind, addresses) in http {
            for address in addresses {
                collector.listen_http(address, kind, config.http.clone()).await?;
            }
        }
        let streams: [(NewDecoder, _); 3] = [
            (|| Box::new(SyslogStream), addresses.syslog_tcp),
            (|| Box::new(RelpStream::default()), addresses.relp),
            (|| Box::new(FluentStream::default()), addresses.fluent),
        ];
        for (decoder, addresses) in streams {
            for address in addresses {
                collector.listen_stream(address, decoder, config.stream.clone(), stream_key.clone()).await?;
            }
        }
        for address in addresses.syslog_udp {
            collector.listen_udp(address, Box::new(SyslogDatagrams), stream_key.clone()).await?;
        }
        for address in addresses.statsd {
            collector.listen_udp(address, Box::new(StatsdDatagrams), stream_key.clone()).await?;
        }
        Ok(collector)
    }

    /// The intake, for health and metrics.
    pub fn intake(&self) -> &SharedIntake {
        &self.intake
    }

    /// The addresses of the HTTP listeners, in the order of the options, then those of the streams, then of datagrams.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let http = self.http.iter().map(HttpServer::address);
        let streams = self.streams.iter().map(StreamServer::address);
        http.chain(streams).chain(self.datagrams.iter().map(UdpServer::address)).collect()
    }

    /// Replaces the keys: for requests from now on.
    pub fn set_keys(&self, keys: Option<Keys>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.map(Arc::new);
    }

    /// Takes no more, lets what was taken come to its answer, for `patience` at the most, and ends.
    pub async fn drain(self, patience: Duration) {
        let Self { intake, http, streams, datagrams, .. } = self;
        let draining: Vec<_> = [
            http.into_iter().map(|server| tokio::spawn(server.drain(patience))).collect::<Vec<_>>(),
            streams.into_iter().map(|server| tokio::spawn(server.drain(patience))).collect(),
            datagrams.into_iter().map(|server| tokio::spawn(server.drain(patience))).collect(),
        ]
        .into_iter()
        .flatten()
        .collect();
        for drained in draining {
            // A panic of the task has been told by the runtime.
            _ = drained.await;
        }
        intake.drain();
        intake.close(patience).await;
    }

    async fn listen_http(
        &mut self,
        address: SocketAddr,
        kind: Listener,
        config: HttpConfig,
    ) -> Result<(), StartError> {
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let server = HttpServer::start(listener, kind, config, self.intake.clone(), self.keys.clone());
        self.http.push(server.map_err(failed)?);
        Ok(())
    }

    async fn listen_stream(
        &mut self,
        address: SocketAddr,
        decoder: NewDecoder,
        config: StreamConfig,
        key: Arc<Key>,
    ) -> Result<(), StartError> {
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let server = StreamServer::start(listener, decoder, config, self.intake.clone(), key);
        self.streams.push(server.map_err(failed)?);
        Ok(())
    }

    async fn listen_udp(
        &mut self,
        address: SocketAddr,
        decoder: Box<dyn crate::stream::DatagramDecoder>,
        key: Arc<Key>,
    ) -> Result<(), StartError> {
        let failed = |source| StartError::Listen { address, source };
        let socket = UdpSocket::bind(address).await.map_err(failed)?;
        // As much as the system allows.
        _ = SockRef::from(&socket).set_recv_buffer_size(UDP_BUFFER_BYTES);
        let server = UdpServer::start(socket, decoder, self.intake.clone(), key).map_err(failed)?;
        self.datagrams.push(server);
        Ok(())
    }
}

fn stream_key(config: &CollectorConfig) -> Result<Arc<Key>, StartError> {
    let name = &config.stream_key;
    let Addresses { syslog_tcp, syslog_udp, relp, fluent, statsd, .. } = &config.addresses;
    let has_streams =
        [syslog_tcp, syslog_udp, relp, fluent, statsd].iter().any(|addresses| !addresses.is_empty());
    match &config.keys {
        Some(keys) if has_streams => {
            keys.named(name).cloned().ok_or_else(|| StartError::StreamKey(name.clone()))
        }
        _ => Ok(Arc::new(Key::unrestricted(name))),
    }
}
