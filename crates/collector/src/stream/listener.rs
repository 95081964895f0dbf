//! A TCP listener, with or without TLS.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
    time,
};
use tokio_rustls::TlsAcceptor;

use super::{StreamConfig, StreamDecoder, connection::Connection};
use crate::{intake::SharedIntake, keys::StreamKeys};

/// A listener that serves.
#[derive(Debug)]
pub struct StreamServer {
    address: SocketAddr,
    drain: watch::Sender<bool>,
    connections: Arc<Semaphore>,
    connections_max: usize,
    accepting: JoinHandle<()>,
}

/// Makes the decoder of a connection.
pub type NewDecoder = Arc<dyn Fn() -> Box<dyn StreamDecoder> + Send + Sync>;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl StreamServer {
    /// Serves on a listening socket.
    ///
    /// # Errors
    /// If the socket has no address.
    pub fn start(
        listener: TcpListener,
        decoder: NewDecoder,
        config: StreamConfig,
        intake: SharedIntake,
        keys: StreamKeys,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (drain, drained) = watch::channel(false);
        let connections = Arc::new(Semaphore::new(config.connections));
        let connections_max = config.connections;
        let new = move |address| Connection {
            decoder: decoder(),
            intake: intake.clone(),
            keys: keys.clone(),
            address,
            config: config.clone(),
            drain: drained.clone(),
            partial_since: None,
            ends_at: None,
            is_half_closed: false,
        };
        let accepting = tokio::spawn(accept(listener, connections.clone(), new));
        Ok(Self { address, drain, connections, connections_max, accepting })
    }

    /// The address that it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, has stored what was read, for `patience` at the most.
    pub async fn drain(self, patience: Duration) {
        self.accepting.abort();
        self.drain.send_replace(true);
        _ = time::timeout(patience, self.connections.acquire_many(self.connections_max as u32)).await;
    }
}

async fn accept(
    listener: TcpListener,
    connections: Arc<Semaphore>,
    new: impl Fn(Option<std::net::IpAddr>) -> Connection + Sync,
) {
    while let Ok(permit) = connections.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let connection = new(Some(peer.ip()));
                tokio::spawn(serve(stream, connection, permit));
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: tokio::net::TcpStream, connection: Connection, _permit: OwnedSemaphorePermit) {
    let Some(tls) = connection.config.tls.clone().map(TlsAcceptor::from) else {
        return connection.serve(stream).await;
    };
    match time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => connection.serve(stream).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS with a client"),
        Err(_) => {}
    }
}
