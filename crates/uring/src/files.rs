//! The journal's files on the shard's ring: what the journal starts becomes submissions, and their completions come
//! with those of sockets, so that one system call drives both.
//!
//! Files are opened with O_DIRECT where the file system has it. A write that is to be synced is linked to its
//! fdatasync: the kernel begins the second when the first has written all it was given.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tickstream_journal::{Buffer, Completion, Failure, FileName, Operation, OperationId, Synced};

use super::synced::SyncedFile;

/// The file in a journal's directory that keeps other writers out.
const LOCK: &str = "lock";

/// The files of one journal.
pub(crate) struct Files {
    directory: OwnedFd,
    /// O_DIRECT, or nothing where the file system refuses it.
    direct: i32,
    open: Vec<(FileName, OwnedFd)>,
    synced: SyncedFile,
    /// By [`OperationId`].
    underway: [Option<Underway>; OperationId::ALL.len()],
}

/// An operation that the kernel works on, with all that its submissions point to.
struct Underway {
    kind: Kind,
    /// Names that the kernel reads.
    _paths: Vec<CString>,
    buffer: Option<Buffer>,
    /// Submissions that haven't completed.
    left: u8,
    /// Of the write or whatever came first.
    first: Result<usize, i32>,
    /// Of the fdatasync behind a write.
    sync: Result<(), i32>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Opened(FileName),
    Renamed { from: FileName, to: FileName },
    Other,
}

/// One of the submissions of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    First = 0,
    Sync = 1,
}

/// Submissions of one operation, in order; two are linked.
pub(crate) type Submissions = Vec<(squeue::Entry, Step)>;

impl Files {
    /// Those in `directory`, which is open. Tries whether they can be opened with O_DIRECT.
    ///
    /// # Errors
    /// If its lock or the file `synced` can't be opened.
    pub fn new(directory: OwnedFd) -> io::Result<Self> {
        let direct = probe_direct(&directory)?;
        let synced = SyncedFile::open(&directory)?;
        let underway = [const { None }; OperationId::ALL.len()];
        Ok(Self { directory, direct, open: Vec::new(), synced, underway })
    }

    /// Shows readers how far records are on stable storage.
    pub fn publish(&mut self, synced: Synced) {
        self.synced.publish(synced);
    }

    /// The submissions of `operation`. Its memory is held until [`Files::completed`] has told all of it; of an operation that
    /// can't be begun the completion is returned.
    ///
    /// # Panics
    /// If one of this id hasn't completed: what the kernel reads would be freed.
    pub fn start(&mut self, id: OperationId, operation: Operation) -> Result<Submissions, Completion> {
        assert!(self.underway[id as usize].is_none(), "{id:?} is on its way already");
        let mut underway = Underway {
            kind: Kind::Other,
            _paths: Vec::new(),
            buffer: None,
            left: 1,
            first: Ok(0),
            sync: Ok(()),
        };
        let directory = Fd(self.directory.as_raw_fd());
        let first = match operation {
            Operation::Create { file, .. } => {
                underway.kind = Kind::Opened(file);
                let flags = libc::O_CREAT | libc::O_TRUNC;
                self.open_at(directory, file, flags, &mut underway)
            }
            Operation::Open { file } => {
                underway.kind = Kind::Opened(file);
                self.open_at(directory, file, 0, &mut underway)
            }
            Operation::Write { file, offset, buffer, sync } => {
                let Some(fd) = self.fd(file) else { return Err(not_open(id, Some(buffer))) };
                let submissions = write(fd, offset, &buffer, sync);
                underway.left = submissions.len() as u8;
                underway.buffer = Some(buffer);
                self.underway[id as usize] = Some(underway);
                return Ok(submissions);
            }
            Operation::Sync { file: FileName::Synced } => match self.synced.take_failure() {
                None => data_sync(self.synced.fd()),
                Some(errno) => {
                    return Err(Completion { id, result: Err(Failure::Operation(errno)), buffer: None });
                }
            },
            Operation::Sync { file } => match self.fd(file) {
                Some(fd) => data_sync(fd),
                None => return Err(not_open(id, None)),
            },
            Operation::Rename { from, to } => {
                underway.kind = Kind::Renamed { from, to };
                let paths = [path(from), path(to)];
                let rename =
                    opcode::RenameAt::new(directory, paths[0].as_ptr(), directory, paths[1].as_ptr());
                underway._paths = paths.into();
                rename.build()
            }
            Operation::Remove { file } => {
                let path = path(file);
                let remove = opcode::UnlinkAt::new(directory, path.as_ptr()).build();
                underway._paths = vec![path];
                remove
            }
            Operation::Release { file, offset, bytes } => {
                let Some(fd) = self.fd(file) else { return Err(not_open(id, None)) };
                punch_hole(fd, offset, bytes)
            }
            Operation::Close { file } => {
                let Some(at) = self.open.iter().position(|(name, _)| *name == file) else {
                    return Err(not_open(id, None));
                };
                // The kernel closes it.
                let fd = self.open.swap_remove(at).1.into_raw_fd();
                opcode::Close::new(Fd(fd)).build()
            }
            Operation::SyncDirectory => opcode::Fsync::new(directory).build(),
        };
        self.underway[id as usize] = Some(underway);
        Ok(vec![(first, Step::First)])
    }

