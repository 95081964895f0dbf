//! What a run has shown: numbers for machines, text for people, and what to distrust.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context;
use hdrhistogram::{
    Counter, Histogram,
    serialization::{V2DeflateSerializer, interval_log::IntervalLogWriterBuilder},
};
use serde::Serialize;

use crate::{
    options::{ModeOption, Options, Plan},
    report,
    run::Snapshot,
    stats::{Class, Counters, SecondReport, coarse, precise},
    verify::Faults,
    worker::WorkerResult,
};

/// A worker that is busier than this can't be trusted to be on time.
const BUSY_PERCENT: f64 = 85.0;
/// A turn of a worker's loop that takes longer, more than once in a hundred, delays what it measures.
const TURN_LONG_US: u64 = 5_000;
/// Above this share of its time, waiting for a CPU is what a worker measures.
const WAITED_PERCENT: f64 = 50.0;
/// A hypervisor that takes more than this disturbs every figure.
const STEAL_PERCENT: f64 = 2.0;

/// Before and after the measured time.
#[derive(Debug)]
pub struct Measured {
    pub from: Snapshot,
    pub until: Snapshot,
}

/// How the storm went.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StormResult {
    /// Connections that were dropped.
    pub size: u32,
    /// Those that didn't come back.
    pub lost: u64,
    /// From the first that was dropped to the last ACK of SUBSCRIBE.
    pub took_us: u64,
}

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
    fn of<C: Counter>(histogram: &Histogram<C>) -> Option<Self> {
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

/// One second of the run: it begins 50 ms before the whole second, so that a wave isn't cut.
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
        self.machine_busy_percent = machine_percent(from, until).0;
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
    pub passed: bool,
    /// Why not.
    pub failures: Vec<String>,
    /// Reasons to distrust the figures.
    pub warnings: Vec<String>,
    pub server: String,
    pub mode: &'static str,
    pub ticks_per_second_due: f64,
    /// Unix time, ms.
    pub started_ms: u64,
    pub machine_cpus: usize,

    pub connections_wanted: u32,
    pub connections_held: u64,
    pub connect_all_ms: f64,
    pub handshake: Option<Percentiles>,
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

    /// The wave's profile: ticks by how many whole ms after `epoch_ms` they arrived.
    pub wave: Vec<(u64, u64)>,
    pub seconds: Vec<SecondSum>,

    #[serde(skip)]
    pub histogram: Histogram<u64>,
}

impl Summary {
    /// Sums up.
    #[expect(clippy::too_many_arguments, reason = "one place where everything comes together")]
    pub fn new(
        plan: &Plan,
        started_us: u64,
        connect_us: u64,
        measured: &Measured,
        last: &Snapshot,
        storm: Option<StormResult>,
        results: Vec<WorkerResult>,
        seconds: Vec<SecondSum>,
        server_pid: Option<u32>,
    ) -> Self {
        let options = &plan.options;
        let Measured { from, until } = measured;
        let seconds_long = until.at_us.saturating_sub(from.at_us) as f64 / 1e6;
        let merged = Merged::new(results);
        let counters = merged.counters;
        let per_second = |count: u64| if seconds_long > 0.0 { count as f64 / seconds_long } else { 0.0 };
        let (busy, steal) = machine_percent(from, until);
        let indices = 0..options.connections.get();
        let mut connections = [0; Class::ALL.len()];
        indices.for_each(|index| connections[plan.class(index) as usize] += 1);
        let classes = Class::ALL.into_iter().zip(connections).zip(counters.closes).map(|((class, count), closes)| {
            let faults = counters.faults[class as usize];
            ClassSum { class: class.as_str(), connections: count, faults, closes }
        });
        let frames = until.totals.frames - from.totals.frames;
        let ticks = until.totals.ticks - from.totals.ticks;
        let usage = |before, after| usage(from, until, before, after, frames, ticks);
        let mut summary = Self {
            version: env!("CARGO_PKG_VERSION"),
            passed: false,
            failures: Vec::new(),
            warnings: Vec::new(),
            server: options.addr.to_string(),
            mode: match options.mode {
                ModeOption::Second => "second",
                ModeOption::Minute => "minute",
            },
            ticks_per_second_due: plan.schedule.ticks_per_second(),
            started_ms: started_us / 1_000,
            machine_cpus: cpus(),
            connections_wanted: options.connections.get(),
            connections_held: last.totals.subscribed,
            connect_all_ms: connect_us as f64 / 1e3,
            handshake: Percentiles::of(&merged.handshake),
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
            classes: classes.filter(|class| class.connections > 0 || class.class == "churned" && options.churn > 0).collect(),
            malformed: counters.malformed,
            heartbeats_sent: counters.heartbeats_sent,
            heartbeats_answered: counters.heartbeats_answered,
            goaways: counters.goaways,
            churned: counters.churned,
            sends_refused: counters.sends_refused,
            server_pid,
            server_usage: from.server.zip(until.server).map(|(before, after)| usage(before, after)),
            generator_usage: usage(from.own, until.own),
            generator_threads: threads(from, until),
            generator_turn: Percentiles::of(&merged.turn),
            generator_turns_per_second: merged.turns as f64 * 1e6 / last.at_us.saturating_sub(started_us).max(1) as f64,
            receive_wait_share: Percentiles::of(&merged.held),
            machine_busy_percent: busy,
            machine_steal_percent: steal,
            wave: wave(&merged.steady),
            seconds,
            histogram: merged.steady,
        };
        summary.judge(options);
        summary
    }

