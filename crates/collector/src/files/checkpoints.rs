//! Places up to which files were taken, kept over restarts.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::identity::Identity;

/// A file, and what was taken of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The path under which it was found.
    pub path: PathBuf,
    /// The file.
    pub identity: Identity,
    /// Its content since it was new or truncated: ids of events are made of this and their place.
    pub generation: String,
    /// Bytes that are taken.
    pub offset: u64,
}

/// The file of checkpoints of one source.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// In a directory, under a name.
    ///
    /// # Errors
    /// If the directory can't be made.
    pub fn open(dir: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { path: dir.join(format!("{name}.json")) })
    }

    /// Checkpoints that are there; none at the first start.
    ///
    /// # Errors
    /// If it can't be read: to begin anew would double every line.
    pub fn load(&self) -> io::Result<Vec<Checkpoint>> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Replaces it, so that a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn save(&self, checkpoints: &[Checkpoint]) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(checkpoints)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()
    }
}
