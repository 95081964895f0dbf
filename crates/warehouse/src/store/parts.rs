//! Tables in parts that are exchanged whole: aggregates by hour, results of jobs by period, derived tables.

use std::collections::HashMap;

use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::compute::cast;
use deltalake::arrow::datatypes::SchemaRef;
use deltalake::kernel::{Add, Remove};
use deltalake::logstore::object_store::ObjectStoreExt;
use deltalake::logstore::object_store::path::Path;
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::parquet::basic::{Compression, ZstdLevel};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::properties::WriterProperties;
use deltalake::{DeltaTable, DeltaTableError};

use super::parquet::{WriteError, random_name};

/// Writes rows as the file of a part; what the log says of it. `columns` are those of the file, without the one of parts.
///
/// # Errors
/// If the rows don't encode, or the store fails.
pub async fn write(
    table: &DeltaTable,
    (column, value): (&str, &str),
    columns: &SchemaRef,
    batches: &[RecordBatch],
) -> Result<Add, WriteError> {
    let (bytes, rows) = encode(columns, batches)?;
    // A value with a colon, such as a time, stands in the path as Delta escapes it: not at all.
    let part = format!("{column}={}", value.replace(':', "-"));
    let path = Path::from_iter([part, format!("part-{}.parquet", random_name())]);
    let size = bytes.len() as i64;
    let put = table.object_store().put(&path, bytes.into()).await;
    put.map_err(|source| WriteError::Store { path: path.clone(), source: Box::new(source) })?;
    Ok(Add {
        path: path.to_string(),
        partition_values: HashMap::from([(column.to_owned(), Some(value.to_owned()))]),
        size,
        modification_time: chrono::Utc::now().timestamp_millis(),
        data_change: true,
        stats: Some(format!("{{\"numRecords\":{rows}}}")),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    })
}

/// Rows of a part's file.
///
/// # Errors
/// If it can't be read.
pub async fn read(table: &DeltaTable, path: &str) -> Result<Vec<RecordBatch>, DeltaTableError> {
    let bytes = table.object_store().get(&Path::from(path)).await?.bytes().await?;
    let batches = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
    Ok(batches.collect::<Result<_, _>>()?)
}

fn encode(columns: &SchemaRef, batches: &[RecordBatch]) -> Result<(Vec<u8>, usize), ParquetError> {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(3)?);
    let properties = WriterProperties::builder().set_compression(zstd).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), columns.clone(), Some(properties))?;
    let mut rows = 0;
    for batch in batches {
        let arrays = columns.fields().iter().zip(batch.columns());
        let arrays = arrays.map(|(field, array)| cast(array, field.data_type()));
        let batch = RecordBatch::try_new(columns.clone(), arrays.collect::<Result<Vec<_>, _>>()?)?;
        rows += batch.num_rows();
        writer.write(&batch)?;
    }
    Ok((writer.into_inner()?, rows))
}

/// Files of the parts whose value `is_given`, to be given up.
///
/// # Errors
/// If the log can't be read.
pub fn removes(
    table: &DeltaTable,
    column: &str,
    is_given: impl Fn(&str) -> bool,
) -> Result<Vec<Remove>, DeltaTableError> {
    let files = table.snapshot()?.log_data();
    let mut removes = Vec::new();
    for file in files.iter() {
        let values = file.partition_values_map();
        let value = values.get(column).and_then(Option::as_ref);
        if value.is_some_and(|value| is_given(value)) {
            removes.push(Remove {
                path: file.path().into_owned(),
                data_change: true,
                deletion_timestamp: Some(chrono::Utc::now().timestamp_millis()),
                extended_file_metadata: Some(true),
                partition_values: Some(values),
                size: Some(file.size()),
                tags: None,
                deletion_vector: None,
                base_row_id: None,
                default_row_commit_version: None,
            });
        }
    }
    Ok(removes)
}
