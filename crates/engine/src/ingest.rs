//! Event collection: from the bytes of a PUBLISH to a record for the journal, and from its sync to the PUBLISH_ACK.
//!
//! One PUBLISH goes through decode → validate → privacy → enrich → deduplicate in one pass over its bytes. Events that
//! no privacy rule touches are copied as they came, and those that follow each other at once. What comes out is one
//! [`Record`] with the accepted events and the dead letters, so that one sync covers both.
//!
//! Records are numbered; a PUBLISH_ACK waits for a number. Whatever is a duplicate of something that isn't stored yet
//! waits, too.

mod batch;
mod config;
mod counters;
mod dedup;
mod publisher;
mod records;
#[cfg(test)]
pub(crate) mod tests;
mod unpack;
mod verdict;

use std::collections::VecDeque;
use std::net::IpAddr;

use tickstream_schema::cursor::{self, Malformed};
use tickstream_schema::events::Codec;
use tickstream_schema::{Plan, Redactor, table as schema};
pub use tickstream_schema::{PrivacyAction, PrivacyConfig, PrivacyError, PrivacyRule};

use batch::{Envelope, count_events, envelope, unpack};
pub use config::IngestConfig;
pub use counters::IngestCounters;
use dedup::{EventIds, Producers};
pub(crate) use publisher::Publisher;
use publisher::{Pending, Quota};
use unpack::{UnpackError, Unpacker};
pub use verdict::VerdictCode;
use verdict::{Finding, Verdict};

use crate::action::ConnId;
use crate::clock::{Lived, Now};
use crate::close::{CloseReason, Fault};
use crate::limit::Limit;

/// Events of one PUBLISH, where the server's payloads may be large enough for as many verdicts.
const EVENTS_MAX: u32 = 2_048;
/// Bytes of a PUBLISH_ACK for one event, at most.
const ACK_BYTES_PER_EVENT: u32 = 32;
/// Bytes of PUBLISHes after which a pass should do something else: some 0.2 ms of work.
const PASS_BYTES: usize = 64 << 10;
/// Smallest limit on a record's bytes: an event of the largest size fits, and what rules make of it.
const RECORD_BYTES_MIN: u32 = 256 << 10;
/// The number of `events` in Publish, EventBatch and StoredBatch.
const EVENTS: u32 = 3;

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
    /// Records that were refused, as long as an answer may depend on them; by rising number.
    refused: Vec<RefusedRecord>,
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
    dead_letters: u32,
}

/// A record that wasn't stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefusedRecord {
    pub id: RecordId,
    pub fault: StorageFault,
    /// The newest record when it was refused: no answer that waits for a later one depends on this.
    until: RecordId,
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

impl Ingest {
    /// Event collection; `payload_bytes` bounds what the server sends.
    pub fn new(config: &IngestConfig, payload_bytes: u32) -> Self {
        Self {
            events_max: EVENTS_MAX.min(payload_bytes / ACK_BYTES_PER_EVENT),
            plan: config.privacy.plan(),
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

    /// Takes the events that are fields of the message `events`.
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
            letters: None,
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
}

fn bad_frame(detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(CloseReason::BadFrame, detail)
}
