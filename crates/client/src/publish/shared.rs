//! State that a publisher's handles and its task share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{event::PublishError, pipeline::Pipeline};
use crate::Error;

/// `Q` is the queue: of events ([`Pipeline`]) or of whole batches ([`BatchQueue`](super::batches::BatchQueue)).
pub(crate) struct Shared<Q = Pipeline> {
    state: Mutex<State<Q>>,
    /// For the task: there is something to do.
    work: Notify,
    /// For the handles: events were answered, or the task has ended.
    answers: Notify,
    /// For the task: no handle is left.
    abandon: Notify,
    is_closed: watch::Sender<bool>,
}

pub(crate) struct State<Q = Pipeline> {
    pub pipeline: Q,
    /// The task sends no more.
    pub has_ended: bool,
    /// The error that has ended it, if one has.
    pub error: Option<Arc<Error>>,
}

impl<Q> State<Q> {
    /// Why nothing is sent any more, if that is so.
    pub fn ended(&self) -> Option<PublishError> {
        match &self.error {
            Some(error) => Some(PublishError::Ended(error.clone())),
            None => self.has_ended.then_some(PublishError::Closed),
        }
    }
}

impl<Q> Shared<Q> {
    pub fn new(pipeline: Q) -> Self {
        Self {
            state: Mutex::new(State { pipeline, has_ended: false, error: None }),
            work: Notify::new(),
            answers: Notify::new(),
            abandon: Notify::new(),
            is_closed: watch::Sender::new(false),
        }
    }

    /// Held for as long as it takes to copy an event or to pack a batch, never across an await.
    pub fn lock(&self) -> MutexGuard<'_, State<Q>> {
        // Whoever panicked didn't do so within the pipeline, whose invariants hold.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` finds what it looks for.
    pub async fn until<T>(&self, mut done: impl FnMut(&mut State<Q>) -> Option<T>) -> T {
        loop {
            let mut answered = std::pin::pin!(self.answers.notified());
            // Before the look, or what happens between look and wait would be missed.
            answered.as_mut().enable();
            if let Some(found) = done(&mut self.lock()) {
                return found;
            }
            answered.await;
        }
    }

    /// Tells the task to have a look.
    pub fn call(&self) {
        self.work.notify_one();
    }

    /// For the task: until somebody calls.
    pub async fn called(&self) {
        self.work.notified().await;
    }

    /// For the task: room or answers are to be had.
    pub fn tell(&self) {
        self.answers.notify_waiters();
    }

    /// Has the task close its connection and end.
    pub fn abandon(&self) {
        self.abandon.notify_one();
    }

    /// For the task: until it is to end.
    pub async fn abandoned(&self) {
        self.abandon.notified().await;
    }

    /// For the task: it sends no more, because of an error or because no handle is left.
    pub fn end(&self, error: Option<Arc<Error>>) {
        let mut state = self.lock();
        state.has_ended = true;
        state.error = error.or(state.error.take());
        drop(state);
        self.tell();
    }

    /// For the task, when it ends, its connection closed.
    pub fn closed(&self) {
        self.end(None);
        self.is_closed.send_replace(true);
    }

    /// Until the task's connection is closed.
    pub async fn ended(&self) {
        // An error would mean that this is dropped.
        _ = self.is_closed.subscribe().wait_for(|closed| *closed).await;
    }
}

impl Shared {
    /// Takes an event, if there is room.
    pub fn push(&self, bytes: &[u8], tag: u64) -> Result<(), PublishError> {
        let mut state = self.lock();
        if let Some(ended) = state.ended() {
            return Err(ended);
        }
        let pushed = state.pipeline.push(bytes, tag, Instant::now());
        drop(state);
        if matches!(pushed, Ok(true) | Err(PublishError::Full { .. })) {
            self.work.notify_one();
        }
        pushed.map(drop)
    }

    /// Takes an event when there is room.
    pub async fn push_when_there_is_room(&self, bytes: &[u8], tag: u64) -> Result<(), PublishError> {
        loop {
            let mut answered = std::pin::pin!(self.answers.notified());
            answered.as_mut().enable();
            match self.push(bytes, tag) {
                Err(PublishError::Full { .. }) => answered.await,
                taken => return taken,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::{
        Compression, Publishing,
        options::{Producer, QueueLimits},
    };

    #[tokio::test]
    async fn without_a_task_nothing_is_taken_and_nobody_waits_for_room() {
        let Publishing { batch, .. } = Publishing::default();
        let queue = QueueLimits { events: 2, bytes: 1 << 20 };
        let producer = Producer { id: [7; 16], next_sequence: 1 };
        let retry = crate::backoff::Backoff::new(
            std::time::Duration::from_millis(1),
            std::time::Duration::from_millis(1),
            fastrand::Rng::with_seed(1),
        );
        let shared = Shared::new(Pipeline::new((batch, queue, Compression::None), producer, retry));
        shared.push(b"one", 0).unwrap();
        shared.push(b"two", 0).unwrap();
        let waits = shared.push_when_there_is_room(b"three", 0);
        let ends = async {
            tokio::task::yield_now().await;
            shared.closed();
        };
        let both = async { tokio::join!(waits, ends).0 };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(5), both).await;
        assert!(matches!(waited, Ok(Err(PublishError::Closed))), "{waited:?}");
        assert!(matches!(shared.push(b"four", 0), Err(PublishError::Closed)));
        assert_eq!(shared.lock().pipeline.progress().unanswered, 2);
    }
}
