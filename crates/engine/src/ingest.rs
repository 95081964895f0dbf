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
mod dedup;
mod envelope;
mod gate;
mod ledger;
mod pipeline;
mod publisher;
mod rejected;
mod rules;
#[cfg(test)]
pub(crate) mod tests;
mod unpack;

use std::net::IpAddr;

use tickstream_schema::Rejection;
use tickstream_schema::cursor::Malformed;
use tickstream_schema::events::{Codec, PublishAck};
pub use tickstream_schema::{PrivacyAction, PrivacyConfig, PrivacyError, PrivacyRule, RejectionCode};

pub use config::IngestConfig;
pub use counters::IngestCounters;
use dedup::{EventIds, Producers};
use envelope::{Envelope, count_events, unpack};
use gate::Gate;
use ledger::Ledger;
#[cfg(test)]
pub(crate) use pipeline::HASHES_MAX;
use pipeline::{Origin, Pipeline};
use publisher::Pending;
use rules::Rules;
use unpack::{UnpackError, Unpacker};

use crate::clock::{ActiveTime, Now};
use crate::close::{CloseReason, Fault};
use crate::identity::Account;
use crate::ids::{ConnId, Slot};
use crate::limit::Limit;
use crate::memory::MemoryTerm;

/// Events of one PUBLISH, where the server's payloads may be large enough for as many rejections.
const EVENTS_MAX: u32 = 2_048;
/// Bytes of a PUBLISH_ACK for one event, at most.
const ACK_BYTES_PER_EVENT: u32 = 32;
/// Bytes of PUBLISHes after which a pass should do something else: some 0.2 ms of work.
const PASS_BYTES: usize = 64 << 10;
/// A hashed field takes as long as so many bytes of a PUBLISH.
const HASH_COST_BYTES: usize = 256;
/// The number of `events` in Publish, EventBatch and StoredBatch.
const EVENTS: u32 = 3;

const _: () = assert!(publisher::REJECTED_BYTES_MAX <= ACK_BYTES_PER_EVENT as usize);

/// The number of a record, counted from 1 on each shard since it began; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u64);

/// Record to append to the journal for one PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number.
    pub id: RecordId,
    /// The publisher.
    pub producer: [u8; 16],
    /// The number that the producer gave the batch.
    pub sequence: u64,
    /// Accepted events in it; 0 where there are dead letters alone.
    pub events: u32,
    /// A `StoredBatch`.
    pub payload: &'a [u8],
}

/// Reason for which a record wasn't stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageFault {
    /// The disk is full.
    Full,
    /// The disk takes no writes: it is read-only, or it failed.
    Failed,
}

impl StorageFault {
    const fn rejection(self) -> RejectionCode {
        match self {
            Self::Full => RejectionCode::StorageFull,
            Self::Failed => RejectionCode::StorageFailed,
        }
    }
}

/// Pressure of the journal on publishers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IngestPressure {
    /// Everything is taken.
    #[default]
    None,
    /// Publishers are asked to wait so many milliseconds before their next PUBLISH.
    Throttle {
        /// Milliseconds.
        ms: u32,
    },
    /// Events get SERVER_BUSY, and may come back after so many milliseconds.
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

/// Event collection of one shard: a pipeline makes records of PUBLISHes, a ledger has those that aren't stored yet.
#[derive(Debug)]
pub(crate) struct Ingest {
    config: IngestConfig,
    unpacker: Unpacker,
    pipeline: Pipeline,
    ledger: Ledger,
    gate: Gate,
    /// Bytes of PUBLISHes of which only a part has come.
    partial_bytes: u64,
    /// Bytes of PUBLISHes since the pass began.
    pass_bytes: usize,
    counters: IngestCounters,
}

/// Origin of a PUBLISH.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub conn: ConnId,
    pub peer: IpAddr,
    pub shard: u16,
}

/// Fate of a PUBLISH as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Its events were looked at.
    Processed,
    /// All of it was refused by a limit, to come again: it counts like any other frame.
    Refused(Limit),
}

