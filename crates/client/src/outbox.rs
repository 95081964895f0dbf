//! The way from the client's task to the application.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::{Error, StreamUpdate};

/// The sending end of the application's queue, and what didn't fit.
///
/// Whoever fills it looks at [`is_blocked`](Self::is_blocked) before the next message from the server.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Result<StreamUpdate, Error>>,
    waiting: VecDeque<StreamUpdate>,
}

/// The two events that one message makes at most, and the one that tells of the connection's end.
const WAITING_MAX: usize = 2 + 1;

impl Outbox {
    pub fn new(queue: mpsc::Sender<Result<StreamUpdate, Error>>) -> Self {
        Self { queue, waiting: VecDeque::new() }
    }

    /// Another sending end, to see the application go.
    pub fn queue(&self) -> mpsc::Sender<Result<StreamUpdate, Error>> {
        self.queue.clone()
    }

    /// True if events wait for room.
    pub fn is_blocked(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Queues an event, or lets it wait.
    pub fn push(&mut self, event: StreamUpdate) {
        match self.queue.try_reserve() {
            Ok(room) if self.waiting.is_empty() => room.send(Ok(event)),
            _ => self.waiting.push_back(event),
        }
        debug_assert!(self.waiting.len() <= WAITING_MAX);
    }

    /// Waits until all events are queued. Cancelled, it loses none.
    pub async fn flush(&mut self) {
        while self.is_blocked() {
            let Ok(room) = self.queue.reserve().await else {
                return self.waiting.clear();
            };
            if let Some(event) = self.waiting.pop_front() {
                room.send(Ok(event));
            }
        }
    }

    /// Queues the error that ends the subscription, after everything else.
    pub async fn end(&mut self, error: Error) {
        self.flush().await;
        // Fails if the application has gone, and no receiver is left.
        _ = self.queue.send(Err(error)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_keep_their_order_when_some_wait() {
        let (sender, mut receiver) = mpsc::channel(2);
        let mut outbox = Outbox::new(sender);
        (0..4).for_each(|got| outbox.push(StreamUpdate::Gap { expected: 0, got }));
        assert!(outbox.is_blocked());
        let mut received = Vec::new();
        while received.len() < 4 {
            tokio::select! {
                biased;
                () = outbox.flush(), if outbox.is_blocked() => {}
                event = receiver.recv() => match event {
                    Some(Ok(StreamUpdate::Gap { got, .. })) => received.push(got),
                    other => panic!("{other:?}"),
                },
            }
        }
        assert_eq!(received, [0, 1, 2, 3]);
    }
}
