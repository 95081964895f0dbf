//! The listening sockets of all shards: opened here, inherited from the process before, or handed over by the service
//! manager.
//!
//! Each shard accepts on sockets of its own (SO_REUSEPORT), and no other process on the same address unless `listen_shared`
//! says so. They are opened before the first shard starts, so that
//! its private descriptor table has them from the start, and the process keeps a copy of each to hand over to the
//! next (`upgrade`). What waits in the queue of a socket lives as long as one copy does: a socket that is handed
//! over loses nobody.
//!
//! What is set on them, accepted sockets inherit, so that an accepted socket needs no options of its own.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};
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
/// The variable that names those of them that the service manager passed: descriptors, with commas between.
pub const PASSED: &str = "TICKSTREAM_LISTENERS_PASSED";

/// A socket that connections come from.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    /// Address that it listens on.
    pub address: SocketAddr,
    /// True if it speaks TLS.
    pub tls: bool,
    /// True if it is used whatever address is configured: passed by the service manager, or made beside one of those.
    is_passed: bool,
}

/// The sockets of each shard.
#[derive(Debug)]
pub struct Listeners(Vec<Vec<Listener>>);

/// Longest wait for the sockets of a process that was killed: 6 to 160 ms were seen.
const IN_USE_PATIENCE: Duration = Duration::from_secs(1);
/// Wait between two attempts.
const IN_USE_INTERVAL: Duration = Duration::from_millis(20);

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
    /// Another process listens there.
    #[error(
        "can't listen on {address}: another process does; stop it, replace it with `upgrade`, or set listen_shared = \"yes\" \
         for both, if they are to share the address"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// A descriptor that was passed isn't a listening TCP socket.
    #[error("descriptor {fd} of {variable} is no TCP socket that listens: {reason}")]
    Inherited {
        /// The descriptor.
        fd: RawFd,
        /// The variable that names it.
        variable: &'static str,
        /// The problem with it.
        reason: io::Error,
    },
    /// A socket of the service manager for which the settings have no use. Clients would wait in its queue for ever.
    #[error(
        "the service manager has passed a socket at {address} {}, and the settings have none such: change listen_tls or tls_cert, or \
         remove it from the socket unit",
        if *.tls { "for TLS" } else { "for plain TCP" }
    )]
    Unused {
        /// Its address.
        address: SocketAddr,
        /// True if it is for TLS.
        tls: bool,
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
        // Those of the process before, which still has them: a new address may overlap with theirs.
        let before: Vec<_> =
            inherited.iter().filter(|listener| !listener.is_passed).map(Listener::port).collect();
        for listener in inherited.iter().filter(|listener| !listener.is_passed) {
            listener.share().map_err(|source| ListenError::Address { address: listener.address, source })?;
        }
        let mut by_shard: Vec<Vec<Listener>> = std::iter::repeat_with(Vec::new).take(shards).collect();
        for ListenAddress { address, is_tls: tls } in config.listeners() {
            let fits = |listener: &mut Listener| listener.tls == tls && listener.serves(address);
            let mut sockets: Vec<_> = inherited.extract_if(.., fits).collect();
            for shard in sockets.len()..shards {
                let socket = match sockets.first() {
                    None => {
                        let is_shared = config.settings.listen_shared || before.contains(&address.port());
                        Listener::bind(address, tls, is_shared, backlog(config))?
                    }
                    // Each shard has a socket of its own where that can be, and else they share.
                    Some(first) if first.may_have_siblings(&sockets) => first.sibling(backlog(config))?,
                    Some(_) => sockets[shard % sockets.len()].duplicate()?,
                };
                sockets.push(socket);
            }
            for (index, socket) in sockets.into_iter().enumerate() {
                configure(socket.fd.as_fd(), config)
                    .map_err(|source| ListenError::Address { address: socket.address, source })?;
                by_shard[index % shards].push(socket);
            }
        }
        match inherited.iter().find(|listener| listener.is_passed) {
            Some(&Listener { address, tls, .. }) => Err(ListenError::Unused { address, tls }),
            None => Ok(Self(by_shard)),
        }
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

    /// Value of [`HANDED_OVER`] for a process that inherits them.
    pub fn handed_over(&self) -> String {
        let word = |listener: &Listener| {
            format!("{}={}", listener.fd.as_raw_fd(), if listener.tls { "tls" } else { "plain" })
        };
        self.all().map(word).collect::<Vec<_>>().join(",")
    }

    /// Value of [`PASSED`] for a process that inherits them.
    pub fn passed(&self) -> String {
        let passed = self.all().filter(|listener| listener.is_passed);
        passed.map(|listener| listener.fd.as_raw_fd().to_string()).collect::<Vec<_>>().join(",")
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
    /// The first socket of an address. Unless it is shared, nobody else listens there: the kernel looks, since this socket
    /// takes no other beside it as yet.
    fn bind(address: SocketAddr, tls: bool, is_shared: bool, backlog: i32) -> Result<Self, ListenError> {
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
        // The kernel keeps the sockets of a process that was killed for some time.
        let began = Instant::now();
        loop {
            match bind() {
                Ok(listener) => return Ok(listener),
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < IN_USE_PATIENCE =>
                {
                    std::thread::sleep(IN_USE_INTERVAL);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(ListenError::InUse { address });
                }
                Err(source) => return Err(ListenError::Address { address, source }),
            }
        }
    }

    /// One more socket of the same address, for another shard.
    fn sibling(&self, backlog: i32) -> Result<Self, ListenError> {
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
    fn duplicate(&self) -> Result<Self, ListenError> {
        let fd = self.fd.try_clone();
        let fd = fd.map_err(|source| ListenError::Address { address: self.address, source })?;
        Ok(Self { fd, address: self.address, tls: self.tls, is_passed: self.is_passed })
    }

    /// True if a further socket of its address gets its share of connections: the first of `sockets` says so for all. One that
    /// was passed with options of its own is shared as it is.
    fn may_have_siblings(&self, sockets: &[Self]) -> bool {
        let socket = SockRef::from(&self.fd);
        let is_plain = || {
            matches!(socket.device(), Ok(None))
                && matches!(socket.protocol(), Ok(Some(Protocol::TCP)))
                && sockets.iter().all(|other| other.address == self.address)
        };
        !self.is_passed || socket.reuse_port().unwrap_or(false) && is_plain()
    }

    /// Lets other sockets of this user listen on the same address from now on.
    fn share(&self) -> io::Result<()> {
        SockRef::from(&self.fd).set_reuse_port(true)
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    /// True if it is a socket for `address`, whose port may be 0 for any.
    fn serves(&self, address: SocketAddr) -> bool {
        self.is_passed || self.address == address || address.port() == 0 && self.address.ip() == address.ip()
    }
}

/// The sockets that this process was started with: from the process before it, or from the service manager.
///
/// # Errors
/// If a variable names descriptors that aren't listening sockets.
pub fn inherited(config: &Config) -> Result<Vec<Listener>, ListenError> {
    match env::var(HANDED_OVER) {
        Ok(value) if !value.is_empty() => from_predecessor(&value, &env::var(PASSED).unwrap_or_default()),
        _ => from_manager(config),
    }
}

fn from_predecessor(value: &str, passed: &str) -> Result<Vec<Listener>, ListenError> {
    let wrong = || ListenError::Variable { variable: HANDED_OVER, value: value.to_owned() };
    let passed: Vec<RawFd> = passed.split(',').filter_map(|fd| fd.parse().ok()).collect();
    let words = value.split(',').map(|word| {
        let (fd, kind) = word.split_once('=').ok_or_else(wrong)?;
        let tls = match kind {
            "tls" => true,
            "plain" => false,
            _ => return Err(wrong()),
        };
        let number = fd.parse().map_err(|_| wrong())?;
        let (fd, address) = take(number, HANDED_OVER)?;
        let is_passed = passed.contains(&number);
        Ok(Listener { fd, address, tls, is_passed })
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
        listeners.push(Listener { fd, address, tls, is_passed: true });
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

fn backlog(config: &Config) -> i32 {
    i32::try_from(config.settings.listen_backlog.get()).unwrap_or(i32::MAX)
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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::IntoRawFd;

    use super::*;

    fn config(listen: SocketAddr, shards: &str, shared: &str) -> Config {
        let listen = listen.to_string();
        let values = [
            ("stream_user", "ada"),
            ("stream_pass", "s3cret"),
            ("listen", &listen),
            ("shards", shards),
            ("listen_shared", shared),
        ];
        Config::from_values(values).unwrap()
    }

    fn anywhere() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[test]
    fn an_address_has_one_server_unless_sharing_is_asked_for() {
        let first = Listeners::open(&config(anywhere(), "3", "no"), Vec::new()).unwrap();
        let address = first.addresses()[0].address;
        assert_eq!(first.descriptors().len(), 3);
        let second = Listeners::open(&config(address, "3", "no"), Vec::new());
        assert!(matches!(second, Err(ListenError::InUse { address: at }) if at == address), "{second:?}");
        drop(first);
        let shared = config(address, "2", "yes");
        let (_first, _second) =
            (Listeners::open(&shared, Vec::new()).unwrap(), Listeners::open(&shared, Vec::new()).unwrap());
        let third = Listeners::open(&config(address, "1", "no"), Vec::new());
        assert!(matches!(third, Err(ListenError::InUse { .. })), "{third:?}");
        // One that asks for sharing doesn't get it of one that doesn't.
        let alone = Listeners::open(&config(anywhere(), "1", "no"), Vec::new()).unwrap();
        let second = Listeners::open(&config(alone.addresses()[0].address, "1", "yes"), Vec::new());
        assert!(matches!(second, Err(ListenError::InUse { .. })), "{second:?}");
    }

    /// As a process that is handed the sockets would.
    fn hand_over(from: Listeners, config: &Config) -> Listeners {
        let (mut words, mut passed) = (Vec::new(), Vec::new());
        for listener in from.all() {
            let fd = listener.fd.try_clone().unwrap().into_raw_fd();
            words.push(format!("{fd}={}", if listener.tls { "tls" } else { "plain" }));
            passed.extend(listener.is_passed.then(|| fd.to_string()));
        }
        drop(from);
        let inherited = from_predecessor(&words.join(","), &passed.join(",")).unwrap();
        Listeners::open(config, inherited).unwrap()
    }

    #[test]
    fn passed_sockets_survive_any_number_of_hand_overs() {
        let make = |domain, address: &str, prepare: fn(&Socket)| {
            let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).unwrap();
            prepare(&socket);
            socket.bind(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
            socket.listen(16).unwrap();
            TcpListener::from(socket)
        };
        let sockets = [
            make(Domain::IPV4, "127.0.0.1:0", |_| {}),
            make(Domain::IPV4, "127.0.0.1:0", |socket| socket.set_reuse_port(true).unwrap()),
            make(Domain::IPV6, "[::1]:0", |socket| socket.set_only_v6(true).unwrap()),
            make(Domain::IPV6, "[::]:0", |socket| {
                socket.set_only_v6(false).unwrap();
                socket.set_reuse_port(true).unwrap();
            }),
        ];
        for socket in sockets {
            let address = socket.local_addr().unwrap();
            let passed = Listener { fd: socket.into(), address, tls: false, is_passed: true };
            let mut listeners = Listeners::open(&config(anywhere(), "2", "no"), vec![passed]).unwrap();
            for shards in ["3", "1", "2", "4"] {
                listeners = hand_over(listeners, &config(anywhere(), shards, "no"));
                let addresses: Vec<_> = listeners.addresses().iter().map(|found| found.address).collect();
                assert_eq!(addresses, [address], "{shards} shards");
                TcpStream::connect((address.ip().to_canonical(), address.port()))
                    .or_else(|_| TcpStream::connect(("::1", address.port())))
                    .unwrap();
            }
        }
    }

    #[test]
    fn a_passed_socket_is_never_given_up() {
        let socket = TcpListener::bind(anywhere()).unwrap();
        let address = socket.local_addr().unwrap();
        let passed = Listener { fd: socket.into(), address, tls: true, is_passed: true };
        let unused = Listeners::open(&config(anywhere(), "2", "no"), vec![passed]);
        assert!(matches!(unused, Err(ListenError::Unused { address: at, tls: true }) if at == address));
    }

    /// Though the process before still listens.
    #[test]
    fn a_hand_over_may_widen_the_address() {
        let first = Listeners::open(&config(anywhere(), "1", "no"), Vec::new()).unwrap();
        let port = first.addresses()[0].address.port();
        let kept: Vec<_> = first.all().map(|listener| listener.duplicate().unwrap()).collect();
        let wide: SocketAddr = ([0, 0, 0, 0], port).into();
        let widened = Listeners::open(&config(wide, "2", "no"), kept).unwrap();
        assert_eq!(widened.addresses()[0].address, wide);
    }

    #[test]
    fn own_sockets_follow_the_configured_address() {
        let first = Listeners::open(&config(anywhere(), "2", "no"), Vec::new()).unwrap();
        let address = first.addresses()[0].address;
        let kept = hand_over(first, &config(address, "4", "no"));
        assert_eq!((kept.addresses()[0].address, kept.descriptors().len()), (address, 4));
        let moved = hand_over(kept, &config(([127, 0, 0, 2], 0).into(), "1", "no"));
        assert_ne!(moved.addresses()[0].address.ip(), address.ip());
    }
}
