//! A disk in memory that does all that a disk may do at a power cut to what wasn't synced. Everything follows from a seed.
//!
//! Synced sectors of a file stay. Each other one is as before or as written, whatever became of others; a file's length
//! and the names in a directory likewise, until the file and the directory are synced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use fastrand::Rng;

const SECTOR: usize = 512;
/// Number of the root directory, as FUSE has it.
pub const ROOT: u64 = 1;

/// Names of a directory.
pub type Names = BTreeMap<Vec<u8>, u64>;

/// Content of a node.
#[derive(Clone, Debug)]
pub enum Node {
    /// A directory: names as they are, and as a power cut leaves them at least.
    Directory {
        /// Names.
        now: Names,
        /// Names on stable storage.
        durable: Names,
    },
    /// A file.
    File(Content),
}

/// Bytes of a file.
#[derive(Clone, Debug)]
pub struct Content {
    /// Bytes as they are read.
    pub now: Vec<u8>,
    /// Time of the last change: vacuum removes old files that no commit names.
    pub modified: SystemTime,
    durable: Vec<u8>,
    /// Sectors that were written and not synced.
    dirty: BTreeSet<usize>,
    /// Name that the file was made with.
    made_as: String,
}

/// Change of names that no directory was synced after.
#[derive(Clone, Debug)]
enum Change {
    Link { directory: u64, name: Vec<u8>, node: u64 },
    Unlink { directory: u64, name: Vec<u8> },
    Rename { from: (u64, Vec<u8>), to: (u64, Vec<u8>), node: u64 },
}

/// Files whose syncs the disk answers and doesn't do: bugs that the checks must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Files of rows.
    Rows,
    /// Entries of the Delta log.
    Log,
    /// Directories.
    Directories,
}

/// A disk with a tree of files.
#[derive(Debug)]
pub struct Disk {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    changes: Vec<Change>,
    /// Changing calls until the power is cut.
    left: Option<u64>,
    /// Changing calls so far.
    pub calls: u64,
    lie: Option<Lie>,
    rng: Rng,
}

/// The power is gone.
#[derive(Debug)]
pub struct Dark;

