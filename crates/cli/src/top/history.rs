//! The endpoint's answers over time, and how they differ.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tickstream_server::admin::report::{CollectionReport, Report, ShardReport, StreamReport};

/// The streams, as reports name them.
pub const STREAMS: [&str; 2] = ["SECOND", "MINUTE"];
/// Rates and percentiles are those of so long.
const MEAN: Duration = Duration::from_secs(10);
/// Age of figures that are called recent.
const RECENT: Duration = Duration::from_secs(120);
/// Answers further apart aren't compared, unless that is how often is asked.
const GAP: Duration = Duration::from_secs(5);
/// Answers that are kept: as many as a wide terminal has columns.
const SAMPLES_MAX: usize = 240;

/// The totals of one answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// When, Unix milliseconds, by the server's clock.
    pub at_ms: u64,
    /// Since the sample before; 0 if they can't be compared.
    pub span_ms: u64,
    /// Owner of the counters: process and start.
    run: (u32, u64),
    /// Taken at any time, so that what follows isn't compared with it.
    is_loose: bool,
    pub connections: u64,
    pub lagging: u64,
    pub unsent_ms: u64,
    pub accepted: u64,
    pub ended: u64,
    pub bytes: u64,
    pub ticks: u64,
    pub cpu_ms: u64,
    pub shard_ticks: Vec<u64>,
    pub shard_busy_ms: Vec<u64>,
    pub stream_ticks: [u64; 2],
    pub closed: BTreeMap<String, u64>,
    pub fired: BTreeMap<String, u64>,
    /// If events are collected.
    pub events: Option<EventTotals>,
    latencies: Vec<u64>,
}

/// Totals of event collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventTotals {
    pub accepted: u64,
    pub rejected: u64,
    pub duplicates: u64,
    /// PUBLISHes without an acknowledgement.
    pub unacknowledged: u64,
    pub disk_bytes: u64,
    pub segments: u64,
}

/// Answers, oldest first. There is always one.
#[derive(Debug)]
pub struct History {
    interval: Duration,
    samples: VecDeque<Sample>,
    report: Option<Report>,
}

/// Two samples to compare; the same one twice if there is none before.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub from: &'a Sample,
    pub to: &'a Sample,
}

impl History {
    /// For answers that come so often.
    pub fn new(interval: Duration) -> Self {
        Self { interval, samples: VecDeque::new(), report: None }
    }

    /// Adds an answer. A loose one came at any time of the interval: nothing is compared with it.
    pub fn take(&mut self, report: Report, is_loose: bool) {
        let mut sample = Sample::new(&report, is_loose);
        self.report = Some(report);
        if self.samples.back().is_some_and(|last| last.run == sample.run && last.at_ms >= sample.at_ms) {
            // Another's answer, told again.
            return;
        }
        if self.samples.back().is_some_and(|last| last.is_loose) {
            self.samples.pop_back();
        }
        if let Some(last) = self.samples.back().filter(|last| last.run == sample.run) {
            let span_ms = sample.at_ms - last.at_ms;
            let gap = GAP.max(self.interval * 3).as_millis() as u64;
            sample.span_ms = if span_ms < gap { span_ms } else { 0 };
        }
        self.samples.push_back(sample);
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// The last answer.
    ///
    /// # Panics
    /// If there was none.
    pub fn report(&self) -> &Report {
        self.report.as_ref().expect("an answer was taken")
    }

    /// The totals of the last answer.
    ///
    /// # Panics
    /// If there was none.
    pub fn newest(&self) -> &Sample {
        self.samples.back().expect("an answer was taken")
    }

    /// Changes in the last ten seconds, or the last interval.
    pub fn lately(&self) -> Change<'_> {
        self.change(MEAN)
    }

