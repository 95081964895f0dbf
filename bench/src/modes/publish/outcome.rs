//! The outcome of a publishing run: numbers for machines, text for people.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::counts::Counts;
use crate::{
    distrust::{Circumstances, distrust},
    figures::{Percentiles, ThreadUsage, cpus, machine, machine_percent, percentiles, turns},
    modes::{outcome::Outcome, threads::ServerCost},
    options::CodecOption,
    plan::Plan,
    sample::ProcessSample,
    snapshot::Snapshot,
};

/// Samples of a run.
#[derive(Debug)]
pub struct Measured {
    /// Before the first connection.
    pub before: Snapshot,
    /// When all were authenticated, and nothing was published.
    pub connected: Snapshot,
    /// The measured time.
    pub from: Snapshot,
    pub until: Snapshot,
}

/// The outcome of a run.
#[derive(Debug, Serialize)]
pub struct Published {
    version: &'static str,
    passed: bool,
    /// Why not.
    failures: Vec<String>,
    /// Reasons to distrust the figures.
    warnings: Vec<String>,
    connections_wanted: u32,
    /// Those that were authenticated at least once.
    connections: u64,
    codec: &'static str,
    resend: bool,
    events_per_batch: u32,
    /// The mean size of an event, with its key and length in the batch.
    event_bytes: f64,
    /// Events a second that were asked for; 0: as many as the credits allow.
    rate_wanted: u32,
    /// Batches that the rate wanted, and that there were no credits for.
    left_out: u64,
    /// Batches that a connection may have on the way, as the server says.
    credits: u32,

    measured_s: f64,
    events: u64,
    events_per_second: f64,
    batches_per_second: f64,
    /// Of payloads, MB of 1,000,000 bytes.
    mb_per_second: f64,
    /// From handing a batch's first byte to the kernel to reading its PUBLISH_ACK.
    ack_latency: Option<Percentiles>,
    /// On one connection when a batch was sent, that one included; of the whole run, as all below.
    in_flight_mean: f64,
    in_flight_max: u64,

    batches_sent: u64,
    batches_resent: u64,
    batches_distinct: u64,
    batches_acknowledged: u64,
    batches_unanswered: u64,
    events_accepted: u64,
    events_duplicate: u64,
    /// By code of rejection.
    events_rejected: BTreeMap<String, u64>,
    throttle_hints: u64,
    throttle_ms_max: u32,
    throttle_ignored: bool,
    connect_errors: BTreeMap<String, u64>,
    /// Ends of connections that this side didn't ask for, by ERROR or what else it was.
    closes: BTreeMap<String, u64>,
    reconnects: u64,

    /// In the measured time.
    server: Option<ServerCost>,
    server_cpu_percent_of_one_core: Option<f64>,
    server_user_us_per_event: Option<f64>,
    server_system_us_per_event: Option<f64>,
    /// The server's memory by connection, over that before the first of them: when all were authenticated, and at the
    /// end of the measured time.
    rss_bytes_per_connection_idle: Option<f64>,
    rss_bytes_per_connection_publishing: Option<f64>,
    generator_cpu_percent_of_one_core: f64,
    generator_cpu_us_per_event: f64,
    generator_threads: Vec<ThreadUsage>,
    generator_turn: Option<Percentiles>,
    machine_busy_percent: f64,
    machine_steal_percent: f64,
    /// Of the machine, by neither server nor generator; unknown without the server's.
    others_percent: Option<f64>,
}

