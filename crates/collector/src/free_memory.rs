//! Memory that the allocator holds free after a burst, such as HTTP's buffers of 10,000 connections that sent at once.
//!
//! The allocator gives nothing back where a single small piece above is in use. So the collector looks now and then, and
//! has it give back what it can: rarely where the same memory is soon needed again.

use std::time::Duration;

use tickstream_service::metrics::Process;
use tokio::{task::spawn_blocking, time};

/// Growth of the free memory from which on it is given back, bytes.
const GROWTH_BYTES: u64 = 16 << 20;
const PAUSE_LEAST: Duration = Duration::from_secs(5);
const PAUSE_MOST: Duration = Duration::from_secs(320);

/// Functions of the process's allocator.
#[derive(Clone, Copy)]
pub struct Allocator {
    /// Bytes that the program has from it; `None`: it can't tell.
    pub allocated: fn() -> Option<u64>,
    /// Gives its free memory back to the system.
    pub release: fn(),
}

impl Allocator {
    /// Bytes that are resident, and that the program doesn't have from the allocator: its free memory, and the program's code
    /// and stacks, which hardly grow.
    fn free(&self) -> Option<u64> {
        Some(Process::read().resident_bytes?.saturating_sub((self.allocated)()?))
    }
}

/// Free memory, as it was seen last.
struct Watch {
    /// Least since some was given back, bytes.
    least: u64,
    pause: Duration,
}

impl Watch {
    fn new(free: u64) -> Self {
        Self { least: free, pause: PAUSE_LEAST }
    }

    /// True if memory should be given back. Where that was just done, the pause until the next look grows.
    fn is_due(&mut self, free: u64) -> bool {
        self.least = self.least.min(free);
        let is_due = free > self.least + GROWTH_BYTES;
        self.pause = if is_due { (self.pause * 2).min(PAUSE_MOST) } else { PAUSE_LEAST };
        is_due
    }

    fn released(&mut self, free: u64) {
        self.least = free;
    }
}

/// Gives memory back after bursts, for as long as the runtime lives.
pub(crate) async fn watch(allocator: Allocator) {
    let Some(mut watch) = allocator.free().map(Watch::new) else { return };
    loop {
        time::sleep(watch.pause).await;
        let Some(before) = allocator.free().filter(|free| watch.is_due(*free)) else { continue };
        // A panic has been told by the runtime.
        _ = spawn_blocking(allocator.release).await;
        let after = allocator.free().unwrap_or(before);
        tracing::debug!(before, after, "free memory was given back");
        watch.released(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn memory_is_given_back_after_growth_and_rarely_where_it_grows_again() {
        let mut watch = Watch::new(40 * MIB);
        assert!(!watch.is_due(56 * MIB));
        assert!(watch.is_due(57 * MIB));
        watch.released(45 * MIB);
        assert_eq!(watch.pause, PAUSE_LEAST * 2);
        for _ in 0..10 {
            assert!(watch.is_due(100 * MIB));
            watch.released(45 * MIB);
        }
        assert_eq!(watch.pause, PAUSE_MOST);
        assert!(!watch.is_due(30 * MIB), "less than ever");
        assert_eq!(watch.pause, PAUSE_LEAST);
        assert!(watch.is_due(47 * MIB), "growth counts from the least on");
        // What can't be given back lies between pieces in use.
        watch.released(47 * MIB);
        assert!(!watch.is_due(60 * MIB));
    }
}
