//! Rows of some files, read and written anew: the common part of compaction and erasure.

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, SortExpr, col};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use deltalake::DeltaTable;
use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::datatypes::{Schema, SchemaRef};
use deltalake::arrow::error::ArrowError;
use deltalake::kernel::{Add, Remove};
use futures::StreamExt;

use super::MaintenanceError;
use crate::events::rows::PartitionKey;
use crate::events::{file_schema, schema};
use crate::query::Limits;
use crate::store::commit;
use crate::store::commit::{Changes, CommitError};
use crate::store::parquet::FileBuilder;

/// One file of a version.
#[derive(Clone, Debug)]
pub struct FileOf {
    /// Its partition.
    pub key: PartitionKey,
    /// The log's entry about it.
    pub add: Add,
    /// Its rows, as the log says.
    pub rows: u64,
}

impl FileOf {
    /// The action that gives it up.
    pub fn remove(&self, data_change: bool) -> Remove {
        Remove {
            path: self.add.path.clone(),
            data_change,
            deletion_timestamp: Some(chrono::Utc::now().timestamp_millis()),
            extended_file_metadata: Some(true),
            partition_values: Some(self.add.partition_values.clone()),
            size: Some(self.add.size),
            tags: None,
            deletion_vector: None,
            base_row_id: None,
            default_row_commit_version: None,
        }
    }
}

/// All files of the version that `table` has.
pub fn files(table: &DeltaTable) -> Result<Vec<FileOf>, MaintenanceError> {
    let state = table.snapshot().map_err(MaintenanceError::delta("reading the log"))?;
    let mut files = Vec::new();
    for file in state.log_data().iter() {
        let values = file.partition_values_map();
        let value = |name: &str| values.get(name).cloned().flatten().unwrap_or_default();
        let key = PartitionKey { load_date: value("load_date"), event_type: value("event_type") };
        let add = Add {
            path: file.path().into_owned(),
            partition_values: values,
            size: file.size(),
            modification_time: file.modification_time(),
            data_change: false,
            stats: file.stats(),
            tags: None,
            deletion_vector: None,
            base_row_id: None,
            default_row_commit_version: None,
            clustering_provider: None,
        };
        files.push(FileOf { key, rows: file.num_records().unwrap_or_default() as u64, add });
    }
    Ok(files)
}

/// Rows of `files` that pass `filter`, sorted by user and time; of the same time, the first loaded first.
pub async fn rows(
    table: &DeltaTable,
    files: &[FileOf],
    filter: Option<Expr>,
    limits: &Limits,
) -> Result<SendableRecordBatchStream, MaintenanceError> {
    let what = || {
        files
            .first()
            .map_or_else(String::new, |file| format!("{} and {} more", file.add.path, files.len() - 1))
    };
    let read = async {
        let columns: Vec<Expr> =
            columns(table)?.fields().iter().map(|field| col(quoted(field.name()))).collect();
        let rows = selected(table, files, filter, limits).await?;
        rows.select(columns)?.sort(order())?.execute_stream().await
    };
    let result: DataFusionResult<_> = read.await;
    result.map_err(MaintenanceError::read(&what()))
}

/// Rows of `files` that pass `filter`.
async fn selected(
    table: &DeltaTable,
    files: &[FileOf],
    filter: Option<Expr>,
    limits: &Limits,
) -> DataFusionResult<DataFrame> {
    let config = SessionConfig::new().with_target_partitions(1);
    let context = SessionContext::new_with_config_rt(config, limits.runtime()?);
    table.update_datafusion_session(&context.state())?;
    let snapshot = table.snapshot()?.snapshot().clone();
    let adds = files.iter().map(|file| file.add.clone());
    let provider = table.table_provider().with_eager_snapshot(snapshot).with_adds(adds).await?;
    let rows = context.read_table(provider)?;
    match filter {
        Some(filter) => rows.filter(filter),
        None => Ok(rows),
    }
}

/// Columns of the table's files: those of this version, then what a newer one added.
fn columns(table: &DeltaTable) -> Result<SchemaRef, deltalake::DeltaTableError> {
    let stored = table.snapshot()?.snapshot().arrow_schema();
    let known = schema();
    let newer = stored.fields().iter().filter(|field| known.field_with_name(field.name()).is_err());
    Ok(Arc::new(Schema::new(file_schema().fields().iter().chain(newer).cloned().collect::<Vec<_>>())))
}

/// Column names are taken as they stand.
fn quoted(name: &str) -> datafusion::common::Column {
    datafusion::common::Column::new_unqualified(name)
}

fn order() -> Vec<SortExpr> {
    ["user_id", "timestamp_ns", "processed_at", "sequence"]
        .iter()
        .map(|name| col(*name).sort(true, false))
        .collect()
}

