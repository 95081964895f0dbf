//! State of a loader that queries of the same process share: ids of the table's events, and rows that no version has yet.
//!
//! A query asks the loader to read what has come, and takes its rows: each event becomes a row once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use deltalake::arrow::array::RecordBatch;
use tickstream_journal::Position;
use tokio::sync::{Notify, watch};

use super::positions::Watermarks;
use crate::dedup::Dedup;

/// Time without a query after which rows aren't kept for queries.
const WANTED: Duration = Duration::from_secs(10);

/// Rows that a query reads by itself as fast as it waits for the loader's next commit.
const FEW: usize = 20_000;
/// Pause of a query that waits until rows are kept.
const PAUSE: Duration = Duration::from_millis(20);

/// State of a loader, for the loader and for queries beside it.
#[derive(Clone, Debug)]
pub struct Shared(Arc<State>);

#[derive(Debug)]
struct State {
    ids: RwLock<Dedup>,
    rows: Mutex<Uncommitted>,
    /// Time of the last query.
    queried: Mutex<Option<Instant>>,
    is_following: AtomicBool,
    /// Number of the last query that asked for what has come.
    asked: AtomicU64,
    /// Tells the loader of it.
    question: Notify,
    /// Number of the last query for which was read.
    answered: watch::Sender<u64>,
    /// Rows that waited for a commit then.
    waiting: AtomicUsize,
}

/// Rows above a version of the table.
#[derive(Clone, Debug, Default)]
pub struct Uncommitted {
    /// The version.
    pub version: u64,
    /// Rows, with all columns of the table.
    pub batches: Vec<RecordBatch>,
    /// Last records that are in the version or among the rows, by journal.
    pub reached: BTreeMap<[u8; 16], Position>,
    /// True if more was there than fits into a commit.
    pub is_behind: bool,
    /// Version of the list of erased identifiers that the rows respect.
    suppression: u64,
    /// True if all rows that were read since the version are here.
    is_complete: bool,
    /// Batches, the first ones, that are being committed.
    committing: usize,
}

