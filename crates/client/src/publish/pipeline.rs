//! The way of events: they wait, go out in batches, and stay until each has a final answer. No I/O, no clock:
//! time is passed in.
//!
//! An event is in exactly one place: `waiting` or a batch. Batches keep their number and their events until they are
//! answered, on whatever connection; a number is never given to other events, since the server drops what it has seen.

mod acknowledge;
mod ledger;
mod queue;

use std::collections::VecDeque;

use tickstream_schema::events::{self, Message};
use tokio::time::Instant;

use super::{
    disk::DiskQueue,
    event::{Progress, PublishError, Rejection, Unanswered},
    options::{BatchLimits, Compression, Producer, QueueLimits},
    packing::{PAYLOAD_OVERHEAD, pack, packed_len},
};
use crate::{backoff::Backoff, session::PublishLimits};

/// Everything that has no final answer.
pub(crate) struct Pipeline {
    batch: BatchLimits,
    queue: QueueLimits,
    compression: Compression,
    producer: Producer,
    /// Events in no batch, in the order of their numbers.
    waiting: VecDeque<Item>,
    waiting_bytes: usize,
    /// Batches without an answer, by rising sequence.
    batches: VecDeque<Batch>,
    held: Held,
    /// Number of the last event that was taken; the first is 1.
    last_number: u64,
    /// Events up to this number don't linger.
    flushed: u64,
    connection: Option<Connection>,
    /// Nothing goes out before: the server asked for it, or couldn't take something.
    not_before: Option<Instant>,
    retry: Backoff,
    totals: Progress,
    is_closed: bool,
    /// Disk queue that has all of this, too.
    disk: Option<DiskQueue>,
}

/// An event.
struct Item {
    number: u64,
    tag: u64,
    bytes: Box<[u8]>,
    since: Instant,
}

struct Batch {
    sequence: u64,
    items: Vec<Item>,
    /// On the connection that there is.
    is_sent: bool,
    /// On any connection.
    was_sent: bool,
}

/// Sizes that count against the queue's limits.
#[derive(Clone, Copy, Default)]
struct Held {
    events: usize,
    bytes: usize,
}

/// The server's limits on the connection that there is.
struct Connection {
    credits: u32,
    payload_max: usize,
    events_max: usize,
    /// PUBLISHes without an answer.
    sent: u32,
    /// The server wants the client to go: no more PUBLISHes.
    leaves: bool,
}

/// Bytes that an event counts beside its own: its place in memory, and the allocator's share.
const ITEM_OVERHEAD: usize = 64;

impl Pipeline {
    pub fn new(
        (batch, queue, compression): (BatchLimits, QueueLimits, Compression),
        producer: Producer,
        retry: Backoff,
    ) -> Self {
        Self {
            batch,
            queue,
            compression,
            producer,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            batches: VecDeque::new(),
            held: Held::default(),
            last_number: 0,
            flushed: 0,
            connection: None,
            not_before: None,
            retry,
            totals: Progress::default(),
            is_closed: false,
            disk: None,
        }
    }

    /// Takes an encoded event. Whether the caller of [`poll_publish`](Self::poll_publish) should have another look.
    ///
    /// # Errors
    /// All of [`PublishError`] but its last; after [`PublishError::Full`] another look is due as well.
    pub fn push(&mut self, bytes: &[u8], tag: u64, now: Instant) -> Result<bool, PublishError> {
        let bytes_max = self.payload_max() - PAYLOAD_OVERHEAD - packed_len(0);
        let (Held { events, bytes: held }, cost) = (self.held, bytes.len() + ITEM_OVERHEAD);
        if self.is_closed {
            return Err(PublishError::Closed);
        }
        if bytes.len() > bytes_max {
            return Err(PublishError::TooLarge { bytes: bytes.len(), bytes_max });
        }
        // One event always has room, however small the queue.
        if events > 0 && (events >= self.queue.events || held + cost > self.queue.bytes) {
            // Whoever waits for room doesn't linger.
            self.flush();
            return Err(PublishError::Full { events, bytes: held });
        }
        self.write_event(self.last_number + 1, bytes)?;
        self.held = Held { events: events + 1, bytes: held + cost };
        self.last_number += 1;
        self.totals.published += 1;
        self.waiting_bytes += packed_len(bytes.len());
        self.waiting.push_back(Item { number: self.last_number, tag, bytes: bytes.into(), since: now });
        // The first one starts the clock; one that completes a batch ends the wait.
        Ok(self.waiting.len() == 1 || self.is_batch())
    }

