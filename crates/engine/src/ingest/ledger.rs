//! The ledger of what is outstanding: records on their way to the journal, and the answers that wait for them.
//!
//! Records are numbered. A PUBLISH_ACK waits for a number, and its connection is found by it.

use std::collections::VecDeque;

use tickstream_schema::events::PublishAck;

use super::counters::IngestCounters;
use super::publisher::{Pending, Publisher, RefusedRecord};
use super::rules::Rules;
use super::{Record, RecordId, StorageFault};
use crate::ids::{ConnId, Slot};

/// Buffers of records that are kept for the next.
const SPARE_BUFFERS: usize = 4;
/// A buffer larger than this isn't kept.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Records that aren't stored yet, and publishers with their pending replies.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Connections that published, by slot.
    publishers: Vec<Option<Box<Publisher>>>,
    /// Records that the driver hasn't asked for.
    queue: VecDeque<Queued>,
    queue_bytes: u64,
    /// The buffer of the record that was handed out last.
    lent: Vec<u8>,
    spare: Vec<Vec<u8>>,
    /// Records that are neither stored nor refused, by rising number.
    outstanding: VecDeque<Outstanding>,
    /// Connections with an answer that waits for a record, by its rising number.
    waiting: VecDeque<(RecordId, ConnId)>,
    /// Records that were refused, as long as an answer may depend on them; by rising number.
    refused: Vec<RefusedRecord>,
    last: RecordId,
    /// PUBLISHes of connections that are there, without a PUBLISH_ACK.
    in_flight: u32,
}

/// A record as the pipeline made it; empty if there is nothing to store.
#[derive(Debug)]
pub(crate) struct NewRecord {
    /// The number of its first event id, and how many events it has.
    pub first_id: u64,
    pub events: u32,
    pub dead_letters: u32,
    pub payload: Vec<u8>,
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outstanding {
    id: RecordId,
    pub producer: [u8; 16],
    pub sequence: u64,
    /// The number of its first event id, and how many it has.
    pub first_id: u64,
    pub events: u32,
    dead_letters: u32,
}

impl Ledger {
    // ---- Records --------------------------------------------------------------------------------------------

    /// The newest record.
    pub fn last(&self) -> RecordId {
        self.last
    }

    /// The number of the record that is made next.
    pub fn next_id(&self) -> RecordId {
        RecordId(self.last.0 + 1)
    }

    /// All records up to this one are stored or refused.
    pub fn settled(&self) -> RecordId {
        self.outstanding.front().map_or(self.last, |record| RecordId(record.id.0 - 1))
    }

    /// Bytes of records that the driver hasn't asked for.
    pub fn queue_bytes(&self) -> u64 {
        self.queue_bytes
    }

    /// The record of an event id that was remembered; `RecordId(0)` if it is stored.
    pub fn record_of(&self, number: u64) -> RecordId {
        let after = self.outstanding.partition_point(|record| record.first_id <= number);
        let record = after.checked_sub(1).map(|at| &self.outstanding[at]);
        record
            .filter(|record| number < record.first_id + u64::from(record.events))
            .map_or(RecordId(0), |record| record.id)
    }

    /// The record of a batch that was seen; `RecordId(0)` if it is stored.
    pub fn record_of_batch(&self, producer: [u8; 16], sequence: u64) -> RecordId {
        let mut newest_first = self.outstanding.iter().rev();
        let record = newest_first.find(|record| record.sequence == sequence && record.producer == producer);
        record.map_or(RecordId(0), |record| record.id)
    }

    /// An empty buffer for a record.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Queues a record of the batch `sequence` of `producer`, unless it is empty.
    pub fn enqueue(
        &mut self,
        producer: [u8; 16],
        sequence: u64,
        record: NewRecord,
        counters: &mut IngestCounters,
    ) {
        let NewRecord { first_id, events, dead_letters, payload } = record;
        if events == 0 && dead_letters == 0 {
            return self.keep_buffer(payload);
        }
        let id = self.next_id();
        self.last = id;
        self.queue_bytes += payload.len() as u64;
        counters.records += 1;
        counters.record_bytes += payload.len() as u64;
        self.outstanding.push_back(Outstanding { id, producer, sequence, first_id, events, dead_letters });
        self.queue.push_back(Queued { id, producer, sequence, events, payload });
    }

