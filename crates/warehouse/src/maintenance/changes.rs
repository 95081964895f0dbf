//! Rows that commits to the table of events brought or took: what makes parts of derived tables dirty.

use deltalake::DeltaTable;
use deltalake::arrow::array::RecordBatch;
use deltalake::kernel::Action;
use deltalake::logstore::get_actions;
use deltalake::logstore::object_store::ObjectStoreExt;
use deltalake::logstore::object_store::path::Path;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::MaintenanceError;

const HOUR_NS: i64 = 3_600_000_000_000;
/// Versions that are looked at one by one; where more are new, all is computed anew.
const VERSIONS_MAX: u64 = 5_000;
/// Longest range of a file whose rows aren't known.
const RANGE_NS_MAX: i64 = 24 * 366 * HOUR_NS;

/// Sees what changed.
pub trait Changes {
    /// Columns of the rows that it needs.
    const COLUMNS: &'static [&'static str];

    /// True if rows of this kind concern it.
    fn concerns(&self, event_type: &str) -> bool;

    /// Rows of a kind that came or went; of an older version they may lack a column.
    fn rows(&mut self, event_type: &str, rows: &RecordBatch);

    /// Times between which rows of a kind came, the last included, nanoseconds since 1970; which rows isn't known.
    fn between(&mut self, event_type: &str, least: i64, greatest: i64);

    /// Rows of a kind went, those that are shown or some of them.
    fn went(&mut self, _event_type: &str) {}

    /// True if these times say as much as the rows.
    fn is_enough(&self, _least: i64, _greatest: i64) -> bool {
        false
    }
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
                    let times = times(add.stats.as_deref());
                    let is_enough = times.is_some_and(|(least, greatest)| changes.is_enough(least, greatest));
                    if !is_enough && read(events, &add.path, changes).await {
                        continue;
                    }
                    // Otherwise, a file that was rewritten since then.
                    times.map(|(least, greatest)| changes.between(kind(&add.path), least, greatest)).is_some()
                }
                // Rows went: they are among those of the file, which may be gone.
                Action::Remove(remove) if remove.data_change && changes.concerns(kind(&remove.path)) => {
                    changes.went(kind(&remove.path));
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

/// Least and greatest time of a file, as its statistics have them, if they aren't too far apart.
fn times(statistics: Option<&str>) -> Option<(i64, i64)> {
    crate::store::parquet::times(statistics)
        .filter(|(least, greatest)| greatest.saturating_sub(*least) <= RANGE_NS_MAX)
}
