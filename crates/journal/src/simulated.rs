//! A disk in memory that does all that a disk may do to what wasn't synced. Everything follows from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use fastrand::Rng;

use crate::buffer::{Buffer, SECTOR, first_nonzero};
use crate::directory::Directory;
use crate::segment::FileName;
use crate::storage::{Completion, Failure, Operation, OperationId, Storage};
use crate::synced::Synced;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Faults while there is power.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Bytes that all files may have together; beyond, writes fail with ENOSPC.
    pub capacity: Option<u64>,
    /// Probability that a write fails with EIO.
    pub write_fails: f64,
    /// Probability that a sync of a file fails with EIO; what it should have written is forgotten, as Linux does.
    pub sync_fails: f64,
    /// Probability that a write writes only some of its blocks.
    pub short_writes: f64,
}

/// A disk with one directory.
///
/// Synced sectors stay. At a power cut, each sector that wasn't synced is as before or as written, whatever became of
/// others; a file's length and the names in the directory likewise.
#[derive(Debug)]
pub struct SimulatedDisk {
    /// Faults; may be changed at any time.
    pub faults: Faults,
    rng: Rng,
    files: Vec<Content>,
    names: BTreeMap<FileName, usize>,
    durable_names: BTreeMap<FileName, usize>,
    /// Changes to names that the directory wasn't synced after.
    changes: Vec<Change>,
    open: BTreeMap<FileName, usize>,
    pending: Vec<(OperationId, Operation)>,
    /// Blocking calls that change something until the power is cut in one of them.
    fuse: Option<u32>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that were written and not synced.
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Link(FileName, usize),
    Unlink(FileName, usize),
    Rename(FileName, FileName, usize),
}

impl Clone for SimulatedDisk {
    /// The disk as a process finds it that starts now: operations that are on their way aren't copied.
    fn clone(&self) -> Self {
        Self {
            faults: self.faults,
            rng: self.rng.clone(),
            files: self.files.clone(),
            names: self.names.clone(),
            durable_names: self.durable_names.clone(),
            changes: self.changes.clone(),
            open: BTreeMap::new(),
            pending: Vec::new(),
            fuse: None,
        }
    }
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self {
            faults: Faults::default(),
            rng: Rng::with_seed(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            open: BTreeMap::new(),
            pending: Vec::new(),
            fuse: None,
        }
    }

    /// Carries out one of the operations that were started, any of them.
    pub fn complete_one(&mut self) -> Option<Completion> {
        if self.pending.is_empty() {
            return None;
        }
        let at = self.rng.usize(..self.pending.len());
        Some(self.complete_at(at))
    }

    /// Carries out the operation of this id, if it was started.
    pub fn complete(&mut self, id: OperationId) -> Option<Completion> {
        let at = self.pending.iter().position(|(pending, _)| *pending == id)?;
        Some(self.complete_at(at))
    }

    fn complete_at(&mut self, at: usize) -> Completion {
        let (id, operation) = self.pending.swap_remove(at);
        let (result, buffer) = self.carry_out(operation);
        Completion { id, result, buffer }
    }

    /// Operations that were started and haven't completed.
    pub fn pending(&self) -> &[(OperationId, Operation)] {
        &self.pending
    }

    /// Ends the process: operations on the way were carried out, or not, or in part. Nothing else is lost.
    pub fn kill(&mut self) {
        for (_, operation) in std::mem::take(&mut self.pending) {
            match operation {
                Operation::Write { file, offset, buffer, .. } => self.write_some(file, offset, &buffer),
                _ if self.rng.bool() => drop(self.carry_out(operation)),
                _ => {}
            }
        }
        self.open.clear();
        self.fuse = None;
    }

