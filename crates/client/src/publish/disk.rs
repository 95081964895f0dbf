//! The disk queue: events without a final answer, in a file, so that they survive the process.
//!
//! The file is a log of what happens in the pipeline, in the journal's record format (docs/journal.md, "Record"):
//!
//! | record | sequence | producer_sequence | events | payload |
//! | --- | --- | --- | --- | --- |
//! | head, the first | 0 | the next batch's number | 0 | [`MAGIC`] |
//! | an event was taken | its number | 0 | 1 | the event |
//! | events became a batch | 0 | the batch's number | how many | their numbers, 8 bytes each, little-endian |
//! | a batch was answered | 0 | the batch's number, 0: none | 0 | the numbers of its events that have a final answer |
//!
//! A file of mostly answered events is written anew from what the pipeline holds, under another
//! name, and takes the old one's place. Only that is synced: a power cut may lose the last events. It never makes a
//! number stand for two batches, since each start leaves out [`LEAP`] of them.
//!
//! A record that was damaged costs itself alone: reading goes on at the next sound one, which a CRC and the producer's id
//! tell. The file as it was found is kept beside, and the application is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Seek, Write},
    path::{Path, PathBuf},
};

#[cfg(not(unix))]
use std::fs::create_dir_all as create_directory;

#[cfg(unix)]
use tickstream_journal::create_directory;
use tickstream_journal::record::{Record, encoded_len};

use super::{make::new_producer_id, options::Producer};

const MAGIC: &[u8] = b"tickstream queue 1";
const NAME: &str = "queue";
const NEXT_NAME: &str = "queue.next";
const DAMAGED_NAME: &str = "queue.damaged";
/// Offset of the producer's id in a record: docs/journal.md, "Record".
const PRODUCER_AT: usize = 16;
/// More batches than go out in the time that the system takes to write a file by itself.
const LEAP: u64 = 1 << 32;
/// A shorter file isn't worth the work.
const REWRITE_MIN: u64 = 1 << 20;

/// The file, and what it has to be.
pub(crate) struct DiskQueue {
    dir: PathBuf,
    _lock: File,
    file: File,
    /// Of whole records, bytes.
    length: u64,
    /// Of the records of events without a final answer, bytes.
    live: u64,
    /// Length when it was last written anew, bytes.
    rewritten: u64,
    bytes_max: u64,
    producer: [u8; 16],
    /// Set where a record is missing in the file: it is to be written anew.
    is_incomplete: bool,
    buffer: Vec<u8>,
}

/// Everything that a process before has left.
#[derive(Debug, PartialEq)]
pub(crate) struct Restored {
    pub producer: Producer,
    pub content: Content,
    pub damage: Option<Damage>,
}

/// Parts of a file that couldn't be read.
#[derive(Debug, PartialEq)]
pub(crate) struct Damage {
    pub bytes: u64,
    /// Copy of the file.
    pub kept: PathBuf,
}

/// Events by their numbers, and batches of them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Content {
    pub events: BTreeMap<u64, Box<[u8]>>,
    pub batches: BTreeMap<u64, Vec<u64>>,
}

/// Why an event can't be written down.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// First, the file must be written anew.
    Rewrite,
    /// There are too many.
    Full,
    /// The disk says so.
    Disk(io::Error),
}

