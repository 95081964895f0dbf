//! The time series.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    figures::machine_percent,
    snapshot::Snapshot,
    stats::{SecondReport, coarse},
};

/// One second of the run: it begins 50 ms before the whole second, so that a fan-out isn't cut.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SecondSum {
    /// Unix time, s.
    pub second: u64,
    pub frames: u64,
    pub ticks: u64,
    pub bytes: u64,
    pub p50_us: Option<u64>,
    pub p95_us: Option<u64>,
    pub p99_us: Option<u64>,
    pub max_us: Option<u64>,
    pub subscribed: u64,
    pub server_cpu_percent: Option<f64>,
    pub server_rss_bytes: Option<u64>,
    pub generator_cpu_percent: f64,
    pub generator_rss_bytes: u64,
    pub machine_busy_percent: f64,
    /// By the gauges, before the reports are in.
    #[serde(skip)]
    pub ticks_seen: u64,
    #[serde(skip)]
    latency: Option<Histogram<u32>>,
}

impl SecondSum {
    /// Nothing yet.
    pub fn new(second: u64) -> Self {
        Self { second, ..Self::default() }
    }

    /// Takes in what one worker got in this second.
    pub fn add(&mut self, report: &SecondReport) {
        self.frames += report.frames;
        self.ticks += report.ticks;
        self.bytes += report.bytes;
        let latency = self.latency.get_or_insert_with(coarse);
        latency.add(&report.latency).expect("all are built alike");
    }

    /// Takes in the samples from its two ends.
    pub fn sampled(&mut self, from: &Snapshot, until: &Snapshot) {
        let us = until.at_us.saturating_sub(from.at_us).max(1) as f64;
        let percent = |before: u64, after: u64| after.saturating_sub(before) as f64 * 100.0 / us;
        self.subscribed = until.totals.subscribed;
        self.ticks_seen = until.totals.ticks - from.totals.ticks;
        if let (Some(before), Some(after)) = (from.server, until.server) {
            self.server_cpu_percent = Some(percent(before.cpu_us, after.cpu_us));
            self.server_rss_bytes = Some(after.rss_bytes);
        }
        self.generator_cpu_percent = percent(from.own.cpu_us, until.own.cpu_us);
        self.generator_rss_bytes = until.own.rss_bytes;
        self.machine_busy_percent = machine_percent(from.machine, until.machine).0;
    }

    /// No more reports come.
    pub fn close(&mut self) {
        if let Some(latency) = self.latency.take().filter(|latency| !latency.is_empty()) {
            self.p50_us = Some(latency.value_at_quantile(0.5));
            self.p95_us = Some(latency.value_at_quantile(0.95));
            self.p99_us = Some(latency.value_at_quantile(0.99));
            self.max_us = Some(latency.max());
        }
    }
}
