//! Loads journals into the table of events, each event once.
//!
//! Files and watermarks come in one commit, on top of exactly the version whose watermarks were read. After any failure
//! the table is read again, and loading goes on where its watermarks say: whatever was or wasn't written before.

pub mod admission;
pub mod error;
mod files;
mod flush;
mod follow;
pub(crate) mod ids;
mod options;
pub mod positions;
pub mod shared;
pub mod shared_list;
pub mod source;
pub mod suppression;
mod waiting;

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use deltalake::DeltaTable;
use tickstream_journal::Batch;

use crate::events::Rows;
use crate::events::rows::{RowsError, as_stored};
use crate::store::numbers::Numbers;
use crate::store::{Secret, Tables};
pub(crate) use error::log_error;
pub use error::{LoadError, with_sources};
pub use options::Options;
use positions::Watermarks;
use shared::Shared;
use source::{Consumers, Journals};
use suppression::Suppression;
use waiting::{Question, Waiting};

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
    /// Rows for the next commit.
    waiting: Waiting,
    /// Rows that are being committed.
    committing: Waiting,
    /// Queries that wait until the journals are read so far.
    question: Option<Question>,
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
        let mut consumers = Consumers::new(&options.consumer);
        if consumers.register_all(directories)? {
            tokio::time::sleep(options.noticed_after).await;
        }
        let journals = Journals::open(directories, &loaded.list(), &options.accepted)?;
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
            waiting: Waiting::new(dedup.new_set()),
            committing: Waiting::new(dedup.new_set()),
            question: None,
            shared: Shared::new(dedup),
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
        self.waiting.files.rows + self.rows.len()
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
            let is_complete = tokio::task::block_in_place(|| self.read())?;
            if self.flush().await? && is_complete {
                return Ok(self.counts);
            }
        }
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

    /// Reads records until a batch is full; whether all that is there was read. Queries that ask are answered when what was there
    /// when they were noticed is read.
    ///
    /// # Errors
    /// If a journal can't be read.
    pub fn read(&mut self) -> Result<bool, LoadError> {
        if self.waiting.is_empty() && self.committing.is_empty() {
            self.shared.begin(self.version(), &self.loaded, self.suppression.version());
        }
        self.rows.begin(now_ns());
        while !self.is_batch_full() {
            let asked = self.shared.asked();
            self.notice(asked);
            let Some(batch) = self.journals.next_batch()? else {
                self.answer(asked, false)?;
                return Ok(true);
            };
            let was_sound = std::mem::replace(&mut self.is_sound, false);
            self.take(&batch)?;
            if self.rows.text_bytes() >= self.options.encoded_bytes {
                self.encode()?;
            }
            self.is_sound = was_sound;
            if let Some(question) = self.question.as_ref().filter(|one| self.journals.has_given(&one.synced))
            {
                self.answer(question.number, false)?;
            }
        }
        self.answer(self.shared.asked(), true)?;
        Ok(false)
    }

    /// Notes what is there for queries that have asked since the last answer.
    fn notice(&mut self, asked: u64) {
        if self.question.is_none() && asked > self.shared.answered() {
            let synced = self.journals.synced();
            self.question = synced.map(|synced| Question { number: asked, synced });
        }
    }

    /// Shows queries what was read, and answers those up to this number.
    fn answer(&mut self, number: u64, is_behind: bool) -> Result<(), LoadError> {
        if self.shared.keeps_rows() {
            let was_sound = std::mem::replace(&mut self.is_sound, false);
            self.encode()?;
            self.shared.reach(self.waiting.reached.values(), is_behind);
            self.is_sound = was_sound;
        }
        self.question = None;
        self.shared.answer(number, self.waiting());
        Ok(())
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
        self.waiting.files.push(batches, rows, text_bytes)
    }

    fn take(&mut self, batch: &Batch) -> Result<(), LoadError> {
        let dedup = self.shared.ids();
        let (duplicates, suppressed) = admission::take(
            batch.position.journal,
            batch.records().map(|record| (record.sequence, record.payload)),
            &mut self.rows,
            &dedup,
            &self.committing.ids,
            &mut self.waiting.ids,
            &mut self.suppression,
        )?;
        self.waiting.dropped.0 += duplicates;
        self.waiting.dropped.1 += suppressed;
        self.waiting.reached.insert(batch.path.clone(), batch.position);
        Ok(())
    }

    fn is_batch_full(&self) -> bool {
        self.waiting() >= self.options.batch_events
            || self.waiting.files.text_bytes + self.rows.text_bytes() >= self.options.batch_bytes
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
        let new_set = || self.shared.ids().new_set();
        (self.waiting, self.committing) = (Waiting::new(new_set()), Waiting::new(new_set()));
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
