//! The application's handle.

use std::{fmt, sync::Arc, time::Duration};

use tickstream_schema::events::{Event, Message};
use tokio::time;

use super::{
    disk::{Damage, DiskQueue, Restored},
    driver::PublishDriver,
    event::{Progress, PublishError, PublishEvent, Unanswered},
    make::new_producer_id,
    options::{DiskOptions, Producer, Publishing},
    pipeline::Pipeline,
    shared::Shared,
};
use crate::{Error, backoff::Backoff, config::Config, link::Link};

/// Publishes events over a connection of its own. Clones publish over the same one.
///
/// Dropped (the last clone), it closes its connection, and what has no answer is lost: [`Publisher::close`] waits for
/// the answers, and gives back what has none.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    _task: Arc<TaskGuard>,
}

/// Ends the task with the last handle.
struct TaskGuard(Arc<Shared>);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Publisher {
    pub(crate) async fn connect(config: Config, mut publishing: Publishing) -> Result<Self, Error> {
        publishing.check()?;
        // Before anything is sent: it may be another publisher's.
        let mut disk = publishing.disk.as_ref().map(open_disk_queue).transpose()?;
        // At once: the next start, should this one fail, finds a queue without damage.
        if let Some(Damage { bytes, kept }) = disk.as_mut().and_then(|(_, restored)| restored.damage.take()) {
            (publishing.observer)(PublishEvent::DiskQueueDamaged { bytes, kept });
        }
        let mut failure = Error::Closed;
        for server in 0..config.servers.len() {
            match PublishDriver::<Pipeline>::open(&config, server).await {
                Ok(link) => return Ok(Self::start(config, publishing, disk, (server, link))),
                // Another server may take them.
                Err(error) if error.is_retryable() || matches!(error, Error::CollectionOff { .. }) => {
                    failure = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    fn start(
        config: Config,
        publishing: Publishing,
        disk: Option<(DiskQueue, Restored)>,
        (server, link): (usize, Link),
    ) -> Self {
        let Publishing { producer, batch, queue, compression, disk: _, observer } = publishing;
        let producer = disk.as_ref().map(|(_, restored)| restored.producer).or(producer);
        let producer = producer.unwrap_or_else(|| Producer { id: new_producer_id(), next_sequence: 1 });
        let backoff = || Backoff::new(config.backoff_min, config.backoff_max, fastrand::Rng::new());
        let mut pipeline = Pipeline::new((batch, queue, compression), producer, backoff());
        if let Some((disk, restored)) = disk {
            pipeline.restore(disk, restored.content, time::Instant::now());
        }
        let larger = pipeline.connected(link.session.publish_limits());
        let shared = Arc::new(Shared::new(pipeline));
        let backoff = backoff();
        let driver = PublishDriver::new(config, server, shared.clone(), observer, backoff);
        tokio::spawn(driver.drive(Some(link), larger));
        Self { _task: Arc::new(TaskGuard(shared.clone())), shared }
    }

    /// Takes an event, and waits for room where there is none. What becomes of it, the
    /// [observer](Publishing::observer) is told. Cancelled, it has not taken the event.
    ///
    /// # Errors
    /// [`PublishError`], but never [`PublishError::Full`].
    pub async fn publish(&self, event: &Event) -> Result<(), PublishError> {
        self.publish_tagged(event, 0).await
    }

    /// As [`publish`](Self::publish); `tag` comes back with a rejection of the event, such as the number of a line.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish).
    pub async fn publish_tagged(&self, event: &Event, tag: u64) -> Result<(), PublishError> {
        self.shared.push_when_there_is_room(&event.encode_to_vec(), tag).await
    }

    /// Takes an event if there is room at present.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn try_publish(&self, event: &Event, tag: u64) -> Result<(), PublishError> {
        self.shared.push(&event.encode_to_vec(), tag)
    }

    /// Sends what lingers, and waits until every event that was taken before has its final answer: it is on
    /// stable storage, or was rejected for good. Cancelled, it has no effect but that nothing lingers.
    ///
    /// # Errors
    /// [`PublishError::Ended`] or [`PublishError::Closed`], if some never will.
    pub async fn flush(&self) -> Result<(), PublishError> {
        let target = self.shared.lock().pipeline.flush();
        self.shared.call();
        self.shared.until(|state| state.outcome(target)).await
    }

    /// Its progress.
    pub fn progress(&self) -> Progress {
        self.shared.lock().pipeline.progress()
    }

    /// Takes no more events, from no clone either, waits for the answers, for `patience` at the most, and closes the
    /// connection in good order, which may take 2 s more. Gives back what has no final answer, in the order in which
    /// it was published; with a disk queue it stays there, too, and goes when it is opened again.
    pub async fn close(self, patience: Duration) -> Vec<Unanswered> {
        self.shared.lock().pipeline.close();
        self.shared.call();
        // Clones that wait for room are told.
        self.shared.tell();
        let target = u64::MAX;
        _ = time::timeout(patience, self.shared.until(|state| state.outcome(target))).await;
        self.shared.abandon();
        self.shared.ended().await;
        self.shared.lock().pipeline.take_unanswered()
    }
}

fn open_disk_queue(options: &DiskOptions) -> Result<(DiskQueue, Restored), Error> {
    let DiskOptions { dir, bytes_max } = options;
    DiskQueue::open(dir, *bytes_max).map_err(|source| Error::DiskQueue { dir: dir.clone(), source })
}

impl super::shared::State {
    /// Outcome of all events up to number `target`: `Some` once they are answered, or won't be.
    fn outcome(&self, target: u64) -> Option<Result<(), PublishError>> {
        if self.pipeline.answered() >= target || self.pipeline.is_empty() {
            return Some(Ok(()));
        }
        self.ended().map(Err)
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("progress", &self.progress()).finish_non_exhaustive()
    }
}
