//! A journal's directory on a real file system, with the standard library's blocking calls.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::directory::Directory;
use crate::error::Error;
use crate::segment::FileName;
use crate::storage::{Completion, Failure, Operation, OperationId, Storage};
use crate::synced::Synced;

/// A directory, for recovery and for readers.
#[derive(Debug)]
pub struct FileDirectory {
    path: PathBuf,
    /// Held as long as this lives, by who writes.
    _lock: Option<File>,
    /// The file that was used last: calls come in runs.
    last: Option<(FileName, File)>,
    synced: Option<File>,
}

/// Makes a directory and those above it that aren't there, durably.
///
/// A directory that is there is synced, too: a process that was killed, or another thread, may have made it and not synced it yet.
///
/// # Errors
/// If one can't be made, or its name not be brought to stable storage.
pub fn create_directory(path: &Path) -> io::Result<()> {
    let named = || path.ancestors().filter(|path| !path.as_os_str().is_empty());
    let missing: Vec<_> = named().take_while(|path| !path.is_dir()).map(Path::to_owned).collect();
    fs::create_dir_all(path)?;
    for made in &missing {
        sync_name(made)?;
    }
    match named().nth(missing.len()).map(sync_name) {
        // Who may not read the directory above hasn't made this one.
        Some(Err(error)) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

/// Brings the name of a file or directory to stable storage.
fn sync_name(path: &Path) -> io::Result<()> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(above)?.sync_all()
}

impl FileDirectory {
    /// A directory that somebody else may be writing to: for readers.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), _lock: None, last: None, synced: None }
    }

    /// Makes the directory if it isn't there, and locks out all other writers until this is dropped.
    pub fn open_exclusive(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        create_directory(&path).map_err(Error::io("creating", None))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"));
        let lock = lock.map_err(Error::io("locking", None))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: Some(lock), last: None, synced: None }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked),
            Err(TryLockError::Error(source)) => Err(Error::io("locking", None)(source)),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&mut self, name: FileName) -> io::Result<&File> {
        // It is looked at between calls for other files.
        if name == FileName::Synced {
            if self.synced.is_none() {
                self.synced = Some(self.open_file(name, false)?);
            }
            return Ok(self.synced.as_ref().expect("it was just opened"));
        }
        if self.last.as_ref().is_none_or(|(last, _)| *last != name) {
            self.last = Some((name, self.open_file(name, false)?));
        }
        let (_, file) = self.last.as_ref().expect("it was just opened");
        Ok(file)
    }

    fn open_file(&self, name: FileName, create: bool) -> io::Result<File> {
        let is_writer = self._lock.is_some();
        OpenOptions::new().read(true).write(is_writer).create(create).open(self.join(name))
    }

    fn join(&self, name: FileName) -> PathBuf {
        self.path.join(name.to_string())
    }
}

