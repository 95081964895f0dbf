//! A batch: its envelope, the judgement of each event, and the record that comes out.

use tickstream_wire::messages::Message;
use tickstream_wire::messages::events::{Codec, DeadLetter};

use super::cursor::{Cursor, Malformed, Wire, put_bytes, put_number, put_varint};
use super::publisher::Pending;
use super::schema::EVENT_BYTES_MAX;
use super::unpack::{UnpackError, Unpacker};
use super::validate::{Clocks, Valid, is_readable, validate};
use super::verdict::{Finding, Verdict, VerdictCode};
use super::{EVENTS, Ingest, Outstanding, Queued, RecordId, Source, bad_frame};
use crate::clock::{MS, Now};
use crate::close::Fault;

/// The number of `dead_letters` in StoredBatch.
const DEAD_LETTERS: u32 = 7;
/// The number of `is_partial` in StoredBatch.
pub(super) const IS_PARTIAL: u32 = 8;
/// Bytes of `is_partial`, with its key.
const IS_PARTIAL_BYTES: usize = 2;
/// Bytes of the key and the length that an event or a dead letter gets, at most.
const FIELD_BYTES: usize = 4;

/// The fields of a PUBLISH.
pub(super) struct Envelope<'a> {
    pub producer: [u8; 16],
    pub sequence: u64,
    pub codec: Codec,
    pub packed: &'a [u8],
    pub has_events: bool,
}

/// A batch while it is being judged.
struct Batch<'p> {
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
    letters: Vec<u8>,
    letters_count: u32,
    /// There are verdicts after which an event may come again, or be judged otherwise if it does.
    is_partial: bool,
}

/// How an event is stored.
enum Kept {
    /// In the bytes in which it came.
    AsItCame,
    /// As privacy rules left it.
    Redacted,
    /// Not at all, or not by this record.
    Not,
}

impl Ingest {
    /// Judges each event, and makes a record of those that are to be stored.
    pub(super) fn judge(
        &mut self,
        events: &[u8],
        source: Source,
        user: &str,
        pending: &mut Pending,
        now: Now,
    ) {
        let (producer, sequence) = (pending.producer, pending.sequence);
        let seen = self.producers.has_seen(producer, sequence);
        let mut batch = Batch {
            settled: self.settled(),
            id: RecordId(self.last.0 + 1),
            first: self.ids.next(),
            repeats: seen.then(|| self.outstanding_of(producer, sequence)),
            clocks: Clocks {
                now_ns: now.unix_ns,
                age_ns_max: self.config.age_ms_max.saturating_mul(MS),
                ahead_ns_max: self.config.ahead_ms_max.saturating_mul(MS),
            },
            accepted: 0,
            pending,
            out: self.spare.pop().unwrap_or_default(),
            letters: Vec::new(),
            letters_count: 0,
            is_partial: false,
        };
        batch.out.reserve(events.len() + 128);
        self.put_head(&mut batch.out, source, user, now);
        self.judge_all(events, &mut batch);
        self.finish(batch);
    }

    /// The fields of a StoredBatch before its events.
    fn put_head(&self, out: &mut Vec<u8>, source: Source, user: &str, now: Now) {
        put_varint(out, 1 << 3 | 1);
        out.extend_from_slice(&now.unix_ns.to_le_bytes());
        put_bytes(out, 2, self.redactor.peer(source.peer).to_string().as_bytes());
        put_bytes(out, 4, self.config.server.as_bytes());
        put_bytes(out, 5, user.as_bytes());
        put_number(out, 6, source.shard.into());
    }