    /// Cuts the power, and gives it back: the disk is as a process finds it that starts now.
    pub fn cut_power(&mut self) {
        self.kill();
        let kept = [0.0, 1.0, 0.5, self.rng.f64()][self.rng.usize(..4)];
        for content in &mut self.files {
            content.lose(kept, &mut self.rng);
        }
        let kept = [0.0, 1.0, 0.5][self.rng.usize(..3)];
        for change in std::mem::take(&mut self.changes) {
            if self.rng.f64() < kept {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
    }

    /// Cuts the power in the `calls`th blocking call from now that changes something. That call and all later ones
    /// fail, until [`SimulatedDisk::cut_power`].
    pub fn set_fuse(&mut self, calls: Option<u32>) {
        self.fuse = calls;
    }

    /// Bytes of a file.
    pub fn bytes(&self, file: FileName) -> Option<&[u8]> {
        self.names.get(&file).map(|&index| &self.files[index].now[..])
    }

    /// Flips one bit of a file, on stable storage.
    pub fn flip_bit(&mut self, file: FileName, bit: usize) {
        let content = &mut self.files[self.names[&file]];
        content.now[bit / 8] ^= 1 << (bit % 8);
        content.durable[bit / 8] ^= 1 << (bit % 8);
    }

    fn carry_out(&mut self, operation: Operation) -> (Result<usize, Failure>, Option<Buffer>) {
        let result = match operation {
            Operation::Create { file, .. } => {
                self.create(file);
                Ok(0)
            }
            Operation::Open { file } => match self.names.get(&file) {
                Some(&index) => {
                    self.open.insert(file, index);
                    Ok(0)
                }
                None => Err(Failure::Operation(2)),
            },
            Operation::Write { file, offset, buffer, sync } => {
                let result = self.write(file, offset, buffer.to_write(), sync);
                return (result, Some(buffer));
            }
            Operation::Sync { file } => {
                let open = if file == FileName::Synced { &self.names } else { &self.open };
                self.sync_content(open[&file]).map(|()| 0).map_err(Failure::Operation)
            }
            Operation::Rename { from, to } => {
                assert!(!self.names.contains_key(&to), "{to} exists already");
                let index = self.names[&from];
                self.change(Change::Rename(from, to, index));
                self.open.remove(&from).map(|index| self.open.insert(to, index));
                Ok(0)
            }
            Operation::Remove { file } => {
                assert!(!self.open.contains_key(&file), "{file} is open");
                self.change(Change::Unlink(file, self.names[&file]));
                Ok(0)
            }
            Operation::Release { file, offset, .. } => {
                self.files[self.open[&file]].check_blank(offset);
                Ok(0)
            }
            Operation::Close { file } => {
                self.open.remove(&file).expect("it is open");
                Ok(0)
            }
            Operation::SyncDirectory => {
                self.sync_names();
                Ok(0)
            }
        };
        (result, None)
    }

    fn create(&mut self, file: FileName) {
        let index = match self.names.get(&file) {
            Some(&index) => index,
            None => {
                self.files.push(Content::default());
                self.change(Change::Link(file, self.files.len() - 1));
                self.files.len() - 1
            }
        };
        self.open.insert(file, index);
    }

    fn write(&mut self, file: FileName, offset: u64, bytes: &[u8], sync: bool) -> Result<usize, Failure> {
        let index = *self.open.get(&file).unwrap_or_else(|| panic!("{file} isn't open"));
        if self.rng.f64() < self.faults.write_fails {
            return Err(Failure::Operation(EIO));
        }
        let mut length = bytes.len();
        if self.rng.f64() < self.faults.short_writes {
            length = self.rng.usize(..=length / SECTOR) * SECTOR;
        }
        if let Some(capacity) = self.faults.capacity {
            let others: u64 = self.used() - self.files[index].now.len() as u64;
            length = length.min(capacity.saturating_sub(others + offset) as usize / SECTOR * SECTOR);
            if length == 0 && !bytes.is_empty() && offset as usize + bytes.len() > self.files[index].now.len()
            {
                return Err(Failure::Operation(ENOSPC));
            }
        }
        self.files[index].write(offset as usize, &bytes[..length]);
        if sync && length == bytes.len() {
            self.sync_content(index).map_err(Failure::Sync)?;
        }
        Ok(length)
    }

    /// Any sectors of a write that didn't complete.
    fn write_some(&mut self, file: FileName, offset: u64, buffer: &Buffer) {
        let Some(&index) = self.open.get(&file) else { return };
        let kept = [0.0, 1.0, 0.5][self.rng.usize(..3)];
        for (number, sector) in buffer.to_write().chunks(SECTOR).enumerate() {
            if self.rng.f64() < kept {
                self.files[index].write(offset as usize + number * SECTOR, sector);
            }
        }
    }

    fn sync_content(&mut self, index: usize) -> Result<(), i32> {
        let content = &mut self.files[index];
        if self.rng.f64() < self.faults.sync_fails {
            // Some of it got there, and nobody knows any more that the rest didn't.
            for sector in std::mem::take(&mut content.dirty) {
                if self.rng.bool() {
                    content.persist(sector);
                }
            }
            return Err(EIO);
        }
        content.sync();
        Ok(())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn sync_names(&mut self) {
        self.durable_names = self.names.clone();
        self.changes.clear();
    }

    fn used(&self) -> u64 {
        self.names.values().map(|&index| self.files[index].now.len() as u64).sum()
    }

    /// Counts a blocking call that changes something; whether it is to be carried out.
    fn burn(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            None => Ok(()),
            Some(0) => Err(power_is_cut()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

fn power_is_cut() -> io::Error {
    io::Error::other("the power was cut")
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Content {
    /// Zeros stay zeros when their space is given back, whenever the power is cut.
    fn check_blank(&self, from: u64) {
        let rest = |bytes: &[u8]| bytes.get(from as usize..).is_none_or(|rest| first_nonzero(rest).is_none());
        assert!(rest(&self.now) && rest(&self.durable), "what is behind offset {from} isn't blank");
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.persist(sector);
        }
    }

    /// Makes a sector durable; the length grows if it must.
    fn persist(&mut self, sector: usize) {
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.now.len());
        if self.durable.len() < range.end {
            self.durable.resize(range.end, 0);
        }
        self.durable[range.clone()].copy_from_slice(&self.now[range]);
    }

    fn lose(&mut self, kept: f64, rng: &mut Rng) {
        let length = if rng.bool() { self.durable.len() } else { self.now.len() };
        for sector in std::mem::take(&mut self.dirty) {
            if rng.f64() < kept {
                self.persist(sector);
            }
        }
        if self.durable.len() < length {
            self.durable.resize(length, 0);
        }
        self.now = self.durable.clone();
    }
}

impl Change {
    fn apply(self, names: &mut BTreeMap<FileName, usize>) {
        let mut unlink = |name, index| {
            if names.get(&name) == Some(&index) {
                names.remove(&name);
            }
        };
        match self {
            Self::Link(name, index) => drop(names.insert(name, index)),
            Self::Unlink(name, index) => unlink(name, index),
            Self::Rename(from, to, index) => {
                unlink(from, index);
                names.insert(to, index);
            }
        }
    }
}

impl Storage for SimulatedDisk {
    fn publish(&mut self, synced: Synced) {
        let index = self.names[&FileName::Synced];
        self.files[index].write(Synced::WORD_AT, &synced.word_bytes());
    }

    fn start(&mut self, id: OperationId, operation: Operation) {
        assert!(self.pending.iter().all(|(pending, _)| *pending != id), "{id:?} is on its way already");
        self.pending.push((id, operation));
    }
}

impl Directory for SimulatedDisk {
    fn list(&mut self) -> io::Result<Vec<FileName>> {
        let mut names: Vec<_> = self.names.keys().copied().collect();
        self.rng.shuffle(&mut names);
        Ok(names)
    }

    fn length(&mut self, file: FileName) -> io::Result<u64> {
        self.bytes(file).map(|bytes| bytes.len() as u64).ok_or_else(not_found)
    }

    fn read_at(&mut self, file: FileName, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.bytes(file).ok_or_else(not_found)?;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&mut self, file: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let burnt = self.burn();
        if !self.names.contains_key(&file) {
            if file != FileName::Synced {
                return Err(not_found());
            }
            burnt?;
            self.files.push(Content::default());
            self.change(Change::Link(file, self.files.len() - 1));
            return self.write_at(file, offset, bytes);
        }
        let index = self.names[&file];
        if burnt.is_ok() || self.rng.bool() {
            self.files[index].write(offset as usize, bytes);
        }
        burnt
    }

    fn sync(&mut self, file: FileName) -> io::Result<()> {
        let index = *self.names.get(&file).ok_or_else(not_found)?;
        self.burn()?;
        self.sync_content(index).map_err(io::Error::from_raw_os_error)
    }

    fn release(&mut self, file: FileName, offset: u64) -> io::Result<()> {
        let index = *self.names.get(&file).ok_or_else(not_found)?;
        self.files[index].check_blank(offset);
        Ok(())
    }

    fn remove(&mut self, file: FileName) -> io::Result<()> {
        let index = *self.names.get(&file).ok_or_else(not_found)?;
        let burnt = self.burn();
        if burnt.is_ok() || self.rng.bool() {
            self.change(Change::Unlink(file, index));
        }
        burnt
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.burn()?;
        self.sync_names();
        Ok(())
    }
}