/// Writes rows of one partition, changed, into files of at most `file_bytes`; the files and the number of rows.
pub async fn write(
    table: &DeltaTable,
    key: &PartitionKey,
    mut rows: SendableRecordBatchStream,
    file_bytes: usize,
    data_change: bool,
    mut change: impl FnMut(RecordBatch) -> Result<RecordBatch, ArrowError>,
) -> Result<(Vec<Add>, u64), MaintenanceError> {
    let store = table.object_store();
    let columns = columns(table).map_err(MaintenanceError::delta("reading the log"))?;
    let (mut adds, mut count) = (Vec::new(), 0);
    let mut file: Option<FileBuilder> = None;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(MaintenanceError::read(&key.event_type))?;
        let batch = change(batch)
            .and_then(|batch| as_stored(&batch, &columns))
            .map_err(|error| MaintenanceError::read(&key.event_type)(error.into()))?;
        if batch.num_rows() == 0 {
            continue;
        }
        count += batch.num_rows() as u64;
        let mut current = match file.take() {
            Some(file) => file,
            None => FileBuilder::to_keep(key.clone(), columns.clone())?,
        };
        current.push(&batch)?;
        if current.bytes() >= file_bytes {
            adds.push(current.finish()?.store(&store, data_change).await?);
        } else {
            file = Some(current);
        }
    }
    if let Some(last) = file.filter(|file| file.rows() > 0) {
        adds.push(last.finish()?.store(&store, data_change).await?);
    }
    Ok((adds, count))
}

/// Columns with the types of the files: the engine may read texts as views.
fn as_stored(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns: Result<Vec<_>, _> = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| deltalake::arrow::compute::cast(column, field.data_type()))
        .collect();
    RecordBatch::try_new(Arc::clone(schema), columns?)
}

/// Name of a commit that removes rows.
const REMOVE: &str = "remove rows";
/// Commits of one exchange that are tried.
const ATTEMPTS: u32 = 16;

/// Rows that were removed from a file.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// Their number.
    pub rows: u64,
    /// Bytes that were written for the others.
    pub bytes_written: u64,
    /// Files with the others.
    pub written: Vec<String>,
}

/// Removes a file with all of its rows; `None` if it is gone already.
pub async fn remove(table: &mut DeltaTable, file: &FileOf) -> Result<Option<Removed>, MaintenanceError> {
    let removed = Removed { rows: file.rows, ..Removed::default() };
    Ok(exchange(table, file, &[], REMOVE).await?.then_some(removed))
}

/// Writes a file anew without the rows that a predicate selects; `None` if the file is gone meanwhile. Nothing is written if
/// it has no such rows.
pub async fn without(
    table: &mut DeltaTable,
    file: &FileOf,
    predicate: &Expr,
    file_bytes: usize,
    limits: &Limits,
) -> Result<Option<Removed>, MaintenanceError> {
    let count = count(table, file, predicate, limits).await?;
    if count == 0 {
        return Ok(Some(Removed::default()));
    }
    // Rows for which the predicate is null are neither selected nor not: they stay.
    let others = predicate.clone().is_not_true();
    let stream = rows(table, std::slice::from_ref(file), Some(others), limits).await?;
    let (adds, kept) = write(table, &file.key, stream, file_bytes, true, Ok).await?;
    if kept + count != file.rows {
        let wrong =
            format!("{kept} rows to keep and {count} to remove are not the {} of the file", file.rows);
        return Err(MaintenanceError::read(&file.add.path)(DataFusionError::Internal(wrong)));
    }
    if !exchange(table, file, &adds, REMOVE).await? {
        return Ok(None);
    }
    let bytes_written = adds.iter().map(|add| add.size as u64).sum();
    Ok(Some(Removed { rows: count, bytes_written, written: adds.into_iter().map(|add| add.path).collect() }))
}

/// Rows of a file that a predicate selects: only its columns are read.
pub async fn count(
    table: &DeltaTable,
    file: &FileOf,
    predicate: &Expr,
    limits: &Limits,
) -> Result<u64, MaintenanceError> {
    let files = std::slice::from_ref(file);
    let counted =
        async { selected(table, files, Some(predicate.clone()), limits).await?.count().await }.await;
    Ok(counted.map_err(MaintenanceError::read(&file.add.path))? as u64)
}

/// Commits the exchange of a file; false if it is gone meanwhile.
pub async fn exchange(
    table: &mut DeltaTable,
    file: &FileOf,
    adds: &[Add],
    action: &'static str,
) -> Result<bool, MaintenanceError> {
    for _ in 0..ATTEMPTS {
        let changes = Changes { adds: adds.to_vec(), removes: vec![file.remove(true)], numbers: Vec::new() };
        match commit(table, changes, action).await {
            Ok(_) => return Ok(true),
            Err(CommitError::Conflict { .. }) => {
                table.update_state().await.map_err(MaintenanceError::delta("reading the log"))?;
                if files(table)?.iter().all(|other| other.add.path != file.add.path) {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(MaintenanceError::Outpaced { attempts: ATTEMPTS })
}
