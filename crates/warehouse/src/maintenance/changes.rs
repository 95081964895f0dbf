//! Rows that commits to the table of events brought or took: what makes parts of derived tables dirty.

use std::collections::BTreeSet;

use deltalake::DeltaTable;
use deltalake::arrow::array::RecordBatch;
use deltalake::kernel::Action;
use deltalake::logstore::get_actions;
use deltalake::logstore::object_store::ObjectStoreExt;
use deltalake::logstore::object_store::path::Path;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::MaintenanceError;

/// Seconds of an hour.
pub const HOUR_S: i64 = 3_600;
const HOUR_NS: i64 = HOUR_S * 1_000_000_000;
/// Versions that are looked at one by one; where more are new, all is computed anew.
const VERSIONS_MAX: u64 = 5_000;
/// Longest range of a file whose rows aren't known.
const HOURS_MAX: i64 = 24 * 366;

/// Sees what changed.
pub trait Changes {
    /// Columns of the rows that it needs.
    const COLUMNS: &'static [&'static str];

    /// True if rows of this kind concern it.
    fn concerns(&self, event_type: &str) -> bool;

    /// Rows of a kind that came or went; of an older version they may lack a column.
    fn rows(&mut self, event_type: &str, rows: &RecordBatch);

    /// Hours, seconds since 1970, in which unknown rows of a kind came.
    fn hours(&mut self, event_type: &str, hours: BTreeSet<i64>);
}

/// Shows what changed after the version `seen`, up to that of `events`. False if the log or a file is gone: then anything
/// may have changed.
///
/// # Errors
/// If the log can't be read.
pub async fn since<C: Changes + Send>(
    events: &DeltaTable,
    seen: Option<u64>,
    changes: &mut C,
) -> Result<bool, MaintenanceError> {
    let last = events.version().unwrap_or_default();
    let Some(seen) = seen.filter(|seen| *seen <= last && last - seen <= VERSIONS_MAX) else {
        return Ok(false);
    };
    for version in seen + 1..=last {
        let failed = || MaintenanceError::delta("reading the log");
        let entry = events.log_store().read_commit_entry(version).await.map_err(failed())?;
        let Some(entry) = entry else { return Ok(false) };
        for action in get_actions(version, &entry).map_err(failed())? {
            let is_known = match action {
                Action::Add(add) if add.data_change && changes.concerns(kind(&add.path)) => {
                    // A file that was rewritten since then: its range is known.
                    let kind = kind(&add.path);
                    read(events, &add.path, changes).await || range(kind, add.stats.as_deref(), changes)
                }
                // Rows went: they are among those of the file, which may be gone.
                Action::Remove(remove) if remove.data_change && changes.concerns(kind(&remove.path)) => {
                    read(events, &remove.path, changes).await
                }
                _ => true,
            };
            if !is_known {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Kind of the events of a file.
fn kind(path: &str) -> &str {
    let parts = path.split('/');
    parts.filter_map(|part| part.strip_prefix("event_type=")).next().unwrap_or_default()
}

/// Shows the rows of a file; false if it can't be read.
async fn read<C: Changes>(events: &DeltaTable, path: &str, changes: &mut C) -> bool {
    rows(events, path, changes).await.is_some()
}

async fn rows<C: Changes>(events: &DeltaTable, path: &str, changes: &mut C) -> Option<()> {
    let bytes = events.object_store().get(&Path::parse(path).ok()?).await.ok()?.bytes().await.ok()?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).ok()?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), C::COLUMNS.iter().copied());
    for batch in builder.with_projection(mask).build().ok()? {
        changes.rows(kind(path), &batch.ok()?);
    }
    Some(())
}

/// Beginning of the hour of a time, seconds.
pub fn hour_of(ns: i64) -> i64 {
    ns.div_euclid(HOUR_NS) * HOUR_S
}

/// Shows the hours between the least and the greatest time of a file, as its statistics have them; false if they have none.
fn range<C: Changes>(event_type: &str, statistics: Option<&str>, changes: &mut C) -> bool {
    let Some(statistics) = statistics.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return false;
    };
    let bound = |which: &str| statistics.get(which)?.get("timestamp_ns")?.as_i64().map(hour_of);
    let (Some(least), Some(greatest)) = (bound("minValues"), bound("maxValues")) else { return false };
    if greatest - least > HOURS_MAX * HOUR_S {
        return false;
    }
    changes.hours(event_type, (least..=greatest).step_by(HOUR_S as usize).collect());
    true
}