    /// Events so far go without lingering. They are all answered when
    /// [`answered`](Self::answered) reaches the number that this gives.
    pub fn flush(&mut self) -> u64 {
        self.flushed = self.last_number;
        self.flushed
    }

    /// Takes no more events; flushes.
    pub fn close(&mut self) {
        self.is_closed = true;
        self.flush();
    }

    /// All events up to this number have a final answer.
    pub fn answered(&self) -> u64 {
        let firsts = self.batches.iter().filter_map(|batch| batch.items.first()).chain(self.waiting.front());
        firsts.map(|item| item.number - 1).min().unwrap_or(self.last_number)
    }

    /// A connection stands. What was on its way goes again. Gives events that are too large for this server.
    pub fn connected(&mut self, limits: PublishLimits) -> Vec<Rejection> {
        let PublishLimits { credits, payload_max, events_max } = limits;
        let payload_max = (payload_max as usize).max(PAYLOAD_MAX_LEAST);
        let events_max = (events_max as usize).max(1);
        self.connection = Some(Connection { credits, payload_max, events_max, sent: 0, leaves: false });
        let limit = self.payload_max();
        for batch in std::mem::take(&mut self.batches) {
            if batch.payload_len() <= limit && batch.items.len() <= events_max {
                self.batches.push_back(Batch { is_sent: false, ..batch });
            } else {
                // It can't go as it was; the events' ids tell the server what it has of it.
                self.write_answered(batch.sequence, &[]);
                batch.items.into_iter().for_each(|item| self.wait(item));
            }
        }
        self.reject_larger_than(limit - PAYLOAD_OVERHEAD)
    }

    /// The connection is gone. How many batches it leaves unanswered.
    pub fn disconnected(&mut self) -> usize {
        self.connection = None;
        self.batches.iter_mut().map(|batch| usize::from(std::mem::take(&mut batch.is_sent))).sum()
    }

