//! loom's locks and atomics for the server's [`Versioned`](tickstream_server::versioned::Versioned) and
//! [`Mailbox`](tickstream_server::shard::Mailbox): each test in `tests/` runs under every order of the threads' steps that the
//! memory model allows.
//!
//! `control.rs` isn't tested here: its words are read and written alone, and say nothing about other memory.

use std::fmt::{self, Debug, Formatter};
use std::ops::DerefMut;
use std::sync::PoisonError;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU64, Ordering};
use tickstream_server::sync::{Atomic, Lock, Primitives};

/// loom's family of locks and atomics.
#[derive(Clone, Copy, Debug)]
pub struct Loom;

impl Primitives for Loom {
    type Lock<T: Debug> = LoomLock<T>;
    type Atomic = LoomAtomic;
}

/// A lock whose orders loom explores.
pub struct LoomLock<T>(Mutex<T>);

/// An atomic number whose orders loom explores.
#[derive(Debug)]
pub struct LoomAtomic(AtomicU64);

impl<T: Debug> Lock<T> for LoomLock<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn lock(&self) -> impl DerefMut<Target = T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Debug for LoomLock<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("LoomLock")
    }
}

impl Atomic for LoomAtomic {
    fn zero() -> Self {
        Self(AtomicU64::new(0))
    }

    fn load(&self, ordering: Ordering) -> u64 {
        self.0.load(ordering)
    }

    fn store(&self, value: u64, ordering: Ordering) {
        self.0.store(value, ordering);
    }

    fn increment(&self, ordering: Ordering) {
        self.0.fetch_add(1, ordering);
    }
}
