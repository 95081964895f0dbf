//! Scheduled queries: each period's answer is a file, or a part of a table.
//!
//! A period's file is written whole, synced and renamed, its part of a table exchanged by one commit; then the period is
//! noted as done: after a kill it is written again, in the same place. Periods that were missed are caught up, in order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use futures::StreamExt;
use tokio::sync::watch;

use crate::loader::with_sources;
use crate::query::format::FormatError;
use crate::query::{Engine, Format, QueryError, Role, Writer};
use crate::rules::Job;
use crate::store::commit::{Changes, CommitError};
use crate::store::parquet::WriteError;
use crate::store::{StoreError, Tables, commit, files, job_tables, parts};

const DONE: &str = "jobs.json";
/// Column of tables of jobs that names the period.
const PERIOD: &str = "period";
/// Longest wait between two looks at the clock.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// A job that failed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Its query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Its answer can't be written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Its table can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its table can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Its table can't be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Its table was made by another query.
    #[error("the table jobs.{table} has no column {column} of this type; give the changed job another table")]
    Columns {
        /// The table.
        table: String,
        /// The column of the answer.
        column: String,
    },
    /// A file can't be written.
    #[error("writing {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// Runs jobs when their periods end, until `stop` is set.
pub async fn run(jobs: &[Job], tables: &Tables, engine: &Engine, mut stop: watch::Receiver<bool>) {
    loop {
        let mut wait = LOOK_INTERVAL;
        for job in jobs {
            match run_due(job, tables, engine, Utc::now()).await {
                Ok(next) => wait = wait.min((next - Utc::now()).to_std().unwrap_or_default()),
                Err(error) => {
                    tracing::warn!(
                        job = job.name,
                        error = with_sources(&error),
                        "a job failed and is tried again"
                    );
                }
            }
        }
        if tokio::time::timeout(wait.max(Duration::from_millis(100)), stop.changed()).await.is_ok() {
            return;
        }
    }
}

/// Runs all periods of a job that have ended at `now`; the time at which the next one ends.
///
/// # Errors
/// If one fails; those before it are done.
pub async fn run_due(
    job: &Job,
    tables: &Tables,
    engine: &Engine,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, JobError> {
    let path = tables.state().join(DONE);
    loop {
        let mut done: BTreeMap<String, DateTime<Utc>> = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let from = match done.get(&job.name) {
            Some(end) => *end,
            None => first_period(job, now),
        };
        let to = from + job.every;
        let due = to + job.delay;
        if due > now {
            return Ok(due);
        }
        run_period(job, tables, engine, from, to).await?;
        done.insert(job.name.clone(), to);
        let bytes = serde_json::to_vec(&done).expect("texts and times have JSON");
        files::write_synced(&path, &bytes).map_err(|source| JobError::Io { path: path.clone(), source })?;
    }
}

/// Beginning of the first period: as the rule says, or of the period that `now` is in.
fn first_period(job: &Job, now: DateTime<Utc>) -> DateTime<Utc> {
    let since = job.since.as_deref().and_then(|since| DateTime::parse_from_rfc3339(since).ok());
    if let Some(since) = since {
        return since.to_utc();
    }
    let every = i64::try_from(job.every.as_secs()).unwrap_or(i64::MAX).max(1);
    DateTime::from_timestamp(now.timestamp().div_euclid(every) * every, 0).unwrap_or(now)
}

async fn run_period(
    job: &Job,
    tables: &Tables,
    engine: &Engine,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<(), JobError> {
    let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let fill = |template: &str| template.replace("{from}", &text(from)).replace("{to}", &text(to));
    if let Some(table) = &job.table {
        return into_table(tables, table, &text(from), engine, &fill(&job.query)).await;
    }
    let Some(path) = job.file.as_ref().map(|path| PathBuf::from(fill(&path.to_string_lossy()))) else {
        return Ok(());
    };
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Format::Csv,
        Some("parquet") => Format::Parquet,
        _ => Format::Json,
    };
    let mut answer = engine.query(&fill(&job.query), &Role::local()).await?;
    let mut bytes = Vec::new();
    let mut writer = Writer::new(format, &answer.schema, &mut bytes)?;
    while let Some(batch) = answer.next().await {
        writer.write(&batch?)?;
    }
    writer.finish()?;
    let failed = |source| JobError::Io { path: path.clone(), source };
    if let Some(parent) = path.parent() {
        files::create_directories(parent).map_err(failed)?;
    }
    files::write_synced(&path, &bytes).map_err(failed)
}

/// Exchanges the part of a period by the answer of its query.
async fn into_table(
    tables: &Tables,
    name: &str,
    period: &str,
    engine: &Engine,
    sql: &str,
) -> Result<(), JobError> {
    let mut answer = engine.query(sql, &Role::local()).await?;
    let columns = stored_columns(&answer.schema);
    let mut batches: Vec<RecordBatch> = Vec::new();
    while let Some(batch) = answer.next().await {
        batches.push(batch?);
    }
    let mut fields = columns.fields().to_vec();
    fields.push(Arc::new(Field::new(PERIOD, DataType::Utf8, false)));
    let whole = Schema::new(fields);
    let mut table = tables.open_or_create_named(&job_tables::place_of(name), &whole, &[PERIOD]).await?;
    let stored = table.snapshot().map_err(StoreError::delta("reading"))?.snapshot().arrow_schema();
    let differs = |field: &&Arc<Field>| {
        stored.field_with_name(field.name()).map(Field::data_type).ok() != Some(field.data_type())
    };
    if let Some(field) = whole.fields().iter().find(differs) {
        return Err(JobError::Columns { table: name.to_owned(), column: field.name().clone() });
    }
    let removes =
        parts::removes(&table, PERIOD, |other| other == period).map_err(StoreError::delta("reading"))?;
    let add = parts::write(&table, (PERIOD, period), &columns, &batches).await?;
    commit(&mut table, Changes { adds: vec![add], removes, numbers: Vec::new() }, "job").await?;
    Ok(())
}

/// Columns as Delta has them.
fn stored_columns(answer: &SchemaRef) -> SchemaRef {
    let stored = |kind: &DataType| match kind {
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Decimal128(..)
        | DataType::Binary => kind.clone(),
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        // Lists and intervals, too, as texts.
        _ => DataType::Utf8,
    };
    let fields =
        answer.fields().iter().map(|field| Field::new(field.name(), stored(field.data_type()), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