impl Ingest {
    /// Terms of the memory that event collection takes at its limits, but for what connections take.
    pub fn memory_terms(config: &IngestConfig) -> [MemoryTerm; 5] {
        let record_bytes = u64::from(config.record_bytes);
        [
            // From the first event on: the ring of ids, and an index twice as long.
            MemoryTerm { what: "event ids", count: 1, each: EventIds::table_bytes(config.event_ids) },
            // From the first PUBLISH on.
            MemoryTerm { what: "sequences of producers", count: 1, each: Producers::TABLE_BYTES },
            // From the first compressed batch on: one buffer for all, and the decoder's window.
            MemoryTerm { what: "unpacker", count: 1, each: Unpacker::memory_bytes(config.unpacked_bytes) },
            // The gate refuses batches once the queue is full: one record more, and the one that was handed out.
            MemoryTerm {
                what: "records for the journal",
                count: 1,
                each: config.queue_bytes + 2 * record_bytes,
            },
            // Beyond it a connection is closed.
            MemoryTerm { what: "unfinished PUBLISHes", count: 1, each: config.partial_bytes },
        ]
    }

    /// Event collection; `payload_bytes` bounds what the server sends.
    pub fn new(config: &IngestConfig, payload_bytes: u32) -> Self {
        let rules = Rules::new(config, payload_bytes);
        Self {
            unpacker: Unpacker::new(config.unpacked_bytes),
            gate: Gate::new(config),
            pipeline: Pipeline::new(config, rules),
            ledger: Ledger::default(),
            partial_bytes: 0,
            pass_bytes: 0,
            counters: IngestCounters::default(),
            config: config.clone(),
        }
    }

    /// A new pass of the driver has begun.
    pub fn begin_pass(&mut self) {
        self.pass_bytes = 0;
    }

    /// True once the pass has had its share of PUBLISHes.
    pub fn pass_is_spent(&self) -> bool {
        self.pass_bytes >= PASS_BYTES
    }

    pub fn set_pressure(&mut self, pressure: IngestPressure) {
        self.gate.set_pressure(pressure);
    }

    /// Counters and gauges.
    pub fn counters(&self) -> IngestCounters {
        let mut counters = IngestCounters { partial_bytes: self.partial_bytes, ..self.counters };
        self.ledger.fill_gauges(&mut counters);
        counters
    }

    /// Events of a connection that were accepted and acknowledged.
    pub fn accepted(&self, slot: Slot) -> u64 {
        self.ledger.accepted(slot)
    }

    /// Takes a PUBLISH of a connection of `account`. [`Ingest::next_answer`] has the answer.
    ///
    /// # Errors
    /// If the connection has too many on the way, or the payload is no PUBLISH within the limits.
    pub fn publish(
        &mut self,
        payload: &[u8],
        source: Source,
        account: &Account,
        now: Now,
        active: ActiveTime,
    ) -> Result<Taken, Fault> {
        self.pass_bytes += payload.len();
        self.counters.publishes += 1;
        self.counters.bytes += payload.len() as u64;
        let credits = self.config.credits.get();
        let publisher = self.ledger.publisher(source.conn.slot);
        if publisher.pending.len() >= credits as usize {
            let detail = format!("more than {credits} PUBLISHes without a PUBLISH_ACK");
            return Err(Fault::limit(Limit::PublishCredits, CloseReason::ProtocolViolation, detail));
        }
        let envelope = Envelope::parse(payload)?;
        let unpacked = unpack(&mut self.unpacker, &envelope, payload);
        let events = unpacked.map_err(|error| unpack_fault(error, self.config.unpacked_bytes))?;
        if envelope.codec != Codec::None {
            self.pass_bytes += events.len();
        }
        let count = count_within(events, self.pipeline.rules().events_max)?;
        let mut pending = Pending::new(&envelope, count);
        let queue_bytes = self.ledger.queue_bytes();
        let publisher = self.ledger.publisher(source.conn.slot);
        let refused = self.gate.refusal(queue_bytes, (publisher, account), &mut pending, active);
        if let Some(limit) = refused {
            let code = match limit {
                Limit::EventRate => RejectionCode::RateLimited,
                _ => RejectionCode::ServerBusy,
            };
            pending.reject_all(Rejection::new(code));
            self.counters.rejected[code as usize] += u64::from(count);
        } else {
            let origin = Origin { source, user: &account.name, now };
            let (out, counters) = (self.ledger.take_buffer(), &mut self.counters);
            let record = self.pipeline.process(events, origin, &mut pending, out, &self.ledger, counters);
            self.pass_bytes += self.pipeline.hashed() as usize * HASH_COST_BYTES;
            self.ledger.enqueue(envelope.producer, envelope.sequence, record, counters);
        }
        self.counters.throttled += u64::from(pending.throttle_ms > 0);
        self.ledger.await_records(source.conn, pending);
        Ok(refused.map_or(Taken::Processed, Taken::Refused))
    }

