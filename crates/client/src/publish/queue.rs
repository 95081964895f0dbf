//! Interface between the task of a publisher and what it sends from.

use tickstream_schema::events::PublishAck;
use tokio::time::Instant;

use super::event::{PublishEvent, Rejection};
use crate::{BadMessage, Error, session::PublishLimits};

/// A queue that the driver sends from: decides what goes out when, without I/O or a clock.
pub(crate) trait Queue: Send + 'static {
    /// A connection stands. What was on its way goes again. Gives events that this server will never take.
    fn connected(&mut self, limits: PublishLimits) -> Vec<Rejection>;

    /// The connection is gone. The number of batches that it leaves unanswered.
    fn disconnected(&mut self) -> usize;

    /// The server wants the client to go: nothing more is sent on this connection.
    fn leave(&mut self);

    /// True if no answer is outstanding on this connection.
    fn is_idle(&self) -> bool;

    /// Appends the payload of the next PUBLISH to `out`, if one may go now.
    fn poll_publish(&mut self, now: Instant, out: &mut Vec<u8>) -> bool;

    /// When [`poll_publish`](Self::poll_publish) will have something, if nothing happens before.
    fn next_timeout(&self) -> Option<Instant>;

    /// Takes the answer to a batch.
    ///
    /// # Errors
    /// If the server must not send such an answer; nothing has changed.
    fn acknowledge(&mut self, ack: PublishAck, now: Instant) -> Result<Answer, BadMessage>;

    /// True if the error ends the publisher, instead of a pause and another attempt.
    fn ends_by(error: &Error) -> bool;
}

/// Consequences of an answer for the application.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Final rejections.
    pub rejections: Vec<Rejection>,
    /// News of events that go again.
    pub retrying: Option<PublishEvent>,
}

/// True if the answer is one for a batch of so many events: each is counted once, and rejections are in order.
pub(crate) fn answers_all(ack: &PublishAck, events: usize) -> bool {
    let answered = u64::from(ack.accepted) + u64::from(ack.duplicates) + ack.rejected.len() as u64;
    let rises = ack.rejected.is_sorted_by(|a, b| a.index < b.index);
    let fits = ack.rejected.last().is_none_or(|last| (last.index as usize) < events);
    answered == events as u64 && rises && fits
}
