//! Parts of derived tables: exchanged when they were computed anew, and rid of what is erased.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use deltalake::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use deltalake::arrow::compute::filter_record_batch;
use deltalake::arrow::datatypes::SchemaRef;
use deltalake::arrow::error::ArrowError;
use deltalake::kernel::Add;
use deltalake::logstore::object_store::path::Path;
use deltalake::logstore::object_store::{ObjectStore, ObjectStoreExt};
use deltalake::{DeltaTable, DeltaTableError};
use tokio::task::JoinSet;

use super::MaintenanceError;
use crate::derived::{DERIVED, Derived, PART};
use crate::store::commit::{Changes, CommitError};
use crate::store::numbers::{EVENTS_VERSION, Numbers};
use crate::store::parquet::WriteError;
use crate::store::{Tables, commit, parts};
use crate::tasks::next;

/// Number of a table: the version of its computation.
const COMPUTATION: &str = "tickstream.computation";
/// Parts that are made at the same time.
const MAKERS: usize = 4;

/// A part that was computed.
#[derive(Debug)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its rows, with the columns of the table.
    pub rows: Vec<RecordBatch>,
}

/// Makes the rows of a part from its kept ones; none if they stay as they are.
pub type Make = Box<dyn FnOnce(Vec<RecordBatch>) -> Result<Option<Vec<RecordBatch>>, ArrowError> + Send>;

/// A part that is made beside others.
pub struct Making {
    /// Its name.
    pub name: String,
    /// The kept rows are needed.
    pub needs_kept: bool,
    /// Makes its rows.
    pub make: Make,
}

impl fmt::Debug for Making {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Making").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An exchange of parts of a table: new files first, then one commit. Whoever makes it holds the lease.
#[derive(Debug)]
pub struct Exchange {
    derived: &'static Derived,
    table: DeltaTable,
    seen: Option<u64>,
    /// Files of the parts that are there.
    kept: HashMap<String, Vec<String>>,
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
        let mut kept: HashMap<String, Vec<String>> = HashMap::new();
        let state = table.snapshot().map_err(MaintenanceError::delta("reading the log"))?;
        for file in state.log_data().iter() {
            if let Some(Some(part)) = file.partition_values_map().remove(PART) {
                kept.entry(part).or_default().push(file.path().into_owned());
            }
        }
        let (given, changes) = (BTreeSet::new(), Changes::default());
        Ok(Self { derived, table, seen, kept, given, changes, rows: 0 })
    }

    /// Version of the table of events that this one was computed from; `None` if all of it is to be computed.
    pub fn seen(&self) -> Option<u64> {
        self.seen
    }

    /// True if a part is there.
    pub fn has(&self, part: &str) -> bool {
        self.kept.contains_key(part)
    }

    /// Columns of a part's kept rows.
    ///
    /// # Errors
    /// If its file can't be read.
    pub async fn kept(&self, part: &str, columns: &[&str]) -> Result<Vec<RecordBatch>, MaintenanceError> {
        kept(self.table.object_store(), self.files(part), Some(columns)).await
    }

    fn files(&self, part: &str) -> Vec<String> {
        self.kept.get(part).cloned().unwrap_or_default()
    }

    /// Makes parts, some at the same time. One without rows goes.
    ///
    /// # Errors
    /// If files can't be read or written.
    pub async fn make(&mut self, parts: Vec<Making>) -> Result<(), MaintenanceError> {
        let columns = self.derived.file_schema();
        let mut makers = JoinSet::new();
        for part in parts {
            if makers.len() >= MAKERS {
                self.take(&mut makers).await?;
            }
            let files = if part.needs_kept { self.files(&part.name) } else { Vec::new() };
            makers.spawn(made(self.table.object_store(), columns.clone(), files, part));
        }
        while !makers.is_empty() {
            self.take(&mut makers).await?;
        }
        Ok(())
    }

    /// Takes the next part that was made.
    async fn take(
        &mut self,
        makers: &mut JoinSet<Result<Option<Made>, MaintenanceError>>,
    ) -> Result<(), MaintenanceError> {
        if let Some((name, file)) = next(makers).await.transpose()?.flatten() {
            if let Some((add, rows)) = file {
                self.changes.adds.push(add);
                self.rows += rows;
            }
            self.given.insert(name);
        }
        Ok(())
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

/// A part, and its file with the number of rows, if it has some.
type Made = (String, Option<(Add, u64)>);

/// Makes a part and writes its file; none if it stays as it is.
async fn made(
    store: Arc<dyn ObjectStore>,
    columns: SchemaRef,
    files: Vec<String>,
    part: Making,
) -> Result<Option<Made>, MaintenanceError> {
    let Making { name, make, .. } = part;
    let failed = |error: ArrowError| MaintenanceError::from(WriteError::Parquet(error.into()));
    let Some(rows) = make(kept(store.clone(), files, None).await?).map_err(failed)? else { return Ok(None) };
    let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
    if count == 0 {
        return Ok(Some((name, None)));
    }
    let file = parts::encode(&columns, &rows).map_err(WriteError::from)?;
    drop(rows);
    let add = parts::put(&*store, (PART, &name), file).await?;
    Ok(Some((name, Some((add, count as u64)))))
}

/// Rows of the files of a part.
async fn kept(
    store: Arc<dyn ObjectStore>,
    files: Vec<String>,
    columns: Option<&[&str]>,
) -> Result<Vec<RecordBatch>, MaintenanceError> {
    let mut rows = Vec::new();
    for file in files {
        let failed = |error: DeltaTableError| MaintenanceError::delta("reading files")(error);
        let bytes = store.get(&Path::from(file)).await.map_err(|error| failed(error.into()))?;
        let bytes = bytes.bytes().await.map_err(|error| failed(error.into()))?;
        rows.extend(parts::decode(bytes, columns).map_err(|error| failed(error.into()))?);
    }
    Ok(rows)
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
