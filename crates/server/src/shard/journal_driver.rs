//! The journal of one shard, driven over the ring's files: records go in, and the numbers of those that are on stable
//! storage come out. The driver carries both from and to the engine.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::ring::rand::{SecureRandom, SystemRandom};
use tickstream_engine::{IngestPressure, Latencies, Record, RecordId, StorageFault};
use tickstream_journal::{
    self as journal, AppendError, Directory, Fatal, FileDirectory, FileName, Journal, JournalId, Operation,
    OperationId, Reader, Restore, Retention, Sequence, Storage,
};

use super::consumers::ConsumerWatch;
use super::request::JournalSnapshot;
use crate::config::Events;
use crate::ring::{self, Completion, SocketRing};

/// Bytes of one commit group, and so, with what is around it, of one record.
const GROUP_BYTES: usize = 2 << 20;
/// Part of a journal that is read at the start, so that batches that come again are known.
const RESTORED_BYTES: u64 = 64 << 20;
/// Other journals of the directory that are read at the start: a producer may come back to another shard.
const SIBLINGS_MAX: usize = 16;
/// Journals that a directory may have: one for each shard, and as many while two processes overlap.
const JOURNALS_MAX: usize = 65_536;
/// From so many hundredths of the journal's memory on, publishers are asked to wait.
const THROTTLED_PERCENT: usize = 50;
/// Wait that clients are asked for, milliseconds: some syncs of a slow disk. Longer ones leave a fast disk without work: at
/// 130 MB/s a segment is full each second, and the next one is ready some milliseconds later.
const THROTTLE_MS: u32 = 20;
/// Longest wait of a shard's start for the first segment of a new journal.
const READY_NS: u64 = 20_000_000_000;
/// Longest wait for the disk at once, where there is nothing else to do.
const DISK_WAIT_NS: u64 = 10_000_000;
/// Longest wait of a shard's end for the disk.
const END_NS: u64 = 10_000_000_000;

/// Why events can't be collected (any more).
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The shard can't begin.
    #[error("the journal in {} can't be opened: {}", .path.display(), with_cause(source))]
    Open {
        /// Its directory.
        path: PathBuf,
        /// The problem.
        source: journal::Error,
    },
    /// All journals belong to somebody.
    #[error(
        "all of this shard's journals in {}, up to {JOURNALS_MAX}, are in use by other processes: choose another \
         directory",
        .0.display()
    )]
    Locked(PathBuf),
    /// No randomness, or no descriptor.
    #[error("the journal in {} can't be opened: {source}", .path.display())]
    System {
        /// Its directory.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The shard can't go on: acknowledged events are safe, and the next start finds them.
    #[error("the journal in {} failed: {fatal}", .path.display())]
    Failed {
        /// Its directory.
        path: PathBuf,
        /// The failure.
        fatal: Fatal,
    },
}

/// The shard's journal, and what is on its way there.
pub(super) struct JournalDriver {
    journal: Journal,
    /// Holds the lock.
    directory: FileDirectory,
    /// Records in the journal that aren't on stable storage, oldest first.
    appended: VecDeque<(Sequence, RecordId)>,
    /// A record that the engine handed out and the journal has no room for.
    waiting: Option<Waiting>,
    failure: Option<Fatal>,
    is_full: bool,
    /// True if records that consumers haven't loaded are more than half of those that may be kept.
    has_backlog: bool,
    retention: Retention,
    consumers: Arc<ConsumerWatch>,
    /// Times that commit groups took.
    syncs: Latencies,
    /// When the one on its way was handed to the kernel, CLOCK_MONOTONIC nanoseconds.
    group_since_ns: Option<u64>,
}

/// Fate of a record that was to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// On its way to stable storage.
    Taken,
    /// Waits for memory, and the next ones have to.
    Waits,
    /// The record won't be stored.
    Refused(RecordId, StorageFault),
}

struct Waiting {
    id: RecordId,
    producer: [u8; 16],
    sequence: u64,
    events: u32,
    payload: Vec<u8>,
}

/// The longest record that a shard's journal takes, bytes.
pub fn record_bytes_max(events: &Events) -> u32 {
    journal_config(events).payload_max() as u32
}

/// Bounds of a shard's journal.
fn journal_config(events: &Events) -> journal::Config {
    journal::Config {
        segment_bytes: events.segment_bytes,
        group_bytes: GROUP_BYTES,
        retention: events.retention(),
        segment_age: Some(events.segment_age),
        ..journal::Config::default()
    }
}

