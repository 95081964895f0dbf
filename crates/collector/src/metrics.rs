//! Counters of requests and events, by source; and who sends what.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tickstream_client::events::EventType;
use tickstream_service::metrics::Text;

use crate::{kernel_drops::SocketInode, outcome::Outcome};

/// Names of all sources, as they stand in labels.
const SOURCES: [&str; 15] = [
    "events",
    "otlp",
    "prometheus",
    "elasticsearch",
    "segment",
    "posthog",
    "syslog",
    "relp",
    "fluent",
    "statsd",
    "scrape",
    "file",
    "host",
    "stdin",
    "journald",
];

/// Upper bounds of the histogram of answer times, seconds.
const BOUNDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// Keys of which the last events are known.
const KEYS_MAX: usize = 10_000;

/// Requests of a key of which an event is known.
const LAST_EVENTS_MAX: usize = 10;

/// Counters of one source.
#[derive(Debug, Default)]
struct OfSource {
    requests: AtomicU64,
    accepted: AtomicU64,
    duplicates: AtomicU64,
    rejected: AtomicU64,
    filtered: AtomicU64,
    /// Answers by time, each bucket by itself; the last one is beyond the bounds.
    answers: [AtomicU64; BOUNDS.len() + 1],
    answer_us: AtomicU64,
}

/// All counters.
#[derive(Debug, Default)]
pub struct Metrics {
    sources: [OfSource; SOURCES.len()],
    refusals: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    senders: Mutex<BTreeMap<String, Sender>>,
    /// Events of datagrams that found no room.
    dropped: AtomicU64,
    /// Sockets of datagrams, by source.
    sockets: Mutex<Vec<(&'static str, SocketInode)>>,
}

/// Counters of one source, since the collector's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceCounts {
    /// The source's name.
    pub source: &'static str,
    /// Requests that the servers answered.
    pub requests: u64,
    /// Events that were stored.
    pub accepted: u64,
    /// Events that were stored before.
    pub duplicates: u64,
    /// Events that were rejected for good.
    pub rejected: u64,
    /// Events that rules have dropped.
    pub filtered: u64,
    /// Time until the answers, all together, microseconds.
    pub answer_us: u64,
}

/// Requests that weren't taken for one reason, or not all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusalCount {
    /// The source's name, or the listener's option where no source has seen it.
    pub source: &'static str,
    /// Code of the reason.
    pub reason: &'static str,
    /// Number of requests.
    pub requests: u64,
}

/// Counters of one key, since the collector's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sender {
    /// Events that are on stable storage.
    pub events: u64,
    /// Source of the last ones.
    pub source: &'static str,
    /// Time of the last ones: Unix time, milliseconds.
    pub last_ms: u64,
    /// One event of each of the last requests, the newest first.
    pub last_events: VecDeque<SeenEvent>,
}

