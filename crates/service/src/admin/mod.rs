//! The admin endpoint: metrics, health, settings and a program's own routes over HTTP, on a thread of its own.
//!
//! - [`AdminAddress`], [`AdminToken`]: settings;
//! - `listener`: its sockets; `http`: its connections, each bounded;
//! - [`Program`], [`Router`]: what a program answers, and under which path; [`Page`]: a page at `/`.

mod address;
mod answer;
mod http;
mod listener;
mod page;
mod router;

pub use address::{AdminAddress, AdminAddressError, AdminToken, AdminTokenError, addresses};
pub use answer::{Answer, Refusal, json, of_type, text};
pub use hyper::StatusCode;
pub use page::Page;
pub use router::{Call, Program, Router};

use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use listener::{Listener, SocketFile};
use tokio::sync::oneshot;

/// Errors of the admin endpoint.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address can't be listened on.
    #[error("can't listen on {address} for the admin endpoint: {source}")]
    Listen {
        /// The address.
        address: AdminAddress,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A process answers there.
    #[error("can't listen on {} for the admin endpoint: another process does", .0.display())]
    InUse(PathBuf),
    /// Its thread, or what that needs.
    #[error("can't set up {what}: {source}")]
    Setup {
        /// The part.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Addresses that are listened on, but not served yet.
#[derive(Debug)]
pub struct Endpoint {
    listeners: Vec<Listener>,
}

/// A running endpoint. Dropping this ends it, and removes its unix sockets.
#[derive(Debug)]
pub struct Admin {
    _files: Vec<SocketFile>,
    is_local: bool,
    /// Dropped, it ends the endpoint.
    end: oneshot::Sender<()>,
    /// Disconnected once the endpoint has ended.
    ended: Receiver<()>,
}

impl Endpoint {
    /// Listens on the addresses; `None` where there are none. A process that `takes_over` from another takes the same
    /// addresses beside it, and listens once it serves.
    ///
    /// # Errors
    /// [`AdminError::Listen`], [`AdminError::InUse`].
    pub fn bind(addresses: &[AdminAddress], takes_over: bool) -> Result<Option<Self>, AdminError> {
        let listeners = addresses.iter().map(|address| Listener::bind(address, takes_over));
        let listeners: Vec<_> = listeners.collect::<Result<_, _>>()?;
        Ok(Some(Self { listeners }).filter(|endpoint| !endpoint.listeners.is_empty()))
    }

    /// The addresses, with the ports that were found free.
    pub fn addresses(&self) -> Vec<AdminAddress> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// The descriptors that it listens on.
    pub fn descriptors(&self) -> Vec<RawFd> {
        self.listeners.iter().map(Listener::descriptor).collect()
    }

    /// Begins to answer, on a thread of its own, until `until` ends or the answer is dropped; requests that have begun then
    /// are still answered. The thread calls `settle` first, which may choose its CPUs.
    ///
    /// # Errors
    /// [`AdminError::Setup`], [`AdminError::Listen`].
    pub fn serve<P: Program>(
        mut self,
        router: Router<P>,
        settle: impl FnOnce() + Send + 'static,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Admin, AdminError> {
        self.listeners.iter_mut().try_for_each(Listener::begin)?;
        let is_local = self.listeners.iter().all(Listener::is_local);
        let files = self.listeners.iter_mut().filter_map(Listener::take_file).collect();
        let setup = |what| move |source| AdminError::Setup { what, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(http::BLOCKING_THREADS_MAX)
            .build()
            .map_err(setup("the admin endpoint's runtime"))?;
        let (end, asked) = oneshot::channel();
        let (ends, ended) = mpsc::channel();
        let serve = move || {
            settle();
            let until = async {
                tokio::select! {
                    () = until => {}
                    _ = asked => {}
                }
            };
            runtime.block_on(http::serve(self.listeners, &Arc::new(router), until));
            // Not for handlers that block.
            runtime.shutdown_background();
            drop(ends);
        };
        let thread = std::thread::Builder::new().name("admin".to_owned());
        thread.spawn(serve).map_err(setup("the admin endpoint's thread"))?;
        Ok(Admin { _files: files, is_local, end, ended })
    }
}

impl Admin {
    /// Ends it, once the requests that have begun are answered: two seconds later at the most. To be called before the process
    /// ends, of which an operator may wait to hear.
    pub fn finish(self) {
        drop(self.end);
        // Nothing is ever sent.
        let _ = self.ended.recv_timeout(2 * http::GOODBYE);
    }

    /// Reached by this machine alone.
    pub fn is_local(&self) -> bool {
        self.is_local
    }
}
