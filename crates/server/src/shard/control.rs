//! What shards share with the process. Nothing else crosses threads, but for a shard's events and log lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::consumers::ConsumerWatch;
use super::mailbox::Mailbox;

/// One word that all shards are told, and for each shard a pulse that it tells, and its mailbox.
#[derive(Debug)]
pub struct Control {
    order: AtomicU8,
    memory_is_short: AtomicBool,
    shards: Vec<Line>,
}

/// What one shard looks at and writes to. Alone on its cache lines: all shards write their pulses all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line {
    /// Passes of its loop.
    pulse: AtomicU64,
    /// Its thread, as the kernel numbers them; 0 until it runs.
    thread: AtomicU32,
    /// It ended as it was asked to.
    retired: AtomicBool,
    mailbox: Mailbox,
    consumers: Arc<ConsumerWatch>,
}

/// A word of [`Control`]. A later one overrides an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Serve.
    Serve = 0,
    /// Close every connection in good order, then end.
    Drain = 1,
    /// End at once.
    Stop = 2,
}

impl Control {
    /// A word, and a pulse and a mailbox for each of so many shards.
    pub fn new(shards: usize) -> Self {
        let shards = std::iter::repeat_with(Line::default).take(shards).collect();
        Self { order: AtomicU8::new(Order::Serve as u8), memory_is_short: AtomicBool::new(false), shards }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Tells all shards; they look ten times a second.
    pub fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::Relaxed);
    }

    /// What was told last.
    pub fn order(&self) -> Order {
        match self.order.load(Ordering::Relaxed) {
            0 => Order::Serve,
            1 => Order::Drain,
            _ => Order::Stop,
        }
    }

    /// Tells all shards whether the process has gone above its memory watermark.
    pub fn set_memory_is_short(&self, is_short: bool) {
        self.memory_is_short.store(is_short, Ordering::Relaxed);
    }

    /// Whether the process is above its memory watermark.
    pub fn memory_is_short(&self) -> bool {
        self.memory_is_short.load(Ordering::Relaxed)
    }

    /// A shard's loop has turned.
    pub fn beat(&self, shard: usize) {
        // Only this shard writes it: no read-modify-write.
        let pulse = &self.shards[shard].pulse;
        pulse.store(pulse.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// How often each shard's loop has turned.
    pub fn pulses(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| shard.pulse.load(Ordering::Relaxed)).collect()
    }

    /// The calling thread is the shard's.
    pub(super) fn enter(&self, shard: usize) {
        self.shards[shard].thread.store(crate::ring::thread_id(), Ordering::Relaxed);
    }

    /// The shard's thread, as the kernel numbers them; `None` before it runs.
    pub fn thread(&self, shard: usize) -> Option<u32> {
        Some(self.shards[shard].thread.load(Ordering::Relaxed)).filter(|&thread| thread != 0)
    }

    /// The shard ended as it was asked to.
    pub(super) fn retire(&self, shard: usize) {
        self.shards[shard].retired.store(true, Ordering::Relaxed);
    }

    /// Whether the shard ended as it was asked to: it has no pulse any more, and needs none.
    pub fn has_retired(&self, shard: usize) -> bool {
        self.shards[shard].retired.load(Ordering::Relaxed)
    }

    /// Consumers of the shard's journal.
    pub fn consumers(&self, shard: usize) -> &Arc<ConsumerWatch> {
        &self.shards[shard].consumers
    }

    /// Where to ask the shard.
    pub fn mailbox(&self, shard: usize) -> &Mailbox {
        &self.shards[shard].mailbox
    }
}