    /// Changes in the last two minutes.
    pub fn recently(&self) -> Change<'_> {
        self.change(RECENT)
    }

    fn change(&self, within: Duration) -> Change<'_> {
        let within_ms = within.max(self.interval).as_millis() as u64 + 500;
        let to = self.newest();
        let mut from = self.samples.len() - 1;
        while from > 0
            && self.samples[from].span_ms > 0
            && to.at_ms - self.samples[from - 1].at_ms <= within_ms
        {
            from -= 1;
        }
        Change { from: &self.samples[from], to }
    }

    /// Values of `of` for the last answers, at most `most`, oldest first; `None` where it can't be compared.
    pub fn series(&self, most: usize, of: impl Fn(Change<'_>) -> Option<f64>) -> Vec<Option<f64>> {
        let first = self.samples.len().saturating_sub(most);
        let change = |at: usize| {
            let to = &self.samples[at];
            let from =
                at.checked_sub(1).filter(|_| to.span_ms > 0).map_or(to, |before| &self.samples[before]);
            Change { from, to }
        };
        (first..self.samples.len()).map(|at| of(change(at))).collect()
    }

    /// The frames of each of the last answers by latency, at most `most`, oldest first.
    pub fn frames(&self, most: usize) -> Vec<Vec<u64>> {
        let first = self.samples.len().saturating_sub(most);
        (first..self.samples.len())
            .map(|at| match at.checked_sub(1).filter(|_| self.samples[at].span_ms > 0) {
                Some(before) => Change { from: &self.samples[before], to: &self.samples[at] }.frames(),
                None => Vec::new(),
            })
            .collect()
    }
}

impl Sample {
    fn new(report: &Report, is_loose: bool) -> Self {
        let shards = &report.shards;
        let total = |of: fn(&ShardReport) -> u64| shards.iter().map(of).sum();
        let stream_ticks = |stream| of_stream(shards, stream).map(|stream| stream.ticks_delivered).sum();
        let closed = merged(shards.iter().map(|shard| &shard.closed));
        let mut latencies = vec![0; report.latency_bounds_ms.len() + 1];
        for (total, frames) in shards.iter().flat_map(|shard| shard.latency.buckets.iter().enumerate()) {
            // A server that counts in more buckets than it has bounds for would be at fault; it isn't worth a panic.
            if let Some(total) = latencies.get_mut(total) {
                *total += frames;
            }
        }
        Self {
            at_ms: report.now_unix_ms,
            span_ms: 0,
            run: (report.pid, report.started_unix_ms),
            is_loose,
            connections: total(|shard| shard.connections.into()),
            lagging: total(|shard| shard.lagging.into()),
            unsent_ms: shards
                .iter()
                .flat_map(|shard| shard.streams.values())
                .map(|s| s.oldest_unsent_ms)
                .max()
                .unwrap_or(0),
            accepted: total(|shard| shard.accepted),
            ended: closed.values().sum(),
            bytes: total(|shard| shard.bytes_sent),
            ticks: total(ticks_of),
            cpu_ms: report.process.cpu_ms,
            shard_ticks: shards.iter().map(ticks_of).collect(),
            shard_busy_ms: shards.iter().map(|shard| shard.busy_ms).collect(),
            stream_ticks: STREAMS.map(stream_ticks),
            closed,
            fired: merged(shards.iter().map(|shard| &shard.limits_fired)),
            events: shards
                .iter()
                .filter_map(|shard| shard.events.as_ref())
                .fold(None, |totals, events| Some(totals.unwrap_or_default().with(events))),
            latencies,
        }
    }
}

impl EventTotals {
    fn with(self, events: &CollectionReport) -> Self {
        Self {
            accepted: self.accepted + events.accepted,
            rejected: self.rejected + events.rejected_in_all(),
            duplicates: self.duplicates + events.duplicates,
            unacknowledged: self.unacknowledged + u64::from(events.in_flight),
            disk_bytes: self.disk_bytes + events.journal.disk_bytes,
            segments: self.segments + events.journal.segments as u64,
        }
    }
}