    /// Prints the summary and writes the files that were asked for.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn write(&self, options: &Options) -> anyhow::Result<()> {
        let json_to_stdout = options.json.as_deref() == Some(Path::new("-"));
        if json_to_stdout {
            eprint!("{self}");
        } else {
            print!("{self}");
        }
        if let Some(path) = &options.json {
            let mut json = serde_json::to_string_pretty(self)?;
            json.push('\n');
            if json_to_stdout {
                io::stdout().write_all(json.as_bytes())?;
            } else {
                fs::write(path, json).with_context(|| format!("--json {}", path.display()))?;
            }
        }
        if let Some(path) = &options.hdr {
            self.write_hdr(path).with_context(|| format!("--hdr {}", path.display()))?;
        }
        if let Some(path) = &options.report {
            fs::write(path, report::page(self)).with_context(|| format!("--report {}", path.display()))?;
        }
        Ok(())
    }

    fn write_hdr(&self, path: &Path) -> anyhow::Result<()> {
        let mut file = File::create(path)?;
        let mut serializer = V2DeflateSerializer::new();
        let start = UNIX_EPOCH + Duration::from_millis(self.started_ms);
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("[tickstream-load: latency of live ticks in the measured time, in microseconds]")
            .with_start_time(start)
            .with_max_value_divisor(1_000.0)
            .begin_log_with(&mut file, &mut serializer)?;
        let length = Duration::from_secs_f64(self.measured_s);
        log.write_histogram(&self.histogram, Duration::from_millis(self.started_ms), length, None)
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(())
    }

    fn judge(&mut self, options: &Options) {
        let mut failures = Vec::new();
        for class in &self.classes {
            let counts = match class.class {
                "steady" => true,
                "churned" => options.strict,
                _ => false,
            };
            if !counts {
                continue;
            }
            let Faults { gaps, duplicates, out_of_order, wrong_label, missing } = class.faults;
            let faults = [
                (gaps, "left out"),
                (duplicates, "duplicate"),
                (out_of_order, "out of order"),
                (wrong_label, "wrongly labelled"),
                (missing, "missing at the end"),
            ];
            for (count, what) in faults.into_iter().filter(|&(count, _)| count > 0) {
                failures.push(format!("{count} ticks {what} ({} connections)", class.class));
            }
            for (how, count) in &class.closes {
                failures.push(format!("{count} {} connections closed: {how}", class.class));
            }
        }
        let wanted = u64::from(self.connections_wanted);
        let subscribed = self.handshake.map_or(0, |handshake| handshake.count);
        if subscribed < wanted {
            failures.push(format!("{} of {wanted} connections were never subscribed", wanted - subscribed));
        }
        if let Some(storm) = self.storm.filter(|storm| storm.lost > 0) {
            failures.push(format!("{} connections were not back after the storm", storm.lost));
        }
        for (what, count) in &self.malformed {
            failures.push(format!("{count} × {what}"));
        }
        let faults = self.classes.first().map_or(0, |class| class.faults.wrong_label);
        if faults > self.ticks / 2 && faults > 0 {
            self.warnings.push("most labels are wrong: is the server's tick rate the one that was given?".into());
        }
        if self.ticks_early > 0 {
            self.warnings.push(format!("{} ticks came before they were due: clocks differ", self.ticks_early));
        }
        self.distrust(options);
        self.passed = failures.is_empty();
        self.failures = failures;
    }

    fn distrust(&mut self, options: &Options) {
        let busiest = self.generator_threads.iter().map(|thread| thread.cpu_percent).fold(0.0, f64::max);
        let together: f64 = self.generator_threads.iter().map(|thread| thread.cpu_percent).sum();
        let pinned = options.cpus.as_ref().map(|cpus| {
            let mut cpus = cpus.0.clone();
            cpus.sort_unstable();
            cpus.dedup();
            cpus.len()
        });
        let cpus = pinned.unwrap_or(self.machine_cpus).min(self.generator_threads.len().max(1));
        let mut say = |warning| self.warnings.push(warning);
        if busiest > BUSY_PERCENT || together > BUSY_PERCENT * cpus as f64 {
            say(format!(
                "the generator is a bottleneck: its busiest thread took {busiest:.0} % of a CPU, all of them \
                 {together:.0} % of {cpus} CPUs"
            ));
        }
        if let Some(turn) = self.generator_turn.filter(|turn| turn.p99_us > TURN_LONG_US) {
            say(format!(
                "the generator is a bottleneck: one turn of its loop in a hundred took {} or more",
                ms(turn.p99_us)
            ));
        }
        let waited = self.generator_threads.iter().map(|thread| thread.waited_percent).fold(0.0, f64::max);
        if waited > WAITED_PERCENT {
            say(format!("a generator thread waited for a CPU {waited:.0} % of the time: latencies include it"));
        }
        if self.machine_steal_percent > STEAL_PERCENT {
            say(format!("the hypervisor took {:.1} % of the machine", self.machine_steal_percent));
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |key: &str, value: String| writeln!(f, "{key:<16}{value}");
        row(
            "connections",
            format!(
                "{} of {} to {}, all within {:.2} s; {} held at the end",
                self.handshake.map_or(0, |handshake| handshake.count),
                self.connections_wanted,
                self.server,
                self.connect_all_ms / 1e3,
                self.connections_held
            ),
        )?;
        if let Some(handshake) = &self.handshake {
            row("  until ACK", percentiles(handshake))?;
        }
        if !self.connect_errors.is_empty() {
            row("  errors", counts(&self.connect_errors))?;
        }
        row(
            "delivered",
            format!(
                "{} ticks in {:.1} s: {:.0} ticks/s, {:.0} frames/s, {:.0} bytes/s",
                self.ticks, self.measured_s, self.ticks_per_second, self.frames_per_second, self.bytes_per_second
            ),
        )?;
        match &self.latency {
            Some(latency) => row("latency", percentiles(latency))?,
            None => row("latency", "no tick was due in the measured time".into())?,
        }
        if let Some(held) = self.receive_wait_share.filter(|held| held.max_us > 0) {
            let share = format!("at most {} of it at p50, {} at p99", ms(held.p50_us), ms(held.p99_us));
            row("  receive wait", share)?;
        }
        if let Some(storm) = &self.storm {
            let took = storm.took_us as f64 / 1e6;
            row("storm", format!("{} back within {took:.2} s, {} lost", u64::from(storm.size) - storm.lost.min(u64::from(storm.size)), storm.lost))?;
            if let Some(handshake) = &self.storm_handshake {
                row("  until ACK", percentiles(handshake))?;
            }
            if let Some(latency) = &self.storm_latency {
                row("  to the others", percentiles(latency))?;
            }
        }
        for class in &self.classes {
            let Faults { gaps, duplicates, out_of_order, wrong_label, missing } = class.faults;
            let mut text = format!(
                "gaps {gaps}, duplicates {duplicates}, out of order {out_of_order}, wrong label {wrong_label}, \
                 missing {missing}"
            );
            if !class.closes.is_empty() {
                let _ = write!(text, "; closed: {}", counts(&class.closes));
            }
            row(class.class, format!("{} connections: {text}", class.connections))?;
        }
        if self.churned > 0 {
            row("churn", format!("{} dropped and resumed, {} ticks replayed", self.churned, self.ticks_replayed))?;
        }
        row("heartbeats", format!("{} sent, {} answered", self.heartbeats_sent, self.heartbeats_answered))?;
        let line = |usage: &Usage| {
            format!(
                "CPU {:.1} % of one core, {:.1} % of the machine; {:.2} µs per delivery, {:.3} µs per tick; \
                 RSS {:.1} MB, peak {:.1} MB",
                usage.cpu_percent_of_one_core,
                usage.cpu_percent_of_machine,
                usage.cpu_us_per_delivery,
                usage.cpu_us_per_tick,
                usage.rss_bytes as f64 / 1e6,
                usage.rss_peak_bytes as f64 / 1e6
            )
        };
        match &self.server_usage {
            Some(usage) => row("server", line(usage))?,
            None => row("server", "CPU and memory unknown (--server-pid)".into())?,
        }
        row("generator", line(&self.generator_usage))?;
        let busiest = self.generator_threads.iter().map(|thread| thread.cpu_percent).fold(0.0, f64::max);
        let waited = self.generator_threads.iter().map(|thread| thread.waited_percent).fold(0.0, f64::max);
        let turn = self.generator_turn.map_or(String::new(), |turn| {
            format!(", a turn {} at p99, {} at most", ms(turn.p99_us), ms(turn.max_us))
        });
        row(
            "",
            format!(
                "{} threads, the busiest {busiest:.0} %, waiting for a CPU up to {waited:.0} %; {:.0} turns/s{turn}",
                self.generator_threads.len(),
                self.generator_turns_per_second
            ),
        )?;
        row(
            "machine",
            format!("{:.1} % busy, {:.1} % stolen", self.machine_busy_percent, self.machine_steal_percent),
        )?;
        for warning in &self.warnings {
            row("WARNING", warning.clone())?;
        }
        for failure in &self.failures {
            row("FAILED", failure.clone())?;
        }
        row("verdict", if self.passed { "every tick was right" } else { "failed" }.into())
    }
}

