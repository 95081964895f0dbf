//! State of a running warehouse: for metrics, health and the service manager.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tickstream_service::admin::{AdminToken, Program};
use tickstream_service::logs::LogLosses;
use tickstream_service::metrics::{Family, Process, ProcessMetrics, Registry, Series, Text, counter, gauge};
use tickstream_warehouse_core::loader::{LoadError, Loader, with_sources};
use tickstream_warehouse_core::query::Engine;

/// Time without a commit or a look at the journals after which the warehouse is unhealthy.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Numbers of a warehouse.
#[derive(Debug, Default)]
pub struct Numbers {
    rows: u64,
    duplicates: u64,
    suppressed: u64,
    commits: u64,
    conflicts: u64,
    version: u64,
    waiting: u64,
    lag_seconds: f64,
    queries: u64,
    queries_failed: u64,
    queries_running: u64,
    maintenance_failed: u64,
    mirror_lag_records: u64,
}

/// Every metric of a warehouse but those of each process.
pub static FAMILIES: &[Family<Numbers>] = &[
    counter("tickstream_warehouse_rows_total", |now| now.rows, "Rows that were committed."),
    counter(
        "tickstream_warehouse_duplicates_total",
        |now| now.duplicates,
        "Events that were dropped because their id was loaded before.",
    ),
    counter(
        "tickstream_warehouse_suppressed_total",
        |now| now.suppressed,
        "Events that were dropped because they name an erased identifier.",
    ),
    counter("tickstream_warehouse_commits_total", |now| now.commits, "Commits of the loader."),
    counter(
        "tickstream_warehouse_conflicts_total",
        |now| now.conflicts,
        "Commits of the loader that another one came before.",
    ),
    gauge("tickstream_warehouse_version", |now| now.version as f64, "Version of the table of events."),
    gauge("tickstream_warehouse_waiting_rows", |now| now.waiting as f64, "Rows that wait for their commit."),
    gauge(
        "tickstream_warehouse_lag_seconds",
        |now| now.lag_seconds,
        "Time since all records that were there were committed.",
    ),
    counter("tickstream_warehouse_queries_total", |now| now.queries, "Queries that were begun."),
    counter("tickstream_warehouse_queries_failed_total", |now| now.queries_failed, "Queries that failed."),
    gauge(
        "tickstream_warehouse_queries_running",
        |now| now.queries_running as f64,
        "Queries that run or wait.",
    ),
    counter(
        "tickstream_warehouse_maintenance_failed_total",
        |now| now.maintenance_failed,
        "Rounds of maintenance that failed.",
    ),
    gauge(
        "tickstream_warehouse_mirror_lag_records",
        |now| now.mirror_lag_records as f64,
        "Records of journals that are in the tables and not yet in ClickHouse.",
    ),
];

/// State of a warehouse, shared by its tasks.
pub struct Status {
    config: String,
    token: Option<AdminToken>,
    registry: Registry,
    process: ProcessMetrics,
    series: Series<Numbers>,
    numbers: Mutex<Numbers>,
    engine: Mutex<Option<Arc<Engine>>>,
    loading: Mutex<Loading>,
    maintenance_failed: AtomicU64,
    mirror_lag_records: AtomicU64,
}

struct Loading {
    is_loading: bool,
    complete: Instant,
    error: Option<String>,
}

impl Status {
    /// State at the start.
    pub fn new(config: String, token: Option<AdminToken>, losses: LogLosses) -> Self {
        let registry = Registry::default();
        let process =
            ProcessMetrics::new(&registry, env!("CARGO_PKG_VERSION"), SystemTime::now(), Some(losses));
        let series = registry.series(FAMILIES, &[]);
        Self {
            config,
            token,
            process,
            series,
            registry,
            numbers: Mutex::default(),
            engine: Mutex::default(),
            loading: Mutex::new(Loading { is_loading: false, complete: Instant::now(), error: None }),
            maintenance_failed: AtomicU64::new(0),
            mirror_lag_records: AtomicU64::new(0),
        }
    }

    /// Names the engine that answers queries.
    pub fn serves(&self, engine: Arc<Engine>) {
        *lock(&self.engine) = Some(engine);
    }

    /// Notes a round of the loader.
    pub fn loaded(&self, loader: &Loader, result: Result<(), &LoadError>) {
        let counts = loader.counts();
        let mut numbers = lock(&self.numbers);
        numbers.rows = counts.rows;
        numbers.duplicates = counts.duplicates;
        numbers.suppressed = counts.suppressed;
        numbers.commits = counts.commits;
        numbers.conflicts = counts.conflicts;
        numbers.version = loader.version();
        numbers.waiting = loader.waiting() as u64;
        let mut loading = lock(&self.loading);
        loading.is_loading = true;
        match result {
            Ok(()) => {
                loading.complete = Instant::now();
                loading.error = None;
            }
            Err(error) => loading.error = Some(with_sources(error)),
        }
    }

    /// Notes a round of maintenance that failed.
    pub fn maintenance_failed(&self) {
        self.maintenance_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how far ClickHouse is behind.
    pub fn mirrored(&self, lag_records: u64) {
        self.mirror_lag_records.store(lag_records, Ordering::Relaxed);
    }
}

impl Program for Status {
    fn config(&self) -> String {
        self.config.clone()
    }

    fn token(&self) -> Option<AdminToken> {
        self.token.clone()
    }

    fn health(&self) -> Result<(), String> {
        let loading = lock(&self.loading);
        let silence = loading.complete.elapsed();
        if !loading.is_loading || silence < SILENCE_MAX {
            return Ok(());
        }
        let error = loading.error.as_deref().unwrap_or("the loader is at work");
        Err(format!("nothing was loaded for {} s: {error}\n", silence.as_secs()))
    }

    async fn metrics(&self) -> String {
        let mut more = Text::default();
        self.process.set(&Process::read(), &mut more);
        let mut numbers = lock(&self.numbers);
        let loading = lock(&self.loading);
        numbers.lag_seconds = if loading.is_loading { loading.complete.elapsed().as_secs_f64() } else { 0.0 };
        drop(loading);
        if let Some(engine) = lock(&self.engine).as_ref() {
            let counts = engine.counts();
            numbers.queries = counts.begun;
            numbers.queries_failed = counts.failed;
            numbers.queries_running = counts.running;
        }
        numbers.maintenance_failed = self.maintenance_failed.load(Ordering::Relaxed);
        numbers.mirror_lag_records = self.mirror_lag_records.load(Ordering::Relaxed);
        self.series.set(&numbers);
        drop(numbers);
        self.registry.render(more)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