impl Change<'_> {
    /// Between the two, seconds; `None` if they are the same one.
    pub fn seconds(&self) -> Option<f64> {
        Some((self.to.at_ms - self.from.at_ms) as f64 / 1e3).filter(|seconds| *seconds > 0.0)
    }

    /// Growth of a total, per second.
    pub fn rate(&self, of: impl Fn(&Sample) -> u64) -> Option<f64> {
        Some(of(self.to).saturating_sub(of(self.from)) as f64 / self.seconds()?)
    }

    /// Part of a CPU that each shard's loop took.
    pub fn busy(&self) -> Option<Vec<f64>> {
        let seconds = self.seconds()?;
        let both = self.to.shard_busy_ms.iter().zip(&self.from.shard_busy_ms);
        Some(both.map(|(to, from)| to.saturating_sub(*from) as f64 / 1e3 / seconds).collect())
    }

    /// Frames that were sent, by latency.
    pub fn frames(&self) -> Vec<u64> {
        let both = self.to.latencies.iter().zip(&self.from.latencies);
        both.map(|(to, from)| to.saturating_sub(*from)).collect()
    }
}

/// One stream of each shard.
pub fn of_stream<'a>(shards: &'a [ShardReport], stream: &str) -> impl Iterator<Item = &'a StreamReport> {
    shards.iter().filter_map(move |shard| shard.streams.get(stream))
}

/// A quantile of frames by latency, milliseconds, linear within a bucket, as Prometheus reads them; `None` if there are
/// no frames.
pub fn quantile(frames: &[u64], bounds_ms: &[f64], quantile: f64) -> Option<f64> {
    let rank = quantile * frames.iter().sum::<u64>() as f64;
    if rank == 0.0 {
        return None;
    }
    let (mut below, mut from_ms) = (0.0, 0.0);
    for (frames, bound_ms) in frames.iter().zip(bounds_ms) {
        let frames = *frames as f64;
        if below + frames >= rank {
            return Some(from_ms + (bound_ms - from_ms) * (rank - below) / frames);
        }
        (below, from_ms) = (below + frames, *bound_ms);
    }
    bounds_ms.last().copied()
}

fn ticks_of(shard: &ShardReport) -> u64 {
    shard.streams.values().map(|stream| stream.ticks_delivered).sum()
}

