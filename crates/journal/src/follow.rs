//! Follows all journals of a directory: for programs that load records elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::consumers::Position;
use crate::error::Error;
use crate::files::FileDirectory;
use crate::reader::{CommitGroup, Reader, segments};
use crate::record::{Record, Sequence};
use crate::scan::read_header;
use crate::segment::{FileName, JournalId};

/// Follows the journals of a directory from given positions, one batch after another, in turn.
///
/// Only records that are on stable storage are given, each journal's in order. A journal that is damaged or misses
/// records is named by a [`Problem`] and left; the others go on. While nothing comes, [`Follower::poll`] costs a read of
/// some bytes for each journal, so it may be called some times a second; [`Follower::rescan`] finds new journals.
#[derive(Debug)]
pub struct Follower {
    root: PathBuf,
    /// Last loaded records, by journal id.
    positions: BTreeMap<JournalId, Position>,
    /// Journal ids that were found in a directory.
    found: BTreeSet<JournalId>,
    journals: Vec<Followed>,
    problems: VecDeque<Problem>,
    /// The journal whose turn it is.
    turn: usize,
}

/// A directory with a journal.
#[derive(Debug)]
struct Followed {
    path: PathBuf,
    reader: Reader<FileDirectory>,
    /// The last record that was read here.
    last: Option<Position>,
    state: State,
    /// The problem behind `last` that was reported last.
    said: Option<String>,
    /// A record that was read and belongs to the next batch.
    held: Option<(Vec<u8>, CommitGroup)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Sound,
    /// The journal can't be read on.
    Damaged,
    /// Records are missing or aren't those that were loaded: [`Follower::accept`] has it go on.
    Stopped,
}

/// Findings of [`Follower::poll`].
#[derive(Debug)]
pub enum Step {
    /// Records of one journal.
    Batch(Batch),
    /// Something is wrong with a journal. Each problem is told once.
    Problem(Problem),
    /// Nothing has come: ask again later.
    Idle,
}

/// Records of one journal that follow one another.
#[derive(Debug)]
pub struct Batch {
    /// Directory of the journal.
    pub path: PathBuf,
    /// First record.
    pub first_sequence: Sequence,
    /// Last record: where to go on from once the batch is loaded.
    pub position: Position,
    /// Records, as they are in the file.
    encoded: Vec<u8>,
}

/// Something that is wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Its next records can't be read. It is tried again by [`Follower::rescan`].
    #[error("the journal in {} can't be read behind record {after}", .path.display())]
    Unreadable {
        /// Directory of the journal.
        path: PathBuf,
        /// The last record that could be read.
        after: Sequence,
        /// The problem.
        source: Error,
    },
    /// Records that weren't loaded aren't there any more: retention or an operator removed them. The journal is left
    /// until [`Follower::accept`].
    #[error("the journal in {} misses records {} to {}", .path.display(), .after + 1, .next - 1)]
    Gap {
        /// Directory of the journal.
        path: PathBuf,
        /// The last record that was loaded.
        after: Sequence,
        /// The next record that is there.
        next: Sequence,
    },
    /// The last loaded record isn't the one that is there. The journal is left until [`Follower::accept`].
    #[error(
        "the journal in {} isn't the one that was loaded: the commit group of record {} has CRC 0x{found:08x}, \
         0x{:08x} was loaded",
        .path.display(), .loaded.sequence, .loaded.group_crc
    )]
    Mismatch {
        /// Directory of the journal.
        path: PathBuf,
        /// The last record that was loaded.
        loaded: Position,
        /// CRC of its commit group, as it is there.
        found: u32,
    },
    /// The journal goes on under a new id, since its newest segments were removed: records of the old id may be missing
    /// here. It is followed on.
    #[error(
        "the journal in {} goes on as {journal} from record {first} on; {before} ends with record {last}",
        .path.display()
    )]
    NewId {
        /// Directory of the journal.
        path: PathBuf,
        /// The old id.
        before: JournalId,
        /// Its last record that was read.
        last: Sequence,
        /// The new id.
        journal: JournalId,
        /// Its first record that is there.
        first: Sequence,
    },
    /// A directory isn't there any more.
    #[error("the journal in {} isn't there any more; its last record that was read is {last}", .path.display())]
    Vanished {
        /// Directory of the journal.
        path: PathBuf,
        /// The last record that was read, 0 for none.
        last: Sequence,
    },
    /// No directory has segments of a journal that was loaded.
    #[error("journal {}, loaded up to record {}, isn't in the directory", .0.journal, .0.sequence)]
    Unknown(Position),
}