impl DiskQueue {
    /// Opens or makes the queue in `dir`, which is this process's alone until it is dropped.
    pub fn open(dir: &Path, bytes_max: u64) -> io::Result<(Self, Restored)> {
        create_directory(dir)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(ErrorKind::WouldBlock, "another publisher has it open"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let restored = match fs::read(dir.join(NAME)) {
            Ok(bytes) => restore(dir, &bytes)?,
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let new = || Restored {
            producer: Producer { id: new_producer_id(), next_sequence: 1 },
            content: Content::default(),
            damage: None,
        };
        let restored = restored.unwrap_or_else(new);
        let Restored { producer, content, damage: _ } = &restored;
        let mut queue = Self {
            dir: dir.to_owned(),
            _lock: lock,
            file: File::create(dir.join(NEXT_NAME))?,
            length: 0,
            live: 0,
            rewritten: 0,
            bytes_max,
            producer: producer.id,
            is_incomplete: false,
            buffer: Vec::new(),
        };
        let events = content.events.iter().map(|(number, bytes)| (*number, &bytes[..]));
        let batches = content.batches.iter().map(|(sequence, numbers)| (*sequence, numbers.clone()));
        queue.rewrite(producer.next_sequence, events, batches)?;
        Ok((queue, restored))
    }

    /// An event was taken.
    pub fn event(&mut self, number: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let length = encoded_len(bytes.len()) as u64;
        // Half of it is for what happens to them, or the same would soon be written again and again.
        if 2 * (self.live + length) > self.bytes_max {
            return Err(Refusal::Full);
        }
        if self.length + length > self.bytes_max {
            return Err(Refusal::Rewrite);
        }
        let record = Record {
            sequence: number,
            producer: self.producer,
            producer_sequence: 0,
            events: 1,
            payload: bytes,
        };
        self.append(&record).map_err(Refusal::Disk)?;
        self.live += length;
        Ok(())
    }

    /// Events became a batch. Without a record of it, they are in another one after a restart: the server knows them by
    /// their ids, then.
    pub fn batch(&mut self, sequence: u64, numbers: &[u64]) {
        let payload = to_bytes(numbers);
        let record = batch_record(self.producer, sequence, numbers.len(), &payload);
        self.is_incomplete |= self.append(&record).is_err();
    }

    /// A batch was answered, which frees so many bytes of events. Without a record of it, it goes again after a restart.
    pub fn answered(&mut self, sequence: u64, numbers: &[u64], bytes: impl Iterator<Item = usize>) {
        self.live -= bytes.map(|bytes| encoded_len(bytes) as u64).sum::<u64>();
        let payload = to_bytes(numbers);
        let record = batch_record(self.producer, sequence, 0, &payload);
        self.is_incomplete |= self.append(&record).is_err();
    }

    /// True if [`rewrite`](Self::rewrite) is due: what the records of the next answer take must fit, too.
    pub fn wants_rewrite(&self) -> bool {
        let is_full = self.length > self.bytes_max - self.bytes_max / 8;
        let is_worth_it = self.length > self.rewritten + self.bytes_max / 8;
        self.is_incomplete
            || is_full && is_worth_it
            || self.length > REWRITE_MIN && self.length > 4 * self.live
    }

    /// Writes the file anew.
    pub fn rewrite<'a>(
        &mut self,
        next_sequence: u64,
        events: impl Iterator<Item = (u64, &'a [u8])>,
        batches: impl Iterator<Item = (u64, Vec<u64>)>,
    ) -> io::Result<()> {
        let (dir, producer) = (&self.dir, self.producer);
        let mut out = io::BufWriter::new(File::create(dir.join(NEXT_NAME))?);
        let (mut length, mut live) = (0, 0);
        let buffer = &mut self.buffer;
        let mut write = |record: &Record<'_>| {
            buffer.clear();
            record.encode_to(buffer);
            length += buffer.len() as u64;
            out.write_all(buffer)
        };
        write(&Record {
            sequence: 0,
            producer,
            producer_sequence: next_sequence,
            events: 0,
            payload: MAGIC,
        })?;
        for (number, payload) in events {
            live += encoded_len(payload.len()) as u64;
            write(&Record { sequence: number, producer, producer_sequence: 0, events: 1, payload })?;
        }
        for (sequence, numbers) in batches {
            write(&batch_record(producer, sequence, numbers.len(), &to_bytes(&numbers)))?;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_data()?;
        fs::rename(dir.join(NEXT_NAME), dir.join(NAME))?;
        // It is the queue from here on, whatever else fails: what went to the old one would be lost.
        (self.file, self.length, self.live, self.is_incomplete) = (file, length, live, false);
        self.rewritten = length;
        File::open(&self.dir)?.sync_all()
    }

    fn append(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.buffer.clear();
        record.encode_to(&mut self.buffer);
        let written = self.file.write_all(&self.buffer);
        if written.is_ok() {
            self.length += self.buffer.len() as u64;
        } else {
            // What is behind half a record would be lost.
            self.file.set_len(self.length).and_then(|()| self.file.seek(io::SeekFrom::End(0)))?;
        }
        written
    }
}

fn batch_record(producer: [u8; 16], sequence: u64, events: usize, payload: &[u8]) -> Record<'_> {
    Record { sequence: 0, producer, producer_sequence: sequence, events: events as u32, payload }
}

fn to_bytes(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn to_numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().expect("eight bytes")))
}