    /// One submission of an operation completed; answers once all of it has. A new descriptor is in `result`, and
    /// `take` makes it ours.
    pub fn completed(
        &mut self,
        id: OperationId,
        step: Step,
        result: i32,
        take: impl FnOnce(RawFd) -> OwnedFd,
    ) -> Option<Completion> {
        let underway = self.underway[id as usize].as_mut()?;
        let outcome = if result < 0 { Err(-result) } else { Ok(result as usize) };
        match step {
            Step::First => underway.first = outcome,
            Step::Sync => underway.sync = outcome.map(drop),
        }
        underway.left -= 1;
        if underway.left > 0 {
            return None;
        }
        let Underway { kind, buffer, first, sync, .. } = self.underway[id as usize].take()?;
        match (kind, first) {
            (Kind::Opened(file), Ok(fd)) => self.open.push((file, take(fd as RawFd))),
            (Kind::Renamed { from, to }, Ok(_)) => {
                for (name, _) in self.open.iter_mut().filter(|(name, _)| *name == from) {
                    *name = to;
                }
            }
            _ => {}
        }
        let written = buffer.as_ref().map(|buffer| buffer.to_write().len());
        let result = match (first, sync) {
            (Err(errno), _) => Err(Failure::Operation(errno)),
            (Ok(bytes), _) if written.is_some_and(|all| bytes < all) => Ok(bytes),
            (Ok(_), Err(errno)) => Err(Failure::Sync(errno)),
            (Ok(bytes), Ok(())) => Ok(if written.is_some() { bytes } else { 0 }),
        };
        Some(Completion { id, result, buffer })
    }

    fn open_at(&self, directory: Fd, file: FileName, flags: i32, underway: &mut Underway) -> squeue::Entry {
        let path = path(file);
        let flags = flags | libc::O_RDWR | libc::O_CLOEXEC | self.direct;
        let open = opcode::OpenAt::new(directory, path.as_ptr()).flags(flags).mode(0o600).build();
        underway._paths = vec![path];
        open
    }

    fn fd(&self, file: FileName) -> Option<RawFd> {
        self.open.iter().find(|(name, _)| *name == file).map(|(_, fd)| fd.as_raw_fd())
    }
}

impl Drop for Files {
    /// The kernel may still read from what it was given: such memory is left to it.
    fn drop(&mut self) {
        self.underway.iter_mut().filter_map(Option::take).for_each(std::mem::forget);
    }
}

/// A write, and the fdatasync that is linked to it if it is to be synced.
fn write(fd: RawFd, offset: u64, buffer: &Buffer, sync: bool) -> Submissions {
    let bytes = buffer.to_write();
    let write = opcode::Write::new(Fd(fd), bytes.as_ptr(), bytes.len() as u32).offset(offset).build();
    if !sync {
        return vec![(write, Step::First)];
    }
    vec![(write.flags(squeue::Flags::IO_LINK), Step::First), (data_sync(fd), Step::Sync)]
}

