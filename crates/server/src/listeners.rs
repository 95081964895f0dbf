//! The listening sockets of all shards: opened here, inherited from the process before, or handed over by the service
//! manager.
//!
//! Each shard accepts on sockets of its own (SO_REUSEPORT), and no other process on the same address unless
//! `listen_shared` says so. They are opened before the first shard starts, so that its private descriptor table has them
//! from the start, and the process keeps a copy of each to hand over to the next (`upgrade`). Connections in the queue of
//! a socket live as long as one copy does: a socket that is handed over loses nobody.

mod inherited;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

pub use self::inherited::{HANDED_OVER, PASSED, inherited};
pub use self::socket::Listener;
use self::socket::backlog;
use crate::config::{Config, ListenAddress};

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
                socket
                    .configure(config)
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
        self.all().try_for_each(|listener| listener.set_inheritable(inheritable))
    }

    fn all(&self) -> impl Iterator<Item = &Listener> {
        self.0.iter().flatten()
    }
}
