//! The summary of a run. Names are those of tickstream-load's JSON where they mean the same; a tick, a frame and a
//! delivery are all one message at one subscriber here.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::Serialize;
use tickstream_load::{
    figures::{
        BUSY_PERCENT, Percentiles, Usage, cpus, fan_out, machine_percent, machine_warnings, ms, percentiles,
        usage_line,
    },
    output,
};

use crate::{
    collector::{Collector, Faults},
    options::Options,
    publisher::Published,
    subscribers::Snapshot,
};

/// A publisher that is later than this, more than once in a hundred, is part of what was measured.
const PUBLISHED_LATE_US: u64 = 1_000;

/// Everything that a summary is made of.
pub struct Findings<'a> {
    pub started_us: u64,
    pub connect_us: u64,
    /// The measured time's ends.
    pub from: &'a Snapshot,
    pub until: &'a Snapshot,
    pub collector: Collector,
    pub published: Published,
    pub server_pid: Option<u32>,
}

/// The subscribers; as tickstream-load's class of this name.
#[derive(Clone, Debug, Serialize)]
pub struct ClassSum {
    pub class: &'static str,
    pub connections: u64,
    pub faults: Faults,
    pub closes: BTreeMap<String, u64>,
}

/// All that a run has shown.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub version: &'static str,
    pub passed: bool,
    /// Why not.
    pub failures: Vec<String>,
    /// Reasons to distrust the figures.
    pub warnings: Vec<String>,
    pub peer: &'static str,
    pub server: String,
    pub message_bytes: usize,
    pub ticks_per_second_due: f64,
    /// Unix time, ms.
    pub started_ms: u64,
    pub machine_cpus: usize,

    pub connections_wanted: u32,
    pub connections_subscribed: u64,
    pub connections_held: u64,
    pub connect_all_ms: f64,
    pub connect_errors: BTreeMap<String, u64>,

    pub measured_s: f64,
    /// Messages published, in the warm-up, too.
    pub published: u64,
    /// Delay of writing them; part of the latency.
    pub published_late: Option<Percentiles>,
    pub ticks: u64,
    pub ticks_per_second: f64,
    pub frames_per_second: f64,
    pub bytes_per_second: f64,
    pub latency: Option<Percentiles>,
    pub ticks_early: u64,
    pub classes: Vec<ClassSum>,

    pub server_pid: Option<u32>,
    pub server_usage: Option<Usage>,
    pub generator_usage: Usage,
    /// Of its threads, without the publisher.
    pub generator_busiest_thread_percent: f64,
    pub machine_busy_percent: f64,
    pub machine_steal_percent: f64,
    /// Of the machine, by neither server nor generator; unknown without the server's.
    pub others_percent: Option<f64>,
    /// The profile of the fan-out: messages by how many whole ms after they were due they arrived.
    #[serde(rename = "wave")]
    pub fan_out: Vec<(u64, u64)>,
}

impl Summary {
    /// Sums up.
    pub fn new(options: &Options, findings: Findings<'_>) -> Self {
        let Findings { started_us, connect_us, from, until, collector, published, server_pid } = findings;
        let measured_us = until.at_us.saturating_sub(from.at_us);
        let messages = until.totals.messages - from.totals.messages;
        let per_second = |count: u64| count as f64 * 1e6 / measured_us.max(1) as f64;
        let usage = |before, after| Usage::between(measured_us, before, after, messages, messages);
        let server_usage = from.server.zip(until.server).map(|(before, after)| usage(before, after));
        let generator_usage = usage(from.own, until.own);
        let (busy, steal) = machine_percent(from.machine, until.machine);
        let own_percent = generator_usage.cpu_percent_of_machine;
        let subscribed = collector.subscribed();
        let closed: u64 = collector.closes.values().sum();
        let mut summary = Self {
            version: env!("CARGO_PKG_VERSION"),
            passed: false,
            failures: Vec::new(),
            warnings: Vec::new(),
            peer: options.peer.name(),
            server: options.addr.to_string(),
            message_bytes: options.size,
            ticks_per_second_due: f64::from(options.rate.get()),
            started_ms: started_us / 1_000,
            machine_cpus: cpus(),
            connections_wanted: options.connections.get(),
            connections_subscribed: subscribed,
            connections_held: subscribed.saturating_sub(closed),
            connect_all_ms: connect_us as f64 / 1e3,
            measured_s: measured_us as f64 / 1e6,
            published: published.messages,
            published_late: Percentiles::of(&published.late),
            ticks: messages,
            ticks_per_second: per_second(messages),
            frames_per_second: per_second(messages),
            bytes_per_second: per_second(until.totals.bytes - from.totals.bytes),
            latency: Percentiles::of(&collector.latency),
            ticks_early: collector.early,
            fan_out: fan_out(&collector.latency),
            connect_errors: collector.connect_errors,
            classes: vec![ClassSum {
                class: "steady",
                connections: subscribed,
                faults: collector.faults,
                closes: collector.closes,
            }],
            server_pid,
            server_usage,
            generator_usage,
            generator_busiest_thread_percent: busiest_thread_percent(from, until),
            machine_busy_percent: busy,
            machine_steal_percent: steal,
            others_percent: server_usage
                .map(|server| (busy - server.cpu_percent_of_machine - own_percent).max(0.0)),
        };
        summary.validate();
        summary
    }

