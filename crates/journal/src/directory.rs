//! A directory whose calls wait, for recovery and for readers.

use std::io;

use crate::segment::FileName;

/// A directory whose calls wait: for recovery, before anything is served, and for readers.
pub trait Directory {
    /// The journal's files, in any order.
    fn list(&mut self) -> io::Result<Vec<FileName>>;
    /// Length of a file, bytes.
    fn length(&mut self, file: FileName) -> io::Result<u64>;
    /// Fills `out` from `offset` on as far as the file goes, and says how far that was.
    fn read_at(&mut self, file: FileName, offset: u64, out: &mut [u8]) -> io::Result<usize>;
    /// Overwrites part of a file. [`FileName::Synced`] is made if it isn't there.
    fn write_at(&mut self, file: FileName, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// fdatasync of a file.
    fn sync(&mut self, file: FileName) -> io::Result<()>;
    /// Gives the space of a file from `offset` on, where it holds zeros, back to the file system; its length stays.
    fn release(&mut self, file: FileName, offset: u64) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, file: FileName) -> io::Result<()>;
    /// fsync of the directory.
    fn sync_directory(&mut self) -> io::Result<()>;
}

impl<D: Directory> Directory for &mut D {
    fn list(&mut self) -> io::Result<Vec<FileName>> {
        (**self).list()
    }

    fn length(&mut self, file: FileName) -> io::Result<u64> {
        (**self).length(file)
    }

    fn read_at(&mut self, file: FileName, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(file, offset, out)
    }

    fn write_at(&mut self, file: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).write_at(file, offset, bytes)
    }

    fn sync(&mut self, file: FileName) -> io::Result<()> {
        (**self).sync(file)
    }

    fn release(&mut self, file: FileName, offset: u64) -> io::Result<()> {
        (**self).release(file, offset)
    }

    fn remove(&mut self, file: FileName) -> io::Result<()> {
        (**self).remove(file)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        (**self).sync_directory()
    }
}
