//! Enrichment computed anew, from the stored events, in place: of rows that an older version of it filled, or of all. Columns that
//! were promoted since are filled, too.
//!
//! Each file that has such rows is written anew and exchanged by one commit. What a kill has interrupted is gone on with
//! by the next run, since rows say which version they are of.

use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::logical_expr::{Expr, col, lit};
use deltalake::arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int32Builder, RecordBatch, StringArray, StringBuilder,
};
use deltalake::arrow::compute::cast;
use deltalake::arrow::datatypes::{DataType, Field, Int32Type, Schema};
use deltalake::arrow::error::ArrowError;

use super::rewrite;
use super::{Lease, MaintenanceError};
use crate::events::DEAD_LETTER;
use crate::events::columns::PROMOTED_LATER;
use crate::events::enrichment::{self, COLUMNS, Enrichment, Geo, Values};
use crate::functions::json_path::{self, Path};
use crate::query::Limits;
use crate::store::Tables;

/// Column with the version that filled a row's.
const VERSION: &str = "enrichment";
/// Columns that a database of addresses fills.
const PLACES: [&str; 2] = ["country", "city"];

/// Rows to compute anew.
#[derive(Clone, Debug)]
pub struct Options {
    /// Version of the computations: rows of older ones are computed anew.
    pub version: i32,
    /// Rows of this version, too: after a change of the database of addresses.
    pub all: bool,
    /// Bytes of a rewritten file, at most about.
    pub file_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { version: enrichment::VERSION, all: false, file_bytes: 128 << 20 }
    }
}

/// Numbers of a rebuild.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows that were computed anew.
    pub rows: u64,
    /// Files that were written anew.
    pub files: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
}

/// Computes enrichment anew. Without a database of addresses, country and city stay as they are.
///
/// # Errors
/// If files can't be read or written. What was committed stays, and isn't done again.
pub async fn rebuild(
    tables: &Tables,
    lease: &mut Lease,
    geo: Geo,
    options: &Options,
    limits: &Limits,
) -> Result<Report, MaintenanceError> {
    let mut table = tables.open().await?;
    let mut enrichment = Enrichment::new(geo);
    let mut report = Report::default();
    for file in rewrite::files(&table)? {
        lease.renew().await?;
        let count = rewrite::count(&table, &file, &options.outdated(), limits).await?;
        if count == 0 {
            continue;
        }
        let rows = rewrite::rows(&table, std::slice::from_ref(&file), None, limits).await?;
        let is_event = file.key.event_type != DEAD_LETTER;
        let change = |batch: RecordBatch| computed(&batch, &mut enrichment, options, is_event);
        let (adds, written) =
            rewrite::write(&table, &file.key, rows, options.file_bytes, true, change).await?;
        if written != file.rows {
            let wrong = format!("{written} rows were read of {}", file.rows);
            return Err(MaintenanceError::read(&file.add.path)(DataFusionError::Internal(wrong)));
        }
        // Whoever took the file meanwhile had to have the lease.
        if rewrite::exchange(&mut table, &file, &adds, "enrich").await? {
            report.rows += count;
            report.files += 1;
            report.bytes_written += adds.iter().map(|add| add.size as u64).sum::<u64>();
        }
    }
    Ok(report)
}

impl Options {
    /// Rows to compute anew. A newer program's are left alone.
    fn outdated(&self) -> Expr {
        let version = col(VERSION);
        if self.all { version.lt_eq(lit(self.version)) } else { version.lt(lit(self.version)) }
    }

    fn is_outdated(&self, version: i32) -> bool {
        version < self.version || self.all && version == self.version
    }
}

/// The batch with columns computed anew.
fn computed(
    batch: &RecordBatch,
    enrichment: &mut Enrichment,
    options: &Options,
    is_event: bool,
) -> Result<RecordBatch, ArrowError> {
    let raw = texts(batch, "raw_data")?;
    let before = COLUMNS.iter().map(|name| texts(batch, name)).collect::<Result<Vec<_>, _>>()?;
    let versions: Int32Array =
        cast(column(batch, VERSION)?, &DataType::Int32)?.as_primitive::<Int32Type>().clone();
    let keeps_places = !enrichment.knows_places();
    let later = PROMOTED_LATER
        .map(|(name, paths)| (name, paths.iter().map(|path| path_of(path)).collect::<Vec<_>>()));
    let later_before = later.iter().map(|(name, _)| texts(batch, name)).collect::<Result<Vec<_>, _>>()?;
    let mut columns: [StringBuilder; COLUMNS.len()] = std::array::from_fn(|_| StringBuilder::new());
    let mut later_columns: [StringBuilder; PROMOTED_LATER.len()] =
        std::array::from_fn(|_| StringBuilder::new());
    let mut stamped = Int32Builder::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let is_outdated = options.is_outdated(versions.value(row));
        let values = match (is_outdated, is_event) {
            (true, true) => enrichment.of_json(raw.value(row)),
            (true, false) => Some(Values::default()),
            (false, _) => None,
        };
        for (index, builder) in columns.iter_mut().enumerate() {
            let old = before[index].is_valid(row).then(|| before[index].value(row));
            match &values {
                Some(values) if !(keeps_places && PLACES.contains(&COLUMNS[index])) => {
                    builder.append_option(values[index].as_deref());
                }
                _ => builder.append_option(old),
            }
        }
        for (index, builder) in later_columns.iter_mut().enumerate() {
            let known = later_before[index].is_valid(row).then(|| later_before[index].value(row).into());
            let found = || later[index].1.iter().find_map(|path| json_path::text(path.find(raw.value(row))?));
            builder.append_option(known.or_else(|| (is_outdated && is_event).then(found).flatten()));
        }
        stamped.append_value(if is_outdated { options.version } else { versions.value(row) });
    }
    let mut built: Vec<(&str, ArrayRef)> = vec![(VERSION, Arc::new(stamped.finish()))];
    let names = COLUMNS.into_iter().chain(PROMOTED_LATER.map(|(name, _)| name));
    for (name, mut builder) in names.zip(columns.into_iter().chain(later_columns)) {
        built.push((name, Arc::new(builder.finish())));
    }
    with_columns(batch, &built)
}

fn path_of(text: &str) -> Path {
    Path::parse(text).expect("paths of columns are paths")
}

/// The batch with other columns in the places of those with the same names.
fn with_columns(batch: &RecordBatch, others: &[(&str, ArrayRef)]) -> Result<RecordBatch, ArrowError> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let other = others.iter().find(|(name, _)| name == field.name()).map(|(_, other)| other);
        let column = other.unwrap_or(column).clone();
        fields.push(Field::new(field.name(), column.data_type().clone(), field.is_nullable()));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn texts(batch: &RecordBatch, name: &str) -> Result<StringArray, ArrowError> {
    Ok(cast(column(batch, name)?, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    batch
        .column_by_name(name)
        .ok_or_else(|| ArrowError::SchemaError(format!("a file lacks the column {name}")))
}
