//! Rows of one version of the events, read from their files without SQL: for tables that are derived, and for questions about
//! persons.
//!
//! Each row group is a piece that one task reads. Texts come as dictionaries, so that each distinct text of a piece is looked at
//! once instead of in each row.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;
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

use super::parquet::times;

/// Rows of a batch whose columns fit into the cache of a core.
pub const BATCH_ROWS: usize = 8_192;
/// Files whose ends are read at the same time.
const FILES: usize = 8;
/// Bytes from the end of a file that are read at first: what describes most files.
const END_BYTES: usize = 64 * 1024;

/// A piece that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    /// The log of the table can't be read.
    #[error("reading the log")]
    Log(#[source] Box<deltalake::DeltaTableError>),
    /// A file can't be read.
    #[error("reading {path}")]
    File {
        /// The file, below the table.
        path: String,
        /// The error.
        source: ParquetError,
    },
}

/// Says which rows are wanted.
pub type Choose = Box<dyn FnMut(RecordBatch) -> Result<BooleanArray, ArrowError> + Send>;

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

    /// Columns of those rows that `choose` wants by the columns `chosen_by`, in batches of `batch_rows`. A file of an older version
    /// may lack columns.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn rows(
        &self,
        columns: &[&str],
        batch_rows: usize,
        chosen_by: &[&str],
        choose: Option<Choose>,
    ) -> Result<BoxStream<'static, Result<RecordBatch, PieceError>>, PieceError> {
        let (file, metadata) = (self.file.clone(), self.metadata.clone());
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(file, metadata);
        let mask = |names: &[&str]| ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
        let (all, few) = (mask(columns), mask(chosen_by));
        let mut builder = builder
            .with_row_groups(vec![self.group])
            .with_projection(all)
            .with_batch_size(batch_rows)
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

/// Pieces of the files that `events` has of these kinds.
///
/// # Errors
/// If the log or the end of a file can't be read.
pub async fn pieces(events: &DeltaTable, kinds: &[&str]) -> Result<Vec<Piece>, PieceError> {
    let store = events.object_store();
    let state = events.snapshot().map_err(|error| PieceError::Log(Box::new(error)))?;
    let mut files = Vec::new();
    for file in state.log_data().iter() {
        let kind = file.partition_values_map().remove("event_type").flatten().unwrap_or_default();
        if kinds.contains(&kind.as_str()) {
            let times = times(file.stats().as_deref());
            files.push((kind, times, file.path().into_owned(), file.size().unsigned_abs()));
        }
    }
    let ends = files.into_iter().map(|(kind, times, path, size)| {
        let store = store.clone();
        async move {
            let of_file = of_file(store, &path, size, &kind, times).await;
            of_file.map_err(|source| PieceError::File { path, source })
        }
    });
    let pieces: Vec<_> = futures::stream::iter(ends).buffered(FILES).try_collect().await?;
    Ok(pieces.into_iter().flatten().collect())
}

/// Pieces of a file, from its end.
async fn of_file(
    store: Arc<dyn ObjectStore>,
    path: &str,
    size: u64,
    kind: &str,
    times: Option<(i64, i64)>,
) -> ParquetResult<Vec<Piece>> {
    let mut file = File { store, path: Path::parse(path).map_err(external)?, size };
    let metadata = ArrowReaderMetadata::load_async(&mut file, ArrowReaderOptions::new()).await?;
    let metadata = with_dictionaries(&metadata)?;
    let piece =
        |group| Piece { kind: kind.to_owned(), times, file: file.clone(), metadata: metadata.clone(), group };
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
        let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(END_BYTES));
        async move { reader.load_and_finish(self, size).await.map(Arc::new) }.boxed()
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

fn failed(path: &str, source: ParquetError) -> PieceError {
    PieceError::File { path: path.to_owned(), source }
}
