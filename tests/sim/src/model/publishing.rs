//! Meaning of a PUBLISH: which events are accepted, what goes to the journal, and when which answer is due.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use tickstream_engine::{
    CloseReason, IngestCounters, IngestPressure, Limit, Record as Handed, RejectionCode, StorageFault,
};

use super::conn::Reply;
use super::gate::Bucket;
use super::input::{BUSY_RETRY, Handled};
use super::publisher::{EventOutcome, Pending};
use super::stored::{DeadLetter, Fate, Record, Stored};
use super::{Model, Phase};
use crate::events::{Ack, Batch, Event, EventRules, Publish, Reason, Rejected, What};
use crate::ticks::{MS, SECOND};
use crate::trace::hash;
use crate::wire::{self, put_bytes, put_number};

/// Event collection, as far as it isn't one connection's.
#[derive(Debug)]
pub struct Publishing {
    /// Batches that clients made, by a hash of the payload.
    made: BTreeMap<u64, Rc<Publish>>,
    pub stored: Stored,
    pub pressure: IngestPressure,
    pub expected: IngestCounters,
    /// Records that the journal hasn't asked for, and their bytes.
    queue: VecDeque<(u64, usize)>,
    shard: u64,
    /// The most that some things ever were, for the bound on memory: a record's bytes, answers that wait for records,
    /// records that aren't stored.
    pub record_most: usize,
    pub waiting_most: usize,
    pub outstanding_most: usize,
    pub has_unpacked: bool,
}

/// Results of checking a batch, as in [`Pending`].
struct Validation {
    outcomes: Vec<EventOutcome>,
    after: u64,
    own: u64,
    dead_letters: u64,
}

const RATE_LIMITED: Reason = ("RATE_LIMITED", String::new());
const SERVER_BUSY: Reason = ("SERVER_BUSY", String::new());

impl Publishing {
    pub fn new(rules: &EventRules, shard: u64) -> Self {
        Self {
            made: BTreeMap::new(),
            stored: Stored::new(rules.event_ids),
            pressure: IngestPressure::None,
            expected: IngestCounters::default(),
            queue: VecDeque::new(),
            shard,
            record_most: 0,
            waiting_most: 0,
            outstanding_most: 0,
            has_unpacked: false,
        }
    }

    /// A client has made this.
    pub fn made(&mut self, publish: Rc<Publish>) {
        self.made.insert(hash(&publish.payload), publish);
    }

    /// A batch that came before the shard began, at `now`: its record, if it has one.
    pub fn restore(&mut self, batch: &Batch, rules: &EventRules, now: u64) -> Option<Vec<u8>> {
        let (mut events, mut out, mut dead_letters, mut is_partial) =
            (Vec::<Rc<Event>>::new(), Vec::new(), Vec::new(), false);
        put_bytes(&mut out, 2, b"192.0.2.1");
        for (event, index) in batch.events.iter().zip(0..) {
            if let Some((code, message)) = event.reason(rules, now) {
                let mut letter = Vec::new();
                put_number(&mut letter, 1, index);
                put_bytes(&mut letter, 2, code.as_bytes());
                put_bytes(&mut letter, 3, message.as_bytes());
                put_bytes(&mut dead_letters, 7, &letter);
                is_partial |= is_of_the_clock(code);
            } else if self.stored.known(event.id).is_none() && events.iter().all(|other| other.id != event.id)
            {
                put_bytes(&mut out, 3, &event.bytes);
                events.push(event.clone());
            }
        }
        if events.is_empty() && dead_letters.is_empty() {
            return None;
        }
        self.stored.restore((batch.producer, batch.sequence), &events, is_partial);
        out.append(&mut dead_letters);
        put_number(&mut out, 8, is_partial.into());
        Some(out)
    }

