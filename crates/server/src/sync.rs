//! Locks and atomics of memory that shards share with other threads, as a type parameter: tests/loom puts loom's in
//! place of the standard library's, to run every order of the threads' steps.

use std::fmt::Debug;
use std::ops::DerefMut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A family of locks and atomics.
pub trait Primitives {
    /// A mutual exclusion lock.
    type Lock<T: Debug>: Lock<T>;
    /// An atomic number.
    type Atomic: Atomic;
}

/// A mutual exclusion lock around a value that is whole between any two of its holders' steps: a panic of one that
/// holds it doesn't poison it.
pub trait Lock<T>: Debug {
    /// An open lock.
    fn new(value: T) -> Self;

    /// Waits for the lock, and holds it until the answer is dropped.
    fn lock(&self) -> impl DerefMut<Target = T>;
}

/// An atomic number.
pub trait Atomic: Debug {
    /// Starts at 0.
    fn zero() -> Self;

    /// The number.
    fn load(&self, ordering: Ordering) -> u64;

    /// Replaces it.
    fn store(&self, value: u64, ordering: Ordering);

    /// Adds one.
    fn increment(&self, ordering: Ordering);
}

/// The standard library's.
#[derive(Clone, Copy, Debug)]
pub struct Std;

impl Primitives for Std {
    type Lock<T: Debug> = Mutex<T>;
    type Atomic = AtomicU64;
}

impl<T: Debug> Lock<T> for Mutex<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn lock(&self) -> impl DerefMut<Target = T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Atomic for AtomicU64 {
    fn zero() -> Self {
        Self::new(0)
    }

    fn load(&self, ordering: Ordering) -> u64 {
        self.load(ordering)
    }

    fn store(&self, value: u64, ordering: Ordering) {
        self.store(value, ordering);
    }

    fn increment(&self, ordering: Ordering) {
        self.fetch_add(1, ordering);
    }
}
