//! A sorted file of ids. Layout: 8 bytes of magic, 8 bytes count, little-endian; the ids; CRC32C of all before it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::EventId;
use super::bloom::{self, Bloom};

const MAGIC: [u8; 8] = *b"TSIDRUN1";
const HEADER: usize = 16;
/// Ids between two that are kept in memory: 4 KiB of the file.
const BLOCK: usize = 256;

/// Failure of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The file can't be read or written.
    #[error("{action} {}", .path.display())]
    Io {
        /// Operation that failed.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The file isn't what was written.
    #[error("{} is damaged; remove its directory, so that the ids are read from the tables again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

impl RunError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// A file of ids, whose filter is in memory.
#[derive(Debug)]
pub struct Run {
    path: PathBuf,
    file: File,
    count: u64,
    bloom: Bloom,
    /// The first id of each block.
    fences: Vec<EventId>,
}

impl Run {
    /// Reads the whole file, and checks it.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let file = File::open(path).map_err(RunError::io("opening", path))?;
        let mut reader = BufReader::with_capacity(1 << 20, &file);
        let damaged = || RunError::Damaged { path: path.to_owned() };
        let mut read = |bytes: &mut [u8]| match reader.read_exact(bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(damaged()),
            other => other.map_err(RunError::io("reading", path)),
        };
        let mut header = [0; HEADER];
        read(&mut header)?;
        let count = u64::from_le_bytes(header[8..].try_into().expect("eight bytes"));
        let length = file.metadata().map_err(RunError::io("reading", path))?.len();
        let expected = count.checked_mul(16).and_then(|bytes| bytes.checked_add(HEADER as u64 + 4));
        if header[..8] != MAGIC || expected != Some(length) {
            return Err(damaged());
        }
        let mut index = Index::new(count);
        let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        crc.update(&header);
        for _ in 0..count {
            let mut id = [0; 16];
            read(&mut id)?;
            crc.update(&id);
            index.push(id);
        }
        let mut found = [0; 4];
        read(&mut found)?;
        if crc.finalize() as u32 != u32::from_le_bytes(found) {
            return Err(damaged());
        }
        Ok(Self { path: path.to_owned(), file, count, bloom: index.bloom, fences: index.fences })
    }

    /// Name of the file.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Ids in it.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        self.bloom.memory_bytes() + self.fences.len() * 16
    }

    /// True if an id with this hash may be in it.
    pub fn may_contain(&self, hash: u128) -> bool {
        self.bloom.may_contain(hash)
    }

    /// True if the id is in it.
    pub fn contains(&self, id: &EventId) -> Result<bool, RunError> {
        let Some(block) = self.fences.partition_point(|first| first <= id).checked_sub(1) else {
            return Ok(false);
        };
        let start = block * BLOCK;
        let ids = (self.count as usize - start).min(BLOCK);
        let mut bytes = [0; BLOCK * 16];
        let bytes = &mut bytes[..ids * 16];
        self.file
            .read_exact_at(bytes, (HEADER + start * 16) as u64)
            .map_err(RunError::io("reading", &self.path))?;
        let (ids, _) = bytes.as_chunks::<16>();
        Ok(ids.binary_search(id).is_ok())
    }

    fn ids(&self) -> Result<impl Iterator<Item = io::Result<EventId>> + use<>, RunError> {
        let file = File::open(&self.path).map_err(RunError::io("opening", &self.path))?;
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut header = [0; HEADER];
        reader.read_exact(&mut header).map_err(RunError::io("reading", &self.path))?;
        Ok((0..self.count).map(move |_| {
            let mut id = [0; 16];
            reader.read_exact(&mut id).map(|()| id)
        }))
    }
}

/// Merges sorted runs into one; an id that is in several of them comes once.
pub fn merge(runs: &[Arc<Run>], writer: &mut RunWriter) -> Result<(), RunError> {
    let mut sources = Vec::with_capacity(runs.len());
    for run in runs {
        let mut ids = run.ids()?;
        let first = ids.next().transpose().map_err(RunError::io("reading", &run.path))?;
        sources.push((first, ids, &run.path));
    }
    let mut last = None;
    while let Some(least) = sources.iter().filter_map(|(id, _, _)| *id).min() {
        if last != Some(least) {
            writer.push(least)?;
            last = Some(least);
        }
        for (id, ids, path) in &mut sources {
            if *id == Some(least) {
                *id = ids.next().transpose().map_err(RunError::io("reading", path))?;
            }
        }
    }
    Ok(())
}

/// Filter and fences while ids come.
#[derive(Debug)]
struct Index {
    bloom: Bloom,
    fences: Vec<EventId>,
    count: u64,
}

impl Index {
    fn new(ids: u64) -> Self {
        Self { bloom: Bloom::new(ids), fences: Vec::new(), count: 0 }
    }

    fn push(&mut self, id: EventId) {
        self.bloom.insert(bloom::hash(&id));
        if self.count.is_multiple_of(BLOCK as u64) {
            self.fences.push(id);
        }
        self.count += 1;
    }
}

/// Writes a run. Until it is finished, the file has another name.
#[derive(Debug)]
pub struct RunWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    index: Index,
}

impl RunWriter {
    /// Starts a file for at most `ids` ids.
    pub fn create(path: &Path, ids: u64) -> Result<Self, RunError> {
        let temporary = path.with_extension("ids.tmp");
        let file = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&temporary)
            .map_err(RunError::io("creating", &temporary))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&[0; HEADER]).map_err(RunError::io("writing", &temporary))?;
        Ok(Self { path: path.to_owned(), temporary, file, index: Index::new(ids) })
    }

    /// Appends the next id, which must be greater than all before.
    pub fn push(&mut self, id: EventId) -> Result<(), RunError> {
        self.file.write_all(&id).map_err(RunError::io("writing", &self.temporary))?;
        self.index.push(id);
        Ok(())
    }

    /// Writes the header, syncs the file and gives it its name.
    pub fn finish(self) -> Result<Run, RunError> {
        let Self { path, temporary, file, index } = self;
        let write = || -> io::Result<()> {
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            let mut header = [0; HEADER];
            header[..8].copy_from_slice(&MAGIC);
            header[8..].copy_from_slice(&index.count.to_le_bytes());
            file.write_all_at(&header, 0)?;
            let crc = checksum(&file)?;
            file.write_all(&crc.to_le_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            crate::store::files::sync_parent(&path)
        };
        write().map_err(RunError::io("writing", &path))?;
        let file = File::open(&path).map_err(RunError::io("opening", &path))?;
        Ok(Run { path, file, count: index.count, bloom: index.bloom, fences: index.fences })
    }
}

fn checksum(file: &File) -> io::Result<u32> {
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    let mut bytes = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        match file.read_at(&mut bytes, at)? {
            0 => return Ok(crc.finalize() as u32),
            read => {
                crc.update(&bytes[..read]);
                at += read as u64;
            }
        }
    }
}
