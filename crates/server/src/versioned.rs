//! A value that the process gives to all shards, and may replace while they run.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sync::{Atomic, Lock, Primitives, Std};

/// The current value. Shards look at its generation in each pass, and take the value only when that has changed.
#[derive(Debug)]
pub struct Versioned<T: Debug, S: Primitives = Std> {
    value: S::Lock<Arc<T>>,
    generation: S::Atomic,
}

/// One shard's view of a [`Versioned`], and the generation that it has read.
#[derive(Debug)]
pub struct Reader<T: Debug, S: Primitives = Std> {
    versioned: Arc<Versioned<T, S>>,
    generation: u64,
}

impl<T: Debug, S: Primitives> Versioned<T, S> {
    /// The first value.
    pub fn new(value: T) -> Self {
        Self { value: Lock::new(Arc::new(value)), generation: Atomic::zero() }
    }

    /// The current value.
    pub fn value(&self) -> Arc<T> {
        Arc::clone(&self.value.lock())
    }

    /// Replaces it.
    pub fn replace(&self, value: T) {
        *self.value.lock() = Arc::new(value);
        self.generation.increment(Ordering::Release);
    }
}

impl<T: Debug, S: Primitives> Reader<T, S> {
    /// A view that has read the current value, and that value.
    pub fn new(versioned: Arc<Versioned<T, S>>) -> (Self, Arc<T>) {
        // The generation first: a value that is replaced in between is read again.
        let generation = versioned.generation.load(Ordering::Acquire);
        let value = versioned.value();
        (Self { versioned, generation }, value)
    }

    /// The value, if it was replaced since it was read.
    pub fn replaced(&mut self) -> Option<Arc<T>> {
        let generation = self.versioned.generation.load(Ordering::Acquire);
        if generation == self.generation {
            return None;
        }
        self.generation = generation;
        Some(self.versioned.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_value_is_read_once() {
        let versioned = <Arc<Versioned<_>>>::new(Versioned::new(1));
        let (mut reader, first) = Reader::new(Arc::clone(&versioned));
        assert_eq!(*first, 1);
        assert!(reader.replaced().is_none());
        versioned.replace(2);
        versioned.replace(3);
        assert_eq!(reader.replaced().as_deref(), Some(&3));
        assert!(reader.replaced().is_none());
    }
}