fn merged<'a>(maps: impl Iterator<Item = &'a BTreeMap<String, u64>>) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (name, count) in maps.flatten() {
        *all.entry(name.clone()).or_default() += count;
    }
    all
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A report of two shards that have sent `ticks` ticks each at that second.
    pub fn report(second: u64, ticks: u64) -> Report {
        let bounds = [0.1, 1.0, 10.0];
        let stream = serde_json::json!({
            "subscribers": 1_000, "lagging": 2, "oldest_unsent_ms": 1_500, "frames_published": 1, "ticks_published": 1,
            "frames_delivered": ticks, "ticks_delivered": ticks, "frames_replayed": 3, "ticks_late": 0, "ticks_skipped": 0,
        });
        let idle = serde_json::to_value(StreamReport::default()).unwrap();
        let shard = |shard: u64| {
            serde_json::json!({
                "shard": shard, "cpu": shard, "answered": true, "retired": false, "hung_ms": 0, "open_fds": 9,
                "busy_ms": second * 100 * (shard + 1), "delayed_ms": 0, "passes": 1, "connections": 1_000 + shard,
                "lagging": 2, "unauthenticated": 1, "accepted": 1_200, "refused": 0, "handshakes_full": 0, "handshakes_resumed": 0, "auth_failures": 40,
                "authenticated": 1, "subscribed": 1,
                "frames_received": 1, "bytes_received": 1, "heartbeats": 1, "messages_sent": ticks,
                "bytes_sent": ticks * 30, "sends": ticks, "sends_short": 0,
                "closed": {"auth_failed": 40 + second, "peer_closed": 200}, "limits_fired": {"auth_failures": 7},
                "streams": {"SECOND": stream, "MINUTE": idle},
                "latency": {"sum_ms": 1.0, "buckets": [0, ticks, 0, 0]},
                "ring": {"enters": 1, "submissions": 1, "completions": 1, "accepts_armed": 1, "receives_armed": 1,
                         "buffers_exhausted": 0, "overflows": 0, "accept_errors": 0},
            })
        };
        serde_json::from_value(serde_json::json!({
            "version": "1.2.3", "pid": 4_711, "address": "127.0.0.1:7400", "state": "serving", "healthy": true,
            "started_unix_ms": 1_000_000, "now_unix_ms": 1_000_000 + second * 1_000,
            "process": {"resident_bytes": 22_500_000, "cpu_ms": second * 300, "threads": 4, "open_fds": 9,
                        "log_lines_lost": 0, "collections": 1},
            "latency_bounds_ms": bounds, "shards": [shard(0), shard(1)],
            "events": [{"unix_ms": 1_000_000 + second * 1_000 - 3_000, "id": "1-77", "peer": "[2001:db8::1]:50000",
                        "reason": "auth_failed", "detail": "user name or \u{1b}[31mpassword is wrong", "mode": null,
                        "open_ms": 12, "unsent_ms": 0}],
        }))
        .unwrap()
    }

    #[test]
    fn rates_are_those_of_ten_seconds_and_of_one_process() {
        let mut history = History::new(Duration::from_secs(1));
        history.take(report(100, 1_000), true);
        assert_eq!(history.lately().rate(|sample| sample.ticks), None);
        for second in 101..=130 {
            // Twice as many a second in the last ten seconds.
            history.take(report(second, 1_000 * second + 1_000 * second.saturating_sub(120)), false);
        }
        assert_eq!(history.lately().rate(|sample| sample.ticks), Some(4_000.0));
        assert_eq!(history.lately().busy(), Some(vec![0.1, 0.2]));
        assert_eq!(history.recently().seconds(), Some(29.0), "the loose one isn't compared with");
        assert_eq!(history.series(3, |change| change.rate(|sample| sample.ticks)), [Some(4_000.0); 3]);
        assert_eq!(history.series(100, |change| change.rate(|sample| sample.ticks))[0], None);
        let again = history.newest().clone();
        history.take(report(130, 0), false);
        assert_eq!(*history.newest(), again, "another's answer, told again");
        let restarted = Report { pid: 1, ..report(131, 5) };
        history.take(restarted, false);
        assert_eq!(history.lately().rate(|sample| sample.ticks), None);
        assert_eq!(history.frames(2)[1], Vec::<u64>::new());
    }

    #[test]
    fn answers_after_a_gap_are_compared_with_none() {
        let mut history = History::new(Duration::from_secs(1));
        history.take(report(100, 1_000), false);
        history.take(report(106, 2_000), false);
        assert_eq!(history.lately().seconds(), None);
        let mut seldom = History::new(Duration::from_secs(30));
        seldom.take(report(100, 1_000), false);
        seldom.take(report(130, 2_000), false);
        assert_eq!(seldom.lately().seconds(), Some(30.0));
    }

    #[test]
    fn quantiles_are_linear_within_a_bucket() {
        let check = |frames: &[u64], at: f64, expected: Option<f64>| {
            assert_eq!(quantile(frames, &[1.0, 2.0, 4.0], at), expected, "{frames:?} {at}");
        };
        check(&[0, 0, 0, 0], 0.5, None);
        check(&[10, 0, 0, 0], 0.5, Some(0.5));
        check(&[0, 10, 10, 0], 0.5, Some(2.0));
        check(&[0, 10, 10, 0], 0.75, Some(3.0));
        check(&[0, 0, 0, 5], 0.5, Some(4.0));
    }
}
