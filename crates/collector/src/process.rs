//! The collector as a process: admin endpoint, signals, the service manager.

use std::{
    future::pending,
    io,
    pin::pin,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use tickstream_client::Builder;
use tickstream_service::{
    admin::{Admin as Serving, AdminError, AdminToken, Endpoint, Page, Program, Router, StatusCode, json},
    logs::LogGuard,
    metrics::{Process, ProcessMetrics, Registry, Text},
    notify::Notify,
    settings::ConfigError,
    signals::{Signal, Signals},
    standard::Standard,
};
use tokio::{
    sync::mpsc,
    task::{block_in_place, spawn_blocking},
};

use crate::{
    Collector, StartError,
    clock::now_ns,
    free_memory::{self, Allocator},
    handover::Inherited,
    intake::{Intake, SharedIntake},
    keys::{Keys, KeysError},
    settings::CollectSettings,
    snapshot::Snapshot,
    source_config::SourceConfig,
    tls::{TlsError, TlsFiles},
};

/// Why a collector ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The keys can't be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The listeners' TLS.
    #[error("no TLS with listen_cert, listen_key and listen_client_ca")]
    Tls(#[from] TlsError),
    /// The collector can't start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A setting can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The admin endpoint.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Threads, signals.
    #[error("can't set up {what}")]
    Setup {
        /// The part.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// The live page.
const PAGE: &str = include_str!("page.html");

/// Options of a collector process.
pub struct Options {
    /// Its own settings.
    pub settings: CollectSettings,
    /// Files of the listeners' TLS, where it is on.
    pub tls: Option<TlsFiles>,
    /// Sources that the collector goes to by itself.
    pub sources: SourceConfig,
    /// Those of every program.
    pub standard: Standard,
    /// The admin endpoint's token.
    pub token: Option<AdminToken>,
    /// All settings for people, secrets masked.
    pub effective: String,
    /// The process's allocator.
    pub allocator: Allocator,
}

/// Runs until a signal ends it. `builder` makes a client for the connection with this index.
///
/// # Errors
/// [`RunError`].
pub fn run(options: Options, builder: impl FnMut(usize) -> Builder, logs: &LogGuard) -> Result<(), RunError> {
    let signals = Signals::take().map_err(setup("signals"))?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = options.settings.workers {
        runtime.worker_threads(workers.get() as usize);
    }
    let runtime = runtime.enable_all().thread_name("collect").build().map_err(setup("threads"))?;
    let result = runtime.block_on(collect(options, builder, signals, logs));
    // Tasks that outlast the drain aren't waited for.
    runtime.shutdown_background();
    result
}

/// The error of a part that can't be set up.
fn setup(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Setup { what, source }
}

/// Paths of the admin endpoint.
fn router(program: Admin) -> Router<Admin> {
    Router::new("tickstream collect", Arc::new(program))
        .page(Page::new(PAGE))
        .get("/snapshot", "state and counters, as JSON", |program, _| async move {
            let snapshot = program.intake.upgrade().map(|intake| Snapshot::of(&intake, now_ns() / 1_000_000));
            json(StatusCode::OK, &snapshot)
        })
        .get("/senders", "the keys that have sent, and their last events", |program, _| async move {
            json(StatusCode::OK, &program.intake.upgrade().map(|intake| intake.metrics.senders()))
        })
}

async fn collect(
    options: Options,
    builder: impl FnMut(usize) -> Builder,
    signals: Signals,
    logs: &LogGuard,
) -> Result<(), RunError> {
    let Options { settings, tls, sources, standard, token, effective, allocator } = options;
    let keys = settings.keys.as_deref().map(Keys::read).transpose()?;
    let mut inherited = Inherited::receive().map_err(setup("the sockets of the process before"))?;
    let admin = Endpoint::bind(&standard.admin, inherited.is_successor())?;
    let tls = tls.map(|files| files.read()).transpose()?;
    let config = settings.config(keys, tls, sources);
    let (sources, state_dir) = (config.sources.clone(), config.state_dir.clone());
    let mut collector = Collector::listen(config, builder, &mut inherited).await?;
    let registry = Registry::default();
    let process =
        ProcessMetrics::new(&registry, env!("CARGO_PKG_VERSION"), SystemTime::now(), Some(logs.losses()));
    let program = Admin { intake: Arc::downgrade(collector.intake()), token, effective, registry, process };
    let router = router(program);
    let mut admin = admin.map(|endpoint| endpoint.serve(router, || {}, pending())).transpose()?;
    let notify = Notify::from_environment();
    let (sender, mut received) = mpsc::unbounded_channel();
    signals.forward(move |signal| _ = sender.send(signal)).map_err(setup("signals"))?;
    let addresses: Vec<_> = collector.addresses().iter().map(ToString::to_string).collect();
    tracing::info!(addresses = addresses.join(","), to = settings.to.join(","), "collecting");
    notify.ready("collecting");
    inherited.tell_ready();
    tokio::spawn(free_memory::watch(allocator));
    let mut predecessor_ends = pin!(spawn_blocking(|| inherited.wait_for_end()));
    let mut may_start_sources = true;
    let successor = loop {
        let signal = tokio::select! {
            _ = &mut predecessor_ends, if may_start_sources => {
                may_start_sources = false;
                collector.start_sources(sources.clone(), state_dir.clone())?;
                continue;
            }
            signal = received.recv() => signal,
        };
        match signal {
            Some(Signal::Reload) => reload(&settings, &collector, &notify),
            Some(Signal::Upgrade) => match block_in_place(|| collector.hand_over()) {
                Ok(successor) => break Some(successor),
                Err(error) => {
                    let error = tickstream_client::with_causes(&error);
                    tracing::error!(%error, "this process goes on");
                }
            },
            Some(Signal::End) | None => break None,
        }
    };
    if successor.is_some() {
        tracing::info!("a new process serves");
        // A signal to end that came meanwhile isn't the second one, which ends a process that drains at once.
        while received.try_recv().is_ok() {}
        drop(admin.take());
    } else {
        notify.stopping(settings.drain_timeout);
    }
    drain(collector, settings.drain_timeout, received).await;
    block_in_place(|| admin.into_iter().for_each(Serving::finish));
    Ok(())
}

/// Reads the keys again. Those that there are stay, if the file can't be used.
fn reload(settings: &CollectSettings, collector: &Collector, notify: &Notify) {
    notify.reloading();
    match settings.keys.as_deref().map(Keys::read).transpose() {
        Ok(keys) => {
            tracing::info!(keys = keys.as_ref().map_or(0, Keys::len), "read the keys again");
            collector.set_keys(keys);
        }
        Err(error) => {
            let error = tickstream_client::with_causes(&error);
            tracing::error!(%error, "the keys stay as they were");
        }
    }
    notify.ready("collecting");
}

async fn drain(collector: Collector, patience: Duration, mut received: mpsc::UnboundedReceiver<Signal>) {
    tracing::info!(?patience, "ending: no more is taken, what was taken comes to its answer");
    let again = async { while !matches!(received.recv().await, Some(Signal::End) | None) {} };
    tokio::select! {
        () = collector.drain(patience) => tracing::info!("ended"),
        () = again => tracing::warn!("ended at once, by a second signal"),
    }
}

/// State that the admin endpoint shows. Doesn't keep the collector from ending.
struct Admin {
    intake: Weak<Intake>,
    token: Option<AdminToken>,
    effective: String,
    registry: Registry,
    process: ProcessMetrics,
}

impl Admin {
    fn intake(&self) -> Result<SharedIntake, String> {
        self.intake.upgrade().ok_or_else(|| "the collector has ended\n".to_owned())
    }
}

impl Program for Admin {
    fn config(&self) -> String {
        self.effective.clone()
    }

    fn token(&self) -> Option<AdminToken> {
        self.token.clone()
    }

    fn health(&self) -> Result<(), String> {
        self.intake().map(drop)
    }

    fn readiness(&self) -> Result<(), String> {
        let is_ready = self.intake()?.is_ready();
        if is_ready {
            Ok(())
        } else {
            Err("no server can be reached, or the collector is ending\n".to_owned())
        }
    }

    async fn metrics(&self) -> String {
        let mut text = Text::default();
        self.process.set(&Process::read(), &mut text);
        if let Ok(intake) = self.intake() {
            intake.metrics.write(&mut text);
            let gauges = [
                (
                    "tickstream_collector_memory_bytes",
                    "Bytes that requests hold.",
                    intake.budget.used() as u64,
                ),
                (
                    "tickstream_collector_queue_bytes",
                    "Bytes of events without an answer.",
                    intake.queued_bytes() as u64,
                ),
                (
                    "tickstream_collector_connected",
                    "1 while a server can be reached.",
                    u64::from(intake.is_connected()),
                ),
            ];
            for (name, help, value) in gauges {
                text.family(name, "gauge", help);
                text.sample(name, &[], value);
            }
            if let Some(spool) = intake.spool() {
                let name = "tickstream_collector_disk_queue_bytes";
                text.family(name, "gauge", "Bytes of the disk queue that the servers don't have yet.");
                text.sample(name, &[], spool.bytes());
                let name = "tickstream_collector_disk_queue_rejected_total";
                text.family(name, "counter", "Events of the disk queue that the servers rejected for good.");
                text.sample(name, &[], spool.rejected());
            }
            let name = "tickstream_collector_datagrams_dropped_total";
            text.family(name, "counter", "Events that came by UDP and found no room.");
            text.sample(name, &[], intake.metrics.dropped());
        }
        self.registry.render(text)
    }
}

#[cfg(test)]
mod tests {
    use super::PAGE;

    #[test]
    fn the_page_names_no_other_host_and_takes_nothing_for_markup() {
        assert!(PAGE.len() < 64 * 1024 && !PAGE.contains("http"), "{} bytes", PAGE.len());
        for way in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=\"", "src="]
        {
            assert!(!PAGE.contains(way), "{way}");
        }
        let ids: Vec<&str> = PAGE.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        for wanted in ["$(\"", "say(\"", "fill(\"", "aria-labelledby=\""] {
            for id in PAGE.split(wanted).skip(1).filter_map(|rest| rest.split('"').next()) {
                assert_eq!(ids.iter().filter(|known| **known == id).count(), 1, "{id}");
            }
        }
    }
}