    fn queue_bytes(&self) -> usize {
        self.queue.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Expected counters of the shard.
    pub fn counters(&self, in_flight: usize, partial_bytes: u64) -> IngestCounters {
        IngestCounters {
            in_flight: in_flight as u32,
            records_outstanding: self.stored.outstanding().count() as u32,
            queue_bytes: self.queue_bytes() as u64,
            partial_bytes,
            ..self.expected
        }
    }

    fn count_rejected(&mut self, code: &str, events: u64) {
        let index = RejectionCode::ALL.iter().position(|known| known.as_str() == code).expect("a code");
        self.expected.rejected[index] += events;
    }

    /// Number of events of a batch that are granted, or the reason to refuse it as a whole and the publisher's wait.
    fn refusal(
        &self,
        quota: &mut Option<Bucket>,
        rules: &EventRules,
        events: u64,
        active_ns: u64,
    ) -> (Result<u64, (Limit, Reason)>, u32) {
        let is_full = self.queue_bytes() as u64 >= rules.queue_bytes;
        match self.pressure {
            IngestPressure::Refuse { ms } => return (Err((Limit::Journal, SERVER_BUSY)), ms.max(1)),
            _ if is_full => return (Err((Limit::Journal, SERVER_BUSY)), 100),
            _ => {}
        }
        let (mut granted, mut throttle_ms) = (events, 0);
        if rules.events_per_second > 0 {
            let cost = |events: u64| events * SECOND / u64::from(rules.events_per_second);
            let most_ns = 2 * SECOND;
            let bucket = quota.get_or_insert(Bucket { left_ns: most_ns, at: active_ns });
            bucket.refill(most_ns, active_ns);
            granted = events.min(bucket.left_ns * u64::from(rules.events_per_second) / SECOND);
            bucket.left_ns -= cost(granted);
            throttle_ms = (SECOND.saturating_sub(bucket.left_ns)).div_ceil(MS) as u32;
            if granted < events {
                // The others, or a second's worth of them, have room after the wait.
                let again = (events - granted).min(rules.events_per_second.into());
                throttle_ms = (cost(again) - bucket.left_ns.min(cost(again))).max(1).div_ceil(MS) as u32;
            }
            if granted == 0 {
                return (Err((Limit::EventRate, RATE_LIMITED)), throttle_ms);
            }
        }
        let hint = if let IngestPressure::Throttle { ms } = self.pressure { ms } else { 0 };
        (Ok(granted), throttle_ms.max(hint))
    }

    /// Validates each event of a batch, and makes its record.
    fn validate(
        &mut self,
        batch: &Batch,
        granted: u64,
        rules: &EventRules,
        now: u64,
        (peer, user): (String, String),
    ) -> Validation {
        let name = (batch.producer, batch.sequence);
        let (settled, own) = (self.stored.settled(), self.stored.last() + 1);
        let repeats = self.stored.repeats(name);
        let certain = |record: u64| if record > settled { record } else { 0 };
        let (mut outcomes, mut events, mut dead_letters) = (Vec::new(), Vec::new(), Vec::new());
        for (event, index) in batch.events.iter().zip(0..) {
            if index >= granted {
                self.count_rejected(RATE_LIMITED.0, 1);
                outcomes.push(EventOutcome::Rejected(RATE_LIMITED));
            } else if let Some(reason) = event.reason(rules, now) {
                if repeats.is_none() {
                    let kept = event.is_readable().then(|| event.clone());
                    dead_letters.push(DeadLetter { index, reason: reason.clone(), event: kept });
                }
                self.count_rejected(reason.0, 1);
                outcomes.push(EventOutcome::Rejected(reason));
            } else if let Some(record) = repeats.or_else(|| self.stored.known(event.id)) {
                self.expected.duplicates += 1;
                outcomes.push(EventOutcome::Duplicate(certain(record)));
            } else {
                self.stored.accept(event.id);
                events.push(event.clone());
                outcomes.push(EventOutcome::Accepted);
            }
        }
        let mut depends = outcomes.iter().filter_map(|outcome| match outcome {
            EventOutcome::Duplicate(record) if *record > 0 => Some(*record),
            _ => None,
        });
        let depends_on_unsynced = depends.clone().next().is_some();
        // What depends on another record may have to come again, what depends on the clock may get another outcome, and
        // what is beyond the quota comes again.
        let may_change = |outcome: &EventOutcome| matches!(outcome, EventOutcome::Rejected((code, _)) if is_of_the_clock(code) || *code == RATE_LIMITED.0);
        let is_partial = depends.any(|record| record != own) || outcomes.iter().any(may_change);
        if !is_partial {
            self.stored.remember(name);
        }
        if events.is_empty() && dead_letters.is_empty() {
            // The dead letters of a batch that comes again are in the record of the first.
            let has_rejections = outcomes.iter().any(|outcome| matches!(outcome, EventOutcome::Rejected(_)));
            let dead_letters = repeats.map_or(0, |record| if has_rejections { certain(record) } else { 0 });
            let after = if depends_on_unsynced || dead_letters > 0 { self.stored.last() } else { 0 };
            return Validation { outcomes, after, own: 0, dead_letters };
        }
        self.expected.records += 1;
        let fate = Fate::Queued;
        let shard = self.shard;
        let record =
            Record { name, events, dead_letters, is_partial, received: now, peer, user, shard, fate };
        let length = record.length();
        self.expected.record_bytes += length as u64;
        self.record_most = self.record_most.max(length);
        self.queue.push_back((own, length));
        self.stored.push(record);
        self.outstanding_most = self.outstanding_most.max(self.stored.outstanding().count());
        Validation { outcomes, after: own, own, dead_letters: own }
    }

    /// The answer to a PUBLISH of which all records that it waits for are durable or refused.
    fn answer(&self, pending: &Pending) -> Ack {
        let fault_of = |record: u64| match record {
            0 => None,
            _ => match self.stored.record(record).fate {
                Fate::Refused(fault) => Some(fault),
                Fate::Durable => None,
                fate => panic!("an answer to what isn't stored: {fate:?}"),
            },
        };
        let batch = pending.publish.batch();
        let mut ack = Ack {
            producer: batch.producer.to_vec(),
            sequence: batch.sequence,
            throttle_ms: pending.throttle_ms.into(),
            ..Ack::default()
        };
        let own = fault_of(pending.own);
        for ((event, outcome), index) in batch.events.iter().zip(&pending.outcomes).zip(0..) {
            let fault = match outcome {
                EventOutcome::Rejected((code, message)) => {
                    let is_retryable = matches!(*code, "RATE_LIMITED" | "SERVER_BUSY");
                    // Where its dead letter isn't kept, it is to come again.
                    if let Some(fault) = fault_of(pending.dead_letters).filter(|_| !is_retryable) {
                        let (code, message) = (code_of(fault).to_owned(), String::new());
                        ack.rejected.push(Rejected { index, code, message, is_retryable: true });
                        continue;
                    }
                    let (code, message) = ((*code).to_owned(), message.clone());
                    ack.rejected.push(Rejected { index, code, message, is_retryable });
                    continue;
                }
                // Where the record is refused, what was stored before is told to come again, too.
                EventOutcome::Accepted | EventOutcome::Duplicate(0) => own,
                EventOutcome::Duplicate(record) => fault_of(*record),
            };
            if let Some(fault) = fault {
                let code = code_of(fault).to_owned();
                ack.rejected.push(Rejected { index, code, message: String::new(), is_retryable: true });
                continue;
            }
            let name = (batch.sequence, pending.own);
            let is_durable = self.stored.is_durable(event.id);
            assert!(is_durable, "{event:?} counts as stored, {outcome:?} in {name:?}, and isn't");
            match outcome {
                EventOutcome::Accepted => ack.accepted += 1,
                _ => ack.duplicates += 1,
            }
        }
        ack
    }
}

/// Time may change it.
fn is_of_the_clock(code: &str) -> bool {
    matches!(code, "CLOCK_AHEAD" | "TOO_OLD")
}

fn code_of(fault: StorageFault) -> &'static str {
    match fault {
        StorageFault::Full => "STORAGE_FULL",
        StorageFault::Failed => "STORAGE_FAILED",
    }
}

