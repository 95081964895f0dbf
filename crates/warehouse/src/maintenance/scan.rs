//! Rows of one version of the events, read from their files as they stand, for tables that are derived.
//!
//! Each row group is a piece that one task reads. Texts come as dictionaries, so that each distinct text of a piece is looked at
//! once instead of in each row.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::DataFusionError;
use deltalake::DeltaTable;
use deltalake::arrow::array::{BooleanArray, RecordBatch};
use deltalake::arrow::datatypes::{DataType, Schema};
use deltalake::arrow::error::ArrowError;
use deltalake::logstore::object_store::path::Path;
use deltalake::logstore::object_store::{ObjectStore, ObjectStoreExt};
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, RowFilter,
};
use deltalake::parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use deltalake::parquet::errors::{ParquetError, Result as ParquetResult};
use deltalake::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::changes::times;
use super::{MaintenanceError, rewrite};

/// Rows of a batch: their columns fit into the cache of a core.
const BATCH_ROWS: usize = 8_192;
/// Files whose ends are read at the same time.
const FILES: usize = 8;

/// Says which rows are wanted.
pub type Choose = Box<dyn FnMut(RecordBatch) -> Result<BooleanArray, ArrowError> + Send>;

/// Pieces of the files of some kinds of events.
#[derive(Debug)]
pub struct Scan {
    pieces: Vec<Piece>,
}

/// A row group of a file.
#[derive(Clone, Debug)]
pub struct Piece {
    kind: String,
    /// Least and greatest time of the file's rows, nanoseconds since 1970, if they are known.
    times: Option<(i64, i64)>,
    file: File,
    metadata: ArrowReaderMetadata,
    group: usize,
}

/// A file of the store.
#[derive(Clone, Debug)]
struct File {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

impl Piece {
    /// Kind of its events.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// True if rows may have times of a range, nanoseconds since 1970.
    pub fn may_have(&self, range: &RangeInclusive<i64>) -> bool {
        self.times.is_none_or(|(least, greatest)| least <= *range.end() && greatest >= *range.start())
    }

    /// True if all rows have times of a range.
    pub fn is_within(&self, range: &RangeInclusive<i64>) -> bool {
        self.times.is_some_and(|(least, greatest)| range.contains(&least) && range.contains(&greatest))
    }

    /// Columns of those rows that `choose` wants by the columns `chosen_by`. Columns may be missing that have no texts, or that a
    /// file of an older version lacks.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn rows(
        &self,
        columns: &[&str],
        chosen_by: &[&str],
        choose: Option<Choose>,
    ) -> Result<BoxStream<'static, Result<RecordBatch, MaintenanceError>>, MaintenanceError> {
        let (file, metadata) = (self.file.clone(), self.metadata.clone());
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(file, metadata);
        // Empty texts are like a column that isn't there.
        let is_there = |name: &&str| {
            let columns = self.metadata.metadata().row_group(self.group).columns();
            let column = columns.iter().find(|column| column.column_path().string() == *name);
            column.is_some_and(|column| column.unencoded_byte_array_data_bytes() != Some(0))
        };
        let mask = |names: &[&str]| {
            ProjectionMask::columns(builder.parquet_schema(), names.iter().copied().filter(is_there))
        };
        let (all, few) = (mask(columns), mask(chosen_by));
        let mut builder = builder
            .with_row_groups(vec![self.group])
            .with_projection(all)
            .with_batch_size(BATCH_ROWS)
            // Batches from a cache would have dictionaries of their own.
            .with_max_predicate_cache_size(0);
        if let Some(choose) = choose {
            let choice = ArrowPredicateFn::new(few, choose);
            builder = builder.with_row_filter(RowFilter::new(vec![Box::new(choice)]));
        }
        let path = self.file.path.to_string();
        let rows = builder.build().map_err(|error| failed(&path, error))?;
        Ok(rows.map_err(move |error| failed(&path, error)).boxed())
    }
}

impl Scan {
    /// Pieces of the files that `events` has of these kinds.
    ///
    /// # Errors
    /// If the log or the end of a file can't be read.
    pub async fn open(events: &DeltaTable, kinds: &[&str]) -> Result<Self, MaintenanceError> {
        let store = events.object_store();
        let mut files = rewrite::files(events)?;
        files.retain(|file| kinds.contains(&file.key.event_type.as_str()));
        let mut ends =
            futures::stream::iter(files.into_iter().map(|file| end_of(store.clone(), file))).buffered(FILES);
        let mut pieces = Vec::new();
        while let Some(of_file) = ends.try_next().await? {
            pieces.extend(of_file);
        }
        drop(ends);
        Ok(Self { pieces })
    }

    /// Its pieces.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
}

/// Pieces of a file, from its end.
async fn end_of(store: Arc<dyn ObjectStore>, file: rewrite::FileOf) -> Result<Vec<Piece>, MaintenanceError> {
    let failed = |error| failed(&file.add.path, error);
    let path = Path::parse(&file.add.path).map_err(|error| failed(external(error)))?;
    let mut reader = File { store, path, size: file.add.size.unsigned_abs() };
    let metadata = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new()).await;
    let metadata = metadata.and_then(|metadata| with_dictionaries(&metadata)).map_err(failed)?;
    let times = times(file.add.stats.as_deref());
    let piece = |group| Piece {
        kind: file.key.event_type.clone(),
        times,
        file: reader.clone(),
        metadata: metadata.clone(),
        group,
    };
    Ok((0..metadata.metadata().num_row_groups()).map(piece).collect())
}

impl AsyncFileReader for File {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { self.store.get_range(&self.path, range).await.map_err(external) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let size = self.size;
        async move { ParquetMetaDataReader::new().load_and_finish(self, size).await.map(Arc::new) }.boxed()
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// The same file with all texts as dictionaries.
fn with_dictionaries(metadata: &ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let fields = metadata.schema().fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(dictionary.clone())),
        _ => field.clone(),
    });
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    ArrowReaderMetadata::try_new(metadata.metadata().clone(), options)
}

fn failed(path: &str, error: ParquetError) -> MaintenanceError {
    MaintenanceError::read(path)(DataFusionError::from(error))
}
