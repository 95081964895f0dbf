//! A virtual journal: what it takes is durable after a while, in groups; its disk is slow, full or failing now and then.
//!
//! The simulated journal says what crates/server/src/shard/journal_driver.rs may say: records are refused when they are appended, in order, and
//! never once they were taken.

use std::collections::VecDeque;

use tickstream_engine::{IngestPressure, StorageFault};

use crate::rng::Rng;
use crate::ticks::{MS, SECOND};

/// State of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Quick,
    Slow,
    /// Commits don't end.
    Stuck,
    Full,
    Failing,
}

/// Answer of the journal to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The record will be durable.
    Taken,
    /// Its memory is used up: the same record again later.
    Busy,
    Refused(StorageFault),
}

#[derive(Debug)]
pub struct Journal {
    mood: Mood,
    bytes_max: usize,
    /// Records in memory, oldest first, and their bytes.
    appended: VecDeque<(u64, usize)>,
    bytes: usize,
    /// Number of the oldest that are being committed.
    committing: usize,
    /// The newest record that is durable, if the shard wasn't told yet.
    durable: Option<u64>,
    /// A record that was handed out and not taken: its bytes.
    pub waiting: Option<(u64, usize)>,
}

impl Journal {
    pub fn new(rng: &mut Rng) -> Self {
        Self {
            mood: Mood::Quick,
            bytes_max: rng.pick(&[2_000, 20_000, 4 << 20]),
            appended: VecDeque::new(),
            bytes: 0,
            committing: 0,
            durable: None,
            waiting: None,
        }
    }

    /// The disk changes; how long it stays like that.
    pub fn turn(&mut self, rng: &mut Rng) -> (Mood, u64) {
        let moods = [Mood::Quick, Mood::Slow, Mood::Stuck, Mood::Full, Mood::Failing];
        self.mood = moods[rng.weighted(&[6, 4, 2, 2, 1])];
        let lasts = match self.mood {
            Mood::Quick | Mood::Slow => rng.range(SECOND..10 * SECOND),
            Mood::Stuck | Mood::Full | Mood::Failing => rng.range(50 * MS..4 * SECOND),
        };
        (self.mood, lasts)
    }

    /// The newest record that has become durable since the last call.
    pub fn newly_durable(&mut self) -> Option<u64> {
        self.durable.take()
    }

    /// Appends a record; one of any size where there is nothing else.
    pub fn append(&mut self, id: u64, bytes: usize) -> Appended {
        match self.mood {
            Mood::Full => return Appended::Refused(StorageFault::Full),
            Mood::Failing => return Appended::Refused(StorageFault::Failed),
            _ if self.bytes > 0 && self.bytes + bytes > self.bytes_max => return Appended::Busy,
            _ => {}
        }
        self.bytes += bytes;
        self.appended.push_back((id, bytes));
        Appended::Taken
    }

    /// Begins to commit the records that are there, if no commit is on its way, and answers how long it will take.
    pub fn commit(&mut self, rng: &mut Rng) -> Option<u64> {
        if self.committing > 0 || self.appended.is_empty() {
            return None;
        }
        self.committing = self.appended.len();
        Some(match self.mood {
            Mood::Quick => rng.below(3 * MS),
            _ => rng.range(20 * MS..900 * MS),
        })
    }

    /// A commit is to end: it does, unless the disk is stuck; then, how much longer it takes.
    pub fn committed(&mut self, rng: &mut Rng) -> Option<u64> {
        if self.mood == Mood::Stuck {
            return Some(rng.range(50 * MS..500 * MS));
        }
        for (id, bytes) in self.appended.drain(..std::mem::take(&mut self.committing)) {
            self.bytes -= bytes;
            self.durable = Some(id);
        }
        None
    }

    pub fn pressure(&self, rng: &mut Rng) -> IngestPressure {
        if self.waiting.is_some() {
            // The driver asks to wait here, and may as well refuse.
            let ms = 200;
            return if rng.one_in(2) {
                IngestPressure::Refuse { ms }
            } else {
                IngestPressure::Throttle { ms }
            };
        }
        if 2 * self.bytes > self.bytes_max {
            IngestPressure::Throttle { ms: 20 }
        } else {
            IngestPressure::None
        }
    }
}
