//! Erasure of a user or a session, and the proof of it.
//!
//! First the identifier is suppressed, and a commit says so: no loader commits its events after that. Then files are
//! rewritten without its rows, those of derived tables, too, the log is cleaned, and old files go once running queries have ended. At the end all that
//! is left is searched for the identifier.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::functions::string::expr_fn::contains;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::prelude::SessionContext;
use deltalake::DeltaTable;
use deltalake::logstore::object_store::ObjectStoreExt;
use deltalake::logstore::object_store::path::Path as StorePath;
use deltalake::protocol::checkpoints;
use futures::TryStreamExt;
use serde::Serialize;

use super::rewrite::{self, FileOf};
use super::{Lease, MaintenanceError, derived, vacuum};
use crate::loader::positions::SUPPRESSION;
use crate::loader::shared_list;
use crate::loader::suppression::{Subject, Suppression};
use crate::query::Limits;
use crate::store::commit::{Changes, CommitError};
use crate::store::{Secret, Tables, commit};

const RECORD: &str = "erasures.jsonl";
const ATTEMPTS: u32 = 16;

/// Identifier to erase.
#[derive(Clone, Debug)]
pub struct Target {
    /// Kind of the identifier.
    pub subject: Subject,
    /// The identifier as the application sent it.
    pub identifier: String,
}

/// Settings of an erasure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Wait before old files go: queries on older versions end within this.
    pub grace: Duration,
    /// Bytes of a rewritten file, at most about.
    pub file_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { grace: Duration::from_secs(300), file_bytes: 128 << 20 }
    }
}

/// Report of an erasure, done or planned. It holds no personal data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows of the identifier.
    pub rows: u64,
    /// Files with such rows.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Bytes that were written anew.
    pub bytes_written: u64,
    /// Files that were removed at the end.
    pub files_removed: u64,
    /// Files that were searched at the end.
    pub files_searched: u64,
}

/// Counts what an erasure would remove.
///
/// # Errors
/// If the tables can't be read.
pub async fn count(tables: &Tables, target: &Target, limits: &Limits) -> Result<Report, MaintenanceError> {
    let table = tables.open().await?;
    let secret = Secret::open_or_create(tables.state())?;
    let affected = affected(&table, &predicate(target, &secret), limits, &mut HashSet::new()).await?;
    Ok(Report {
        rows: affected.iter().map(|(_, rows)| rows).sum(),
        files: affected.len() as u64,
        bytes: affected.iter().map(|(file, _)| file.add.size as u64).sum(),
        ..Report::default()
    })
}

/// UUID of an identifier, as the tables and ClickHouse have it.
///
/// # Errors
/// If the secret of the installation can't be read.
pub fn mapped(tables: &Tables, target: &Target) -> Result<String, MaintenanceError> {
    let secret = Secret::open_or_create(tables.state())?;
    let mapped = secret.namespace().map(target.identifier.as_bytes());
    Ok(String::from_utf8_lossy(&mapped).into_owned())
}

/// Rows that a condition selects: those of a dry run, or those that were erased.
///
/// # Errors
/// If the condition isn't SQL, or a step fails.
pub async fn erase_where(
    tables: &Tables,
    lease: &mut Lease,
    condition: &str,
    is_dry_run: bool,
    options: &Options,
    limits: &Limits,
) -> Result<Report, MaintenanceError> {
    let predicate = condition_of(condition).map_err(MaintenanceError::read("the condition"))?;
    let mut table = tables.open().await?;
    let mut report = Report::default();
    for (file, rows) in affected(&table, &predicate, limits, &mut HashSet::new()).await? {
        report.rows += rows;
        report.files += 1;
        report.bytes += file.add.size as u64;
        if is_dry_run {
            continue;
        }
        lease.renew().await?;
        let removed = rewrite::without(&mut table, &file, &predicate, options.file_bytes, limits).await?;
        report.bytes_written += removed.map_or(0, |removed| removed.bytes_written);
    }
    if !is_dry_run {
        clean_log(&table).await?;
        tokio::time::sleep(options.grace).await;
        report.files_removed = vacuum::vacuum(tables, lease, &ages(options, None)).await?.files;
    }
    Ok(report)
}

