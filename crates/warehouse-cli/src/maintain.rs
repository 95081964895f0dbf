//! Maintenance beside the loader: compaction, vacuum, retention, derived tables, jobs, the mirror in ClickHouse.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tickstream_insights::transform::{self, TransformError};
use tickstream_warehouse_core::events::enrichment::Geo;
use tickstream_warehouse_core::jobs;
use tickstream_warehouse_core::loader::with_sources;
use tickstream_warehouse_core::maintenance::{
    Lease, MaintenanceError, aggregate, compact, retention::Retention, vacuum,
};
use tickstream_warehouse_core::mirror::{ClickHouse, Mirror};
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits};
use tickstream_warehouse_core::rules::Rules;
use tickstream_warehouse_core::store::Tables;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::background::Background;
use crate::settings::Settings;
use crate::status::Status;

/// Pause after a round that failed, at most.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Starts the tasks.
///
/// # Errors
/// If rules or the URL of ClickHouse can't be used.
pub fn start(
    tables: &Tables,
    settings: &Settings,
    engine: &Arc<Engine>,
    status: &Arc<Status>,
    background: &Background,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<()> {
    let rules = settings.rules.as_deref().map(Rules::read).transpose()?.unwrap_or_default();
    if let Some(url) = &settings.clickhouse {
        let clickhouse = ClickHouse::at(url)?;
        tasks.spawn(reflect(tables.clone(), clickhouse, settings.interval, status.clone(), stopped.clone()));
    }
    if !rules.jobs.is_empty() {
        let (jobs, tables, engine, stopped) =
            (rules.jobs.clone(), tables.clone(), engine.clone(), stopped.clone());
        tasks.spawn(async move {
            jobs::run(&jobs, &tables, &engine, stopped).await;
            Ok(())
        });
    }
    tasks.spawn(background.run(maintain(
        tables.clone(),
        rules,
        settings.maintenance_interval,
        status.clone(),
        stopped.clone(),
    )));
    Ok(())
}

/// Brings new rows to ClickHouse.
async fn reflect(
    tables: Tables,
    clickhouse: ClickHouse,
    interval: Duration,
    status: Arc<Status>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let mut pause = interval;
    let mut mirror = Mirror::open(&tables, clickhouse).await?;
    loop {
        match mirror.step().await {
            Ok(progress) => {
                status.mirrored(progress.lag_records);
                pause = if progress.is_complete { interval } else { Duration::ZERO };
            }
            Err(error) => {
                tracing::warn!(
                    error = with_sources(&error),
                    "ClickHouse can't be written and is tried again"
                );
                pause = (pause * 2).clamp(Duration::from_secs(1), PAUSE_MAX);
            }
        }
        if tokio::time::timeout(pause, stop.changed()).await.is_ok() {
            return Ok(());
        }
    }
}

/// Pause after a round, as a multiple of what it took: a round that takes long leaves the CPUs to new events.
const REST: u32 = 3;

/// Compacts, applies retention, computes derived tables and vacuums now and then, unless another process does.
async fn maintain(
    tables: Tables,
    rules: Rules,
    interval: Duration,
    status: Arc<Status>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let limits = Limits::new(tables.state());
    let mut retention = Retention::new(rules.retention);
    let ids = Ids::Files(tables.state().to_owned());
    let unlimited = Limits { rows: u64::MAX, time: Duration::from_secs(24 * 3600), ..limits.clone() };
    let engine = Engine::open(&tables, Vec::new(), ids, Geo::default(), unlimited).await?;
    let mut pause = interval;
    loop {
        if tokio::time::timeout(pause, stop.changed()).await.is_ok() {
            return Ok(());
        }
        let begun = Instant::now();
        let done = round(&tables, &mut retention, &engine, &limits).await;
        pause = interval.max(begun.elapsed() * REST);
        match done {
            Ok(()) => {}
            Err(TransformError::Maintenance(MaintenanceError::Held { holder })) => {
                tracing::debug!(holder, "another process maintains the tables");
            }
            Err(error) => {
                status.maintenance_failed();
                tracing::warn!(error = with_sources(&error), "maintenance failed and is tried again");
            }
        }
    }
}

async fn round(
    tables: &Tables,
    retention: &mut Retention,
    engine: &Engine,
    limits: &Limits,
) -> Result<(), TransformError> {
    let mut lease = Lease::take(tables).await?;
    let done = async {
        compact::compact(tables, &mut lease, &compact::Options::default(), limits).await?;
        retention.apply(tables, &mut lease, limits).await?;
        aggregate::update(tables, &mut lease, engine).await?;
        transform::update(tables, &mut lease, engine, false).await?;
        vacuum::vacuum(tables, &mut lease, &vacuum::Options::default()).await?;
        Ok(())
    };
    let done = done.await;
    lease.release().await;
    done
}
