//! Decision about each event: new, a duplicate, or erased.

use tickstream_journal::JournalId;

use super::LoadError;
use super::suppression::{Subject, Suppression};
use crate::dedup::{Dedup, DedupError, EventId};
use crate::events::Rows;
use crate::events::rows::{Filter, Origin};
use crate::hash::HashSet;

/// Adds the events of a journal's records, each with its sequence, to `rows`: those that are new and not erased. New are those
/// that are neither in the table (`dedup`), nor being committed, nor pending. Numbers of those that were dropped: duplicates, and
/// those of erased users and sessions.
///
/// # Errors
/// If a record can't be read, or an id file; the rows must not be committed then.
pub fn take<'r>(
    journal: JournalId,
    records: impl IntoIterator<Item = (u64, &'r [u8])>,
    rows: &mut Rows,
    dedup: &Dedup,
    committing: &HashSet<EventId>,
    pending: &mut HashSet<EventId>,
    suppression: &mut Suppression,
) -> Result<(u64, u64), LoadError> {
    let name = journal.to_string();
    let mut admission =
        Admission { dedup, committing, pending, suppression, duplicates: 0, suppressed: 0, failed: None };
    for (sequence, payload) in records {
        rows.push_record(
            &Origin { journal: &name, journal_id: journal.0, sequence },
            payload,
            &mut admission,
        )?;
    }
    Ok(admission.finish()?)
}

/// Admits events that weren't loaded before and name nobody who was erased.
struct Admission<'a> {
    dedup: &'a Dedup,
    committing: &'a HashSet<EventId>,
    pending: &'a mut HashSet<EventId>,
    suppression: &'a mut Suppression,
    duplicates: u64,
    suppressed: u64,
    failed: Option<DedupError>,
}

impl Admission<'_> {
    fn finish(self) -> Result<(u64, u64), DedupError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok((self.duplicates, self.suppressed)),
        }
    }
}

impl Filter for Admission<'_> {
    fn admits(&mut self, event_id: &EventId, user: &[u8], session: &[u8]) -> bool {
        if self.suppression.contains(Subject::User, user)
            || self.suppression.contains(Subject::Session, session)
        {
            self.suppressed += 1;
            return false;
        }
        match self.dedup.contains(event_id) {
            Ok(false) if !self.committing.contains(event_id) && self.pending.insert(*event_id) => true,
            Ok(_) => {
                self.duplicates += 1;
                false
            }
            Err(error) => {
                self.failed = Some(error);
                false
            }
        }
    }

    fn admits_json(&mut self, json: &[u8]) -> bool {
        let is_mentioned = self.suppression.is_mentioned(json);
        self.suppressed += u64::from(is_mentioned);
        !is_mentioned
    }
}
