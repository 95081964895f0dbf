//! History of an hour, so that a fresh page has something to show: totals at every tenth second, in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::report::{Report, ShardReport};

/// Interval of the samples.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Samples that are kept: an hour. Each takes some 500 bytes, and 16 more for each shard.
const SAMPLES_MAX: usize = 360;

/// Totals of all shards at one moment, as the page sums them up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Time, Unix milliseconds.
    pub now_unix_ms: u64,
    /// Connections.
    pub connections: u64,
    /// Connections that lag.
    pub lagging: u64,
    /// Age of the oldest unsent byte, milliseconds.
    pub unsent_ms: u64,
    /// Connections taken since the start.
    pub accepted: u64,
    /// Bytes sent since the start.
    pub bytes_sent: u64,
    /// Ticks delivered since the start, of each stream.
    pub ticks: BTreeMap<String, u64>,
    /// CPU time of the process, milliseconds.
    pub cpu_ms: u64,
    /// CPU time of each shard, milliseconds.
    pub busy_ms: Vec<u64>,
    /// Ticks delivered since the start, of each shard.
    pub shard_ticks: Vec<u64>,
    /// Frames by latency since the start, in the buckets of [`Report::latency_bounds_ms`].
    pub latency: Vec<u64>,
    /// Connections that ended since the start, by reason.
    pub closed: BTreeMap<String, u64>,
    /// Event collection, where there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<EventsSample>,
}

/// Totals of event collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventsSample {
    /// Events stored since the start.
    pub stored: u64,
    /// Events since the start that were known already.
    pub duplicates: u64,
    /// Events rejected since the start.
    pub rejected: u64,
    /// PUBLISHes without a PUBLISH_ACK.
    pub waiting: u64,
    /// Length of the journals, bytes.
    pub disk_bytes: u64,
}

/// The samples of the last hour, as `/history` tells them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryReport {
    /// The process.
    pub pid: u32,
    /// Its start, Unix milliseconds.
    pub started_unix_ms: u64,
    /// Interval of the samples, milliseconds.
    pub interval_ms: u64,
    /// The samples, oldest first.
    pub samples: Vec<Sample>,
}

impl Sample {
    fn of(report: &Report) -> Self {
        let shards = &report.shards;
        let total = |of: fn(&ShardReport) -> u64| shards.iter().map(of).sum::<u64>();
        let (mut ticks, mut closed) = (BTreeMap::new(), BTreeMap::new());
        let mut latency = vec![0; report.latency_bounds_ms.len() + 1];
        for shard in shards {
            for (name, stream) in &shard.streams {
                *ticks.entry(name.clone()).or_default() += stream.ticks_delivered;
            }
            for (reason, count) in &shard.closed {
                *closed.entry(reason.clone()).or_default() += count;
            }
            latency.iter_mut().zip(&shard.latency.buckets).for_each(|(all, one)| *all += one);
        }
        let unsent =
            shards.iter().flat_map(|shard| shard.streams.values()).map(|stream| stream.oldest_unsent_ms);
        let events: Vec<_> = shards.iter().filter_map(|shard| shard.events.as_ref()).collect();
        Self {
            now_unix_ms: report.now_unix_ms,
            connections: total(|shard| shard.connections.into()),
            lagging: total(|shard| shard.lagging.into()),
            unsent_ms: unsent.max().unwrap_or(0),
            accepted: total(|shard| shard.accepted),
            bytes_sent: total(|shard| shard.bytes_sent),
            ticks,
            cpu_ms: report.process.cpu_ms,
            busy_ms: shards.iter().map(|shard| shard.busy_ms).collect(),
            shard_ticks: shards
                .iter()
                .map(|shard| shard.streams.values().map(|stream| stream.ticks_delivered).sum())
                .collect(),
            latency,
            closed,
            events: (!events.is_empty()).then(|| EventsSample {
                stored: events.iter().map(|one| one.accepted).sum(),
                duplicates: events.iter().map(|one| one.duplicates).sum(),
                rejected: events.iter().map(|one| one.rejected_in_all()).sum(),
                waiting: events.iter().map(|one| u64::from(one.in_flight)).sum(),
                disk_bytes: events.iter().map(|one| one.journal.disk_bytes).sum(),
            }),
        }
    }
}

/// The samples that are kept.
#[derive(Debug, Default)]
pub struct History {
    samples: Mutex<VecDeque<Sample>>,
}

impl History {
    /// Takes a sample of a report.
    pub fn take(&self, report: &Report) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(Sample::of(report));
    }

    /// The samples, for a process that began then.
    pub fn report(&self, started_unix_ms: u64) -> HistoryReport {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        HistoryReport {
            pid: std::process::id(),
            started_unix_ms,
            interval_ms: INTERVAL.as_millis() as u64,
            samples: samples.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of two shards, which counted so much each.
    fn report(now_unix_ms: u64, count: u64) -> Report {
        let shard = |number: usize| {
            serde_json::json!({
                "shard": number, "cpu": number, "answered": true, "retired": false, "hung_ms": 0, "open_fds": 0,
                "busy_ms": count, "delayed_ms": 0, "passes": 0, "connections": count, "lagging": 1, "accepted": count,
                "refused": 0, "unauthenticated": 0, "handshakes_full": 0, "handshakes_resumed": 0, "auth_failures": 0,
                "authenticated": 0, "subscribed": 0, "frames_received": 0, "bytes_received": 0, "heartbeats": 0,
                "messages_sent": 0, "bytes_sent": count, "sends": 0, "sends_short": 0, "closed": {"probe": count},
                "limits_fired": {}, "streams": {"SECOND": {
                    "subscribers": 0, "lagging": 0, "oldest_unsent_ms": 10 * number, "frames_published": 0,
                    "ticks_published": 0, "frames_delivered": 0, "ticks_delivered": count, "frames_replayed": 0,
                    "ticks_late": 0, "ticks_skipped": 0,
                }},
                "latency": {"sum_ms": 0.0, "buckets": [count, 0, 1]},
                "ring": {
                    "enters": 0, "submissions": 0, "completions": 0, "accepts_armed": 0, "receives_armed": 0,
                    "buffers_exhausted": 0, "overflows": 0, "accept_errors": 0,
                },
            })
        };
        let report = serde_json::json!({
            "version": "1", "pid": 1, "address": "a", "state": "serving", "healthy": true, "started_unix_ms": 0,
            "now_unix_ms": now_unix_ms, "process": {
                "resident_bytes": 0, "cpu_ms": 7, "threads": 0, "open_fds": 0, "log_lines_lost": 0, "collections": 0,
            },
            "latency_bounds_ms": [1.0, 2.0], "shards": [shard(0), shard(1)], "events": [],
        });
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn a_sample_has_the_sums_of_all_shards() {
        let sample = Sample::of(&report(5, 3));
        assert_eq!((sample.connections, sample.lagging, sample.unsent_ms), (6, 2, 10));
        assert_eq!((sample.ticks["SECOND"], sample.closed["probe"]), (6, 6));
        assert_eq!((sample.busy_ms, sample.shard_ticks), (vec![3, 3], vec![3, 3]));
        assert_eq!((sample.latency, sample.events), (vec![6, 0, 2], None));
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let history = History::default();
        (0..400).for_each(|at| history.take(&report(at, at)));
        let HistoryReport { samples, interval_ms, .. } = history.report(0);
        assert_eq!((samples.len(), samples[0].now_unix_ms, interval_ms), (360, 40, 10_000));
        assert_eq!(samples.last().unwrap().now_unix_ms, 399);
    }
}
