//! Whole batches, from submission to the server's answer. No I/O, no clock: time is passed in.
//!
//! A batch goes out under one number, and again under the same one when its connection is lost, as long as its
//! submitter waits. Unlike [`Pipeline`](crate::publish::pipeline::Pipeline), the queue never sends an event again that
//! the server couldn't take: the submitter is told and decides.

use std::collections::VecDeque;

use tickstream_schema::events::PublishAck;
use tokio::{sync::oneshot, time::Instant};

use super::{
    answer::{BatchAnswer, BatchRejection, SubmitError},
    encoded::EncodedBatch,
};
use crate::{
    BadMessage, Error,
    error::retry_after,
    publish::{
        event::Rejection,
        packing::{PAYLOAD_OVERHEAD, pack_fields},
        queue::{Answer, Queue, answers_all},
    },
    session::PublishLimits,
};

/// Batches without an answer.
pub(crate) struct BatchQueue {
    producer: [u8; 16],
    next_sequence: u64,
    /// By rising sequence.
    batches: VecDeque<Submitted>,
    bytes: usize,
    bytes_max: usize,
    connection: Option<Connection>,
    /// The limits of the last connection; those of the protocol's defaults before.
    limits: PublishLimits,
    /// Nothing goes out before: the server asked for it.
    not_before: Option<Instant>,
    is_closed: bool,
}

struct Submitted {
    sequence: u64,
    since: Instant,
    batch: EncodedBatch,
    answer: oneshot::Sender<Result<BatchAnswer, SubmitError>>,
    /// On the connection that there is.
    is_sent: bool,
}

struct Connection {
    /// PUBLISHes without an answer.
    sent: u32,
    /// The server wants the client to go.
    leaves: bool,
}

impl BatchQueue {
    /// `first_sequence` is above 0.
    pub fn new(producer: [u8; 16], first_sequence: u64, bytes_max: usize) -> Self {
        Self {
            producer,
            next_sequence: first_sequence,
            batches: VecDeque::new(),
            bytes: 0,
            bytes_max,
            connection: None,
            limits: LIMITS_BEFORE_ACK,
            not_before: None,
            is_closed: false,
        }
    }

    /// Takes a batch, if there is room; an empty queue always has room for one.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub fn submit(&mut self, batch: EncodedBatch, now: Instant) -> Result<Receiver, SubmitError> {
        if self.is_closed {
            return Err(SubmitError::Closed);
        }
        self.check(&batch)?;
        if self.is_full(batch.byte_len()) {
            self.drop_abandoned();
        }
        if self.is_full(batch.byte_len()) {
            return Err(SubmitError::Full { bytes: self.bytes });
        }
        self.bytes += batch.byte_len();
        let (answer, receiver) = oneshot::channel();
        self.batches.push_back(Submitted {
            sequence: self.next_sequence,
            since: now,
            batch,
            answer,
            is_sent: false,
        });
        self.next_sequence += 1;
        Ok(receiver)
    }

    /// Takes no more batches.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// True if everything is answered.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Bytes of events without an answer.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if there is a connection that takes batches.
    pub fn is_connected(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.leaves)
    }

    /// Most events, and most bytes of them, that a batch may have.
    pub fn batch_limits(&self) -> (usize, usize) {
        let PublishLimits { payload_max, events_max, .. } = self.limits;
        (events_max as usize, (payload_max as usize).saturating_sub(PAYLOAD_OVERHEAD))
    }

    /// Tells every submitter that no answer will come.
    pub fn fail_all(&mut self, error: &SubmitError) {
        for submitted in self.batches.drain(..) {
            // A submitter that has gone needs no answer.
            _ = submitted.answer.send(Err(error.clone()));
        }
        self.bytes = 0;
    }

    fn check(&self, batch: &EncodedBatch) -> Result<(), SubmitError> {
        let (events_max, bytes_max) = self.batch_limits();
        let fits = batch.len() <= events_max && batch.byte_len() <= bytes_max && !batch.is_empty();
        if fits { Ok(()) } else { Err(SubmitError::Size { events_max, bytes_max }) }
    }

    fn is_full(&self, more: usize) -> bool {
        !self.batches.is_empty() && self.bytes + more > self.bytes_max
    }

    /// Removes batches that aren't on their way and have no submitter any more.
    fn drop_abandoned(&mut self) {
        let bytes = &mut self.bytes;
        self.batches.retain(|submitted| {
            let keep = submitted.is_sent || !submitted.answer.is_closed();
            *bytes -= if keep { 0 } else { submitted.batch.byte_len() };
            keep
        });
    }

    /// The first batch that isn't on its way; those before that have no submitter any more go.
    fn next_unsent(&mut self) -> Option<&mut Submitted> {
        loop {
            let place = self.batches.iter().position(|submitted| !submitted.is_sent)?;
            if !self.batches[place].answer.is_closed() {
                return self.batches.get_mut(place);
            }
            let abandoned = self.batches.remove(place)?;
            self.bytes -= abandoned.batch.byte_len();
        }
    }

    fn may_send(&self) -> bool {
        let credits = self.limits.credits;
        self.connection.as_ref().is_some_and(|connection| !connection.leaves && connection.sent < credits)
    }

    fn answered_batch(&self, ack: &PublishAck) -> Result<usize, BadMessage> {
        let sequence = ack.sequence;
        let unknown = BadMessage::UnknownBatch { sequence };
        if ack.producer_id != self.producer {
            return Err(unknown);
        }
        let place = self.batches.binary_search_by_key(&sequence, |batch| batch.sequence);
        let place = place.ok().filter(|&place| self.batches[place].is_sent).ok_or(unknown)?;
        if answers_all(ack, self.batches[place].batch.len()) {
            Ok(place)
        } else {
            Err(BadMessage::Rejections { sequence })
        }
    }
}

