//! The forwarder's handle.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::{
    answer::{BatchAnswer, SubmitError},
    encoded::EncodedBatch,
    queue::BatchQueue,
};
use crate::{
    PublishEvent,
    backoff::Backoff,
    config::Config,
    publish::{driver::PublishDriver, make::new_producer_id, options::Observer, shared::Shared},
};

/// Options of a [`BatchPublisher`].
#[must_use = "it does nothing before Builder::batch_publisher()"]
pub struct BatchPublishing {
    queue_bytes: usize,
    observer: Observer,
}

impl Default for BatchPublishing {
    fn default() -> Self {
        Self { queue_bytes: 16 * 1024 * 1024, observer: Box::new(|_| {}) }
    }
}

impl BatchPublishing {
    /// Sets how many bytes of events may be without an answer: 16 MiB by default. Beyond,
    /// [`BatchPublisher::submit`] fails; one batch always has room.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Sets the observer of lost and new connections: none by default. It is called in the publisher's own task and
    /// must not wait. It gets [`PublishEvent::Acknowledged`], [`PublishEvent::Disconnected`],
    /// [`PublishEvent::Reconnected`] (for the first connection, too) and [`PublishEvent::GoAway`].
    pub fn observer(mut self, observer: impl FnMut(PublishEvent) + Send + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }
}

impl fmt::Debug for BatchPublishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchPublishing").field("queue_bytes", &self.queue_bytes).finish_non_exhaustive()
    }
}

/// State of a [`BatchPublisher`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherStatus {
    /// There is a connection, and the server hasn't asked to leave it.
    pub is_connected: bool,
    /// Bytes of events without an answer.
    pub queued_bytes: usize,
    /// Most events in a batch, as the last server announced.
    pub events_max: usize,
    /// Most [bytes](EncodedBatch::byte_len) of a batch, as the last server announced.
    pub bytes_max: usize,
}

/// Publishes whole batches over a connection of its own, and reconnects for as long as it lives, whatever the error.
///
/// A batch waits for a connection, goes out as one PUBLISH, and goes again under the same number if that connection is
/// lost: the server stores it once. Dropping the future that [`submit`](Self::submit) gives withdraws a batch that isn't
/// on its way; one that is may be stored.
///
/// Clones share the connection. Dropped (the last clone), it closes it.
#[derive(Clone)]
pub struct BatchPublisher {
    shared: Arc<Shared<BatchQueue>>,
    _task: Arc<TaskGuard>,
}

/// Ends the task with the last handle.
struct TaskGuard(Arc<Shared<BatchQueue>>);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl BatchPublisher {
    /// Starts the task; it connects to the first server of the list at first.
    pub(crate) fn start(config: Config, publishing: BatchPublishing) -> Self {
        let backoff = Backoff::new(config.backoff_min, config.backoff_max, fastrand::Rng::new());
        let queue = BatchQueue::new(new_producer_id(), 1, publishing.queue_bytes);
        let shared = Arc::new(Shared::new(queue));
        let driver = PublishDriver::new(config, 0, shared.clone(), publishing.observer, backoff);
        tokio::spawn(driver.drive(None, Vec::new()));
        Self { _task: Arc::new(TaskGuard(shared.clone())), shared }
    }

    /// Submits a batch, and waits for the server's answer. The batch is taken at once, before the first await.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub fn submit(
        &self,
        batch: EncodedBatch,
    ) -> impl Future<Output = Result<BatchAnswer, SubmitError>> + Send + use<> {
        let submitted = self.shared.lock().submit(batch);
        self.shared.call();
        async move { submitted?.await.unwrap_or(Err(SubmitError::Closed)) }
    }

    /// State at present.
    pub fn status(&self) -> PublisherStatus {
        let queue = &self.shared.lock().pipeline;
        let (events_max, bytes_max) = queue.batch_limits();
        PublisherStatus {
            is_connected: queue.is_connected(),
            queued_bytes: queue.bytes(),
            events_max,
            bytes_max,
        }
    }

    /// Takes no more batches, from no clone either, waits for the answers, for `patience` at the most, and closes the
    /// connection in good order, which may take 2 s more. Batches without an answer get [`SubmitError::Closed`].
    pub async fn close(self, patience: Duration) {
        self.shared.lock().pipeline.close();
        _ = time::timeout(patience, self.shared.until(|state| state.pipeline.is_empty().then_some(()))).await;
        self.shared.abandon();
        self.shared.ended().await;
        self.shared.lock().pipeline.fail_all(&SubmitError::Closed);
    }
}

impl crate::publish::shared::State<BatchQueue> {
    fn submit(&mut self, batch: EncodedBatch) -> Result<super::queue::Receiver, SubmitError> {
        if self.has_ended {
            return Err(SubmitError::Closed);
        }
        self.pipeline.submit(batch, Instant::now())
    }
}

impl fmt::Debug for BatchPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchPublisher").field("status", &self.status()).finish_non_exhaustive()
    }
}
