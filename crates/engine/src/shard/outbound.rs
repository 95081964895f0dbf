//! Sending: fan-outs of batches, and the pending frames of single connections.

use super::Shard;
use crate::action::{Action, SendOutcome};
use crate::batch::Carried;
use crate::close::{CloseReason, Fault};
use crate::ids::{ConnId, GroupId, Sequence, Slot};
use crate::outbox::{Item, Progress};
use crate::session::{Offer, Step, Subscription};

impl Shard {
    /// The next thing to do; `None` if there is nothing until something happens.
    #[inline]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.fan_out_turn = !self.fan_out_turn;
        if self.fan_out_turn {
            self.next_of_fan_out().or_else(|| self.next_ready())
        } else {
            self.next_ready().or_else(|| self.next_of_fan_out())
        }
    }

    /// True if [`Shard::poll_action`] may have something.
    pub fn has_actions(&self) -> bool {
        !self.ready.is_empty() || self.streams.has_fan_out()
    }

    /// A send was answered.
    #[inline]
    pub fn sent(&mut self, conn: ConnId, outcome: SendOutcome) {
        let Some(slot) = self.slots.find(conn) else { return };
        if let Some(group) = self.slots[slot].batch_group() {
            if outcome == SendOutcome::Sent(self.streams.newest_len(group)) {
                return self.batch_sent(slot, group);
            }
            self.detach_batch(slot);
        }
        let session = &mut self.slots[slot];
        match outcome {
            SendOutcome::Sent(bytes) => {
                self.counters.bytes_sent += u64::from(bytes);
                let progress = session.frame_sent(bytes);
                if session.make_ready() {
                    self.ready.push_back(slot);
                }
                match progress {
                    Progress::Whole(None) => self.counters.frames_sent += 1,
                    Progress::Whole(Some(carried)) => self.count_sent(carried),
                    Progress::Part => self.socket_full(slot),
                }
            }
            SendOutcome::WouldBlock => {
                self.socket_full(slot);
                self.make_ready(slot);
            }
            SendOutcome::Broken => {
                session.send_failed();
                self.lost(conn, Fault::new(CloseReason::PeerReset, "a send failed"));
            }
        }
    }

    /// A socket that was full takes bytes again.
    pub fn writable(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.find(conn) else { return };
        if self.slots[slot].writable() {
            self.counters.lagging -= 1;
            self.make_ready(slot);
        }
    }

    /// The fast path: a live subscriber's socket took the whole batch.
    #[inline]
    fn batch_sent(&mut self, slot: Slot, group: GroupId) {
        let has_more = self.slots[slot].batch_sent(self.streams.newest_len(group));
        if !self.deliveries.is_of(group) {
            self.begin_deliveries(group);
        }
        self.deliveries.count();
        self.streams.answered(group);
        if has_more {
            self.make_ready(slot);
        }
    }

    #[cold]
    fn begin_deliveries(&mut self, group: GroupId) {
        self.settle_deliveries();
        self.deliveries.begin(group, self.streams.newest_len(group), self.streams.newest_carried(group));
    }

    /// Adds the sends that were counted apart to the counters, as answered now.
    pub(super) fn settle_deliveries(&mut self) {
        self.deliveries.settle(self.clock.now().mono_ns, &mut self.counters, &mut self.latencies);
    }

    /// Counts a DATA_BATCH that was sent whole other than by the fast path.
    fn count_sent(&mut self, carried: Carried) {
        self.counters.count_sent(carried, 1);
        self.latencies.record_since(carried.due_ns, self.clock.now().mono_ns, 1);
    }

    /// The socket took no more: the rest waits until it does, or until the write deadline.
    fn socket_full(&mut self, slot: Slot) {
        self.slots[slot].socket_full();
        self.counters.sends_short += 1;
        self.rearm(slot);
    }

    /// Makes a batch that is being sent the connection's own, so that it doesn't need its stream for it.
    pub(super) fn detach_batch(&mut self, slot: Slot) {
        let session = &mut self.slots[slot];
        let Some(group) = session.batch_group() else { return };
        let batch = self.streams.newest(group);
        let carried = Some(self.streams.newest_carried(group));
        session.detach_batch(Item { frame: batch.frame.clone(), since: batch.published, carried });
        self.streams.answered(group);
    }

    /// Sends the newest batch to the next subscriber of a fan-out that is ready for it.
    #[inline]
    fn next_of_fan_out(&mut self) -> Option<Action> {
        if self.streams.has_fan_out() { self.offer_batch() } else { None }
    }

    fn offer_batch(&mut self) -> Option<Action> {
        while let Some((slot, group, batch)) = self.streams.visit() {
            match self.slots[slot].offer(batch) {
                Offer::Taken => {
                    let frame = batch.frame.clone();
                    self.streams.sending(group);
                    self.counters.sends += 1;
                    return Some(Action::Send { conn: self.slots.id(slot), frame, offset: 0 });
                }
                Offer::Behind => self.make_ready(slot),
                Offer::Busy => {}
            }
        }
        None
    }

    /// Does what the next of the ready connections needs.
    #[inline]
    fn next_ready(&mut self) -> Option<Action> {
        if self.ready.is_empty() { None } else { self.take_ready() }
    }

    #[inline]
    fn take_ready(&mut self) -> Option<Action> {
        while let Some(slot) = self.ready.pop_front() {
            self.slots[slot].taken_off();
            if let Some(action) = self.act(slot) {
                return Some(action);
            }
        }
        None
    }

    /// The next action for one connection, if it needs one.
    fn act(&mut self, slot: Slot) -> Option<Action> {
        let session = &mut self.slots[slot];
        if let Some(&Subscription { membership, next_sequence, replaying }) = session.may_catch_up() {
            match self.streams.lacks(membership.group, next_sequence, replaying) {
                Some(next) => self.catch_up(slot, membership.group, next, replaying),
                None => session.caught_up(),
            }
        }
        let session = &mut self.slots[slot];
        let conn = ConnId { slot, generation: session.generation() };
        match session.next_step() {
            Step::Nothing => None,
            Step::AwaitWritable => {
                self.counters.lagging += 1;
                Some(Action::AwaitWritable { conn })
            }
            Step::Send(frame, offset) => {
                self.counters.sends += 1;
                Some(Action::Send { conn, frame, offset })
            }
            Step::Shutdown => Some(Action::Shutdown { conn }),
            Step::Release { reset } => Some(self.release(conn, reset)),
        }
    }

    /// Puts the frame of a subscriber that begins with `next`, which it lacks, into its outbox, or closes it if that is
    /// too old.
    #[inline(never)]
    fn catch_up(&mut self, slot: Slot, group: GroupId, next: Sequence, replaying: bool) {
        let (now, active) = (self.clock.now(), self.clock.active());
        match self.streams.catch_up(group, next, replaying, now, active) {
            Some(next) => {
                let carried = Some(next.carried);
                self.slots[slot].catch_up(next.end, Item { frame: next.frame, since: next.since, carried });
                self.counters.streams[next.carried.mode as usize].replays += u64::from(next.sealed);
            }
            None => {
                let detail = "its next tick is past the write deadline";
                self.close(slot, Fault::new(CloseReason::SlowConsumer, detail));
            }
        }
    }

    /// Takes the connection out of the table.
    #[inline(never)]
    fn release(&mut self, conn: ConnId, reset: bool) -> Action {
        let slot = conn.slot;
        let session = &self.slots[slot];
        if session.is_blocked() {
            self.counters.lagging -= 1;
        }
        if session.is_counted() {
            self.admission.left(|| session.address());
        }
        self.wheel.disarm(slot);
        self.slots.release(slot);
        self.identities.release(slot);
        Action::Close { conn, abort: reset }
    }
}
