//! Events of the journals that a version of the tables doesn't have yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use deltalake::DeltaTable;

use crate::dedup::{Dedup, Sizes};
use crate::events::enrichment::Geo;
use crate::events::rows::Origin;
use crate::events::{Namespace, Rows, schema};
use crate::hash::HashSet;
use crate::loader::admission::Admission;
use crate::loader::positions::Watermarks;
use crate::loader::source::Journals;
use crate::loader::suppression::Suppression;
use crate::loader::{LoadError, SharedIds, ids};
use crate::store::numbers::Numbers;

/// Most events of a tail. A loader that is further behind is named in the answer's `as_of`.
const EVENTS_MAX: usize = 250_000;
/// Most text of a tail, bytes.
const BYTES_MAX: usize = 128 << 20;

/// Source of the ids of the table's events.
#[derive(Clone, Debug)]
pub enum Ids {
    /// From the loader in this process.
    Shared(SharedIds),
    /// From the files of the loader of another process, in this state directory.
    Files(PathBuf),
}

/// Place up to which an answer has a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalPlace {
    /// The journal.
    pub journal: String,
    /// Its last record in the answer.
    pub sequence: u64,
    /// True if more records were there, which the answer lacks.
    pub is_behind: bool,
}

impl JournalPlace {
    fn new(journal: String, sequence: u64) -> Self {
        Self { journal, sequence, is_behind: false }
    }
}

/// Events above the watermarks of a version.
#[derive(Debug, Default)]
pub struct Tail {
    /// Their rows, with all columns.
    pub rows: Vec<RecordBatch>,
    /// Last sequences that they reach.
    pub places: Vec<JournalPlace>,
}

/// Journals whose tails queries read, and what makes rows of them.
#[derive(Debug)]
pub struct Source {
    /// Directories of journals; none: queries see the tables alone.
    pub journals: Vec<PathBuf>,
    /// Ids of the table's events.
    pub ids: Ids,
    /// Namespace of users and sessions.
    pub namespace: Namespace,
    /// Database of addresses.
    pub geo: Geo,
    /// Numbers of the version that was read last.
    pub numbers: Numbers,
}

impl Source {
    /// Pins `table` to a version, and reads the tail above it.
    ///
    /// # Errors
    /// If table or journals can't be read.
    pub async fn read(
        &mut self,
        table: &mut DeltaTable,
        suppression: &mut Suppression,
    ) -> Result<Tail, LoadError> {
        match self.ids.clone() {
            Ids::Files(state) => {
                table.update_state().await.map_err(crate::loader::log_error)?;
                let dedup = of_files(table, &state.join("ids")).await?;
                let loaded = self.watermarks(table).await?;
                tokio::task::block_in_place(|| self.collect(&loaded, &dedup, suppression))
            }
            Ids::Shared(shared) => {
                // Watermarks are read without the lock; they are right if the version is still the one of the ids.
                loop {
                    let version = shared.read().version();
                    if table.version() < Some(version) {
                        table.update_incremental(Some(version)).await.map_err(crate::loader::log_error)?;
                    }
                    let loaded = self.watermarks(table).await?;
                    let of_version = tokio::task::block_in_place(|| {
                        let dedup = shared.read();
                        let is_same = Some(dedup.version()) == table.version();
                        is_same.then(|| self.collect(&loaded, &dedup, suppression))
                    });
                    if let Some(tail) = of_version {
                        return tail;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            }
        }
    }

    /// Watermarks of the version that `table` has.
    ///
    /// # Errors
    /// If the log can't be read.
    pub async fn watermarks(&mut self, table: &DeltaTable) -> Result<Watermarks, LoadError> {
        Ok(Watermarks::of(self.numbers.of(table).await.map_err(crate::loader::log_error)?))
    }

    fn collect(
        &self,
        loaded: &Watermarks,
        dedup: &Dedup,
        suppression: &mut Suppression,
    ) -> Result<Tail, LoadError> {
        let rows = Rows::new(self.namespace, self.geo.clone(), crate::loader::now_ns());
        collect(&self.journals, loaded, dedup, rows, suppression)
    }
}

/// Ids of the version that `table` has. The files may be ahead of it by then: the table follows.
async fn of_files(table: &mut DeltaTable, directory: &Path) -> Result<Dedup, LoadError> {
    const ATTEMPTS: usize = 5;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let mut dedup = match Dedup::open_to_read(directory, Sizes::default()) {
            Ok(dedup) => dedup,
            // A merge removed a file after the list was read.
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        let Some(covered) = dedup.covered() else { return Ok(dedup) };
        if Some(covered) > table.version() {
            table.update_state().await.map_err(crate::loader::log_error)?;
        }
        let version = table.version().unwrap_or_default();
        let newer = ids::of_versions(table, covered + 1, version).await?;
        dedup.insert(newer.ok_or(LoadError::OldIds { covered, version })?, version);
        return Ok(dedup);
    }
    Err(last.map_or(LoadError::Outpaced { attempts: ATTEMPTS as u32 }, LoadError::from))
}

fn collect(
    directories: &[PathBuf],
    loaded: &Watermarks,
    dedup: &Dedup,
    mut rows: Rows,
    suppression: &mut Suppression,
) -> Result<Tail, LoadError> {
    let mut journals = Journals::open(directories, &loaded.list(), &[])?;
    let mut pending = HashSet::default();
    let mut places: BTreeMap<[u8; 16], JournalPlace> = loaded
        .positions
        .iter()
        .map(|(id, position)| (*id, JournalPlace::new(position.journal.to_string(), position.sequence)))
        .collect();
    let mut is_behind = false;
    while let Some(batch) = journals.next_batch()? {
        is_behind = rows.len() >= EVENTS_MAX || rows.text_bytes() >= BYTES_MAX;
        if is_behind {
            break;
        }
        let journal = batch.position.journal.to_string();
        for record in batch.records() {
            let origin =
                Origin { journal: &journal, journal_id: batch.position.journal.0, sequence: record.sequence };
            let mut admission = Admission::new(dedup, &mut pending, suppression);
            rows.push_record(&origin, record.payload, &mut admission)?;
            admission.finish()?;
        }
        let place = JournalPlace::new(journal, batch.position.sequence);
        places.insert(batch.position.journal.0, place);
    }
    let places = places.into_values().map(|place| JournalPlace { is_behind, ..place }).collect();
    let mut batches = Vec::new();
    for (key, rows) in rows.take()? {
        batches.push(with_partition(&rows, &key.load_date, &key.event_type)?);
    }
    Ok(Tail { rows: batches, places })
}

/// Rows with the columns that are the names of directories in the table.
fn with_partition(rows: &RecordBatch, load_date: &str, event_type: &str) -> Result<RecordBatch, LoadError> {
    let mut columns = rows.columns().to_vec();
    for value in [load_date, event_type] {
        let column: ArrayRef = std::sync::Arc::new(StringArray::from(vec![value; rows.num_rows()]));
        columns.push(column);
    }
    RecordBatch::try_new(schema(), columns).map_err(|error| LoadError::Rows(error.into()))
}
