//! A shard's thread: pinned, with a descriptor table, an executor, a listener and a ring of its own.

#[cfg(debug_assertions)]
mod chaos;
mod close_log;
mod control;
mod desk;
mod driver;
mod listener;
mod mailbox;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use glommio::{LocalExecutorBuilder, Placement};
use tickstream_engine as engine;

use crate::config::Config;
use crate::ring::{self, SocketRing};
use driver::Driver;

pub use control::{Control, Order};
pub use desk::slowness;
pub use mailbox::{Closed, Closing, Filter, Lag, Mailbox, Page, PageFound, Request, Snapshot, Unanswered};

/// Entries of glommio's own ring. Fewer make its loop scan idle polls.
const EXECUTOR_RING_DEPTH: usize = 4_096;

/// What a shard tells the process.
#[derive(Debug)]
pub enum Event {
    /// It accepts connections.
    Listening {
        /// Which shard.
        shard: usize,
        /// Where.
        address: SocketAddr,
    },
    /// It ended: `Ok` if it was asked to.
    Ended {
        /// Which shard.
        shard: usize,
        /// What made it end.
        outcome: Result<(), ShardError>,
    },
}

/// Why a shard can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
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
        /// What glommio said.
        reason: String,
    },
    /// The socket ring failed.
    #[error("the socket ring failed: {0}")]
    Ring(io::Error),
    /// A bug.
    #[error("it panicked: {0}")]
    Panicked(String),
}

/// What one shard needs to begin.
pub struct Spec {
    /// Its number, from 0.
    pub shard: usize,
    /// The CPU that it is pinned to.
    pub cpu: usize,
    /// Where it listens; the same address for all shards.
    pub address: SocketAddr,
    /// The process's settings.
    pub config: Arc<Config>,
    /// The engine's settings.
    pub engine: engine::Config,
    /// The word that it obeys.
    pub control: Arc<Control>,
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
    let executor = LocalExecutorBuilder::new(Placement::Fixed(spec.cpu))
        .name(&format!("shard-{}", spec.shard))
        .io_memory(0)
        .ring_depth(EXECUTOR_RING_DEPTH)
        .make()
        .map_err(|error| ShardError::Executor { cpu: spec.cpu, reason: error.to_string() })?;
    executor.run(async move {
        // The first time that an executor sleeps takes it tens of milliseconds: before there is a client.
        glommio::timer::sleep(Duration::from_millis(1)).await;
        let listen = |source| ShardError::Listen { address: spec.address, source };
        let listener = listener::bind(spec.address, &spec.config).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let ring = SocketRing::new(listener.into()).map_err(ShardError::Ring)?;
        let driver = Driver::new(spec, ring);
        let shard = driver.shard_number();
        let _ = events.send(Event::Listening { shard, address });
        driver.run().map_err(ShardError::Ring)
    })
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> ShardError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    ShardError::Panicked(text.unwrap_or_else(|| "without a message".to_owned()))
}
