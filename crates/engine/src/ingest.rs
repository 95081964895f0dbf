//! Event collection: from the bytes of a PUBLISH to a record for the journal, and from its sync to the PUBLISH_ACK.
//!
//! One PUBLISH goes through decode → validate → privacy → enrich → deduplicate in one pass over its bytes. Events that
//! no privacy rule touches are copied as they came, and those that follow each other at once. What comes out is one
//! [`Record`] with the accepted events and the dead letters, so that one sync covers both.
//!
//! Records are numbered; a PUBLISH_ACK waits for a number. Whatever is a duplicate of something that isn't stored yet
//! waits, too.

mod config;
mod counters;
mod cursor;
mod dedup;
mod plan;
mod privacy;
mod publisher;
mod schema;
#[cfg(test)]
pub(crate) mod tests;
mod unpack;
mod validate;
mod verdict;

use std::collections::VecDeque;
use std::net::IpAddr;

use tickstream_wire::messages::events::{Codec, DeadLetter};
use tickstream_wire::messages::{Message, PublishAck};

pub use config::{IngestConfig, PrivacyAction, PrivacyConfig, PrivacyError, PrivacyRule};
pub use counters::IngestCounters;
pub(crate) use publisher::Publisher;
pub use verdict::VerdictCode;

use crate::action::ConnId;
use crate::clock::{Lived, MS, Now};
use crate::close::{CloseReason, Fault};
use crate::limit::Limit;
use cursor::{Cursor, Malformed, Wire, put_bytes, put_number, put_varint};
use dedup::{EventIds, Producers};
use plan::Plan;
use privacy::Redactor;
use publisher::{Pending, Quota};
use schema::EVENT_BYTES_MAX;
use unpack::{UnpackError, Unpacker};
use validate::{Clocks, Valid, is_readable, validate};
use verdict::{Finding, Verdict};

/// Events of one PUBLISH, where the server's payloads may be large enough for as many verdicts.
const EVENTS_MAX: u32 = 2_048;
/// Bytes of a PUBLISH_ACK for one event, at most.
const ACK_BYTES_PER_EVENT: u32 = 32;
/// Bytes of PUBLISHes after which a pass should do something else: about a millisecond of work.
const PASS_BYTES: usize = 256 << 10;
/// Buffers of records that are kept for the next.
const SPARE_BUFFERS: usize = 4;
/// A buffer larger than this isn't kept.
const SPARE_BYTES_MAX: usize = 1 << 20;
/// Smallest limit on a record's bytes: an event of the largest size fits, and what rules make of it.
const RECORD_BYTES_MIN: u32 = 256 << 10;
/// The number of `events` in Publish, EventBatch and StoredBatch.
const EVENTS: u32 = 3;
/// The number of `dead_letters` in StoredBatch.
const DEAD_LETTERS: u32 = 7;
/// The number of `is_partial` in StoredBatch.
const IS_PARTIAL: u32 = 8;
/// Bytes of the key and the length of an event or a dead letter, at most.
const FIELD_BYTES: usize = 6;

const _: () = assert!(publisher::REJECTED_BYTES_MAX <= ACK_BYTES_PER_EVENT as usize);

/// The number of a record, counted from 1 on each shard since it began; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u64);

/// What is to be appended to the journal for one PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number.
    pub id: RecordId,
    /// Who published.
    pub producer: [u8; 16],
    /// The number that the producer gave the batch.
    pub sequence: u64,
    /// Accepted events in it; 0 where there are dead letters alone.
    pub events: u32,
    /// A `StoredBatch`.
    pub payload: &'a [u8],
}

/// Why a record wasn't stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageFault {
    /// The disk is full.
    Full,
    /// The disk takes no writes: it is read-only, or it failed.
    Failed,
}

impl StorageFault {
    const fn verdict(self) -> VerdictCode {
        match self {
            Self::Full => VerdictCode::StorageFull,
            Self::Failed => VerdictCode::StorageFailed,
        }
    }
}

/// How much the journal can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IngestPressure {
    /// What comes.
    #[default]
    None,
    /// Less: publishers are asked to wait so many milliseconds before their next PUBLISH.
    Throttle {
        /// Milliseconds.
        ms: u32,
    },
    /// Nothing: events get SERVER_BUSY, and may come back after so many milliseconds.
    Refuse {
        /// Milliseconds.
        ms: u32,
    },
}

/// A record that recovery found, and that isn't one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record's payload is no StoredBatch: it can't be read behind its event {events_before}")]
pub struct RestoreError {
    /// Events that could be read before what couldn't.
    pub events_before: u64,
}

