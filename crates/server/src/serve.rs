//! The server: its shards, from the first check to the last connection.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use std::{io, process};

use tickstream_engine as engine;
use tickstream_service::admin::{AdminAddress, AdminError, Endpoint};
use tickstream_service::logs::{LogFilter, LogGuard};
use tickstream_service::notify::Notify;
use tickstream_service::otlp::{Exporting, Lost};
use tickstream_service::signals::{Signal, Signals};

use crate::admin::{self, ServerInfo};
use crate::config::{Config, ConfigError, Events, ListenAddress, Source};
use crate::engine_config::engine_config;
use crate::handle::ServerHandle;
use crate::journal_lock::{JournalLock, JournalLockError};
use crate::listeners::{self, ListenError, Listeners};
use crate::maintenance;
use crate::otlp::{self, Exporter, tracer};
use crate::preflight::{self, PreflightError};
use crate::reload::{Reloader, VisibleConfig};
use crate::retention;
use crate::shard::{self, Control, Event, JournalError, ShardError, Spec};
use crate::threads::Place;
use crate::tls::Acceptor;
use crate::tls::MaterialError;
use crate::tls::watch::Certificates;
use crate::upgrade;
use crate::versioned::Versioned;

/// Longest time without a sign of life of a shard that doesn't listen yet. A healthy one takes a tenth of a second, unless it
/// has long journals to read, and then it says that it is alive.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval of looks at the shards' liveness.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Looks in a row without a turn of its loop that make a shard a dead one. A shard's loop turns ten times a second.
const WATCH_MISSES_MAX: u32 = 5;