    /// The next record to append.
    pub fn poll_record(&mut self) -> Option<Record<'_>> {
        let queued = self.queue.pop_front()?;
        self.queue_bytes -= queued.payload.len() as u64;
        let used = std::mem::replace(&mut self.lent, queued.payload);
        self.keep_buffer(used);
        let Queued { id, producer, sequence, events, .. } = queued;
        Some(Record { id, producer, sequence, events, payload: &self.lent })
    }

    /// All records up to this one are on stable storage.
    pub fn synced(&mut self, up_to: RecordId, counters: &mut IngestCounters) {
        while let Some(record) = self.outstanding.pop_front_if(|record| record.id <= up_to) {
            counters.accepted += u64::from(record.events);
            counters.dead_letters += u64::from(record.dead_letters);
        }
    }

    /// A record wasn't stored. Answers with it: its contents are to be forgotten.
    pub fn refused(
        &mut self,
        id: RecordId,
        fault: StorageFault,
        counters: &mut IngestCounters,
    ) -> Option<Outstanding> {
        let at = self.outstanding.binary_search_by_key(&id, |record| record.id).ok()?;
        let record = self.outstanding.remove(at)?;
        counters.rejected[fault.rejection() as usize] += u64::from(record.events);
        counters.records_refused += 1;
        let at = self.refused.partition_point(|refused| refused.id < id);
        self.refused.insert(at, RefusedRecord { id, fault, until: self.last });
        Some(record)
    }

    fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS && (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    // ---- Answers --------------------------------------------------------------------------------------------

    /// The publisher in `slot`.
    pub fn publisher(&mut self, slot: Slot) -> &mut Publisher {
        let index = slot.index();
        if self.publishers.len() <= index {
            self.publishers.resize_with(index + 1, || None);
        }
        self.publishers[index].get_or_insert_default()
    }

    /// Events of the publisher in `slot` that were accepted and acknowledged.
    pub fn accepted(&self, slot: Slot) -> u64 {
        let publisher = self.publishers.get(slot.index()).and_then(Option::as_ref);
        publisher.map_or(0, |publisher| publisher.accepted)
    }

    /// Waits for what `pending` depends on, to answer `conn`.
    pub fn await_records(&mut self, conn: ConnId, pending: Pending) {
        let Some(publisher) = self.publishers.get_mut(conn.slot.index()).and_then(Option::as_mut) else {
            return;
        };
        let after = pending.after;
        publisher.pending.push_back(pending);
        self.in_flight += 1;
        if after > self.settled() {
            self.waiting.push_back((after, conn));
        }
    }

    /// The next connection with an answer that doesn't wait any more.
    pub fn next_settled(&mut self) -> Option<ConnId> {
        let settled = self.settled();
        match self.waiting.front() {
            Some(&(after, conn)) if after <= settled => {
                self.waiting.pop_front();
                Some(conn)
            }
            _ => {
                self.refused.retain(|refused| refused.until > settled);
                None
            }
        }
    }

    /// The next answer that a connection can be sent, of at most `payload_bytes`.
    pub fn next_answer(&mut self, slot: Slot, rules: &Rules, payload_bytes: u32) -> Option<PublishAck> {
        let settled = self.settled();
        let publisher = self.publishers.get_mut(slot.index())?.as_mut()?;
        let pending = publisher.pending.pop_front_if(|pending| pending.after <= settled)?;
        self.in_flight -= 1;
        let answer = pending.answer(rules, &self.refused, payload_bytes);
        publisher.accepted += u64::from(answer.accepted);
        Some(answer)
    }

    /// A connection is gone: its answers aren't awaited any more. What it published is stored all the same.
    pub fn left(&mut self, slot: Slot) {
        if let Some(publisher) = self.publishers.get_mut(slot.index()).and_then(Option::take) {
            self.in_flight -= publisher.pending.len() as u32;
        }
    }

    /// The gauges among the counters.
    pub fn fill_gauges(&self, counters: &mut IngestCounters) {
        counters.in_flight = self.in_flight;
        counters.records_outstanding = self.outstanding.len() as u32;
        counters.queue_bytes = self.queue_bytes;
    }
}