/// Event collection of one shard.
#[derive(Debug)]
pub(crate) struct Ingest {
    config: IngestConfig,
    /// Events of one PUBLISH.
    events_max: u32,
    plan: Plan,
    redactor: Redactor,
    /// An event that is being redacted.
    redacted: Vec<u8>,
    unpacker: Unpacker,
    ids: EventIds,
    producers: Producers,
    /// Those that published, by slot.
    publishers: Vec<Option<Box<Publisher>>>,
    /// Records that nobody asked for yet.
    queue: VecDeque<Queued>,
    queue_bytes: u64,
    /// The buffer of the record that was handed out last.
    lent: Vec<u8>,
    spare: Vec<Vec<u8>>,
    /// Records that are neither stored nor refused, by rising number.
    outstanding: VecDeque<Outstanding>,
    /// Which connection has an answer that waits for which record, by rising number.
    waiting: VecDeque<(RecordId, ConnId)>,
    /// Records that were refused while earlier ones weren't settled.
    refused: Vec<(RecordId, StorageFault)>,
    last: RecordId,
    pressure: IngestPressure,
    /// Bytes of PUBLISHes of which only a part has come.
    partial_bytes: u64,
    /// Bytes of PUBLISHes since the pass began.
    pass_bytes: usize,
    in_flight: u32,
    counters: IngestCounters,
}

/// A record that waits to be asked for.
#[derive(Debug)]
struct Queued {
    id: RecordId,
    producer: [u8; 16],
    sequence: u64,
    events: u32,
    payload: Vec<u8>,
}

/// A record that isn't stored yet.
#[derive(Debug)]
struct Outstanding {
    id: RecordId,
    producer: [u8; 16],
    sequence: u64,
    /// The number of its first event id, and how many it has.
    first: u64,
    events: u32,
}

/// Where a PUBLISH came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub conn: ConnId,
    pub peer: IpAddr,
    pub shard: u16,
}

/// What became of a PUBLISH as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was looked at.
    Judged,
    /// All of it was refused by a limit, to come again: it counts like any other frame.
    Refused(Limit),
}

