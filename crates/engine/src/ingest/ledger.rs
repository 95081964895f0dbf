//! Records on their way to the journal, what becomes of them, and the answers that wait for it.

use tickstream_wire::messages::PublishAck;

use super::batch::IS_PARTIAL;
use super::cursor::{Cursor, Malformed, Wire};
use super::{EVENTS, Ingest, Queued, Record, RecordId, RefusedRecord, RestoreError, StorageFault};
use crate::action::ConnId;

/// Buffers of records that are kept for the next.
const SPARE_BUFFERS: usize = 4;
/// A buffer larger than this isn't kept.
const SPARE_BYTES_MAX: usize = 1 << 20;

impl Ingest {
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
            self.counters.dead_letters += u64::from(record.dead_letters);
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
        let at = self.refused.partition_point(|refused| refused.id < id);
        self.refused.insert(at, RefusedRecord { id, fault, until: self.last });
    }

    /// All records up to this one are stored or refused.
    pub(super) fn settled(&self) -> RecordId {
        self.outstanding.front().map_or(self.last, |record| RecordId(record.id.0 - 1))
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

    pub(super) fn spare(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS && (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