impl Batch {
    /// Records, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = &self.encoded[..];
        std::iter::from_fn(move || {
            let record = (!rest.is_empty()).then(|| Record::parse(rest).expect("it was checked"))?;
            rest = &rest[record.encoded_len()..];
            Some(record)
        })
    }

    /// Bytes of all records, with their headers.
    pub fn bytes(&self) -> usize {
        self.encoded.len()
    }
}

impl Follower {
    /// Follows the journals in `root`, or the one that it is itself, behind the records that `positions` say are loaded.
    /// A journal without a position is read from its oldest record on.
    ///
    /// # Errors
    /// If the directory can't be read.
    pub fn new(root: impl Into<PathBuf>, positions: impl IntoIterator<Item = Position>) -> io::Result<Self> {
        let mut follower = Self {
            root: root.into(),
            positions: positions.into_iter().map(|position| (position.journal, position)).collect(),
            found: BTreeSet::new(),
            journals: Vec::new(),
            problems: VecDeque::new(),
            turn: 0,
        };
        follower.rescan()?;
        let missing =
            follower.positions.values().filter(|position| !follower.found.contains(&position.journal));
        follower.problems.extend(missing.copied().map(Problem::Unknown));
        Ok(follower)
    }

    /// Looks for journals that are new or gone, and tries those again that couldn't be read.
    ///
    /// # Errors
    /// If the directory can't be read.
    pub fn rescan(&mut self) -> io::Result<()> {
        let paths = journals(&self.root)?;
        let (kept, gone) =
            std::mem::take(&mut self.journals).into_iter().partition(|one| paths.contains(&one.path));
        self.journals = kept;
        let gone: Vec<Followed> = gone;
        self.problems.extend(gone.into_iter().map(|Followed { path, last, .. }| Problem::Vanished {
            path,
            last: last.map_or(0, |last| last.sequence),
        }));
        for path in paths {
            match self.journals.iter().position(|one| one.path == path) {
                Some(at) => self.journals[at].look_again(),
                None => self.open(path),
            }
        }
        Ok(())
    }

    /// Has a journal that was left go on with the records that are there.
    pub fn accept(&mut self, path: &Path) {
        for journal in self.journals.iter_mut().filter(|journal| journal.path == path) {
            journal.state = State::Sound;
        }
    }

    /// The next batch, problem, or that there is none. A batch ends with the record that brings it to `bytes_max`.
    pub fn poll(&mut self, bytes_max: usize) -> Step {
        if let Some(problem) = self.problems.pop_front() {
            return Step::Problem(problem);
        }
        for _ in 0..self.journals.len() {
            self.turn = (self.turn + 1) % self.journals.len();
            let journal = &mut self.journals[self.turn];
            if journal.state != State::Sound {
                continue;
            }
            let (batch, problem) = journal.next_batch(bytes_max);
            self.problems.extend(problem);
            if let Some(batch) = batch {
                self.positions.insert(batch.position.journal, batch.position);
                return Step::Batch(batch);
            }
            if let Some(problem) = self.problems.pop_front() {
                return Step::Problem(problem);
            }
        }
        Step::Idle
    }

    /// The last record of each journal that is on stable storage now, by directory. `None` if a journal doesn't say it: then
    /// only [`Step::Idle`] tells that all was given.
    pub fn synced(&mut self) -> Option<BTreeMap<PathBuf, Sequence>> {
        let sound = self.journals.iter_mut().filter(|journal| journal.state == State::Sound);
        sound.map(|journal| Some((journal.path.clone(), journal.reader.synced()?))).collect()
    }

    /// True if all records up to these were given. Journals that were left meanwhile give none.
    pub fn has_given(&self, synced: &BTreeMap<PathBuf, Sequence>) -> bool {
        self.journals.iter().all(|journal| {
            let last = journal.last.map_or(0, |last| last.sequence);
            journal.state != State::Sound || synced.get(&journal.path).is_none_or(|&synced| synced <= last)
        })
    }

    fn open(&mut self, path: PathBuf) {
        let ids = ids(&path);
        self.found.extend(&ids);
        // Ids follow one another: what is loaded of a later one stands behind all of an earlier one.
        let loaded = ids.iter().rev().find_map(|id| self.positions.get(id)).copied();
        let from = loaded.map_or(0, |position| position.sequence);
        let reader = Reader::new(FileDirectory::open(&path), from);
        self.journals.push(Followed {
            path,
            reader,
            last: loaded,
            state: State::Sound,
            said: None,
            held: None,
        });
    }
}

