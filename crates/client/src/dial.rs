//! From `host:port` to a TCP connection.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time,
};

use crate::{Error, Operation};

/// Addresses of one name that are tried; each gets an equal share of the time, so that one which swallows packets
/// doesn't use it up.
const ADDRESSES_MAX: usize = 4;

/// Connects to `server`; resolving its name counts into `timeout`.
pub(crate) async fn dial(server: &str, timeout: Duration) -> Result<TcpStream, Error> {
    match time::timeout(timeout, attempt(server, timeout)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(Error::Connect { server: server.to_owned(), source }),
        Err(_) => Err(Error::Timeout { operation: Operation::Connect, after: timeout }),
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