impl Model {
    /// A client sends a PUBLISH.
    pub(super) fn publish(&mut self, index: usize, payload: &[u8], said: Option<CloseReason>) -> Handled {
        let Some(rules) = self.rules.events.clone() else {
            return Err((CloseReason::UnsupportedType, (0, 0), None));
        };
        let events_max = u64::from(self.rules.payload_bytes / 32).min(2_048);
        let plain = |reason, limit| Err((reason, (0, 0), limit));
        let publishing = self.publishing.as_mut().expect("events are collected");
        let conn = &mut self.conns[index];
        publishing.expected.publishes += 1;
        publishing.expected.bytes += payload.len() as u64;
        if conn.publisher.pending.len() >= rules.credits as usize {
            return plain(CloseReason::ProtocolViolation, Some(Limit::PublishCredits));
        }
        // What no publisher made is nothing.
        let Some(publish) = publishing.made.get(&hash(payload)).cloned() else {
            return plain(CloseReason::BadFrame, None);
        };
        publishing.has_unpacked |= !matches!(publish.what, What::Batch { unpacked: None, .. });
        let What::Batch { batch, unpacked } = &publish.what else {
            return plain(CloseReason::BadFrame, None);
        };
        if unpacked.is_some_and(|bytes| bytes > rules.unpacked_bytes as usize) {
            return plain(CloseReason::MessageTooLarge, Some(Limit::PublishUnpacked));
        }
        let count = batch.events.len() as u64;
        if count > events_max {
            return plain(CloseReason::MessageTooLarge, Some(Limit::PublishEvents));
        }
        let quota = &mut conn.publisher.quota;
        let (refused, throttle_ms) = publishing.refusal(quota, &rules, count, self.active_ns);
        publishing.expected.throttled += u64::from(throttle_ms > 0);
        let validation = match &refused {
            Err((_, reason)) => {
                publishing.count_rejected(reason.0, count);
                let outcomes = batch.events.iter().map(|_| EventOutcome::Rejected(reason.clone())).collect();
                Validation { outcomes, after: 0, own: 0, dead_letters: 0 }
            }
            Ok(granted) => {
                let user = conn.user.clone().unwrap_or_else(|| self.rules.user.to_owned());
                publishing.validate(batch, *granted, &rules, self.wall, (conn.peer.ip().to_string(), user))
            }
        };
        let Validation { outcomes, after, own, dead_letters } = validation;
        conn.publisher.pending.push_back(Pending {
            publish,
            outcomes,
            after,
            own,
            dead_letters,
            throttle_ms,
        });
        let waiting = self.conns.iter().map(|conn| conn.publisher.pending.len()).sum();
        publishing.waiting_most = publishing.waiting_most.max(waiting);
        if let Err((limit, _)) = refused {
            self.expected.fired[limit as usize] += 1;
            self.spend_frame(index)?;
        }
        self.answer(index, said)
    }

