//! Consumers of a journal: how far each has loaded its records, in files that retention heeds. Layout: docs/journal.md,
//! "Consumers".

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::record::{Sequence, crc32c, u32_at, u64_at};
use crate::segment::JournalId;

/// The folder of a journal that holds a file for each consumer.
const FOLDER: &str = "consumers";
const MAGIC: [u8; 8] = *b"TSCONSUM";
const VERSION: u32 = 1;
const FILE_LEN: usize = 64;
/// Bytes of a consumer's name.
const NAME_BYTES_MAX: usize = 64;
/// Name of a file while it is written: no name of a consumer.
const NEW_SUFFIX: &str = ".new";
/// Time after which a server has noticed a new consumer: it looks once a second. Until then it may remove what isn't loaded.
pub const NOTICED_AFTER: Duration = Duration::from_secs(2);

/// A place in a journal up to which all records are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The journal.
    pub journal: JournalId,
    /// Its last loaded record.
    pub sequence: Sequence,
    /// CRC of the commit group of that record: [`CommitGroup::crc`](crate::CommitGroup::crc).
    pub group_crc: u32,
}

/// A consumer of one journal: a program that loads its records, of which retention removes none that isn't loaded.
#[derive(Debug)]
pub struct Consumer {
    folder: PathBuf,
    name: String,
    position: Option<Position>,
}

/// A consumer, as others see it.
#[derive(Debug)]
pub struct ConsumerState {
    /// Its name.
    pub name: String,
    /// Its position, `None` if it has loaded nothing; or the reason why that can't be told. Then nothing counts as loaded.
    pub position: Result<Option<Position>, ConsumerError>,
}

/// Why a consumer can't be opened, or can't advance.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// A name that is no name of a file everywhere.
    #[error(
        "{0:?} is no name of a consumer: 1 to {NAME_BYTES_MAX} lower-case letters, digits, '-' and '_' are"
    )]
    Name(String),
    /// A system call failed.
    #[error("{action} {}", .path.display())]
    Io {
        /// The action that failed.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file isn't as it was written.
    #[error(
        "{} isn't valid: until it is removed, nothing counts as loaded by this consumer, and nothing is removed",
        .0.display()
    )]
    Invalid(PathBuf),
    /// A later version wrote it.
    #[error("{} has version {found} of the format, this program reads version {VERSION}", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A consumer never goes back: what it has loaded may be gone.
    #[error("{} is at record {at} and can't go back to {to}", .path.display())]
    Backwards {
        /// The file.
        path: PathBuf,
        /// The consumer's position.
        at: Sequence,
        /// The position that it was to take.
        to: Sequence,
    },
}

impl ConsumerError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl Consumer {
    /// Opens the consumer `name` of the journal in the directory `journal`. A new one has loaded nothing: retention removes no
    /// record from [`NOTICED_AFTER`] on.
    ///
    /// # Errors
    /// See [`ConsumerError`].
    pub fn open(journal: &Path, name: &str) -> Result<Self, ConsumerError> {
        if !is_name(name) {
            return Err(ConsumerError::Name(name.to_owned()));
        }
        let folder = journal.join(FOLDER);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(ConsumerError::io("creating", &folder)(error));
            }
            // Who made it before may have been killed before the sync; the file likewise.
            _ => sync_directory(journal)?,
        }
        let mut consumer = Self { folder, name: name.to_owned(), position: None };
        let path = consumer.path();
        if path.exists() {
            consumer.position = read(&path)?;
            sync_directory(&consumer.folder)?;
        } else {
            consumer.write(None)?;
        }
        Ok(consumer)
    }

    /// Its position; `None` if it has loaded nothing.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Says, durably, that all records up to `to` are loaded: they must be on stable storage where they were loaded to.
    /// From now on the journal may remove them.
    ///
    /// # Errors
    /// If it is behind the present position, or the file can't be written; then the position is as before.
    pub fn advance(&mut self, to: Position) -> Result<(), ConsumerError> {
        match self.position {
            Some(at) if at == to => return Ok(()),
            Some(at) if at.journal == to.journal && at.sequence > to.sequence => {
                let path = self.path();
                return Err(ConsumerError::Backwards { path, at: at.sequence, to: to.sequence });
            }
            _ => {}
        }
        self.write(Some(to))?;
        self.position = Some(to);
        Ok(())
    }

    /// Ends the consumer: records that it hasn't loaded are removed as if it had never been.
    ///
    /// # Errors
    /// If its file can't be removed.
    pub fn remove(self) -> Result<(), ConsumerError> {
        let path = self.path();
        fs::remove_file(&path).map_err(ConsumerError::io("removing", &path))?;
        sync_directory(&self.folder)
    }

    fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Puts a new file into the place of the old one, so that a crash leaves one of the two.
    fn write(&self, position: Option<Position>) -> Result<(), ConsumerError> {
        let (path, new) = (self.path(), self.folder.join(format!("{}{NEW_SUFFIX}", self.name)));
        File::create(&new)
            .and_then(|mut file| {
                file.write_all(&encode(position))?;
                file.sync_all()
            })
            .map_err(ConsumerError::io("writing", &new))?;
        fs::rename(&new, &path).map_err(ConsumerError::io("naming", &path))?;
        sync_directory(&self.folder)
    }
}

