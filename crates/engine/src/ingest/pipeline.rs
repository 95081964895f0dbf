//! The pipeline: validate, apply privacy rules, deduplicate and build the record, in one pass over a batch's bytes.
//!
//! The pipeline asks the [`Ledger`] which records aren't stored yet, and changes nothing there.

use tickstream_schema::events::DeadLetter;
use tickstream_wire::messages::Message;

use super::counters::IngestCounters;
use super::dedup::{EventIds, Producers};
use super::ledger::{Ledger, NewRecord};
use super::publisher::Pending;
use super::rejected::RejectedEvent;
use super::rules::Rules;
use super::{EVENTS, IngestConfig, RecordId, RestoreError, Source};
use crate::clock::Now;
use tickstream_schema::Redactor;
use tickstream_schema::cursor::{Cursor, Malformed, Wire, put_bytes, put_number, put_varint};
use tickstream_schema::table::EVENT_BYTES_MAX;
use tickstream_schema::validate::{Clocks, Valid, is_readable, validate};
use tickstream_schema::{Rejection, RejectionCode};

/// The number of `dead_letters` in StoredBatch.
const DEAD_LETTERS: u32 = 7;
/// The number of `is_partial` in StoredBatch.
const IS_PARTIAL: u32 = 8;
/// Bytes of `is_partial`, with its key.
const IS_PARTIAL_BYTES: usize = 2;
/// Bytes of the key and the length that an event or a dead letter gets, at most.
const FIELD_BYTES: usize = 4;

/// Fields of a batch that are hashed: some milliseconds of the shard's time. Behind the event that reaches it, those with
/// private fields are to come in another batch.
pub(crate) const HASHES_MAX: u32 = 4_096;

/// Bytes of a batch's dead letters: so many times the batch's own, and so many beside.
const DEAD_LETTERS_RATIO: usize = 2;
const DEAD_LETTERS_BYTES: usize = 1_024;

/// Smallest limit on a record's bytes: an event of the largest size fits, and what rules make of it.
const RECORD_BYTES_MIN: u32 = 256 << 10;

/// Makes records of batches. Holds what one batch leaves behind for the next: the ids of events and the sequences of
/// producers.
#[derive(Debug)]
pub(crate) struct Pipeline {
    rules: Rules,
    redactor: Redactor,
    /// An event that is being redacted.
    redacted: Vec<u8>,
    ids: EventIds,
    producers: Producers,
    /// As it stands in every record.
    server: Box<str>,
    record_bytes_max: usize,
}

/// Origin of a batch, as it stands in its record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub source: Source,
    pub user: &'a str,
    pub now: Now,
}

/// A batch while it is being processed.
struct Batch<'p> {
    ledger: &'p Ledger,
    counters: &'p mut IngestCounters,
    /// All records up to this are settled.
    settled: RecordId,
    id: RecordId,
    /// The number of the first id that it adds.
    first: u64,
    /// The batch was seen; if it isn't stored yet, its record.
    repeats: Option<RecordId>,
    clocks: Clocks,
    accepted: u32,
    pending: &'p mut Pending,
    /// The StoredBatch.
    out: Vec<u8>,
    dead_letters: Vec<u8>,
    dead_letters_count: u32,
    /// Limit on the bytes of its dead letters, but for the first.
    dead_letters_max: usize,
    /// There are rejections after which an event may come again, or get another answer if it does.
    is_partial: bool,
}

/// Form in which an event is stored.
enum Kept {
    /// In the bytes in which it came.
    AsItCame,
    /// As privacy rules left it.
    Redacted,
    /// Not at all, or not by this record.
    Not,
}