/// A condition over the columns of `events`.
fn condition_of(condition: &str) -> datafusion::common::Result<Expr> {
    let context = SessionContext::new();
    crate::functions::register(&context);
    let columns = DFSchema::try_from(crate::events::schema())?;
    let condition = context.parse_sql_expr(condition, &columns)?;
    // Columns are found by their names alone.
    condition
        .transform(|part| {
            Ok(match part {
                Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
                other => Transformed::no(other),
            })
        })
        .map(|transformed| transformed.data)
}

fn ages(options: &Options, orphaned_before: Option<DateTime<Utc>>) -> vacuum::Options {
    let orphaned_for = options.grace.max(Duration::from_secs(3600));
    vacuum::Options { removed_for: options.grace, orphaned_for, orphaned_before }
}

/// Erases the identifier from the tables.
///
/// # Errors
/// If a step fails; begin again then, all steps can be repeated. [`MaintenanceError::Found`] if the search at the end
/// finds the identifier.
pub async fn erase(
    tables: &Tables,
    lease: &mut Lease,
    target: &Target,
    options: &Options,
    limits: &Limits,
) -> Result<Report, MaintenanceError> {
    let secret = Secret::open_or_create(tables.state())?;
    let mut suppression = Suppression::open(tables.state(), &secret.suppression_key())?;
    let identifier = [(target.subject, target.identifier.as_bytes())];
    let version = shared_list::add(tables, &mut suppression, &identifier).await?;
    let mut table = tables.open().await?;
    let announced = announce(&mut table, version).await?;
    let mut report = Report::default();
    let predicate = predicate(target, &secret);
    let mut clean = HashSet::new();
    loop {
        lease.renew().await?;
        table.update_state().await.map_err(MaintenanceError::delta("reading the log"))?;
        let affected = affected(&table, &predicate, limits, &mut clean).await?;
        if affected.is_empty() {
            break;
        }
        for (file, _) in affected {
            let removed = rewrite::without(&mut table, &file, &predicate, options.file_bytes, limits).await?;
            let Some(removed) = removed else { continue };
            report.rows += removed.rows;
            report.files += 1;
            report.bytes += file.add.size as u64;
            report.bytes_written += removed.bytes_written;
        }
        // Once more, for what loaders committed before they knew of the erasure.
    }
    clean_log(&table).await?;
    derived::erase(tables, &mapped(tables, target)?, &json_text(&target.identifier)).await?;
    tokio::time::sleep(options.grace).await;
    // What a loader wrote before and didn't commit can't be committed any more.
    report.files_removed = vacuum::vacuum(tables, lease, &ages(options, Some(announced))).await?.files;
    report.files_searched = search(tables, target, &secret).await?;
    record(tables, target, &secret, &report)?;
    Ok(report)
}

/// Rows of the identifier: in its column, or as a text anywhere in the stored event.
fn predicate(target: &Target, secret: &Secret) -> Expr {
    let column = target.subject.column();
    let mapped = secret.namespace().map(target.identifier.as_bytes());
    let mapped = String::from_utf8_lossy(&mapped).into_owned();
    col(column).eq(lit(mapped)).or(contains(col("raw_data"), lit(json_text(&target.identifier))))
}

