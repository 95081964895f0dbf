//! The listening socket of a shard. What is set on it, accepted sockets inherit, so that an accepted
//! socket needs no options of its own.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::Config;

/// Between keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered probes that end a connection.
const KEEPALIVE_RETRIES: u32 = 3;

/// A socket that listens on `address` beside those of other shards and processes.
///
/// # Errors
/// What the kernel says, most often EADDRINUSE or EACCES.
pub fn bind(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(config.send_buffer.get() as usize)?;
    socket.set_tcp_notsent_lowat(config.unsent_max.get())?;
    socket.set_tcp_user_timeout(config.tcp_user_timeout)?;
    if let Some(idle) = config.tcp_keepalive {
        let keepalive = TcpKeepalive::new()
            .with_time(idle)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(config.listen_backlog.get()).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}
