//! The listening sockets of all shards: opened here, inherited from the process before, or handed over by the service
//! manager.
//!
//! Each shard accepts on sockets of its own (SO_REUSEPORT). They are opened before the first shard starts, so that
//! its private descriptor table has them from the start, and the process keeps a copy of each to hand over to the
//! next (`upgrade`). What waits in the queue of a socket lives as long as one copy does: a socket that is handed
//! over loses nobody.
//!
//! What is set on them, accepted sockets inherit, so that an accepted socket needs no options of its own.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;
use std::{env, io, process};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::config::{Config, ListenAddress};
use crate::ring;

/// Between keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered probes that end a connection.
const KEEPALIVE_RETRIES: u32 = 3;
/// The first descriptor that a service manager passes (sd_listen_fds(3)).
const MANAGER_FD_FIRST: RawFd = 3;
/// Most descriptors that are taken over: two for each of the most shards.
const INHERITED_MAX: usize = 16_384;
/// The variable by which a process hands its sockets to the next: `fd=tls` or `fd=plain`, with commas between.
pub const HANDED_OVER: &str = "TICKSTREAM_LISTENERS";

/// A socket that connections come from.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether TLS is spoken there.
    pub tls: bool,
    /// It is used whatever address is configured: the service manager's.
    any_address: bool,
}

/// The sockets of each shard.
#[derive(Debug)]
pub struct Listeners(Vec<Vec<Listener>>);

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A descriptor that was passed isn't a listening TCP socket.
    #[error("descriptor {fd} of {variable} is no TCP socket that listens: {reason}")]
    Inherited {
        /// The descriptor.
        fd: RawFd,
        /// The variable that names it.
        variable: &'static str,
        /// What it is.
        reason: io::Error,
    },
    /// A variable that can't be read.
    #[error("{variable}={value:?} can't be understood; it is set by whoever starts the server, not by hand")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
}

impl Listeners {
    /// Sockets for every shard and address of `config`: those of `inherited` that fit, and new ones where there are
    /// too few. What isn't needed any more is closed.
    ///
    /// # Errors
    /// If an address can't be listened on.
    pub fn open(config: &Config, mut inherited: Vec<Listener>) -> Result<Self, ListenError> {
        let shards = config.shards.get();
        let mut by_shard: Vec<Vec<Listener>> = std::iter::repeat_with(Vec::new).take(shards).collect();
        for ListenAddress { address, is_tls: tls } in config.listeners() {
            let fits = |listener: &mut Listener| listener.tls == tls && listener.serves(address);
            let mut sockets: Vec<_> = inherited.extract_if(.., fits).collect();
            let shared = sockets.first().is_some_and(|first| !first.reuses_port());
            let mut address = sockets.first().map_or(address, |first| first.address);
            for shard in sockets.len()..shards {
                let socket = if shared {
                    let failed = |source| ListenError::Address { address, source };
                    let fd = sockets[shard % sockets.len()].fd.try_clone().map_err(failed)?;
                    Listener { fd, address, tls, any_address: false }
                } else {
                    // The first learns which port it is, where any was asked for; the others take the same.
                    Listener::bind(address, tls, config)?
                };
                address = socket.address;
                sockets.push(socket);
            }
            for (index, socket) in sockets.into_iter().enumerate() {
                configure(socket.fd.as_fd(), config)
                    .map_err(|source| ListenError::Address { address: socket.address, source })?;
                by_shard[index % shards].push(socket);
            }
        }
        Ok(Self(by_shard))
    }

    /// The addresses at which connections are accepted, each once.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.0[0].iter().fold(Vec::new(), |mut seen, listener| {
            let address = ListenAddress { address: listener.address, is_tls: listener.tls };
            if !seen.contains(&address) {
                seen.push(address);
            }
            seen
        })
    }

    /// One shard's sockets, for its thread, and whether TLS is spoken on each.
    pub fn of_shard(&self, shard: usize) -> Vec<(RawFd, bool)> {
        self.0[shard].iter().map(|listener| (listener.fd.as_raw_fd(), listener.tls)).collect()
    }

    /// All descriptors.
    pub fn descriptors(&self) -> Vec<RawFd> {
        self.all().map(|listener| listener.fd.as_raw_fd()).collect()
    }

    /// What [`HANDED_OVER`] is to be for a process that inherits them.
    pub fn handed_over(&self) -> String {
        let word = |listener: &Listener| {
            format!("{}={}", listener.fd.as_raw_fd(), if listener.tls { "tls" } else { "plain" })
        };
        self.all().map(word).collect::<Vec<_>>().join(",")
    }

    /// Lets programs that are started from now on inherit them, or not.
    ///
    /// # Errors
    /// None that is known.
    pub fn set_inheritable(&self, inheritable: bool) -> io::Result<()> {
        self.all().try_for_each(|listener| SockRef::from(&listener.fd).set_cloexec(!inheritable))
    }

    fn all(&self) -> impl Iterator<Item = &Listener> {
        self.0.iter().flatten()
    }
}

