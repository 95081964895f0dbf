//! Requests from other threads to a shard.
//!
//! The shard looks at one atomic in each pass, at least ten times a second, and takes the lock only if there is a
//! request. It answers over a channel of the standard library, which wakes a waiting thread through a futex. Never
//! through an eventfd or anything that has a descriptor, as the wakers of tokio have: a shard's thread has a descriptor
//! table of its own, in which that number is somebody else's, maybe a client's.

use std::fmt::Debug;
use std::sync::atomic::Ordering;

use super::request::Request;
use crate::sync::{Atomic, Lock, Primitives, Std};

/// Requests that wait for one shard. A shard that lets so many wait has hung.
const REQUESTS_MAX: usize = 64;

/// The mailbox of one shard.
#[derive(Debug)]
pub struct Mailbox<R: Debug = Request, S: Primitives = Std> {
    requests: S::Lock<Vec<R>>,
    /// Their number.
    waiting: S::Atomic,
}

/// A mailbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{REQUESTS_MAX} requests wait for the shard already; try again later")]
pub struct Unanswered;

impl<R: Debug, S: Primitives> Mailbox<R, S> {
    /// Leaves a request. The shard answers within some 100 ms, unless it has hung or ended.
    ///
    /// # Errors
    /// If too many wait already.
    pub fn ask(&self, request: R) -> Result<(), Unanswered> {
        let mut requests = self.requests.lock();
        if requests.len() >= REQUESTS_MAX {
            return Err(Unanswered);
        }
        requests.push(request);
        self.waiting.store(requests.len() as u64, Ordering::Release);
        Ok(())
    }

    /// Requests since the last call; nearly always none, and then no lock is taken.
    pub fn take(&self) -> Vec<R> {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let mut requests = self.requests.lock();
        self.waiting.store(0, Ordering::Relaxed);
        std::mem::take(&mut *requests)
    }
}

impl<R: Debug, S: Primitives> Default for Mailbox<R, S> {
    fn default() -> Self {
        Self { requests: Lock::new(Vec::new()), waiting: Atomic::zero() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::request::Request;

    #[test]
    fn a_shard_that_does_not_look_is_not_asked_for_ever() {
        let mailbox = <Mailbox>::default();
        let (sender, _receiver) = std::sync::mpsc::channel();
        assert!(mailbox.take().is_empty());
        for _ in 0..REQUESTS_MAX {
            assert_eq!(mailbox.ask(Request::Snapshot(sender.clone())), Ok(()));
        }
        assert_eq!(mailbox.ask(Request::Snapshot(sender.clone())), Err(Unanswered));
        assert_eq!(mailbox.take().len(), REQUESTS_MAX);
        assert_eq!(mailbox.ask(Request::Snapshot(sender)), Ok(()));
    }
}
