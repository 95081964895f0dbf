//! One loader for each state directory: its files of ids are one process's.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};

use super::{StoreError, Tables};

const NAME: &str = "loader.lock";

/// Lock of a loader; it ends with the process, however that ends.
#[derive(Debug)]
pub struct LoaderLock(#[expect(dead_code, reason = "the lock ends with the file")] File);

impl LoaderLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`StoreError::Loading`] if another process has it.
    pub fn take(tables: &Tables) -> Result<Self, StoreError> {
        let path = tables.state().join(NAME);
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.map_err(StoreError::state("opening", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(StoreError::Loading { path, holder });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::state("locking", &path)(error)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "process {}", std::process::id())
        };
        write(&mut file).map_err(StoreError::state("writing", &path))?;
        Ok(Self(file))
    }
}
