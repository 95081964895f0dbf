//! Ids of the newest events, to drop those that come again: exactly, in bounded memory.
//!
//! The newest ids are in a hash set. When it is full, they become a run: a sorted file with a Bloom filter in memory.
//! Small runs are merged into large ones; the oldest large run goes when more ids are kept than asked for. The filters
//! answer for nearly all new ids; the rest are looked up in the files.
//!
//! Files are written whole, synced and renamed. They are a copy of what the tables hold: if one is missing or damaged,
//! all are built again from the tables.

mod bloom;
mod run;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::hash::HashSet;
use serde::{Deserialize, Serialize};

pub use run::RunError;
use run::{Run, RunWriter};

/// Id of an event.
pub type EventId = [u8; 16];

const MANIFEST: &str = "manifest.json";

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

/// List of runs, oldest first, and the table's version whose ids they cover.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    version: u64,
    next: u64,
    runs: Vec<String>,
}

/// Ids of the newest events.
#[derive(Debug)]
pub struct Dedup {
    directory: PathBuf,
    sizes: Sizes,
    recent: HashSet<EventId>,
    /// Oldest first; large ones before small ones.
    runs: Vec<Run>,
    next_run: u64,
    /// Version of the table whose ids are all in the files.
    covered: Option<u64>,
    /// Version of the table whose ids are all known, and no others.
    version: u64,
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
        dedup.remove_strangers()?;
        Ok(dedup)
    }

    /// Opens the files in `directory` beside the process that writes them. What is inserted stays in memory.
    ///
    /// # Errors
    /// If files are damaged, or were removed meanwhile by that process: try again then.
    pub fn open_to_read(directory: impl Into<PathBuf>, sizes: Sizes) -> Result<Self, DedupError> {
        let directory = directory.into();
        let path = directory.join(MANIFEST);
        let manifest = match fs::read(&path) {
            Ok(bytes) => Some(
                serde_json::from_slice::<Manifest>(&bytes)
                    .map_err(|source| DedupError::Manifest { path: path.clone(), source })?,
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(DedupError::io("reading", &path)(error)),
        };
        let covered = manifest.as_ref().map(|manifest| manifest.version);
        let manifest = manifest.unwrap_or_default();
        let runs =
            manifest.runs.iter().map(|name| Run::open(&directory.join(name))).collect::<Result<_, _>>()?;
        let version = covered.unwrap_or_default();
        Ok(Self {
            directory,
            sizes,
            recent: HashSet::default(),
            runs,
            next_run: manifest.next,
            covered,
            version,
        })
    }

    /// Version of the table up to which all ids are in the files. Those of later versions must be inserted again.
    pub fn covered(&self) -> Option<u64> {
        self.covered
    }

    /// Ids that are known.
    pub fn len(&self) -> u64 {
        self.recent.len() as u64 + self.runs.iter().map(Run::len).sum::<u64>()
    }

    /// True if no id is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory for filters and recent ids, about.
    pub fn memory_bytes(&self) -> usize {
        self.recent.capacity() * 17 + self.runs.iter().map(Run::memory_bytes).sum::<usize>()
    }

    /// True if the id is known.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn contains(&self, id: &EventId) -> Result<bool, DedupError> {
        if self.recent.contains(id) {
            return Ok(true);
        }
        let hash = bloom::hash(id);
        for run in self.runs.iter().rev() {
            if run.may_contain(hash) && run.contains(id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Version of the table whose ids are known.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Remembers the ids that a version of the table added. [`Dedup::settle`] moves them into files when there are many.
    pub fn insert(&mut self, ids: impl IntoIterator<Item = EventId>, version: u64) {
        self.recent.extend(ids);
        self.version = version;
    }

    /// Writes recent ids into a file if there are many.
    ///
    /// # Errors
    /// If a file can't be written; the ids are still known.
    pub fn settle(&mut self) -> Result<(), DedupError> {
        if self.recent.len() < self.sizes.recent { Ok(()) } else { self.save() }
    }

    /// As [`Dedup::settle`], while not all ids of the version are known yet: after a kill, the files don't count.
    ///
    /// # Errors
    /// If a file can't be written; the ids are still known.
    pub fn spill(&mut self) -> Result<(), DedupError> {
        if self.recent.len() < self.sizes.recent { Ok(()) } else { self.write_recent() }
    }

    /// Writes all recent ids into a file.
    ///
    /// # Errors
    /// If a file can't be written; the ids are still known.
    pub fn save(&mut self) -> Result<(), DedupError> {
        if self.covered == Some(self.version) && self.recent.is_empty() {
            return Ok(());
        }
        self.write_recent()?;
        self.write_manifest()?;
        self.covered = Some(self.version);
        self.remove_strangers()
    }

    fn write_recent(&mut self) -> Result<(), DedupError> {
        if !self.recent.is_empty() {
            let mut ids: Vec<_> = self.recent.iter().copied().collect();
            ids.sort_unstable();
            let mut writer = self.new_run(ids.len() as u64)?;
            ids.into_iter().try_for_each(|id| writer.push(id))?;
            self.runs.push(writer.finish()?);
            self.recent.clear();
        }
        self.merge()?;
        self.forget();
        Ok(())
    }

    fn new_run(&mut self, ids: u64) -> Result<RunWriter, DedupError> {
        let path = self.directory.join(format!("{:010}.ids", self.next_run));
        self.next_run += 1;
        Ok(RunWriter::create(&path, ids)?)
    }

    /// Merges the newest runs, while there are many of them that aren't large.
    fn merge(&mut self) -> Result<(), DedupError> {
        let large = (self.sizes.recent * self.sizes.fan_in) as u64;
        let small = self.runs.iter().rev().take_while(|run| run.len() < large).count();
        if small < self.sizes.fan_in {
            return Ok(());
        }
        let first = self.runs.len() - small;
        let mut writer = self.new_run(self.runs[first..].iter().map(Run::len).sum())?;
        // They stay known if this fails.
        run::merge(&self.runs[first..], &mut writer)?;
        let merged = writer.finish()?;
        self.runs.truncate(first);
        self.runs.push(merged);
        Ok(())
    }

    fn forget(&mut self) {
        while self.runs.first().is_some_and(|oldest| self.len() - oldest.len() >= self.sizes.kept) {
            self.runs.remove(0);
        }
    }

    fn write_manifest(&self) -> Result<(), DedupError> {
        let runs = self.runs.iter().map(|run| run.name().to_owned()).collect();
        let manifest = Manifest { version: self.version, next: self.next_run, runs };
        let bytes = serde_json::to_vec(&manifest).expect("texts and numbers have JSON");
        let path = self.directory.join(MANIFEST);
        crate::store::files::write_synced(&path, &bytes).map_err(DedupError::io("writing", &path))
    }

    /// Removes files that aren't in the list: those that were merged, and what a killed process left.
    fn remove_strangers(&self) -> Result<(), DedupError> {
        let entries = fs::read_dir(&self.directory).map_err(DedupError::io("listing", &self.directory))?;
        for entry in entries {
            let entry = entry.map_err(DedupError::io("listing", &self.directory))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_known = name == MANIFEST || self.runs.iter().any(|run| run.name() == name);
            if !is_known && (name.ends_with(".ids") || name.ends_with(".tmp")) {
                fs::remove_file(entry.path()).map_err(DedupError::io("removing", &entry.path()))?;
            }
        }
        Ok(())
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
