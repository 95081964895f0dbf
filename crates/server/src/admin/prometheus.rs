//! `/metrics`: what was gathered, in Prometheus' text format.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tickstream_engine::{CloseReason, Limit, Mode, VerdictCode};

use super::collect::{Gathered, Shard};
use super::exposition::Text;
use super::families::{self, Collected, Family, Other, Stream, Value};
use crate::logs::LogLosses;
use crate::otlp::Lost;
use crate::ring;
use crate::shard::Snapshot;

/// The streams, by the numbers of their counters.
const STREAMS: [Mode; 2] = [Mode::Second, Mode::Minute];

/// The registry of all series. It isn't the process's global one: whoever embeds a server has their own.
pub struct Metrics {
    handle: PrometheusHandle,
    shards: Vec<ShardSeries>,
    process: Series<Gathered>,
    max_fds: Gauge,
    losses: (LogLosses, Counter),
    spans_lost: (Lost, Counter),
    /// One scrape at a time writes the series and reads them again.
    turn: Mutex<()>,
}

/// The series of one shard.
struct ShardSeries {
    label: String,
    counters: Series<Snapshot>,
    streams: [Series<Stream>; 2],
    thread: Series<Shard>,
    closed: Vec<(CloseReason, Counter)>,
    fired: Vec<(Limit, Counter)>,
    /// If events are collected.
    events: Option<EventSeries>,
}

/// The series of one shard's events.
struct EventSeries {
    collected: Series<Collected>,
    rejected: Vec<(VerdictCode, Counter)>,
}

/// One series of each family of a table.
struct Series<S: 'static>(Vec<Sample<S>>);

enum Sample<S> {
    Counter(Counter, fn(&S) -> u64),
    Gauge(Gauge, fn(&S) -> f64),
}

impl Metrics {
    /// The series of a server with so many shards, and those of events, if it collects them.
    pub fn new(
        shards: usize,
        collects_events: bool,
        started: SystemTime,
        losses: LogLosses,
        spans_lost: Lost,
    ) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        describe_all(&recorder);
        gauge(&recorder, "process_start_time_seconds", vec![]).set(unix_seconds(started));
        let version = vec![Label::new("version", env!("CARGO_PKG_VERSION"))];
        gauge(&recorder, "tickstream_build_info", version).set(1.0);
        Self {
            handle: recorder.handle(),
            shards: (0..shards).map(|shard| ShardSeries::new(&recorder, shard, collects_events)).collect(),
            process: Series::new(&recorder, families::OF_PROCESS, &[]),
            max_fds: gauge(&recorder, "process_max_fds", vec![]),
            losses: (losses, counter(&recorder, "log_lines_lost_total", vec![])),
            spans_lost: (spans_lost, counter(&recorder, "otlp_spans_dropped_total", vec![])),
            turn: Mutex::new(()),
        }
    }

    /// All that was gathered, as text.
    pub fn render(&self, gathered: &Gathered) -> String {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.process.set(gathered);
        self.max_fds.set(ring::limit(libc::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft) as f64);
        self.losses.1.absolute(self.losses.0.lines());
        self.spans_lost.1.absolute(self.spans_lost.0.spans());
        for (series, shard) in self.shards.iter().zip(&gathered.shards) {
            series.set(shard);
        }
        self.others(gathered).merged_with(&self.handle.render())
    }

    /// What the exporter can't hold.
    fn others(&self, gathered: &Gathered) -> Text {
        let mut text = Text::default();
        let shards = || self.shards.iter().zip(&gathered.shards);
        let family = |text: &mut Text, other: &Other| text.family(other.name, other.kind, other.help);

        family(&mut text, &families::LATENCY);
        for (series, snapshot) in
            shards().filter_map(|(series, shard)| Some((series, shard.snapshot.as_ref()?)))
        {
            let (latencies, labels) = (&snapshot.latencies, [("shard", series.label.as_str())]);
            let sum_ms = latencies.sum_ns() as f64 / families::MILLISECOND_NS;
            let buckets = families::latency_buckets(latencies, families::MILLISECOND_NS);
            text.histogram(families::LATENCY.name, &labels, buckets, sum_ms);
        }
        if self.shards.iter().any(|series| series.events.is_some()) {
            family(&mut text, &families::SYNC);
        }
        for (series, snapshot) in
            shards().filter_map(|(series, shard)| Some((series, shard.snapshot.as_ref()?)))
        {
            if let Some(journal) = &snapshot.journal {
                let buckets = families::latency_buckets(&journal.syncs, families::SECOND_NS);
                let (labels, sum) =
                    ([("shard", series.label.as_str())], journal.syncs.sum_ns() as f64 / families::SECOND_NS);
                text.histogram(families::SYNC.name, &labels, buckets, sum);
            }
        }
        family(&mut text, &families::BATCH_TICKS);
        for (series, snapshot) in
            shards().filter_map(|(series, shard)| Some((series, shard.snapshot.as_ref()?)))
        {
            for mode in STREAMS {
                let counters = snapshot.counters.stream(mode);
                let labels = [("shard", series.label.as_str()), ("stream", mode.as_str_name())];
                let (name, sum) = (families::BATCH_TICKS.name, counters.ticks as f64);
                text.histogram(name, &labels, families::batch_buckets(counters), sum);
            }
        }
        family(&mut text, &families::BUSY);
        for (series, shard) in shards() {
            seconds(&mut text, &families::BUSY, &series.label, shard.thread.busy);
        }
        family(&mut text, &families::DELAYED);
        for (series, shard) in shards() {
            seconds(&mut text, &families::DELAYED, &series.label, shard.thread.delayed);
        }
        if let Some(cpu) = gathered.process.cpu {
            family(&mut text, &families::CPU);
            text.sample(families::CPU.name, &[], cpu.as_secs_f64());
        }
        text
    }
}

