//! A shard's thread: pinned, with a descriptor table, an executor, a listener and a ring of its own.

#[cfg(debug_assertions)]
mod chaos;
mod close_log;
mod consumers;
mod control;
mod driver;
mod filter;
mod inspector;
mod journal_driver;
mod mailbox;
mod order;
mod pacing;
mod request;
mod transport;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use glommio::{LocalExecutorBuilder, Placement};
use tickstream_engine as engine;

use crate::config::Config;
use crate::otlp::Tracer;
use crate::ring::{self, SocketRing};
use crate::tls::Acceptor;
use crate::versioned::Versioned;
use driver::Driver;

pub use control::{Command, Control};
pub use filter::Filter;
pub use journal_driver::{JournalError, record_bytes_max, with_cause};
pub use mailbox::{Mailbox, Unanswered};
pub use order::{Place, Sort, SortKey};
pub use request::{
    AddressCounts, Closed, Closing, Found, JournalSnapshot, Lag, Page, PageFound, Request, Snapshot,
};

/// Entries of glommio's own ring. Fewer make its loop scan idle polls.
const EXECUTOR_RING_DEPTH: usize = 4_096;

/// A shard's messages to the process.
#[derive(Debug)]
pub enum Event {
    /// The shard accepts connections.
    Listening {
        /// Its number.
        shard: usize,
    },
    /// The shard ended.
    Ended {
        /// Its number.
        shard: usize,
        /// `Ok` if it was asked to, else the cause.
        outcome: Result<(), ShardError>,
    },
}

/// Why a shard can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// No descriptor table of its own.
    #[error("can't give the shard a descriptor table of its own (unshare(CLONE_FILES)): {0}")]
    Descriptors(io::Error),
    /// Signals can't be blocked.
    #[error("can't block signals in the shard's thread: {0}")]
    Signals(io::Error),
    /// No executor.
    #[error("can't start a glommio executor on CPU {cpu}: {reason}")]
    Executor {
        /// The CPU.
        cpu: usize,
        /// glommio's error.
        reason: String,
    },
    /// The socket ring failed.
    #[error("the socket ring failed: {0}")]
    Ring(io::Error),
    /// Events can't be collected.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A bug.
    #[error("it panicked: {0}")]
    Panicked(String),
}

/// Parts that one shard needs to begin.
pub struct Spec {
    /// Its number, from 0.
    pub shard: usize,
    /// The CPU that it is pinned to.
    pub cpu: usize,
    /// Its listening sockets, and whether TLS is spoken on each.
    pub listeners: Vec<(RawFd, bool)>,
    /// The listening sockets of all shards, which its descriptor table gets a copy of.
    pub all_listeners: Vec<RawFd>,
    /// State that TLS needs.
    pub certificates: Option<Arc<Versioned<Acceptor>>>,
    /// The process's settings.
    pub config: Arc<Config>,
    /// The engine's settings, but for the number of the shard.
    pub settings: Arc<Versioned<engine::Config>>,
    /// The commands to it.
    pub control: Arc<Control>,
    /// Takes what is traced; `None`: nothing is.
    pub tracer: Option<Tracer>,
}

/// Starts a shard's thread. It tells `events` when it listens and, in any case, when it ends.
///
/// # Errors
/// If the thread can't be started.
pub fn spawn(spec: Spec, events: Sender<Event>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("shard-{}", spec.shard)).spawn(move || {
        let (shard, control) = (spec.shard, Arc::clone(&spec.control));
        let run = std::panic::AssertUnwindSafe(|| run(spec, &events));
        let outcome = std::panic::catch_unwind(run).unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        if outcome.is_ok() {
            control.retire(shard);
        }
        // Without a receiver the process is ending already.
        let _ = events.send(Event::Ended { shard, outcome });
    })
}

fn run(spec: Spec, events: &Sender<Event>) -> Result<(), ShardError> {
    ring::block_signals().map_err(ShardError::Signals)?;
    ring::own_descriptor_table().map_err(ShardError::Descriptors)?;
    spec.control.enter(spec.shard);
    let own: Vec<_> = spec.listeners.iter().map(|(fd, _)| *fd).collect();
    let listeners = ring::keep_descriptors(&own, &spec.all_listeners);
    let name = format!("shard-{}", spec.shard);
    let make = || {
        let builder = LocalExecutorBuilder::new(Placement::Fixed(spec.cpu)).name(&name);
        builder.io_memory(0).ring_depth(EXECUTOR_RING_DEPTH).make()
    };
    let executor = ring::once_released(make, |error| executor_errno(error) == Some(libc::ENOMEM))
        .map_err(|error| ShardError::Executor { cpu: spec.cpu, reason: executor_reason(&error) })?;
    executor.run(async move {
        // The first time that an executor sleeps takes it tens of milliseconds: before there is a client.
        glommio::timer::sleep(Duration::from_millis(1)).await;
        let ring = SocketRing::new(listeners).map_err(ShardError::Ring)?;
        let driver = Driver::new(spec, ring)?;
        let shard = driver.shard_number();
        let _ = events.send(Event::Listening { shard });
        driver.run()
    })
}

fn executor_errno(error: &glommio::GlommioError<()>) -> Option<i32> {
    match error {
        glommio::GlommioError::IoError(io) => io.raw_os_error(),
        _ => None,
    }
}

fn executor_reason(error: &glommio::GlommioError<()>) -> String {
    match executor_errno(error) {
        // From Linux 6.14 on a user's rings count as locked memory.
        Some(libc::ENOMEM) => {
            format!("{error}; a shard takes 2 MiB of locked memory: raise it with ulimit -l or LimitMEMLOCK=")
        }
        _ => error.to_string(),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> ShardError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    ShardError::Panicked(text.unwrap_or_else(|| "without a message".to_owned()))
}
