//! The mirror: rows of the tables in a ClickHouse, each once.
//!
//! A range of one journal's records, up to a watermark of the tables, names the same rows for ever: they are in the tables
//! without duplicates. The range is on stable storage before it is inserted, and its bounds are the insert's token. An
//! insert whose answer is lost is repeated with the same token, and ClickHouse drops what it has.

mod clickhouse;
mod ddl;

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures::StreamExt;
use serde::{Deserialize, Serialize};

use crate::events::enrichment::Geo;
use crate::query::format::FormatError;
use crate::query::tail::Ids;
use crate::query::{Engine, Format, Limits, QueryError, Role, Writer};
use crate::store::{Tables, files};

pub use clickhouse::{ClickHouse, ClickHouseError};
use ddl::Target;

const STATE: &str = "clickhouse.json";
/// Records of one insert, at most. Each has up to some thousand events.
const RECORDS_MAX: u64 = 2_000;

/// A mirror that can't go on; the step can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// Rows can't be read from the tables.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Rows can't be encoded.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// ClickHouse refused or can't be reached.
    #[error(transparent)]
    ClickHouse(#[from] ClickHouseError),
    /// Its state can't be read or written.
    #[error("{action} {}", .path.display())]
    State {
        /// Operation that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Error of the kernel or the parser.
        source: std::io::Error,
    },
}

/// Records that are mirrored, and the range whose insert was begun.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// Last record of each journal that is in ClickHouse.
    done: BTreeMap<String, u64>,
    pending: Option<Range>,
}

/// Records of one journal, both bounds among them.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Range {
    journal: String,
    first: u64,
    last: u64,
}

/// Progress of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records that are in the tables and not in ClickHouse yet.
    pub lag_records: u64,
    /// True if all that was there is mirrored.
    pub is_complete: bool,
}

/// Mirrors the tables.
#[derive(Debug)]
pub struct Mirror {
    engine: Engine,
    clickhouse: ClickHouse,
    path: PathBuf,
    state: State,
    targets: Vec<Target>,
    is_prepared: bool,
    /// Tables that have the pending range already.
    inserted: usize,
}

impl Mirror {
    /// A mirror of these tables.
    ///
    /// # Errors
    /// If the tables or its state can't be read.
    pub async fn open(tables: &Tables, clickhouse: ClickHouse) -> Result<Self, MirrorError> {
        let mut limits = Limits::new(tables.state());
        limits.rows = u64::MAX;
        let ids = Ids::Files(tables.state().to_owned());
        let engine = Engine::open(tables, Vec::new(), ids, Geo::default(), limits).await?;
        let path = tables.state().join(STATE);
        let state = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::from),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(error),
        };
        let state =
            state.map_err(|source| MirrorError::State { action: "reading", path: path.clone(), source })?;
        let targets = ddl::targets(&engine).await?;
        Ok(Self { engine, clickhouse, path, state, targets, is_prepared: false, inserted: 0 })
    }

    /// Mirrors the next range of records.
    ///
    /// # Errors
    /// If it can't be mirrored; the next step repeats it.
    pub async fn step(&mut self) -> Result<Progress, MirrorError> {
        if !self.is_prepared {
            for target in &self.targets {
                self.clickhouse.execute(&target.create()).await?;
                self.clickhouse.execute(&target.add_columns()).await?;
            }
            self.is_prepared = true;
        }
        let positions = self.engine.positions().await?;
        let range = match &self.state.pending {
            Some(pending) => Some(pending.clone()),
            None => self.next(&positions),
        };
        if let Some(range) = range {
            self.state.pending = Some(range.clone());
            self.save()?;
            self.insert(&range).await?;
            self.inserted = 0;
            self.state.done.insert(range.journal, range.last);
            self.state.pending = None;
            self.save()?;
        }
        let lag = positions.iter().map(|(journal, last)| last.saturating_sub(self.done(journal)));
        let lag_records = lag.sum();
        Ok(Progress { lag_records, is_complete: lag_records == 0 })
    }

    fn done(&self, journal: &str) -> u64 {
        self.state.done.get(journal).copied().unwrap_or_default()
    }

    /// Records of the journal that is furthest behind.
    fn next(&self, positions: &[(String, u64)]) -> Option<Range> {
        let behind =
            positions.iter().map(|(journal, last)| (last.saturating_sub(self.done(journal)), journal));
        let (lag, journal) = behind.max()?;
        if lag == 0 {
            return None;
        }
        let done = self.done(journal);
        Some(Range { journal: journal.clone(), first: done + 1, last: done + lag.min(RECORDS_MAX) })
    }

    /// Inserts a range into all tables. After a failure it goes on with the table that failed.
    async fn insert(&mut self, range: &Range) -> Result<(), MirrorError> {
        let token = format!("tickstream/{}/{}-{}", range.journal, range.first, range.last);
        while let Some(target) = self.targets.get(self.inserted) {
            let rows = self.rows(target, range).await?;
            if let Some(rows) = rows {
                self.clickhouse.insert(&target.insert(), &format!("{token}/{}", target.name), rows).await?;
            }
            self.inserted += 1;
        }
        Ok(())
    }

    /// Rows of a range for one table, as Parquet; `None`: there are none.
    async fn rows(&self, target: &Target, range: &Range) -> Result<Option<Vec<u8>>, MirrorError> {
        let Range { journal, first, last } = range;
        let sql = format!(
            "{} WHERE journal = '{journal}' AND sequence BETWEEN {first} AND {last} ORDER BY sequence, batch_index",
            target.select
        );
        let mut answer = self.engine.query(&sql, &Role::local()).await?;
        let (mut bytes, mut rows) = (Vec::new(), 0);
        let mut writer = Writer::new(Format::Parquet, &answer.schema, &mut bytes)?;
        while let Some(batch) = answer.next().await {
            let batch = batch?;
            rows += batch.num_rows();
            writer.write(&batch)?;
        }
        writer.finish()?;
        Ok((rows > 0).then_some(bytes))
    }

    fn save(&self) -> Result<(), MirrorError> {
        let bytes = serde_json::to_vec(&self.state).expect("texts and numbers have JSON");
        files::write_synced(&self.path, &bytes).map_err(|source| MirrorError::State {
            action: "writing",
            path: self.path.clone(),
            source,
        })
    }
}

/// Deletes a person's rows from all tables of a ClickHouse, and waits until they are gone. `condition` is the one of
/// the table `events`; the others have the same columns.
///
/// # Errors
/// If ClickHouse refuses, can't be reached, or still has such rows.
pub async fn erase(clickhouse: &ClickHouse, column: &str, id: &str) -> Result<(), MirrorError> {
    for table in clickhouse.tables().await? {
        let delete =
            format!("ALTER TABLE {table} DELETE WHERE {column} = '{id}' SETTINGS mutations_sync = 2");
        clickhouse.execute(&delete).await?;
        let left =
            clickhouse.execute(&format!("SELECT count() FROM {table} WHERE {column} = '{id}'")).await?;
        if left.trim() != "0" {
            return Err(ClickHouseError::Left { table, rows: left.trim().to_owned() }.into());
        }
    }
    Ok(())
}