    fn validate(&mut self) {
        let mut failures = Vec::new();
        for class in &self.classes {
            let Faults { gaps, duplicates, missing } = class.faults;
            let faults = [(gaps, "left out"), (duplicates, "duplicate"), (missing, "missing at the end")];
            for (count, what) in faults.into_iter().filter(|&(count, _)| count > 0) {
                failures.push(format!("{count} messages {what}"));
            }
            for (why, count) in &class.closes {
                failures.push(format!("{count} connections ended: {why}"));
            }
        }
        let never = u64::from(self.connections_wanted).saturating_sub(self.connections_subscribed);
        if never > 0 {
            failures.push(format!("{never} connections were never subscribed"));
        }
        if self.latency.is_none() {
            failures.push("no message was received in the measured time".to_owned());
        }
        self.distrust();
        self.passed = failures.is_empty();
        self.failures = failures;
    }

    fn distrust(&mut self) {
        let mut warnings = Vec::new();
        let busiest = self.generator_busiest_thread_percent;
        if busiest > BUSY_PERCENT {
            warnings.push(format!(
                "the generator is a bottleneck: its busiest thread took {busiest:.0} % of a CPU"
            ));
        }
        if let Some(late) = self.published_late.filter(|late| late.p99_us > PUBLISHED_LATE_US) {
            warnings.push(format!("the publisher was late: {} at p99", ms(late.p99_us)));
        }
        if self.ticks_early > 0 {
            warnings.push(format!("{} messages came before they were due: clocks differ", self.ticks_early));
        }
        warnings.extend(machine_warnings(self.others_percent, self.machine_steal_percent));
        self.warnings = warnings;
    }

    /// Prints the summary, and writes it as JSON to `json`; - is standard output.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, json: Option<&Path>) -> anyhow::Result<()> {
        output::print(self, json)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |key: &str, value: String| writeln!(f, "{key:<16}{value}");
        let Self { peer, server, connections_subscribed: held, connections_wanted: wanted, .. } = self;
        let connected_s = self.connect_all_ms / 1e3;
        row(
            "subscribers",
            format!("{held} of {wanted} to {peer} at {server}, the last after {connected_s:.2} s"),
        )?;
        row("published", format!("{} messages of {} bytes", self.published, self.message_bytes))?;
        if let Some(late) = &self.published_late {
            row("  late", percentiles(late))?;
        }
        row(
            "delivered",
            format!("{} in {:.1} s: {:.0} a second", self.ticks, self.measured_s, self.ticks_per_second),
        )?;
        if let Some(latency) = &self.latency {
            row("latency", percentiles(latency))?;
        }
        for class in &self.classes {
            let Faults { gaps, duplicates, missing } = class.faults;
            row("faults", format!("gaps {gaps}, duplicates {duplicates}, missing {missing}"))?;
        }
        match &self.server_usage {
            Some(usage) => row("server", usage_line(usage))?,
            None => row("server", "CPU and memory unknown (--server-pid)".to_owned())?,
        }
        row("generator", usage_line(&self.generator_usage))?;
        for warning in &self.warnings {
            row("WARNING", warning.clone())?;
        }
        for (why, count) in &self.connect_errors {
            row("  errors", format!("{why} {count}"))?;
        }
        for failure in &self.failures {
            row("FAILED", failure.clone())?;
        }
        row("verdict", if self.passed { "every message was right" } else { "failed" }.to_owned())
    }
}

fn busiest_thread_percent(from: &Snapshot, until: &Snapshot) -> f64 {
    until.threads_since(from).iter().map(|thread| thread.cpu_percent).fold(0.0, f64::max)
}
