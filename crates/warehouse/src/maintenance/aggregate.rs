//! Brings the aggregates up to date: hours that commits made dirty are computed anew and exchanged whole.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use deltalake::DeltaTable;
use deltalake::arrow::array::{AsArray, RecordBatch};
use deltalake::arrow::datatypes::{Int64Type, Schema};
use futures::StreamExt;

use super::changes::{self, HOUR_S, hour_of};
use super::{Lease, MaintenanceError};
use crate::aggregates::{HOUR, NAME, file_fields, schema};
use crate::query::{Engine, Role};
use crate::store::commit::{Changes, CommitError};
use crate::store::numbers::{EVENTS_VERSION, Numbers};
use crate::store::{Tables, commit, parts};

const HOUR_NS: i64 = HOUR_S * 1_000_000_000;
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
    let seen = Numbers::default().of(&table).await.map_err(log)?.get(EVENTS_VERSION).copied();
    let seen = seen.and_then(|seen| u64::try_from(seen).ok());
    if seen == Some(version) {
        return Ok(Report { version, ..Report::default() });
    }
    let mut dirty = Dirty::default();
    let hours = match changes::since(&events, seen, &mut dirty).await? {
        true => dirty.0,
        false => all_hours(engine, &table).await?,
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
    changes.numbers = vec![(EVENTS_VERSION.to_owned(), version as i64)];
    match commit(&mut table, changes, "aggregate").await {
        Ok(_) => Ok(report),
        Err(CommitError::Conflict { .. }) => Err(MaintenanceError::Outpaced { attempts: 1 }),
        Err(error) => Err(error.into()),
    }
}

/// Hours in which something changed.
#[derive(Default)]
struct Dirty(BTreeSet<i64>);

impl changes::Changes for Dirty {
    const COLUMNS: &'static [&'static str] = &["timestamp_ns"];

    fn concerns(&self, _: &str) -> bool {
        true
    }

    fn rows(&mut self, _: &str, rows: &RecordBatch) {
        let times = rows.column(0).as_primitive::<Int64Type>();
        self.0.extend(times.values().iter().map(|ns| hour_of(*ns)));
    }

    fn hours(&mut self, _: &str, hours: BTreeSet<i64>) {
        self.0.extend(hours);
    }
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
