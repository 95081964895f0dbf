//! From `host:port` to a connection that takes frames.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::{self, Instant},
};

use crate::{
    Error, Operation,
    tls::{TlsConfig, TlsStream},
    transport::Transport,
};

/// Addresses of one name that are tried; each gets an equal share of the time, so that one which swallows packets
/// doesn't use it up.
const ADDRESSES_MAX: usize = 4;

/// Connects to `server`; resolving its name and, where there is one, the TLS handshake count into `timeout`.
pub(crate) async fn dial(
    server: &str,
    tls: Option<&TlsConfig>,
    timeout: Duration,
) -> Result<Transport, Error> {
    let deadline = Instant::now() + timeout;
    let late = |operation| Error::Timeout { operation, after: timeout };
    let socket = match time::timeout_at(deadline, attempt(server, timeout)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(source)) => return Err(Error::Connect { server: server.to_owned(), source }),
        Err(_) => return Err(late(Operation::Connect)),
    };
    let Some(tls) = tls else {
        return Ok(Transport::Plain(socket));
    };
    let handshake = TlsStream::handshake(socket, tls, tls.name_of(server)?, server);
    match time::timeout_at(deadline, handshake).await {
        Ok(stream) => Ok(Transport::Tls(Box::new(stream?))),
        Err(_) => Err(late(Operation::Handshake)),
    }
}

async fn attempt(server: &str, timeout: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = lookup_host(server).await?.take(ADDRESSES_MAX).collect();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let shares = addresses.len().max(1) as u32;
    for address in addresses {
        match time::timeout(timeout / shares, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(elapsed) => failure = elapsed.into(),
        }
    }
    Err(failure)
}
