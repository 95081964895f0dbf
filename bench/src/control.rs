//! All that crosses threads: commands to workers, and their gauges.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::stats::Window;

/// Commands of the main thread to all workers.
#[derive(Debug, Default)]
pub struct Control {
    command: AtomicU8,
    pub steady_from_us: AtomicU64,
    pub steady_until_us: AtomicU64,
    pub storm_from_us: AtomicU64,
    pub storm_until_us: AtomicU64,
    /// Ticks due before this must have come at the end.
    pub verify_until_us: AtomicU64,
}

/// Work to do; each command includes the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Command {
    /// Open connections and hold them.
    Connect,
    /// Churn, too.
    Churn,
    /// No more churn.
    Hold,
    /// Drop and reconnect.
    Storm,
    /// Judge what is missing, and end.
    Stop,
}

impl Control {
    /// Sets what workers do from now on.
    pub fn command(&self, command: Command) {
        self.command.store(command as u8, Ordering::Release);
    }

    /// This is the command.
    pub fn is(&self, command: Command) -> bool {
        self.command.load(Ordering::Acquire) == command as u8
    }

    /// The measured time; empty before it is known.
    pub fn steady_window(&self) -> Window {
        window(&self.steady_from_us, &self.steady_until_us)
    }

    /// The time of the storm.
    pub fn storm_window(&self) -> Window {
        window(&self.storm_from_us, &self.storm_until_us)
    }
}

/// Gauges of a running worker. Each has its own cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Gauges {
    pub connected: AtomicU64,
    pub subscribed: AtomicU64,
    /// Given up, or closed by the server.
    pub gone: AtomicU64,
    pub frames: AtomicU64,
    pub ticks: AtomicU64,
    pub bytes: AtomicU64,
    pub faults: AtomicU64,
    /// When the last SUBSCRIBE was acknowledged, µs.
    pub last_subscribed_us: AtomicU64,
    /// The worker dropped what the storm drops.
    pub storm_begun: AtomicU64,
    pub thread_id: AtomicU64,
}

impl Gauges {
    /// Shows a new value.
    pub fn set(gauge: &AtomicU64, value: u64) {
        gauge.store(value, Ordering::Relaxed);
    }
}

fn window(from: &AtomicU64, until: &AtomicU64) -> Window {
    Window { from_us: from.load(Ordering::Relaxed), until_us: until.load(Ordering::Relaxed) }
}