pub(crate) type Receiver = oneshot::Receiver<Result<BatchAnswer, SubmitError>>;

/// Least limits of each server for which the protocol's defaults hold.
const LIMITS_BEFORE_ACK: PublishLimits =
    PublishLimits { credits: 0, payload_max: 512 * 1024, events_max: 2048 };

impl Queue for BatchQueue {
    fn connected(&mut self, limits: PublishLimits) -> Vec<Rejection> {
        self.limits = limits;
        self.connection = Some(Connection { sent: 0, leaves: false });
        self.drop_abandoned();
        for submitted in std::mem::take(&mut self.batches) {
            match self.check(&submitted.batch) {
                Ok(()) => self.batches.push_back(submitted),
                Err(error) => {
                    self.bytes -= submitted.batch.byte_len();
                    _ = submitted.answer.send(Err(error));
                }
            }
        }
        Vec::new()
    }

    fn disconnected(&mut self) -> usize {
        self.connection = None;
        self.batches.iter_mut().map(|batch| usize::from(std::mem::take(&mut batch.is_sent))).sum()
    }

    fn leave(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.leaves = true;
        }
    }

    fn is_idle(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.sent == 0)
    }

    fn poll_publish(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        if !self.may_send() || self.not_before.is_some_and(|until| now < until) {
            return false;
        }
        self.not_before = None;
        let producer = self.producer;
        let Some(submitted) = self.next_unsent() else { return false };
        submitted.is_sent = true;
        pack_fields(out, &producer, submitted.sequence, submitted.batch.as_bytes());
        if let Some(connection) = &mut self.connection {
            connection.sent += 1;
        }
        true
    }

    fn next_timeout(&self) -> Option<Instant> {
        let newest = self.batches.back().filter(|newest| !newest.is_sent && self.may_send())?;
        Some(self.not_before.unwrap_or(newest.since))
    }

    fn acknowledge(&mut self, ack: PublishAck, now: Instant) -> Result<Answer, BadMessage> {
        let place = self.answered_batch(&ack)?;
        let Some(submitted) = self.batches.remove(place) else { unreachable!("it was found there") };
        self.bytes -= submitted.batch.byte_len();
        if let Some(connection) = &mut self.connection {
            connection.sent -= 1;
        }
        let retry_after = retry_after(ack.throttle_ms).unwrap_or_default();
        if !retry_after.is_zero() {
            self.not_before = self.not_before.max(Some(now + retry_after));
        }
        let PublishAck { accepted, duplicates, rejected, .. } = ack;
        let rejected = rejected.into_iter().map(BatchRejection::from).collect();
        _ = submitted.answer.send(Ok(BatchAnswer { accepted, duplicates, rejected, retry_after }));
        Ok(Answer { rejections: Vec::new(), retrying: None })
    }

    /// Submitters have deadlines of their own, and whoever forwards for others outlives a wrong password.
    fn ends_by(_: &Error) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
