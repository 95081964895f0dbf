//! The admin endpoint: metrics, health and connections over HTTP, on a thread that isn't a shard's.
//!
//! - `listener`: where it listens; `http`: its connections, each bounded; `route`: what there is under which path;
//! - `collect`: asks the shards, at most ten times a second however many ask for it; `health` doesn't ask them, but
//!   looks at their pulses; `process` reads what the kernel knows;
//! - [`report`]: what is told as JSON; `prometheus` and `families`: what is told to Prometheus; `page`: what shows it.
//!
//! Nothing of it runs on a shard but the answers of `shard/desk.rs`.

mod collect;
mod exposition;
mod families;
mod health;
mod http;
mod listener;
mod page;
mod process;
mod prometheus;
pub mod report;
mod route;

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::{AdminAddress, AdminToken, Config};
use crate::logs::LogLosses;
use crate::otlp::Lost;
use crate::placement::{self, Machine};
use crate::ring;
use crate::shard::Control;
use crate::steering::Steering;
use crate::versioned::Versioned;
use listener::{Listener, SocketFile};

/// Added to the niceness of a thread that shares its CPUs with shards: where both want to run, they get nine tenths.
const NICENESS: i32 = 10;
/// How often it looks whether another process has taken over.
const HANDED_OVER_INTERVAL: Duration = Duration::from_millis(100);

/// Why there is no admin endpoint.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address can't be listened on.
    #[error("can't listen on {address} for the admin endpoint: {source}")]
    Listen {
        /// The address.
        address: AdminAddress,
        /// What the kernel said.
        source: io::Error,
    },
    /// A process answers there.
    #[error("can't listen on {} for the admin endpoint: another process does", .0.display())]
    InUse(PathBuf),
    /// Its thread, or what that needs.
    #[error("can't set up {what}: {source}")]
    Setup {
        /// What.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What the endpoint tells of.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The shards.
    pub control: Arc<Control>,
    /// The way to steer the server.
    pub steering: Steering,
    /// Where they listen.
    pub address: SocketAddr,
    /// The CPU of each.
    pub cpus: Vec<usize>,
    /// Whether it collects events.
    pub collects_events: bool,
    /// When the server began.
    pub started: SystemTime,
    /// Lines that the log lost.
    pub losses: LogLosses,
    /// Spans that were lost.
    pub spans_lost: Lost,
    /// Settings, as they are in use at the time.
    pub shown: Arc<Versioned<Shown>>,
}

/// What of the settings the endpoint uses while it runs. Reloading replaces it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The settings in use, as `/config` shows them.
    pub effective: String,
    /// What changes need on TCP; `None`: they are refused there.
    pub token: Option<AdminToken>,
}

/// Addresses that are listened on, but not served yet.
#[derive(Debug)]
pub struct Endpoint {
    listeners: Vec<Listener>,
}

/// A running endpoint. It lasts as long as the process; dropping this removes its unix sockets.
#[derive(Debug)]
pub struct Admin {
    _files: Vec<SocketFile>,
    place: Place,
    is_local: bool,
}

/// Where the endpoint's thread runs.
#[derive(Clone, Debug)]
enum Place {
    /// On CPUs that no shard has.
    Own(Vec<usize>),
    /// On those of the shards: there are no others.
    Shared,
}

impl Shown {
    /// What the endpoint uses of these settings.
    pub fn of(config: &Config) -> Self {
        Self { effective: config.effective.clone(), token: config.admin_token.clone() }
    }
}

impl Endpoint {
    /// Listens on the addresses of the settings; `None` where there are none.
    ///
    /// # Errors
    /// [`AdminError::Listen`], [`AdminError::InUse`].
    pub fn bind(config: &Config) -> Result<Option<Self>, AdminError> {
        let listeners: Vec<_> = config.admin.iter().map(Listener::bind).collect::<Result<_, _>>()?;
        Ok(Some(Self { listeners }).filter(|endpoint| !endpoint.listeners.is_empty()))
    }

    /// Where it listens, with the ports that were found free.
    pub fn addresses(&self) -> Vec<AdminAddress> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// The descriptors that it listens on.
    pub fn descriptors(&self) -> Vec<RawFd> {
        self.listeners.iter().map(Listener::descriptor).collect()
    }

    /// Begins to answer, on a thread of its own.
    ///
    /// # Errors
    /// [`AdminError::Setup`], [`AdminError::Listen`].
    pub fn serve(mut self, subject: Subject) -> Result<Admin, AdminError> {
        self.listeners.iter_mut().try_for_each(Listener::begin)?;
        let is_local = self.listeners.iter().all(Listener::is_local);
        let place = Place::beside(&subject.cpus);
        let files = self.listeners.iter_mut().filter_map(Listener::take_file).collect();
        let setup = |what| move |source| AdminError::Setup { what, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(http::BLOCKING_THREADS_MAX)
            .build()
            .map_err(setup("the admin endpoint's runtime"))?;
        let thread = std::thread::Builder::new().name("admin".to_owned());
        let settle = place.clone();
        let steering = subject.steering.clone();
        let serve = move || {
            settle.take("the admin endpoint");
            let state = Arc::new(route::State::new(subject));
            runtime.block_on(async {
                tokio::select! {
                    () = handed_over(&steering) => {}
                    _ = http::serve(self.listeners, state) => {}
                }
            });
        };
        thread.spawn(serve).map_err(setup("the admin endpoint's thread"))?;
        Ok(Admin { _files: files, place, is_local })
    }
}

/// Ends once another process has taken over: it answers at the same addresses from then on.
async fn handed_over(steering: &Steering) {
    while !steering.is_handed_over() {
        tokio::time::sleep(HANDED_OVER_INTERVAL).await;
    }
    // Who asked for it is answered before.
    tokio::time::sleep(HANDED_OVER_INTERVAL).await;
}

impl Admin {
    /// Logs what an operator should know of it.
    pub fn log(&self) {
        match &self.place {
            Place::Own(cpus) => tracing::debug!(cpus = placement::format_cpus(cpus), "admin endpoint"),
            Place::Shared => tracing::info!(
                niceness = NICENESS,
                "shards run on every CPU, so the admin endpoint runs beside one of them, behind it in rank"
            ),
        }
        if !self.is_local {
            tracing::info!("the admin endpoint isn't on the loopback: whoever reaches it can read from it");
        }
    }
}

/// Moves the calling thread, which is `whose`, off the shards' CPUs, or, where no other is left, behind them.
pub(crate) fn keep_off(shard_cpus: &[usize], whose: &str) {
    Place::beside(shard_cpus).take(whose);
}

impl Place {
    fn beside(shard_cpus: &[usize]) -> Self {
        let allowed = Machine::detect().map(|machine| machine.allowed).unwrap_or_default();
        let others: Vec<_> = allowed.into_iter().filter(|cpu| !shard_cpus.contains(cpu)).collect();
        if others.is_empty() { Self::Shared } else { Self::Own(others) }
    }

    /// Brings the calling thread there, and those that it starts.
    fn take(&self, whose: &str) {
        let taken = match self {
            Self::Own(cpus) => ring::run_on(cpus),
            Self::Shared => ring::be_nice(NICENESS),
        };
        if let Err(error) = taken {
            tracing::warn!(%error, whose, "this thread can't be kept out of the shards' way");
        }
    }
}
