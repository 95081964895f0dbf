//! Ids of the newest events, to drop those that come again: exactly, in bounded memory.
//!
//! The newest ids are in a hash set. When it is full, a thread writes them as a run: a sorted file with a Bloom filter in
//! memory. Small runs are merged into large ones; the oldest large run goes when more ids are kept than asked for. The
//! filters answer for nearly all new ids; the rest are looked up in the files.
//!
//! Files are written whole, synced and renamed. They are a copy of what the tables hold: if one is missing or damaged,
//! all are built again from the tables.

mod bloom;
mod files;
mod run;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::hash::HashSet;
use files::Files;
pub use run::RunError;

/// Id of an event.
pub type EventId = [u8; 16];

/// Sizes of a memory of ids.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Ids in the hash set.
    pub recent: usize,
    /// Runs of that size that are merged into one.
    pub fan_in: usize,
    /// Ids that are kept at least, once there were so many.
    pub kept: u64,
}

impl Default for Sizes {
    /// 100 million ids: 200 MB of filters and some 40 MB for the newest million.
    fn default() -> Self {
        Self { recent: 1 << 20, fan_in: 8, kept: 100_000_000 }
    }
}

/// Failure of the files of a memory of ids.
#[derive(Debug, thiserror::Error)]
pub enum DedupError {
    /// A file can't be read or written.
    #[error("{action} {}", .path.display())]
    Io {
        /// Operation that failed.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// A run is damaged.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The thread that wrote files ended by a panic.
    #[error("the thread that writes ids into {} ended by a panic", .directory.display())]
    Panic {
        /// Their directory.
        directory: PathBuf,
    },
    /// The list of runs is damaged.
    #[error("{} is no list of id files", .path.display())]
    Manifest {
        /// The list.
        path: PathBuf,
        /// The problem with it.
        source: serde_json::Error,
    },
}

impl DedupError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// Ids of the newest events.
#[derive(Debug)]
pub struct Dedup {
    sizes: Sizes,
    recent: HashSet<EventId>,
    /// Ids that a thread writes.
    saving: Option<Saving>,
    files: Files,
    /// Version of the table whose ids are all known, and no others.
    version: u64,
}

/// Ids that a thread writes into files, and the thread.
#[derive(Debug)]
struct Saving {
    ids: Arc<HashSet<EventId>>,
    thread: JoinHandle<Result<Files, DedupError>>,
}

impl Dedup {
    /// Opens the files in `directory`, or starts without ids if there are none. One process at a time may do so; what a
    /// killed one left is removed.
    ///
    /// # Errors
    /// If files are damaged: remove the directory, so that the ids are read from the tables again.
    pub fn open(directory: impl Into<PathBuf>, sizes: Sizes) -> Result<Self, DedupError> {
        let directory = directory.into();
        fs::create_dir_all(&directory).map_err(DedupError::io("creating", &directory))?;
        let dedup = Self::open_to_read(directory, sizes)?;
        dedup.files.remove_strangers()?;
        Ok(dedup)
    }

    /// Opens the files in `directory` beside the process that writes them. What is inserted stays in memory.
    ///
    /// # Errors
    /// If files are damaged, or were removed meanwhile by that process: try again then.
    pub fn open_to_read(directory: impl Into<PathBuf>, sizes: Sizes) -> Result<Self, DedupError> {
        let files = Files::open(directory.into())?;
        let version = files.covered().unwrap_or_default();
        Ok(Self { sizes, recent: HashSet::default(), saving: None, files, version })
    }

    /// Version of the table up to which all ids are in the files. Those of later versions must be inserted again.
    pub fn covered(&self) -> Option<u64> {
        self.files.covered()
    }

    /// Ids that are known.
    pub fn len(&self) -> u64 {
        self.in_memory().map(|ids| ids.len() as u64).sum::<u64>() + self.files.len()
    }

    /// True if no id is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory for filters and recent ids, about.
    pub fn memory_bytes(&self) -> usize {
        self.in_memory().map(|ids| ids.capacity() * 17).sum::<usize>() + self.files.memory_bytes()
    }