impl Published {
    /// Sums up, and decides whether the run passed; `event_bytes` is the length of a batch's events.
    pub fn new(plan: &Plan, event_bytes: usize, counts: Counts, measured: &Measured) -> Self {
        let options = &plan.options;
        let publish = &options.modes.publish;
        let Measured { before, connected, from, until } = measured;
        let measured_s = until.at_us.saturating_sub(from.at_us).max(1) as f64 / 1e6;
        let per_second = |count: u64| count as f64 / measured_s;
        let server = from.server.zip(until.server).map(|(from, until)| ServerCost::between(from, until));
        let each = server.filter(|_| counts.events > 0).map(|server| server.each(counts.events));
        let percent = |cpu_us: u64| cpu_us as f64 / 1e4 / measured_s;
        let server_percent = server.map(|server| percent(server.user_us + server.system_us));
        let generator_us = until.own.cpu_us.saturating_sub(from.own.cpu_us);
        let (busy, steal) = machine_percent(from.machine, until.machine);
        let both = server_percent.map(|server| server + percent(generator_us));
        let generator_threads = until.threads_since(from);
        let generator_turn = Percentiles::of(&counts.turn);
        let others_percent = both.map(|both| (busy - both / cpus() as f64).max(0.0));
        let rss = |after: Option<ProcessSample>| {
            let (before, after) = before.server.zip(after)?;
            let grown = after.rss_bytes as f64 - before.rss_bytes as f64;
            (counts.connected > 0).then(|| grown / counts.connected as f64)
        };
        let circumstances = Circumstances {
            generator_threads: &generator_threads,
            generator_turn,
            others_percent,
            steal_percent: steal,
        };
        let mut warnings = distrust(options, circumstances);
        if counts.left_out > 0 {
            let left_out = counts.left_out;
            warnings
                .push(format!("the rate was too high: {left_out} batches were left out for want of credits"));
        }
        let failures = failures(plan, &counts);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            passed: failures.is_empty(),
            failures,
            warnings,
            connections_wanted: options.connections.get(),
            connections: counts.connected,
            codec: match publish.codec {
                CodecOption::None => "none",
                CodecOption::Lz4 => "lz4",
                CodecOption::Zstd => "zstd",
            },
            resend: publish.resend,
            events_per_batch: publish.events_per_batch,
            event_bytes: event_bytes as f64 / f64::from(publish.events_per_batch),
            rate_wanted: publish.rate,
            left_out: counts.left_out,
            credits: counts.credits,
            measured_s,
            events: counts.events,
            events_per_second: per_second(counts.events),
            batches_per_second: per_second(counts.batches),
            mb_per_second: per_second(counts.bytes) / 1e6,
            ack_latency: Percentiles::of(&counts.latency),
            in_flight_mean: counts.in_flight.mean(),
            in_flight_max: counts.in_flight.most,
            batches_sent: counts.sent,
            batches_resent: counts.resent,
            batches_distinct: counts.distinct,
            batches_acknowledged: counts.acknowledged,
            batches_unanswered: counts.unanswered,
            events_accepted: counts.accepted,
            events_duplicate: counts.duplicates,
            events_rejected: counts.rejected,
            throttle_hints: counts.throttle_hints,
            throttle_ms_max: counts.throttle_ms_max,
            throttle_ignored: publish.ignore_throttle,
            connect_errors: counts.connect_errors,
            closes: counts.closes,
            reconnects: counts.reconnects,
            server,
            server_cpu_percent_of_one_core: server_percent,
            server_user_us_per_event: each.map(|(user, _)| user),
            server_system_us_per_event: each.map(|(_, system)| system),
            rss_bytes_per_connection_idle: rss(connected.server),
            rss_bytes_per_connection_publishing: rss(until.server),
            generator_cpu_percent_of_one_core: percent(generator_us),
            generator_cpu_us_per_event: generator_us as f64 / counts.events.max(1) as f64,
            generator_threads,
            generator_turn,
            machine_busy_percent: busy,
            machine_steal_percent: steal,
            others_percent,
        }
    }
}

/// Faults that should not have happened.
fn failures(plan: &Plan, counts: &Counts) -> Vec<String> {
    let options = &plan.options;
    let publish = &options.modes.publish;
    let mut failures = Vec::new();
    let wanted = u64::from(options.connections.get());
    if counts.connected < wanted {
        failures
            .push(format!("{} of {wanted} connections were never authenticated", wanted - counts.connected));
    }
    for (what, count) in &counts.faults {
        failures.push(format!("{count} × {what}"));
    }
    for (how, count) in counts.closes.iter().filter(|_| !options.reconnect) {
        failures.push(format!("{count} connections ended: {how}"));
    }
    for (code, count) in &counts.rejected {
        let message = counts.messages.get(code).map_or("", String::as_str);
        failures.push(format!("{count} events were rejected, {code}: {message}"));
    }
    if counts.unanswered > 0 {
        failures.push(format!("{} batches were never acknowledged", counts.unanswered));
    }
    if counts.acknowledged == 0 {
        failures.push("no batch was acknowledged".to_owned());
    }
    let distinct = counts.distinct * u64::from(publish.events_per_batch);
    let rejected: u64 = counts.rejected.values().sum();
    if counts.unanswered == 0 && rejected == 0 && !options.reconnect {
        let expected = if publish.resend { distinct } else { 0 };
        if (counts.accepted, counts.duplicates) != (distinct, expected) {
            failures.push(format!(
                "{distinct} events were published {}: {} were accepted and {} duplicates",
                if publish.resend { "twice" } else { "once" },
                counts.accepted,
                counts.duplicates
            ));
        }
    }
    failures
}

