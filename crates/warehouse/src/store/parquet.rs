//! Rows as Parquet files, with the statistics that the log keeps of them.

use std::sync::Arc;

use deltalake::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use deltalake::arrow::compute;
use deltalake::arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use deltalake::kernel::Add;
use deltalake::logstore::object_store::path::Path;
use deltalake::logstore::object_store::{ObjectStore, ObjectStoreExt};
use deltalake::parquet::arrow::arrow_writer::ArrowWriterOptions;
use deltalake::parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use deltalake::parquet::basic::{Compression, Encoding, ZstdLevel};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use deltalake::parquet::schema::types::ColumnPath;
use serde_json::{Map, Value, json};

use crate::events::columns::STATISTICS;
use crate::events::rows::PartitionKey;
use crate::events::{file_schema, row_schema, text};
use crate::store::tables::partition_values;

/// Columns with values that hardly come twice: a dictionary would cost time and save nothing.
const UNIQUE: [&str; 3] = ["event_id", "raw_data", "properties"];
/// Columns of rising numbers.
const RISING: [&str; 4] = ["timestamp", "timestamp_ns", "received_at", "received_ns"];
/// Whole numbers that are the same or rise by one from row to row: as a file of new events has them, no dictionary.
const STEADY: [&str; 5] = ["processed_at", "sequence", "batch_index", "shard", "enrichment"];
/// Columns in which single values are looked up.
const LOOKED_UP: [&str; 4] = ["user_id", "anonymous_id", "session_id", "trace_id"];

/// Rows in a row group of a compacted file.
const ROW_GROUP_ROWS: usize = 256 * 1024;

/// Bytes of a page of a file of new events, before compression: they stay in a core's cache while they are compressed.
const LOAD_PAGE_BYTES: usize = 256 * 1024;

/// Purpose of a file, which decides between speed and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// A small file of newly loaded events, which compaction replaces soon.
    Load,
    /// A large file that stays.
    Keep,
}

/// A file that can't be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Rows don't encode.
    #[error("encoding rows as Parquet")]
    Parquet(#[from] ParquetError),
    /// The store failed.
    #[error("writing {path}")]
    Store {
        /// The file, below the table.
        path: Path,
        /// The error.
        source: Box<deltalake::ObjectStoreError>,
    },
}

/// Least and greatest time of a file's rows, nanoseconds since 1970, as the log's statistics have them.
pub fn times(statistics: Option<&str>) -> Option<(i64, i64)> {
    let statistics: Value = serde_json::from_str(statistics?).ok()?;
    let bound = |which: &str| statistics.get(which)?.get("timestamp_ns")?.as_i64();
    Some((bound("minValues")?, bound("maxValues")?))
}

/// Encodes rows of one partition into a file, as it comes into the store.
#[derive(Debug)]
pub struct FileBuilder {
    key: PartitionKey,
    writer: ArrowWriter<Vec<u8>>,
    statistics: Statistics,
}

impl FileBuilder {
    /// A file of new rows, with the columns of [`row_schema`].
    ///
    /// # Errors
    /// If the columns don't encode.
    pub fn of_new_rows(key: PartitionKey) -> Result<Self, WriteError> {
        // The file's texts are texts, though they come as bytes.
        let schema = ArrowSchemaConverter::new().convert(&file_schema())?;
        let options = ArrowWriterOptions::new()
            .with_properties(properties(Purpose::Load))
            .with_parquet_schema(schema)
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), row_schema(), options)?;
        Ok(Self { key, writer, statistics: Statistics::default() })
    }

    /// A file with these columns, which stays.
    ///
    /// # Errors
    /// If the columns don't encode.
    pub fn to_keep(key: PartitionKey, columns: SchemaRef) -> Result<Self, WriteError> {
        let writer = ArrowWriter::try_new(Vec::new(), columns, Some(properties(Purpose::Keep)))?;
        Ok(Self { key, writer, statistics: Statistics::default() })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// If they don't encode.
    pub fn push(&mut self, rows: &RecordBatch) -> Result<(), WriteError> {
        self.statistics.add(rows);
        self.writer.write(rows)?;
        Ok(())
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.statistics.rows
    }

    /// Bytes so far, about.
    pub fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Ends the file.
    ///
    /// # Errors
    /// If the rows don't encode.
    pub fn finish(self) -> Result<EncodedFile, WriteError> {
        let Self { key, writer, statistics } = self;
        let bytes = writer.into_inner()?;
        Ok(EncodedFile { key, bytes, statistics })
    }
}

/// A file that isn't in the store yet.
#[derive(Debug)]
pub struct EncodedFile {
    key: PartitionKey,
    bytes: Vec<u8>,
    statistics: Statistics,
}

impl EncodedFile {
    /// Bytes of the file.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if it has no rows.
    pub fn is_empty(&self) -> bool {
        self.statistics.rows == 0
    }

