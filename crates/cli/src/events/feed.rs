//! A journal's batches, one after another, and those of all journals.

use std::path::Path;

use tickstream_journal::{Directory, FileDirectory, FileName, Reader};
use tickstream_schema::events::StoredBatch;
use tickstream_wire::messages::Message;

use super::EventsError;
use super::filter::Filter;
use super::journals::{self, Place};

/// How often to look again where there is no next record: retention may have taken the segment that was being read, and
/// the reader then finds its place in the next one.
const LOOKS: usize = 3;

/// A journal that is read forwards.
pub struct Feed {
    /// Which.
    pub place: Place,
    reader: Reader<FileDirectory>,
}

/// What one record holds: the events of one PUBLISH.
#[derive(Debug)]
pub struct Batch {
    /// Of the record, in its journal.
    pub record: u64,
    /// Who published it.
    pub producer: [u8; 16],
    /// The producer's own number for it.
    pub sequence: u64,
    /// Events, dead letters, and what the server knows of them.
    pub stored: StoredBatch,
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
            let (producer, sequence) = (record.producer, record.producer_sequence);
            return Ok(Some(Batch { record: record.sequence, producer, sequence, stored }));
        }
        Ok(None)
    }
}

/// Hands `take` the batches of every journal in `directory` whose events can be meant, each with its journal's name.
/// Where a journal can't be read on, the others may be sound: they are read all the same, and the first such error is the
/// answer.
///
/// # Errors
/// If there is no journal, and what `take` fails with, which ends it.
pub fn each_batch(
    directory: &Path,
    filter: &Filter,
    mut take: impl FnMut(&str, &Batch) -> Result<(), EventsError>,
) -> Result<Option<EventsError>, EventsError> {
    let mut first_error = None;
    for place in journals::find(directory)? {
        let mut feed = Feed::new(place, 0);
        loop {
            match feed.next() {
                Ok(Some(batch)) if filter.takes_batch(&batch) => take(&feed.place.name, &batch)?,
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    first_error.get_or_insert(error);
                    break;
                }
            }
        }
    }
    Ok(first_error)
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
