//! Some columns of many events, read without SQL: texts stay numbers of a dictionary, one for each row group of a file.
//!
//! SQL makes a text of each row. Who groups millions of events by person needs each text once for a row group.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::DataFusionError;
use deltalake::DeltaTable;
use deltalake::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use deltalake::arrow::compute::{cast, filter_record_batch};
use deltalake::arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Schema, SchemaRef};
use deltalake::arrow::error::ArrowError;
use deltalake::logstore::ObjectStoreRef;
use deltalake::logstore::object_store::path::Path;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use deltalake::parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::statistics::Statistics;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use super::answer::QueryError;
use super::engine::{Engine, Role, masked_texts};
use super::stored_file::StoredFile;
use super::views::PERSONAL;
use crate::events::{Namespace, schema};
use crate::store::StoreError;

/// Time of an event, by which files and row groups are left out.
const TIME: &str = "timestamp_ns";
/// Rows of a batch: a row group of a compacted file.
const ROWS: usize = 256 * 1024;
/// Files whose metadata is read at the same time.
const FOOTERS: usize = 8;

/// Events and their columns.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Kinds of events.
    pub kinds: &'static [&'static str],
    /// Time of the events, nanoseconds since 1970.
    pub period: Range<i64>,
    /// Columns, in the order of the batches. Texts come as dictionaries.
    pub columns: Vec<&'static str>,
}

/// Rows of one row group.
struct Piece {
    file: StoredFile,
    metadata: ArrowReaderMetadata,
    row_group: usize,
}

/// What the tasks of a scan share.
struct Shared<F> {
    scan: Scan,
    schema: SchemaRef,
    /// Names pseudonyms, for those who don't see identifiers.
    masking: Option<Namespace>,
    pieces: Vec<Piece>,
    next: AtomicUsize,
    each: F,
}

impl Engine {
    /// Gives batches of the newest version and of the tail above it to `each`, on as many threads as a query has. Events of other
    /// times may be among them.
    ///
    /// # Errors
    /// [`QueryError`] if it isn't admitted or can't read, and the error of `each`.
    pub async fn scan<F>(&self, scan: Scan, role: &Role, each: F) -> Result<(), QueryError>
    where
        F: Fn(&RecordBatch) -> Result<(), ArrowError> + Send + Sync + 'static,
    {
        let masking = (!role.sees_personal).then(|| self.pseudonyms());
        let threads = self.limits().threads;
        let scanned = self.admitted(role, async move |table, tail| {
            let schema = schema_of(&scan);
            let pieces = pieces(&table, &scan).await?;
            let shared = Shared { scan, schema, masking, pieces, next: AtomicUsize::new(0), each };
            for rows in &tail.rows {
                shared.give_kinds(rows).map_err(DataFusionError::from)?;
            }
            let shared = Arc::new(shared);
            let mut tasks = JoinSet::new();
            for _ in 0..threads {
                let shared = shared.clone();
                tasks.spawn(async move { shared.read().await });
            }
            while let Some(task) = tasks.join_next().await {
                task.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
            }
            Ok(())
        });
        scanned.await
    }
}

impl<F> Shared<F>
where
    F: Fn(&RecordBatch) -> Result<(), ArrowError>,
{
    /// Reads pieces until none is left.
    async fn read(&self) -> Result<(), DataFusionError> {
        while let Some(piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let (file, metadata) = (piece.file.clone(), piece.metadata.clone());
            let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(file, metadata);
            let mask = ProjectionMask::columns(builder.parquet_schema(), self.scan.columns.iter().copied());
            let rows = builder.with_projection(mask).with_row_groups(vec![piece.row_group]);
            let mut batches = rows.with_batch_size(ROWS).build()?;
            while let Some(batch) = batches.next().await {
                self.give(&batch?)?;
            }
        }
        Ok(())
    }

    /// Gives the rows of the scan's kinds.
    fn give_kinds(&self, rows: &RecordBatch) -> Result<(), ArrowError> {
        self.give(&of_kinds(rows, self.scan.kinds)?)
    }

    /// Gives a batch with the scan's columns, masked.
    fn give(&self, rows: &RecordBatch) -> Result<(), ArrowError> {
        let columns = self.schema.fields().iter().map(|field| {
            let Some(column) = rows.column_by_name(field.name()) else {
                return Ok(new_null_array(field.data_type(), rows.num_rows()));
            };
            let column = cast(column, field.data_type())?;
            match &self.masking {
                Some(namespace) if PERSONAL.contains(&field.name().as_str()) => masked(&column, namespace),
                _ => Ok(column),
            }
        });
        let batch = RecordBatch::try_new(self.schema.clone(), columns.collect::<Result<_, _>>()?)?;
        (self.each)(&batch)
    }
}

