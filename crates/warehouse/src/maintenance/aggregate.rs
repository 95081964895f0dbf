//! Brings the aggregates up to date: hours that commits made dirty are computed anew and exchanged whole.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use deltalake::DeltaTable;
use deltalake::arrow::array::{AsArray, RecordBatch};
use deltalake::arrow::datatypes::{Int64Type, Schema};
use deltalake::kernel::Action;
use deltalake::logstore::get_actions;
use deltalake::logstore::object_store::ObjectStoreExt;
use deltalake::logstore::object_store::path::Path;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use futures::StreamExt;
use serde_json::Value;

use super::{Lease, MaintenanceError};
use crate::aggregates::{HOUR, NAME, file_fields, schema};
use crate::query::{Engine, Role};
use crate::store::commit::{Changes, CommitError};
use crate::store::numbers::Numbers;
use crate::store::{Tables, commit, parts};

/// Number that holds the version of the table of events that was looked at.
const VERSION: &str = "tickstream.events";

const HOUR_S: i64 = 3_600;
const HOUR_NS: i64 = HOUR_S * 1_000_000_000;
/// Versions that are looked at one by one; where more are new, all is computed anew.
const VERSIONS_MAX: u64 = 5_000;
/// Hours that one query computes.
const HOURS_OF_QUERY: usize = 24;

/// Numbers of an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Version of the table of events up to which commits were looked at.
    pub version: u64,
    /// Hours that were computed anew.
    pub hours: u64,
    /// Rows that were written.
    pub rows: u64,
}

/// Brings the aggregates up to the newest version of the events. `engine` must see the tables alone, without journals.
///
/// # Errors
/// If tables can't be read or written; the next update repeats it.
pub async fn update(tables: &Tables, lease: &mut Lease, engine: &Engine) -> Result<Report, MaintenanceError> {
    let events = tables.open().await?;
    let version = events.version().unwrap_or_default();
    let mut table = tables.open_or_create_named(NAME, &schema(), &[HOUR]).await?;
    let log = MaintenanceError::delta("reading the log");
    let seen = Numbers::default().of(&table).await.map_err(log)?.get(VERSION).copied();
    let seen = seen.and_then(|seen| u64::try_from(seen).ok());
    if seen == Some(version) {
        return Ok(Report { version, ..Report::default() });
    }
    let dirty = match seen {
        Some(seen) if version.saturating_sub(seen) <= VERSIONS_MAX => {
            dirty_since(&events, seen + 1, version).await?
        }
        _ => None,
    };
    let hours = match dirty {
        Some(hours) => hours,
        None => all_hours(engine, &table).await?,
    };
    let mut report = Report { version, hours: hours.len() as u64, rows: 0 };
    let hours: Vec<i64> = hours.into_iter().collect();
    let mut changes = Changes::default();
    for some in hours.chunks(HOURS_OF_QUERY) {
        lease.renew().await?;
        report.rows += compute(&table, engine, some, &mut changes).await?;
    }
    let is_given = |hour: &str| hour.parse().is_ok_and(|hour| hours.binary_search(&hour).is_ok());
    let log = MaintenanceError::delta("reading the log");
    changes.removes = parts::removes(&table, HOUR, is_given).map_err(log)?;
    changes.numbers = vec![(VERSION.to_owned(), version as i64)];
    match commit(&mut table, changes, "aggregate").await {
        Ok(_) => Ok(report),
        Err(CommitError::Conflict { .. }) => Err(MaintenanceError::Outpaced { attempts: 1 }),
        Err(error) => Err(error.into()),
    }
}

/// Hours that the commits `first` to `last` changed; `None` if the log or a file is gone.
async fn dirty_since(
    events: &DeltaTable,
    first: u64,
    last: u64,
) -> Result<Option<BTreeSet<i64>>, MaintenanceError> {
    let mut hours = BTreeSet::new();
    for version in first..=last {
        let failed = || MaintenanceError::delta("reading the log");
        let entry = events.log_store().read_commit_entry(version).await.map_err(failed())?;
        let Some(entry) = entry else { return Ok(None) };
        for action in get_actions(version, &entry).map_err(failed())? {
            let is_known = match action {
                Action::Add(add) if add.data_change => match hours_of(events, &add.path).await {
                    Some(found) => {
                        hours.extend(found);
                        true
                    }
                    // It was rewritten since then: its range is known.
                    None => range(add.stats.as_deref(), &mut hours),
                },
                // Rows went: their times are among those of the file, which may be gone.
                Action::Remove(remove) if remove.data_change => match hours_of(events, &remove.path).await {
                    Some(found) => {
                        hours.extend(found);
                        true
                    }
                    None => false,
                },
                _ => true,
            };
            if !is_known {
                return Ok(None);
            }
        }
    }
    Ok(Some(hours))
}