    /// True if the id is known.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn contains(&self, id: &EventId) -> Result<bool, DedupError> {
        Ok(self.in_memory().any(|ids| ids.contains(id)) || self.files.contains(id)?)
    }

    fn in_memory(&self) -> impl Iterator<Item = &HashSet<EventId>> {
        [&self.recent].into_iter().chain(self.saving.as_ref().map(|saving| &*saving.ids))
    }

    /// Version of the table whose ids are known.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// An empty set for ids that may come. It hashes as the recent ids do, so that they are inserted in the order of their
    /// places there: nearly without a cache miss.
    pub fn new_set(&self) -> HashSet<EventId> {
        HashSet::with_hasher(self.recent.hasher().clone())
    }

    /// Remembers the ids that a version of the table added. [`Dedup::settle`] moves them into files when there are many.
    pub fn insert(&mut self, ids: impl IntoIterator<Item = EventId>, version: u64) {
        let ids = ids.into_iter();
        self.recent.reserve(ids.size_hint().0);
        self.recent.extend(ids);
        self.version = version;
    }

    /// Has a thread write recent ids into a file if there are many. Waits only where it still writes those before.
    ///
    /// # Errors
    /// If those before couldn't be written; they are still known.
    pub fn settle(&mut self) -> Result<(), DedupError> {
        let is_full = self.recent.len() >= self.sizes.recent;
        if is_full || self.saving.as_ref().is_some_and(|saving| saving.thread.is_finished()) {
            self.end_saving()?;
        }
        if is_full {
            let empty = HashSet::with_capacity_and_hasher(self.recent.len(), self.recent.hasher().clone());
            let ids = Arc::new(std::mem::replace(&mut self.recent, empty));
            let (written, mut files) = (ids.clone(), self.files.clone());
            let (sizes, version) = (self.sizes, self.version);
            let write = move || {
                files.add(&written, sizes)?;
                files.cover(version)?;
                Ok(files)
            };
            let thread = match thread::Builder::new().name("ids".to_owned()).spawn(write) {
                Ok(thread) => thread,
                Err(source) => {
                    self.recent = Arc::unwrap_or_clone(ids);
                    let started =
                        DedupError::io("starting a thread that writes into", self.files.directory());
                    return Err(started(source));
                }
            };
            self.saving = Some(Saving { ids, thread });
        }
        Ok(())
    }

    /// Writes recent ids into a file if there are many, while not all ids of the version are known yet: after a kill, the
    /// files don't count.
    ///
    /// # Errors
    /// If a file can't be written; the ids are still known.
    pub fn spill(&mut self) -> Result<(), DedupError> {
        if self.recent.len() < self.sizes.recent {
            return Ok(());
        }
        self.end_saving()?;
        self.write_recent()
    }

    /// Writes all recent ids into a file.
    ///
    /// # Errors
    /// If a file can't be written; the ids are still known.
    pub fn save(&mut self) -> Result<(), DedupError> {
        self.end_saving()?;
        if self.covered() == Some(self.version) && self.recent.is_empty() {
            return Ok(());
        }
        self.write_recent()?;
        self.files.cover(self.version)
    }

    fn write_recent(&mut self) -> Result<(), DedupError> {
        self.files.add(&self.recent, self.sizes)?;
        self.recent.clear();
        Ok(())
    }

    /// Waits for the thread that writes files, if there is one.
    ///
    /// # Errors
    /// If it couldn't write them; the ids are still known.
    pub fn end_saving(&mut self) -> Result<(), DedupError> {
        let Some(Saving { ids, thread }) = self.saving.take() else { return Ok(()) };
        let panicked = |_| Err(DedupError::Panic { directory: self.files.directory().to_owned() });
        match thread.join().unwrap_or_else(panicked) {
            Ok(files) => {
                self.files = files;
                Ok(())
            }
            Err(error) => {
                self.recent.extend(ids.iter());
                Err(error)
            }
        }
    }
}

