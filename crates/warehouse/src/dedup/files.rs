//! Runs of ids and the list of them, on disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::run::{self, Run, RunWriter};
use super::{DedupError, EventId, Sizes, bloom};
use crate::hash::HashSet;

const MANIFEST: &str = "manifest.json";

/// List of runs, oldest first, and the table's version whose ids they cover.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    version: u64,
    next: u64,
    runs: Vec<String>,
}

/// Runs of a directory.
#[derive(Clone, Debug)]
pub struct Files {
    directory: PathBuf,
    /// Oldest first; large ones before small ones.
    runs: Vec<Arc<Run>>,
    next_run: u64,
    /// Version of the table whose ids are all in the files.
    covered: Option<u64>,
}

impl Files {
    /// Reads the runs that the list names; without a list, there are none.
    pub fn open(directory: PathBuf) -> Result<Self, DedupError> {
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
        let open = |name: &String| Run::open(&directory.join(name)).map(Arc::new);
        let runs = manifest.runs.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { directory, runs, next_run: manifest.next, covered })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn covered(&self) -> Option<u64> {
        self.covered
    }

    pub fn len(&self) -> u64 {
        self.runs.iter().map(|run| run.len()).sum()
    }

    pub fn memory_bytes(&self) -> usize {
        self.runs.iter().map(|run| run.memory_bytes()).sum()
    }

    pub fn contains(&self, id: &EventId) -> Result<bool, DedupError> {
        let hash = bloom::hash(id);
        for run in self.runs.iter().rev() {
            if run.may_contain(hash) && run.contains(id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes ids as a run, and merges the newest runs while there are many of them that aren't large. Ids beyond those
    /// that are kept go.
    pub fn add(&mut self, ids: &HashSet<EventId>, sizes: Sizes) -> Result<(), DedupError> {
        if !ids.is_empty() {
            let mut ids: Vec<_> = ids.iter().copied().collect();
            ids.sort_unstable_by_key(|id| u128::from_be_bytes(*id));
            let mut writer = self.new_run(ids.len() as u64)?;
            ids.into_iter().try_for_each(|id| writer.push(id))?;
            self.runs.push(Arc::new(writer.finish()?));
        }
        self.merge(sizes)?;
        while self.runs.first().is_some_and(|oldest| self.len() - oldest.len() >= sizes.kept) {
            self.runs.remove(0);
        }
        Ok(())
    }

    fn new_run(&mut self, ids: u64) -> Result<RunWriter, DedupError> {
        let path = self.directory.join(format!("{:010}.ids", self.next_run));
        self.next_run += 1;
        Ok(RunWriter::create(&path, ids)?)
    }

    fn merge(&mut self, sizes: Sizes) -> Result<(), DedupError> {
        let large = (sizes.recent * sizes.fan_in) as u64;
        let small = self.runs.iter().rev().take_while(|run| run.len() < large).count();
        if small < sizes.fan_in {
            return Ok(());
        }
        let first = self.runs.len() - small;
        let mut writer = self.new_run(self.runs[first..].iter().map(|run| run.len()).sum())?;
        // They stay known if this fails.
        run::merge(&self.runs[first..], &mut writer)?;
        let merged = writer.finish()?;
        self.runs.truncate(first);
        self.runs.push(Arc::new(merged));
        Ok(())
    }

    /// Writes the list: the runs have all ids of this version of the table.
    pub fn cover(&mut self, version: u64) -> Result<(), DedupError> {
        let runs = self.runs.iter().map(|run| run.name().to_owned()).collect();
        let manifest = Manifest { version, next: self.next_run, runs };
        let bytes = serde_json::to_vec(&manifest).expect("texts and numbers have JSON");
        let path = self.directory.join(MANIFEST);
        crate::store::files::write_synced(&path, &bytes).map_err(DedupError::io("writing", &path))?;
        self.covered = Some(version);
        self.remove_strangers()
    }

    /// Removes files that aren't in the list: those that were merged, and what a killed process left.
    pub fn remove_strangers(&self) -> Result<(), DedupError> {
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
