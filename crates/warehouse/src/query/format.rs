//! Answers as text or files: table, CSV, JSON lines, Parquet.

use std::io::Write;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::util::pretty::pretty_format_batches_with_schema;
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::parquet::errors::ParquetError;

/// Form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Columns for people, when the answer is complete.
    #[default]
    Table,
    /// CSV with a header (RFC 4180).
    Csv,
    /// A JSON object a line.
    Json,
    /// A Parquet file.
    Parquet,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "parquet" => Ok(Self::Parquet),
            _ => Err(format!("no format {text:?}; there are table, csv, json and parquet")),
        }
    }
}

/// An answer that can't be written.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Values don't fit the form.
    #[error("writing the answer")]
    Arrow(#[from] ArrowError),
    /// Values don't fit Parquet.
    #[error("writing the answer as Parquet")]
    Parquet(#[from] ParquetError),
    /// Nobody takes it.
    #[error("writing the answer")]
    Io(#[from] std::io::Error),
}

/// Writes batches of an answer as they come.
pub struct Writer<W: Write + Send> {
    form: Form<W>,
    schema: SchemaRef,
}

enum Form<W: Write + Send> {
    Table { out: W, batches: Vec<RecordBatch> },
    Csv(csv::Writer<W>),
    Json(LineDelimitedWriter<W>),
    Parquet(ArrowWriter<W>),
}

impl<W: Write + Send> Writer<W> {
    /// An answer with these columns.
    ///
    /// # Errors
    /// If the columns don't fit the form.
    pub fn new(format: Format, schema: &SchemaRef, mut out: W) -> Result<Self, FormatError> {
        let form = match format {
            Format::Table => Form::Table { out, batches: Vec::new() },
            Format::Csv => {
                // The header comes also without rows.
                csv::WriterBuilder::new()
                    .with_header(true)
                    .build(&mut out)
                    .write(&RecordBatch::new_empty(schema.clone()))?;
                Form::Csv(csv::WriterBuilder::new().with_header(false).build(out))
            }
            Format::Json => Form::Json(LineDelimitedWriter::new(out)),
            Format::Parquet => Form::Parquet(ArrowWriter::try_new(out, schema.clone(), None)?),
        };
        Ok(Self { form, schema: schema.clone() })
    }

    /// Writes rows.
    ///
    /// # Errors
    /// If they don't fit the form, or nobody takes them.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), FormatError> {
        match &mut self.form {
            Form::Table { batches, .. } => batches.push(batch.clone()),
            Form::Csv(writer) => writer.write(batch)?,
            Form::Json(writer) => writer.write(batch)?,
            Form::Parquet(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// If nobody takes it.
    pub fn finish(self) -> Result<(), FormatError> {
        match self.form {
            Form::Table { mut out, batches } => {
                writeln!(out, "{}", pretty_format_batches_with_schema(self.schema, &batches)?)?;
                out.flush()?;
            }
            Form::Csv(writer) => writer.into_inner().flush()?,
            Form::Json(mut writer) => {
                writer.finish()?;
                writer.into_inner().flush()?;
            }
            Form::Parquet(writer) => {
                writer.into_inner()?.flush()?;
            }
        }
        Ok(())
    }
}

/// Texts of one column.
///
/// # Errors
/// If it has another type.
pub fn texts(batch: &RecordBatch, column: usize) -> Result<Vec<String>, FormatError> {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::DataType;
    let texts = datafusion::arrow::compute::cast(batch.column(column), &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().iter().flatten().map(str::to_owned).collect())
}
