//! All that crosses threads.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::stats::Window;

/// Work of all threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Open connections.
    Connect,
    /// Publish.
    Publish,
    /// Wait for what is on the way, and end.
    Finish,
}

/// Commands of the main thread, and gauges of the others.
#[derive(Debug)]
pub struct Shared {
    phase: AtomicU8,
    pub from_us: AtomicU64,
    pub until_us: AtomicU64,
    /// Connections that are authenticated.
    pub live: AtomicU64,
    /// Connections that won't come back.
    pub over: AtomicU64,
    /// Threads that have ended.
    pub ended: AtomicU64,
    pub thread_ids: Vec<AtomicU64>,
}

impl Shared {
    pub fn new(threads: u32) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Connect as u8),
            from_us: AtomicU64::new(u64::MAX),
            until_us: AtomicU64::new(u64::MAX),
            live: AtomicU64::new(0),
            over: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            thread_ids: (0..threads).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Connect,
            1 => Phase::Publish,
            _ => Phase::Finish,
        }
    }

    /// The measured time; empty before it is known.
    pub fn window(&self) -> Window {
        Window {
            from_us: self.from_us.load(Ordering::Relaxed),
            until_us: self.until_us.load(Ordering::Relaxed),
        }
    }
}