/// The fields of a PUBLISH.
struct Envelope<'a> {
    producer: [u8; 16],
    sequence: u64,
    codec: Codec,
    packed: &'a [u8],
    has_events: bool,
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
    letters_count: u64,
    /// There are verdicts after which an event may come again.
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
    /// Event collection; `payload_bytes` bounds what the server sends.
    pub fn new(config: &IngestConfig, payload_bytes: u32) -> Self {
        Self {
            events_max: EVENTS_MAX.min(payload_bytes / ACK_BYTES_PER_EVENT),
            plan: Plan::new(config.privacy.rules()).expect("PrivacyConfig has looked at its rules"),
            redactor: Redactor::new(&config.privacy),
            redacted: Vec::new(),
            unpacker: Unpacker::new(config.unpacked_bytes),
            ids: EventIds::new(config.event_ids, config.seed),
            producers: Producers::new(config.seed),
            publishers: Vec::new(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            lent: Vec::new(),
            spare: Vec::new(),
            outstanding: VecDeque::new(),
            waiting: VecDeque::new(),
            refused: Vec::new(),
            last: RecordId(0),
            pressure: IngestPressure::None,
            partial_bytes: 0,
            pass_bytes: 0,
            in_flight: 0,
            counters: IngestCounters::default(),
            config: IngestConfig {
                record_bytes: config.record_bytes.max(RECORD_BYTES_MIN),
                ..config.clone()
            },
        }
    }

    /// Events that one PUBLISH may have.
    pub fn events_max(&self) -> u32 {
        self.events_max
    }

    /// A new pass of the driver has begun.
    pub fn begin_pass(&mut self) {
        self.pass_bytes = 0;
    }

    /// Whether the pass has had its share of PUBLISHes.
    pub fn pass_is_spent(&self) -> bool {
        self.pass_bytes >= PASS_BYTES
    }

    pub fn set_pressure(&mut self, pressure: IngestPressure) {
        self.pressure = pressure;
    }

    /// What was counted.
    pub fn counters(&self) -> IngestCounters {
        IngestCounters {
            in_flight: self.in_flight,
            records_outstanding: self.outstanding.len() as u32,
            queue_bytes: self.queue_bytes,
            partial_bytes: self.partial_bytes,
            ..self.counters
        }
    }

    /// For people, what a verdict says.
    fn message(&self, finding: &Finding) -> String {
        finding.message(&self.plan, self.config.age_ms_max, self.config.ahead_ms_max)
    }

    /// What is known of the connection in `slot` because it publishes.
    pub fn publisher(&mut self, slot: u32) -> &mut Option<Box<Publisher>> {
        let index = slot as usize;
        if self.publishers.len() <= index {
            self.publishers.resize_with(index + 1, || None);
        }
        &mut self.publishers[index]
    }

    // ---- What comes in ------------------------------------------------------------------------------------------

    /// Takes a PUBLISH. [`Ingest::next_answer`] has the answer.
    pub fn publish(
        &mut self,
        payload: &[u8],
        source: Source,
        publisher: &mut Publisher,
        now: Now,
        lived: Lived,
    ) -> Result<Taken, Fault> {
        self.pass_bytes += payload.len();
        self.counters.publishes += 1;
        self.counters.bytes += payload.len() as u64;
        let credits = self.config.credits.get();
        if publisher.pending.len() >= credits as usize {
            let detail = format!("more than {credits} PUBLISHes without a PUBLISH_ACK");
            return Err(Fault::limit(Limit::PublishCredits, CloseReason::ProtocolViolation, detail));
        }
        let envelope = envelope(payload)?;
        // The unpacker's buffer and what is done with its contents belong to different parts of this.
        let mut unpacker = std::mem::replace(&mut self.unpacker, Unpacker::new(0));
        let taken = match unpack(&mut unpacker, &envelope, payload) {
            Ok(events) => self.batch(&envelope, events, source, publisher, now, lived),
            Err(error) => Err(self.unpack_fault(error)),
        };
        self.unpacker = unpacker;
        taken
    }

    fn unpack_fault(&self, error: UnpackError) -> Fault {
        match error {
            UnpackError::TooLarge => {
                let most = self.config.unpacked_bytes;
                let detail = format!("PUBLISH: the batch unpacks to more than {most} bytes");
                Fault::limit(Limit::PublishUnpacked, CloseReason::MessageTooLarge, detail)
            }
            UnpackError::Broken(detail) => bad_frame(format!("PUBLISH: {detail}")),
        }
    }

    /// Takes the events in `source_bytes`, which are fields of a message.
    fn batch(
        &mut self,
        envelope: &Envelope<'_>,
        events: &[u8],
        source: Source,
        publisher: &mut Publisher,
        now: Now,
        lived: Lived,
    ) -> Result<Taken, Fault> {
        if envelope.codec != Codec::None {
            self.pass_bytes += events.len();
        }
        let count =
            count_events(events).map_err(|Malformed| bad_frame("PUBLISH: the batch is no EventBatch"))?;
        if count == 0 {
            return Err(bad_frame("PUBLISH has no events"));
        }
        if count > self.events_max as usize {
            let detail = format!("PUBLISH has {count} events, at most {} are allowed", self.events_max);
            return Err(Fault::limit(Limit::PublishEvents, CloseReason::MessageTooLarge, detail));
        }
        let mut pending = Pending {
            producer: envelope.producer,
            sequence: envelope.sequence,
            events: count as u32,
            after: RecordId(0),
            own: None,
            verdicts: Vec::new(),
            duplicates: 0,
            doubtful: Vec::new(),
            throttle_ms: 0,
        };
        let refused = self.refusal(publisher, &mut pending, lived);
        match refused {
            Some(limit) => {
                let code = if limit == Limit::EventRate {
                    VerdictCode::RateLimited
                } else {
                    VerdictCode::ServerBusy
                };
                let finding = Finding::new(code);
                pending.verdicts.extend((0..pending.events).map(|index| Verdict { index, finding }));
                self.counters.rejected[code as usize] += u64::from(pending.events);
            }
            None => self.judge(events, source, &publisher.user, &mut pending, now),
        }
        self.counters.throttled += u64::from(pending.throttle_ms > 0);
        if pending.after > self.settled() {
            self.waiting.push_back((pending.after, source.conn));
        }
        self.in_flight += 1;
        publisher.pending.push_back(pending);
        Ok(refused.map_or(Taken::Judged, Taken::Refused))
    }

    /// Whether all of a batch is refused: because the journal can't take it, or because of the quota.
    fn refusal(&mut self, publisher: &mut Publisher, pending: &mut Pending, lived: Lived) -> Option<Limit> {
        let busy = match self.pressure {
            IngestPressure::Refuse { ms } => Some(ms.max(1)),
            _ if self.queue_bytes >= self.config.queue_bytes => Some(100),
            _ => None,
        };
        if let Some(throttle_ms) = busy {
            pending.throttle_ms = throttle_ms;
            return Some(Limit::Journal);
        }
        match publisher.spend(pending.events, self.config.events_per_second, self.events_max, lived) {
            Quota::Refuse { throttle_ms } => {
                pending.throttle_ms = throttle_ms;
                Some(Limit::EventRate)
            }
            Quota::Take { throttle_ms } => {
                let hint = if let IngestPressure::Throttle { ms } = self.pressure { ms } else { 0 };
                pending.throttle_ms = throttle_ms.max(hint);
                None
            }
        }
    }

    /// Judges each event, and makes a record of those that are to be stored.
    fn judge(&mut self, events: &[u8], source: Source, user: &str, pending: &mut Pending, now: Now) {
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
            match self.judge_one(event, index, run.len(), batch) {
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

    /// Judges one event; `run` bytes before it wait to be copied.
    fn judge_one(&mut self, event: &[u8], index: u32, run: usize, batch: &mut Batch<'_>) -> Kept {
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
        let mut length = event.len();
        if valid.is_private {
            self.redacted.clear();
            if self.redactor.redact(&self.plan, event, &mut self.redacted).is_err() {
                self.reject(event, index, Finding::new(VerdictCode::Malformed), run, batch);
                return Kept::Not;
            }
            length = self.redacted.len();
        }
        if batch.stored_bytes() + run + length + FIELD_BYTES > self.config.record_bytes as usize {
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
        batch.is_partial |= finding.code.is_retryable();
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
        if !pending.doubtful.is_empty() {
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
        pending.own = Some(batch.id);
        pending.after = batch.id;
        self.counters.dead_letters += batch.letters_count;
        self.queue_bytes += batch.out.len() as u64;
        self.counters.records += 1;
        self.counters.record_bytes += batch.out.len() as u64;
        let (id, events) = (batch.id, batch.accepted);
        self.outstanding.push_back(Outstanding { id, producer, sequence, first: batch.first, events });
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

    // ---- Records and answers ------------------------------------------------------------------------------------

    /// The next record to append.
    pub fn poll_record(&mut self) -> Option<Record<'_>> {
        let queued = self.queue.pop_front()?;
        self.queue_bytes -= queued.payload.len() as u64;
        let used = std::mem::replace(&mut self.lent, queued.payload);
        self.spare(used);
        let Queued { id, producer, sequence, events, .. } = queued;
        Some(Record { id, producer, sequence, events, payload: &self.lent })
    }

    /// All records up to this one are on stable storage.
    pub fn synced(&mut self, up_to: RecordId) {
        while let Some(record) = self.outstanding.front().filter(|record| record.id <= up_to) {
            self.counters.accepted += u64::from(record.events);
            self.outstanding.pop_front();
        }
    }

    /// A record wasn't stored: what is in it is forgotten.
    pub fn refused(&mut self, id: RecordId, fault: StorageFault) {
        let Ok(at) = self.outstanding.binary_search_by_key(&id, |record| record.id) else { return };
        let Some(record) = self.outstanding.remove(at) else { return };
        self.ids.forget_range(record.first, record.events.into());
        self.producers.forget(record.producer, record.sequence);
        self.counters.rejected[fault.verdict() as usize] += u64::from(record.events);
        self.counters.records_refused += 1;
        self.refused.push((id, fault));
    }

    /// All records up to this one are stored or refused.
    fn settled(&self) -> RecordId {
        self.outstanding.front().map_or(self.last, |record| RecordId(record.id.0 - 1))
    }

    /// The next connection with an answer that doesn't wait any more. `None`: there is none, and what was refused is
    /// told to all.
    pub fn next_settled(&mut self) -> Option<ConnId> {
        let settled = self.settled();
        match self.waiting.front() {
            Some(&(after, conn)) if after <= settled => {
                self.waiting.pop_front();
                Some(conn)
            }
            _ => {
                self.refused.retain(|(id, _)| *id > settled);
                None
            }
        }
    }

    /// The next answer that a connection can be sent, of at most `payload_bytes`.
    pub fn next_answer(&mut self, slot: u32, payload_bytes: u32) -> Option<PublishAck> {
        let settled = self.settled();
        let publisher = self.publishers.get_mut(slot as usize)?.as_mut()?;
        let pending = publisher.pending.pop_front_if(|pending| pending.after <= settled)?;
        self.in_flight -= 1;
        Some(pending.answer(self, &self.refused, payload_bytes))
    }

    /// A connection is gone: nobody waits for its answers. What it published is stored all the same.
    pub fn left(&mut self, slot: u32) {
        if let Some(publisher) = self.publishers.get_mut(slot as usize).and_then(Option::take) {
            self.in_flight -= publisher.pending.len() as u32;
        }
    }

    /// Notes how many bytes of an unfinished PUBLISH a connection holds, where it held `before`. False: too many for
    /// the shard.
    pub fn hold(&mut self, before: usize, now: usize) -> bool {
        self.partial_bytes = self.partial_bytes + now as u64 - before as u64;
        now <= before || self.partial_bytes <= self.config.partial_bytes
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

    /// Whether the batch may have events that aren't in the record, nor in an earlier one.
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

    fn spare(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS && (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

impl Batch<'_> {
    /// Bytes that it takes in storage so far.
    fn stored_bytes(&self) -> usize {
        self.out.len() + self.letters.len()
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
fn envelope(payload: &[u8]) -> Result<Envelope<'_>, Fault> {
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
fn unpack<'a>(
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
fn count_events(bytes: &[u8]) -> Result<usize, Malformed> {
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

fn bad_frame(detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(CloseReason::BadFrame, detail)
}