/// Latencies in one line.
fn percentiles(of: &Percentiles) -> String {
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

/// µs as ms, with as many digits as mean something.
pub fn ms(us: u64) -> String {
    let ms = us as f64 / 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

fn counts(map: &BTreeMap<String, u64>) -> String {
    map.iter().map(|(key, count)| format!("{key} {count}")).collect::<Vec<_>>().join(", ")
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How much of the machine was busy and how much stolen, percent.
fn machine_percent(from: &Snapshot, until: &Snapshot) -> (f64, f64) {
    let total = until.machine.total.saturating_sub(from.machine.total).max(1) as f64;
    let idle = until.machine.idle.saturating_sub(from.machine.idle) as f64;
    let steal = until.machine.steal.saturating_sub(from.machine.steal) as f64;
    ((total - idle - steal) * 100.0 / total, steal * 100.0 / total)
}

fn usage(
    from: &Snapshot,
    until: &Snapshot,
    before: crate::sample::ProcessSample,
    after: crate::sample::ProcessSample,
    frames: u64,
    ticks: u64,
) -> Usage {
    let us = until.at_us.saturating_sub(from.at_us).max(1) as f64;
    let cpu_us = after.cpu_us.saturating_sub(before.cpu_us) as f64;
    let percent = cpu_us * 100.0 / us;
    Usage {
        cpu_percent_of_one_core: percent,
        cpu_percent_of_machine: percent / cpus() as f64,
        cpu_us_per_delivery: cpu_us / frames.max(1) as f64,
        cpu_us_per_tick: cpu_us / ticks.max(1) as f64,
        rss_bytes: after.rss_bytes,
        rss_peak_bytes: after.rss_peak_bytes,
    }
}

fn threads(from: &Snapshot, until: &Snapshot) -> Vec<ThreadUsage> {
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

/// Ticks by whole ms of latency.
fn wave(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let mut wave = BTreeMap::new();
    for value in histogram.iter_recorded() {
        *wave.entry(value.value_iterated_to() / 1_000).or_default() += value.count_since_last_iteration();
    }
    wave.into_iter().collect()
}

struct Merged {
    counters: Counters,
    steady: Histogram<u64>,
    storm: Histogram<u64>,
    handshake: Histogram<u32>,
    storm_handshake: Histogram<u32>,
    turn: Histogram<u32>,
    held: Histogram<u32>,
    turns: u64,
}

impl Merged {
    fn new(results: Vec<WorkerResult>) -> Self {
        let mut merged = Self {
            counters: Counters::default(),
            steady: precise(),
            storm: precise(),
            handshake: coarse(),
            storm_handshake: coarse(),
            turn: coarse(),
            held: coarse(),
            turns: 0,
        };
        for result in results {
            merged.counters.merge(result.counters);
            add(&mut merged.steady, &result.steady);
            add(&mut merged.storm, &result.storm);
            add(&mut merged.handshake, &result.handshake);
            add(&mut merged.storm_handshake, &result.storm_handshake);
            add(&mut merged.turn, &result.turn);
            add(&mut merged.held, &result.held);
            merged.turns += result.turns;
        }
        merged
    }
}

fn add<C: Counter>(into: &mut Histogram<C>, from: &Histogram<C>) {
    into.add(from).expect("all are built alike");
}
