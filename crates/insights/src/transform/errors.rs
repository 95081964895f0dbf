//! `error_days` and `error_tracking`: groups of errors, from logs and crashes.
//!
//! The first has a part for each day, computed from its events. The second is computed from the first, and has one part.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::error::ArrowError;
use tickstream_warehouse_core::derived::{ERROR_DAYS, ERROR_TRACKING};
use tickstream_warehouse_core::functions::hyperloglog::HyperLogLog;
use tickstream_warehouse_core::maintenance::changes::since;
use tickstream_warehouse_core::maintenance::{Exchange, Part};

use super::{DAY_NS, DirtyDays, Done, TransformError, Work, between, day_name, runs, text, texts};
use crate::errors::{Group, Report, fingerprint, title};

/// Days that one query reads.
const DAYS_OF_QUERY: i64 = 31;

/// Day, group, service and release.
type Key = (i64, String, String, String);

/// Errors of a day, a group, a service and a release.
#[derive(Default)]
struct Errors {
    source: String,
    exception: String,
    title: String,
    count: i64,
    /// Times and ids of the first and last event.
    first: Option<(i64, String)>,
    last: Option<(i64, String)>,
    trace: String,
    users: HyperLogLog,
}

/// Brings both tables up to date.
pub async fn update(work: &Work<'_>) -> Result<Vec<Done>, TransformError> {
    let mut days = Exchange::begin(work.tables, &ERROR_DAYS).await?;
    let mut groups = Exchange::begin(work.tables, &ERROR_TRACKING).await?;
    let version = work.version();
    if !work.is_rebuild && (days.seen(), groups.seen()) == (Some(version), Some(version)) {
        return Ok(Vec::new());
    }
    let mut dirty = DirtyDays::of(&["log", "crash"]);
    let seen = days.seen().filter(|_| !work.is_rebuild);
    let is_all = !since(&work.events, seen, &mut dirty).await?;
    if is_all {
        const SQL: &str = "SELECT DISTINCT timestamp_ns / 86400000000000 FROM events WHERE event_type = 'crash' \
                           OR (event_type = 'log' AND level IN ('error', 'fatal'))";
        dirty.days = work.integers(SQL).await?;
    }
    let dirty = dirty.days;
    for (first, last) in runs(&dirty) {
        for first in (first..=last).step_by(DAYS_OF_QUERY as usize) {
            let last = last.min(first + DAYS_OF_QUERY - 1);
            let mut found = read(work, first, last).await?;
            for day in first..=last {
                let later = found.split_off(&(day + 1, String::new(), String::new(), String::new()));
                let rows = if found.is_empty() { Vec::new() } else { vec![rows_of_days(&found)?] };
                days.give(Part { name: day_name(day), rows }).await?;
                found = later;
            }
        }
    }
    let (parts, rows) = days.commit(version, is_all).await?;
    let rows_of_groups = tracking(work).await?;
    groups.give(Part { name: "all".to_owned(), rows: vec![rows_of_groups] }).await?;
    let (_, count) = groups.commit(version, true).await?;
    Ok(vec![
        Done { table: ERROR_DAYS.name, parts, rows },
        Done { table: ERROR_TRACKING.name, parts: 1, rows: count },
    ])
}

/// Errors of days, from their events.
async fn read(work: &Work<'_>, first: i64, last: i64) -> Result<BTreeMap<Key, Errors>, TransformError> {
    let time = between(first, last);
    let sql = format!(
        "SELECT timestamp_ns, event_id, 'log' AS source, service, '' AS app_version, '' AS exception, json_text(raw_data, 'log.message'), \
         json_text(raw_data, 'log.stack_trace'), '' AS fingerprint, trace_id, coalesce(user_id, anonymous_id) FROM events \
         WHERE event_type = 'log' AND level IN ('error', 'fatal') AND {time} \
         UNION ALL SELECT timestamp_ns, event_id, 'crash', coalesce(json_text(raw_data, 'app.name'), platform), app_version, \
         json_text(raw_data, 'crash.exception_type'), json_text(raw_data, 'crash.message'), json_text(raw_data, 'crash.stack_trace'), \
         json_text(raw_data, 'crash.fingerprint'), json_text(context, 'trace_id'), coalesce(user_id, anonymous_id) FROM events \
         WHERE event_type = 'crash' AND {time}"
    );
    let mut found = BTreeMap::new();
    work.each(&sql, |batch| add(batch, &mut found)).await?;
    Ok(found)
}

