//! The summary of a run: numbers for machines, text for people.

mod second;
mod text;
mod verdict;

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

pub use self::second::SecondSum;
use crate::{
    conditions::Conditions,
    figures::{Percentiles, ThreadUsage, Usage, fan_out, machine_percent},
    options::ModeOption,
    plan::Plan,
    snapshot::{Measured, Snapshot},
    stats::Class,
    verify::Faults,
    worker::WorkerResult,
};

/// TLS handshakes, from the TCP connection to the client's Finished.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TlsSum {
    pub full: Option<Percentiles>,
    pub resumed: Option<Percentiles>,
}

/// The outcome of the storm.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StormResult {
    /// Connections that were dropped.
    pub size: u32,
    /// Those that didn't come back.
    pub lost: u64,
    /// From the first that was dropped to the last ACK of SUBSCRIBE.
    pub took_us: u64,
    /// The server's CPU time meanwhile, by each that was dropped. Ticks to the others are in it.
    pub server_cpu_us_each: Option<f64>,
}

/// Ticks and closes of the connections of one class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassSum {
    pub class: &'static str,
    pub connections: u64,
    pub faults: Faults,
    /// By ERROR code, or by what else ended them.
    pub closes: BTreeMap<String, u64>,
}

/// All that a run has shown.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub version: &'static str,
    pub conditions: Conditions,
    pub passed: bool,
    /// Why not.
    pub failures: Vec<String>,
    /// Reasons to distrust the figures.
    pub warnings: Vec<String>,
    pub server: String,
    pub mode: &'static str,
    pub ticks_per_second_due: f64,
    /// Of a server whose rate is another; nothing that it sent could be verified.
    pub ticks_per_second_of_server: Option<f64>,
    /// Unix time, ms.
    pub started_ms: u64,

    pub connections_wanted: u32,
    /// Those that were subscribed at least once.
    pub connections_subscribed: u64,
    pub connections_held: u64,
    pub connect_all_ms: f64,
    pub handshake: Option<Percentiles>,
    /// Connections that were subscribed, until the last was.
    pub connects_per_second: f64,
    /// The server's CPU time until then, by connection. Ticks to those that were there already are in it.
    pub server_cpu_us_per_connect: Option<f64>,
    pub tls: Option<TlsSum>,
    pub connects: u64,
    pub connect_errors: BTreeMap<String, u64>,

    pub measured_s: f64,
    pub ticks: u64,
    pub ticks_per_second: f64,
    pub frames_per_second: f64,
    pub bytes_per_second: f64,
    pub latency: Option<Percentiles>,
    /// Ticks that arrived before they were due.
    pub ticks_early: u64,
    pub ticks_replayed: u64,

    pub storm: Option<StormResult>,
    pub storm_handshake: Option<Percentiles>,
    /// Of the connections that the storm left alone.
    pub storm_latency: Option<Percentiles>,

    pub classes: Vec<ClassSum>,
    pub malformed: BTreeMap<String, u64>,
    pub heartbeats_sent: u64,
    pub heartbeats_answered: u64,
    pub goaways: u64,
    pub churned: u64,
    pub sends_refused: u64,

    pub server_pid: Option<u32>,
    pub server_usage: Option<Usage>,
    pub generator_usage: Usage,
    pub generator_threads: Vec<ThreadUsage>,
    /// A turn of a worker's loop between two waits: how late it may find an arrival.
    pub generator_turn: Option<Percentiles>,
    pub generator_turns_per_second: f64,
    /// For each delivery, how long --receive-wait may have held it back at most. It is part of the latency.
    pub receive_wait_share: Option<Percentiles>,
    pub machine_busy_percent: f64,
    pub machine_steal_percent: f64,
    /// Of the machine, by neither server nor generator; unknown without the server's.
    pub others_percent: Option<f64>,

    /// The profile of the fan-out: ticks by how many whole ms after `epoch_ms` they arrived.
    #[serde(rename = "wave")]
    pub fan_out: Vec<(u64, u64)>,
    pub seconds: Vec<SecondSum>,

    #[serde(skip)]
    pub histogram: Histogram<u64>,
}

/// Everything that a summary is made of.
pub struct Findings<'a> {
    pub started_us: u64,
    /// From the start to the last ACK of SUBSCRIBE.
    pub connect_us: u64,
    /// Before the first connection, and when all stood.
    pub opening: &'a Measured,
    pub measured: &'a Measured,
    /// At the end.
    pub last: &'a Snapshot,
    pub storm: Option<StormResult>,
    /// All workers together.
    pub merged: WorkerResult,
    pub seconds: Vec<SecondSum>,
    pub server_pid: Option<u32>,
}