/// Gives blocks of a file back to its file system.
fn punch_hole(fd: RawFd, offset: u64, bytes: u64) -> squeue::Entry {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    opcode::Fallocate::new(Fd(fd), bytes).offset(offset).mode(mode).build()
}

fn data_sync(fd: RawFd) -> squeue::Entry {
    opcode::Fsync::new(Fd(fd)).flags(FsyncFlags::DATASYNC).build()
}

fn path(file: FileName) -> CString {
    CString::new(file.to_string()).expect("no name of a journal's file has a NUL")
}

fn not_open(id: OperationId, buffer: Option<Buffer>) -> Completion {
    Completion { id, result: Err(Failure::Operation(libc::EBADF)), buffer }
}

/// O_DIRECT if files in `directory` can be opened with it, otherwise 0. There is a file: the one that locks it.
fn probe_direct(directory: &OwnedFd) -> io::Result<i32> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::DIRECT;
    match rustix::fs::openat(directory, LOCK, flags, Mode::empty()) {
        Ok(_) => Ok(libc::O_DIRECT),
        Err(Errno::INVAL) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOCK), "").unwrap();
        std::fs::write(folder.path().join("synced"), "").unwrap();
        let directory = std::fs::File::open(folder.path()).unwrap();
        (folder, Files::new(directory.into()).unwrap())
    }

    fn no_descriptor(_: RawFd) -> OwnedFd {
        panic!("no descriptor was opened")
    }

    /// A write with its sync, and how its two completions add up.
    #[test]
    fn a_synced_write_is_what_both_its_halves_say() {
        let check = |write: i32, sync: i32, expected: Result<usize, Failure>| {
            for sync_first in [false, true] {
                let (_folder, mut files) = files();
                files.open.push((FileName::Next, std::fs::File::open("/dev/null").unwrap().into()));
                let operation = Operation::Write {
                    file: FileName::Next,
                    offset: 0,
                    buffer: Buffer::new(8192),
                    sync: true,
                };
                let submissions = files.start(OperationId::Commit, operation).unwrap();
                assert_eq!(submissions.len(), 2);
                let mut steps = [(Step::First, write), (Step::Sync, sync)];
                if sync_first {
                    steps.reverse();
                }
                let [(one, result), (other, last)] = steps;
                assert!(files.completed(OperationId::Commit, one, result, no_descriptor).is_none());
                let done = files.completed(OperationId::Commit, other, last, no_descriptor).unwrap();
                assert_eq!((done.result, done.buffer.is_some()), (expected, true));
            }
        };
        check(0, 0, Ok(0));
        check(0, -libc::EIO, Err(Failure::Sync(libc::EIO)));
        check(-libc::ENOSPC, -libc::ECANCELED, Err(Failure::Operation(libc::ENOSPC)));
    }

    #[test]
    fn what_is_not_open_fails_at_once_and_gives_the_buffer_back() {
        let (_folder, mut files) = files();
        let operation =
            Operation::Write { file: FileName::Next, offset: 0, buffer: Buffer::new(4096), sync: false };
        let refused = files.start(OperationId::Prepare, operation).unwrap_err();
        assert_eq!(refused.result, Err(Failure::Operation(libc::EBADF)));
        assert!(refused.buffer.is_some());
    }

    #[test]
    fn a_file_keeps_open_under_its_new_name() {
        let (_folder, mut files) = files();
        let open = |_| std::fs::File::open("/dev/null").unwrap().into();
        files.start(OperationId::Prepare, Operation::Create { file: FileName::Next, bytes: 4096 }).unwrap();
        assert_eq!(files.completed(OperationId::Prepare, Step::First, 7, open).unwrap().result, Ok(0));
        let to = FileName::Segment(1);
        files.start(OperationId::Commit, Operation::Rename { from: FileName::Next, to }).unwrap();
        files.completed(OperationId::Commit, Step::First, 0, no_descriptor).unwrap();
        assert!(files.fd(FileName::Next).is_none() && files.fd(to).is_some());
    }
}
