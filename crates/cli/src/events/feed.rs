//! A journal's batches, one after another, and those of all journals.

use std::path::Path;

use tickstream_journal::{Directory, FileDirectory, FileName, Reader};
use tickstream_schema::events::StoredBatch;
use tickstream_server::stored::Filter;
use tickstream_wire::messages::Message;

pub use super::batch::Batch;

use super::EventsError;
use super::journals::{self, Place};
use super::say;
use super::unknown;
use crate::cli::StopFlag;

/// Looks where there is no next record: retention may have taken the segment that was being read, and
/// the reader then finds its place in the next one.
const LOOKS: usize = 3;

/// A journal that is read forwards.
pub struct Feed {
    /// Its place.
    pub place: Place,
    reader: Reader<FileDirectory>,
}

impl Feed {
    /// Begins at the record with sequence `from`, or at the oldest there is.
    pub fn new(place: Place, from: u64) -> Self {
        let reader = Reader::new(FileDirectory::open(&place.path), from);
        Self { place, reader }
    }

    /// The next one; `None` if there is none yet.
    ///
    /// # Errors
    /// If the journal is damaged there, or can't be read.
    pub fn next(&mut self) -> Result<Option<Batch>, EventsError> {
        let path = || self.place.path.clone();
        for _ in 0..LOOKS {
            let read = self.reader.next_record();
            let found = read.map_err(|source| EventsError::Journal { path: path(), source })?;
            let Some(record) = found else { continue };
            let sequence = record.sequence;
            let stored = StoredBatch::decode(record.payload).map_err(|source| EventsError::Record {
                path: path(),
                sequence,
                source,
            })?;
            let raw_events = unknown::raw_events(record.payload, &stored);
            let (producer, sequence) = (record.producer, record.producer_sequence);
            return Ok(Some(Batch { record: record.sequence, producer, sequence, stored, raw_events }));
        }
        Ok(None)
    }
}

/// Hands `take` the batches of every journal in `directory` whose events can be meant, each with its journal's name.
/// A journal that can't be read on is named, and the others are read all the same.
///
/// # Errors
/// If there is no journal, one is damaged, or a signal came; and what `take` fails with, which ends it.
pub fn each_batch(
    directory: &Path,
    filter: &Filter,
    stop: &StopFlag,
    mut take: impl FnMut(&str, &Batch) -> Result<(), EventsError>,
) -> Result<(), EventsError> {
    let places = journals::find(directory)?;
    let mut damage = Damage::among(places.len());
    for place in places {
        let mut feed = Feed::new(place, 0);
        while !stop.is_set() {
            match feed.next() {
                Ok(Some(batch)) if batch.is_meant(filter) => take(&feed.place.name, &batch)?,
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    damage.found(error);
                    break;
                }
            }
        }
    }
    if stop.is_set() { Err(EventsError::Interrupted) } else { damage.outcome() }
}

/// The journals that can't be read to their end, among all that are read.
pub struct Damage {
    checked: usize,
    damaged: usize,
    /// The error of the only journal, which is the answer.
    only: Option<EventsError>,
}

impl Damage {
    /// None yet, among so many journals.
    pub fn among(journals: usize) -> Self {
        Self { checked: journals, damaged: 0, only: None }
    }

    /// Names one.
    pub fn found(&mut self, error: EventsError) {
        self.damaged += 1;
        if self.checked == 1 {
            self.only = Some(error);
        } else {
            say(&format!("error: {error}"));
        }
    }

    /// There is one journal more.
    pub fn checks_another(&mut self) {
        self.checked += 1;
        if let Some(error) = self.only.take() {
            say(&format!("error: {error}"));
        }
    }

    /// Succeeds if all were sound.
    ///
    /// # Errors
    /// If not.
    pub fn outcome(self) -> Result<(), EventsError> {
        let Self { checked, damaged, only } = self;
        match only {
            Some(error) => Err(error),
            None if damaged > 0 => Err(EventsError::Damaged { damaged, checked }),
            None => Ok(()),
        }
    }
}

/// Sequences at which a journal's segments begin, oldest first.
///
/// # Errors
/// If its directory can't be read.
pub fn segments(place: &Place) -> Result<Vec<u64>, EventsError> {
    let files = FileDirectory::open(&place.path).list();
    let files = files.map_err(|source| EventsError::Directory { path: place.path.clone(), source })?;
    let first = |file| match file {
        FileName::Segment(first) => Some(first),
        FileName::Next | FileName::Synced => None,
    };
    let mut segments: Vec<_> = files.into_iter().filter_map(first).collect();
    segments.sort_unstable();
    Ok(segments)
}
