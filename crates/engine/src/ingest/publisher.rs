//! A connection that publishes: its pending replies, and its quota.

use std::cell::Cell;
use std::collections::VecDeque;
use std::num::NonZeroU32;

use tickstream_schema::events::PublishAck;
use tickstream_schema::events::Rejected;

use super::envelope::Envelope;
use super::rejected::RejectedEvent;
use super::rules::Rules;
use super::{RecordId, StorageFault};
use crate::clock::{ActiveTime, MS, SECOND};
use tickstream_schema::{Rejection, RejectionCode};

/// A connection that has published.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    /// Events that were accepted and acknowledged.
    pub accepted: u64,
    /// PUBLISHes without a PUBLISH_ACK, in the order in which they came.
    pub pending: VecDeque<Pending>,
    /// Until when its events so far are paid for.
    paid: ActiveTime,
}

/// A PUBLISH without a PUBLISH_ACK.
#[derive(Debug)]
pub(crate) struct Pending {
    pub producer: [u8; 16],
    pub sequence: u64,
    /// Events of the batch.
    pub events: u32,
    /// The first of them that the quota has room for; the others are to come again.
    pub granted: u32,
    /// Record that the answer waits for: all records up to this one are stored, or refused. 0: nothing.
    pub after: RecordId,
    /// The record with its events.
    pub own: Option<RecordId>,
    /// The record with the dead letters of its rejections, if that may still be refused.
    pub dead_letters: Option<RecordId>,
    /// By rising index.
    pub rejections: Vec<RejectedEvent>,
    /// Events that were stored before, or are being stored.
    pub duplicates: u32,
    /// Those of the duplicates that are in a record that may still be refused, by rising index.
    pub unsynced_duplicates: Vec<(u32, RecordId)>,
    pub throttle_ms: u32,
}

/// A record that wasn't stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefusedRecord {
    pub id: RecordId,
    pub fault: StorageFault,
    /// The newest record when it was refused: no answer that waits for a later one depends on this.
    pub until: RecordId,
}

/// Answer of a quota to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Events of the batch that there is room for.
    pub events: u32,
    /// Wait that the client is asked for, milliseconds.
    pub throttle_ms: u32,
}

/// Time's worth of events that may come at once.
const BURST_NS: u64 = 2 * SECOND;

impl Publisher {
    /// As [`Publisher::spend`], from a quota that it shares with others: it is paid for until `shared`.
    pub fn spend_of(
        &mut self,
        shared: &Cell<ActiveTime>,
        events: u32,
        per_second: Option<NonZeroU32>,
        now: ActiveTime,
    ) -> Grant {
        let own = std::mem::replace(&mut self.paid, shared.get());
        let grant = self.spend(events, per_second, now);
        shared.set(std::mem::replace(&mut self.paid, own));
        grant
    }

    /// Takes `events` from the quota (GCRA), as many as there is room for: two seconds' worth may come at once.
    pub fn spend(&mut self, events: u32, per_second: Option<NonZeroU32>, now: ActiveTime) -> Grant {
        let Some(per_second) = per_second else { return Grant { events, throttle_ms: 0 } };
        let cost = |events: u32| u64::from(events) * SECOND / u64::from(per_second.get());
        let room_ns = BURST_NS - (self.paid.saturating_sub(now)).min(BURST_NS);
        let room = room_ns * u64::from(per_second.get()) / SECOND;
        let granted = u64::from(events).min(room) as u32; // not above `events`
        self.paid = self.paid.max(now) + cost(granted);
        let ahead_ns = self.paid - now;
        // Where some are to come again, there is room for them, or for a second's worth, after the wait.
        let wait_ns = match events - granted {
            0 => ahead_ns.saturating_sub(BURST_NS / 2),
            rest => (ahead_ns + cost(rest.min(per_second.get()))).saturating_sub(BURST_NS).max(1),
        };
        Grant { events: granted, throttle_ms: wait_ns.div_ceil(MS) as u32 } // a few seconds
    }
}

impl Pending {
    /// The pending reply to the batch of `events` events, before any of them was looked at.
    pub fn new(envelope: &Envelope<'_>, events: u32) -> Self {
        Self {
            producer: envelope.producer,
            sequence: envelope.sequence,
            events,
            granted: events,
            after: RecordId(0),
            own: None,
            dead_letters: None,
            rejections: Vec::new(),
            duplicates: 0,
            unsynced_duplicates: Vec::new(),
            throttle_ms: 0,
        }
    }

    /// Rejects all of its events alike.
    pub fn reject_all(&mut self, rejection: Rejection) {
        self.rejections.extend((0..self.events).map(|index| RejectedEvent { index, rejection }));
    }

