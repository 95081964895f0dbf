//! Records that the journal was handed, their outcome, and so the answer when one comes again.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tickstream_engine::StorageFault;

use crate::events::{Event, Reason, SERVER};
use crate::wire::{self, Value};

/// A batch's number, and whose it is.
pub type Name = ([u8; 16], u64);

/// Sequences at and below a producer's highest that are known.
const SEQUENCES: u64 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The shard has it.
    Queued,
    /// The journal has it.
    Appended,
    /// The shard was told that it is on stable storage.
    Durable,
    Refused(StorageFault),
}

/// Expected content of a record.
#[derive(Debug)]
pub struct Record {
    pub name: Name,
    pub events: Vec<Rc<Event>>,
    pub dead_letters: Vec<DeadLetter>,
    pub is_partial: bool,
    pub received: u64,
    pub peer: String,
    pub user: String,
    pub shard: u64,
    pub fate: Fate,
}

/// A dead letter.
#[derive(Debug)]
pub struct DeadLetter {
    pub index: u64,
    pub reason: Reason,
    /// `None`: it couldn't be read.
    pub event: Option<Rc<Event>>,
}

impl Record {
    /// Bytes of its payload.
    pub fn length(&self) -> usize {
        let field = |length: usize| 1 + varint_len(length as u64) + length;
        let number = |value: u64| if value == 0 { 0 } else { 1 + varint_len(value) };
        let letter = |letter: &DeadLetter| {
            let (code, message) = &letter.reason;
            let event = letter.event.as_ref().map_or(0, |event| field(event.bytes.len()));
            field(number(letter.index) + field(code.len()) + field(message.len()) + event)
        };
        9 + field(self.peer.len())
            + field(SERVER.len())
            + field(self.user.len())
            + number(self.shard)
            + self.events.iter().map(|event| field(event.bytes.len())).sum::<usize>()
            + self.dead_letters.iter().map(letter).sum::<usize>()
            + number(self.is_partial.into())
    }

    /// Compares a payload with what it must be.
    pub fn check(&self, payload: &[u8]) -> Result<(), String> {
        let (mut events, mut dead_letters) = (self.events.iter(), self.dead_letters.iter());
        let mut texts = BTreeMap::from([(2, &*self.peer), (4, SERVER), (5, &*self.user)]);
        let (mut received, mut shard, mut is_partial) = (0, 0, 0);
        for (field, value) in wire::fields(payload)? {
            match (field, value) {
                (1, Value::Fixed(time)) => received = time,
                (3, Value::Bytes(bytes)) => {
                    let event = events.next().ok_or("an event too many")?;
                    if event.bytes != bytes {
                        return Err(format!("an event isn't {event:?} but {bytes:02x?}"));
                    }
                }
                (2 | 4 | 5, Value::Bytes(bytes)) => {
                    let text = texts.remove(&field).ok_or("a field is there twice")?;
                    if text.as_bytes() != bytes {
                        return Err(format!("field {field} isn't {text:?}"));
                    }
                }
                (6, Value::Number(number)) => shard = number,
                (7, Value::Bytes(bytes)) => {
                    let letter = dead_letters.next().ok_or("a dead letter too many")?;
                    letter.check(bytes)?;
                }
                (8, Value::Number(number)) => is_partial = number,
                _ => return Err(format!("field {field} of a StoredBatch")),
            }
        }
        if !texts.is_empty() || events.len() > 0 || dead_letters.len() > 0 {
            return Err(format!(
                "it lacks {texts:?}, {} events, {} letters",
                events.len(),
                dead_letters.len()
            ));
        }
        let expected = (self.received, self.shard, self.is_partial.into());
        let found = (received, shard, is_partial);
        if found == expected { Ok(()) } else { Err(format!("it has {found:?}, not {expected:?}")) }
    }
}

impl DeadLetter {
    fn check(&self, bytes: &[u8]) -> Result<(), String> {
        let read = wire::message(bytes, &[1], &[2, 3])?;
        let event = wire::fields(bytes)?.into_iter().find_map(|(field, value)| match value {
            Value::Bytes(event) if field == 4 => Some(event),
            _ => None,
        });
        let (code, message) = &self.reason;
        let is_right = read.number(1) == self.index
            && read.text(2) == *code
            && read.text(3) == message
            && event == self.event.as_ref().map(|event| &event.bytes[..]);
        if is_right { Ok(()) } else { Err(format!("a dead letter isn't {self:?} but {read:?}")) }
    }
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// All records, and what is known by them.
#[derive(Debug)]
pub struct Stored {
    /// Number n is at n - 1.
    records: Vec<Record>,
    /// All before this one are durable or refused.
    unsettled: usize,
    /// Known event ids: each with its number, counted over all that were accepted, and its record.
    ids: BTreeMap<[u8; 16], (u64, u64)>,
    accepted: u64,
    ids_max: u64,
    /// Of each producer the highest sequence, and all that were taken.
    sequences: BTreeMap<[u8; 16], (u64, BTreeSet<u64>)>,
    durable: BTreeSet<[u8; 16]>,
}

impl Stored {
    pub fn new(event_ids: u32) -> Self {
        Self {
            records: Vec::new(),
            unsettled: 0,
            ids: BTreeMap::new(),
            accepted: 0,
            ids_max: u64::from(event_ids.max(16).next_power_of_two()),
            sequences: BTreeMap::new(),
            durable: BTreeSet::new(),
        }
    }

