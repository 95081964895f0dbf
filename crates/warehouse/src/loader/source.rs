//! Journals to load: each from its watermark on, records on stable storage only.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use tickstream_journal::{
    Batch, Consumer, ConsumerError, Follower, Position, Problem, Sequence, Step, journals,
};

/// Bytes of records that are read at a time, of one journal: they stay in a core's cache until they are rows.
const READ_BYTES: usize = 1 << 20;

/// Journals that can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The directory has none.
    #[error("{} holds no journal; name the directory that `tickstream serve --journal` was given", .path.display())]
    NoJournal {
        /// Path that was named.
        path: PathBuf,
    },
    /// The directory can't be listed.
    #[error("listing {}", .path.display())]
    List {
        /// The one in question.
        path: PathBuf,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// Something is wrong with a journal.
    #[error("loading stops here; for a gap or a changed journal whose loss you accept, name it with --accept {}", path_of(.0))]
    Problem(#[source] Box<Problem>),
    /// The position can't be written into the journal's directory.
    #[error("noting how far the journal is loaded")]
    Consumer(#[source] Box<ConsumerError>),
}

impl From<ConsumerError> for SourceError {
    fn from(error: ConsumerError) -> Self {
        Self::Consumer(Box::new(error))
    }
}

fn path_of(problem: &Problem) -> String {
    let (Problem::Unreadable { path, .. }
    | Problem::Gap { path, .. }
    | Problem::Mismatch { path, .. }
    | Problem::NewId { path, .. }
    | Problem::Vanished { path, .. }) = problem
    else {
        return String::new();
    };
    path.display().to_string()
}

/// Journals of this host, read forwards.
#[derive(Debug)]
pub struct Journals {
    directories: Vec<PathBuf>,
    followers: Vec<Follower>,
    /// Directories of journals whose gaps and changes are accepted.
    accepted: Vec<PathBuf>,
    turn: usize,
}

impl Journals {
    /// The journals in `directories`, behind `positions`.
    ///
    /// # Errors
    /// If a directory holds none, or can't be listed.
    pub fn open(
        directories: &[PathBuf],
        positions: &[Position],
        accepted: &[PathBuf],
    ) -> Result<Self, SourceError> {
        let mut followers = Vec::new();
        for path in directories {
            let list = |source| SourceError::List { path: path.clone(), source };
            if journals(path).map_err(list)?.is_empty() {
                return Err(SourceError::NoJournal { path: path.clone() });
            }
            let list = |source| SourceError::List { path: path.clone(), source };
            followers.push(Follower::new(path, positions.iter().copied()).map_err(list)?);
        }
        Ok(Self { directories: directories.to_vec(), followers, accepted: accepted.to_vec(), turn: 0 })
    }

    /// Directories that were named.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// Records that come next; `None` if none are there.
    ///
    /// # Errors
    /// If a journal can't be read, has lost records, or isn't the one that was loaded.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, SourceError> {
        let mut idle = 0;
        while idle < self.followers.len() {
            self.turn = (self.turn + 1) % self.followers.len();
            let follower = &mut self.followers[self.turn];
            match follower.poll(READ_BYTES) {
                Step::Batch(batch) => return Ok(Some(batch)),
                Step::Idle => idle += 1,
                Step::Problem(problem) => match problem {
                    // Other hosts' journals are in the same tables.
                    Problem::Unknown(position) => {
                        tracing::debug!(journal = %position.journal, "a loaded journal isn't on this host");
                    }
                    Problem::NewId { .. } | Problem::Vanished { .. } => tracing::warn!(%problem, "journal"),
                    Problem::Gap { ref path, .. } | Problem::Mismatch { ref path, .. }
                        if self.accepted.contains(path) =>
                    {
                        tracing::warn!(%problem, "accepted");
                        follower.accept(path);
                    }
                    problem => return Err(SourceError::Problem(Box::new(problem))),
                },
            }
        }
        Ok(None)
    }

    /// The last records that are on stable storage now, by journal's directory; `None` if a journal doesn't say it.
    pub fn synced(&mut self) -> Option<BTreeMap<PathBuf, Sequence>> {
        let synced: Option<Vec<_>> = self.followers.iter_mut().map(Follower::synced).collect();
        synced.map(|synced| synced.into_iter().flatten().collect())
    }

    /// True if all records up to these were given.
    pub fn has_given(&self, synced: &BTreeMap<PathBuf, Sequence>) -> bool {
        self.followers.iter().all(|follower| follower.has_given(synced))
    }

    /// Looks for journals that are new.
    ///
    /// # Errors
    /// If a directory can't be listed.
    pub fn rescan(&mut self) -> Result<(), SourceError> {
        for (follower, path) in self.followers.iter_mut().zip(&self.directories) {
            follower.rescan().map_err(|source| SourceError::List { path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// Notes in the journals' directories how far they are loaded: the server may remove what is older.
#[derive(Debug)]
pub struct Consumers {
    name: String,
    open: BTreeMap<PathBuf, Consumer>,
}

impl Consumers {
    /// The consumer `name`.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), open: BTreeMap::new() }
    }

    /// Says that somebody loads the journal in `path`, and tells whether servers may not know it: the first time in this process, of
    /// one that has loaded nothing. Before the first commit, or a power cut behind it would leave a watermark and nobody who
    /// holds the records above it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn register(&mut self, path: &Path) -> Result<bool, SourceError> {
        let is_known = self.open.contains_key(path);
        self.of(path).map(|consumer| consumer.position().is_none() && !is_known)
    }

    /// As [`Consumers::register`], of all journals in these directories; true if one of them is new.
    ///
    /// # Errors
    /// If it can't be written, or a directory not be listed.
    pub fn register_all(&mut self, directories: &[PathBuf]) -> Result<bool, SourceError> {
        let mut is_new = false;
        for directory in directories {
            let list = |source| SourceError::List { path: directory.clone(), source };
            for path in journals(directory).map_err(list)? {
                is_new |= self.register(&path)?;
            }
        }
        Ok(is_new)
    }

    /// Says that all of the journal in `path` is loaded up to `position`, and on stable storage.
    ///
    /// # Errors
    /// If the position can't be written.
    pub fn advance(&mut self, path: &Path, position: Position) -> Result<(), SourceError> {
        Ok(self.of(path)?.advance(position)?)
    }

    fn of(&mut self, path: &Path) -> Result<&mut Consumer, SourceError> {
        Ok(match self.open.entry(path.to_owned()) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(new) => new.insert(Consumer::open(path, &self.name)?),
        })
    }
}
