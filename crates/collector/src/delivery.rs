//! Delivery of events whose sender can't be told to come again: tried until the servers have them.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{self, Instant},
};

use crate::{
    drain,
    intake::Intake,
    outcome::{Rejection, Unavailable},
    writer::{Origin, Request},
};

const RETRY_LEAST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// A request without a sender that waits for its answer.
pub(crate) struct Delivery<'a> {
    /// Publishes it.
    pub intake: &'a Intake,
    /// Origin of the request.
    pub origin: &'a Origin,
    /// Time at which delivery is given up; `None`: never.
    pub until: Option<Instant>,
    /// Signal that the collector ends: delivery is given up then.
    pub drain: Option<watch::Receiver<bool>>,
}

/// A request was given up. A part of it may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GivenUp;

impl Delivery<'_> {
    /// Tries until every event has its final answer. Gives those that can't be stored, which the log has, too.
    ///
    /// # Errors
    /// [`GivenUp`].
    pub async fn deliver(mut self, request: &Request) -> Result<Vec<Rejection>, GivenUp> {
        if request.is_empty() {
            return Ok(Vec::new());
        }
        loop {
            let retry_after = match self.intake.store_by_receipt(self.origin, request).await {
                Ok(outcome) if outcome.retryable().is_none() => {
                    tell_rejected(self.origin.source, &outcome.summary(), outcome.rejected.len());
                    return Ok(outcome.rejected);
                }
                Ok(outcome) => outcome.retry_after,
                Err(Unavailable { retry_after, .. }) => retry_after,
            };
            let again = Instant::now() + retry_after.clamp(RETRY_LEAST, RETRY_MOST);
            if self.until.is_some_and(|until| again > until) {
                return Err(GivenUp);
            }
            self.wait(again).await?;
        }
    }

    async fn wait(&mut self, until: Instant) -> Result<(), GivenUp> {
        let Some(drain) = &mut self.drain else {
            time::sleep_until(until).await;
            return Ok(());
        };
        tokio::select! {
            () = time::sleep_until(until) => Ok(()),
            () = drain::begins(drain) => Err(GivenUp),
        }
    }
}

/// Senders without a way to be told have their losses in the log.
fn tell_rejected(source: &'static str, summary: &str, count: usize) {
    if count > 0 {
        tracing::warn!(source, count, summary, "events were rejected");
    }
}
