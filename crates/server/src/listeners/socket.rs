//! One listening socket: bound, shared between shards, and its options.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::ListenError;
use crate::config::Config;
use crate::ring;

/// Between keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered probes that end a connection.
const KEEPALIVE_RETRIES: u32 = 3;

/// A socket that connections come from.
#[derive(Debug)]
pub struct Listener {
    pub(super) fd: OwnedFd,
    /// Address that it listens on.
    pub address: SocketAddr,
    /// True if it speaks TLS.
    pub tls: bool,
    /// True if it is used whatever address is configured: passed by the service manager, or made beside one of those.
    pub(super) is_passed: bool,
}

impl Listener {
    /// The first socket of an address. Unless it is shared, nobody else listens there: the kernel looks, since this socket
    /// takes no other beside it as yet.
    pub(super) fn bind(
        address: SocketAddr,
        tls: bool,
        is_shared: bool,
        backlog: i32,
    ) -> Result<Self, ListenError> {
        let bind = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(is_shared)?;
            socket.bind(&address.into())?;
            socket.listen(backlog)?;
            address_of(socket.as_fd()).map(|address| Self {
                fd: socket.into(),
                address,
                tls,
                is_passed: false,
            })
        };
        let is_held = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
        ring::once_released(bind, is_held).map_err(|source| match is_held(&source) {
            true => ListenError::InUse { address },
            false => ListenError::Address { address, source },
        })
    }

    /// One more socket of the same address, for another shard.
    pub(super) fn sibling(&self, backlog: i32) -> Result<Self, ListenError> {
        let bind = || {
            self.share()?;
            let domain = Domain::for_address(self.address);
            let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            if domain == Domain::IPV6 {
                socket.set_only_v6(SockRef::from(&self.fd).only_v6()?)?;
            }
            socket.bind(&self.address.into())?;
            socket.listen(backlog)?;
            Ok(Self { fd: socket.into(), address: self.address, tls: self.tls, is_passed: self.is_passed })
        };
        match bind() {
            Ok(sibling) => Ok(sibling),
            // Whoever passed it may do what this process may not, such as to use a port below 1,024.
            Err(_) if self.is_passed => self.duplicate(),
            Err(source) => Err(ListenError::Address { address: self.address, source }),
        }
    }

    /// The same socket again, for another shard.
    pub(super) fn duplicate(&self) -> Result<Self, ListenError> {
        let fd = self.fd.try_clone();
        let fd = fd.map_err(|source| ListenError::Address { address: self.address, source })?;
        Ok(Self { fd, address: self.address, tls: self.tls, is_passed: self.is_passed })
    }

    /// True if a further socket of its address gets its share of connections: the first of `sockets` says so for all. One that
    /// was passed with options of its own is shared as it is.
    pub(super) fn may_have_siblings(&self, sockets: &[Self]) -> bool {
        let socket = SockRef::from(&self.fd);
        let is_plain = || {
            matches!(socket.device(), Ok(None))
                && matches!(socket.protocol(), Ok(Some(Protocol::TCP)))
                && sockets.iter().all(|other| other.address == self.address)
        };
        !self.is_passed || socket.reuse_port().unwrap_or(false) && is_plain()
    }

    /// Lets other sockets of this user listen on the same address from now on.
    pub(super) fn share(&self) -> io::Result<()> {
        SockRef::from(&self.fd).set_reuse_port(true)
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// True if it is a socket for `address`, whose port may be 0 for any.
    pub(super) fn serves(&self, address: SocketAddr) -> bool {
        self.is_passed || self.address == address || address.port() == 0 && self.address.ip() == address.ip()
    }

    /// Sets the options that accepted sockets inherit, so that those need none of their own.
    pub(super) fn configure(&self, config: &Config) -> io::Result<()> {
        let socket = SockRef::from(&self.fd);
        socket.set_tcp_nodelay(true)?;
        socket.set_send_buffer_size(config.settings.send_buffer.get() as usize)?;
        socket.set_tcp_notsent_lowat(config.settings.unsent_max.get())?;
        socket.set_tcp_user_timeout(config.settings.tcp_user_timeout)?;
        if let Some(idle) = config.settings.tcp_keepalive {
            let keepalive = TcpKeepalive::new()
                .with_time(idle)
                .with_interval(KEEPALIVE_INTERVAL)
                .with_retries(KEEPALIVE_RETRIES);
            socket.set_tcp_keepalive(&keepalive)?;
        }
        Ok(())
    }

    /// Lets programs that are started from now on inherit it, or not.
    pub(super) fn set_inheritable(&self, inheritable: bool) -> io::Result<()> {
        SockRef::from(&self.fd).set_cloexec(!inheritable)
    }
}

/// Connections that may wait in a socket's queue.
pub(super) fn backlog(config: &Config) -> i32 {
    i32::try_from(config.settings.listen_backlog.get()).unwrap_or(i32::MAX)
}

/// The address that a socket is bound to.
pub(super) fn address_of(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let address = SockRef::from(&fd).local_addr()?;
    address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}