/// The consumers of the journal in the directory `journal`, by name.
///
/// # Errors
/// If the folder can't be read.
pub fn consumers(journal: &Path) -> io::Result<Vec<ConsumerState>> {
    let entries = match fs::read_dir(journal.join(FOLDER)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().filter(|name| is_name(name)) {
            all.push(ConsumerState { name: name.to_owned(), position: read(&entry.path()) });
        }
    }
    all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

/// The last record of a journal that all of `consumers` have loaded, `None` without consumers. `segments` are first
/// sequences with journal ids, oldest first, and `last` is the last record: sequences of another id count only in its own
/// segments.
pub(crate) fn loaded_by_all(
    consumers: &[Option<Position>],
    segments: &(impl DoubleEndedIterator<Item = (JournalId, Sequence)> + Clone),
    current: JournalId,
    last: Sequence,
) -> Option<Sequence> {
    let loaded = |position: &Option<Position>| {
        let Some(position) = *position else { return 0 };
        let mut end = (position.journal == current).then_some(last);
        let mut before = last;
        for (journal, first) in segments.clone().rev() {
            if end.is_none() && journal == position.journal {
                end = Some(before);
            }
            before = first - 1;
        }
        end.map_or(0, |end| end.min(position.sequence))
    };
    consumers.iter().map(loaded).min()
}

fn is_name(name: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_char)
}

fn encode(position: Option<Position>) -> [u8; FILE_LEN] {
    let mut file = [0; FILE_LEN];
    file[..8].copy_from_slice(&MAGIC);
    file[8..12].copy_from_slice(&VERSION.to_le_bytes());
    if let Some(Position { journal, sequence, group_crc }) = position {
        file[16..32].copy_from_slice(&journal.0);
        file[32..40].copy_from_slice(&sequence.to_le_bytes());
        file[40..44].copy_from_slice(&group_crc.to_le_bytes());
    }
    let crc = crc(&file);
    file[12..16].copy_from_slice(&crc.to_le_bytes());
    file
}

fn crc(file: &[u8]) -> u32 {
    let mut covered = [0; FILE_LEN - 4];
    covered[..12].copy_from_slice(&file[..12]);
    covered[12..].copy_from_slice(&file[16..]);
    crc32c(&covered)
}

fn read(path: &Path) -> Result<Option<Position>, ConsumerError> {
    let file = fs::read(path).map_err(ConsumerError::io("reading", path))?;
    if file.len() != FILE_LEN || file[..8] != MAGIC || u32_at(&file, 12) != crc(&file) {
        return Err(ConsumerError::Invalid(path.to_owned()));
    }
    match u32_at(&file, 8) {
        VERSION => {}
        found => return Err(ConsumerError::Version { path: path.to_owned(), found }),
    }
    let position = Position {
        journal: JournalId(file[16..32].try_into().expect("sixteen bytes")),
        sequence: u64_at(&file, 32),
        group_crc: u32_at(&file, 40),
    };
    Ok((position.sequence != 0).then_some(position))
}

fn sync_directory(path: &Path) -> Result<(), ConsumerError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(ConsumerError::io("fsync of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(journal: u8, sequence: Sequence) -> Position {
        Position { journal: JournalId([journal; 16]), sequence, group_crc: 77 }
    }

    #[test]
    fn a_consumer_advances_and_is_seen() {
        let journal = tempfile::tempdir().unwrap();
        assert!(consumers(journal.path()).unwrap().is_empty());
        let mut tables = Consumer::open(journal.path(), "tables").unwrap();
        assert_eq!(tables.position(), None);
        tables.advance(position(1, 40)).unwrap();
        assert!(matches!(
            tables.advance(position(1, 39)),
            Err(ConsumerError::Backwards { at: 40, to: 39, .. })
        ));
        // Another journal id: its sequences are others.
        tables.advance(position(2, 7)).unwrap();
        Consumer::open(journal.path(), "click-house_2").unwrap();
        fs::write(journal.path().join("consumers/tables.new"), "left by a crash").unwrap();
        let seen: Vec<_> = consumers(journal.path()).unwrap();
        let seen: Vec<_> = seen.iter().map(|one| (&one.name[..], *one.position.as_ref().unwrap())).collect();
        assert_eq!(seen, [("click-house_2", None), ("tables", Some(position(2, 7)))]);
        assert_eq!(Consumer::open(journal.path(), "tables").unwrap().position(), Some(position(2, 7)));
        tables.remove().unwrap();
        assert_eq!(consumers(journal.path()).unwrap().len(), 1);
    }

    #[test]
    fn what_is_loaded_counts_in_the_journal_that_it_was_loaded_of() {
        let segments = [(1, 1), (1, 10), (2, 31), (2, 40)].map(|(id, first)| (JournalId([id; 16]), first));
        let check = |consumers: &[Option<Position>], expected| {
            let loaded = loaded_by_all(consumers, &segments.into_iter(), JournalId([2; 16]), 50);
            assert_eq!(loaded, expected, "{consumers:?}");
        };
        check(&[], None);
        check(&[Some(position(2, 35)), Some(position(2, 42))], Some(35));
        check(&[Some(position(2, 99))], Some(50));
        check(&[Some(position(1, 12))], Some(12));
        // Records of the old id that were moved away don't count as those that have their place.
        check(&[Some(position(1, 33))], Some(30));
        check(&[Some(position(3, 33))], Some(0));
        check(&[Some(position(2, 35)), None], Some(0));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tables");
        let mut file = encode(Some(position(1, 40)));
        for bit in 0..file.len() * 8 {
            file[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, file).unwrap();
            assert!(matches!(read(&path), Err(ConsumerError::Invalid(_))), "bit {bit}");
            file[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_name_is_a_name_of_a_file_everywhere() {
        let journal = tempfile::tempdir().unwrap();
        for name in ["", "..", "a/b", "Tables", "tables.new", &"a".repeat(65)] {
            assert!(matches!(Consumer::open(journal.path(), name), Err(ConsumerError::Name(_))), "{name}");
        }
    }
}