impl Drop for Dedup {
    /// Waits for the thread, so that the directory is free.
    fn drop(&mut self) {
        if let Err(error) = self.end_saving() {
            tracing::warn!(%error, "ids are read from the tables again at the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { recent: 64, fan_in: 3, kept: 1000 };

    fn id(number: u64) -> EventId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        id[8..].copy_from_slice(&number.to_be_bytes());
        id
    }

    fn filled(directory: &Path, ids: std::ops::Range<u64>) -> Dedup {
        let mut dedup = Dedup::open(directory, SIZES).unwrap();
        for number in ids {
            dedup.insert([id(number)], number);
            dedup.settle().unwrap();
        }
        dedup
    }

    #[test]
    fn the_newest_ids_are_known_exactly_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut dedup = filled(directory.path(), 0..5000);
        dedup.save().unwrap();
        let again = Dedup::open(directory.path(), SIZES).unwrap();
        assert_eq!(again.covered(), Some(4999));
        for number in 4000..5000 {
            assert!(again.contains(&id(number)).unwrap(), "{number}");
        }
        for number in 5000..15_000 {
            assert!(!again.contains(&id(number)).unwrap(), "{number}");
        }
        // Memory and disk are bounded: older ones go.
        assert!(again.len() < 1000 + 2 * 192, "{}", again.len());
        assert!(!again.contains(&id(0)).unwrap());
    }

    #[test]
    fn ids_after_the_covered_version_are_those_that_were_not_saved() {
        let directory = tempfile::tempdir().unwrap();
        drop(filled(directory.path(), 0..100));
        let dedup = Dedup::open(directory.path(), SIZES).unwrap();
        // 64 ids were saved, at version 63.
        assert_eq!((dedup.covered(), dedup.len()), (Some(63), 64));
    }

    #[test]
    fn ids_that_were_spilled_and_not_saved_dont_count_after_a_kill() {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path(), 0..64).save().unwrap();
        let mut dedup = Dedup::open(directory.path(), SIZES).unwrap();
        for number in 1000..1200 {
            dedup.insert([id(number)], 99);
            dedup.spill().unwrap();
        }
        assert!(dedup.contains(&id(1000)).unwrap());
        drop(dedup);
        let again = Dedup::open(directory.path(), SIZES).unwrap();
        assert_eq!((again.covered(), again.len()), (Some(63), 64));
    }

    #[test]
    fn ids_are_known_while_they_are_written_and_where_they_cannot_be() {
        let directory = tempfile::tempdir().unwrap();
        let ids = directory.path().join("ids");
        let mut dedup = Dedup::open(&ids, SIZES).unwrap();
        let known = |dedup: &Dedup, count| (0..count).all(|number| dedup.contains(&id(number)).unwrap());
        for number in 0..500 {
            dedup.insert([id(number)], number);
            dedup.settle().unwrap();
            assert!(known(&dedup, number + 1), "{number}");
        }
        dedup.save().unwrap();
        fs::rename(&ids, directory.path().join("elsewhere")).unwrap();
        for number in 500..564 {
            dedup.insert([id(number)], number);
            dedup.settle().unwrap();
        }
        let error = dedup.end_saving().unwrap_err();
        assert!(error.to_string().contains(ids.to_str().unwrap()), "{error}");
        assert!(known(&dedup, 564));
        fs::rename(directory.path().join("elsewhere"), &ids).unwrap();
        dedup.save().unwrap();
        drop(dedup);
        let again = Dedup::open(&ids, SIZES).unwrap();
        assert!(known(&again, 564));
        assert_eq!(again.covered(), Some(563));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path(), 0..64).save().unwrap();
        let path = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let path = path.into_iter().find(|path| path.extension().is_some_and(|name| name == "ids")).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in [0, 20, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let error = Dedup::open(directory.path(), SIZES).unwrap_err();
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        fs::write(&path, &whole[..whole.len() - 16]).unwrap();
        assert!(Dedup::open(directory.path(), SIZES).is_err());
    }

    #[test]
    fn files_that_a_killed_process_left_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path(), 0..64).save().unwrap();
        fs::write(directory.path().join("0000000099.ids"), b"half").unwrap();
        fs::write(directory.path().join("manifest.json.tmp"), b"half").unwrap();
        let dedup = Dedup::open(directory.path(), SIZES).unwrap();
        assert!(dedup.contains(&id(1)).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
