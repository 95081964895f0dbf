//! Loads journals into the table of events, each event once.
//!
//! Files and watermarks come in one commit, on top of exactly the version whose watermarks were read. After any failure
//! the table is read again, and loading goes on where its watermarks say: whatever was or wasn't written before.

pub mod admission;
pub mod error;
mod files;
mod follow;
pub(crate) mod ids;
mod options;
pub mod positions;
pub mod shared;
pub mod shared_list;
pub mod source;
pub mod suppression;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use deltalake::DeltaTable;
use deltalake::kernel::Add;
use deltalake::logstore::object_store::ObjectStoreExt;
use deltalake::logstore::object_store::path::Path as StorePath;
use futures::future::try_join_all;
use tickstream_journal::{Batch, Position};

use crate::dedup::EventId;
use crate::events::Rows;
use crate::events::rows::{RowsError, as_stored};
use crate::hash::HashSet;
use crate::store::commit::{Changes, CommitError};
use crate::store::numbers::Numbers;
use crate::store::{Secret, Tables, commit};
pub(crate) use error::log_error;
pub use error::{LoadError, with_sources};
use files::Files;
pub use options::Options;
use positions::Watermarks;
use shared::Shared;
use source::{Consumers, Journals};
use suppression::Suppression;

/// Age at which files that wait for their commit are written anew: vacuum removes those of no commit after an hour.
const FILE_AGE_MAX: Duration = Duration::from_secs(600);

/// Numbers of a loader since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that were committed.
    pub rows: u64,
    /// Events that were dropped because their id was loaded before.
    pub duplicates: u64,
    /// Events that were dropped because they name an erased identifier.
    pub suppressed: u64,
    /// Commits.
    pub commits: u64,
    /// Commits that others came before.
    pub conflicts: u64,
}

/// Loads journals.
#[derive(Debug)]
pub struct Loader {
    tables: Tables,
    table: DeltaTable,
    ids_directory: PathBuf,
    options: Options,
    journals: Journals,
    consumers: Consumers,
    rows: Rows,
    shared: Shared,
    suppression: Suppression,
    /// Watermarks of the table's version, and what reads them.
    loaded: Watermarks,
    numbers: Numbers,
    /// True if rows that wait, positions and ids belong together; not while they are committed, nor after a failure.
    is_sound: bool,
    /// Positions that are reached with the rows that wait, by the journal's directory.
    reached: BTreeMap<PathBuf, Position>,
    /// Rows that wait and are encoded already.
    files: Files,
    /// Ids of the rows that wait.
    pending: HashSet<EventId>,
    /// Duplicates and erased events among what was read since the last commit.
    dropped: (u64, u64),
    counts: Counts,
    saved: Instant,
    listed: Instant,
}

impl Loader {
    /// Opens the tables, and the journals in `directories`. Reads the ids of events that aren't in the id files yet.
    ///
    /// # Errors
    /// If tables, journals or the state directory can't be used.
    pub async fn open(tables: &Tables, directories: &[PathBuf], options: Options) -> Result<Self, LoadError> {
        let secret = Secret::open_or_create(tables.state())?;
        shared_list::pull(tables).await?;
        let suppression = Suppression::open(tables.state(), &secret.suppression_key())?;
        let mut table = tables.open_or_create().await?;
        let ids_directory = tables.state().join("ids");
        let dedup = ids::restore(&mut table, &ids_directory, options.ids).await?;
        let mut numbers = Numbers::default();
        let loaded = Watermarks::of(numbers.of(&table).await.map_err(log_error)?);
        let journals = Journals::open(directories, &loaded.list(), &options.accepted)?;
        let mut consumers = Consumers::new(&options.consumer);
        consumers.register_all(directories)?;
        let mut loader = Self {
            tables: tables.clone(),
            table,
            ids_directory,
            consumers,
            rows: Rows::new(secret.namespace(), options.geo.clone(), now_ns()),
            options,
            journals,
            suppression,
            loaded,
            numbers,
            is_sound: true,
            reached: BTreeMap::new(),
            files: Files::default(),
            pending: dedup.new_set(),
            shared: Shared::new(dedup),
            dropped: (0, 0),
            counts: Counts::default(),
            saved: Instant::now(),
            listed: Instant::now(),
        };
        loader.respect_erasures().await?;
        Ok(loader)
    }

    /// Checks that the list of erased identifiers is as new as the table says.
    async fn respect_erasures(&mut self) -> Result<(), LoadError> {
        if self.loaded.suppression > self.suppression.version() {
            shared_list::pull(&self.tables).await?;
            self.suppression.reload()?;
        }
        let (table, list) = (self.loaded.suppression, self.suppression.version());
        if table > list { Err(LoadError::OldList { table, list }) } else { Ok(()) }
    }

