//! State that shards share with the process. Nothing else crosses threads, but for a shard's events and log lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::consumers::ConsumerWatch;
use super::mailbox::Mailbox;

/// A command to all shards, and for each shard a liveness counter, which it writes, and its mailbox.
#[derive(Debug)]
pub struct Control {
    command: AtomicU8,
    memory_is_short: AtomicBool,
    shards: Vec<Line>,
}

/// State that one shard reads and writes. Alone on its cache lines: all shards write their counters all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line {
    /// Passes of its loop.
    alive: AtomicU64,
    /// Its thread, as the kernel numbers them; 0 until it runs.
    thread: AtomicU32,
    /// True if the shard ended as it was asked to.
    retired: AtomicBool,
    mailbox: Mailbox,
    consumers: Arc<ConsumerWatch>,
}

/// A word of [`Control`]. A later one overrides an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    /// Serve.
    Serve = 0,
    /// Close every connection in good order, then end.
    Drain = 1,
    /// End at once.
    Stop = 2,
}

impl Control {
    /// A command to serve, for so many shards.
    pub fn new(shards: usize) -> Self {
        let shards = std::iter::repeat_with(Line::default).take(shards).collect();
        Self { command: AtomicU8::new(Command::Serve as u8), memory_is_short: AtomicBool::new(false), shards }
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Tells all shards; they look ten times a second.
    pub fn issue(&self, command: Command) {
        self.command.fetch_max(command as u8, Ordering::Relaxed);
    }

    /// Command that shards follow now.
    pub fn command(&self) -> Command {
        match self.command.load(Ordering::Relaxed) {
            0 => Command::Serve,
            1 => Command::Drain,
            _ => Command::Stop,
        }
    }

    /// Tells all shards whether the process has gone above its memory watermark.
    pub fn set_memory_is_short(&self, is_short: bool) {
        self.memory_is_short.store(is_short, Ordering::Relaxed);
    }

    /// True if the process is above its memory watermark.
    pub fn memory_is_short(&self) -> bool {
        self.memory_is_short.load(Ordering::Relaxed)
    }

    /// A shard's loop has turned.
    pub fn mark_alive(&self, shard: usize) {
        // Only this shard writes it: no read-modify-write.
        let alive = &self.shards[shard].alive;
        alive.store(alive.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Turns of each shard's loop.
    pub fn liveness(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| shard.alive.load(Ordering::Relaxed)).collect()
    }

    /// The calling thread is the shard's.
    pub(super) fn enter(&self, shard: usize) {
        self.shards[shard].thread.store(crate::ring::thread_id(), Ordering::Relaxed);
    }

    /// The shard's thread, as the kernel numbers them; `None` before it runs.
    pub fn thread(&self, shard: usize) -> Option<u32> {
        Some(self.shards[shard].thread.load(Ordering::Relaxed)).filter(|&thread| thread != 0)
    }

    /// True if the shard ended as it was asked to.
    pub(super) fn retire(&self, shard: usize) {
        self.shards[shard].retired.store(true, Ordering::Relaxed);
    }

    /// True if the shard ended as it was asked to: its counter stands still, as it should.
    pub fn has_retired(&self, shard: usize) -> bool {
        self.shards[shard].retired.load(Ordering::Relaxed)
    }

    /// Consumers of the shard's journal.
    pub fn consumers(&self, shard: usize) -> &Arc<ConsumerWatch> {
        &self.shards[shard].consumers
    }

    /// Mailbox for requests to the shard.
    pub fn mailbox(&self, shard: usize) -> &Mailbox {
        &self.shards[shard].mailbox
    }
}
