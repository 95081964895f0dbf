//! The journal's file `synced`: a shard says there how far its records are on stable storage, after each commit group.
//!
//! The file is mapped where a store into it can't fail, and costs 20 ns then. Elsewhere it is written: 3 µs, and
//! sometimes a wait for the file system's own journal (docs/decisions/0021-journal-for-readers.md has the figures).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use tickstream_journal::{FileName, Synced};

/// File systems that write a block that has its place always to that place: ext4 and XFS, as statfs(2) calls them
/// (`linux/magic.h`). Others may have no space for it, which would be a SIGBUS.
const MAPPED_ON: [i64; 2] = [0xef53, 0x5846_5342];

/// The file, open for writing.
pub(super) struct SyncedFile {
    file: File,
    map: Option<Map>,
    /// Why it couldn't be written the last time.
    failed: Option<i32>,
}

/// The whole file in memory, shared with all who read it.
struct Map(NonNull<AtomicU64>);

impl SyncedFile {
    /// The one in a journal's directory; recovery has made it.
    ///
    /// # Errors
    /// If it can't be opened or mapped.
    pub fn open(directory: &OwnedFd) -> io::Result<Self> {
        let name = FileName::Synced.to_string();
        let file: File =
            rustix::fs::openat(directory, name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?.into();
        #[allow(clippy::unnecessary_cast, reason = "its type isn't the same on all architectures")]
        let kind = rustix::fs::fstatfs(&file)?.f_type as i64;
        let is_whole = file.metadata()?.len() >= Synced::FILE_LEN as u64;
        let map = if is_whole && MAPPED_ON.contains(&kind) { Some(Map::new(&file)?) } else { None };
        Ok(Self { file, map, failed: None })
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Shows readers how far records are on stable storage.
    pub fn publish(&mut self, synced: Synced) {
        match &self.map {
            Some(map) => map.store(synced.word()),
            None => {
                let written = self.file.write_all_at(&synced.word_bytes(), Synced::WORD_AT as u64);
                self.failed = written.err().map(|error| error.raw_os_error().unwrap_or(libc::EIO));
            }
        }
    }

    /// Why the last word isn't in the file, once.
    pub fn take_failure(&mut self) -> Option<i32> {
        self.failed.take()
    }
}

impl Map {
    fn new(file: &File) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping wherever the kernel puts it; no memory of ours is touched.
        let map = unsafe {
            libc::mmap(ptr::null_mut(), Synced::FILE_LEN, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(NonNull::new(map.cast()).expect("the kernel maps nothing at 0")))
    }

    fn store(&self, word: [u64; 2]) {
        for (index, value) in word.into_iter().enumerate() {
            // SAFETY: the mapping is FILE_LEN bytes long, page-aligned, and lives as long as this value; WORD_AT is a
            // multiple of 8, and two words fit behind it. Other processes map or read it as they like: it is atomic.
            // The file isn't cut by anyone who keeps to docs/journal.md.
            let word = unsafe { self.0.add(Synced::WORD_AT / 8 + index).as_ref() };
            word.store(value.to_le(), Ordering::Release);
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; nothing borrows from it.
        unsafe { libc::munmap(self.0.as_ptr().cast(), Synced::FILE_LEN) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_in_the_file_at_once_mapped_or_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("synced");
        std::fs::write(&path, [0; Synced::FILE_LEN]).unwrap();
        let directory: OwnedFd = File::open(folder.path()).unwrap().into();
        let mut file = SyncedFile::open(&directory).unwrap();
        for is_mapped in [true, false] {
            file.map = if is_mapped { Some(Map::new(&file.file).unwrap()) } else { None };
            let synced = Synced {
                journal: tickstream_journal::JournalId([1; 16]),
                sequence: 5 + u64::from(is_mapped),
            };
            file.publish(synced);
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(bytes[Synced::WORD_AT..Synced::WORD_AT + 16], synced.word_bytes());
            assert_eq!(file.take_failure(), None);
        }
    }
}