impl Directory for FileDirectory {
    fn list(&mut self) -> io::Result<Vec<FileName>> {
        // A name may be another file's by now.
        (self.last, self.synced) = (None, None);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().to_str().and_then(FileName::parse));
        }
        Ok(names)
    }

    fn length(&mut self, file: FileName) -> io::Result<u64> {
        Ok(self.file(file)?.metadata()?.len())
    }

    fn read_at(&mut self, file: FileName, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let file = self.file(file)?;
        let mut filled = 0;
        while filled < out.len() {
            match file.read_at(&mut out[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, file: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if file == FileName::Synced && self.synced.is_none() {
            self.synced = Some(self.open_file(file, true)?);
        }
        self.file(file)?.write_all_at(bytes, offset)
    }

    fn sync(&mut self, file: FileName) -> io::Result<()> {
        self.file(file)?.sync_data()
    }

    fn release(&mut self, file: FileName, offset: u64) -> io::Result<()> {
        release(self.file(file)?, offset)
    }

    fn remove(&mut self, file: FileName) -> io::Result<()> {
        self.last = None;
        fs::remove_file(self.join(file))
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// A [`Storage`] that carries out each operation when it is started, and waits for it: for tools, the client's queue
/// and tests.
#[derive(Debug)]
pub struct FileStorage {
    path: PathBuf,
    open: BTreeMap<FileName, File>,
    completed: VecDeque<Completion>,
    /// Why the file `synced` couldn't be written: its next sync says so.
    unpublished: Option<io::Error>,
}

impl FileStorage {
    /// Of a directory that [`FileDirectory::open_exclusive`] has locked.
    pub fn new(directory: &FileDirectory) -> Self {
        Self {
            path: directory.path.clone(),
            open: BTreeMap::new(),
            completed: VecDeque::new(),
            unpublished: None,
        }
    }

    /// Completions, in the order in which their operations were started.
    pub fn next_completion(&mut self) -> Option<Completion> {
        self.completed.pop_front()
    }

    fn open_file(&mut self, name: FileName, create: bool) -> io::Result<usize> {
        let file = OpenOptions::new().write(true).create(create).truncate(create).open(self.join(name))?;
        self.open.insert(name, file);
        Ok(0)
    }

    fn opened(&self, name: FileName) -> io::Result<&File> {
        self.open.get(&name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn write_synced(&mut self, synced: Synced) -> io::Result<()> {
        if !self.open.contains_key(&FileName::Synced) {
            self.open_file(FileName::Synced, false)?;
        }
        self.opened(FileName::Synced)?.write_all_at(&synced.word_bytes(), Synced::WORD_AT as u64)
    }

    fn sync_synced(&mut self) -> io::Result<()> {
        match self.unpublished.take() {
            Some(error) => Err(error),
            None => self.opened(FileName::Synced)?.sync_data(),
        }
    }

    fn rename(&mut self, from: FileName, to: FileName) -> io::Result<usize> {
        fs::rename(self.join(from), self.join(to))?;
        if let Some(file) = self.open.remove(&from) {
            self.open.insert(to, file);
        }
        Ok(0)
    }

    fn join(&self, name: FileName) -> PathBuf {
        self.path.join(name.to_string())
    }
}

impl Storage for FileStorage {
    fn start(&mut self, id: OperationId, operation: Operation) {
        let mut returned = None;
        let result = match operation {
            Operation::Create { file, .. } => self.open_file(file, true).map_err(Failure::from),
            Operation::Open { file } => self.open_file(file, false).map_err(Failure::from),
            Operation::Write { file, offset, buffer, sync } => {
                let result = self.opened(file).and_then(|file| file.write_at(buffer.to_write(), offset));
                let whole = result.as_ref().is_ok_and(|&written| written == buffer.to_write().len());
                returned = Some(buffer);
                match self.opened(file) {
                    Ok(file) if sync && whole => match file.sync_data() {
                        Ok(()) => result.map_err(Failure::from),
                        Err(error) => Err(Failure::Sync(errno(&error))),
                    },
                    _ => result.map_err(Failure::from),
                }
            }
            Operation::Sync { file: FileName::Synced } => {
                self.sync_synced().map(|()| 0).map_err(Failure::from)
            }
            Operation::Sync { file } => {
                self.opened(file).and_then(|file| file.sync_data()).map(|()| 0).map_err(Failure::from)
            }
            Operation::Rename { from, to } => self.rename(from, to).map_err(Failure::from),
            Operation::Remove { file } => fs::remove_file(self.join(file)).map(|()| 0).map_err(Failure::from),
            Operation::Release { file, offset, .. } => {
                self.opened(file).and_then(|file| release(file, offset)).map(|()| 0).map_err(Failure::from)
            }
            Operation::Close { file } => {
                self.open.remove(&file);
                Ok(0)
            }
            Operation::SyncDirectory => File::open(&self.path)
                .and_then(|directory| directory.sync_all())
                .map(|()| 0)
                .map_err(Failure::from),
        };
        self.completed.push_back(Completion { id, result, buffer: returned });
    }

    fn publish(&mut self, synced: Synced) {
        self.unpublished = self.write_synced(synced).err();
    }
}

#[cfg(target_os = "linux")]
fn release(file: &File, offset: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let rest = file.metadata()?.len().saturating_sub(offset);
    Ok(fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, rest)?)
}

/// Elsewhere the space is kept.
#[cfg(not(target_os = "linux"))]
fn release(_: &File, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Operation(errno(&error))
    }
}

/// The system's number for an error; EIO for one that isn't the system's.
fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(5)
}
