//! What a shard sends: waves, and what single connections are owed.

use super::Shard;
use crate::action::{Action, ConnId, SendOutcome};
use crate::batch::Carried;
use crate::close::{CloseReason, Fault};
use crate::outbox::{Item, Progress};
use crate::session::{Sending, State};

impl Shard {
    /// The next thing to do; `None` if there is nothing until something happens.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.wave_turn = !self.wave_turn;
        if self.wave_turn {
            self.next_of_wave().or_else(|| self.next_ready())
        } else {
            self.next_ready().or_else(|| self.next_of_wave())
        }
    }

    /// Whether [`Shard::poll_action`] may have something.
    pub fn has_actions(&self) -> bool {
        !self.ready.is_empty() || self.streams.has_wave()
    }

    /// A send was answered.
    pub fn sent(&mut self, conn: ConnId, outcome: SendOutcome) {
        let Some(slot) = self.slots.find(conn) else { return };
        if self.slots[slot].sending == Sending::Batch && self.batch_sent_whole(slot, outcome) {
            return;
        }
        self.detach_batch(slot);
        let session = &mut self.slots[slot];
        session.sending = Sending::Idle;
        match outcome {
            SendOutcome::Sent(bytes) => {
                self.counters.bytes_sent += u64::from(bytes);
                session.bytes_sent += u64::from(bytes);
                match session.outbox.advance(bytes) {
                    Progress::Whole(None) => self.counters.frames_sent += 1,
                    Progress::Whole(Some(carried)) => self.count_sent(carried),
                    Progress::Part => self.fill_up(slot),
                }
                self.make_ready(slot);
            }
            SendOutcome::WouldBlock => {
                self.fill_up(slot);
                self.make_ready(slot);
            }
            SendOutcome::Broken => self.lost(conn, Fault::new(CloseReason::PeerReset, "a send failed")),
        }
    }

    /// A socket that was full takes bytes again.
    pub fn writable(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.find(conn) else { return };
        let session = &mut self.slots[slot];
        if session.sending == Sending::Blocked {
            session.sending = Sending::Idle;
            self.counters.lagging -= 1;
            self.make_ready(slot);
        }
    }

    /// The fast path: a live subscriber's socket took the whole batch. False if there is more to it.
    fn batch_sent_whole(&mut self, slot: u32, outcome: SendOutcome) -> bool {
        let session = &mut self.slots[slot];
        let Some(membership) = session.membership else {
            return false;
        };
        let length = self.streams.newest_len(membership.group);
        if !matches!(outcome, SendOutcome::Sent(bytes) if bytes == length) {
            return false;
        }
        session.sending = Sending::Idle;
        let more = !session.outbox.is_empty() || session.state != State::Authenticated;
        session.bytes_sent += u64::from(length);
        if !self.tally.is_of(membership.group) {
            self.begin_tally(membership.group);
        }
        self.tally.count();
        self.streams.answered(membership.group);
        if more {
            self.make_ready(slot);
        }
        true
    }

    #[cold]
    fn begin_tally(&mut self, group: u32) {
        self.settle_tally();
        self.tally.begin(group, self.streams.newest_len(group), self.streams.newest_carried(group));
    }

    /// Adds the sends that were tallied to the counters, as answered now.
    pub(super) fn settle_tally(&mut self) {
        self.tally.settle(self.clock.now().mono_ns, &mut self.counters, &mut self.latencies);
    }

    /// Counts a DATA_BATCH that was sent whole other than by the fast path.
    fn count_sent(&mut self, carried: Carried) {
        self.counters.count_sent(carried, 1);
        self.latencies.record_since(carried.due_ns, self.clock.now().mono_ns, 1);
    }

    /// The socket took no more: the rest waits until it does, or until the write deadline.
    fn fill_up(&mut self, slot: u32) {
        self.slots[slot].sending = Sending::Full;
        self.counters.sends_short += 1;
        self.rearm(slot);
    }

    /// Makes a batch that is being sent the connection's own, so that it doesn't need its stream for it.
    pub(super) fn detach_batch(&mut self, slot: u32) {
        let session = &mut self.slots[slot];
        if session.sending != Sending::Batch {
            return;
        }
        let Some(membership) = session.membership else {
            return;
        };
        let batch = self.streams.newest(membership.group);
        let carried = Some(self.streams.newest_carried(membership.group));
        session.outbox.push_front(Item { frame: batch.frame.clone(), since: batch.published, carried });
        session.sending = Sending::Owed;
        self.streams.answered(membership.group);
    }

    /// Sends the newest batch to the next subscriber of a wave that is ready for it.
    fn next_of_wave(&mut self) -> Option<Action> {
        while let Some((slot, batch)) = self.streams.visit() {
            let session = &mut self.slots[slot];
            let idle = session.sending == Sending::Idle && session.outbox.is_empty();
            if idle && session.next_sequence == batch.first {
                let frame = batch.frame.clone();
                session.next_sequence = batch.end;
                session.replaying = false;
                session.sending = Sending::Batch;
                if let Some(membership) = session.membership {
                    self.streams.sending(membership.group);
                }
                self.counters.sends += 1;
                return Some(Action::Send { conn: self.slots.id(slot), frame, offset: 0 });
            }
            if idle && session.next_sequence < batch.end {
                self.make_ready(slot);
            }
        }
        None
    }

    /// Does what the next of the ready connections needs.
    fn next_ready(&mut self) -> Option<Action> {
        while let Some(slot) = self.ready.pop_front() {
            self.slots[slot].queued = false;
            if let Some(action) = self.act(slot) {
                return Some(action);
            }
        }
        None
    }

    /// What one connection needs now, if anything.
    fn act(&mut self, slot: u32) -> Option<Action> {
        let conn = self.slots.id(slot);
        let session = &mut self.slots[slot];
        match (session.state, session.sending) {
            (State::Free, _) => None,
            (State::Doomed, _) => Some(self.release(slot)),
            (_, Sending::Full) => {
                session.sending = Sending::Blocked;
                self.counters.lagging += 1;
                Some(Action::AwaitWritable { conn })
            }
            (_, Sending::Batch | Sending::Owed | Sending::Blocked) => None,
            (_, Sending::Idle) => {
                if session.outbox.is_empty() && session.state == State::Authenticated {
                    self.catch_up(slot);
                }
                let session = &mut self.slots[slot];
                if let Some((frame, offset)) = session.outbox.front() {
                    let frame = frame.clone();
                    session.sending = Sending::Owed;
                    self.counters.sends += 1;
                    return Some(Action::Send { conn, frame, offset });
                }
                match session.state {
                    State::Flushing if session.peer_closed => Some(self.release(slot)),
                    State::Flushing => {
                        session.state = State::Lingering;
                        Some(Action::Shutdown { conn })
                    }
                    State::Doomed => Some(self.release(slot)),
                    _ => None,
                }
            }
        }
    }

    /// Puts the next frame of a subscriber that is behind into its outbox, or closes it if that is too old.
    fn catch_up(&mut self, slot: u32) {
        let (now, lived) = (self.clock.now(), self.clock.lived());
        let session = &mut self.slots[slot];
        let Some(membership) = session.membership else {
            return;
        };
        let replaying = session.replaying;
        let Some(next) = self.streams.lacks(membership.group, session.next_sequence, replaying) else {
            session.replaying = false;
            return;
        };
        match self.streams.catch_up(membership.group, next, replaying, now, lived) {
            Some(next) => {
                session.next_sequence = next.end;
                let carried = Some(next.carried);
                session.outbox.push(Item { frame: next.frame, since: next.since, carried });
                self.counters.streams[next.carried.mode as usize].replays += u64::from(next.sealed);
            }
            None => {
                let detail = "its next tick is past the write deadline";
                self.close(slot, Fault::new(CloseReason::SlowConsumer, detail));
            }
        }
    }

    /// Takes the connection out of the table.
    fn release(&mut self, slot: u32) -> Action {
        let conn = self.slots.id(slot);
        let session = &self.slots[slot];
        let abort = session.abort;
        if session.sending == Sending::Blocked {
            self.counters.lagging -= 1;
        }
        if std::mem::take(&mut self.slots[slot].counted) {
            let address = self.slots[slot].address();
            self.admission.left(address);
        }
        self.wheel.disarm(slot);
        self.slots.release(slot);
        Action::Close { conn, abort }
    }
}
