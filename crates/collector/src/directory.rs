//! Directories that one collector has at a time: two would send every event twice, and lose each other's places.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

/// Makes the directory if it isn't there, and locks it until the answer is dropped.
///
/// # Errors
/// If it can't be made or written, or another collector has it.
pub fn lock(dir: &Path, name: &str) -> io::Result<File> {
    fs::create_dir_all(dir)?;
    let file = File::create(dir.join(name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let problem = "another collector uses it; stop that one, or name another directory";
            Err(io::Error::new(io::ErrorKind::ResourceBusy, problem))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_collector_s() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("made");
        let first = lock(&dir, "lock").unwrap();
        let refused = lock(&dir, "lock").unwrap_err();
        assert!(refused.to_string().contains("another collector uses it"), "{refused}");
        lock(&dir, "other").unwrap();
        drop(first);
        lock(&dir, "lock").unwrap();
    }
}
