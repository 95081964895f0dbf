//! `/metrics`: what was gathered, in Prometheus' text format.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tickstream_engine::{CloseReason, Counters, Limit, Mode, RejectionCode};
use tickstream_service::metrics::{About, Counter, Label, ProcessMetrics, Registry, Series, Text};
use tickstream_service::otlp::Lost;

use super::ServerInfo;
use super::collect::{Gathered, Shard};
use super::families::{self, Collected, Stream};
use crate::shard::Snapshot;

/// The streams, by the numbers of their counters.
const STREAMS: [Mode; 2] = [Mode::Second, Mode::Minute];

/// Nanoseconds by which the wall clock was set, with the family that tells them.
type ClockSteps = (&'static About, fn(&Counters) -> u64);

const CLOCK_STEPS: [ClockSteps; 2] = [
    (&families::CLOCK_FORWARD, |counters| counters.clock_forward.ns),
    (&families::CLOCK_BACK, |counters| counters.clock_back.ns),
];

/// All series of a server.
pub struct Metrics {
    registry: Registry,
    shards: Vec<ShardSeries>,
    process: ProcessMetrics,
    server: Series<Gathered>,
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
    rejected: Vec<(RejectionCode, Counter)>,
}

impl Metrics {
    /// The series of a server, with those of events, if it collects them.
    pub fn new(info: &ServerInfo) -> Self {
        let registry = Registry::default();
        let (version, losses) = (env!("CARGO_PKG_VERSION"), Some(info.losses.clone()));
        let shards = 0..info.control.shards();
        Self {
            shards: shards.map(|shard| ShardSeries::new(&registry, shard, info.journals.is_some())).collect(),
            process: ProcessMetrics::new(&registry, version, info.started, losses),
            server: registry.series(families::OF_SERVER, &[]),
            spans_lost: (info.spans_lost.clone(), registry.counter(&families::SPANS_DROPPED, vec![])),
            registry,
            turn: Mutex::new(()),
        }
    }

    /// All that was gathered, as text.
    pub fn render(&self, gathered: &Gathered) -> String {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.server.set(gathered);
        self.spans_lost.1.absolute(self.spans_lost.0.spans());
        for (series, shard) in self.shards.iter().zip(&gathered.shards) {
            series.set(shard);
        }
        let mut text = self.others(gathered);
        self.process.set(&gathered.process, &mut text);
        self.registry.render(text)
    }

    /// Families that the registry can't hold.
    fn others(&self, gathered: &Gathered) -> Text {
        let mut text = Text::default();
        let shards = || self.shards.iter().zip(&gathered.shards);
        let family = |text: &mut Text, about: &About| text.family(about.name, about.kind, about.help);

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
        for (about, of) in CLOCK_STEPS {
            family(&mut text, about);
            for (series, shard) in shards() {
                let set =
                    shard.snapshot.as_ref().map(|snapshot| Duration::from_nanos(of(&snapshot.counters)));
                seconds(&mut text, about, &series.label, set);
            }
        }
        text
    }
}

fn seconds(text: &mut Text, about: &About, shard: &str, duration: Option<Duration>) {
    if let Some(duration) = duration {
        text.sample(about.name, &[("shard", shard)], duration.as_secs_f64());
    }
}

impl ShardSeries {
    fn new(registry: &Registry, shard: usize, collects_events: bool) -> Self {
        let label = shard.to_string();
        let shard = Label::new("shard", label.clone());
        let with = |key: &'static str, value: &'static str| vec![shard.clone(), Label::new(key, value)];
        Self {
            counters: registry.series(families::OF_SHARD, std::slice::from_ref(&shard)),
            streams: STREAMS
                .map(|mode| registry.series(families::OF_STREAM, &with("stream", mode.as_str_name()))),
            thread: registry.series(families::OF_THREAD, std::slice::from_ref(&shard)),
            closed: CloseReason::ALL
                .map(|reason| (reason, registry.counter(&families::CLOSED, with("reason", reason.as_str()))))
                .into(),
            fired: Limit::ALL
                .map(|limit| (limit, registry.counter(&families::FIRED, with("limit", limit.as_str()))))
                .into(),
            events: collects_events.then(|| {
                let rejected = RejectionCode::ALL
                    .map(|code| (code, registry.counter(&families::REJECTED, with("code", code.as_str()))));
                let collected = registry.series(families::OF_EVENTS, std::slice::from_ref(&shard));
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
