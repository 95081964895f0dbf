//! Files that survive a power cut.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Writes a file so that either the old or the new content is there after a power cut.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_of(path);
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// Syncs the directory that holds `path`, so that its name is durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Makes a directory and those above it that are missing, durably.
pub fn create_directories(path: &Path) -> io::Result<()> {
    /// Directories whose names this process has brought to stable storage: a sync for each file would cost too much.
    static DURABLE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let durable = || DURABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if !path.is_dir() || !durable().contains(path) {
        tickstream_journal::create_directory(path)?;
        durable().insert(path.to_owned());
    }
    Ok(())
}

fn temporary_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}