impl JournalDriver {
    /// Opens the first journal that is free of those that are this shard's: `shard`, `shard + shards`, … While a new
    /// process takes over from an old one, which still writes, it has others. The engine is told what is in it, and
    /// `alive` is called all the while: long journals take their time.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(
        events: &Events,
        (number, shards): (usize, usize),
        ring: &mut SocketRing,
        consumers: Arc<ConsumerWatch>,
        mut restore: impl FnMut(&journal::Record<'_>),
        alive: impl Fn(),
    ) -> Result<Self, JournalError> {
        let mut directory = claim(&events.journal, number, shards)?;
        let path = directory.path().to_owned();
        let mut restore = |record: &journal::Record<'_>| {
            alive();
            restore(record);
        };
        restore_siblings(&events.journal, &path, &mut restore)?;
        let open = |source| JournalError::Open { path: path.clone(), source };
        let system = |source| JournalError::System { path: path.clone(), source };
        let mut id = JournalId([0; 16]);
        SystemRandom::new().fill(&mut id.0).map_err(|_| system(io::Error::other("no randomness")))?;
        let window = Restore::Window { records: 0, bytes: RESTORED_BYTES, since_ns: u64::MAX };
        let (journal, recovered) =
            journal::recover(&mut directory, journal_config(events), id, now(), window, |record| {
                restore(&record);
            })
            .map_err(open)?;
        ring.open_files(File::open(&path).map_err(system)?.into()).map_err(system)?;
        if let Some((file, offset)) = recovered.cut {
            tracing::warn!(journal = %path.display(), %file, offset, "a torn tail was cut off; none of it was acknowledged");
        }
        if let Some(because) = recovered.new_id {
            tracing::error!(
                journal = %path.display(),
                id = %journal.id(),
                "the journal goes on under a new id: {because}"
            );
        }
        tracing::info!(
            journal = %path.display(),
            segments = recovered.segments,
            first_sequence = recovered.first_sequence,
            last_sequence = recovered.last_sequence,
            read_records = recovered.records,
            "the journal is open"
        );
        let mut driver = Self {
            journal,
            directory,
            appended: VecDeque::new(),
            waiting: None,
            failure: None,
            is_full: false,
            has_backlog: false,
            syncs: Latencies::default(),
            group_since_ns: None,
            retention: events.retention(),
            consumers,
        };
        driver.journal.set_consumers(driver.consumers.begin(&path));
        driver.make_ready(ring).map_err(system)?;
        Ok(driver)
    }

    /// Has the first segment of a new journal made ready, unless the disk is full or takes too long: until then all
    /// events are refused.
    fn make_ready(&mut self, ring: &mut SocketRing) -> io::Result<()> {
        let until_ns = ring::now().mono_ns + READY_NS;
        let goes_on = |this: &Self| {
            !this.journal.is_ready() && this.failure.is_none() && this.journal.stats().full_since_ns.is_none()
        };
        while goes_on(self) && ring::now().mono_ns < until_ns {
            self.drive(ring);
            self.await_disk(ring)?;
        }
        Ok(())
    }

    /// Waits a moment for the disk. Only while the shard has no connections: what else completes is dropped.
    fn await_disk(&mut self, ring: &mut SocketRing) -> io::Result<()> {
        ring.wake_at(ring::now().mono_ns + DISK_WAIT_NS);
        ring.submit_and_wait()?;
        while let Some(completion) = ring.next_completion() {
            if let Completion::File(completion) = completion {
                self.completed(*completion);
            }
        }
        Ok(())
    }

    /// An operation on the journal's files is done.
    pub fn completed(&mut self, completion: journal::Completion) {
        let now = now();
        if completion.id == OperationId::Commit
            && let Some(since_ns) = self.group_since_ns.take()
            && completion.result.is_ok()
        {
            self.syncs.record(now.mono_ns.saturating_sub(since_ns), 1);
        }
        if let Err(fatal) = self.journal.completed(now, completion) {
            self.failure.get_or_insert(fatal);
        }
    }

    /// The last record that came to stable storage since the last call.
    pub fn poll_synced(&mut self) -> Option<RecordId> {
        let synced = self.journal.synced();
        let mut stored = None;
        while let Some((_, id)) = self.appended.pop_front_if(|(sequence, _)| *sequence <= synced) {
            stored = Some(id);
        }
        if stored.is_some() {
            self.journal.acknowledge(synced);
        }
        stored
    }

    /// Appends the record that waits for memory, if one does.
    pub fn retry(&mut self) -> Appended {
        let Some(Waiting { id, producer, sequence, events, payload }) = self.waiting.take() else {
            return Appended::Taken;
        };
        match self.journal.append(producer, sequence, events, &payload) {
            Err(AppendError::Busy) => {
                self.waiting = Some(Waiting { id, producer, sequence, events, payload });
                Appended::Waits
            }
            appended => self.settle(id, appended),
        }
    }

    /// Appends a record. Call [`JournalDriver::retry`] before: one that waits goes first.
    pub fn append(&mut self, record: &Record<'_>) -> Appended {
        let Record { id, producer, sequence, events, payload } = *record;
        match self.journal.append(producer, sequence, events, payload) {
            Err(AppendError::Busy) => {
                self.waiting = Some(Waiting { id, producer, sequence, events, payload: payload.to_vec() });
                Appended::Waits
            }
            appended => self.settle(id, appended),
        }
    }

    /// Has the disk go on.
    ///
    /// # Errors
    /// If the journal failed: then nothing may be acknowledged any more, and the process has to end.
    pub fn go_on(&mut self, ring: &mut SocketRing) -> Result<(), JournalError> {
        if let Some(consumers) = self.consumers.newest() {
            self.journal.set_consumers(consumers);
            self.look_at_backlog();
        }
        self.drive(ring);
        match self.failure {
            None => Ok(()),
            Some(fatal) => Err(JournalError::Failed { path: self.directory.path().to_owned(), fatal }),
        }
    }

    /// When [`JournalDriver::go_on`] has something to do by itself, CLOCK_MONOTONIC nanoseconds.
    pub fn next_timeout(&self) -> Option<u64> {
        // What waits for memory is woken by the commit group that frees it.
        self.journal.next_timeout()
    }

    /// Brings what is there to stable storage, and acknowledges no more: the shard has no connections. `alive` is called
    /// all the while: the watchdog is not for a disk that is slow.
    pub fn finish(mut self, ring: &mut SocketRing, alive: impl Fn()) -> io::Result<()> {
        let until_ns = ring::now().mono_ns + END_NS;
        self.journal.end();
        while !self.journal.has_ended() && ring::now().mono_ns < until_ns && self.failure.is_none() {
            self.drive(ring);
            alive();
            if !self.journal.has_ended() {
                self.await_disk(ring)?;
            }
        }
        let path = self.directory.path().display();
        match self.failure {
            Some(fatal) => tracing::error!(journal = %path, %fatal, "the journal failed at the end"),
            None if !self.journal.has_ended() => {
                tracing::error!(journal = %path, "the shard ended before the disk had answered: events of the last seconds without an acknowledgement may be lost");
            }
            None => {}
        }
        Ok(())
    }

    /// Its counters.
    pub fn snapshot(&self) -> JournalSnapshot {
        JournalSnapshot { stats: self.journal.stats(), syncs: self.syncs.clone() }
    }

    fn drive(&mut self, ring: &mut SocketRing) {
        let now = now();
        let mut storage = Timed { ring, since_ns: &mut self.group_since_ns, now_ns: now.mono_ns };
        if let Err(fatal) = self.journal.drive(now, &mut storage) {
            self.failure.get_or_insert(fatal);
        }
    }

    fn settle(&mut self, id: RecordId, appended: Result<Sequence, AppendError>) -> Appended {
        match appended {
            Ok(sequence) => {
                if std::mem::take(&mut self.is_full) {
                    tracing::info!(journal = %self.directory.path().display(), "there is room again: events are stored");
                }
                self.appended.push_back((sequence, id));
                Appended::Taken
            }
            Err(AppendError::Full) => {
                if !std::mem::replace(&mut self.is_full, true) {
                    let cause = if self.journal.stats().held_since_ns.is_some() {
                        "the journal is as large as journal_max_mib allows, and consumers haven't loaded its oldest events"
                    } else {
                        "the disk is full"
                    };
                    tracing::error!(
                        journal = %self.directory.path().display(),
                        "{cause}: events are refused until there is room, and nothing is deleted"
                    );
                }
                Appended::Refused(id, StorageFault::Full)
            }
            Err(_) => Appended::Refused(id, StorageFault::Failed),
        }
    }

    /// Warns once when what consumers haven't loaded is half of what may be kept, by size or by age.
    fn look_at_backlog(&mut self) {
        let stats = self.journal.stats();
        let age_ns = stats.unloaded_since_ns.map_or(0, |since_ns| now().unix_ns.saturating_sub(since_ns));
        let is_large = self.retention.bytes.is_some_and(|max| stats.unloaded_bytes > max / 2);
        let is_old = self.retention.age.is_some_and(|max| u128::from(age_ns) > max.as_nanos() / 2);
        let has_backlog = is_large || is_old;
        if has_backlog && !self.has_backlog {
            tracing::warn!(
                journal = %self.directory.path().display(),
                loaded_sequence = stats.loaded,
                unloaded_bytes = stats.unloaded_bytes,
                unloaded_for_s = age_ns / 1_000_000_000,
                "a consumer is behind by half of what the journal may keep; look at the consumer, or remove its file in \
                 the journal's folder \"consumers\" if there is none any more"
            );
        }
        self.has_backlog = has_backlog;
    }

    /// Amount that it can take from now on.
    pub fn pressure(&self) -> IngestPressure {
        let stats = self.journal.stats();
        let is_filling = stats.waiting_bytes * 100 > stats.waiting_bytes_max * THROTTLED_PERCENT;
        if self.waiting.is_some() || is_filling {
            return IngestPressure::Throttle { ms: THROTTLE_MS };
        }
        IngestPressure::None
    }
}