impl Followed {
    /// The next records, and what is wrong behind them.
    fn next_batch(&mut self, bytes_max: usize) -> (Option<Batch>, Option<Problem>) {
        let mut batch: Option<Batch> = None;
        loop {
            let read = self.held.take().map_or_else(|| self.read(), |held| Ok(Some(held)));
            let (record, group) = match read {
                Ok(Some(found)) => found,
                Ok(None) => return (batch, None),
                Err(source) => {
                    let problem = self.unreadable(source);
                    return (batch, problem);
                }
            };
            let sequence = Record::parse(&record).expect("it was checked").sequence;
            match self.check(sequence, &group) {
                Check::Next => {}
                Check::Loaded => continue,
                Check::NewId(problem) if batch.is_none() => {
                    self.last = None;
                    self.held = Some((record, group));
                    return (None, Some(problem));
                }
                Check::Stop(problem) if batch.is_none() => {
                    self.state = State::Stopped;
                    self.last = None;
                    self.held = matches!(problem, Problem::Gap { .. }).then_some((record, group));
                    return (None, Some(problem));
                }
                Check::NewId(_) | Check::Stop(_) => {
                    self.held = Some((record, group));
                    return (batch, None);
                }
            }
            let position = Position { journal: group.journal, sequence, group_crc: group.crc };
            (self.last, self.said) = (Some(position), None);
            let batch = batch.get_or_insert_with(|| Batch {
                path: self.path.clone(),
                first_sequence: sequence,
                position,
                encoded: Vec::new(),
            });
            batch.position = position;
            batch.encoded.extend_from_slice(&record);
            if batch.encoded.len() >= bytes_max {
                break;
            }
        }
        (batch, None)
    }

    fn read(&mut self) -> Result<Option<(Vec<u8>, CommitGroup)>, Error> {
        let Some(record) = self.reader.next_encoded()?.map(<[u8]>::to_vec) else { return Ok(None) };
        let group = self.reader.commit_group().expect("a record was read");
        Ok(Some((record, group)))
    }
}

impl Followed {
    /// Relation of a record to those that were read before.
    fn check(&self, sequence: Sequence, group: &CommitGroup) -> Check {
        let path = || self.path.clone();
        match self.last {
            Some(last) if last.journal != group.journal => Check::NewId(Problem::NewId {
                path: path(),
                before: last.journal,
                last: last.sequence,
                journal: group.journal,
                first: sequence,
            }),
            Some(last) if last.sequence == sequence && last.group_crc != group.crc => {
                Check::Stop(Problem::Mismatch { path: path(), loaded: last, found: group.crc })
            }
            Some(last) if last.sequence >= sequence => Check::Loaded,
            Some(last) if last.sequence + 1 < sequence => {
                Check::Stop(Problem::Gap { path: path(), after: last.sequence, next: sequence })
            }
            _ => Check::Next,
        }
    }

    /// Leaves the journal. It may be damaged for long: that is told once.
    fn unreadable(&mut self, source: Error) -> Option<Problem> {
        self.state = State::Damaged;
        let says = source.to_string();
        let after = self.last.map_or(0, |last| last.sequence);
        let is_new = self.said.as_ref() != Some(&says);
        self.said = Some(says);
        is_new.then(|| Problem::Unreadable { path: self.path.clone(), after, source })
    }

    /// Has the next read look at the files; from the last record on if they couldn't be read.
    fn look_again(&mut self) {
        if self.state == State::Damaged {
            let from = self.last.map_or(0, |last| last.sequence);
            self.reader = Reader::new(FileDirectory::open(&self.path), from);
            self.state = State::Sound;
        }
        self.reader.look_again();
    }
}

enum Check {
    Next,
    Loaded,
    NewId(Problem),
    Stop(Problem),
}

/// Directories of the journals in `root`, or `root` if it is one itself, in order.
///
/// # Errors
/// If it can't be read.
pub fn journals(root: &Path) -> io::Result<Vec<PathBuf>> {
    if is_journal(root)? {
        return Ok(vec![root.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        // One that can't be read is for whoever reads it to say.
        if path.is_dir() && is_journal(&path).unwrap_or(true) {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// True if a directory has a journal's files, be it only its lock.
fn is_journal(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        if entry?.file_name().to_str().is_some_and(|name| name == "lock" || FileName::parse(name).is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Ids of a directory's journal, in the order of its segments. What is wrong with a segment is for its reader to say.
fn ids(path: &Path) -> Vec<JournalId> {
    let mut directory = FileDirectory::open(path);
    let mut ids = Vec::new();
    for segment in segments(&mut directory).unwrap_or_default() {
        if let Ok(Some((header, _))) = read_header(&mut directory, segment)
            && ids.last() != Some(&header.journal)
        {
            ids.push(header.journal);
        }
    }
    ids
}