impl Shared {
    /// State with these ids, and without rows.
    pub(super) fn new(ids: Dedup) -> Self {
        Self(Arc::new(State {
            ids: RwLock::new(ids),
            rows: Mutex::default(),
            queried: Mutex::default(),
            is_following: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            question: Notify::new(),
            answered: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// Ids as they are; the loader's next commit waits meanwhile.
    pub fn ids(&self) -> RwLockReadGuard<'_, Dedup> {
        self.0.ids.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ids_mut(&self) -> RwLockWriteGuard<'_, Dedup> {
        self.0.ids.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows above a version, after the loader has read what has come. `None`: it doesn't follow the journals, is busy for
    /// longer than `patience`, doesn't keep rows yet and has few, or keeps some that the list of erased identifiers of version
    /// `suppression` may forbid.
    pub async fn rows(&self, suppression: u64, patience: Duration) -> Option<Uncommitted> {
        *lock(&self.0.queried) = Some(Instant::now());
        let deadline = tokio::time::Instant::now() + patience;
        let mut answered = self.0.answered.subscribe();
        while self.0.is_following.load(Ordering::Relaxed) {
            let number = self.0.asked.fetch_add(1, Ordering::Relaxed) + 1;
            self.0.question.notify_one();
            let is_answered = answered.wait_for(|answered| *answered >= number);
            tokio::time::timeout_at(deadline, is_answered).await.ok()?.ok()?;
            {
                let rows = lock(&self.0.rows);
                if rows.is_complete {
                    return (rows.suppression == suppression).then(|| rows.clone());
                }
            }
            // The loader keeps rows from its next commit on. To read many of them a second time would take its CPU.
            if self.0.waiting.load(Ordering::Relaxed) < FEW || tokio::time::Instant::now() > deadline {
                return None;
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    /// Says whether the loader follows the journals.
    pub(super) fn set_following(&self, is_following: bool) {
        self.0.is_following.store(is_following, Ordering::Relaxed);
    }

    /// Waits for a query that asks for what has come.
    pub(super) async fn question(&self) {
        self.0.question.notified().await;
    }

    /// Number of the last question.
    pub(super) fn asked(&self) -> u64 {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// Number of the last question that was answered.
    pub(super) fn answered(&self) -> u64 {
        *self.0.answered.borrow()
    }

    /// Answers the questions up to this number, when so many rows wait for a commit.
    pub(super) fn answer(&self, number: u64, waiting: usize) {
        self.0.waiting.store(waiting, Ordering::Relaxed);
        self.0.answered.send_replace(number);
    }

    /// True if rows are kept for queries.
    pub(super) fn keeps_rows(&self) -> bool {
        lock(&self.0.rows).is_complete
    }

    /// Begins anew above a version, of which no rows were read yet.
    pub(super) fn begin(&self, version: u64, loaded: &Watermarks, suppression: u64) {
        let is_complete = lock(&self.0.queried).is_some_and(|queried| queried.elapsed() < WANTED);
        let reached = if is_complete { loaded.positions.clone() } else { BTreeMap::new() };
        let is_behind = false;
        let (batches, committing) = (Vec::new(), 0);
        *lock(&self.0.rows) =
            Uncommitted { version, batches, reached, is_behind, suppression, is_complete, committing };
    }

    /// Says that the rows that are there are being committed.
    pub(super) fn seal(&self) {
        let mut rows = lock(&self.0.rows);
        rows.committing = rows.batches.len();
    }

    /// Says that these rows are in a version of the table; those that were read meanwhile stay.
    pub(super) fn committed(&self, version: u64) {
        let mut rows = lock(&self.0.rows);
        let committed = std::mem::take(&mut rows.committing);
        rows.batches.drain(..committed);
        rows.version = version;
    }

    /// Adds rows that were read.
    pub(super) fn add(&self, batches: impl IntoIterator<Item = RecordBatch>) {
        lock(&self.0.rows).batches.extend(batches);
    }

    /// Notes how far was read.
    pub(super) fn reach<'a>(&self, reached: impl Iterator<Item = &'a Position>, is_behind: bool) {
        let mut rows = lock(&self.0.rows);
        rows.reached.extend(reached.map(|position| (position.journal.0, *position)));
        rows.is_behind = is_behind;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::Sizes;

    fn shared() -> (tempfile::TempDir, Shared) {
        let directory = tempfile::tempdir().unwrap();
        let shared = Shared::new(Dedup::open(directory.path(), Sizes::default()).unwrap());
        shared.set_following(true);
        (directory, shared)
    }

    #[tokio::test]
    async fn a_query_waits_for_the_commit_of_many_rows_and_not_for_that_of_few() {
        let (_directory, shared) = shared();
        shared.begin(1, &Watermarks::default(), 0);
        let query = |shared: &Shared| {
            let shared = shared.clone();
            tokio::spawn(async move { shared.rows(0, Duration::from_secs(30)).await })
        };
        let first = query(&shared);
        shared.question().await;
        shared.answer(shared.asked(), FEW - 1);
        assert!(first.await.unwrap().is_none());

        let second = query(&shared);
        shared.question().await;
        shared.answer(shared.asked(), FEW);
        // It asks again; meanwhile the rows were committed, and the next ones are kept.
        shared.question().await;
        shared.begin(2, &Watermarks::default(), 0);
        shared.answer(shared.asked(), 0);
        assert_eq!(second.await.unwrap().unwrap().version, 2);
    }

    #[tokio::test]
    async fn rows_that_come_during_a_commit_stay_and_those_of_the_commit_go() {
        let (_directory, shared) = shared();
        *lock(&shared.0.queried) = Some(Instant::now());
        shared.begin(1, &Watermarks::default(), 0);
        let schema = crate::events::schema();
        let batch = || RecordBatch::new_empty(schema.clone());
        shared.add([batch(), batch()]);
        shared.seal();
        shared.add([batch()]);
        shared.committed(2);
        let rows = lock(&shared.0.rows);
        assert_eq!((rows.version, rows.batches.len(), rows.is_complete), (2, 1, true));
    }
}
