//! Vacuum: removes files that no version in use names any more.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use deltalake::DeltaTable;
use deltalake::logstore::object_store::path::Path as StorePath;
use deltalake::logstore::object_store::{Error, ObjectStoreExt};
use futures::TryStreamExt;

use super::{Lease, MaintenanceError};
use crate::aggregates;
use crate::derived::DERIVED;
use crate::store::{Tables, job_tables};

/// Ages from which files are removed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Since a commit gave the file up. Queries that run for longer than this may fail.
    pub removed_for: Duration,
    /// Since a file was written that no commit names: a loader that was killed left it.
    pub orphaned_for: Duration,
    /// Files that no commit names go at once if they were written before this: no loader commits them any more.
    pub orphaned_before: Option<DateTime<Utc>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            removed_for: Duration::from_secs(300),
            orphaned_for: Duration::from_secs(3600),
            orphaned_before: None,
        }
    }
}

/// Numbers of a vacuum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files that were removed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Removes files that no version in use names.
///
/// # Errors
/// If files can't be listed or removed.
pub async fn vacuum(
    tables: &Tables,
    lease: &mut Lease,
    options: &Options,
) -> Result<Report, MaintenanceError> {
    let mut report = Report::default();
    lease.renew().await?;
    remove(&tables.open().await?, options, &mut report).await?;
    for name in std::iter::once(aggregates::NAME).chain(DERIVED.iter().map(|derived| derived.name)) {
        if let Some(table) = tables.open_named(name).await? {
            lease.renew().await?;
            remove(&table, options, &mut report).await?;
        }
    }
    // Jobs write without the lease.
    let of_jobs = Options { orphaned_before: None, ..*options };
    for name in tables.names_below(job_tables::DIRECTORY).await? {
        if let Some(table) = tables.open_named(&name).await? {
            remove(&table, &of_jobs, &mut report).await?;
        }
    }
    Ok(report)
}

async fn remove(table: &DeltaTable, options: &Options, report: &mut Report) -> Result<(), MaintenanceError> {
    let store = table.object_store();
    for (path, bytes) in unused(table, options).await? {
        match store.delete(&path).await {
            Ok(()) => {
                report.files += 1;
                report.bytes += bytes;
            }
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(MaintenanceError::delta("removing files")(error.into())),
        }
    }
    Ok(())
}

async fn unused(table: &DeltaTable, options: &Options) -> Result<Vec<(StorePath, u64)>, MaintenanceError> {
    let failed = MaintenanceError::delta;
    let state = table.snapshot().map_err(failed("reading the log"))?;
    let used: HashSet<String> = state.log_data().iter().map(|file| file.path().into_owned()).collect();
    let removed: HashMap<String, i64> = state
        .all_tombstones(table.log_store().as_ref())
        .map_ok(|tombstone| {
            (tombstone.path().into_owned(), tombstone.deletion_timestamp().unwrap_or_default())
        })
        .try_collect()
        .await
        .map_err(failed("reading the log"))?;
    let now = Utc::now();
    let ago = |time: DateTime<Utc>| (now - time).to_std().unwrap_or_default();
    let listed: Vec<_> = table
        .object_store()
        .list(None)
        .try_collect()
        .await
        .map_err(|source: Error| failed("listing files")(source.into()))?;
    let files = listed.into_iter().filter(|file| is_data(&file.location));
    let unused = files.filter(|file| {
        let path = file.location.as_ref();
        if used.contains(path) {
            return false;
        }
        match removed.get(path) {
            Some(ms) => ago(DateTime::from_timestamp_millis(*ms).unwrap_or_default()) >= options.removed_for,
            None => {
                ago(file.last_modified) >= options.orphaned_for
                    || options.orphaned_before.is_some_and(|before| file.last_modified < before)
            }
        }
    });
    Ok(unused.map(|file| (file.location, file.size)).collect())
}

fn is_data(path: &StorePath) -> bool {
    path.as_ref().ends_with(".parquet") && !path.as_ref().starts_with("_delta_log")
}
