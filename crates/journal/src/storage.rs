//! A disk as a running journal uses it: operations that are started and complete later.

use crate::buffer::Buffer;
use crate::segment::FileName;
use crate::synced::Synced;

/// Kind of an operation of a journal. There is at most one of each on the way, so it is all the name that an
/// operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum OperationId {
    /// Renaming and writing for records.
    Commit = 0,
    /// Makes the name of a new segment durable.
    Directory = 1,
    /// Makes the next segment ready.
    Prepare = 2,
    /// Removes the oldest segment.
    Remove = 3,
    /// Opens the segment that recovery found, closes those that are full.
    Handle = 4,
}

impl OperationId {
    /// All of them: the most operations of one journal that are ever on the way together.
    pub const ALL: [Self; 5] = [Self::Commit, Self::Directory, Self::Prepare, Self::Remove, Self::Handle];

    /// The one with this number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// Something to do in the journal's directory. Each is one system call, or one submission to an io_uring.
#[derive(Debug)]
pub enum Operation {
    /// Opens a new, empty file for writing; an old one of this name is emptied.
    Create {
        /// Its name.
        file: FileName,
        /// Its final length, bytes. All of it is written, in order; it may be allocated now.
        bytes: u64,
    },
    /// Opens an existing file for writing.
    Open {
        /// Its name.
        file: FileName,
    },
    /// Writes [`Buffer::to_write`] to an open file.
    Write {
        /// The file.
        file: FileName,
        /// Offset, bytes from its start; a multiple of [`BLOCK`](crate::BLOCK).
        offset: u64,
        /// The bytes to write.
        buffer: Buffer,
        /// True if an fdatasync follows once all of it was written: as a linked operation, or as RWF_DSYNC. Both
        /// are one completion.
        sync: bool,
    },
    /// fdatasync of an open file; [`FileName::Synced`] counts as open.
    Sync {
        /// The file.
        file: FileName,
    },
    /// Gives a file another name. It stays open, under the new name.
    Rename {
        /// The old name.
        from: FileName,
        /// The new name, which no file has.
        to: FileName,
    },
    /// Removes a file that isn't open.
    Remove {
        /// Its name.
        file: FileName,
    },
    /// Gives the space of an open file from `offset` on, where it holds zeros, back to the file system; its length stays.
    /// A file system that can't do it refuses.
    Release {
        /// The file.
        file: FileName,
        /// From where on, bytes.
        offset: u64,
        /// Length: to the end of the file, bytes.
        bytes: u64,
    },
    /// Closes an open file.
    Close {
        /// The file.
        file: FileName,
    },
    /// fsync of the directory.
    SyncDirectory,
}

/// Outcome of an operation.
#[derive(Debug)]
pub struct Completion {
    /// Its kind.
    pub id: OperationId,
    /// For a write, the bytes that were written; a short one with `sync` wasn't synced. 0 for all others.
    pub result: Result<usize, Failure>,
    /// The buffer of a write, always.
    pub buffer: Option<Buffer>,
}

/// An operation that didn't do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The operation itself failed with this errno.
    Operation(i32),
    /// The write of a [`Operation::Write`] with `sync` was done, the sync failed with this errno.
    Sync(i32),
}

/// A disk whose operations complete later.
///
/// Operations of different ids may be carried out in any order and at the same time.
pub trait Storage {
    /// Starts an operation and doesn't wait for it. Its completion goes to
    /// [`Journal::completed`](crate::Journal::completed); an operation that can't even be started completes with
    /// [`Failure::Operation`].
    fn start(&mut self, id: OperationId, operation: Operation);

    /// Writes [`Synced::word`] into the file `synced`, which recovery has made, where readers see it at once. Doesn't
    /// wait for the disk: [`Operation::Sync`] of [`FileName::Synced`] does.
    fn publish(&mut self, synced: Synced);
}