/// Hours of the rows of a file; `None` if it can't be read.
async fn hours_of(events: &DeltaTable, path: &str) -> Option<BTreeSet<i64>> {
    let bytes = events.object_store().get(&Path::parse(path).ok()?).await.ok()?.bytes().await.ok()?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).ok()?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["timestamp_ns"]);
    let mut hours = BTreeSet::new();
    for batch in builder.with_projection(mask).build().ok()? {
        let batch = batch.ok()?;
        hours.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().map(|ns| hour_of(*ns)));
    }
    Some(hours)
}

fn hour_of(ns: i64) -> i64 {
    ns.div_euclid(HOUR_NS) * HOUR_S
}

/// Hours between the least and the greatest time of a file, as its statistics have them; false if they have none.
fn range(statistics: Option<&str>, hours: &mut BTreeSet<i64>) -> bool {
    const HOURS_MAX: i64 = 24 * 366;
    let Some(statistics) = statistics.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return false;
    };
    let bound = |which: &str| statistics.get(which)?.get("timestamp_ns")?.as_i64().map(hour_of);
    let (Some(least), Some(greatest)) = (bound("minValues"), bound("maxValues")) else { return false };
    if greatest - least > HOURS_MAX * HOUR_S {
        return false;
    }
    hours.extend((least..=greatest).step_by(HOUR_S as usize));
    true
}

/// Hours of all events, and of all that is kept: for a rebuild.
async fn all_hours(engine: &Engine, table: &DeltaTable) -> Result<BTreeSet<i64>, MaintenanceError> {
    let sql = format!("SELECT DISTINCT timestamp_ns / {HOUR_NS} * {HOUR_S} AS hour FROM events");
    let mut hours: BTreeSet<i64> = BTreeSet::new();
    for batch in query(engine, &sql).await? {
        hours.extend(batch.column(0).as_primitive::<Int64Type>().values());
    }
    let state = table.snapshot().map_err(MaintenanceError::delta("reading the log"))?;
    hours.extend(state.log_data().iter().filter_map(|file| hour_of_part(&file.partition_values_map())));
    Ok(hours)
}

fn hour_of_part(values: &HashMap<String, Option<String>>) -> Option<i64> {
    values.get(HOUR)?.as_ref()?.parse().ok()
}

/// Computes some hours, and writes their files.
async fn compute(
    table: &DeltaTable,
    engine: &Engine,
    hours: &[i64],
    changes: &mut Changes,
) -> Result<u64, MaintenanceError> {
    let (Some(first), Some(last)) = (hours.first(), hours.last()) else { return Ok(0) };
    let list: Vec<String> = hours.iter().map(i64::to_string).collect();
    let sql = format!(
        "SELECT date_trunc('minute', timestamp) AS minute, event_type, event_name, platform, service, app_version, country, \
         count(*) AS events, uniques_state(user_id) AS users, quantile_state(coalesce(duration_ms, value)) AS numbers, \
         min(timestamp_ns / {HOUR_NS} * {HOUR_S}) AS {HOUR} FROM events \
         WHERE timestamp_ns >= {} AND timestamp_ns < {} AND timestamp_ns / {HOUR_NS} * {HOUR_S} IN ({}) \
         GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY {HOUR}, minute",
        first * 1_000_000_000,
        (last + HOUR_S) * 1_000_000_000,
        list.join(", "),
    );
    let mut rows = 0;
    let mut by_hour: HashMap<i64, Vec<RecordBatch>> = HashMap::new();
    for batch in query(engine, &sql).await? {
        let column = batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>().clone();
        let mut start = 0;
        while start < batch.num_rows() {
            let hour = column.value(start);
            let length = column.values()[start..].iter().take_while(|other| **other == hour).count();
            by_hour.entry(hour).or_default().push(batch.slice(start, length));
            rows += length as u64;
            start += length;
        }
    }
    let columns = Arc::new(Schema::new(file_fields()));
    for (hour, batches) in by_hour {
        changes.adds.push(parts::write(table, (HOUR, &hour.to_string()), &columns, &batches).await?);
    }
    Ok(rows)
}

async fn query(engine: &Engine, sql: &str) -> Result<Vec<RecordBatch>, MaintenanceError> {
    let failed = |error| MaintenanceError::Aggregate(Box::new(error));
    let mut answer = engine.query(sql, &Role::local()).await.map_err(failed)?;
    let mut batches = Vec::new();
    while let Some(batch) = answer.next().await {
        batches.push(batch.map_err(failed)?);
    }
    Ok(batches)
}