    /// The answer, if these records were refused. It fits `payload_bytes`: where it wouldn't, messages are left out.
    pub fn answer(&self, rules: &Rules, refused: &[RefusedRecord], payload_bytes: u32) -> PublishAck {
        let fault_of = |record| {
            let at = refused.binary_search_by_key(&record, |refused| refused.id).ok()?;
            Some(refused[at].fault)
        };
        let (own, dead_letters) = (self.own.and_then(fault_of), self.dead_letters.and_then(fault_of));
        let mut rejected = Rejections::new(rules, payload_bytes);
        if own.is_none()
            && dead_letters.is_none()
            && self.unsynced_duplicates.iter().all(|(_, record)| fault_of(*record).is_none())
        {
            for event in &self.rejections {
                rejected.push(event.index, &event.rejection);
            }
            let accepted = self.events - self.duplicates - self.rejections.len() as u32;
            return self.ack(accepted, self.duplicates, rejected);
        }
        let (mut others, mut duplicates) = (0, 0);
        let mut rejections = self.rejections.iter().peekable();
        let mut unsynced_duplicates = self.unsynced_duplicates.iter().peekable();
        for index in 0..self.events {
            if let Some(event) = rejections.next_if(|event| event.index == index) {
                // A rejection is final once its dead letter is kept.
                match dead_letters.filter(|_| !event.rejection.code.is_retryable()) {
                    Some(fault) => rejected.push(index, &Rejection::new(fault.rejection())),
                    None => rejected.push(index, &event.rejection),
                }
                continue;
            }
            let fault =
                match unsynced_duplicates.next_if(|(unsynced_duplicates, _)| *unsynced_duplicates == index) {
                    Some((_, record)) => {
                        let fault = fault_of(*record);
                        duplicates += u32::from(fault.is_none());
                        fault
                    }
                    None => {
                        others += u32::from(own.is_none());
                        own
                    }
                };
            if let Some(fault) = fault {
                rejected.push(index, &Rejection::new(fault.rejection()));
            }
        }
        // Which of the others were duplicates isn't known any more. Where the record was refused, all of them are told
        // to come again, and are found to be duplicates then.
        let certain = if own.is_none() { self.duplicates - self.unsynced_duplicates.len() as u32 } else { 0 };
        self.ack(others - certain, duplicates + certain, rejected)
    }

    fn ack(&self, accepted: u32, duplicates: u32, rejected: Rejections<'_>) -> PublishAck {
        PublishAck {
            sequence: self.sequence,
            accepted,
            duplicates,
            rejected: rejected.list,
            throttle_ms: self.throttle_ms,
            producer_id: self.producer.to_vec(),
        }
    }
}

/// Bytes of a rejection without its message: keys and lengths, index, code, `retryable`.
pub(crate) const REJECTED_BYTES_MAX: usize = 4 + 4 + (2 + RejectionCode::BYTES_MAX) + 2;
/// Bytes of a PUBLISH_ACK without rejections.
pub(crate) const ACK_BYTES_MAX: usize = 11 + 3 * 6 + 18;

/// The rejections of an answer, with messages as long as there is room.
struct Rejections<'r> {
    rules: &'r Rules,
    list: Vec<Rejected>,
    /// Bytes for messages.
    room: usize,
}

impl<'r> Rejections<'r> {
    fn new(rules: &'r Rules, payload_bytes: u32) -> Self {
        let kept = ACK_BYTES_MAX + rules.events_max as usize * REJECTED_BYTES_MAX;
        Self { rules, list: Vec::new(), room: (payload_bytes as usize).saturating_sub(kept) }
    }

    fn push(&mut self, index: u32, rejection: &Rejection) {
        let mut message = if self.room > 0 { self.rules.message(rejection) } else { String::new() };
        let needed = message.len() + 3;
        if needed > self.room {
            message.clear();
        } else {
            self.room -= needed;
        }
        let code = rejection.code;
        self.list.push(Rejected {
            index,
            code: code.as_str().to_owned(),
            message,
            retryable: code.is_retryable(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_first_asks_to_slow_down_and_then_refuses() {
        let mut publisher = Publisher::default();
        let per_second = NonZeroU32::new(1_000);
        let mut check = |events, now_ms, granted, throttle_ms| {
            let grant = publisher.spend(events, per_second, now_ms * MS);
            assert_eq!(grant, Grant { events: granted, throttle_ms }, "{events} events at {now_ms} ms");
        };
        check(1_000, 0, 1_000, 0);
        check(500, 0, 500, 500);
        check(500, 0, 500, 1_000);
        check(100, 0, 0, 100);
        check(100, 100, 100, 1_000);
        check(1_000, 10_000, 1_000, 0);
        let unlimited = Publisher::default().spend(u32::MAX, None, 0);
        assert_eq!(unlimited, Grant { events: u32::MAX, throttle_ms: 0 });
    }

    #[test]
    fn two_seconds_worth_come_at_once_and_no_more_however_large_the_batch() {
        for per_second in [1, 2, 10, 499, 1_000, 1_000_000] {
            let mut publisher = Publisher::default();
            let mut spend = |now_ms: u64| publisher.spend(u32::MAX, NonZeroU32::new(per_second), now_ms * MS);
            let first = spend(0);
            assert_eq!(first.events, 2 * per_second);
            // In the long run it is the rate, if the client waits as it is told, and it never waits for nothing.
            let (mut now_ms, mut taken) = (u64::from(first.throttle_ms), 0);
            while now_ms < 100_000 {
                let grant = spend(now_ms);
                assert!(grant.events > 0 && grant.throttle_ms > 0, "{per_second}: {grant:?}");
                taken += grant.events;
                now_ms += u64::from(grant.throttle_ms);
            }
            assert!(taken <= 100 * per_second && taken >= 98 * per_second, "{per_second}: {taken}");
        }
    }
}
