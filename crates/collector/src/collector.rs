//! The collector as a whole: listeners, and what they share.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use socket2::SockRef;
use tickstream_client::{Builder, Error};
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    directory,
    files::source::Following,
    handover::{self, HandoverError, Inherited, Socket},
    host::HostTask,
    http::{HttpConfig, HttpServer, Listener},
    intake::{Intake, SharedIntake},
    kernel_drops::SocketInode,
    keys::{Keys, SharedKeys, StreamKeys},
    pipes::Pipe,
    routes::ROUTES,
    scrape::job::Scraping,
    source_config::SourceConfig,
    sources::{
        fluent::{AuthenticatedFluent, FluentStream},
        statsd::StatsdDatagrams,
        syslog::{RelpStream, SyslogDatagrams, SyslogStream},
    },
    spool::Spool,
    stream::{NewDecoder, StreamConfig, StreamDecoder, StreamServer, UdpServer},
    tls::TlsError,
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
    /// Addresses to listen on.
    pub addresses: Addresses,
    /// The keys of senders; `None`: whoever reaches a listener may send.
    pub keys: Option<Keys>,
    /// Name of the key under which protocols send that have no place for one.
    pub stream_key: String,
    /// Senders over Fluent Forward have to prove that they know the secret of a key.
    pub fluent_auth: bool,
    /// Bytes of all requests together.
    pub memory_bytes: usize,
    /// Connections to the servers.
    pub upstream: UpstreamConfig,
    /// Options of the HTTP listeners.
    pub http: HttpConfig,
    /// Options of the TCP listeners beside HTTP.
    pub stream: StreamConfig,
    /// Sources that the collector goes to by itself.
    pub sources: SourceConfig,
    /// Directory of what is kept over restarts, which sources of files need.
    pub state_dir: Option<PathBuf>,
    /// An agent's disk queue: its directory, and its most bytes.
    pub spool: Option<(PathBuf, u64)>,
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
        /// The system's error.
        source: io::Error,
    },
    /// The places in files can't be kept.
    #[error("the places up to which files are taken can't be kept in {}", .dir.display())]
    State {
        /// The directory.
        dir: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The disk queue can't be used.
    #[error("there can be no disk queue in {}", .dir.display())]
    Spool {
        /// The directory.
        dir: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// There is no directory for the places in files.
    #[error("[[source.file]] and [source.journald] need state_dir, the directory where places are kept")]
    NoStateDir,
    /// The authorities of scraped targets can't be used.
    #[error("https of scraped targets can't be set up")]
    Tls(#[from] TlsError),
}

/// A collector that runs.
#[derive(Debug)]
pub struct Collector {
    intake: SharedIntake,
    keys: SharedKeys,
    http: Vec<HttpServer>,
    streams: Vec<StreamServer>,
    datagrams: Vec<UdpServer>,
    following: Option<Following>,
    scraping: Option<Scraping>,
    host: Option<HostTask>,
    pipes: Vec<Pipe>,
    /// Further descriptors of the listening sockets, for a process that takes over.
    sockets: Vec<Socket>,
    /// The part of the configuration that two processes can't share, if there is one.
    exclusive: Option<&'static str>,
    /// The lock of the directory of places.
    state: Option<File>,
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
        let (sources, state_dir) = (config.sources.clone(), config.state_dir.clone());
        let mut collector = Self::listen(config, builder, &mut Inherited::default()).await?;
        collector.start_sources(sources, state_dir)?;
        Ok(collector)
    }

    /// As [`start`](Self::start), on the sockets that were handed over as far as there are, and without the sources that
    /// the collector goes to by itself.
    pub(crate) async fn listen(
        config: CollectorConfig,
        builder: impl FnMut(usize) -> Builder,
        inherited: &mut Inherited,
    ) -> Result<Self, StartError> {
        let exclusive = match &config {
            CollectorConfig { spool: Some(_), .. } => Some("the disk queue"),
            CollectorConfig { sources: SourceConfig { stdin: Some(_), .. }, .. } => {
                Some("the standard input")
            }
            _ => None,
        };
        let upstream = Arc::new(Upstream::start(config.upstream, builder)?);
        let spool = config.spool.map(|(dir, bytes_max)| {
            let opened = Spool::open(&dir, bytes_max, upstream.clone());
            opened.map_err(|source| StartError::Spool { dir, source })
        });
        let rules = config.sources.rules.clone();
        let intake = Arc::new(Intake::new(upstream, spool.transpose()?, config.memory_bytes, rules));
        let keys: SharedKeys = Arc::new(RwLock::new(config.keys.map(Arc::new)));
        let stream_keys = StreamKeys::new(keys.clone(), &config.stream_key);
        let mut collector = Self {
            intake,
            keys,
            http: Vec::new(),
            streams: Vec::new(),
            datagrams: Vec::new(),
            state: None,
            following: None,
            scraping: None,
            host: None,
            pipes: Vec::new(),
            sockets: Vec::new(),
            exclusive,
        };
        let streams = streams(&config.addresses, config.fluent_auth, &collector.keys);
        let addresses = config.addresses;
        let http = [
            (Listener::Http, addresses.http),
            (Listener::OtlpGrpc, addresses.otlp_grpc),
            (Listener::OtlpHttp, addresses.otlp_http),
        ];
        for (kind, addresses) in http {
            for address in addresses {
                let listener = collector.tcp(kind.option(), address, inherited).await?;
                collector.serve_http(listener, address, kind, config.http.clone())?;
            }
        }
        for (option, decoder, addresses) in streams {
            for address in addresses {
                let listener = collector.tcp(option, address, inherited).await?;
                let (config, keys) = (config.stream.clone(), stream_keys.clone());
                collector.serve_stream(listener, address, decoder.clone(), config, keys)?;
            }
        }
        for address in addresses.syslog_udp {
            let socket = collector.udp("syslog-udp", address, inherited).await?;
            collector.serve_udp(socket, address, Box::new(SyslogDatagrams), stream_keys.clone())?;
        }
        for address in addresses.statsd {
            let socket = collector.udp("statsd", address, inherited).await?;
            collector.serve_udp(socket, address, Box::new(StatsdDatagrams), stream_keys.clone())?;
        }
        Ok(collector)
    }

    /// Starts the sources that the collector goes to by itself.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) fn start_sources(
        &mut self,
        sources: SourceConfig,
        state_dir: Option<PathBuf>,
    ) -> Result<(), StartError> {
        let SourceConfig { files, jobs, host, stdin, journald, .. } = sources;
        if journald.is_some() || !files.is_empty() {
            let dir = state_dir.clone().ok_or(StartError::NoStateDir)?;
            let lock = directory::lock(&dir, "state.lock");
            self.state = Some(lock.map_err(|source| StartError::State { dir, source })?);
        }
        self.pipes.extend(stdin.map(|lines| Pipe::stdin(lines, self.intake.clone())));
        if let Some(config) = journald {
            let dir = state_dir.clone().ok_or(StartError::NoStateDir)?;
            self.pipes.push(Pipe::journald(config, &dir, self.intake.clone()));
        }
        if !files.is_empty() {
            let dir = state_dir.ok_or(StartError::NoStateDir)?;
            let following = Following::start(files, &dir, &self.intake);
            self.following = Some(following.map_err(|source| StartError::State { dir, source })?);
        }
        if !jobs.is_empty() {
            self.scraping = Some(Scraping::start(jobs, &self.intake)?);
        }
        self.host = host.map(|metrics| HostTask::start(metrics, self.intake.clone()));
        Ok(())
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

    /// Starts the program again with the listening sockets, and waits until it serves; this collector is to be drained
    /// then. What is given has to live until it is.
    ///
    /// # Errors
    /// [`HandoverError`]: this collector goes on.
    pub(crate) fn hand_over(&self) -> Result<UnixStream, HandoverError> {
        self.exclusive
            .map_or_else(|| handover::hand_over(&self.sockets), |what| Err(HandoverError::Exclusive(what)))
    }

    /// Takes no more, lets what was taken come to its answer, for `patience` at the most, and ends.
    pub async fn drain(self, patience: Duration) {
        let Self { intake, http, streams, datagrams, following, scraping, host, pipes, sockets, .. } = self;
        // Or the system would go on to take connections.
        drop(sockets);
        let draining: Vec<_> = [
            following.into_iter().map(|files| tokio::spawn(files.drain(patience))).collect::<Vec<_>>(),
            scraping.into_iter().map(|jobs| tokio::spawn(jobs.drain(patience))).collect(),
            host.into_iter().map(|task| tokio::spawn(task.drain(patience))).collect(),
            pipes.into_iter().map(|pipe| tokio::spawn(pipe.drain(patience))).collect(),
            http.into_iter().map(|server| tokio::spawn(server.drain(patience))).collect(),
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

    /// A listening TCP socket, which is kept for a process that takes over.
    async fn tcp(
        &mut self,
        option: &str,
        address: SocketAddr,
        inherited: &mut Inherited,
    ) -> Result<TcpListener, StartError> {
        let failed = |source| StartError::Listen { address, source };
        let listener = match inherited.take(option, address) {
            Some(descriptor) => TcpListener::from_std(descriptor.into()),
            None => TcpListener::bind(address).await,
        };
        let listener = listener.map_err(failed)?;
        self.sockets.push(Socket::new(option, address, listener.as_fd()).map_err(failed)?);
        Ok(listener)
    }

    /// A bound UDP socket, which is kept for a process that takes over.
    async fn udp(
        &mut self,
        option: &str,
        address: SocketAddr,
        inherited: &mut Inherited,
    ) -> Result<UdpSocket, StartError> {
        let failed = |source| StartError::Listen { address, source };
        let socket = match inherited.take(option, address) {
            Some(descriptor) => UdpSocket::from_std(descriptor.into()),
            None => UdpSocket::bind(address).await,
        };
        let socket = socket.map_err(failed)?;
        // As much as the system allows.
        _ = SockRef::from(&socket).set_recv_buffer_size(UDP_BUFFER_BYTES);
        self.sockets.push(Socket::new(option, address, socket.as_fd()).map_err(failed)?);
        Ok(socket)
    }

    fn serve_http(
        &mut self,
        listener: TcpListener,
        address: SocketAddr,
        kind: Listener,
        config: HttpConfig,
    ) -> Result<(), StartError> {
        let (intake, keys) = (self.intake.clone(), self.keys.clone());
        let server = HttpServer::start(listener, (ROUTES, kind), config, intake, keys);
        self.http.push(server.map_err(|source| StartError::Listen { address, source })?);
        Ok(())
    }

    fn serve_stream(
        &mut self,
        listener: TcpListener,
        address: SocketAddr,
        decoder: NewDecoder,
        config: StreamConfig,
        keys: StreamKeys,
    ) -> Result<(), StartError> {
        let server = StreamServer::start(listener, decoder, config, self.intake.clone(), keys);
        self.streams.push(server.map_err(|source| StartError::Listen { address, source })?);
        Ok(())
    }

    fn serve_udp(
        &mut self,
        socket: UdpSocket,
        address: SocketAddr,
        decoder: Box<dyn crate::stream::DatagramDecoder>,
        keys: StreamKeys,
    ) -> Result<(), StartError> {
        let inode = SocketInode::of(&socket).map_err(|source| StartError::Listen { address, source })?;
        self.intake.metrics.watch_socket(decoder.name(), inode);
        let server = UdpServer::start(socket, decoder, self.intake.clone(), keys);
        self.datagrams.push(server.map_err(|source| StartError::Listen { address, source })?);
        Ok(())
    }
}

/// Streams: the option, the decoder of each connection, and the addresses.
fn streams(
    addresses: &Addresses,
    fluent_auth: bool,
    keys: &SharedKeys,
) -> [(&'static str, NewDecoder, Vec<SocketAddr>); 3] {
    let keys = keys.clone();
    let fluent = match fluent_auth {
        true => new_decoder(move || AuthenticatedFluent::new(keys.clone())),
        false => new_decoder(FluentStream::default),
    };
    [
        ("syslog-tcp", new_decoder(|| SyslogStream), addresses.syslog_tcp.clone()),
        ("relp", new_decoder(RelpStream::default), addresses.relp.clone()),
        ("fluent", fluent, addresses.fluent.clone()),
    ]
}

fn new_decoder<D: StreamDecoder + 'static>(new: impl Fn() -> D + Send + Sync + 'static) -> NewDecoder {
    Arc::new(move || -> Box<dyn StreamDecoder> { Box::new(new()) })
}
