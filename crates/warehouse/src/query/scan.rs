//! Some columns of many events, read without SQL: texts stay numbers of a dictionary, one for each row group of a file.
//!
//! SQL makes a text of each row. Who groups millions of events by person needs each text once for a row group.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::DataFusionError;
use deltalake::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use deltalake::arrow::compute::{cast, filter_record_batch};
use deltalake::arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use deltalake::arrow::error::ArrowError;
use futures::StreamExt;
use tokio::task::JoinSet;

use super::answer::QueryError;
use super::engine::{Engine, Role, masked_texts};
use super::views::PERSONAL;
use crate::events::{Namespace, schema};
use crate::store::StoreError;
use crate::store::pieces::{Piece, PieceError, pieces};
use crate::tasks::next;

/// Rows of a batch: a row group of a compacted file.
const ROWS: usize = 256 * 1024;

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

/// State that the tasks of a scan share.
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
            let times = scan.period.start..=scan.period.end;
            let mut pieces = pieces(&table, scan.kinds).await?;
            pieces.retain(|piece| piece.may_have(&times));
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
            while let Some(read) = next(&mut tasks).await {
                read?;
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
    async fn read(&self) -> Result<(), QueryError> {
        while let Some(piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let mut rows = piece.rows(&self.scan.columns, ROWS, &[], None)?;
            while let Some(batch) = rows.next().await {
                self.give(&batch?).map_err(DataFusionError::from)?;
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
    Arc::new(Schema::new(fields.map(as_dictionary).collect::<Vec<_>>()))
}

/// The field with a dictionary instead of texts.
fn as_dictionary(field: Field) -> Field {
    match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            field.with_data_type(DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)))
        }
        _ => field,
    }
}

/// Rows of some kinds.
fn of_kinds(rows: &RecordBatch, kinds: &[&str]) -> Result<RecordBatch, ArrowError> {
    let Some(column) = rows.column_by_name("event_type") else { return Ok(rows.slice(0, 0)) };
    let names = cast(column, &DataType::Utf8)?;
    let is_wanted =
        names.as_string::<i32>().iter().map(|kind| Some(kind.is_some_and(|kind| kinds.contains(&kind))));
    filter_record_batch(rows, &BooleanArray::from_iter(is_wanted))
}

impl From<PieceError> for QueryError {
    fn from(error: PieceError) -> Self {
        match error {
            PieceError::Log(error) => StoreError::delta("reading")(*error).into(),
            PieceError::File { path, source } => DataFusionError::from(source).context(path).into(),
        }
    }
}