fn json_text(identifier: &str) -> String {
    let mut text = Vec::new();
    crate::events::text::json_string(identifier.as_bytes(), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Files that have rows of the identifier, and how many. Those that have none become `clean`, and aren't read again.
async fn affected(
    table: &DeltaTable,
    predicate: &Expr,
    limits: &Limits,
    clean: &mut HashSet<String>,
) -> Result<Vec<(FileOf, u64)>, MaintenanceError> {
    let mut affected = Vec::new();
    for file in rewrite::files(table)? {
        if clean.contains(&file.add.path) {
            continue;
        }
        let count = rewrite::count(table, &file, predicate, limits).await?;
        if count > 0 {
            affected.push((file, count));
        } else {
            clean.insert(file.add.path);
        }
    }
    Ok(affected)
}

/// Commits the version of the list that every later commit of a loader must respect; when, by the store's clock.
async fn announce(table: &mut DeltaTable, version: u64) -> Result<DateTime<Utc>, MaintenanceError> {
    for _ in 0..ATTEMPTS {
        let numbers = vec![(SUPPRESSION.to_owned(), version as i64)];
        match commit(table, Changes { numbers, ..Changes::default() }, "suppress").await {
            Ok(made) => {
                let entry = StorePath::from(format!("_delta_log/{:020}.json", made.version));
                let failed = |source: deltalake::ObjectStoreError| {
                    MaintenanceError::delta("looking at the log")(source.into())
                };
                return Ok(table.object_store().head(&entry).await.map_err(failed)?.last_modified);
            }
            Err(CommitError::Conflict { .. }) => {
                table.update_state().await.map_err(MaintenanceError::delta("reading the log"))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(MaintenanceError::Outpaced { attempts: ATTEMPTS })
}

/// Writes a checkpoint, and removes what is older than it.
async fn clean_log(table: &DeltaTable) -> Result<(), MaintenanceError> {
    let failed = MaintenanceError::delta;
    checkpoints::create_checkpoint(table, None).await.map_err(failed("writing a checkpoint"))?;
    let version = table.version().unwrap_or_default();
    let now = chrono::Utc::now().timestamp_millis() + 1000;
    let store = table.log_store();
    checkpoints::cleanup_expired_logs_for(version, store.as_ref(), now, None)
        .await
        .map_err(failed("cleaning the log"))?;
    Ok(())
}

/// Searches all files below the root for the identifier, as it is and as its UUID; how many there are.
async fn search(tables: &Tables, target: &Target, secret: &Secret) -> Result<u64, MaintenanceError> {
    let mapped = secret.namespace().map(target.identifier.as_bytes()).to_vec();
    let needles = [json_text(&target.identifier).into_bytes(), mapped];
    let failed =
        |source: deltalake::ObjectStoreError| MaintenanceError::delta("searching files")(source.into());
    let store = tables.store();
    let files: Vec<_> = store.list(Some(&tables.root_path())).try_collect().await.map_err(failed)?;
    let mut searched = 0;
    for file in files {
        let found = store.get(&file.location).await;
        let bytes = match found {
            Ok(found) => found.bytes().await.map_err(failed)?,
            Err(deltalake::ObjectStoreError::NotFound { .. }) => continue,
            Err(error) => return Err(failed(error)),
        };
        searched += 1;
        let is_in = |haystack: &[u8]| needles.iter().any(|needle| find(haystack, needle));
        let is_found =
            is_in(&bytes) || (file.location.as_ref().ends_with(".parquet") && decoded(bytes, &is_in));
        if is_found {
            return Err(MaintenanceError::Found { file: file.location.to_string() });
        }
    }
    Ok(searched)
}

/// True if a text of a Parquet file has what is looked for, once it is unpacked.
fn decoded(bytes: bytes::Bytes, is_in: &dyn Fn(&[u8]) -> bool) -> bool {
    use deltalake::arrow::array::{Array, AsArray};
    use deltalake::arrow::datatypes::DataType;
    use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    let Ok(reader) = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.build())
    else {
        return false;
    };
    reader.flatten().any(|batch| {
        let texts = batch.columns().iter().filter(|column| *column.data_type() == DataType::Utf8);
        texts
            .into_iter()
            .any(|column| is_in(column.as_string::<i32>().values().as_slice()) && !column.is_empty())
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else { return false };
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|byte| byte == first) {
        let start = from + at + 1;
        if haystack[start..].starts_with(rest) {
            return true;
        }
        from = start;
    }
    false
}

/// Appends what was done to the record of erasures.
fn record(
    tables: &Tables,
    target: &Target,
    secret: &Secret,
    report: &Report,
) -> Result<(), MaintenanceError> {
    #[derive(Serialize)]
    struct Line<'a> {
        time: String,
        subject: Subject,
        hmac: String,
        #[serde(flatten)]
        report: &'a Report,
    }
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret.suppression_key());
    let mut hmac = Vec::new();
    crate::events::text::hex(ring::hmac::sign(&key, target.identifier.as_bytes()).as_ref(), &mut hmac);
    let line = Line {
        time: chrono::Utc::now().to_rfc3339(),
        subject: target.subject,
        hmac: String::from_utf8_lossy(&hmac).into_owned(),
        report,
    };
    let path = tables.state().join(RECORD);
    let mut text = serde_json::to_vec(&line).expect("texts and numbers have JSON");
    text.push(b'\n');
    append(&path, &text).map_err(|source| MaintenanceError::Report { path: path.clone(), source })
}

fn append(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}