    /// The server wants the client to go: nothing more is sent on this connection.
    pub fn leave(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.leaves = true;
        }
    }

    /// True if no answer is pending on this connection.
    pub fn is_idle(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.sent == 0)
    }

    /// True if everything has a final answer.
    pub fn is_empty(&self) -> bool {
        self.held.events == 0
    }

    /// Appends the payload of the next PUBLISH to `out`, if one may go now.
    pub fn poll_publish(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        if !self.may_send() || self.not_before.is_some_and(|until| now < until) {
            return false;
        }
        self.not_before = None;
        // Batches are sent in the order of their numbers: those that aren't are at the end.
        let next = match self.batches.iter().position(|batch| !batch.is_sent) {
            Some(next) => next,
            None if self.due_at().is_some_and(|due| due <= now) => {
                self.cut();
                self.batches.len() - 1
            }
            None => return false,
        };
        let batch = &mut self.batches[next];
        (batch.is_sent, batch.was_sent) = (true, true);
        let items = batch.items.iter().map(|item| &item.bytes[..]);
        pack(out, &self.producer.id, batch.sequence, items, self.compression);
        if let Some(connection) = &mut self.connection {
            connection.sent += 1;
        }
        true
    }

    /// When [`poll_publish`](Self::poll_publish) will have something, if nothing happens before.
    pub fn next_timeout(&self) -> Option<Instant> {
        if !self.may_send() {
            return None;
        }
        let resend = self.batches.iter().any(|batch| !batch.is_sent);
        let due = if resend { self.not_before } else { self.due_at() };
        due.map(|due| self.not_before.map_or(due, |until| due.max(until)))
    }

    /// Progress so far.
    pub fn progress(&self) -> Progress {
        Progress { unanswered: self.held.events as u64, ..self.totals }
    }

    /// Takes out everything that has no final answer, in the order in which it was published.
    pub fn take_unanswered(&mut self) -> Vec<Unanswered> {
        let sent = |batch: Batch| batch.items.into_iter().map(move |item| (item, batch.was_sent));
        let mut items: Vec<_> = std::mem::take(&mut self.batches).into_iter().flat_map(sent).collect();
        items.extend(std::mem::take(&mut self.waiting).into_iter().map(|item| (item, false)));
        items.sort_by_key(|(item, _)| item.number);
        (self.held, self.waiting_bytes) = (Held::default(), 0);
        items
            .into_iter()
            .map(|(item, was_sent)| Unanswered { tag: item.tag, event: item.event(), was_sent })
            .collect()
    }

    /// The largest payload at present, bytes before compression.
    fn payload_max(&self) -> usize {
        let announced = self.connection.as_ref().map_or(usize::MAX, |connection| connection.payload_max);
        self.batch.bytes.min(announced)
    }

    /// The most events of a batch at present.
    fn events_max(&self) -> usize {
        let announced = self.connection.as_ref().map_or(usize::MAX, |connection| connection.events_max);
        self.batch.events.min(announced)
    }

    fn may_send(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| !connection.leaves && connection.sent < connection.credits)
    }

    /// True if the events that wait fill a batch.
    fn is_batch(&self) -> bool {
        self.waiting.len() >= self.batch.events || self.waiting_bytes + PAYLOAD_OVERHEAD >= self.payload_max()
    }

    /// When the events that wait become a batch, if none comes.
    fn due_at(&self) -> Option<Instant> {
        let first = self.waiting.front()?;
        let at_once = self.is_batch() || first.number <= self.flushed;
        Some(if at_once { first.since } else { first.since + self.batch.linger })
    }

    /// Makes a batch of the first events that wait; at least one does.
    fn cut(&mut self) {
        let room = self.payload_max() - PAYLOAD_OVERHEAD;
        let mut bytes = 0;
        let fits = |item: &&Item| {
            bytes += packed_len(item.bytes.len());
            bytes <= room
        };
        // connected() has left none that doesn't fit alone.
        let count = self.waiting.iter().take(self.events_max()).take_while(fits).count().max(1);
        let items: Vec<Item> = self.waiting.drain(..count).collect();
        self.waiting_bytes -= items.iter().map(|item| packed_len(item.bytes.len())).sum::<usize>();
        let sequence = self.producer.next_sequence;
        self.producer.next_sequence += 1;
        self.write_batch(sequence, &items);
        self.batches.push_back(Batch { sequence, items, is_sent: false, was_sent: false });
    }

    /// Puts an event (back) to where its number belongs, which is near the front.
    fn wait(&mut self, item: Item) {
        self.waiting_bytes += packed_len(item.bytes.len());
        let at = self.waiting.partition_point(|waiting| waiting.number < item.number);
        self.waiting.insert(at, item);
    }

    fn reject_larger_than(&mut self, room: usize) -> Vec<Rejection> {
        let (kept, mut larger): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|item| packed_len(item.bytes.len()) <= room);
        self.waiting = kept;
        self.write_answered(0, larger.make_contiguous());
        let reject = |item: Item| {
            self.waiting_bytes -= packed_len(item.bytes.len());
            let message =
                format!("the event has {} bytes, this server takes batches of {room}", item.bytes.len());
            self.settle(&item);
            self.totals.rejected += 1;
            Rejection { tag: item.tag, event: item.event(), code: "EVENT_TOO_LARGE".to_owned(), message }
        };
        larger.into_iter().map(reject).collect()
    }

    /// An event has its final answer.
    fn settle(&mut self, item: &Item) {
        self.held.events -= 1;
        self.held.bytes -= item.bytes.len() + ITEM_OVERHEAD;
    }
}

/// A server that announced less would take nothing.
const PAYLOAD_MAX_LEAST: usize = 1024;

impl Batch {
    /// Bytes before compression, or a few more.
    fn payload_len(&self) -> usize {
        PAYLOAD_OVERHEAD + self.items.iter().map(|item| packed_len(item.bytes.len())).sum::<usize>()
    }
}

impl Item {
    fn event(&self) -> events::Event {
        events::Event::decode(&self.bytes[..]).expect("it was encoded from an event")
    }
}

#[cfg(test)]
mod tests;
