//! Latencies, CPU and memory as they are told.

use hdrhistogram::{Counter, Histogram};
use serde::Serialize;

use crate::{run::Snapshot, sample::ProcessSample};

/// Latencies, µs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    pub count: u64,
    pub mean_us: f64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
    pub p99_9_us: u64,
    pub max_us: u64,
}

impl Percentiles {
    /// `None` for an empty histogram.
    pub fn of<C: Counter>(histogram: &Histogram<C>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile);
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            mean_us: histogram.mean(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: histogram.max(),
        })
    }
}

/// CPU and memory of a process over the measured time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Usage {
    pub cpu_percent_of_one_core: f64,
    pub cpu_percent_of_machine: f64,
    /// CPU time per DATA_BATCH that arrived.
    pub cpu_us_per_delivery: f64,
    pub cpu_us_per_tick: f64,
    pub rss_bytes: u64,
    pub rss_peak_bytes: u64,
}

/// One worker thread over the measured time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ThreadUsage {
    pub cpu_percent: f64,
    /// Ready to run, but without a CPU.
    pub waited_percent: f64,
    pub turns_per_second: f64,
}

/// CPUs that this process may run on.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How much of the machine was busy and how much stolen, percent.
pub fn machine_percent(from: &Snapshot, until: &Snapshot) -> (f64, f64) {
    let total = until.machine.total.saturating_sub(from.machine.total) as f64;
    if total == 0.0 {
        return (0.0, 0.0);
    }
    let idle = until.machine.idle.saturating_sub(from.machine.idle) as f64;
    let steal = until.machine.steal.saturating_sub(from.machine.steal) as f64;
    ((total - idle - steal) * 100.0 / total, steal * 100.0 / total)
}

impl Usage {
    /// Of a process between two snapshots, in which so many frames and ticks arrived.
    pub fn between(us: u64, before: ProcessSample, after: ProcessSample, frames: u64, ticks: u64) -> Self {
        let cpu_us = after.cpu_us.saturating_sub(before.cpu_us) as f64;
        let percent = cpu_us * 100.0 / us.max(1) as f64;
        Self {
            cpu_percent_of_one_core: percent,
            cpu_percent_of_machine: percent / cpus() as f64,
            cpu_us_per_delivery: cpu_us / frames.max(1) as f64,
            cpu_us_per_tick: cpu_us / ticks.max(1) as f64,
            rss_bytes: after.rss_bytes,
            rss_peak_bytes: after.rss_peak_bytes,
        }
    }
}

/// Each worker between two snapshots, where the kernel tells.
pub fn threads(from: &Snapshot, until: &Snapshot) -> Vec<ThreadUsage> {
    let us = until.at_us.saturating_sub(from.at_us).max(1) as f64;
    let pairs = from.threads.iter().zip(&until.threads).filter_map(|(before, after)| (*before).zip(*after));
    pairs
        .map(|(before, after)| ThreadUsage {
            cpu_percent: after.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 10.0 / us,
            waited_percent: after.waited_ns.saturating_sub(before.waited_ns) as f64 / 10.0 / us,
            turns_per_second: after.turns.saturating_sub(before.turns) as f64 * 1e6 / us,
        })
        .collect()
}