    fn judge_all(&mut self, events: &[u8], batch: &mut Batch<'_>) {
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
            match self.judge_one(event, field.len(), index, run.len(), batch) {
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

    /// Judges one event, which takes `field` bytes with its key and length; `run` bytes before it wait to be copied.
    fn judge_one(
        &mut self,
        event: &[u8],
        field: usize,
        index: u32,
        run: usize,
        batch: &mut Batch<'_>,
    ) -> Kept {
        let valid = match validate(&self.plan, event, batch.clocks) {
            Ok(valid) => valid,
            Err(finding) => {
                self.reject(event, index, finding, run, batch);
                return Kept::Not;
            }
        };
        if let Some(record) = batch.repeats {
            batch.duplicate(index, record);
            return Kept::Not;
        }
        let mut length = field;
        if valid.is_private {
            self.redacted.clear();
            if self.redactor.redact(&self.plan, event, &mut self.redacted).is_err() {
                self.reject(event, index, Finding::new(VerdictCode::Malformed), run, batch);
                return Kept::Not;
            }
            length = self.redacted.len() + FIELD_BYTES;
        }
        if batch.stored_bytes() + run + length > self.config.record_bytes as usize {
            self.reject(event, index, Finding::new(VerdictCode::BatchFull), run, batch);
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
                let record = if number >= batch.first { batch.id } else { self.record_of(number) };
                batch.duplicate(index, record);
                Kept::Not
            }
        }
    }

    /// Notes a verdict and, where sending again won't help, a dead letter.
    fn reject(&mut self, event: &[u8], index: u32, finding: Finding, run: usize, batch: &mut Batch<'_>) {
        let mut finding = finding;
        if !finding.code.is_retryable() && batch.repeats.is_none() {
            let letter = self.dead_letter(event, index, &finding).encode_to_vec();
            let room = (self.config.record_bytes as usize).saturating_sub(batch.stored_bytes() + run);
            if letter.len() + FIELD_BYTES <= room {
                put_bytes(&mut batch.letters, DEAD_LETTERS, &letter);
                batch.letters_count += 1;
            } else {
                // In another batch, its letter will find room.
                finding = Finding::new(VerdictCode::BatchFull);
            }
        }
        batch.is_partial |= finding.code.is_retryable() || finding.code.depends_on_time();
        batch.pending.verdicts.push(Verdict { index, finding });
        self.counters.rejected[finding.code as usize] += 1;
    }

    fn dead_letter(&self, event: &[u8], index: u32, finding: &Finding) -> DeadLetter {
        let redacted = is_readable(&self.plan, event).then(|| {
            let mut redacted = Vec::with_capacity(event.len());
            self.redactor.redact(&self.plan, event, &mut redacted).map(|()| redacted).ok()
        });
        DeadLetter {
            index,
            code: finding.code.as_str().to_owned(),
            message: self.message(finding),
            event: redacted.flatten().filter(|redacted| redacted.len() <= EVENT_BYTES_MAX),
        }
    }

    /// Queues the record, if there is something to store, and notes what the answer waits for.
    fn finish(&mut self, mut batch: Batch<'_>) {
        let pending = &mut *batch.pending;
        let (producer, sequence) = (pending.producer, pending.sequence);
        self.counters.duplicates += u64::from(pending.duplicates);
        // The dead letters of a batch that comes again are in the record of the first.
        let first = batch.repeats.filter(|record| *record > batch.settled);
        pending.letters = first.filter(|_| !pending.verdicts.is_empty());
        if !pending.doubtful.is_empty() || pending.letters.is_some() {
            pending.after = self.last;
        }
        // What may have to come again must not be taken for a duplicate then.
        let is_partial = batch.is_partial || pending.doubtful.iter().any(|(_, record)| *record != batch.id);
        if !is_partial {
            self.producers.remember(producer, sequence);
        }
        if batch.accepted == 0 && batch.letters_count == 0 {
            return self.spare(batch.out);
        }
        batch.out.append(&mut batch.letters);
        put_number(&mut batch.out, IS_PARTIAL, is_partial.into());
        self.last = batch.id;
        (pending.own, pending.letters) = (Some(batch.id), Some(batch.id));
        pending.after = batch.id;
        self.queue_bytes += batch.out.len() as u64;
        self.counters.records += 1;
        self.counters.record_bytes += batch.out.len() as u64;
        let (id, first, events, dead_letters) = (batch.id, batch.first, batch.accepted, batch.letters_count);
        self.outstanding.push_back(Outstanding { id, producer, sequence, first, events, dead_letters });
        self.queue.push_back(Queued { id, producer, sequence, events, payload: batch.out });
    }

    /// The record of an id that was remembered; `RecordId(0)` if it is stored.
    fn record_of(&self, number: u64) -> RecordId {
        let after = self.outstanding.partition_point(|record| record.first <= number);
        let record = after.checked_sub(1).map(|at| &self.outstanding[at]);
        record
            .filter(|record| number < record.first + u64::from(record.events))
            .map_or(RecordId(0), |record| record.id)
    }

    /// The record of a batch that was seen; `RecordId(0)` if it is stored.
    fn outstanding_of(&self, producer: [u8; 16], sequence: u64) -> RecordId {
        let mut newest_first = self.outstanding.iter().rev();
        let record = newest_first.find(|record| record.sequence == sequence && record.producer == producer);
        record.map_or(RecordId(0), |record| record.id)
    }
}

impl Batch<'_> {
    /// Bytes that it takes in storage so far.
    fn stored_bytes(&self) -> usize {
        self.out.len() + self.letters.len() + IS_PARTIAL_BYTES
    }

