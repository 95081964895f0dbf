//! Event collection, as a shard's connections and its driver meet it.

use super::Shard;
use crate::batch::SealedFrame;
use crate::close::{CloseReason, Fault};
use crate::ids::Slot;
use crate::ingest::{IngestPressure, Record, RecordId, RestoreError, StorageFault, Taken};
use crate::limit::Limit;

impl Shard {
    /// The next record to append to the journal. Ask after each [`Shard::received`], as long as the journal takes
    /// records; those that nobody asks for wait here, within a bound.
    pub fn poll_record(&mut self) -> Option<Record<'_>> {
        self.ingest.as_mut()?.poll_record()
    }

    /// All records up to this one that weren't refused are on stable storage: what waited for them is acknowledged.
    pub fn records_synced(&mut self, up_to: RecordId) {
        if let Some(ingest) = &mut self.ingest {
            ingest.synced(up_to);
            self.answer_settled();
        }
    }

    /// A record that was handed out isn't stored and won't be: its events get a retryable rejection, and are forgotten.
    pub fn record_refused(&mut self, id: RecordId, fault: StorageFault) {
        if let Some(ingest) = &mut self.ingest {
            ingest.refused(id, fault);
            self.answer_settled();
        }
    }

    /// Sets how much the journal can take from now on.
    pub fn set_ingest_pressure(&mut self, pressure: IngestPressure) {
        if let Some(ingest) = &mut self.ingest {
            ingest.set_pressure(pressure);
        }
    }

    /// Remembers what is in a record that recovery found, so that it is known if it comes again. Oldest first, before
    /// the first connection.
    ///
    /// # Errors
    /// If the payload isn't one that [`Shard::poll_record`] handed out. What could be read of it is remembered.
    pub fn restore(&mut self, producer: [u8; 16], sequence: u64, payload: &[u8]) -> Result<(), RestoreError> {
        match &mut self.ingest {
            Some(ingest) => ingest.restore(producer, sequence, payload),
            None => Ok(()),
        }
    }

    /// True once PUBLISHes have had their share of this pass, which began with [`Shard::advance`]: leave what else has
    /// come for the next, so that ticks aren't late.
    pub fn ingest_is_spent(&self) -> bool {
        self.ingest.as_ref().is_some_and(|ingest| ingest.pass_is_spent())
    }

    /// Goes on after a PUBLISH that event collection has taken.
    pub(super) fn published(&mut self, slot: Slot, taken: Result<Taken, Fault>) -> Result<(), Fault> {
        if let Taken::Refused(limit) = taken? {
            self.counters.count_fired(limit);
            self.slots[slot].spend_frame(self.config.limits.frames_per_second, self.clock.active())?;
        }
        self.answer(slot)
    }

    /// Owes a connection the answers that don't wait any more.
    fn answer(&mut self, slot: Slot) -> Result<(), Fault> {
        let payload_bytes = self.config.limits.payload_bytes;
        while let Some(ack) = self.ingest.as_mut().and_then(|ingest| ingest.next_answer(slot, payload_bytes))
        {
            self.enqueue(slot, SealedFrame::publish_ack(&ack))?;
        }
        Ok(())
    }

    /// Owes all connections the answers that don't wait any more.
    fn answer_settled(&mut self) {
        while let Some(conn) = self.ingest.as_mut().and_then(|ingest| ingest.next_settled()) {
            if let Some(slot) = self.slots.find(conn)
                && let Err(fault) = self.answer(slot)
            {
                self.close(slot, fault);
            }
        }
    }

    /// The connection publishes no more.
    pub(super) fn stop_publishing(&mut self, slot: Slot) {
        let session = &mut self.slots[slot];
        let held = session.partial_publish();
        session.drop_decoder();
        if let Some(ingest) = &mut self.ingest {
            ingest.hold(held, 0);
            ingest.left(slot);
        }
    }

    /// Counts what a connection holds of an unfinished PUBLISH, where it held `before`. Received bytes have to be used up.
    pub(super) fn hold_partial(&mut self, slot: Slot, before: u32) -> Result<(), Fault> {
        let session = &mut self.slots[slot];
        session.release_decoder();
        let held = session.partial_publish();
        if before == held || self.ingest.as_mut().is_none_or(|ingest| ingest.hold(before, held)) {
            return Ok(());
        }
        let limit = Limit::PartialPublishes;
        Err(Fault::limit(limit, CloseReason::ServerBusy, limit.refusal()))
    }
}