    /// Enqueues the answers of a connection that don't wait any more.
    fn answer(&mut self, index: usize, said: Option<CloseReason>) -> Handled {
        let publishing = self.publishing.as_ref().expect("events are collected");
        let settled = publishing.stored.settled();
        let mut acks = Vec::new();
        while let Some(pending) =
            self.conns[index].publisher.pending.pop_front_if(|pending| pending.after <= settled)
        {
            acks.push(publishing.answer(&pending));
        }
        acks.into_iter().try_for_each(|ack| self.enqueue(index, Reply::PublishAck(ack), said))
    }

    /// The journal was handed a record.
    pub fn handed(&mut self, record: &Handed<'_>) {
        let publishing = self.publishing.as_mut().expect("events are collected");
        let (id, length) = publishing.queue.pop_front().expect("a record that nothing was made of");
        let expected = publishing.stored.record(id);
        assert_eq!(record.id.0, id, "the next record");
        assert_eq!((record.producer, record.sequence), expected.name);
        assert_eq!(record.events as usize, expected.events.len());
        expected.check(record.payload).unwrap_or_else(|error| panic!("record {id}: {error}"));
        assert_eq!(record.payload.len(), length, "record {id}");
        publishing.stored.append(id);
    }

    /// Sets the amount that the journal can take from now on.
    pub fn press(&mut self, pressure: IngestPressure) {
        self.publishing.as_mut().expect("events are collected").pressure = pressure;
    }

