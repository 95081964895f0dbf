//! Latencies, CPU and memory as summaries show them.

use std::collections::BTreeMap;

use hdrhistogram::{Counter, Histogram};
use serde::Serialize;

use crate::sample::{MachineSample, ProcessSample, ThreadSample};

/// A thread of the generator that is busier than this can't be trusted to be on time.
pub const BUSY_PERCENT: f64 = 85.0;
/// Other processes that take more than this disturb every figure.
const OTHERS_PERCENT: f64 = 10.0;
/// A hypervisor that takes more than this disturbs every figure.
const STEAL_PERCENT: f64 = 2.0;

/// Reasons to distrust figures of a machine of which others took so much.
pub fn machine_warnings(others_percent: Option<f64>, steal_percent: f64) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(others) = others_percent.filter(|&others| others > OTHERS_PERCENT) {
        warnings.push(format!("other processes took {others:.0} % of the machine"));
    }
    if steal_percent > STEAL_PERCENT {
        warnings.push(format!("the hypervisor took {steal_percent:.1} % of the machine"));
    }
    warnings
}

/// Latencies, µs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// Values that were recorded.
    pub count: u64,
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: u64,
    /// 90 % are at most this.
    pub p90_us: u64,
    /// 95 % are at most this.
    pub p95_us: u64,
    /// 99 % are at most this.
    pub p99_us: u64,
    /// 99.9 % are at most this.
    pub p99_9_us: u64,
    /// Maximum.
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
    /// CPU time by elapsed time, percent.
    pub cpu_percent_of_one_core: f64,
    /// The same by all CPUs of this process, percent.
    pub cpu_percent_of_machine: f64,
    /// CPU time per DATA_BATCH that arrived.
    pub cpu_us_per_delivery: f64,
    /// CPU time per tick that arrived.
    pub cpu_us_per_tick: f64,
    /// Resident memory at the end.
    pub rss_bytes: u64,
    /// The most that was ever resident.
    pub rss_peak_bytes: u64,
}

/// One worker thread over the measured time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ThreadUsage {
    /// Time on a CPU, percent.
    pub cpu_percent: f64,
    /// Ready to run, but without a CPU.
    pub waited_percent: f64,
    /// Times a second that it was put on a CPU.
    pub turns_per_second: f64,
}

/// CPUs that this process may run on.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Share of the machine that was busy, and that was stolen by other guests, percent.
pub fn machine_percent(from: MachineSample, until: MachineSample) -> (f64, f64) {
    let total = until.total.saturating_sub(from.total) as f64;
    if total == 0.0 {
        return (0.0, 0.0);
    }
    let idle = until.idle.saturating_sub(from.idle) as f64;
    let steal = until.steal.saturating_sub(from.steal) as f64;
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

/// Threads between two samples, `us` apart, where the kernel gives both.
pub fn threads(us: u64, from: &[Option<ThreadSample>], until: &[Option<ThreadSample>]) -> Vec<ThreadUsage> {
    let us = us.max(1) as f64;
    let pairs = from.iter().zip(until).filter_map(|(before, after)| (*before).zip(*after));
    pairs
        .map(|(before, after)| ThreadUsage {
            cpu_percent: after.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 10.0 / us,
            waited_percent: after.waited_ns.saturating_sub(before.waited_ns) as f64 / 10.0 / us,
            turns_per_second: after.turns.saturating_sub(before.turns) as f64 * 1e6 / us,
        })
        .collect()
}

/// Ticks by whole ms of latency.
pub fn fan_out(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let mut fan_out = BTreeMap::new();
    for value in histogram.iter_recorded() {
        *fan_out.entry(value.value_iterated_to() / 1_000).or_default() += value.count_since_last_iteration();
    }
    fan_out.into_iter().collect()
}

/// Latencies in one line.
pub fn percentiles(of: &Percentiles) -> String {
    format!(
        "p50 {}  p90 {}  p95 {}  p99 {}  p99.9 {}  max {}",
        ms(of.p50_us),
        ms(of.p90_us),
        ms(of.p95_us),
        ms(of.p99_us),
        ms(of.p99_9_us),
        ms(of.max_us)
    )
}

/// CPU and memory in one line.
pub fn usage_line(of: &Usage) -> String {
    format!(
        "CPU {:.1} % of one core, {:.1} % of the machine; {:.2} µs per delivery, {:.3} µs per tick; \
         RSS {:.1} MB, peak {:.1} MB",
        of.cpu_percent_of_one_core,
        of.cpu_percent_of_machine,
        of.cpu_us_per_delivery,
        of.cpu_us_per_tick,
        of.rss_bytes as f64 / 1e6,
        of.rss_peak_bytes as f64 / 1e6
    )
}

/// Durations of the generator's turns.
pub fn turns(of: &Percentiles) -> String {
    format!("a turn {} at p99, {} at most", ms(of.p99_us), ms(of.max_us))
}

/// Load of the whole machine: by all, by processes that aren't of this test, and for other guests.
pub fn machine(busy_percent: f64, others_percent: Option<f64>, steal_percent: f64) -> String {
    let others = others_percent.map_or(String::new(), |others| format!(", {others:.1} % by others"));
    format!("{busy_percent:.1} % busy{others}, {steal_percent:.1} % stolen")
}

/// µs as ms, with as many digits as mean something.
pub fn ms(us: u64) -> String {
    let ms = us as f64 / 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}