fn add(batch: &RecordBatch, found: &mut BTreeMap<Key, Errors>) -> Result<(), ArrowError> {
    let times = batch.column(0).as_primitive::<Int64Type>();
    let columns: Vec<_> =
        (1..batch.num_columns()).map(|place| texts(batch, place)).collect::<Result<_, _>>()?;
    for row in 0..batch.num_rows() {
        let [id, source, service, release, exception, message, stack_trace, own, trace, user] =
            std::array::from_fn(|place| text(&columns[place], row));
        let time = times.value(row);
        let report = Report { fingerprint: own, exception, message, stack_trace, service, release, time };
        let key = (time.div_euclid(DAY_NS), group_id(&report), service.to_owned(), release.to_owned());
        let errors = found.entry(key).or_default();
        errors.count += 1;
        let at = (time, id.to_owned());
        if errors.first.as_ref().is_none_or(|first| at < *first) {
            errors.first = Some(at.clone());
            (errors.source, errors.exception) = (source.to_owned(), exception.to_owned());
            errors.title = title(&report);
        }
        if errors.last.as_ref().is_none_or(|last| at > *last) {
            errors.last = Some(at);
            errors.trace = trace.to_owned();
        }
        if !user.is_empty() {
            errors.users.add(user.as_bytes());
        }
    }
    Ok(())
}

/// Name of a group: 128 bits of a hash of its fingerprint, which stays the same for ever.
fn group_id(report: &Report<'_>) -> String {
    let mut hash = 0x6C62_272E_07BB_0142_62B8_2175_6295_C58D_u128;
    for byte in fingerprint(report).bytes() {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013B);
    }
    format!("{hash:032x}")
}

fn strings<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values.map(|value| Some(value).filter(|value| !value.is_empty()))))
}