impl Outcome for Published {
    fn passed(&self) -> bool {
        self.passed
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |key: &str, value: String| writeln!(f, "{key:<16}{value}");
        row(
            "published",
            format!(
                "{:.0} events/s in {:.0} batches/s, {:.1} MB/s, over {} connections in {:.1} s",
                self.events_per_second,
                self.batches_per_second,
                self.mb_per_second,
                self.connections,
                self.measured_s
            ),
        )?;
        row(
            "batches",
            format!(
                "{} events of {:.0} bytes, codec {}; {} credits; on the way {:.1}, {} at most",
                self.events_per_batch,
                self.event_bytes,
                self.codec,
                self.credits,
                self.in_flight_mean,
                self.in_flight_max
            ),
        )?;
        if let Some(latency) = &self.ack_latency {
            row("until ACK", percentiles(latency))?;
        }
        row(
            "whole run",
            format!(
                "{} batches sent ({} again), {} acknowledged; events: {} accepted, {} duplicates",
                self.batches_sent,
                self.batches_resent,
                self.batches_acknowledged,
                self.events_accepted,
                self.events_duplicate
            ),
        )?;
        if self.throttle_hints > 0 {
            let how = if self.throttle_ignored { "ignored" } else { "followed" };
            row(
                "throttled",
                format!("{} times, by {} ms at most, {how}", self.throttle_hints, self.throttle_ms_max),
            )?;
        }
        if !self.closes.is_empty() || !self.connect_errors.is_empty() {
            let list = |map: &BTreeMap<String, u64>| {
                map.iter().map(|(key, count)| format!("{count} × {key}")).collect::<Vec<_>>().join(", ")
            };
            row("connections", format!("{} came back; ended: {}", self.reconnects, list(&self.closes)))?;
            row("", format!("not made: {}", list(&self.connect_errors)))?;
        }
        self.costs(f)?;
        let mut row = |key: &str, value: &str| writeln!(f, "{key:<16}{value}");
        for warning in &self.warnings {
            row("WARNING", warning)?;
        }
        for failure in &self.failures {
            row("FAILED", failure)?;
        }
        row("verdict", if self.passed { "every batch was acknowledged as it should be" } else { "failed" })
    }
}

impl Published {
    fn costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |key: &str, value: String| writeln!(f, "{key:<16}{value}");
        match (self.server, self.server_user_us_per_event.zip(self.server_system_us_per_event)) {
            (Some(server), Some((user, system))) => row(
                "server",
                format!(
                    "CPU {:.1} % of one core; {:.2} µs per event: {user:.2} user, {system:.2} system; RSS {:.1} MB, \
                     peak {:.1} MB",
                    self.server_cpu_percent_of_one_core.unwrap_or(0.0),
                    user + system,
                    server.rss_after_bytes as f64 / 1e6,
                    server.rss_peak_bytes as f64 / 1e6
                ),
            )?,
            _ => row("server", "CPU and memory unknown (--server-pid)".into())?,
        }
        if let Some((idle, publishing)) =
            self.rss_bytes_per_connection_idle.zip(self.rss_bytes_per_connection_publishing)
        {
            row("", format!("RSS per connection {idle:.0} bytes idle, {publishing:.0} bytes publishing"))?;
        }
        let busiest = self.generator_threads.iter().map(|thread| thread.cpu_percent).fold(0.0, f64::max);
        let turn = self.generator_turn.map_or(String::new(), |turn| format!("; {}", turns(&turn)));
        row(
            "generator",
            format!(
                "CPU {:.1} % of one core, {:.3} µs per event; the busiest of {} threads {busiest:.0} %{turn}",
                self.generator_cpu_percent_of_one_core,
                self.generator_cpu_us_per_event,
                self.generator_threads.len()
            ),
        )?;
        row("machine", machine(self.machine_busy_percent, self.others_percent, self.machine_steal_percent))
    }
}