/// Why the server didn't start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The machine isn't fit.
    #[error(transparent)]
    PreflightError(#[from] PreflightError),
    /// A shard failed.
    #[error("shard {shard}: {error}")]
    Shard {
        /// Its number.
        shard: usize,
        /// The failure.
        error: ShardError,
    },
    /// A thread or a signal handler couldn't be set up.
    #[error("can't set up {what}: {source}")]
    Setup {
        /// The part.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The admin endpoint.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Settings that can't be read again.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nothing to listen on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The journals are another server's.
    #[error(transparent)]
    JournalLock(#[from] JournalLockError),
    /// Certificates that can't be used.
    #[error(transparent)]
    Certificates(#[from] MaterialError),
    /// Settings that the engine refuses.
    #[error(transparent)]
    Engine(#[from] engine::ConfigError),
    /// A shard that neither serves nor ended.
    #[error("shard {shard} has stopped turning: its loop hangs, which is a bug; keep the log, and report it")]
    Hung {
        /// Its number.
        shard: usize,
    },
    /// A shard neither listened nor failed, nor said that it is alive.
    #[error("shard {shard} hasn't started, and has given no sign of life for {} s", START_TIMEOUT.as_secs())]
    StartTimeout {
        /// Its number.
        shard: usize,
    },
}

impl ServeError {
    /// Tells whether a shard's journal can't be opened: another start won't help by itself.
    pub fn is_of_journal(&self) -> bool {
        match self {
            Self::Shard { error: ShardError::Journal(error), .. } => {
                !matches!(error, JournalError::Failed { .. })
            }
            Self::JournalLock(_) => true,
            _ => false,
        }
    }
}

/// A running admin endpoint, and its addresses.
pub type ServedAdmin = (admin::Serving, Vec<AdminAddress>);

/// A running server.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<ListenAddress>,
    certificates: Option<Arc<Versioned<Acceptor>>>,
    settings: Arc<Versioned<engine::Config>>,
    visible: Arc<Versioned<VisibleConfig>>,
    connections: NonZeroU32,
    handle: ServerHandle,
    control: Arc<Control>,
    events: Receiver<Event>,
    threads: Vec<JoinHandle<()>>,
    notify: Notify,
    spans_lost: Lost,
    exporting: Option<Exporting>,
}

/// Checks what starting a server would find wrong with its configuration and the files that this names, apart from the
/// machine.
///
/// # Errors
/// [`ServeError::Certificates`], [`ServeError::Engine`].
pub fn check(config: &Config) -> Result<(), ServeError> {
    engine_config(config, NonZeroU32::MIN)?;
    config.tls.clone().map(Certificates::load).transpose()?;
    Ok(())
}

impl Server {
    /// Starts all shards and waits until each accepts connections.
    ///
    /// # Errors
    /// If the machine isn't fit, or a shard can't begin; those that could are told to end.
    pub fn start(config: impl Into<Arc<Config>>) -> Result<Self, ServeError> {
        Self::start_beside(&config.into(), &[])
    }

    /// As [`Server::start`], and answers at the admin endpoint of the configuration, for a process that has more to do than
    /// to serve: signals stay its own. The endpoint ends with what stands beside the server here; its addresses are those
    /// that it was given, with the ports that it got.
    ///
    /// # Errors
    /// Those of [`Server::start`], and if the endpoint can't listen.
    pub fn start_with_admin(
        config: Config,
        log: &LogGuard,
    ) -> Result<(Self, Option<ServedAdmin>), ServeError> {
        let started = SystemTime::now();
        let endpoint = Endpoint::bind(&config.standard.admin, false)?;
        let others = endpoint.as_ref().map(Endpoint::descriptors).unwrap_or_default();
        let config = Arc::new(config);
        let server = Self::start_beside(&config, &others)?;
        let serving = endpoint.map(|endpoint| {
            let addresses = endpoint.addresses();
            admin::serve(endpoint, server.info(&config, started, log)).map(|serving| (serving, addresses))
        });
        Ok((server, serving.transpose()?))
    }

    /// Facts of the server that the admin endpoint reports.
    fn info(&self, config: &Config, started: SystemTime, log: &LogGuard) -> ServerInfo {
        ServerInfo {
            control: Arc::clone(self.control()),
            handle: self.handle(),
            address: self.address(),
            cpus: config.shard_cpus(),
            journals: config.events.as_ref().map(|events| events.journal.clone()),
            started,
            losses: log.losses(),
            spans_lost: self.spans_lost.clone(),
            visible: Arc::clone(&self.visible),
        }
    }

    /// As [`Server::start`]; shards close their copies of `others`, which are the process's.
    fn start_beside(config: &Arc<Config>, others: &[RawFd]) -> Result<Self, ServeError> {
        let connections = preflight::check(config)?;
        let (sender, events) = mpsc::channel();
        let control = Arc::new(Control::new(config.shards.get()));
        let certificates = config.tls.clone().map(Certificates::load).transpose()?;
        let current = certificates.as_ref().map(Certificates::current);
        let maintenance =
            maintenance::spawn(certificates, config.settings.memory_max_mib, Arc::clone(&control))
                .map_err(|source| ServeError::Setup { what: "the maintenance's thread", source })?;
        let lock = |events: &Events| JournalLock::take(&events.journal, config.settings.listen_shared);
        let journals = config.events.as_ref().map(lock).transpose()?;
        if let Some(events) = &config.events {
            retention::spawn(events.clone(), Arc::clone(&control))
                .map_err(|source| ServeError::Setup { what: "the retention's thread", source })?;
        }
        let listeners = Listeners::open(config, listeners::inherited(config)?)?;
        let plan = Plan {
            of_shards: (0..config.shards.get()).map(|shard| listeners.of_shard(shard)).collect(),
            all: [&listeners.descriptors(), others].concat(),
        };
        let mut server = Self {
            addresses: listeners.addresses(),
            certificates: current,
            settings: Arc::new(Versioned::new(engine_config(config, connections)?)),
            visible: Arc::new(Versioned::new(VisibleConfig::of(config))),
            connections,
            handle: ServerHandle::new(
                Arc::clone(&control),
                listeners,
                journals,
                maintenance,
                config.settings.drain_seconds,
            )
            .map_err(|source| ServeError::Setup { what: "the thread for upgrades", source })?,
            control,
            events,
            threads: Vec::new(),
            notify: Notify::default(),
            spans_lost: Lost::default(),
            exporting: None,
        };
        let exporter = config.otlp.as_ref().map(otlp::exporter);
        let started = server
            .spawn(config, plan, exporter.as_ref(), &sender)
            .and_then(|()| server.export(exporter, config));
        match started {
            Ok(()) => Ok(server),
            Err(error) => {
                // Not joined: the one that failed may hang.
                server.stop();
                Err(error)
            }
        }
    }

    /// The address that it listens on; the first, if there are two.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0].address
    }

    /// The addresses that it listens on.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// The way to steer it from elsewhere.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Reads settings again from `source`, when it is told to reload; `filter` is the log's.
    ///
    /// # Errors
    /// If they can't be read now.
    pub fn reload_from(
        &self,
        source: Source,
        config: Config,
        filter: Option<LogFilter>,
    ) -> Result<(), ConfigError> {
        let (settings, visible) = (Arc::clone(&self.settings), Arc::clone(&self.visible));
        let reloader = Reloader::new(source, config, self.connections, settings, filter, visible)?;
        self.handle.install(reloader);
        Ok(())
    }

    /// The part that its shards share with the process.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Asks it to close every connection in good order and end.
    pub fn drain(&self) {
        self.handle.drain();
    }

    /// Asks it to end at once.
    pub fn stop(&self) {
        self.handle.stop();
    }

    /// Passes on signals: SIGINT and SIGTERM drain, and stop if they come again; SIGHUP reloads; SIGUSR2 upgrades.
    ///
    /// # Errors
    /// If the thread that waits for them can't be started.
    pub fn apply_signals(&self, signals: Signals) -> Result<(), ServeError> {
        let handle = self.handle();
        signals.forward(move |signal| apply(&handle, signal)).map_err(no_signals)
    }

    /// Waits until all shards have ended as they were asked to.
    ///
    /// # Errors
    /// At once if one of them ends otherwise, and soon if one hangs: a server that lacks a shard would swallow
    /// connections.
    pub fn wait(mut self) -> Result<(), ServeError> {
        let mut watchdog = Watchdog::new(self.threads.len());
        while watchdog.is_watching() {
            match self.events.recv_timeout(WATCH_INTERVAL) {
                Ok(Event::Ended { shard, outcome: Ok(()) }) => watchdog.forget(shard),
                Ok(Event::Ended { shard, outcome: Err(error) }) => {
                    return Err(ServeError::Shard { shard, error });
                }
                Ok(Event::Listening { .. }) => {
                    unreachable!("each shard listens once, before `start` returns")
                }
                Err(RecvTimeoutError::Timeout) => {
                    watchdog.look(&self.control.liveness())?;
                    self.notify.alive();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.handle.settle_upgrade();
        let exporting = self.exporting.take();
        self.join();
        exporting.into_iter().for_each(Exporting::finish);
        Ok(())
    }

    fn export(&mut self, exporter: Option<Exporter>, config: &Config) -> Result<(), ServeError> {
        let Some(exporter) = exporter else { return Ok(()) };
        self.spans_lost = exporter.lost();
        let setup = |source| ServeError::Setup { what: "the thread that exports traces", source };
        let place = Place::beside(&config.shard_cpus());
        self.exporting = Some(exporter.start(move || place.take("traces")).map_err(setup)?);
        Ok(())
    }

    fn spawn(
        &mut self,
        config: &Arc<Config>,
        plan: Plan,
        exporter: Option<&Exporter>,
        sender: &Sender<Event>,
    ) -> Result<(), ServeError> {
        let cpus = config.shard_cpus();
        for (shard, listeners) in plan.of_shards.into_iter().enumerate() {
            let spec = Spec {
                shard,
                cpu: cpus[shard],
                listeners,
                all_listeners: plan.all.clone(),
                certificates: self.certificates.clone(),
                config: Arc::clone(config),
                settings: Arc::clone(&self.settings),
                control: Arc::clone(&self.control),
                tracer: exporter
                    .zip(config.otlp.as_ref())
                    .map(|(exporter, otlp)| tracer(exporter, otlp, shard)),
            };
            let setup = |source| ServeError::Setup { what: "a shard's thread", source };
            self.threads.push(shard::spawn(spec, sender.clone()).map_err(setup)?);
        }
        let mut starting = Starting::new(cpus.len());
        while starting.is_any() {
            match self.events.recv_timeout(START_TIMEOUT) {
                Ok(Event::Listening { shard }) => starting.listens(shard),
                Ok(Event::Ended { shard, outcome }) => {
                    let error =
                        outcome.err().unwrap_or(ShardError::Panicked("it ended by itself".to_owned()));
                    return Err(ServeError::Shard { shard, error });
                }
                Err(_) => starting.look(&self.control.liveness())?,
            }
        }
        Ok(())
    }

    fn join(self) {
        for thread in self.threads {
            // A panic was told as an event.
            let _ = thread.join();
        }
    }
}

/// Listeners of each shard, by descriptor.
struct Plan {
    of_shards: Vec<Vec<(RawFd, bool)>>,
    all: Vec<RawFd>,
}

/// Does what a signal asks for.
fn apply(handle: &ServerHandle, signal: Signal) {
    match signal {
        Signal::Reload => {
            tracing::info!("told to reload");
            // The log says how it ended.
            let _ = handle.reload();
        }
        Signal::Upgrade => {
            tracing::info!("told to upgrade");
            // It takes a while, during which other signals count.
            handle.begin_upgrade();
        }
        Signal::End => {
            tracing::info!("told to end");
            handle.end();
        }
    }
}

/// Shards that don't listen yet: for each its liveness counter at the last look.
#[derive(Debug)]
struct Starting(Vec<Option<u64>>);

impl Starting {
    fn new(shards: usize) -> Self {
        Self(vec![Some(0); shards])
    }

    fn is_any(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }

    fn listens(&mut self, shard: usize) {
        self.0[shard] = None;
    }

    /// An error if one of them hasn't turned since the last look.
    fn look(&mut self, liveness: &[u64]) -> Result<(), ServeError> {
        for (shard, (seen, &alive)) in self.0.iter_mut().zip(liveness).enumerate() {
            let Some(last) = seen else { continue };
            if *last == alive {
                return Err(ServeError::StartTimeout { shard });
            }
            *last = alive;
        }
        Ok(())
    }
}

/// Notices shards whose loop has stopped turning.
///
/// Its measure are its own looks, not time: a process that was stopped as a whole has no dead shards.
#[derive(Debug)]
struct Watchdog {
    /// For each shard that runs: its liveness counter at the last look, and looks since it changed.
    shards: Vec<Option<(u64, u32)>>,
}

impl Watchdog {
    fn new(shards: usize) -> Self {
        Self { shards: vec![Some((0, 0)); shards] }
    }

    fn is_watching(&self) -> bool {
        self.shards.iter().any(Option::is_some)
    }

    /// The shard ended as it should.
    fn forget(&mut self, shard: usize) {
        self.shards[shard] = None;
    }

    fn look(&mut self, liveness: &[u64]) -> Result<(), ServeError> {
        for (shard, (seen, &alive)) in self.shards.iter_mut().zip(liveness).enumerate() {
            let Some((last, misses)) = seen else { continue };
            *misses = if *last == alive { *misses + 1 } else { 0 };
            *last = alive;
            if *misses >= WATCH_MISSES_MAX {
                return Err(ServeError::Hung { shard });
            }
        }
        Ok(())
    }
}

/// Serves until a signal or a failure ends it.
///
/// # Errors
/// If the server can't start or a shard fails.
pub fn run(config: Config, source: Source, log: &LogGuard) -> Result<(), ServeError> {
    let started = SystemTime::now();
    let (shards, cpus) = (config.shards.get(), crate::placement::format_cpus(&config.cpus));
    // Before the shards listen: by default a signal would end the process, and cut off who has come already.
    let signals = Signals::take().map_err(no_signals)?;
    upgrade::take_over_kept_files();
    // Also before they do, so that a taken port drops no client.
    let endpoint = Endpoint::bind(&config.standard.admin, upgrade::is_successor())?;
    let others = endpoint.as_ref().map(Endpoint::descriptors).unwrap_or_default();
    let mut server = Server::start_beside(&Arc::new(config.clone()), &others)?;
    let admin_addresses = endpoint.as_ref().map(Endpoint::addresses).unwrap_or_default();
    server.notify = Notify::from_environment();
    server.handle.set_notify(server.notify.clone());
    let info = server.info(&config, started, log);
    server.reload_from(source, config, log.filter())?;
    server.apply_signals(signals)?;
    // Last of all that may fail: from here on a process before this one isn't reached there any more.
    let admin_endpoint = endpoint.map(|endpoint| admin::serve(endpoint, info)).transpose()?;
    let what = tickstream_service::text::counted(shards as u64, "shard");
    server.notify.ready(&format!("{what} on CPUs {cpus}, listening on {}", server.address()));
    tracing::info!(
        address = %server.address(),
        tls = server.addresses().iter().find(|at| at.is_tls).map(|at| tracing::field::display(at.address)),
        shards,
        cpus,
        admin = %AdminAddress::list(&admin_addresses),
        pid = process::id(),
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    admin_endpoint.iter().for_each(admin::Serving::log);
    upgrade::tell_predecessor();
    server.wait()?;
    // Whoever told it to end may still wait for the answer.
    admin_endpoint.into_iter().for_each(admin::Serving::finish);
    tracing::info!("ended");
    Ok(())
}

fn no_signals(source: io::Error) -> ServeError {
    ServeError::Setup { what: "signal handling", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_reads_long_journals_is_waited_for_and_one_that_hangs_is_not() {
        let mut starting = Starting::new(3);
        starting.listens(1);
        assert!(starting.look(&[10, 0, 10]).is_ok());
        assert!(starting.look(&[11, 0, 20]).is_ok());
        starting.listens(2);
        let hung = starting.look(&[11, 0, 20]);
        assert!(matches!(hung, Err(ServeError::StartTimeout { shard: 0 })), "{hung:?}");
        starting.listens(0);
        assert!(!starting.is_any());
    }

    #[test]
    fn a_shard_that_hangs_is_noticed_and_one_that_ended_is_not() {
        let mut watchdog = Watchdog::new(3);
        watchdog.forget(2);
        for look in 1..WATCH_MISSES_MAX {
            assert!(watchdog.look(&[u64::from(look), 0, 0]).is_ok(), "look {look}");
        }
        let hung = watchdog.look(&[u64::from(WATCH_MISSES_MAX), 0, 0]);
        assert!(matches!(hung, Err(ServeError::Hung { shard: 1 })), "{hung:?}");
    }
}
