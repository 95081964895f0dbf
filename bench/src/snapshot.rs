//! Everything that is sampled, at one moment, and a pair of such.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    clock::wall_us,
    control::Gauges,
    figures::{self, ThreadUsage},
    sample::{self, MachineSample, ProcessSample, ThreadSample},
};

/// Sums of the workers' gauges.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "each is named as its gauge")]
pub struct Totals {
    pub subscribed: u64,
    pub gone: u64,
    pub frames: u64,
    pub ticks: u64,
    pub bytes: u64,
    pub faults: u64,
    pub last_subscribed_us: u64,
    pub storms_begun: u64,
}

/// Everything that is sampled, at one moment; `T` are the sums of what workers count.
#[derive(Clone, Debug)]
pub struct Snapshot<T = Totals> {
    /// Unix time, µs.
    pub at_us: u64,
    /// Their counts so far.
    pub totals: T,
    /// The server, if its process is known.
    pub server: Option<ProcessSample>,
    /// This process.
    pub own: ProcessSample,
    /// Its threads; none for one that has ended.
    pub threads: Vec<Option<ThreadSample>>,
    /// The machine.
    pub machine: MachineSample,
}

/// Before and after something that is measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub from: Snapshot,
    pub until: Snapshot,
}

impl Measured {
    /// The server's CPU time in between, divided by `count` things that happened. All that it did counts.
    pub fn server_cpu_us_each(&self, count: u64) -> Option<f64> {
        let (from, until) = self.from.server.zip(self.until.server)?;
        (count > 0).then(|| until.cpu_us.saturating_sub(from.cpu_us) as f64 / count as f64)
    }
}

impl<T> Snapshot<T> {
    /// Samples the server, if its process is known, this process and its threads, and the machine.
    pub fn take(server_pid: Option<u32>, totals: T, thread_ids: impl Iterator<Item = u64>) -> Self {
        Self {
            at_us: wall_us(),
            totals,
            server: server_pid.and_then(sample::process),
            own: sample::process(std::process::id()).unwrap_or_default(),
            threads: thread_ids.map(sample::thread).collect(),
            machine: sample::machine(),
        }
    }

    /// CPU and waiting time of the threads since `from`.
    pub fn threads_since(&self, from: &Self) -> Vec<ThreadUsage> {
        figures::threads(self.at_us.saturating_sub(from.at_us), &from.threads, &self.threads)
    }
}

impl Totals {
    /// Sums the gauges.
    pub(crate) fn of(gauges: &[Arc<Gauges>]) -> Self {
        let mut totals = Self::default();
        let read = |gauge: &AtomicU64| gauge.load(Ordering::Acquire);
        for gauges in gauges {
            // Before `subscribed`, which the storm lowers first.
            totals.storms_begun += read(&gauges.storm_begun);
            totals.subscribed += read(&gauges.subscribed);
            totals.gone += read(&gauges.gone);
            totals.frames += read(&gauges.frames);
            totals.ticks += read(&gauges.ticks);
            totals.bytes += read(&gauges.bytes);
            totals.faults += read(&gauges.faults);
            totals.last_subscribed_us = totals.last_subscribed_us.max(read(&gauges.last_subscribed_us));
        }
        totals
    }
}