/// Reads the file in `dir`; `None` if it isn't even begun. A damaged one is copied before it is replaced.
fn restore(dir: &Path, bytes: &[u8]) -> io::Result<Option<Restored>> {
    let Some((mut restored, damaged)) = read(bytes)? else { return Ok(None) };
    if damaged > 0 {
        restored.damage = Some(Damage { bytes: damaged, kept: keep(dir, bytes)? });
    }
    Ok(Some(restored))
}

/// Content of a file, and how many bytes of it can't be read: damage, or a last record that wasn't written whole.
fn read(bytes: &[u8]) -> io::Result<Option<(Restored, u64)>> {
    let Ok((head, _)) = Record::decode(bytes) else {
        return if bytes.len() < encoded_len(MAGIC.len()) { Ok(None) } else { Err(no_queue()) };
    };
    if head.payload != MAGIC {
        return Err(no_queue());
    }
    let mut next_sequence = head.producer_sequence;
    let (mut content, mut damaged) = (Content::default(), 0);
    let mut rest = &bytes[head.encoded_len()..];
    while !rest.is_empty() {
        let length = match Record::decode(rest) {
            Ok((record, _)) => {
                next_sequence = next_sequence.max(record.producer_sequence.saturating_add(1));
                content.take(&record);
                record.encoded_len()
            }
            Err(_) => {
                let next = next_sound(rest, &head.producer).unwrap_or(rest.len());
                damaged += next as u64;
                next
            }
        };
        rest = &rest[length..];
    }
    let producer = Producer { id: head.producer, next_sequence: next_sequence.saturating_add(LEAP) };
    Ok(Some((Restored { producer, content, damage: None }, damaged)))
}

/// The place of the next sound record of this producer behind the first byte.
fn next_sound(bytes: &[u8], producer: &[u8; 16]) -> Option<usize> {
    // The id is looked at first: a CRC at each place would take for ever.
    (1..bytes.len()).find(|place| {
        bytes.get(place + PRODUCER_AT..).is_some_and(|rest| rest.starts_with(producer))
            && Record::decode(&bytes[*place..]).is_ok()
    })
}

/// Keeps a damaged file, in place of one that was damaged before: one file's worth of space is enough.
fn keep(dir: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let path = dir.join(DAMAGED_NAME);
    let mut file = File::create(&path)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    Ok(path)
}

fn no_queue() -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        "the file `queue` in it isn't a disk queue that this version knows",
    )
}

impl Content {
    fn take(&mut self, record: &Record<'_>) {
        let Record { sequence: number, producer_sequence: sequence, events, payload, .. } = *record;
        if number > 0 {
            self.events.insert(number, payload.into());
            return;
        }
        let numbers: BTreeSet<u64> = to_numbers(payload).collect();
        if events == 0 {
            numbers.iter().for_each(|number| drop(self.events.remove(number)));
            self.batches.remove(&sequence);
            return;
        }
        // An event is in one batch, the last, also where the record of an answer couldn't be written.
        self.batches.values_mut().for_each(|batch| batch.retain(|number| !numbers.contains(number)));
        self.batches.retain(|_, batch| !batch.is_empty());
        let known: Vec<u64> = numbers.into_iter().filter(|number| self.events.contains_key(number)).collect();
        // A batch whose events a power cut took, or whose answer came before, has nothing to send.
        if !known.is_empty() {
            self.batches.insert(sequence, known);
        }
    }
}

#[cfg(test)]
mod tests;
