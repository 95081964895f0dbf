//! A value that the process gives to all shards, and may replace while they run.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The current value. Shards look at its generation in each pass, and take the value only when that has changed.
#[derive(Debug)]
pub struct Published<T> {
    value: Mutex<Arc<T>>,
    generation: AtomicU64,
}

/// What one shard has seen of a [`Published`].
#[derive(Debug)]
pub struct Seen<T> {
    published: Arc<Published<T>>,
    generation: u64,
}

impl<T> Published<T> {
    /// The first value.
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(Arc::new(value)), generation: AtomicU64::new(0) }
    }

    /// The current value.
    pub fn value(&self) -> Arc<T> {
        Arc::clone(&self.lock())
    }

    /// Replaces it.
    pub fn replace(&self, value: T) {
        *self.lock() = Arc::new(value);
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<T>> {
        // A pointer is whole even if whoever held the lock panicked.
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Seen<T> {
    /// A view that has seen the current value, and that value.
    pub fn new(published: Arc<Published<T>>) -> (Self, Arc<T>) {
        // The generation first: a value that is replaced in between is seen again.
        let generation = published.generation.load(Ordering::Acquire);
        let value = published.value();
        (Self { published, generation }, value)
    }

    /// The value, if it was replaced since it was seen.
    pub fn replaced(&mut self) -> Option<Arc<T>> {
        let generation = self.published.generation.load(Ordering::Acquire);
        if generation == self.generation {
            return None;
        }
        self.generation = generation;
        Some(self.published.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_value_is_seen_once() {
        let published = Arc::new(Published::new(1));
        let (mut seen, first) = Seen::new(Arc::clone(&published));
        assert_eq!(*first, 1);
        assert!(seen.replaced().is_none());
        published.replace(2);
        published.replace(3);
        assert_eq!(seen.replaced().as_deref(), Some(&3));
        assert!(seen.replaced().is_none());
    }
}