fn seconds(text: &mut Text, other: &Other, shard: &str, duration: Option<Duration>) {
    if let Some(duration) = duration {
        text.sample(other.name, &[("shard", shard)], duration.as_secs_f64());
    }
}

impl ShardSeries {
    fn new(recorder: &PrometheusRecorder, shard: usize, collects_events: bool) -> Self {
        let label = shard.to_string();
        let shard = Label::new("shard", label.clone());
        let with = |key: &'static str, value: &'static str| vec![shard.clone(), Label::new(key, value)];
        Self {
            counters: Series::new(recorder, families::OF_SHARD, std::slice::from_ref(&shard)),
            streams: STREAMS
                .map(|mode| Series::new(recorder, families::OF_STREAM, &with("stream", mode.as_str_name()))),
            thread: Series::new(recorder, families::OF_THREAD, std::slice::from_ref(&shard)),
            closed: CloseReason::ALL
                .map(|reason| {
                    (reason, counter(recorder, families::CLOSED.0, with("reason", reason.as_str())))
                })
                .into(),
            fired: Limit::ALL
                .map(|limit| (limit, counter(recorder, families::FIRED.0, with("limit", limit.as_str()))))
                .into(),
            events: collects_events.then(|| {
                let rejected = VerdictCode::ALL
                    .map(|code| (code, counter(recorder, families::REJECTED.0, with("code", code.as_str()))));
                let collected = Series::new(recorder, families::OF_EVENTS, std::slice::from_ref(&shard));
                EventSeries { collected, rejected: rejected.into() }
            }),
            label,
        }
    }

    fn set(&self, shard: &Shard) {
        self.thread.set(shard);
        let Some(snapshot) = &shard.snapshot else { return };
        self.counters.set(snapshot);
        for mode in STREAMS {
            let stream =
                Stream { counters: *snapshot.counters.stream(mode), lag: snapshot.lag[mode as usize] };
            self.streams[mode as usize].set(&stream);
        }
        self.closed.iter().for_each(|(reason, counter)| counter.absolute(snapshot.counters.closed(*reason)));
        self.fired.iter().for_each(|(limit, counter)| counter.absolute(snapshot.counters.fired(*limit)));
        if let (Some(series), Some(journal)) = (&self.events, &snapshot.journal) {
            let counters = snapshot.counters.ingest;
            series.collected.set(&Collected { counters, journal: journal.stats });
            series.rejected.iter().for_each(|(code, counter)| counter.absolute(counters.rejected(*code)));
        }
    }
}

impl<S> Series<S> {
    fn new(recorder: &PrometheusRecorder, families: &'static [Family<S>], labels: &[Label]) -> Self {
        let sample = |family: &'static Family<S>| match family.value {
            Value::Counter(read) => Sample::Counter(counter(recorder, family.name, labels.to_vec()), read),
            Value::Gauge(read) => Sample::Gauge(gauge(recorder, family.name, labels.to_vec()), read),
        };
        Self(families.iter().map(sample).collect())
    }

    fn set(&self, from: &S) {
        for sample in &self.0 {
            match sample {
                Sample::Counter(counter, read) => counter.absolute(read(from)),
                Sample::Gauge(gauge, read) => gauge.set(read(from)),
            }
        }
    }
}

fn describe_all(recorder: &PrometheusRecorder) {
    fn families<S>(recorder: &PrometheusRecorder, families: &'static [Family<S>]) {
        for Family { name, help, value } in families {
            describe(
                recorder,
                name,
                if matches!(value, Value::Counter(_)) { "counter" } else { "gauge" },
                help,
            );
        }
    }
    families(recorder, families::OF_SHARD);
    families(recorder, families::OF_STREAM);
    families(recorder, families::OF_EVENTS);
    families(recorder, families::OF_THREAD);
    families(recorder, families::OF_PROCESS);
    families::FIXED.iter().for_each(|(name, kind, help)| describe(recorder, name, kind, help));
    for (name, help) in [families::CLOSED, families::FIRED, families::REJECTED] {
        describe(recorder, name, "counter", help);
    }
}

fn describe(recorder: &PrometheusRecorder, name: &'static str, kind: &str, help: &'static str) {
    let (name, help) = (KeyName::from_const_str(name), SharedString::const_str(help));
    match kind {
        "counter" => recorder.describe_counter(name, None, help),
        _ => recorder.describe_gauge(name, None, help),
    }
}

/// The recorder doesn't look at it.
const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

fn counter(recorder: &PrometheusRecorder, name: &'static str, labels: Vec<Label>) -> Counter {
    recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
}

fn gauge(recorder: &PrometheusRecorder, name: &'static str, labels: Vec<Label>) -> Gauge {
    recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |duration| duration.as_secs_f64())
}
