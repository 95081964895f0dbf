//! Commits of rows, with the watermarks that are reached with them. Queries that ask meanwhile have more read.

use std::time::{Duration, Instant};

use deltalake::DeltaTable;
use deltalake::kernel::Add;
use deltalake::logstore::object_store::ObjectStoreExt;
use deltalake::logstore::object_store::path::Path as StorePath;
use futures::future::try_join_all;
use tickstream_journal::Position;
use tokio::task::JoinSet;

use super::files::Files;
use super::positions::{self, Watermarks};
use super::{LoadError, Loader, ids, log_error};
use crate::store::commit;
use crate::store::commit::{Changes, CommitError, Committed};

/// Age at which files that wait for their commit are written anew: vacuum removes those of no commit after an hour.
const FILE_AGE_MAX: Duration = Duration::from_secs(600);

/// Files that were stored, and what came of the first try to commit them.
struct Stored {
    adds: Vec<Add>,
    table: DeltaTable,
    made: Result<Committed, CommitError>,
}

impl Loader {
    /// Commits the rows that wait, with the watermarks that are reached with them. False if others' commits made them
    /// wrong, or a journal is new: then none wait, and they are to be read again.
    ///
    /// # Errors
    /// If they can't be committed.
    pub async fn flush(&mut self) -> Result<bool, LoadError> {
        if self.waiting.is_empty() {
            return Ok(true);
        }
        let rows = self.waiting() as u64;
        self.is_sound = false;
        if self.register().await? {
            // The server may have removed what comes behind these rows: they are read again from what is there now.
            return self.restart().await.map(|()| false);
        }
        tokio::task::block_in_place(|| self.encode())?;
        std::mem::swap(&mut self.waiting, &mut self.committing);
        self.shared.seal();
        let files = std::mem::take(&mut self.committing.files);
        let begun = Instant::now();
        let mut storing = JoinSet::new();
        storing.spawn(store(self.table.clone(), files, self.numbers()));
        let (stored, read) = self.read_while(&mut storing).await?;
        let Stored { adds, table, mut made } = stored;
        if made.is_ok() {
            self.table = table;
        }
        for attempt in 1.. {
            match made {
                Ok(committed) => {
                    self.committed(rows, committed.version)?;
                    // What was read meanwhile is no use if its end can't be read.
                    self.is_sound = read.is_ok();
                    return read.map(|()| true);
                }
                Err(CommitError::Conflict { .. }) if attempt < self.options.attempts => {
                    self.counts.conflicts += 1;
                    if begun.elapsed() > FILE_AGE_MAX || !self.may_commit_again().await? {
                        // Rows are made again from where the table is now.
                        return self.give_up(&adds).await.map(|()| false);
                    }
                    let (adds, removes) = (adds.clone(), Vec::new());
                    let changes = Changes { adds, removes, numbers: self.numbers() };
                    made = commit(&mut self.table, changes, "load").await;
                }
                Err(CommitError::Conflict { .. }) => {
                    return Err(LoadError::Outpaced { attempts: self.options.attempts });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Tells the servers that the journals of the rows that wait are loaded; true if one didn't know. Then it does now.
    async fn register(&mut self) -> Result<bool, LoadError> {
        let mut is_new = false;
        for path in self.waiting.reached.keys() {
            is_new |= self.consumers.register(path)?;
        }
        if is_new {
            tokio::time::sleep(self.options.noticed_after).await;
        }
        Ok(is_new)
    }

    /// Waits for a commit, and reads on when queries ask. The second result is that of reading.
    async fn read_while(
        &mut self,
        storing: &mut JoinSet<Result<Stored, LoadError>>,
    ) -> Result<(Stored, Result<(), LoadError>), LoadError> {
        let mut read = Ok(());
        loop {
            tokio::select! {
                stored = storing.join_next() => {
                    let stored = stored.expect("a task was started");
                    let stored = stored.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
                    return Ok((stored?, read));
                }
                () = self.shared.question(), if read.is_ok() && self.shared.keeps_rows() => {
                    read = tokio::task::block_in_place(|| self.read()).map(drop);
                }
            }
        }
    }

    /// Removes files that no commit will name, and begins again: an erased user may be in them.
    async fn give_up(&mut self, adds: &[Add]) -> Result<(), LoadError> {
        let store = self.table.object_store();
        for path in adds.iter().filter_map(|add| StorePath::parse(&add.path).ok()) {
            if let Err(error) = store.delete(&path).await {
                tracing::warn!(%path, %error, "a file that isn't used is left to vacuum");
            }
        }
        self.restart().await
    }

    fn numbers(&self) -> Vec<(String, i64)> {
        positions::to_numbers(self.committing.reached.values().copied(), self.suppression.version())
    }

    fn committed(&mut self, rows: u64, version: u64) -> Result<(), LoadError> {
        let (duplicates, suppressed) = std::mem::take(&mut self.committing.dropped);
        self.counts.rows += rows;
        self.counts.duplicates += duplicates;
        self.counts.suppressed += suppressed;
        self.counts.commits += 1;
        let mut dedup = self.shared.ids_mut();
        dedup.insert(self.committing.ids.drain(), version);
        dedup.settle()?;
        drop(dedup);
        // Rows and log are on stable storage: the store syncs before it answers.
        for (path, position) in std::mem::take(&mut self.committing.reached) {
            self.loaded.positions.insert(position.journal.0, position);
            self.consumers.advance(&path, position)?;
        }
        self.loaded.suppression = self.suppression.version();
        if self.waiting.is_empty() {
            self.shared.begin(version, &self.loaded, self.suppression.version());
        } else {
            self.shared.committed(version);
        }
        Ok(())
    }

    /// Reads the newest version after somebody else's commit; whether the rows that wait are still right on top of it.
    async fn may_commit_again(&mut self) -> Result<bool, LoadError> {
        self.table.update_state().await.map_err(log_error)?;
        let (before, version) = (self.shared.ids().version(), self.version());
        let others = ids::of_versions(&mut self.table, before + 1, version).await?;
        let Some(others) = others else { return Ok(false) };
        let both = [&self.committing, &self.waiting];
        let has_duplicates = others.iter().any(|id| both.iter().any(|part| part.ids.contains(id)));
        self.shared.ids_mut().insert(others, version);
        if has_duplicates {
            return Ok(false);
        }
        let now = Watermarks::of(self.numbers.of(&self.table).await.map_err(log_error)?);
        let is_same = |position: &Position| {
            now.positions.get(&position.journal.0) == self.loaded.positions.get(&position.journal.0)
        };
        // What is read behind the commit begins where it ends.
        let first = both.iter().flat_map(|part| &part.reached).map(|(_, position)| position);
        Ok(now.suppression <= self.suppression.version() && first.into_iter().all(is_same))
    }
}

/// Completes the files, stores them, and commits them on top of the version that `table` has.
async fn store(
    mut table: DeltaTable,
    files: Files,
    numbers: Vec<(String, i64)>,
) -> Result<Stored, LoadError> {
    let store = table.object_store();
    let finished = tokio::task::spawn_blocking(|| files.finish()).await;
    let files = finished.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    // Together, they wait for the disk once.
    let adds = try_join_all(files.into_iter().map(|file| file.store(&store, true))).await?;
    let changes = Changes { adds: adds.clone(), removes: Vec::new(), numbers };
    let made = commit(&mut table, changes, "load").await;
    Ok(Stored { adds, table, made })
}