impl Disk {
    /// An empty disk.
    pub fn new(seed: u64, lie: Option<Lie>) -> Self {
        let root = Node::Directory { now: Names::new(), durable: Names::new() };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            changes: Vec::new(),
            left: None,
            calls: 0,
            lie,
            rng: Rng::with_seed(seed),
        }
    }

    /// Cuts the power with the changing call after `calls` more of them; that one and all later calls fail.
    pub fn set_fuse(&mut self, calls: u64) {
        self.left = Some(calls);
    }

    /// True if the power is gone.
    pub fn is_dark(&self) -> bool {
        self.left == Some(0)
    }

    /// Cuts the power, unless it is gone, and gives it back: the disk is as the next start finds it.
    pub fn cut_power(&mut self) {
        let kept = [0.0, 1.0, 0.5, self.rng.f64()][self.rng.usize(..4)];
        for node in self.nodes.values_mut() {
            if let Node::File(content) = node {
                content.lose(kept, &mut self.rng);
            }
        }
        let kept = [0.0, 1.0, 0.5][self.rng.usize(..3)];
        for change in std::mem::take(&mut self.changes) {
            if self.rng.f64() < kept {
                self.make_durable(&change);
            }
        }
        for node in self.nodes.values_mut() {
            if let Node::Directory { now, durable } = node {
                now.clone_from(durable);
            }
        }
        self.left = None;
    }

    /// A node.
    pub fn node(&self, number: u64) -> Option<&Node> {
        self.nodes.get(&number)
    }

    /// Number that a name in a directory has.
    pub fn find(&self, directory: u64, name: &[u8]) -> Option<u64> {
        match self.nodes.get(&directory) {
            Some(Node::Directory { now, .. }) => now.get(name).copied(),
            _ => None,
        }
    }

    /// Counts a changing call.
    fn begin(&mut self) -> Result<(), Dark> {
        self.calls += 1;
        match &mut self.left {
            Some(0) => Err(Dark),
            Some(left) => {
                *left -= 1;
                if *left == 0 { Err(Dark) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    /// Makes a file or directory.
    pub fn make(&mut self, directory: u64, name: &[u8], is_directory: bool) -> Result<u64, Dark> {
        self.begin()?;
        let node = if is_directory {
            Node::Directory { now: Names::new(), durable: Names::new() }
        } else {
            let made_as = String::from_utf8_lossy(name).into_owned();
            Node::File(Content::new(made_as))
        };
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, node);
        self.change(Change::Link { directory, name: name.to_owned(), node: number });
        Ok(number)
    }

    /// Gives a file another name.
    pub fn link(&mut self, directory: u64, name: &[u8], node: u64) -> Result<(), Dark> {
        self.begin()?;
        self.change(Change::Link { directory, name: name.to_owned(), node });
        Ok(())
    }

    /// Takes a name away.
    pub fn unlink(&mut self, directory: u64, name: &[u8]) -> Result<(), Dark> {
        self.begin()?;
        self.change(Change::Unlink { directory, name: name.to_owned() });
        Ok(())
    }

    /// Moves a name.
    pub fn rename(&mut self, from: (u64, &[u8]), to: (u64, &[u8]), node: u64) -> Result<(), Dark> {
        self.begin()?;
        let (from, to) = ((from.0, from.1.to_owned()), (to.0, to.1.to_owned()));
        self.change(Change::Rename { from, to, node });
        Ok(())
    }

    /// Writes into a file.
    pub fn write(&mut self, file: u64, offset: usize, bytes: &[u8]) -> Result<(), Dark> {
        let is_cut = self.begin().is_err();
        // What is on its way at the cut is written in part.
        let bytes = if is_cut { &bytes[..self.rng.usize(..=bytes.len())] } else { bytes };
        if let Some(Node::File(content)) = self.nodes.get_mut(&file) {
            content.write(offset, bytes);
        }
        if is_cut { Err(Dark) } else { Ok(()) }
    }

    /// Gives a file another length.
    pub fn truncate(&mut self, file: u64, length: usize) -> Result<(), Dark> {
        self.begin()?;
        if let Some(Node::File(content)) = self.nodes.get_mut(&file) {
            content.modified = SystemTime::now();
            let changed = length.min(content.now.len())..length.max(content.now.len());
            content.now.resize(length, 0);
            content.dirty.extend(changed.start / SECTOR..changed.end.div_ceil(SECTOR));
        }
        Ok(())
    }

    /// Syncs a file or directory.
    pub fn sync(&mut self, number: u64) -> Result<(), Dark> {
        self.begin()?;
        let lie = self.lie;
        match self.nodes.get_mut(&number) {
            Some(Node::File(content)) if !content.is_lied_about(lie) => content.sync(),
            Some(Node::Directory { .. }) if lie != Some(Lie::Directories) => {
                let (synced, later): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut self.changes).into_iter().partition(|change| change.is_in(number));
                self.changes = later;
                synced.iter().for_each(|change| self.make_durable(change));
            }
            _ => {}
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        self.apply(&change, false);
        self.changes.push(change);
    }

    fn make_durable(&mut self, change: &Change) {
        self.apply(change, true);
    }

    fn apply(&mut self, change: &Change, is_durable: bool) {
        let mut names = |directory: u64, act: &mut dyn FnMut(&mut Names)| {
            if let Some(Node::Directory { now, durable }) = self.nodes.get_mut(&directory) {
                act(if is_durable { durable } else { now });
            }
        };
        match change {
            Change::Link { directory, name, node } => names(*directory, &mut |names| {
                names.insert(name.clone(), *node);
            }),
            Change::Unlink { directory, name } => names(*directory, &mut |names| {
                names.remove(name);
            }),
            Change::Rename { from, to, node } => {
                names(from.0, &mut |names| {
                    names.remove(&from.1);
                });
                names(to.0, &mut |names| {
                    names.insert(to.1.clone(), *node);
                });
            }
        }
    }
}

impl Change {
    fn is_in(&self, synced: u64) -> bool {
        match self {
            Self::Link { directory, .. } | Self::Unlink { directory, .. } => *directory == synced,
            Self::Rename { from, to, .. } => from.0 == synced || to.0 == synced,
        }
    }
}

impl Content {
    fn new(made_as: String) -> Self {
        let (now, durable) = (Vec::new(), Vec::new());
        Self { now, modified: SystemTime::now(), durable, dirty: BTreeSet::new(), made_as }
    }

    fn is_lied_about(&self, lie: Option<Lie>) -> bool {
        match lie {
            Some(Lie::Rows) => self.made_as.contains(".parquet"),
            Some(Lie::Log) => self.made_as.contains(".json"),
            Some(Lie::Directories) | None => false,
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.modified = SystemTime::now();
        let end = offset + bytes.len();
        let from = offset.min(self.now.len());
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(bytes);
        self.dirty.extend(from / SECTOR..end.div_ceil(SECTOR));
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.now);
        self.dirty.clear();
    }

    fn lose(&mut self, kept: f64, rng: &mut Rng) {
        if self.dirty.is_empty() {
            return;
        }
        let length = if rng.f64() < kept { self.now.len() } else { self.durable.len() };
        let mut left = self.durable.clone();
        left.resize(length, 0);
        for sector in std::mem::take(&mut self.dirty) {
            let (start, end) = (sector * SECTOR, ((sector + 1) * SECTOR).min(self.now.len()).min(length));
            if start < end && rng.f64() < kept {
                left[start..end].copy_from_slice(&self.now[start..end]);
            }
        }
        self.durable.clone_from(&left);
        self.now = left;
    }
}
