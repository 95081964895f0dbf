//! The server's answer to a batch.

use std::time::Duration;

use tickstream_schema::events::{PublishAck, Rejected};
use tokio::time::Instant;

use super::{Batch, Item, Pipeline};
use crate::{
    BadMessage,
    error::retry_after,
    publish::{
        event::{PublishEvent, Rejection},
        queue::{Answer, answers_all},
    },
};

impl Pipeline {
    /// Takes the answer to a batch.
    ///
    /// # Errors
    /// If the server must not send such an answer; nothing has changed.
    pub fn acknowledge(&mut self, ack: PublishAck, now: Instant) -> Result<Answer, BadMessage> {
        let place = self.answered_batch(&ack)?;
        let Some(Batch { items, .. }) = self.batches.remove(place) else {
            unreachable!("it was found there");
        };
        if let Some(connection) = &mut self.connection {
            connection.sent -= 1;
        }
        self.totals.accepted += u64::from(ack.accepted);
        self.totals.duplicates += u64::from(ack.duplicates);
        let mut rejections = Vec::new();
        let mut again = Vec::new();
        let mut rejected = ack.rejected.into_iter().peekable();
        let mut settled = Vec::with_capacity(items.len());
        for (index, item) in (0..).zip(items) {
            match rejected.next_if(|refused| refused.index == index) {
                None => settled.push(item),
                Some(refused) if refused.retryable => {
                    self.totals.retried += 1;
                    self.wait(item);
                    again.push(refused);
                }
                Some(refused) => {
                    self.totals.rejected += 1;
                    rejections.push(rejection(&item, refused.code, refused.message));
                    settled.push(item);
                }
            }
        }
        self.write_answered(ack.sequence, &settled);
        settled.iter().for_each(|item| self.settle(item));
        self.tidy();
        let retry_in = self.pace(ack.throttle_ms, !again.is_empty(), now);
        let events = again.len();
        let retrying = again
            .into_iter()
            .next()
            .map(|Rejected { code, message, .. }| PublishEvent::Retrying { events, code, message, retry_in });
        Ok(Answer { rejections, retrying })
    }

    /// Place of the batch that is answered, if the answer fits it.
    fn answered_batch(&self, ack: &PublishAck) -> Result<usize, BadMessage> {
        let sequence = ack.sequence;
        let unknown = BadMessage::UnknownBatch { sequence };
        if ack.producer_id != self.producer.id {
            return Err(unknown);
        }
        let place = self.batches.binary_search_by_key(&sequence, |batch| batch.sequence);
        let place = place.ok().filter(|&place| self.batches[place].is_sent).ok_or(unknown)?;
        let events = self.batches[place].items.len();
        if answers_all(ack, events) { Ok(place) } else { Err(BadMessage::Rejections { sequence }) }
    }

    /// Sets when the next batch may go, and says in how long. What the server couldn't take holds up everything else,
    /// too: more events would find it no better, and events keep their order.
    fn pace(&mut self, throttle_ms: u32, retries: bool, now: Instant) -> Duration {
        let throttle = retry_after(throttle_ms).unwrap_or_default();
        let wait = if retries {
            throttle.max(self.retry.wait())
        } else {
            self.retry.start_over();
            throttle
        };
        if !wait.is_zero() {
            self.not_before = self.not_before.max(Some(now + wait));
        }
        wait
    }
}

fn rejection(item: &Item, code: String, message: String) -> Rejection {
    Rejection { tag: item.tag, event: item.event(), code, message }
}