    /// Numbers since it was opened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Version of the table.
    pub fn version(&self) -> u64 {
        self.table.version().unwrap_or_default()
    }

    /// Rows that wait for the next commit.
    pub fn waiting(&self) -> usize {
        self.files.rows + self.rows.len()
    }

    /// Loads all that is there now; what was done.
    ///
    /// # Errors
    /// If it can't go on; what was committed stays.
    pub async fn load_all(&mut self) -> Result<Counts, LoadError> {
        if !self.is_sound {
            self.restart().await?;
        }
        loop {
            let is_complete = self.read_for_queries()?;
            if self.flush().await? && is_complete {
                return Ok(self.counts);
            }
        }
    }

    /// Reads what has come, for this commit and for queries that ask; whether all that is there was read.
    fn read_for_queries(&mut self) -> Result<bool, LoadError> {
        let asked = self.shared.asked();
        let is_complete = tokio::task::block_in_place(|| self.read())?;
        self.shared.answer(asked);
        Ok(is_complete)
    }

    async fn read_watermarks(&mut self) -> Result<(), LoadError> {
        self.loaded = Watermarks::of(self.numbers.of(&self.table).await.map_err(log_error)?);
        Ok(())
    }

    /// Takes the ids of the versions since the one whose ids are known.
    async fn take_ids(&mut self) -> Result<(), LoadError> {
        let (before, version) = (self.shared.ids().version(), self.version());
        match ids::of_versions(&mut self.table, before + 1, version).await? {
            Some(others) => self.shared.ids_mut().insert(others, version),
            // Versions between are gone from the log: all ids are read again.
            None => {
                let directory = self.ids_directory.clone();
                self.shared.ids_mut().end_saving()?;
                let dedup = ids::restore(&mut self.table, &directory, self.options.ids).await?;
                *self.shared.ids_mut() = dedup;
            }
        }
        Ok(())
    }

    /// Writes the ids of the newest events into files, so that the next start needn't read them from the tables.
    ///
    /// # Errors
    /// If the files can't be written.
    pub fn save(&mut self) -> Result<(), LoadError> {
        Ok(self.shared.ids_mut().save()?)
    }

    /// State for queries of this process.
    pub fn shared(&self) -> Shared {
        self.shared.clone()
    }

    /// Reads records until a batch is full; whether all that is there was read.
    ///
    /// # Errors
    /// If a journal can't be read.
    pub fn read(&mut self) -> Result<bool, LoadError> {
        if self.reached.is_empty() {
            self.shared.begin(self.version(), &self.loaded, self.suppression.version());
        }
        self.rows.begin(now_ns());
        let mut is_complete = false;
        while !is_complete && !self.is_batch_full() {
            let Some(batch) = self.journals.next_batch()? else {
                is_complete = true;
                continue;
            };
            self.is_sound = false;
            self.take(&batch)?;
            if self.rows.text_bytes() >= self.options.encoded_bytes {
                self.encode()?;
            }
            self.is_sound = true;
        }
        if self.shared.keeps_rows() {
            self.encode()?;
            self.shared.reach(self.reached.values(), !is_complete);
        }
        Ok(is_complete)
    }

