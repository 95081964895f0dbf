//! The pipeline as the driver sees it.

use tickstream_schema::events::PublishAck;
use tokio::time::Instant;

use super::Pipeline;
use crate::{
    BadMessage, Error,
    publish::{
        event::Rejection,
        queue::{Answer, Queue},
    },
    session::PublishLimits,
};

impl Queue for Pipeline {
    fn connected(&mut self, limits: PublishLimits) -> Vec<Rejection> {
        self.connected(limits)
    }

    fn disconnected(&mut self) -> usize {
        self.disconnected()
    }

    fn leave(&mut self) {
        self.leave();
    }

    fn is_idle(&self) -> bool {
        self.is_idle()
    }

    fn poll_publish(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        self.poll_publish(now, out)
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.next_timeout()
    }

    fn acknowledge(&mut self, ack: PublishAck, now: Instant) -> Result<Answer, BadMessage> {
        self.acknowledge(ack, now)
    }

    /// Events are at stake that a server without a journal took a while ago, and will again when its operator has noticed.
    fn ends_by(error: &Error) -> bool {
        !error.is_retryable() && !matches!(error, Error::CollectionOff { .. })
    }
}