    pub fn has_records(&self) -> bool {
        self.publishing.as_ref().is_some_and(|publishing| !publishing.queue.is_empty())
    }

    /// All records up to this one that weren't refused are durable.
    pub fn synced(&mut self, up_to: u64) {
        let publishing = self.publishing.as_mut().expect("events are collected");
        let (events, dead_letters) = publishing.stored.sync(up_to);
        publishing.expected.accepted += events;
        publishing.expected.dead_letters += dead_letters;
        self.settled();
    }

    pub fn record_refused(&mut self, id: u64, fault: StorageFault) {
        let publishing = self.publishing.as_mut().expect("events are collected");
        let events = publishing.stored.refuse(id, fault);
        publishing.count_rejected(code_of(fault), events);
        publishing.expected.records_refused += 1;
        self.settled();
    }

    fn settled(&mut self) {
        for index in 0..self.conns.len() {
            if let Err((reason, retry_ms, limit)) = self.answer(index, None) {
                self.end(index, reason, retry_ms, limit);
            }
        }
    }

    /// Bytes of unfinished PUBLISHes that a connection holds.
    pub(super) fn partial_bytes(&self, index: usize) -> u64 {
        let conn = &self.conns[index];
        let is_publish = conn.unread.get(3) == Some(&wire::PUBLISH);
        if conn.accepts_frames() && is_publish { conn.unread.len() as u64 } else { 0 }
    }

    pub(super) fn all_partial_bytes(&self) -> u64 {
        (0..self.conns.len()).map(|index| self.partial_bytes(index)).sum()
    }

    /// Bytes came, and a connection holds more of an unfinished PUBLISH than `before`, or less.
    pub(super) fn hold_partial(&mut self, index: usize, before: u64) {
        let Some(rules) = &self.rules.events else { return };
        let most = rules.partial_bytes;
        if self.partial_bytes(index) > before && self.all_partial_bytes() > most {
            self.end(index, CloseReason::ServerBusy, BUSY_RETRY, Some(Limit::PartialPublishes));
        }
    }

    /// Bytes that event collection may hold.
    pub(super) fn collected_max(&self) -> usize {
        let (Some(rules), Some(publishing)) = (&self.rules.events, &self.publishing) else { return 0 };
        if publishing.expected.publishes == 0 && publishing.stored.is_empty() {
            return 0;
        }
        let ids = 48 * rules.event_ids.max(16).next_power_of_two() as usize;
        let producers = 1 << 20;
        // The buffer, and a decoder whose window holds all of a frame.
        let unpacked =
            if publishing.has_unpacked { 2 * rules.unpacked_bytes as usize + (1 << 20) } else { 0 };
        // Those queued, and buffers that are kept for the next.
        let records = 2 * publishing.queue_bytes() + 6 * 2 * (publishing.record_most + 256);
        let pending = |conn: &super::Conn| {
            let events = conn.publisher.pending.iter().map(|pending| 64 * pending.outcomes.len() + 512);
            events.sum::<usize>() + 256
        };
        let pending: usize = self.conns.iter().filter(|conn| conn.phase != Phase::Closing).map(pending).sum();
        ids + producers
            + unpacked
            + records
            + 2 * pending
            + 256 * (publishing.waiting_most + publishing.outstanding_most)
    }
}