    /// Encodes the rows that wait, and shows them to queries.
    fn encode(&mut self) -> Result<(), LoadError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let (rows, text_bytes) = (self.rows.len(), self.rows.text_bytes());
        let batches = self.rows.take()?;
        if self.shared.keeps_rows() {
            let stored = batches.iter().map(|(key, rows)| as_stored(rows, key));
            self.shared.add(stored.collect::<Result<Vec<_>, _>>().map_err(RowsError::Columns)?);
        }
        self.files.push(batches, rows, text_bytes)
    }

    fn take(&mut self, batch: &Batch) -> Result<(), LoadError> {
        let dedup = self.shared.ids();
        let (duplicates, suppressed) = admission::take(
            batch.position.journal,
            batch.records().map(|record| (record.sequence, record.payload)),
            &mut self.rows,
            &dedup,
            &mut self.pending,
            &mut self.suppression,
        )?;
        self.dropped.0 += duplicates;
        self.dropped.1 += suppressed;
        self.reached.insert(batch.path.clone(), batch.position);
        Ok(())
    }

    fn is_batch_full(&self) -> bool {
        self.waiting() >= self.options.batch_events
            || self.files.text_bytes + self.rows.text_bytes() >= self.options.batch_bytes
    }

    /// Commits the rows that wait, with the watermarks that are reached with them. False if others' commits made them
    /// wrong: then none wait, and they are to be read again.
    ///
    /// # Errors
    /// If they can't be committed.
    pub async fn flush(&mut self) -> Result<bool, LoadError> {
        if self.reached.is_empty() {
            return Ok(true);
        }
        let rows = self.waiting() as u64;
        self.is_sound = false;
        for path in self.reached.keys() {
            self.consumers.register(path)?;
        }
        let mut changes = self.write_files().await?;
        let written = Instant::now();
        for attempt in 1.. {
            let adds = changes.adds.clone();
            if written.elapsed() > FILE_AGE_MAX {
                return self.give_up(&adds).await.map(|()| false);
            }
            let made = commit(&mut self.table, std::mem::take(&mut changes), "load").await;
            match made {
                Ok(committed) => return self.committed(rows, committed.version).map(|()| true),
                Err(CommitError::Conflict { .. }) if attempt < self.options.attempts => {
                    self.counts.conflicts += 1;
                    if !self.may_commit_again().await? {
                        // Rows are made again from where the table is now.
                        return self.give_up(&adds).await.map(|()| false);
                    }
                    changes = Changes { adds, removes: Vec::new(), numbers: self.numbers() };
                }
                Err(CommitError::Conflict { .. }) => {
                    return Err(LoadError::Outpaced { attempts: self.options.attempts });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
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

    async fn write_files(&mut self) -> Result<Changes, LoadError> {
        let store = self.table.object_store();
        let files = tokio::task::block_in_place(|| -> Result<_, LoadError> {
            self.encode()?;
            Ok(std::mem::take(&mut self.files).finish()?)
        })?;
        // Together, they wait for the disk once.
        let adds = try_join_all(files.into_iter().map(|file| file.store(&store, true))).await?;
        Ok(Changes { adds, removes: Vec::new(), numbers: self.numbers() })
    }

    fn numbers(&self) -> Vec<(String, i64)> {
        positions::to_numbers(self.reached.values().copied(), self.suppression.version())
    }

    fn committed(&mut self, rows: u64, version: u64) -> Result<(), LoadError> {
        self.counts.rows += rows;
        self.counts.duplicates += self.dropped.0;
        self.counts.suppressed += self.dropped.1;
        self.counts.commits += 1;
        self.dropped = (0, 0);
        let mut dedup = self.shared.ids_mut();
        dedup.insert(self.pending.drain(), version);
        dedup.settle()?;
        drop(dedup);
        // Rows and log are on stable storage: the store syncs before it answers.
        for (path, position) in std::mem::take(&mut self.reached) {
            self.loaded.positions.insert(position.journal.0, position);
            self.consumers.advance(&path, position)?;
        }
        self.loaded.suppression = self.suppression.version();
        self.shared.begin(version, &self.loaded, self.suppression.version());
        self.is_sound = true;
        Ok(())
    }

    /// Reads the newest version after somebody else's commit; whether the rows that wait are still right on top of it.
    async fn may_commit_again(&mut self) -> Result<bool, LoadError> {
        self.table.update_state().await.map_err(log_error)?;
        let (before, version) = (self.shared.ids().version(), self.version());
        let others = ids::of_versions(&mut self.table, before + 1, version).await?;
        let Some(others) = others else { return Ok(false) };
        let has_duplicates = others.iter().any(|id| self.pending.contains(id));
        self.shared.ids_mut().insert(others, version);
        if has_duplicates {
            return Ok(false);
        }
        let now = Watermarks::of(self.numbers.of(&self.table).await.map_err(log_error)?);
        let is_same = |position: &Position| {
            now.positions.get(&position.journal.0) == self.loaded.positions.get(&position.journal.0)
        };
        Ok(now.suppression <= self.suppression.version() && self.reached.values().all(is_same))
    }

    /// Forgets the rows that wait, and begins again where the table's newest version says.
    ///
    /// # Errors
    /// If the table can't be read.
    pub async fn restart(&mut self) -> Result<(), LoadError> {
        self.is_sound = false;
        self.table.update_state().await.map_err(log_error)?;
        self.take_ids().await?;
        shared_list::pull(&self.tables).await?;
        self.suppression.reload()?;
        self.rows.take()?;
        self.files = Files::default();
        self.pending = self.shared.ids().new_set();
        self.dropped = (0, 0);
        self.reached.clear();
        self.read_watermarks().await?;
        self.respect_erasures().await?;
        let directories = self.journals.directories().to_vec();
        self.journals = Journals::open(&directories, &self.loaded.list(), &self.options.accepted)?;
        self.is_sound = true;
        Ok(())
    }
}

pub(crate) fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}
