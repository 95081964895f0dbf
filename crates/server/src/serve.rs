//! The server: its shards, from the first check to the last connection.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use std::{io, process};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;
use tickstream_engine as engine;
use tickstream_wire::messages::Mode;

use crate::admin::{AdminError, Endpoint, Shown, Subject};
use crate::config::{Config, ConfigError, Events};
use crate::keeper;
use crate::listeners::{self, ListenError, Listeners};
use crate::logs::{LogFilter, LogGuard};
use crate::notify::Notify;
use crate::otlp::{Exporter, Exporting, Lost};
use crate::preflight::{self, Unfit};
use crate::published::Published;
use crate::reload::{Reloader, Source};
use crate::shard::{self, CollectionError, Control, Event, ShardError, Spec};
use crate::steering::Steering;
use crate::tls::Acceptor;
use crate::tls::MaterialError;
use crate::tls::watch::Certificates;
use crate::upgrade;

/// How long a shard may go without a sign of life before it listens. A healthy one takes a tenth of a second, unless it
/// has long journals to read, and then it has a pulse.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the shards' pulses are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Looks in a row without a pulse that make a shard a dead one. A shard's loop turns ten times a second.
const WATCH_MISSES_MAX: u32 = 5;

/// Why the server didn't start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The machine isn't fit.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// A shard failed.
    #[error("shard {shard}: {error}")]
    Shard {
        /// Which.
        shard: usize,
        /// How.
        error: ShardError,
    },
    /// A thread or a signal handler couldn't be set up.
    #[error("can't set up {what}: {source}")]
    Setup {
        /// What.
        what: &'static str,
        /// What the kernel said.
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
    /// Certificates that can't be used.
    #[error(transparent)]
    Certificates(#[from] MaterialError),
    /// Settings that the engine refuses.
    #[error(transparent)]
    Engine(#[from] engine::ConfigError),
    /// A shard that neither serves nor ended.
    #[error("shard {shard} has stopped turning")]
    Hung {
        /// Which.
        shard: usize,
    },
    /// A shard neither listened nor failed, nor had a pulse.
    #[error("shard {shard} hasn't started, and has given no sign of life for {} s", START_TIMEOUT.as_secs())]
    StartTimeout {
        /// Which.
        shard: usize,
    },
}

impl ServeError {
    /// Whether a shard's journal can't be opened: another start won't help by itself.
    pub fn is_of_journal(&self) -> bool {
        let Self::Shard { error: ShardError::Collection(error), .. } = self else { return false };
        !matches!(error, CollectionError::Failed { .. })
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Where it listens, and whether TLS is spoken there.
    addresses: Vec<(SocketAddr, bool)>,
    certificates: Option<Arc<Published<Acceptor>>>,
    settings: Arc<Published<engine::Config>>,
    shown: Arc<Published<Shown>>,
    connections: NonZeroU32,
    steering: Steering,
    control: Arc<Control>,
    events: Receiver<Event>,
    threads: Vec<JoinHandle<()>>,
    notify: Notify,
    spans_lost: Lost,
    exporting: Option<Exporting>,
}

impl Server {
    /// Starts all shards and waits until each accepts connections.
    ///
    /// # Errors
    /// If the machine isn't fit, or a shard can't begin; those that could are told to end.
    pub fn start(config: impl Into<Arc<Config>>) -> Result<Self, ServeError> {
        Self::start_beside(&config.into(), &[])
    }

    /// As [`Server::start`]; shards close their copies of `others`, which are the process's.
    fn start_beside(config: &Arc<Config>, others: &[RawFd]) -> Result<Self, ServeError> {
        let connections = preflight::check(config)?;
        let (sender, events) = mpsc::channel();
        let control = Arc::new(Control::new(config.shards.get()));
        let certificates = config.tls.clone().map(Certificates::load).transpose()?;
        let current = certificates.as_ref().map(Certificates::current);
        let keeper = keeper::spawn(certificates, config.memory_max_mib, Arc::clone(&control))
            .map_err(|source| ServeError::Setup { what: "the keeper's thread", source })?;
        let listeners = Listeners::open(config, listeners::inherited(config)?)?;
        let plan = Plan {
            of_shards: (0..config.shards.get()).map(|shard| listeners.of_shard(shard)).collect(),
            all: [&listeners.descriptors(), others].concat(),
        };
        let mut server = Self {
            addresses: listeners.addresses(),
            certificates: current,
            settings: Arc::new(Published::new(engine_config(config, connections)?)),
            shown: Arc::new(Published::new(Shown::of(config))),
            connections,
            steering: Steering::new(Arc::clone(&control), listeners, keeper, config.drain)
                .map_err(|source| ServeError::Setup { what: "the thread for upgrades", source })?,
            control,
            events,
            threads: Vec::new(),
            notify: Notify::default(),
            spans_lost: Lost::default(),
            exporting: None,
        };
        let exporter = config.otlp.as_ref().map(Exporter::new);
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

    /// Where it listens; the first of the addresses, if there are two.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0].0
    }

    /// Where it listens, and whether TLS is spoken there.
    pub fn addresses(&self) -> &[(SocketAddr, bool)] {
        &self.addresses
    }

    /// The way to steer it from elsewhere.
    pub fn steering(&self) -> Steering {
        self.steering.clone()
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
        let (settings, shown) = (Arc::clone(&self.settings), Arc::clone(&self.shown));
        let reloader = Reloader::new(source, config, self.connections, settings, filter, shown)?;
        self.steering.install(reloader);
        Ok(())
    }

    /// What its shards share with the process.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Asks it to close every connection in good order and end.
    pub fn drain(&self) {
        self.steering.drain();
    }

    /// Asks it to end at once.
    pub fn stop(&self) {
        self.steering.stop();
    }

    /// Passes on signals: SIGINT and SIGTERM drain, and stop if they come again; SIGHUP reloads; SIGUSR2 upgrades.
    ///
    /// # Errors
    /// If the thread that waits for them can't be started.
    pub fn obey(&self, mut signals: Signals) -> Result<(), ServeError> {
        let steering = self.steering();
        let thread = std::thread::Builder::new().name("signals".to_owned());
        let wait = move || {
            for signal in signals.forever() {
                act_on(&steering, signal);
            }
        };
        thread.spawn(wait).map_err(no_signals)?;
        Ok(())
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
                    watchdog.look(&self.control.pulses())?;
                    self.notify.alive();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.steering.settle_upgrade();
        let exporting = self.exporting.take();
        self.join();
        exporting.into_iter().for_each(Exporting::finish);
        Ok(())
    }

    fn export(&mut self, exporter: Option<Exporter>, config: &Config) -> Result<(), ServeError> {
        let Some(exporter) = exporter else { return Ok(()) };
        self.spans_lost = exporter.lost();
        let setup = |source| ServeError::Setup { what: "the thread that exports traces", source };
        self.exporting = Some(exporter.start(config.shard_cpus()).map_err(setup)?);
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
                tracer: exporter.map(|exporter| exporter.tracer(shard)),
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
                Err(_) => starting.look(&self.control.pulses())?,
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

/// Which descriptors are whose.
struct Plan {
    of_shards: Vec<Vec<(RawFd, bool)>>,
    all: Vec<RawFd>,
}

/// Does what a signal asks for.
fn act_on(steering: &Steering, signal: i32) {
    match signal {
        SIGHUP => {
            tracing::info!("told to reload");
            steering.reload();
        }
        SIGUSR2 => {
            tracing::info!("told to upgrade");
            // It takes a while, during which other signals count.
            steering.begin_upgrade();
        }
        signal => {
            tracing::info!(signal, "told to end");
            steering.end();
        }
    }
}

/// Shards that don't listen yet: for each its pulse at the last look.
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

    /// An error if one of them hasn't had a pulse since the last look.
    fn look(&mut self, pulses: &[u64]) -> Result<(), ServeError> {
        for (shard, (seen, &pulse)) in self.0.iter_mut().zip(pulses).enumerate() {
            let Some(last) = seen else { continue };
            if *last == pulse {
                return Err(ServeError::StartTimeout { shard });
            }
            *last = pulse;
        }
        Ok(())
    }
}

/// Notices shards whose loop has stopped turning.
///
/// It counts its own looks, not time: a process that was stopped as a whole has no dead shards.
#[derive(Debug)]
struct Watchdog {
    /// For each shard that runs: its pulse at the last look, and looks since it changed.
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

    fn look(&mut self, pulses: &[u64]) -> Result<(), ServeError> {
        for (shard, (seen, &pulse)) in self.shards.iter_mut().zip(pulses).enumerate() {
            let Some((last, misses)) = seen else { continue };
            *misses = if *last == pulse { *misses + 1 } else { 0 };
            *last = pulse;
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
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR2]).map_err(no_signals)?;
    // Also before they do, so that a taken port drops no client.
    let endpoint = Endpoint::bind(&config)?;
    let others = endpoint.as_ref().map(Endpoint::descriptors).unwrap_or_default();
    let mut server = Server::start_beside(&Arc::new(config.clone()), &others)?;
    let admin = endpoint.as_ref().map(Endpoint::addresses).unwrap_or_default();
    server.notify = Notify::from_environment();
    server.steering.set_notify(server.notify.clone());
    let subject = Subject {
        control: Arc::clone(server.control()),
        steering: server.steering(),
        address: server.address(),
        cpus: config.shard_cpus(),
        collects_events: config.events.is_some(),
        started,
        losses: log.losses(),
        spans_lost: server.spans_lost.clone(),
        shown: Arc::clone(&server.shown),
    };
    server.reload_from(source, config, log.filter())?;
    server.obey(signals)?;
    // Last of all that may fail: from here on a process before this one isn't reached there any more. Kept until the end,
    // since dropping it removes its unix sockets.
    let admin_endpoint = endpoint.map(|endpoint| endpoint.serve(subject)).transpose()?;
    let what = crate::text::counted(shards as u64, "shard");
    server.notify.ready(&format!("{what} on CPUs {cpus}, listening on {}", server.address()));
    tracing::info!(
        address = %server.address(),
        tls = server.addresses().iter().find(|(_, tls)| *tls).map(|(address, _)| tracing::field::display(address)),
        shards,
        cpus,
        admin = %crate::config::AdminAddress::list(&admin),
        pid = process::id(),
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    if let Some(admin) = &admin_endpoint {
        admin.log();
    }
    upgrade::tell_predecessor();
    server.wait()?;
    tracing::info!("ended");
    Ok(())
}

fn no_signals(source: io::Error) -> ServeError {
    ServeError::Setup { what: "signal handling", source }
}

/// The engine's settings, for the shard 0; `connections` for each.
pub(crate) fn engine_config(
    config: &Config,
    connections: NonZeroU32,
) -> Result<engine::Config, engine::ConfigError> {
    Ok(engine::Config {
        shard: 0,
        credentials: engine::Credentials::new(&config.credentials.user, &config.credentials.pass)?,
        second: engine::Rate::new(Mode::Second, config.ticks_per_second.get())?,
        minute: engine::Rate::new(Mode::Minute, config.ticks_per_minute.get())?,
        phase: config.phase,
        batch_window_ms: millis(config.batch_window),
        heartbeat_interval_ms: millis(config.heartbeat_interval),
        heartbeat_timeout_ms: millis(config.heartbeat_timeout),
        proxy_protocol: config.proxy_protocol,
        proxy_trusted: config.proxy_trusted.clone(),
        seed: seed(),
        ingest: config.events.as_ref().map(ingest_config),
        limits: engine::Limits {
            connections: connections.get(),
            connections_per_address: config.max_connections_per_ip,
            unauthenticated: config.unauthenticated_max.get(),
            unauthenticated_per_address: config.unauthenticated_per_ip_max,
            connections_per_second: config.connections_per_second_max,
            auth_failures_per_minute: config.auth_failures_per_minute_max,
            lag_ms: config.overload_lag.map_or(0, millis),
            payload_bytes: config.max_msg_size.get(),
            handshake_timeout_ms: millis(config.handshake_timeout),
            auth_timeout_ms: millis(config.auth_timeout),
            write_deadline_ms: millis(config.write_deadline),
            frames_per_second: config.frames_per_second_max.get(),
            replay_window_ms: millis(config.replay_window),
            replay_ticks: u64::from(config.replay_ticks_max),
        },
    })
}

fn ingest_config(events: &Events) -> engine::IngestConfig {
    let defaults = engine::IngestConfig::new(&events.server_id, seed());
    engine::IngestConfig {
        credits: events.credits,
        publish_bytes: events.publish_bytes,
        record_bytes: shard::record_bytes_max(events),
        events_per_second: events.events_per_second,
        ahead_ms_max: events.ahead_max.as_millis() as u64,
        age_ms_max: events.age_max.as_millis() as u64,
        event_ids: events.event_ids,
        // docs/protocol.md: what may be sent as it is may be sent packed.
        unpacked_bytes: defaults.unpacked_bytes.max(events.publish_bytes),
        privacy: events.privacy.clone(),
        ..defaults
    }
}

/// A number that nobody can guess: std keys its hash tables with such.
fn seed() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8)
}

/// Whole milliseconds; every duration of [`Config`] is below 49 days.
fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_batch_may_be_as_long_as_one_that_is_not() {
        let check = |size: &str, expected| {
            let settings =
                [("stream_user", "u"), ("stream_pass", "p"), ("journal", "j"), ("publish_size_max", size)];
            let values = crate::config::Values::of_program(settings).unwrap();
            let config = Config::from_merged(&values).unwrap();
            let ingest = ingest_config(config.events.as_ref().unwrap());
            assert_eq!(ingest.unpacked_bytes, expected, "{size}");
        };
        check("512KiB", 1 << 20);
        check("4MiB", 4 << 20);
    }

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
    fn a_shard_without_a_pulse_is_noticed_and_one_that_ended_is_not() {
        let mut watchdog = Watchdog::new(3);
        watchdog.forget(2);
        for look in 1..WATCH_MISSES_MAX {
            assert!(watchdog.look(&[u64::from(look), 0, 0]).is_ok(), "look {look}");
        }
        let hung = watchdog.look(&[u64::from(WATCH_MISSES_MAX), 0, 0]);
        assert!(matches!(hung, Err(ServeError::Hung { shard: 1 })), "{hung:?}");
    }
}
