//! The lock of a journal directory: one server writes there, or several that all asked to share it.
//!
//! The kernel holds it (flock) for as long as a process has the descriptor, so that it never outlives them. An upgrade hands the
//! descriptor over: old and new process hold the same lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{env, io};

use socket2::SockRef;

use crate::ring;

/// The variable by which a process hands the descriptor to the next.
pub const HANDED_OVER: &str = "TICKSTREAM_JOURNAL_LOCK";
/// The locked file, in the directory.
const FILE: &str = "server.lock";

/// The lock of a directory, held.
#[derive(Debug)]
pub struct JournalLock(File);

/// A lock that can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum JournalLockError {
    /// Another server has it.
    #[error(
        "another server writes to the journals in {}; stop it, replace it with `upgrade`, take another directory, or set \
         listen_shared = \"yes\" for both, if they are to share it",
        .0.display()
    )]
    Taken(PathBuf),
    /// The directory is a single journal.
    #[error("{} is the journal of one shard; name the directory that holds the journals, or another one", .0.display())]
    OfOneShard(PathBuf),
    /// The file can't be opened or locked.
    #[error("the journals in {} can't be locked: {source}", .path.display())]
    System {
        /// The directory.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl JournalLock {
    /// Locks `directory`, which is made if it isn't there; with the descriptor of the process before this one, if that handed
    /// one over.
    ///
    /// # Errors
    /// If another server has it, unless that and this one are to share it; if it is a shard's journal.
    pub fn take(directory: &Path, is_shared: bool) -> Result<Self, JournalLockError> {
        let system = |source| JournalLockError::System { path: directory.to_owned(), source };
        tickstream_journal::create_directory(directory).map_err(system)?;
        // The lock of a journal: its shard's journal would be another server's here.
        if directory.join("lock").exists() {
            return Err(JournalLockError::OfOneShard(directory.to_owned()));
        }
        let path = directory.join(FILE);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(system)?;
        let file = inherited().filter(|inherited| is_same(inherited, &file)).unwrap_or(file);
        let locked = if is_shared { file.try_lock_shared() } else { file.try_lock() };
        match locked {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(JournalLockError::Taken(directory.to_owned())),
            Err(TryLockError::Error(source)) => Err(system(source)),
        }
    }
}

impl AsFd for JournalLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The descriptor of the process before this one.
fn inherited() -> Option<File> {
    let fd = env::var(HANDED_OVER).ok()?.parse::<RawFd>().ok()?;
    let fd = ring::take_descriptor(fd).ok()?;
    SockRef::from(&fd).set_cloexec(true).ok()?;
    Some(fd.into())
}

fn is_same(one: &File, other: &File) -> bool {
    let id = |file: &File| file.metadata().map(|found| (found.dev(), found.ino())).ok();
    id(one).is_some() && id(one) == id(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_server_or_several_that_share_it() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/journals");
        let take = |is_shared| JournalLock::take(&directory, is_shared);
        let is_taken =
            |is_shared| matches!(take(is_shared), Err(JournalLockError::Taken(path)) if path == directory);
        let alone = take(false).unwrap();
        assert!(is_taken(false) && is_taken(true));
        drop(alone);
        let shared = [take(true).unwrap(), take(true).unwrap()];
        assert!(is_taken(false));
        drop(shared);
        take(false).unwrap();
        let shard = directory.join("000");
        std::fs::create_dir(&shard).unwrap();
        std::fs::write(shard.join("lock"), "").unwrap();
        assert!(
            matches!(JournalLock::take(&shard, false), Err(JournalLockError::OfOneShard(path)) if path == shard)
        );
    }
}
