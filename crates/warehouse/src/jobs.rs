//! Scheduled queries: each period's answer is a file.
//!
//! A period's file is written whole, synced and renamed, then the period is noted as done: after a kill it is written again,
//! with the same name. Periods that were missed are caught up, in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use futures::StreamExt;
use tokio::sync::watch;

use crate::loader::with_sources;
use crate::query::format::FormatError;
use crate::query::{Engine, Format, QueryError, Role, Writer};
use crate::rules::Job;
use crate::store::{Tables, files};

const DONE: &str = "jobs.json";
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
            match run_due(job, tables.state(), engine, Utc::now()).await {
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
    state: &Path,
    engine: &Engine,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, JobError> {
    let path = state.join(DONE);
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
        run_period(job, engine, from, to).await?;
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
    engine: &Engine,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<(), JobError> {
    let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let fill = |template: &str| template.replace("{from}", &text(from)).replace("{to}", &text(to));
    let path = PathBuf::from(fill(&job.file.to_string_lossy()));
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
