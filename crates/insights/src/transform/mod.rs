//! Transformations: tables that are derived from events and kept up to date.
//!
//! Commits to the table of events make days and persons dirty. These are computed anew from the events, and one commit exchanges
//! the parts that are different then. So late events, duplicates, identities that are merged or unmerged, erasures and retention
//! leave the same rows as a rebuild. A process that is killed leaves the parts of before; the next update begins where that one
//! began. Whoever updates holds the lease of maintenance.

mod costs;
mod errors;
mod load;
mod people;
mod rows;
mod sessions;
mod stitch;

use std::collections::BTreeSet;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::error::ArrowError;
use futures::StreamExt;
use futures::future::try_join;
use tickstream_warehouse_core::maintenance::changes::Changes;
use tickstream_warehouse_core::maintenance::{Lease, MaintenanceError};
use tickstream_warehouse_core::query::{Engine, QueryError, Role};
use tickstream_warehouse_core::store::pieces::PieceError;
use tickstream_warehouse_core::store::{DeltaTable, Tables};

const DAY_NS: i64 = crate::filters::DAY;

/// A transformation that can't go on.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    /// Events can't be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A table can't be read or written.
    #[error(transparent)]
    Maintenance(#[from] MaintenanceError),
    /// A file of events can't be read.
    #[error(transparent)]
    Read(#[from] PieceError),
    /// A column hasn't the type that it should have.
    #[error("reading rows for a transformation")]
    Column(#[from] ArrowError),
}

/// Numbers of one table's update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Name of the table.
    pub table: &'static str,
    /// Parts that were computed.
    pub parts: u64,
    /// Rows that were written.
    pub rows: u64,
}

/// Tables that a transformation reads and writes.
struct Work<'a> {
    tables: &'a Tables,
    engine: &'a Engine,
    /// The version of the events up to which commits are looked at.
    events: DeltaTable,
    /// All parts are computed anew.
    is_rebuild: bool,
    /// Events that are in memory at a time, about.
    events_max: u64,
}

/// Events that are in memory at a time, about. With their order and their visits, each has 50 bytes.
pub const EVENTS_MAX: u64 = 8_000_000;

/// Brings all derived tables up to the newest version of the events; with `is_rebuild`, from nothing. `engine` must see the
/// tables alone, without journals. Tables that are up to date aren't named in the answer.
///
/// # Errors
/// [`TransformError`]; the next update repeats what isn't done.
pub async fn update(
    tables: &Tables,
    lease: &mut Lease,
    engine: &Engine,
    is_rebuild: bool,
) -> Result<Vec<Done>, TransformError> {
    update_within(tables, lease, engine, is_rebuild, EVENTS_MAX).await
}

/// As [`update`], with at most about `events_max` events in memory instead of [`EVENTS_MAX`].
///
/// # Errors
/// As [`update`].
pub async fn update_within(
    tables: &Tables,
    lease: &mut Lease,
    engine: &Engine,
    is_rebuild: bool,
    events_max: u64,
) -> Result<Vec<Done>, TransformError> {
    let events = tables.open().await.map_err(MaintenanceError::from)?;
    let work = Work { tables, engine, events, is_rebuild, events_max };
    lease.renew().await?;
    // Errors and costs use one thread each, sessions more: beside each other they take the least time.
    let others = try_join(Box::pin(errors::update(&work)), Box::pin(costs::update(&work)));
    let (mut done, (errors, costs)) = try_join(Box::pin(sessions::update(&work)), others).await?;
    done.extend(errors.into_iter().chain(costs));
    Ok(done)
}

impl Work<'_> {
    fn version(&self) -> u64 {
        self.events.version().unwrap_or_default()
    }

    /// Batches of an answer, one after the other.
    async fn each(
        &self,
        sql: &str,
        mut then: impl FnMut(&RecordBatch) -> Result<(), ArrowError>,
    ) -> Result<(), TransformError> {
        let mut answer = self.engine.query(sql, &Role::local()).await?;
        while let Some(batch) = answer.next().await {
            then(&batch?)?;
        }
        Ok(())
    }

    /// Whole numbers of an answer's first column.
    async fn integers(&self, sql: &str) -> Result<BTreeSet<i64>, TransformError> {
        let mut found = BTreeSet::new();
        self.each(sql, |batch| {
            found.extend(batch.column(0).as_primitive::<Int64Type>().iter().flatten());
            Ok(())
        })
        .await?;
        Ok(found)
    }
}

/// Days in which rows of some kinds changed.
struct DirtyDays {
    kinds: &'static [&'static str],
    days: BTreeSet<i64>,
}

impl DirtyDays {
    fn of(kinds: &'static [&'static str]) -> Self {
        Self { kinds, days: BTreeSet::new() }
    }
}

impl Changes for DirtyDays {
    const COLUMNS: &'static [&'static str] = &["timestamp_ns"];

    fn concerns(&self, event_type: &str) -> bool {
        self.kinds.contains(&event_type)
    }

    fn rows(&mut self, _: &str, rows: &RecordBatch) {
        let times = rows.column(0).as_primitive::<Int64Type>();
        self.days.extend(times.values().iter().copied().map(day_of));
    }

    fn between(&mut self, _: &str, least: i64, greatest: i64) {
        self.days.extend(day_of(least)..=day_of(greatest));
    }

    fn is_enough(&self, least: i64, greatest: i64) -> bool {
        day_of(least) == day_of(greatest)
    }
}

/// Day of a time; days are counted from 1970.
fn day_of(ns: i64) -> i64 {
    ns.div_euclid(DAY_NS)
}

/// Name of a day, for parts.
fn day_name(day: i64) -> String {
    crate::filters::time_text(day * DAY_NS)[..10].to_owned()
}

/// Runs of consecutive days.
fn runs(days: &BTreeSet<i64>) -> Vec<(i64, i64)> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for day in days {
        match runs.last_mut().filter(|(_, last)| last + 1 == *day) {
            Some((_, last)) => *last = *day,
            None => runs.push((*day, *day)),
        }
    }
    runs
}

/// Condition on the time of events of days, inclusive.
fn between(first: i64, last: i64) -> String {
    format!("timestamp_ns >= {} AND timestamp_ns < {}", first * DAY_NS, (last + 1) * DAY_NS)
}

/// Texts of a column.
fn texts(batch: &RecordBatch, column: usize) -> Result<StringArray, ArrowError> {
    Ok(cast(batch.column(column), &DataType::Utf8)?.as_string::<i32>().clone())
}

/// The text of a row; empty where it is null.
fn text(texts: &StringArray, row: usize) -> &str {
    if texts.is_valid(row) { texts.value(row) } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_runs_and_names() {
        assert_eq!(runs(&BTreeSet::from([3, 4, 5, 8, 10, 11])), [(3, 5), (8, 8), (10, 11)]);
        assert_eq!(day_name(20_785), "2026-11-28");
        assert_eq!(day_of(86_399_999_999_999), 0);
    }
}