    /// The next record to append.
    pub fn poll_record(&mut self) -> Option<Record<'_>> {
        self.ledger.poll_record()
    }

    /// All records up to this one are on stable storage.
    pub fn synced(&mut self, up_to: RecordId) {
        self.ledger.synced(up_to, &mut self.counters);
    }

    /// A record wasn't stored: what is in it is forgotten.
    pub fn refused(&mut self, id: RecordId, fault: StorageFault) {
        if let Some(record) = self.ledger.refused(id, fault, &mut self.counters) {
            self.pipeline.forget(record.producer, record.sequence, record.first_id, record.events);
        }
    }

    /// The next connection with an answer that doesn't wait any more.
    pub fn next_settled(&mut self) -> Option<ConnId> {
        self.ledger.next_settled()
    }

    /// The next answer that a connection can be sent, of at most `payload_bytes`.
    pub fn next_answer(&mut self, slot: Slot, payload_bytes: u32) -> Option<PublishAck> {
        self.ledger.next_answer(slot, self.pipeline.rules(), payload_bytes)
    }

    /// A connection is gone.
    pub fn left(&mut self, slot: Slot) {
        self.ledger.left(slot);
    }

    /// Notes how many bytes of an unfinished PUBLISH a connection holds, where it held `before`. False: too many for
    /// the shard.
    pub fn hold(&mut self, before: u32, now: u32) -> bool {
        self.partial_bytes = self.partial_bytes + u64::from(now) - u64::from(before);
        now <= before || self.partial_bytes <= self.config.partial_bytes
    }

    /// Remembers what is in a record that recovery found.
    ///
    /// # Errors
    /// If its payload is no `StoredBatch`.
    pub fn restore(&mut self, producer: [u8; 16], sequence: u64, payload: &[u8]) -> Result<(), RestoreError> {
        self.pipeline.restore(producer, sequence, payload)
    }
}

fn unpack_fault(error: UnpackError, unpacked_bytes_max: u32) -> Fault {
    match error {
        UnpackError::TooLarge => {
            let detail = format!("PUBLISH: the batch unpacks to more than {unpacked_bytes_max} bytes");
            Fault::limit(Limit::PublishUnpacked, CloseReason::MessageTooLarge, detail)
        }
        UnpackError::Broken(detail) => bad_frame(format!("PUBLISH: {detail}")),
    }
}

/// Number of `events`, from 1 to `events_max`.
fn count_within(events: &[u8], events_max: u32) -> Result<u32, Fault> {
    let count = count_events(events).map_err(|Malformed| bad_frame("PUBLISH: the batch is no EventBatch"))?;
    match u32::try_from(count) {
        Ok(0) => Err(bad_frame("PUBLISH has no events")),
        Ok(count) if count <= events_max => Ok(count),
        _ => {
            let detail = format!("PUBLISH has {count} events, at most {events_max} are allowed");
            Err(Fault::limit(Limit::PublishEvents, CloseReason::MessageTooLarge, detail))
        }
    }
}

fn bad_frame(detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(CloseReason::BadFrame, detail)
}
