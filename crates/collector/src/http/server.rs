//! A listener and its connections.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time,
};
use tokio_rustls::{TlsAcceptor, rustls};

use super::{
    Listener, Route,
    connection::{self, Builder, ConnectionLimits},
    exchange::{Exchange, RequestLimits},
    plain,
};
use crate::{
    intake::SharedIntake,
    keys::{Key, SharedKeys},
    networks::Network,
};

/// Options of a listener.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Most connections; beyond, new ones wait.
    pub connections: usize,
    /// Bounds of connections.
    pub connection: ConnectionLimits,
    /// Bounds of requests.
    pub request: RequestLimits,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted: Arc<[Network]>,
    /// TLS, where it is on.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connection: ConnectionLimits {
                idle_timeout: Duration::from_secs(60),
                head_bytes: 16 * 1024,
                streams: 100,
            },
            request: RequestLimits {
                body_bytes: 4 << 20,
                content_bytes: 16 << 20,
                events: 50_000,
                body_timeout: Duration::from_secs(15),
            },
            trusted: Arc::new([]),
            tls: None,
        }
    }
}

/// A listener that serves.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    drain: watch::Sender<bool>,
    connections: Arc<Semaphore>,
    connections_max: usize,
    accepting: JoinHandle<()>,
}

/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause where the system has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl HttpServer {
    /// Serves those of the routes on a listening socket that are for this kind of listener.
    ///
    /// # Errors
    /// If the socket has no address.
    pub fn start(
        listener: TcpListener,
        (routes, kind): (&'static [Route], Listener),
        config: HttpConfig,
        intake: SharedIntake,
        keys: SharedKeys,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (drain, drained) = watch::channel(false);
        let connections = Arc::new(Semaphore::new(config.connections));
        let connections_max = config.connections;
        let (limits, trusted) = (config.request, config.trusted.clone());
        let any_key = Arc::new(Key::unrestricted("any"));
        let exchange = Arc::new(Exchange { routes, listener: kind, intake, keys, limits, trusted, any_key });
        let accepting = tokio::spawn(accept(listener, config, exchange, connections.clone(), drained));
        Ok(Self { address, drain, connections, connections_max, accepting })
    }

    /// The address that it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, lets requests end, for `patience` at the most.
    pub async fn drain(self, patience: Duration) {
        self.drain.send_replace(true);
        self.accepting.abort();
        let all = self.connections.acquire_many(self.connections_max as u32);
        _ = time::timeout(patience, all).await;
    }
}

async fn accept(
    listener: TcpListener,
    config: HttpConfig,
    exchange: Arc<Exchange>,
    connections: Arc<Semaphore>,
    drained: watch::Receiver<bool>,
) {
    let builder = Arc::new(Builder {
        any: connection::any(config.connection),
        http1: plain::builder(config.connection),
        limits: config.connection,
    });
    let tls = config.tls.map(TlsAcceptor::from);
    while let Ok(permit) = connections.clone().acquire_owned().await {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (exchange, builder, tls, drained) =
            (exchange.clone(), builder.clone(), tls.clone(), drained.clone());
        tokio::spawn(async move {
            let _permit = permit;
            // Answers are small and complete: nothing is gained by waiting for more.
            _ = stream.set_nodelay(true);
            let address = peer.ip();
            match tls {
                None => plain::serve(stream, address, exchange, &builder, drained).await,
                // In a box, or each connection without TLS would have room for it.
                Some(tls) => Box::pin(encrypted(tls, stream, address, exchange, builder, drained)).await,
            }
        });
    }
}

async fn encrypted(
    tls: TlsAcceptor,
    stream: TcpStream,
    address: IpAddr,
    exchange: Arc<Exchange>,
    builder: Arc<Builder>,
    drained: watch::Receiver<bool>,
) {
    if let Some(stream) = handshake(&tls, stream).await {
        connection::serve(stream, address, exchange, &builder, drained).await;
    }
}

async fn handshake(
    tls: &TlsAcceptor,
    stream: TcpStream,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    match time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no TLS with a client");
            None
        }
        Err(_) => None,
    }
}
