//! `run`: a loader, maintenance and the HTTP wire in one process, until SIGTERM.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tickstream_warehouse_core::loader::{Loader, Options, with_sources};
use tickstream_warehouse_core::maintenance::{Lease, MaintenanceError, compact, vacuum};
use tickstream_warehouse_core::query::tail::Ids;
use tickstream_warehouse_core::query::{Engine, Limits};
use tickstream_warehouse_core::serve::{Users, http};
use tickstream_warehouse_core::store::{LoaderLock, Tables};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::args::Run;
use crate::commands::place;

/// Runs until SIGTERM or SIGINT; then what is there is loaded, answers that were begun are finished, and the process ends.
pub async fn run(args: Run) -> Result<ExitCode> {
    let tables = place(&args.place)?;
    let _lock = LoaderLock::take(&tables)?;
    let users = args.users.as_deref().map(Users::read).transpose()?;
    let listener = match args.http {
        Some(address) => {
            Some(TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?)
        }
        None => None,
    };
    let options = Options { accepted: args.accept, ..Options::default() };
    let mut loader = Loader::open(&tables, &args.journal, options).await?;
    loader.load_all().await?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    if let (Some(listener), Some(users)) = (listener, users) {
        let ids = Ids::Shared(loader.ids());
        let engine = Engine::open(&tables, args.journal, ids, Limits::new(tables.state())).await?;
        eprintln!("POST SQL to http://{}/v1/query", listener.local_addr()?);
        tasks.spawn(http::serve(listener, Arc::new(engine), users, stopped.clone()));
    }
    tasks.spawn(maintain(tables, args.maintenance_interval, stopped.clone()));
    let loading = tokio::spawn(async move { loader.follow(args.interval, stopped, |_| {}).await });
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut loading = std::pin::pin!(loading);
    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = &mut loading => Some(ended),
    };
    let _ = stop.send(true);
    let ended = match ended {
        Some(ended) => ended,
        None => loading.await,
    };
    while tasks.join_next().await.is_some() {}
    ended.context("the loader's task ended")??;
    Ok(ExitCode::SUCCESS)
}

/// Compacts and vacuums now and then, unless another process does.
async fn maintain(tables: Tables, interval: Duration, mut stop: watch::Receiver<bool>) {
    let limits = Limits::new(tables.state());
    loop {
        if tokio::time::timeout(interval, stop.changed()).await.is_ok() {
            return;
        }
        match round(&tables, &limits).await {
            Ok(()) => {}
            Err(MaintenanceError::Held { holder }) => {
                tracing::debug!(holder, "another process maintains the tables")
            }
            Err(error) => {
                tracing::warn!(error = with_sources(&error), "maintenance failed and is tried again")
            }
        }
    }
}

async fn round(tables: &Tables, limits: &Limits) -> Result<(), MaintenanceError> {
    let mut lease = Lease::take(tables).await?;
    let done = async {
        compact::compact(tables, &mut lease, &compact::Options::default(), limits).await?;
        vacuum::vacuum(tables, &mut lease, &vacuum::Options::default()).await
    };
    let done = done.await;
    lease.release().await;
    done.map(|_| ())
}