/// The ring, and the time when it was given a commit group.
struct Timed<'a> {
    ring: &'a mut SocketRing,
    since_ns: &'a mut Option<u64>,
    now_ns: u64,
}

impl Storage for Timed<'_> {
    fn start(&mut self, id: OperationId, operation: Operation) {
        if matches!(operation, Operation::Write { sync: true, .. }) && id == OperationId::Commit {
            *self.since_ns = Some(self.now_ns);
        }
        self.ring.start(id, operation);
    }

    fn publish(&mut self, synced: journal::Synced) {
        self.ring.publish(synced);
    }
}

fn now() -> journal::Now {
    let now = ring::now();
    journal::Now { mono_ns: now.mono_ns, unix_ns: now.unix_ns }
}

/// An error of a journal names what was done; what the kernel said is behind it.
pub fn with_cause(error: &journal::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Locks a journal's directory, making it if need be.
fn claim(all: &Path, number: usize, shards: usize) -> Result<FileDirectory, JournalError> {
    for journal in (number..JOURNALS_MAX).step_by(shards) {
        let path = all.join(format!("{journal:03}"));
        match FileDirectory::open_exclusive(&path) {
            Ok(directory) => return Ok(directory),
            Err(journal::Error::Locked) => {}
            Err(source) => return Err(JournalError::Open { path, source }),
        }
    }
    Err(JournalError::Locked(all.to_owned()))
}

/// Restores the last segment of each other journal: a producer that resends may come to another shard than before.
///
/// # Errors
/// If what was read can't be brought to stable storage. Whoever sends it again is told at once that it is there, though
/// its writer may have been killed before its sync, or hasn't had that yet.
fn restore_siblings(
    all: &Path,
    own: &Path,
    restore: &mut impl FnMut(&journal::Record<'_>),
) -> Result<(), JournalError> {
    let Ok(entries) = std::fs::read_dir(all) else { return Ok(()) };
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok()).map(|entry| entry.path()).collect();
    paths.retain(|path| path != own && path.is_dir());
    paths.sort_unstable();
    for path in paths.into_iter().take(SIBLINGS_MAX) {
        let mut directory = FileDirectory::open(&path);
        let last = directory.list().ok().and_then(|files| {
            let segments = files.into_iter().filter_map(|file| match file {
                FileName::Segment(first) => Some(first),
                FileName::Next | FileName::Synced => None,
            });
            segments.max()
        });
        let Some(last) = last else { continue };
        let mut reader = Reader::of_written(directory, last);
        // What is wrong with it is for its own shard to say.
        while let Ok(Some(record)) = reader.next_record() {
            restore(&record);
        }
        reader.sync().map_err(|source| JournalError::Open { path, source })?;
    }
    Ok(())
}