impl Listener {
    fn bind(address: SocketAddr, tls: bool, config: &Config) -> Result<Self, ListenError> {
        let bind = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            socket.listen(i32::try_from(config.settings.listen_backlog.get()).unwrap_or(i32::MAX))?;
            address_of(socket.as_fd()).map(|address| Self {
                fd: socket.into(),
                address,
                tls,
                any_address: false,
            })
        };
        bind().map_err(|source| ListenError::Address { address, source })
    }

    /// Whether it is a socket for `address`, whose port may be 0 for any.
    fn serves(&self, address: SocketAddr) -> bool {
        self.any_address
            || self.address == address
            || address.port() == 0 && self.address.ip() == address.ip()
    }

    fn reuses_port(&self) -> bool {
        SockRef::from(&self.fd).reuse_port().unwrap_or(false)
    }
}

/// The sockets that this process was started with: from the process before it, or from the service manager.
///
/// # Errors
/// If a variable names descriptors that aren't listening sockets.
pub fn inherited(config: &Config) -> Result<Vec<Listener>, ListenError> {
    match env::var(HANDED_OVER) {
        Ok(value) if !value.is_empty() => from_predecessor(&value),
        _ => from_manager(config),
    }
}

fn from_predecessor(value: &str) -> Result<Vec<Listener>, ListenError> {
    let wrong = || ListenError::Variable { variable: HANDED_OVER, value: value.to_owned() };
    let words = value.split(',').map(|word| {
        let (fd, kind) = word.split_once('=').ok_or_else(wrong)?;
        let tls = match kind {
            "tls" => true,
            "plain" => false,
            _ => return Err(wrong()),
        };
        let (fd, address) = take(fd.parse().map_err(|_| wrong())?, HANDED_OVER)?;
        Ok(Listener { fd, address, tls, any_address: false })
    });
    words.collect()
}

/// Socket activation, sd_listen_fds(3). A socket is for TLS if it is named so (FileDescriptorName=tls), or if it is
/// at `listen_tls`; its address counts, not that of `listen`.
fn from_manager(config: &Config) -> Result<Vec<Listener>, ListenError> {
    let variable = "LISTEN_FDS";
    let for_us = env::var("LISTEN_PID").is_ok_and(|pid| pid == process::id().to_string());
    let Ok(value) =
        env::var(variable).map_err(drop).and_then(|value| if for_us { Ok(value) } else { Err(()) })
    else {
        return Ok(Vec::new());
    };
    let count: usize = value
        .parse()
        .ok()
        .filter(|&count| count <= INHERITED_MAX)
        .ok_or(ListenError::Variable { variable, value: value.clone() })?;
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut listeners = Vec::with_capacity(count);
    for fd in MANAGER_FD_FIRST..MANAGER_FD_FIRST + count as RawFd {
        let named_tls = names.next() == Some("tls");
        let (fd, address) = take(fd, variable)?;
        let roles = config.listeners();
        let tls = named_tls
            || roles.contains(&ListenAddress { address, is_tls: true })
            || roles.iter().all(|role| role.is_tls);
        listeners.push(Listener { fd, address, tls, any_address: true });
    }
    Ok(listeners)
}

/// Takes over a descriptor that the process was started with.
fn take(fd: RawFd, variable: &'static str) -> Result<(OwnedFd, SocketAddr), ListenError> {
    let taken = ring::take_descriptor(fd).and_then(|fd| {
        let socket = SockRef::from(&fd);
        if !socket.is_listener()? {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        socket.set_cloexec(true)?;
        let address = address_of(fd.as_fd())?;
        Ok((fd, address))
    });
    taken.map_err(|reason| ListenError::Inherited { fd, variable, reason })
}

fn address_of(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let address = SockRef::from(&fd).local_addr()?;
    address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

/// Sets what accepted sockets inherit.
fn configure(fd: std::os::fd::BorrowedFd<'_>, config: &Config) -> io::Result<()> {
    let socket = SockRef::from(&fd);
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
