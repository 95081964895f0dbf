//! Parts of derived tables: exchanged when they were computed anew, and rid of what is erased.

use std::collections::BTreeSet;

use deltalake::DeltaTable;
use deltalake::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use deltalake::arrow::compute::filter_record_batch;

use super::MaintenanceError;
use crate::derived::{DERIVED, Derived, PART};
use crate::store::commit::{Changes, CommitError};
use crate::store::numbers::{EVENTS_VERSION, Numbers};
use crate::store::{Tables, commit, parts};

/// Number of a table: the version of its computation.
const COMPUTATION: &str = "tickstream.computation";

/// A part that was computed.
#[derive(Debug)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its rows, with the columns of the table.
    pub rows: Vec<RecordBatch>,
}

/// An exchange of parts of a table: new files first, then one commit. Whoever makes it holds the lease.
#[derive(Debug)]
pub struct Exchange {
    derived: &'static Derived,
    table: DeltaTable,
    seen: Option<u64>,
    given: BTreeSet<String>,
    changes: Changes,
    rows: u64,
}

impl Exchange {
    /// An exchange of parts of `derived`, which is made if it isn't there.
    ///
    /// # Errors
    /// If the table can't be made or read.
    pub async fn begin(tables: &Tables, derived: &'static Derived) -> Result<Self, MaintenanceError> {
        let table = tables.open_or_create_named(derived.name, &derived.schema(), &[PART]).await?;
        let mut numbers = Numbers::default();
        let numbers = numbers.of(&table).await.map_err(MaintenanceError::delta("reading the log"))?;
        let is_same = numbers.get(COMPUTATION) == Some(&derived.computation);
        let seen = numbers.get(EVENTS_VERSION).filter(|_| is_same);
        let seen = seen.and_then(|seen| u64::try_from(*seen).ok());
        Ok(Self { derived, table, seen, given: BTreeSet::new(), changes: Changes::default(), rows: 0 })
    }

    /// Version of the table of events that this one was computed from; `None` if all of it is to be computed.
    pub fn seen(&self) -> Option<u64> {
        self.seen
    }

    /// Names of the parts that are there.
    ///
    /// # Errors
    /// If the log can't be read.
    pub fn parts(&self) -> Result<BTreeSet<String>, MaintenanceError> {
        let state = self.table.snapshot().map_err(MaintenanceError::delta("reading the log"))?;
        let part = |values: std::collections::HashMap<String, Option<String>>| values.get(PART).cloned()?;
        Ok(state.log_data().iter().filter_map(|file| part(file.partition_values_map())).collect())
    }

    /// Gives a part its new rows. Without rows it goes.
    ///
    /// # Errors
    /// If its file can't be written.
    pub async fn give(&mut self, part: Part) -> Result<(), MaintenanceError> {
        let rows: usize = part.rows.iter().map(RecordBatch::num_rows).sum();
        if rows > 0 {
            let columns = self.derived.file_schema();
            let add = parts::write(&self.table, (PART, &part.name), &columns, &part.rows).await?;
            self.changes.adds.push(add);
            self.rows += rows as u64;
        }
        self.given.insert(part.name);
        Ok(())
    }

    /// Commits the parts that were given, and the version of the events that they were computed from; their number and that
    /// of their rows. With `is_all`, other parts go.
    ///
    /// # Errors
    /// [`MaintenanceError::Outpaced`] if somebody committed meanwhile.
    pub async fn commit(mut self, version: u64, is_all: bool) -> Result<(u64, u64), MaintenanceError> {
        let is_given = |part: &str| is_all || self.given.contains(part);
        self.changes.removes = parts::removes(&self.table, PART, is_given)
            .map_err(MaintenanceError::delta("reading the log"))?;
        self.changes.numbers = vec![
            (EVENTS_VERSION.to_owned(), version as i64),
            (COMPUTATION.to_owned(), self.derived.computation),
        ];
        match commit(&mut self.table, self.changes, "derive").await {
            Ok(_) => Ok((self.given.len() as u64, self.rows)),
            Err(CommitError::Conflict { .. }) => Err(MaintenanceError::Outpaced { attempts: 1 }),
            Err(error) => Err(error.into()),
        }
    }
}

/// Takes the rows of an erased identifier out of all derived tables: those in which a text is its UUID, or has its JSON. What
/// else was computed from its events is computed anew by the next update.
///
/// # Errors
/// If a table can't be read or written.
pub async fn erase(tables: &Tables, uuid: &str, json: &str) -> Result<(), MaintenanceError> {
    for derived in DERIVED {
        let Some(mut table) = tables.open_named(derived.name).await? else { continue };
        let mut changes = Changes::default();
        let files =
            parts::removes(&table, PART, |_| true).map_err(MaintenanceError::delta("reading the log"))?;
        for file in files {
            let Some(others) = without(&table, &file.path, uuid, json).await? else { continue };
            let values = file.partition_values.as_ref();
            let part = values.and_then(|values| values.get(PART).cloned()?).unwrap_or_default();
            let add = parts::write(&table, (PART, &part), &derived.file_schema(), &others).await?;
            changes.adds.push(add);
            changes.removes.push(file);
        }
        if changes.removes.is_empty() {
            continue;
        }
        match commit(&mut table, changes, "erase").await {
            Ok(_) => {}
            Err(CommitError::Conflict { .. }) => return Err(MaintenanceError::Outpaced { attempts: 1 }),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Rows of a file without those of an erased identifier; `None` if it has none of these.
async fn without(
    table: &DeltaTable,
    path: &str,
    uuid: &str,
    json: &str,
) -> Result<Option<Vec<RecordBatch>>, MaintenanceError> {
    let (mut others, mut is_there) = (Vec::new(), false);
    for batch in parts::read(table, path).await.map_err(MaintenanceError::delta("reading files"))? {
        let keep =
            BooleanArray::from_iter((0..batch.num_rows()).map(|row| Some(!names(&batch, row, uuid, json))));
        is_there |= keep.false_count() > 0;
        let kept = filter_record_batch(&batch, &keep);
        others.push(kept.map_err(|error| MaintenanceError::read(path)(error.into()))?);
    }
    Ok(is_there.then_some(others))
}

/// True if a text of a row names the identifier.
fn names(batch: &RecordBatch, row: usize, uuid: &str, json: &str) -> bool {
    let texts = batch.columns().iter().filter_map(|column| column.as_string_opt::<i32>());
    texts.filter(|texts| texts.is_valid(row)).any(|texts| {
        let text = texts.value(row);
        text == uuid || text.contains(json)
    })
}
