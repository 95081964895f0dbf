//! Connections to the servers.

use std::time::Duration;

use tickstream_client::{
    BatchAnswer, BatchPublisher, BatchPublishing, Builder, EncodedBatch, Error, PublishEvent, SubmitError,
    with_causes,
};
use tokio::time;

use crate::outcome::{Cause, Unavailable};

/// Options of the connections.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamConfig {
    /// Connections, spread over the servers.
    pub connections: usize,
    /// Bytes of events without an answer, over all connections.
    pub queue_bytes: usize,
    /// Longest wait for the server's answer.
    pub answer_timeout: Duration,
}

/// Events and bytes that a batch may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Events.
    pub events: usize,
    /// Bytes.
    pub bytes: usize,
}

/// Publishers, of which each batch takes the one with the least to do.
#[derive(Debug)]
pub struct Upstream {
    publishers: Vec<BatchPublisher>,
    answer_timeout: Duration,
}

impl Upstream {
    /// Starts to connect. `builder` makes a client whose first server is that with this index, modulo their number.
    ///
    /// # Errors
    /// [`Error`], for settings that can't work.
    pub fn start(config: UpstreamConfig, mut builder: impl FnMut(usize) -> Builder) -> Result<Self, Error> {
        let connections = config.connections.max(1);
        let publisher = |index| {
            let publishing = BatchPublishing::default()
                .queue_bytes(config.queue_bytes / connections)
                .observer(log_connection());
            builder(index).batch_publisher(publishing)
        };
        let publishers = (0..connections).map(publisher).collect::<Result<_, _>>()?;
        Ok(Self { publishers, answer_timeout: config.answer_timeout })
    }

    /// Present limits of a batch.
    pub fn batch_limits(&self) -> BatchLimits {
        let limits = self.publishers.iter().map(|publisher| {
            let status = publisher.status();
            (status.events_max, status.bytes_max)
        });
        let (events, bytes) = limits.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1))).unwrap_or_default();
        BatchLimits { events, bytes: bytes.min(BATCH_BYTES_MAX) }
    }

    /// True if a server can be reached.
    pub fn is_connected(&self) -> bool {
        self.publishers.iter().any(|publisher| publisher.status().is_connected)
    }

    /// Bytes of events without an answer.
    pub fn queued_bytes(&self) -> usize {
        self.publishers.iter().map(|publisher| publisher.status().queued_bytes).sum()
    }

    /// Sends a batch and waits for the answer, which is taken at once.
    ///
    /// # Errors
    /// [`Unavailable`]: nothing is known to be stored.
    pub fn submit(
        &self,
        batch: EncodedBatch,
    ) -> impl Future<Output = Result<BatchAnswer, Unavailable>> + Send + use<> {
        let statuses = self.publishers.iter().map(|publisher| (publisher, publisher.status()));
        let (best, status) = statuses
            .min_by_key(|(_, status)| (!status.is_connected, status.queued_bytes))
            .expect("there is a connection at least");
        // A server that restarts is back within a moment; senders wait better at home for one that doesn't.
        let (cause, patience) = match status.is_connected {
            true => (Cause::Timeout, self.answer_timeout),
            false => (Cause::Disconnected, self.answer_timeout.min(CONNECTION_PATIENCE)),
        };
        let answer = time::timeout(patience, best.submit(batch));
        async move {
            let unavailable = |cause| Unavailable { cause, retry_after: RETRY_AFTER };
            match answer.await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(SubmitError::Closed)) => Err(unavailable(Cause::Draining)),
                // A server that takes less than the one before: the sender's next attempt is cut to fit.
                Ok(Err(SubmitError::Full { .. } | SubmitError::Size { .. })) => Err(unavailable(Cause::Full)),
                Err(_) => Err(unavailable(cause)),
            }
        }
    }

    /// Waits for the answers that are owed, for `patience` at the most, and closes the connections.
    pub async fn close(&self, patience: Duration) {
        let closing: Vec<_> =
            self.publishers.iter().map(|publisher| tokio::spawn(publisher.clone().close(patience))).collect();
        for closed in closing {
            // A panic of the task has been told by the runtime.
            _ = closed.await;
        }
    }
}

/// Larger batches gain nothing, and hold up the smaller ones behind them.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Time for which a batch waits for a connection to a server.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(2);
/// Wait that senders are told where no server gave a time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Logs what happens to a connection: its loss once, not each attempt to connect again.
fn log_connection() -> impl FnMut(PublishEvent) + Send {
    let mut is_lost = false;
    move |event| match event {
        PublishEvent::Disconnected { error, retry_in } => {
            let (error, retry_in_ms) = (with_causes(&error), retry_in.as_millis() as u64);
            if std::mem::replace(&mut is_lost, true) {
                tracing::debug!(%error, retry_in_ms, "still no connection to a server");
            } else {
                tracing::warn!(%error, retry_in_ms, "no connection to a server; trying again until there is one");
            }
        }
        PublishEvent::Reconnected { server, resent } => {
            is_lost = false;
            tracing::info!(%server, resent, "connected to a server");
        }
        PublishEvent::GoAway { reason, .. } => tracing::info!(%reason, "a server asked to reconnect"),
        // It has no disk queue, and sends nothing again by itself.
        PublishEvent::Acknowledged { .. }
        | PublishEvent::DiskQueueDamaged { .. }
        | PublishEvent::Rejected(_)
        | PublishEvent::Retrying { .. }
        | PublishEvent::Ended { .. } => {}
    }
}