/// An event of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SeenEvent {
    /// Unix time of its answer, milliseconds.
    pub time_ms: u64,
    /// The source that took it.
    pub source: &'static str,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Metrics {
    /// A request that has its answer from the servers, after this time.
    pub fn answered(&self, source: &'static str, outcome: &Outcome, after: Duration) {
        let Some(of_source) = self.of(source) else { return };
        let add = |counter: &AtomicU64, count: u64| _ = counter.fetch_add(count, Ordering::Relaxed);
        add(&of_source.requests, 1);
        add(&of_source.accepted, outcome.accepted);
        add(&of_source.duplicates, outcome.duplicates);
        add(&of_source.filtered, outcome.filtered);
        add(
            &of_source.rejected,
            outcome.rejected.iter().filter(|rejection| !rejection.retryable).count() as u64,
        );
        let bucket = BOUNDS.iter().position(|bound| after.as_secs_f64() <= *bound).unwrap_or(BOUNDS.len());
        add(&of_source.answers[bucket], 1);
        add(&of_source.answer_us, after.as_micros() as u64);
    }

    /// The events of a request under a key, and one of them.
    pub fn seen(
        &self,
        key: &str,
        source: &'static str,
        outcome: &Outcome,
        sample: Option<(EventType, String)>,
        now_ms: u64,
    ) {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if senders.len() < KEYS_MAX || senders.contains_key(key) {
            let sender = senders.entry(key.to_owned()).or_default();
            sender.events += outcome.accepted + outcome.duplicates;
            (sender.source, sender.last_ms) = (source, now_ms);
            if let Some((kind, name)) = sample {
                if sender.last_events.len() >= LAST_EVENTS_MAX {
                    sender.last_events.pop_back();
                }
                let kind = kind.as_str_name().trim_start_matches("EVENT_TYPE_").to_ascii_lowercase();
                sender.last_events.push_front(SeenEvent { time_ms: now_ms, source, kind, name });
            }
        }
    }

    /// A request that wasn't taken, or not all of it.
    pub fn refused(&self, source: &'static str, code: &'static str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry((source, code)).or_default() += 1;
    }

    /// Events that came by a datagram and found no room.
    pub fn drop_events(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// All events that came by datagrams and found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Tells of datagrams that the kernel drops before they are read from this socket.
    pub fn watch_socket(&self, source: &'static str, socket: SocketInode) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).push((source, socket));
    }

    /// Datagrams that the kernel has dropped, by source.
    pub fn dropped_by_kernel(&self) -> BTreeMap<&'static str, u64> {
        let mut dropped = BTreeMap::new();
        for (source, socket) in self.sockets.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *dropped.entry(*source).or_default() += socket.drops();
        }
        dropped
    }

    /// Counters of the sources that have had a request.
    pub fn source_counts(&self) -> Vec<SourceCounts> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = SOURCES.into_iter().zip(&self.sources).map(|(source, of)| SourceCounts {
            source,
            requests: load(&of.requests),
            accepted: load(&of.accepted),
            duplicates: load(&of.duplicates),
            rejected: load(&of.rejected),
            filtered: load(&of.filtered),
            answer_us: load(&of.answer_us),
        });
        counts.filter(|counts| counts.requests > 0).collect()
    }

    /// Refusals by source and reason.
    pub fn refusal_counts(&self) -> Vec<RefusalCount> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let counts =
            refusals.iter().map(|(&(source, reason), &requests)| RefusalCount { source, reason, requests });
        counts.collect()
    }

    /// The keys that have sent, and what.
    pub fn senders(&self) -> BTreeMap<String, Sender> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Appends all of them.
    pub fn write(&self, text: &mut Text) {
        type Read = fn(&OfSource) -> &AtomicU64;
        let counters: [(&str, &str, Read); 5] = [
            ("tickstream_collector_events_filtered_total", "Events that rules have dropped.", |of| {
                &of.filtered
            }),
            ("tickstream_collector_requests_total", "Requests that the servers answered.", |of| &of.requests),
            ("tickstream_collector_events_accepted_total", "Events that were stored.", |of| &of.accepted),
            ("tickstream_collector_events_duplicate_total", "Events that were stored before.", |of| {
                &of.duplicates
            }),
            ("tickstream_collector_events_rejected_total", "Events that were rejected for good.", |of| {
                &of.rejected
            }),
        ];
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (name, help, read) in counters {
            text.family(name, "counter", help);
            for (source, of_source) in SOURCES.into_iter().zip(&self.sources) {
                text.sample(name, &[("source", source)], load(read(of_source)));
            }
        }
        let name = "tickstream_collector_answer_seconds";
        text.family(name, "histogram", "Time from a decoded request to the servers' answer.");
        for (source, of_source) in
            SOURCES.into_iter().zip(&self.sources).filter(|(_, of)| load(&of.requests) > 0)
        {
            let bounds = BOUNDS.into_iter().map(Some).chain([None]);
            let buckets = bounds.zip(of_source.answers.iter().map(load));
            text.histogram(name, &[("source", source)], buckets, load(&of_source.answer_us) as f64 / 1e6);
        }
        let name = "tickstream_collector_refusals_total";
        text.family(name, "counter", "Requests that weren't taken, or not all of them, by reason.");
        for RefusalCount { source, reason, requests } in self.refusal_counts() {
            text.sample(name, &[("source", source), ("reason", reason)], requests);
        }
        let name = "tickstream_collector_kernel_drops_total";
        text.family(name, "counter", "Datagrams that the kernel has dropped: the socket's buffer was full.");
        for (source, count) in self.dropped_by_kernel() {
            text.sample(name, &[("source", source)], count);
        }
    }

    fn of(&self, source: &str) -> Option<&OfSource> {
        SOURCES.iter().position(|known| *known == source).map(|at| &self.sources[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Rejection;

    #[test]
    fn answers_are_counted_by_source_and_key() {
        let metrics = Metrics::default();
        let outcome = Outcome {
            accepted: 3,
            duplicates: 1,
            rejected: vec![Rejection::last(0, "TOO_OLD", "")],
            ..Outcome::default()
        };
        metrics.answered("otlp", &outcome, Duration::from_millis(3));
        for index in 0..20 {
            let sample = Some((EventType::TraceSpan, format!("GET /{index}")));
            metrics.seen("backend", "otlp", &outcome, sample, index);
        }
        metrics.refused("otlp", "full");
        let mut text = Text::default();
        metrics.write(&mut text);
        let text = text.merged_with("");
        for line in [
            "tickstream_collector_events_accepted_total{source=\"otlp\"} 3",
            "tickstream_collector_events_rejected_total{source=\"otlp\"} 1",
            "tickstream_collector_answer_seconds_bucket{source=\"otlp\",le=\"0.005\"} 1",
            "tickstream_collector_refusals_total{source=\"otlp\",reason=\"full\"} 1",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let counts = metrics.source_counts();
        assert_eq!((counts.len(), counts[0].source, counts[0].answer_us), (1, "otlp", 3000));
        let sender = &metrics.senders()["backend"];
        assert_eq!((sender.events, sender.source, sender.last_ms), (80, "otlp", 19));
        assert_eq!((sender.last_events.len(), &sender.last_events[0].name[..]), (10, "GET /19"));
        assert_eq!(sender.last_events[0].kind, "trace_span");
    }

    #[test]
    fn every_source_has_its_counters() {
        let metrics = Metrics::default();
        let of_routes = crate::routes::ROUTES.iter().map(|route| route.source.name());
        for source in of_routes
            .chain(["syslog", "relp", "fluent", "statsd", "scrape", "file", "host", "stdin", "journald"])
        {
            assert!(metrics.of(source).is_some(), "{source}");
        }
    }
}
