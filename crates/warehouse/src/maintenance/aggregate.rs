//! Brings the aggregates up to date: minutes that commits made dirty are computed anew, and their hours exchanged whole.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use deltalake::DeltaTable;
use deltalake::arrow::array::{AsArray, BooleanArray, RecordBatch};
use deltalake::arrow::compute::filter_record_batch;
use deltalake::arrow::datatypes::{Int64Type, Schema, TimestampMicrosecondType};
use deltalake::kernel::Remove;
use futures::StreamExt;

use super::{Lease, MaintenanceError, changes};
use crate::aggregates::{HOUR, NAME, file_fields, schema};
use crate::query::{Engine, Role};
use crate::store::commit::{Changes, CommitError};
use crate::store::numbers::{EVENTS_VERSION, Numbers};
use crate::store::{Tables, commit, parts};

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3_600;
const HOUR_NS: i64 = HOUR_S * 1_000_000_000;
/// Range of times that isn't much longer than what is computed for it.
const SHORT_NS: i64 = 600_000_000_000;
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
    if !changes::since(&events, seen, &mut dirty).await? {
        dirty = everything(engine, &table).await?;
    }
    let mut report = Report { version, hours: dirty.hours.len() as u64, rows: 0 };
    let mut changes = Changes::default();
    let is_dirty = |hour: &str| hour.parse().is_ok_and(|hour| dirty.hours.contains_key(&hour));
    let log = MaintenanceError::delta("reading the log");
    changes.removes = parts::removes(&table, HOUR, is_dirty).map_err(log)?;
    let hours: Vec<(i64, Range<i64>)> = dirty.hours.into_iter().collect();
    for some in hours.chunks(HOURS_OF_QUERY) {
        lease.renew().await?;
        report.rows += compute(&table, engine, some, &mut changes).await?;
    }
    changes.numbers = vec![(EVENTS_VERSION.to_owned(), version as i64)];
    match commit(&mut table, changes, "aggregate").await {
        Ok(_) => Ok(report),
        Err(CommitError::Conflict { .. }) => Err(MaintenanceError::Outpaced { attempts: 1 }),
        Err(error) => Err(error.into()),
    }
}

/// Hours in which something changed, and the minutes of them: all times in seconds since 1970.
#[derive(Default)]
struct Dirty {
    hours: BTreeMap<i64, Range<i64>>,
}

impl Dirty {
    /// Adds the minutes of times that are nanoseconds, the last included.
    fn add(&mut self, least: i64, greatest: i64) {
        let minute = |ns: i64| ns.div_euclid(MINUTE_S * 1_000_000_000) * MINUTE_S;
        let (first, end) = (minute(least), minute(greatest) + MINUTE_S);
        let first_hour = first.div_euclid(HOUR_S) * HOUR_S;
        for hour in (first_hour..end).step_by(HOUR_S as usize) {
            let minutes = first.max(hour)..end.min(hour + HOUR_S);
            let known = self.hours.entry(hour).or_insert_with(|| minutes.clone());
            *known = known.start.min(minutes.start)..known.end.max(minutes.end);
        }
    }
}

impl changes::Changes for Dirty {
    const COLUMNS: &'static [&'static str] = &["timestamp_ns"];

    fn concerns(&self, _: &str) -> bool {
        true
    }

    fn rows(&mut self, _: &str, rows: &RecordBatch) {
        let times = rows.column(0).as_primitive::<Int64Type>();
        times.values().iter().for_each(|ns| self.add(*ns, *ns));
    }

    fn between(&mut self, _: &str, least: i64, greatest: i64) {
        self.add(least, greatest);
    }

    fn is_enough(&self, least: i64, greatest: i64) -> bool {
        greatest - least <= SHORT_NS
    }
}