fn integers(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    let values = values.map(|ns| ns.div_euclid(1_000));
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn rows_of_days(found: &BTreeMap<Key, Errors>) -> Result<RecordBatch, ArrowError> {
    let keys = || found.keys();
    let all = || found.values();
    let time = |at: &Option<(i64, String)>| at.as_ref().map_or(0, |(time, _)| *time);
    let id = |at: &Option<(i64, String)>| at.as_ref().map_or(String::new(), |(_, id)| id.clone());
    let ids: Vec<_> = all().map(|errors| id(&errors.last)).collect();
    let users = all().map(|errors| errors.users.to_bytes());
    let columns: Vec<ArrayRef> = vec![
        times(keys().map(|key| key.0 * DAY_NS)),
        strings(keys().map(|key| key.1.as_str())),
        strings(keys().map(|key| key.2.as_str())),
        strings(keys().map(|key| key.3.as_str())),
        strings(all().map(|errors| errors.source.as_str())),
        strings(all().map(|errors| errors.exception.as_str())),
        strings(all().map(|errors| errors.title.as_str())),
        integers(all().map(|errors| errors.count)),
        integers(all().map(|errors| time(&errors.first))),
        integers(all().map(|errors| time(&errors.last))),
        strings(ids.iter().map(String::as_str)),
        strings(all().map(|errors| errors.trace.as_str())),
        Arc::new(BinaryArray::from_iter_values(users)),
    ];
    RecordBatch::try_new(ERROR_DAYS.file_schema(), columns)
}

/// A group over all days.
#[derive(Default)]
struct Tracked {
    service: String,
    source: String,
    exception: String,
    title: String,
    event: String,
    trace: String,
    last_release: String,
    users: HyperLogLog,
    days: BTreeSet<i64>,
    history: Group,
}

/// All groups, from the days.
async fn tracking(work: &Work<'_>) -> Result<RecordBatch, TransformError> {
    const SQL: &str = "SELECT first_ns, last_ns, errors, group_id, service, \"release\", source, exception, title, event_id, trace_id, users \
                       FROM error_days ORDER BY first_ns, group_id, service, \"release\"";
    let mut groups = BTreeMap::<String, Tracked>::new();
    // Releases of a service, by the time at which each was first heard of.
    let mut releases = BTreeMap::<String, BTreeMap<String, i64>>::new();
    work.each(SQL, |batch| {
        let columns: Vec<_> = (3..11).map(|place| texts(batch, place)).collect::<Result<_, _>>()?;
        let number = |place: usize, row: usize| batch.column(place).as_primitive::<Int64Type>().value(row);
        let users = datafusion::arrow::compute::cast(
            batch.column(11),
            &datafusion::arrow::datatypes::DataType::Binary,
        )?;
        for row in 0..batch.num_rows() {
            let [id, service, release, source, exception, title, event, trace] =
                std::array::from_fn(|place| text(&columns[place], row));
            let (first, last) = (number(0, row), number(1, row));
            let group = groups.entry(id.to_owned()).or_default();
            if group.history.count == 0 {
                group.service = service.to_owned();
                (group.source, group.exception) = (source.to_owned(), exception.to_owned());
                group.title = title.to_owned();
            }
            if group.history.count == 0 || (last, event) > (group.history.last_seen, group.event.as_str()) {
                (group.event, group.trace) = (event.to_owned(), trace.to_owned());
                group.last_release = release.to_owned();
            }
            group.history.add(number(2, row) as u64, first, last, release);
            group.days.insert(first.div_euclid(DAY_NS));
            if let Some(users) = HyperLogLog::from_bytes(users.as_binary::<i32>().value(row)) {
                group.users.merge(&users);
            }
            if !release.is_empty() {
                heard(&mut releases, service, release, first);
            }
        }
        Ok(())
    })
    .await?;
    const DEPLOYED: &str = "SELECT timestamp_ns, service, json_text(raw_data, 'deployment.version') FROM events \
                            WHERE event_type = 'deployment'";
    work.each(DEPLOYED, |batch| {
        let (services, versions) = (texts(batch, 1)?, texts(batch, 2)?);
        for (row, time) in batch.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
            heard(&mut releases, text(&services, row), text(&versions, row), *time);
        }
        Ok(())
    })
    .await?;
    Ok(rows_of_groups(&groups, &releases)?)
}

fn heard(releases: &mut BTreeMap<String, BTreeMap<String, i64>>, service: &str, release: &str, time: i64) {
    let known = releases.entry(service.to_owned()).or_default().entry(release.to_owned()).or_insert(time);
    *known = time.min(*known);
}

fn rows_of_groups(
    groups: &BTreeMap<String, Tracked>,
    releases: &BTreeMap<String, BTreeMap<String, i64>>,
) -> Result<RecordBatch, ArrowError> {
    let all = || groups.values();
    let regressed: Vec<_> = all()
        .map(|group| {
            let deployed = releases.get(&group.service).into_iter().flatten();
            let deployed: Vec<_> = deployed.map(|(release, time)| (release.clone(), *time)).collect();
            group.history.came_back(&deployed).map(str::to_owned).unwrap_or_default()
        })
        .collect();
    let listed: Vec<_> = all().map(|group| group.history.releases_by_time().join(", ")).collect();
    let columns: Vec<ArrayRef> = vec![
        strings(groups.keys().map(String::as_str)),
        strings(all().map(|group| group.service.as_str())),
        strings(all().map(|group| group.source.as_str())),
        strings(all().map(|group| group.exception.as_str())),
        strings(all().map(|group| group.title.as_str())),
        integers(all().map(|group| group.history.count as i64)),
        integers(all().map(|group| group.users.count() as i64)),
        integers(all().map(|group| group.days.len() as i64)),
        times(all().map(|group| group.history.first_seen)),
        times(all().map(|group| group.history.last_seen)),
        strings(all().map(|group| group.history.first_release.as_str())),
        strings(all().map(|group| group.last_release.as_str())),
        strings(listed.iter().map(String::as_str)),
        strings(regressed.iter().map(String::as_str)),
        strings(all().map(|group| group.event.as_str())),
        strings(all().map(|group| group.trace.as_str())),
    ];
    RecordBatch::try_new(ERROR_TRACKING.file_schema(), columns)
}
