//! Events of the journals that a version of the tables doesn't have yet.

use std::path::{Path, PathBuf};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use deltalake::DeltaTable;

use super::journal_place::JournalPlace;
use super::kept_rows::KeptRows;
use crate::dedup::{Dedup, Sizes};
use crate::events::enrichment::Geo;
use crate::events::{Namespace, Rows};
use crate::loader::positions::Watermarks;
use crate::loader::shared::Shared;
use crate::loader::suppression::Suppression;
use crate::loader::{LoadError, ids, now_ns};
use crate::store::numbers::Numbers;

/// Time that a query waits for the loader, which may be busy with a commit, before it reads the journals itself: that takes the
/// CPU that the loader needs.
const LOADER_PATIENCE: Duration = Duration::from_secs(3);

/// Source of the ids of the table's events.
#[derive(Clone, Debug)]
pub enum Ids {
    /// From the loader in this process, whose rows queries take.
    Shared(Shared),
    /// From the files of the loader of another process, in this state directory.
    Files(PathBuf),
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
    journals: Vec<PathBuf>,
    ids: Ids,
    namespace: Namespace,
    geo: Geo,
    /// Numbers of the version that was read last.
    numbers: Numbers,
    /// Rows of the query before.
    kept: Option<KeptRows>,
}

impl Source {
    /// Journals in these directories; none: queries see the tables alone.
    pub fn new(journals: Vec<PathBuf>, ids: Ids, namespace: Namespace, geo: Geo) -> Self {
        Self { journals, ids, namespace, geo, numbers: Numbers::default(), kept: None }
    }

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
                if let Some(tail) = of_loader(&shared, table, suppression).await? {
                    self.kept = None;
                    return Ok(tail);
                }
                // Watermarks are read without the lock; they are right if the version is still the one of the ids.
                loop {
                    let version = shared.ids().version();
                    if table.version() < Some(version) {
                        table.update_incremental(Some(version)).await.map_err(crate::loader::log_error)?;
                    }
                    let loaded = self.watermarks(table).await?;
                    let of_version = tokio::task::block_in_place(|| {
                        let dedup = shared.ids();
                        let is_same = Some(dedup.version()) == table.version();
                        is_same.then(|| self.collect(&loaded, &dedup, suppression))
                    });
                    if let Some(tail) = of_version {
                        return tail;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
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
        &mut self,
        loaded: &Watermarks,
        dedup: &Dedup,
        suppression: &mut Suppression,
    ) -> Result<Tail, LoadError> {
        let before = match self.kept.take() {
            Some(kept) => kept.above(loaded, dedup, suppression)?,
            None => None,
        };
        let mut kept = match before {
            Some(kept) => kept,
            None => {
                let rows = Rows::new(self.namespace, self.geo.clone(), now_ns());
                KeptRows::new(&self.journals, loaded, dedup, suppression, rows)?
            }
        };
        kept.read(dedup, suppression, now_ns())?;
        let tail = Tail { rows: kept.batches(), places: kept.places() };
        self.kept = Some(kept);
        Ok(tail)
    }

    /// Version that a query would have now: with a loader, its version.
    ///
    /// # Errors
    /// If the log can't be read.
    pub async fn version(&self, table: &mut DeltaTable) -> Result<u64, LoadError> {
        if let Ids::Shared(shared) = &self.ids {
            return Ok(shared.ids().version());
        }
        table.update_state().await.map_err(crate::loader::log_error)?;
        Ok(table.version().unwrap_or_default())
    }

    /// True if queries see the tables alone.
    pub fn is_empty(&self) -> bool {
        self.journals.is_empty()
    }

    /// Gives up the rows that are kept for the next query.
    pub fn forget(&mut self) {
        self.kept = None;
    }
}

/// Pins `table` to the version of the loader's rows, and takes them; `None` if they can't be had.
async fn of_loader(
    shared: &Shared,
    table: &mut DeltaTable,
    suppression: &Suppression,
) -> Result<Option<Tail>, LoadError> {
    let Some(rows) = shared.rows(suppression.version(), LOADER_PATIENCE).await else { return Ok(None) };
    if table.version() < Some(rows.version) {
        table.update_incremental(Some(rows.version)).await.map_err(crate::loader::log_error)?;
    }
    // Somebody else's version may have been read, which the loader doesn't know yet.
    if table.version() != Some(rows.version) {
        return Ok(None);
    }
    let places = rows.reached.values().map(|position| JournalPlace {
        is_behind: rows.is_behind,
        ..JournalPlace::new(position.journal.to_string(), position.sequence)
    });
    Ok(Some(Tail { places: places.collect(), rows: rows.batches }))
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