/// Hours of all events, and of all that is kept: for a rebuild.
async fn everything(engine: &Engine, table: &DeltaTable) -> Result<Dirty, MaintenanceError> {
    let sql = format!("SELECT DISTINCT timestamp_ns / {HOUR_NS} * {HOUR_S} AS hour FROM events");
    let mut dirty = Dirty::default();
    let whole = |hour: i64| (hour, hour..hour + HOUR_S);
    for batch in query(engine, &sql).await? {
        dirty.hours.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied().map(whole));
    }
    let state = table.snapshot().map_err(MaintenanceError::delta("reading the log"))?;
    let files = state.log_data();
    let parts = files.iter().filter_map(|file| hour_of_part(&file.partition_values_map()));
    dirty.hours.extend(parts.map(whole));
    Ok(dirty)
}

fn hour_of_part(values: &HashMap<String, Option<String>>) -> Option<i64> {
    values.get(HOUR)?.as_ref()?.parse().ok()
}

/// Computes minutes of some hours, and writes the files of these; rows of other minutes stay. `changes` has the files that go.
async fn compute(
    table: &DeltaTable,
    engine: &Engine,
    hours: &[(i64, Range<i64>)],
    changes: &mut Changes,
) -> Result<u64, MaintenanceError> {
    let mut by_hour: HashMap<i64, Vec<RecordBatch>> = HashMap::new();
    for (hour, minutes) in hours {
        if minutes.end - minutes.start < HOUR_S {
            by_hour.insert(*hour, other_minutes(table, *hour, minutes, &changes.removes).await?);
        }
    }
    let mut rows = 0;
    for batch in query(engine, &of_minutes(hours)).await? {
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
    for (hour, batches) in by_hour.into_iter().filter(|(_, batches)| !batches.is_empty()) {
        changes.adds.push(parts::write(table, (HOUR, &hour.to_string()), &columns, &batches).await?);
    }
    Ok(rows)
}

/// Rows of an hour that are of no dirty minute.
async fn other_minutes(
    table: &DeltaTable,
    hour: i64,
    dirty: &Range<i64>,
    files: &[Remove],
) -> Result<Vec<RecordBatch>, MaintenanceError> {
    let mut rows = Vec::new();
    let of_hour = |file: &&Remove| file.partition_values.as_ref().and_then(hour_of_part) == Some(hour);
    for file in files.iter().filter(of_hour) {
        let batches = parts::read(table, &file.path).await;
        for batch in batches.map_err(MaintenanceError::delta("reading files"))? {
            let minutes = batch.column(0).as_primitive::<TimestampMicrosecondType>();
            let is_other = |us: &i64| Some(!dirty.contains(&us.div_euclid(1_000_000)));
            let others = BooleanArray::from_iter(minutes.values().iter().map(is_other));
            let others = filter_record_batch(&batch, &others);
            rows.push(others.map_err(|error| MaintenanceError::read(&file.path)(error.into()))?);
        }
    }
    rows.retain(|batch| batch.num_rows() > 0);
    Ok(rows)
}

/// Statement for the aggregates of minutes.
fn of_minutes(hours: &[(i64, Range<i64>)]) -> String {
    let (first, end) = hours.iter().fold((i64::MAX, i64::MIN), |(first, end), (_, minutes)| {
        (first.min(minutes.start), end.max(minutes.end))
    });
    let time = |name: &str, minutes: &Range<i64>| {
        format!("{name} >= {}000000000 AND {name} < {}000000000", minutes.start, minutes.end)
    };
    let each: Vec<String> = hours.iter().map(|(_, minutes)| time("timestamp_ns", minutes)).collect();
    format!(
        "SELECT date_trunc('minute', timestamp) AS minute, event_type, event_name, platform, service, app_version, country, \
         count(*) AS events, uniques_state(user_id) AS users, quantile_state(coalesce(duration_ms, value)) AS numbers, \
         min(timestamp_ns / {HOUR_NS} * {HOUR_S}) AS {HOUR} FROM events WHERE {} AND ({}) \
         GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY {HOUR}, minute",
        time("timestamp_ns", &(first..end)),
        each.join(" OR "),
    )
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