/// A dictionary with pseudonyms for its texts.
fn masked(column: &ArrayRef, namespace: &Namespace) -> Result<ArrayRef, ArrowError> {
    let dictionary = column.as_dictionary::<Int32Type>();
    let texts = masked_texts(dictionary.values().as_string::<i32>(), namespace);
    Ok(Arc::new(dictionary.with_values(Arc::new(texts))))
}

/// Columns of the batches.
fn schema_of(scan: &Scan) -> SchemaRef {
    let all = schema();
    let named = |name: &&str| all.field_with_name(name).ok();
    // A file of an older version may lack a column.
    let fields = scan.columns.iter().filter_map(named).map(|field| field.clone().with_nullable(true));
    Arc::new(Schema::new(fields.map(|field| as_dictionary(&Arc::new(field))).collect::<Vec<_>>()))
}

/// The field with a dictionary instead of texts.
fn as_dictionary(field: &FieldRef) -> FieldRef {
    let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if !is_text {
        return field.clone();
    }
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Arc::new(Field::new(field.name(), dictionary, field.is_nullable()))
}

/// Rows of some kinds.
fn of_kinds(rows: &RecordBatch, kinds: &[&str]) -> Result<RecordBatch, ArrowError> {
    let Some(column) = rows.column_by_name("event_type") else { return Ok(rows.slice(0, 0)) };
    let names = cast(column, &DataType::Utf8)?;
    let is_wanted =
        names.as_string::<i32>().iter().map(|kind| Some(kind.is_some_and(|kind| kinds.contains(&kind))));
    filter_record_batch(rows, &BooleanArray::from_iter(is_wanted))
}

/// Row groups that may have events of the scan.
async fn pieces(table: &DeltaTable, scan: &Scan) -> Result<Vec<Piece>, QueryError> {
    let state = table.snapshot().map_err(StoreError::delta("reading"))?;
    let mut files = Vec::new();
    for file in state.log_data().iter() {
        let kind = file.partition_values_map().remove("event_type").flatten();
        if kind.is_some_and(|kind| scan.kinds.contains(&kind.as_str())) {
            files.push((file.path().into_owned(), file.size().unsigned_abs()));
        }
    }
    let opened = files.into_iter().map(|(path, size)| of_file(table.object_store(), path, size, scan));
    let pieces: Vec<_> = stream::iter(opened).buffered(FOOTERS).try_collect().await?;
    Ok(pieces.into_iter().flatten().collect())
}

async fn of_file(
    store: ObjectStoreRef,
    path: String,
    size: u64,
    scan: &Scan,
) -> Result<Vec<Piece>, DataFusionError> {
    let path = Path::parse(&path).map_err(|error| DataFusionError::External(error.into()))?;
    let file = StoredFile { store, path, size };
    let metadata = ArrowReaderMetadata::load_async(&mut file.clone(), ArrowReaderOptions::new()).await?;
    let metadata = with_dictionaries(&metadata, scan)?;
    let groups = 0..metadata.metadata().num_row_groups();
    let may_match = |group: &usize| {
        let columns = metadata.metadata().row_group(*group).columns();
        let time = columns.iter().find(|column| column.column_path().string() == TIME);
        match time.and_then(|time| time.statistics()) {
            Some(Statistics::Int64(times)) => {
                times.max_opt().is_none_or(|greatest| *greatest >= scan.period.start)
                    && times.min_opt().is_none_or(|least| *least < scan.period.end)
            }
            _ => true,
        }
    };
    let piece = |row_group| Piece { file: file.clone(), metadata: metadata.clone(), row_group };
    Ok(groups.filter(may_match).map(piece).collect())
}

/// The file's metadata with dictionaries for the texts of the scan.
fn with_dictionaries(
    metadata: &ArrowReaderMetadata,
    scan: &Scan,
) -> Result<ArrowReaderMetadata, ParquetError> {
    let fields = metadata.schema().fields().iter();
    let fields: Vec<_> = fields
        .map(|field| match scan.columns.contains(&field.name().as_str()) {
            true => as_dictionary(field),
            false => field.clone(),
        })
        .collect();
    let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
    ArrowReaderMetadata::try_new(metadata.metadata().clone(), options)
}
