//! Compaction: many small files of a partition become few large ones, sorted by user and time.
//!
//! Ids that are there twice are dropped, and counted: beyond the ids that loaders remember, this is where they go.

use std::collections::{BTreeMap, HashSet};

use deltalake::DeltaTable;
use deltalake::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use deltalake::arrow::compute::filter_record_batch;

use super::rewrite::{self, FileOf};
use super::{Lease, MaintenanceError};
use crate::events::rows::PartitionKey;
use crate::events::text;
use crate::query::Limits;
use crate::store::commit::{Changes, CommitError};
use crate::store::{Tables, commit};

/// Sizes of compaction.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a large file, about.
    pub file_bytes: usize,
    /// Fewest small files of a partition that are worth it.
    pub files_min: usize,
    /// Rows of one rewrite, at most about: their ids are in memory.
    pub rows_max: u64,
    /// Commits of one partition that are tried.
    pub attempts: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { file_bytes: 128 << 20, files_min: 8, rows_max: 4_000_000, attempts: 8 }
    }
}

/// Numbers of a compaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Partitions that were compacted.
    pub partitions: u64,
    /// Files that went.
    pub files_before: u64,
    /// Files that came.
    pub files_after: u64,
    /// Bytes of the files that went.
    pub bytes_before: u64,
    /// Bytes of the files that came.
    pub bytes_after: u64,
    /// Rows of the files that came.
    pub rows: u64,
    /// Rows that were dropped because their id was there before.
    pub duplicates: u64,
}

/// Compacts all partitions that have many small files.
///
/// # Errors
/// If rows can't be read or written. Partitions that were committed stay compacted.
pub async fn compact(
    tables: &Tables,
    lease: &mut Lease,
    options: &Options,
    limits: &Limits,
) -> Result<Report, MaintenanceError> {
    let mut table = tables.open().await?;
    let mut report = Report::default();
    for (key, files) in worthwhile(&table, options)? {
        lease.renew().await?;
        compact_partition(&mut table, &key, &files, options, limits, &mut report).await?;
    }
    Ok(report)
}

/// Files to rewrite together, oldest first.
fn worthwhile(
    table: &DeltaTable,
    options: &Options,
) -> Result<Vec<(PartitionKey, Vec<FileOf>)>, MaintenanceError> {
    let mut partitions: BTreeMap<PartitionKey, Vec<FileOf>> = BTreeMap::new();
    for file in rewrite::files(table)? {
        // A file that is nearly full stays what it is.
        if (file.add.size as usize) < options.file_bytes / 4 * 3 {
            partitions.entry(file.key.clone()).or_default().push(file);
        }
    }
    let mut rewrites = Vec::new();
    for (key, mut files) in partitions {
        if files.len() < options.files_min.max(2) {
            continue;
        }
        files.sort_by_key(|file| file.add.modification_time);
        let (mut together, mut rows) = (Vec::new(), 0);
        for file in files {
            rows += file.rows;
            together.push(file);
            if rows >= options.rows_max {
                rewrites.push((key.clone(), std::mem::take(&mut together)));
                rows = 0;
            }
        }
        if together.len() > 1 {
            rewrites.push((key, together));
        }
    }
    Ok(rewrites)
}

async fn compact_partition(
    table: &mut DeltaTable,
    key: &PartitionKey,
    files: &[FileOf],
    options: &Options,
    limits: &Limits,
    report: &mut Report,
) -> Result<(), MaintenanceError> {
    let rows = rewrite::rows(table, files, None, limits).await?;
    let mut seen = HashSet::new();
    let keep = |batch: RecordBatch| match first_of_each_id(&batch, &mut seen) {
        Some(mask) => filter_record_batch(&batch, &mask),
        None => Ok(batch),
    };
    let (mut adds, count) = rewrite::write(table, key, rows, options.file_bytes, false, keep).await?;
    let before: u64 = files.iter().map(|file| file.rows).sum();
    // Without duplicates the rows are the same in other files, which readers of changes may skip.
    let is_change = count != before;
    adds.iter_mut().for_each(|add| add.data_change = is_change);
    let bytes_after = adds.iter().map(|add| add.size as u64).sum::<u64>();
    let files_after = adds.len() as u64;
    for _ in 0..options.attempts {
        let removes = files.iter().map(|file| file.remove(is_change)).collect();
        let changes = Changes { adds: adds.clone(), removes, numbers: Vec::new() };
        match commit(table, changes, "compact").await {
            Ok(_) => {
                report.partitions += 1;
                report.files_before += files.len() as u64;
                report.files_after += files_after;
                report.bytes_before += files.iter().map(|file| file.add.size as u64).sum::<u64>();
                report.bytes_after += bytes_after;
                report.rows += count;
                report.duplicates += before.saturating_sub(count);
                return Ok(());
            }
            Err(CommitError::Conflict { .. }) => {
                table.update_state().await.map_err(MaintenanceError::delta("reading the log"))?;
                let now: HashSet<String> =
                    rewrite::files(table)?.into_iter().map(|file| file.add.path).collect();
                // Somebody else rewrote one of the files: the new ones are left to vacuum.
                if files.iter().any(|file| !now.contains(&file.add.path)) {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(MaintenanceError::Outpaced { attempts: options.attempts })
}

fn first_of_each_id(batch: &RecordBatch, seen: &mut HashSet<[u8; 16]>) -> Option<BooleanArray> {
    let column = batch.column_by_name("event_id")?;
    let ids = deltalake::arrow::compute::cast(column, &deltalake::arrow::datatypes::DataType::Utf8).ok()?;
    let ids = ids.as_string::<i32>();
    let mut is_whole = true;
    let keep: Vec<bool> = ids
        .iter()
        .map(|id| {
            let is_first = id.and_then(|id| text::parse_uuid(id.as_bytes())).is_none_or(|id| seen.insert(id));
            is_whole &= is_first;
            is_first
        })
        .collect();
    (!is_whole && ids.len() == keep.len()).then(|| BooleanArray::from(keep))
}