impl Summary {
    /// Sums up.
    pub fn new(plan: &Plan, findings: Findings<'_>) -> Self {
        let Findings { started_us, connect_us, opening, measured, last, storm, merged, seconds, server_pid } =
            findings;
        let options = &plan.options;
        let Measured { from, until } = measured;
        let measured_us = until.at_us.saturating_sub(from.at_us);
        let seconds_long = measured_us as f64 / 1e6;
        let counters = merged.counters;
        let per_second = |count: u64| {
            if seconds_long > 0.0 { count as f64 / seconds_long } else { 0.0 }
        };
        let opened = opening.until.totals.subscribed;
        let (busy, steal) = machine_percent(from.machine, until.machine);
        let classes = Class::ALL.into_iter().zip(counters.connections).zip(counters.closes).map(
            |((class, count), closes)| {
                let faults = counters.faults[class as usize];
                ClassSum { class: class.as_str(), connections: count, faults, closes }
            },
        );
        let frames = until.totals.frames - from.totals.frames;
        let ticks = until.totals.ticks - from.totals.ticks;
        let usage = |before, after| Usage::between(measured_us, before, after, frames, ticks);
        let server_usage = from.server.zip(until.server).map(|(before, after)| usage(before, after));
        let generator_usage = usage(from.own, until.own);
        let others = server_usage.map(|server| {
            (busy - server.cpu_percent_of_machine - generator_usage.cpu_percent_of_machine).max(0.0)
        });
        let mut summary = Self {
            version: env!("TICKSTREAM_VERSION"),
            conditions: Conditions::here(),
            passed: false,
            failures: Vec::new(),
            warnings: Vec::new(),
            server: options.addr.to_string(),
            mode: match options.mode {
                ModeOption::Second => "second",
                ModeOption::Minute => "minute",
            },
            ticks_per_second_due: plan.schedule.ticks_per_second(),
            ticks_per_second_of_server: counters
                .other_rate
                .map(|rate| plan.schedule.ticks_per_second() / plan.schedule.rate() as f64 * rate as f64),
            started_ms: started_us / 1_000,
            connections_wanted: options.connections.get(),
            connections_subscribed: counters.subscribed,
            connections_held: last.totals.subscribed,
            connect_all_ms: connect_us as f64 / 1e3,
            handshake: Percentiles::of(&merged.handshake),
            connects_per_second: opened as f64 * 1e6 / connect_us.max(1) as f64,
            server_cpu_us_per_connect: opening.server_cpu_us_each(opened),
            tls: plan.tls.is_some().then(|| TlsSum {
                full: Percentiles::of(&merged.tls_full),
                resumed: Percentiles::of(&merged.tls_resumed),
            }),
            connects: counters.connects,
            connect_errors: counters.connect_errors,
            measured_s: seconds_long,
            ticks,
            ticks_per_second: per_second(ticks),
            frames_per_second: per_second(frames),
            bytes_per_second: per_second(until.totals.bytes - from.totals.bytes),
            latency: Percentiles::of(&merged.steady),
            ticks_early: counters.ticks_early,
            ticks_replayed: counters.ticks_replayed,
            storm,
            storm_handshake: Percentiles::of(&merged.storm_handshake),
            storm_latency: Percentiles::of(&merged.storm),
            classes: classes.filter(|class| class.connections > 0).collect(),
            malformed: counters.malformed,
            heartbeats_sent: counters.heartbeats_sent,
            heartbeats_answered: counters.heartbeats_answered,
            goaways: counters.goaways,
            churned: counters.churned,
            sends_refused: counters.sends_refused,
            server_pid,
            server_usage,
            generator_usage,
            generator_threads: until.threads_since(from),
            generator_turn: Percentiles::of(&merged.turn),
            generator_turns_per_second: merged.turns as f64 * 1e6
                / last.at_us.saturating_sub(started_us).max(1) as f64,
            receive_wait_share: Percentiles::of(&merged.held),
            machine_busy_percent: busy,
            machine_steal_percent: steal,
            others_percent: others,
            fan_out: fan_out(&merged.steady),
            seconds,
            histogram: merged.steady,
        };
        summary.validate(options);
        summary
    }
}