    /// Writes the file into the store of the table; what the log says of it.
    ///
    /// # Errors
    /// [`WriteError::Store`] if the store fails; then the file may be there, and vacuum removes it.
    pub async fn store(self, store: &Arc<dyn ObjectStore>, data_change: bool) -> Result<Add, WriteError> {
        let Self { key, bytes, statistics } = self;
        let name = format!("part-{}.parquet", random_name());
        let path = Path::from_iter([
            format!("load_date={}", key.load_date),
            format!("event_type={}", key.event_type),
            name,
        ]);
        let size = bytes.len() as i64;
        let put = store.put(&path, bytes.into()).await;
        put.map_err(|source| WriteError::Store { path: path.clone(), source: Box::new(source) })?;
        Ok(Add {
            path: path.to_string(),
            partition_values: partition_values(&key),
            size,
            modification_time: chrono::Utc::now().timestamp_millis(),
            data_change,
            stats: Some(statistics.to_json()),
            tags: None,
            deletion_vector: None,
            base_row_id: None,
            default_row_commit_version: None,
            clustering_provider: None,
        })
    }
}

/// A name that nobody has.
pub fn random_name() -> String {
    let mut bytes = [0; 16];
    // Without randomness no TLS and no keys work either; a name that is taken would be refused by the commit.
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .expect("the system has randomness");
    String::from_utf8_lossy(&text::uuid_text(&bytes)).into_owned()
}

fn properties(purpose: Purpose) -> WriterProperties {
    let compression = match purpose {
        Purpose::Load => Compression::LZ4_RAW,
        Purpose::Keep => Compression::ZSTD(ZstdLevel::try_new(3).expect("a level of Zstandard")),
    };
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(compression)
        .set_created_by("tickstream-warehouse".to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        // Statistics hold values in clear: only columns that identify nobody have them.
        .set_statistics_enabled(EnabledStatistics::None);
    let column = |name: &str| ColumnPath::from(name);
    for name in UNIQUE {
        builder = builder.set_column_dictionary_enabled(column(name), false);
    }
    for name in RISING {
        builder = builder
            .set_column_dictionary_enabled(column(name), false)
            .set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
    }
    if purpose == Purpose::Load {
        builder = builder.set_data_page_size_limit(LOAD_PAGE_BYTES);
        for name in STEADY {
            builder = builder
                .set_column_dictionary_enabled(column(name), false)
                .set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
        }
    }
    for name in STATISTICS {
        builder = builder.set_column_statistics_enabled(column(name), EnabledStatistics::Page);
    }
    for name in ["event_name", "service", "level", "status", "metric_name", "video_id"] {
        builder = builder.set_column_statistics_enabled(column(name), EnabledStatistics::Chunk);
    }
    if purpose == Purpose::Keep {
        for name in LOOKED_UP {
            builder = builder.set_column_bloom_filter_enabled(column(name), true);
        }
    }
    builder.build()
}

/// Numbers of rows, and least and greatest values of [`STATISTICS`].
#[derive(Debug, Default)]
struct Statistics {
    rows: u64,
    ranges: [Option<(Value, Value)>; STATISTICS.len()],
}

impl Statistics {
    fn add(&mut self, rows: &RecordBatch) {
        self.rows += rows.num_rows() as u64;
        for (name, range) in STATISTICS.iter().zip(&mut self.ranges) {
            let Some(found) = rows.column_by_name(name).and_then(range_of) else { continue };
            *range = Some(match range.take() {
                None => found,
                Some((least, greatest)) => (lesser(least, found.0), greater(greatest, found.1)),
            });
        }
    }

    fn to_json(&self) -> String {
        let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
        for (name, range) in STATISTICS.iter().zip(&self.ranges) {
            if let Some((low, high)) = range {
                least.insert((*name).to_owned(), low.clone());
                greatest.insert((*name).to_owned(), high.clone());
                nulls.insert((*name).to_owned(), 0.into());
            }
        }
        json!({"numRecords": self.rows, "minValues": least, "maxValues": greatest, "nullCount": nulls})
            .to_string()
    }
}

fn range_of(column: &ArrayRef) -> Option<(Value, Value)> {
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let times = column.as_primitive::<TimestampMicrosecondType>();
            // The protocol has milliseconds: the least is rounded down, the greatest up.
            let least = compute::min(times)?.div_euclid(1000);
            let greatest = compute::max(times)?.saturating_add(999).div_euclid(1000);
            Some((moment(least), moment(greatest)))
        }
        DataType::Int64 => {
            let numbers = column.as_primitive::<Int64Type>();
            Some((compute::min(numbers)?.into(), compute::max(numbers)?.into()))
        }
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            Some((compute::min_string(texts)?.into(), compute::max_string(texts)?.into()))
        }
        DataType::Binary => {
            let texts = column.as_binary::<i32>();
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned().into();
            Some((text(compute::min_binary(texts)?), text(compute::max_binary(texts)?)))
        }
        _ => None,
    }
}

fn moment(ms: i64) -> Value {
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string().into()
}

fn lesser(one: Value, other: Value) -> Value {
    if is_less(&other, &one) { other } else { one }
}

fn greater(one: Value, other: Value) -> Value {
    if is_less(&one, &other) { other } else { one }
}

fn is_less(one: &Value, other: &Value) -> bool {
    match (one.as_i64(), other.as_i64()) {
        (Some(one), Some(other)) => one < other,
        // Times have one form, in which the order of texts is that of times.
        _ => one.as_str() < other.as_str(),
    }
}
