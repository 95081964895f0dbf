//! Tables in parts that are exchanged whole: aggregates by hour, results of jobs by period, derived tables.

use std::collections::HashMap;

use bytes::Bytes;
use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::compute::cast;
use deltalake::arrow::datatypes::{DataType, SchemaRef};
use deltalake::kernel::{Add, Remove};
use deltalake::logstore::object_store::path::Path;
use deltalake::logstore::object_store::{ObjectStore, ObjectStoreExt};
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::parquet::arrow::{ArrowWriter, ProjectionMask};
use deltalake::parquet::basic::{Compression, Encoding};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::properties::{EnabledStatistics, WriterProperties};
use deltalake::parquet::schema::types::ColumnPath;
use deltalake::{DeltaTable, DeltaTableError};

use super::parquet::{WriteError, random_name};

/// Columns with values that hardly come twice: a dictionary would cost time and save nothing.
const UNIQUE: [&str; 9] =
    ["person", "session_id", "event_id", "duration_s", "begin", "end", "begin_ns", "end_ns", "timestamp_ns"];

/// Rows as the file of a part, which isn't in the store yet.
#[derive(Debug)]
pub struct Encoded {
    bytes: Vec<u8>,
    /// Number of its rows.
    pub rows: usize,
}

/// Writes rows as the file of a part; what the log says of it. `columns` are those of the file, without the one of parts.
///
/// # Errors
/// If the rows don't encode, or the store fails.
pub async fn write(
    table: &DeltaTable,
    part: (&str, &str),
    columns: &SchemaRef,
    batches: &[RecordBatch],
) -> Result<Add, WriteError> {
    put(&*table.object_store(), part, encode(columns, batches)?).await
}

/// Puts a file into the store of a table.
///
/// # Errors
/// [`WriteError::Store`] if the store fails.
pub async fn put(
    store: &dyn ObjectStore,
    (column, value): (&str, &str),
    Encoded { bytes, rows }: Encoded,
) -> Result<Add, WriteError> {
    // A value with a colon, such as a time, stands in the path as Delta escapes it: not at all.
    let part = format!("{column}={}", value.replace(':', "-"));
    let path = Path::from_iter([part, format!("part-{}.parquet", random_name())]);
    let size = bytes.len() as i64;
    let put = store.put(&path, bytes.into()).await;
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
    Ok(decode(bytes, None)?)
}

/// Rows in the bytes of a part's file: these columns, or all.
///
/// # Errors
/// If it doesn't decode.
pub fn decode(bytes: Bytes, columns: Option<&[&str]>) -> Result<Vec<RecordBatch>, ParquetError> {
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    if let Some(columns) = columns {
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        builder = builder.with_projection(mask);
    }
    // A part fits into memory.
    let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
    let batches = builder.with_batch_size(rows.max(1)).build()?;
    Ok(batches.collect::<Result<_, _>>()?)
}

/// Rows as the file of a part.
///
/// # Errors
/// If they don't encode.
pub fn encode(columns: &SchemaRef, batches: &[RecordBatch]) -> Result<Encoded, ParquetError> {
    let mut writer = ArrowWriter::try_new(Vec::new(), columns.clone(), Some(properties(columns)))?;
    let mut rows = 0;
    for batch in batches {
        let arrays = columns.fields().iter().zip(batch.columns());
        let arrays = arrays.map(|(field, array)| cast(array, field.data_type()));
        let batch = RecordBatch::try_new(columns.clone(), arrays.collect::<Result<Vec<_>, _>>()?)?;
        rows += batch.num_rows();
        writer.write(&batch)?;
    }
    Ok(Encoded { bytes: writer.into_inner()?, rows })
}

fn properties(columns: &SchemaRef) -> WriterProperties {
    // Parts are written again and again.
    let mut builder = WriterProperties::builder().set_compression(Compression::LZ4_RAW);
    for field in columns.fields() {
        let column = || ColumnPath::from(field.name().as_str());
        // Queries leave out what has other numbers or times; texts would stand in the statistics in clear.
        let statistics = match field.data_type() {
            DataType::Utf8 | DataType::Binary => EnabledStatistics::None,
            _ => EnabledStatistics::Chunk,
        };
        builder = builder.set_column_statistics_enabled(column(), statistics);
        if UNIQUE.contains(&field.name().as_str()) {
            builder = builder.set_column_dictionary_enabled(column(), false);
            if matches!(field.data_type(), DataType::Int64 | DataType::Timestamp(..)) {
                builder = builder.set_column_encoding(column(), Encoding::DELTA_BINARY_PACKED);
            }
        }
    }
    builder.build()
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