    /// Notes that an event is one of `record`, which may not be stored yet.
    fn duplicate(&mut self, index: u32, record: RecordId) {
        self.pending.duplicates += 1;
        if record > self.settled {
            self.pending.doubtful.push((index, record));
        }
    }
}

/// The fields of a PUBLISH but for its events.
pub(super) fn envelope(payload: &[u8]) -> Result<Envelope<'_>, Fault> {
    let malformed = |Malformed| bad_frame("PUBLISH is no protobuf message of its type");
    let (mut producer, mut packed) = (&[][..], &[][..]);
    let (mut sequence, mut codec, mut has_events) = (0, 0, false);
    let mut cursor = Cursor::new(payload);
    while let Some((number, wire)) = cursor.key().map_err(malformed)? {
        match (number, wire) {
            (1, Wire::Bytes) => producer = cursor.bytes().map_err(malformed)?,
            (2, Wire::Varint) => sequence = cursor.varint().map_err(malformed)?,
            (EVENTS, Wire::Bytes) => {
                has_events = true;
                cursor.bytes().map_err(malformed)?;
            }
            (4, Wire::Varint) => codec = cursor.varint().map_err(malformed)?,
            (5, Wire::Bytes) => packed = cursor.bytes().map_err(malformed)?,
            (1..=5, _) => return Err(malformed(Malformed)),
            _ => cursor.skip(number, wire).map_err(malformed)?,
        }
    }
    let producer = <[u8; 16]>::try_from(producer).ok().filter(|producer| *producer != [0; 16]);
    let producer =
        producer.ok_or_else(|| bad_frame("PUBLISH: producer_id must be 16 bytes that aren't all zero"))?;
    if sequence == 0 {
        return Err(bad_frame("PUBLISH: sequence begins with 1"));
    }
    let codec = i32::try_from(codec).ok().and_then(|codec| Codec::try_from(codec).ok());
    let codec = codec.ok_or_else(|| bad_frame("PUBLISH: codec must be NONE (0), LZ4 (1) or ZSTD (2)"))?;
    Ok(Envelope { producer, sequence, codec, packed, has_events })
}

/// The bytes whose fields are the events.
pub(super) fn unpack<'a>(
    unpacker: &'a mut Unpacker,
    envelope: &Envelope<'_>,
    payload: &'a [u8],
) -> Result<&'a [u8], UnpackError> {
    match envelope.codec {
        Codec::None if envelope.packed.is_empty() => Ok(payload),
        Codec::None => Err(UnpackError::Broken("`compressed` needs a codec".to_owned())),
        _ if envelope.has_events => Err(UnpackError::Broken("`events` are for codec NONE alone".to_owned())),
        codec => unpacker.unpack(codec, envelope.packed),
    }
}

/// How many events there are; all other fields are passed over.
pub(super) fn count_events(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let mut count = 0;
    while let Some((number, wire)) = cursor.key()? {
        if number == EVENTS && wire != Wire::Bytes {
            return Err(Malformed);
        }
        count += usize::from(number == EVENTS);
        cursor.skip(number, wire)?;
    }
    Ok(count)
}