    pub fn record(&self, id: u64) -> &Record {
        &self.records[id as usize - 1]
    }

    /// The newest record; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.records.len() as u64
    }

    /// All records up to this one are durable or refused.
    pub fn settled(&self) -> u64 {
        self.unsettled as u64
    }

    /// Records that aren't.
    pub fn outstanding(&self) -> impl Iterator<Item = &Record> {
        let waits = |record: &&Record| matches!(record.fate, Fate::Queued | Fate::Appended);
        self.records[self.unsettled..].iter().filter(waits)
    }

    /// The record with an event that is known.
    pub fn known(&self, id: [u8; 16]) -> Option<u64> {
        let &(number, record) = self.ids.get(&id)?;
        (number + self.ids_max >= self.accepted).then_some(record)
    }

    /// Record of a batch that is known, if it isn't settled; all its valid events are duplicates then.
    pub fn repeats(&self, (producer, sequence): Name) -> Option<u64> {
        let (highest, seen) = self.sequences.get(&producer)?;
        if !seen.contains(&sequence) || sequence + SEQUENCES <= *highest {
            return None;
        }
        let newest = self.records[self.unsettled..].iter().rposition(|record| {
            record.name == (producer, sequence) && matches!(record.fate, Fate::Queued | Fate::Appended)
        });
        Some(newest.map_or(0, |at| (self.unsettled + at) as u64 + 1))
    }

    /// An event is accepted into the next record.
    pub fn accept(&mut self, id: [u8; 16]) {
        self.ids.insert(id, (self.accepted, self.last() + 1));
        self.accepted += 1;
    }

    /// A batch was taken whole.
    pub fn remember(&mut self, (producer, sequence): Name) {
        let (highest, seen) = self.sequences.entry(producer).or_default();
        if sequence + SEQUENCES > *highest {
            *highest = sequence.max(*highest);
            seen.insert(sequence);
        }
    }

    /// A journal from before has these events of a batch, all that will be if it isn't partial.
    pub fn restore(&mut self, name: Name, events: &[Rc<Event>], is_partial: bool) {
        for event in events {
            self.ids.insert(event.id, (self.accepted, 0));
            self.accepted += 1;
            self.durable.insert(event.id);
        }
        if !is_partial {
            self.remember(name);
        }
    }

    /// Nothing was ever known.
    pub fn is_empty(&self) -> bool {
        self.accepted == 0 && self.sequences.is_empty()
    }

    pub fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// The journal has a record: the oldest that it didn't have.
    pub fn append(&mut self, id: u64) {
        self.records[id as usize - 1].fate = Fate::Appended;
    }

    /// All up to one that weren't refused are durable. Answers with how many events and dead letters that is.
    pub fn sync(&mut self, up_to: u64) -> (u64, u64) {
        let (mut events, mut dead_letters) = (0, 0);
        for record in &mut self.records[self.unsettled..up_to as usize] {
            assert_ne!(record.fate, Fate::Queued, "the journal doesn't have it");
            if record.fate == Fate::Appended {
                record.fate = Fate::Durable;
                events += record.events.len() as u64;
                dead_letters += record.dead_letters.len() as u64;
                self.durable.extend(record.events.iter().map(|event| event.id));
            }
        }
        self.settle();
        (events, dead_letters)
    }

    /// A record won't be stored: it is as if it had never come.
    pub fn refuse(&mut self, id: u64, fault: StorageFault) -> u64 {
        let record = &mut self.records[id as usize - 1];
        record.fate = Fate::Refused(fault);
        let (events, (producer, sequence)) = (record.events.len() as u64, record.name);
        for event in &record.events {
            if self.ids.get(&event.id).is_some_and(|(_, of)| *of == id) {
                self.ids.remove(&event.id);
            }
        }
        if let Some((_, seen)) = self.sequences.get_mut(&producer) {
            seen.remove(&sequence);
        }
        self.settle();
        events
    }

    fn settle(&mut self) {
        let settled = |record: &Record| matches!(record.fate, Fate::Durable | Fate::Refused(_));
        while self.records.get(self.unsettled).is_some_and(settled) {
            self.unsettled += 1;
        }
    }

    /// True if an event is on stable storage.
    pub fn is_durable(&self, id: [u8; 16]) -> bool {
        self.durable.contains(&id)
    }
}