impl Pipeline {
    pub fn new(config: &IngestConfig, rules: Rules) -> Self {
        Self {
            rules,
            redactor: Redactor::new(&config.privacy),
            redacted: Vec::new(),
            ids: EventIds::new(config.event_ids, config.seed),
            producers: Producers::new(config.seed),
            server: config.server.clone(),
            record_bytes_max: config.record_bytes.max(RECORD_BYTES_MIN) as usize,
        }
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Processes each of `events`: notes in `pending` what the answer says and waits for, and makes a record, in the
    /// buffer `out`, of those that are to be stored.
    pub fn process(
        &mut self,
        events: &[u8],
        origin: Origin<'_>,
        pending: &mut Pending,
        out: Vec<u8>,
        ledger: &Ledger,
        counters: &mut IngestCounters,
    ) -> NewRecord {
        let (producer, sequence) = (pending.producer, pending.sequence);
        let seen = self.producers.has_seen(producer, sequence);
        let mut batch = Batch {
            ledger,
            counters,
            settled: ledger.settled(),
            id: ledger.next_id(),
            first: self.ids.next(),
            repeats: seen.then(|| ledger.record_of_batch(producer, sequence)),
            clocks: self.rules.clocks(origin.now),
            accepted: 0,
            pending,
            out,
            dead_letters: Vec::new(),
            dead_letters_count: 0,
            dead_letters_max: DEAD_LETTERS_RATIO * events.len() + DEAD_LETTERS_BYTES,
            is_partial: false,
        };
        self.redactor.begin_count();
        batch.out.reserve(events.len() + 128);
        self.put_head(&mut batch.out, origin);
        self.process_all(events, &mut batch);
        self.finish(batch)
    }

    /// Fields that were hashed of the last batch.
    pub fn hashed(&self) -> u32 {
        self.redactor.hashed()
    }

    /// Forgets the events and the sequence of a record that wasn't stored.
    pub fn forget(&mut self, producer: [u8; 16], sequence: u64, first_id: u64, ids: u32) {
        self.ids.forget_range(first_id, ids.into());
        self.producers.forget(producer, sequence);
    }

    /// The fields of a StoredBatch before its events.
    fn put_head(&self, out: &mut Vec<u8>, origin: Origin<'_>) {
        let Origin { source, user, now } = origin;
        put_varint(out, 1 << 3 | 1);
        out.extend_from_slice(&now.unix_ns.to_le_bytes());
        put_bytes(out, 2, self.redactor.peer(source.peer).to_string().as_bytes());
        put_bytes(out, 4, self.server.as_bytes());
        put_bytes(out, 5, user.as_bytes());
        put_number(out, 6, source.shard.into());
    }

    fn process_all(&mut self, events: &[u8], batch: &mut Batch<'_>) {
        let mut cursor = Cursor::new(events);
        // Events that are stored as they came and lie one behind the other.
        let mut run = 0..0;
        let mut index = 0;
        loop {
            let start = cursor.at();
            // count_events has been here: there is nothing that can't be read.
            let Ok(Some((number, wire))) = cursor.key() else { break };
            if number != EVENTS {
                let _ = cursor.skip(number, wire);
                continue;
            }
            let Ok(event) = cursor.bytes() else { break };
            let field = start..cursor.at();
            match self.process_one(event, field.len(), index, run.len(), batch) {
                Kept::AsItCame if run.end == field.start && !run.is_empty() => run.end = field.end,
                Kept::AsItCame => {
                    batch.out.extend_from_slice(&events[std::mem::replace(&mut run, field)]);
                }
                Kept::Redacted => {
                    batch.out.extend_from_slice(&events[std::mem::replace(&mut run, 0..0)]);
                    put_bytes(&mut batch.out, EVENTS, &self.redacted);
                }
                Kept::Not => {}
            }
            index += 1;
        }
        batch.out.extend_from_slice(&events[run]);
    }

    /// Processes one event, which takes `field` bytes with its key and length; `run` bytes before it wait to be copied.
    fn process_one(
        &mut self,
        event: &[u8],
        field: usize,
        index: u32,
        run: usize,
        batch: &mut Batch<'_>,
    ) -> Kept {
        if index >= batch.pending.granted {
            self.reject(event, index, Rejection::new(RejectionCode::RateLimited), run, batch);
            return Kept::Not;
        }
        let valid = match validate(&self.rules.plan, event, batch.clocks) {
            Ok(valid) => valid,
            Err(rejection) => {
                self.reject(event, index, rejection, run, batch);
                return Kept::Not;
            }
        };
        if let Some(record) = batch.repeats {
            batch.duplicate(index, record);
            return Kept::Not;
        }
        let mut length = field;
        if valid.is_private {
            if self.redactor.hashed() >= HASHES_MAX {
                self.reject(event, index, Rejection::new(RejectionCode::BatchFull), run, batch);
                return Kept::Not;
            }
            self.redacted.clear();
            if self.redactor.redact(&self.rules.plan, event, &mut self.redacted).is_err() {
                self.reject(event, index, Rejection::new(RejectionCode::Malformed), run, batch);
                return Kept::Not;
            }
            length = self.redacted.len() + FIELD_BYTES;
        }
        if batch.stored_bytes() + run + length > self.record_bytes_max {
            self.reject(event, index, Rejection::new(RejectionCode::BatchFull), run, batch);
            return Kept::Not;
        }
        self.admit(valid, index, batch)
    }

    fn admit(&mut self, valid: Valid, index: u32, batch: &mut Batch<'_>) -> Kept {
        match self.ids.insert(valid.event_id) {
            Ok(()) => {
                batch.accepted += 1;
                if valid.is_private { Kept::Redacted } else { Kept::AsItCame }
            }
            Err(number) => {
                let record = if number >= batch.first { batch.id } else { batch.ledger.record_of(number) };
                batch.duplicate(index, record);
                Kept::Not
            }
        }
    }

    /// Notes a rejection and, where sending again won't help, a dead letter.
    fn reject(&mut self, event: &[u8], index: u32, rejection: Rejection, run: usize, batch: &mut Batch<'_>) {
        let mut rejection = rejection;
        if !rejection.code.is_retryable() && batch.repeats.is_none() {
            let room = batch.room_for_dead_letters(self.record_bytes_max, run);
            let has_time = self.redactor.hashed() < HASHES_MAX;
            let letter = has_time.then(|| self.dead_letter(event, index, &rejection).encode_to_vec());
            if let Some(letter) = letter.filter(|letter| letter.len() + FIELD_BYTES <= room) {
                put_bytes(&mut batch.dead_letters, DEAD_LETTERS, &letter);
                batch.dead_letters_count += 1;
            } else {
                // In another batch, its letter will find room.
                rejection = Rejection::new(RejectionCode::BatchFull);
            }
        }
        batch.is_partial |= rejection.code.is_retryable() || rejection.code.depends_on_time();
        batch.pending.rejections.push(RejectedEvent { index, rejection });
        batch.counters.rejected[rejection.code as usize] += 1;
    }

    fn dead_letter(&self, event: &[u8], index: u32, rejection: &Rejection) -> DeadLetter {
        let redacted = is_readable(&self.rules.plan, event).then(|| {
            let mut redacted = Vec::with_capacity(event.len());
            self.redactor.redact(&self.rules.plan, event, &mut redacted).map(|()| redacted).ok()
        });
        DeadLetter {
            index,
            code: rejection.code.as_str().to_owned(),
            message: self.rules.message(rejection),
            event: redacted.flatten().filter(|redacted| redacted.len() <= EVENT_BYTES_MAX),
        }
    }

    /// Completes the record, and notes what the answer waits for.
    fn finish(&mut self, mut batch: Batch<'_>) -> NewRecord {
        let pending = &mut *batch.pending;
        batch.counters.duplicates += u64::from(pending.duplicates);
        // The dead letters of a batch that comes again are in the record of the first.
        let first = batch.repeats.filter(|record| *record > batch.settled);
        pending.dead_letters = first.filter(|_| !pending.rejections.is_empty());
        if !pending.unsynced_duplicates.is_empty() || pending.dead_letters.is_some() {
            pending.after = batch.ledger.last();
        }
        // What may have to come again must not be taken for a duplicate then.
        let is_partial =
            batch.is_partial || pending.unsynced_duplicates.iter().any(|(_, record)| *record != batch.id);
        if !is_partial {
            self.producers.remember(pending.producer, pending.sequence);
        }
        let is_empty = batch.accepted == 0 && batch.dead_letters_count == 0;
        if !is_empty {
            batch.out.append(&mut batch.dead_letters);
            put_number(&mut batch.out, IS_PARTIAL, is_partial.into());
            (pending.own, pending.dead_letters) = (Some(batch.id), Some(batch.id));
            pending.after = batch.id;
        }
        NewRecord {
            first_id: batch.first,
            events: batch.accepted,
            dead_letters: batch.dead_letters_count,
            payload: batch.out,
        }
    }

    /// Remembers what is in a record that recovery found.
    pub fn restore(&mut self, producer: [u8; 16], sequence: u64, payload: &[u8]) -> Result<(), RestoreError> {
        let mut events_before = 0;
        let is_partial = self
            .restore_ids(payload, &mut events_before)
            .map_err(|Malformed| RestoreError { events_before })?;
        if !is_partial {
            self.producers.remember(producer, sequence);
        }
        Ok(())
    }

    /// True if the batch may have events that aren't in the record, nor in an earlier one.
    fn restore_ids(&mut self, payload: &[u8], events: &mut u64) -> Result<bool, Malformed> {
        let mut cursor = Cursor::new(payload);
        let mut is_partial = false;
        while let Some((number, wire)) = cursor.key()? {
            if (number, wire) == (IS_PARTIAL, Wire::Varint) {
                is_partial = cursor.varint()? != 0;
                continue;
            }
            if (number, wire) != (EVENTS, Wire::Bytes) {
                cursor.skip(number, wire)?;
                continue;
            }
            let mut event = Cursor::new(cursor.bytes()?);
            while let Some((number, wire)) = event.key()? {
                if (number, wire) == (1, Wire::Bytes) {
                    let &id = event.bytes()?.first_chunk().ok_or(Malformed)?;
                    // One that is known already stays as old as it is.
                    let _ = self.ids.insert(id);
                    break;
                }
                event.skip(number, wire)?;
            }
            *events += 1;
        }
        Ok(is_partial)
    }
}

impl Batch<'_> {
    /// Bytes that it takes in storage so far.
    fn stored_bytes(&self) -> usize {
        self.out.len() + self.dead_letters.len() + IS_PARTIAL_BYTES
    }

    /// Bytes for one more dead letter, where a record has `record_bytes_max` and `run` bytes of events wait to be copied. The
    /// first has all there is, so that it is kept whatever privacy rules make of its event.
    fn room_for_dead_letters(&self, record_bytes_max: usize, run: usize) -> usize {
        let of_record = record_bytes_max.saturating_sub(self.stored_bytes() + run);
        if self.dead_letters.is_empty() {
            return of_record;
        }
        of_record.min(self.dead_letters_max.saturating_sub(self.dead_letters.len()))
    }

    /// Notes that an event is one of `record`, which may not be stored yet.
    fn duplicate(&mut self, index: u32, record: RecordId) {
        self.pending.duplicates += 1;
        if record > self.settled {
            self.pending.unsynced_duplicates.push((index, record));
        }
    }
}
