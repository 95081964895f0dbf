//! Every metric: its name, what it means, and where its value is. docs/metrics.md lists the same; a test compares.

use tickstream_engine::{CloseReason, IngestCounters, Latencies, StreamCounters};
use tickstream_journal::Stats;
use tickstream_service::metrics::{About, Family, counter, gauge};

use super::collect::{Gathered, Shard};
use crate::shard::{Lag, Snapshot};

/// Counters of a shard. Label: `shard`.
pub const OF_SHARD: &[Family<Snapshot>] = &[
    gauge(
        "active_connections",
        |s| s.counters.connections.into(),
        "Connections, those that are being closed included.",
    ),
    counter("messages_sent_total", |s| s.counters.frames_sent, "Frames of every type that were sent whole."),
    counter("bytes_sent_total", |s| s.counters.bytes_sent, "Bytes that sockets took."),
    counter(
        "heartbeat_timeouts_total",
        |s| s.counters.closed(CloseReason::HeartbeatTimeout),
        "Connections closed because no HEARTBEAT came in time.",
    ),
    counter("tickstream_connections_accepted_total", |s| s.counters.accepted, "Connections taken."),
    counter(
        "tickstream_connections_refused_total",
        |s| s.counters.refused,
        "Connections refused at a limit or in a drain.",
    ),
    counter("tickstream_auth_successes_total", |s| s.counters.authenticated, "AUTHs accepted."),
    counter("tickstream_auth_failures_total", |s| s.counters.auth_failures, "AUTHs with wrong credentials."),
    counter(
        "tickstream_tls_handshakes_full_total",
        |s| s.counters.handshakes_full,
        "TLS handshakes completed in full.",
    ),
    counter(
        "tickstream_tls_handshakes_resumed_total",
        |s| s.counters.handshakes_resumed,
        "TLS handshakes that resumed a session.",
    ),
    gauge(
        "tickstream_connections_unauthenticated",
        |s| s.counters.unauthenticated.into(),
        "Connections that haven't authenticated, those in a handshake included.",
    ),
    counter("tickstream_subscriptions_total", |s| s.counters.subscribed, "SUBSCRIBEs accepted."),
    counter("tickstream_frames_received_total", |s| s.counters.frames_received, "Frames received."),
    counter("tickstream_bytes_received_total", |s| s.counters.bytes_received, "Bytes received."),
    counter("tickstream_heartbeats_received_total", |s| s.counters.heartbeats, "HEARTBEATs received."),
    counter("tickstream_sends_total", |s| s.counters.sends, "Sends handed to sockets."),
    counter(
        "tickstream_sends_short_total",
        |s| s.counters.sends_short,
        "Sends that the socket didn't take whole.",
    ),
    gauge(
        "tickstream_connections_lagging",
        |s| s.counters.lagging.into(),
        "Connections that wait for their socket to take more.",
    ),
    counter(
        "tickstream_clock_steps_forward_total",
        |s| s.counters.clock_forward.steps,
        "Times that the wall clock was set forward by more than half a second.",
    ),
    counter(
        "tickstream_clock_steps_back_total",
        |s| s.counters.clock_back.steps,
        "Times that the wall clock was set back by more than half a second.",
    ),
    counter("tickstream_ring_enters_total", |s| s.ring.enters, "Calls of io_uring_enter."),
    counter(
        "tickstream_ring_submissions_total",
        |s| s.ring.submissions,
        "Submissions handed to the socket ring.",
    ),
    counter(
        "tickstream_ring_completions_total",
        |s| s.ring.completions,
        "Completions taken from the socket ring.",
    ),
    counter(
        "tickstream_ring_accepts_rearmed_total",
        |s| s.ring.accepts_rearmed,
        "Times that accepting had ended and was begun again.",
    ),
    counter(
        "tickstream_ring_receives_rearmed_total",
        |s| s.ring.receives_armed.saturating_sub(s.counters.accepted),
        "Times that receiving from a connection had ended and was begun again.",
    ),
    counter(
        "tickstream_ring_buffers_exhausted_total",
        |s| s.ring.buffers_exhausted,
        "Receives that ended because no provided buffer was left.",
    ),
    counter(
        "tickstream_ring_overflows_total",
        |s| s.ring.overflows,
        "Calls of io_uring_enter that left completions outside a full queue.",
    ),
    counter("tickstream_accept_errors_total", |s| s.ring.accept_errors, "Accepts that failed."),
    counter("tickstream_loop_passes_total", |s| s.passes, "Passes of the shard's loop."),
];

/// Counters of one of a shard's streams.
pub struct Stream {
    pub counters: StreamCounters,
    pub lag: Lag,
}

/// Labels: `shard` and `stream`, which is SECOND or MINUTE.
pub const OF_STREAM: &[Family<Stream>] = &[
    gauge("tickstream_subscribers", |s| s.counters.subscribers.into(), "Subscribers."),
    gauge(
        "tickstream_subscribers_lagging",
        |s| s.lag.subscribers.into(),
        "Subscribers whose socket took no more when it was last asked.",
    ),
    gauge(
        "tickstream_oldest_unsent_seconds",
        |s| s.lag.oldest_ms as f64 / 1e3,
        "How long the oldest unsent byte of a lagging subscriber has waited.",
    ),
    counter(
        "tickstream_frames_published_total",
        |s| s.counters.batches,
        "Batches sealed for the stream's subscribers.",
    ),
    counter(
        "tickstream_ticks_published_total",
        |s| s.counters.ticks,
        "Ticks in batches sealed for the stream's subscribers.",
    ),
    counter(
        "tickstream_frames_delivered_total",
        |s| s.counters.frames_sent,
        "DATA_BATCH frames sent whole, to each subscriber, replays included.",
    ),
    counter(
        "tickstream_ticks_delivered_total",
        |s| s.counters.ticks_sent,
        "Ticks in DATA_BATCH frames sent whole, to each subscriber, replays included.",
    ),
    counter(
        "tickstream_frames_replayed_total",
        |s| s.counters.replays,
        "Frames sealed for a single subscriber that resumed or was behind.",
    ),
    counter(
        "tickstream_ticks_late_total",
        |s| s.counters.ticks_late,
        "Ticks in batches that were sealed over 50 ms after they were due.",
    ),
    counter(
        "tickstream_ticks_skipped_total",
        |s| s.counters.ticks_skipped,
        "Ticks left out because the clock was set or the shard stood still for too long.",
    ),
];

/// Counters of a shard's collected events, with their series' labels.
pub struct Collected {
    pub counters: IngestCounters,
    pub journal: Stats,
}

/// Only where events are collected. Label: `shard`.
pub const OF_EVENTS: &[Family<Collected>] = &[
    counter("tickstream_event_publishes_total", |e| e.counters.publishes, "PUBLISHes received."),
    counter(
        "tickstream_event_publish_bytes_total",
        |e| e.counters.bytes,
        "Bytes of the payloads of PUBLISHes, as they came.",
    ),
    counter(
        "tickstream_events_accepted_total",
        |e| e.counters.accepted,
        "Events that are on stable storage.",
    ),
    counter(
        "tickstream_events_duplicate_total",
        |e| e.counters.duplicates,
        "Events that were known already.",
    ),
    counter(
        "tickstream_event_dead_letters_total",
        |e| e.counters.dead_letters,
        "Rejected events that were stored with their reason.",
    ),
    counter(
        "tickstream_event_acks_throttled_total",
        |e| e.counters.throttled,
        "PUBLISH_ACKs that ask the client to wait.",
    ),
    counter("tickstream_event_records_total", |e| e.counters.records, "Records made of PUBLISHes."),
    counter(
        "tickstream_event_record_bytes_total",
        |e| e.counters.record_bytes,
        "Bytes of the records' payloads.",
    ),
    counter(
        "tickstream_event_records_refused_total",
        |e| e.counters.records_refused,
        "Records that weren't stored, as on a full disk: their events got a retryable rejection.",
    ),
    gauge(
        "tickstream_event_publishes_in_flight",
        |e| e.counters.in_flight.into(),
        "PUBLISHes of connections that are there, without a PUBLISH_ACK.",
    ),
    gauge(
        "tickstream_event_records_outstanding",
        |e| e.counters.records_outstanding.into(),
        "Records that are neither stored nor refused yet.",
    ),
    gauge(
        "tickstream_event_queue_bytes",
        |e| e.counters.queue_bytes as f64,
        "Bytes of records that the journal hasn't taken yet.",
    ),
    gauge(
        "tickstream_event_partial_bytes",
        |e| e.counters.partial_bytes as f64,
        "Bytes of PUBLISHes of which only a part has come.",
    ),
    gauge(
        "tickstream_journal_first_sequence",
        |e| e.journal.first_sequence as f64,
        "Sequence of the oldest record that is kept.",
    ),
    gauge(
        "tickstream_journal_appended_sequence",
        |e| e.journal.progress.appended() as f64,
        "Sequence of the last record that the journal took.",
    ),
    gauge(
        "tickstream_journal_written_sequence",
        |e| e.journal.progress.written() as f64,
        "Sequence of the last record that was written.",
    ),
    gauge(
        "tickstream_journal_synced_sequence",
        |e| e.journal.progress.synced() as f64,
        "Sequence of the last record that is on stable storage.",
    ),
    gauge(
        "tickstream_journal_acknowledged_sequence",
        |e| e.journal.progress.acknowledged() as f64,
        "Sequence of the last record whose PUBLISH was acknowledged.",
    ),
    counter(
        "tickstream_journal_commit_groups_total",
        |e| e.journal.groups,
        "Writes that were brought to stable storage, commit markers included.",
    ),
    counter(
        "tickstream_journal_commit_markers_total",
        |e| e.journal.markers,
        "Of these, those without a record.",
    ),
    counter(
        "tickstream_journal_written_bytes_total",
        |e| e.journal.written_bytes,
        "Bytes of these, padding included.",
    ),
    counter(
        "tickstream_journal_record_bytes_total",
        |e| e.journal.record_bytes,
        "Bytes of the records in them.",
    ),
    gauge("tickstream_journal_segments", |e| e.journal.segments as f64, "Segments with records."),
    counter(
        "tickstream_journal_segments_removed_total",
        |e| e.journal.removed,
        "Segments that retention removed.",
    ),
    counter(
        "tickstream_journal_removals_failed_total",
        |e| e.journal.removals_failed,
        "Removals of segments that failed; they are tried again.",
    ),
    gauge(
        "tickstream_journal_loaded_sequence",
        |e| e.journal.loaded.unwrap_or(0) as f64,
        "Sequence of the last record that all consumers of the journal have loaded; 0 without consumers.",
    ),
    gauge(
        "tickstream_journal_unloaded_bytes",
        |e| e.journal.unloaded_bytes as f64,
        "Bytes of segments with records that a consumer hasn't loaded: they aren't removed for journal_max_mib.",
    ),
    gauge(
        "tickstream_journal_unloaded_since_seconds",
        |e| e.journal.unloaded_since_ns.unwrap_or(0) as f64 / 1e9,
        "When the oldest segment with records that a consumer hasn't loaded was begun, Unix time; 0 for none.",
    ),
    gauge(
        "tickstream_journal_held",
        |e| f64::from(u8::from(e.journal.held_since_ns.is_some())),
        "1 while records that a consumer hasn't loaded take all that the journal may: new ones are refused.",
    ),
    counter(
        "tickstream_journal_segments_removed_unloaded_total",
        |e| e.journal.removed_unloaded,
        "Segments that were removed for their age although a consumer hadn't loaded them.",
    ),
    gauge(
        "tickstream_journal_disk_bytes",
        |e| e.journal.disk_bytes as f64,
        "Length of the journal's files, that of the next segment included.",
    ),
    gauge(
        "tickstream_journal_waiting_bytes",
        |e| e.journal.waiting_bytes as f64,
        "Memory of records that aren't on stable storage yet.",
    ),
    gauge(
        "tickstream_journal_waiting_bytes_max",
        |e| e.journal.waiting_bytes_max as f64,
        "The most that it may be; clients are asked to wait from half of it on.",
    ),
    gauge(
        "tickstream_journal_full",
        |e| f64::from(u8::from(e.journal.full_since_ns.is_some())),
        "1 while the disk has no room for the next segment: events are refused once the current one is full.",
    ),
];

/// Facts of a shard that are known even if it doesn't answer. Label: `shard`.
pub const OF_THREAD: &[Family<Shard>] = &[
    gauge(
        "tickstream_shard_up",
        |s| f64::from(u8::from(s.answered)),
        "1 if the shard answered when it was asked for its counters, else 0: then they are its last ones.",
    ),
    gauge(
        "tickstream_shard_open_fds",
        |s| s.thread.open_fds.unwrap_or_default() as f64,
        "Open descriptors of the shard, which has a table of its own.",
    ),
];

/// Without labels, and beside those of every process.
pub const OF_SERVER: &[Family<Gathered>] = &[counter(
    "tickstream_admin_collections_total",
    |g| g.collections,
    "Times that the shards were asked for their counters.",
)];

/// Without labels.
pub const SPANS_DROPPED: About = about(
    "tickstream_otlp_spans_dropped_total",
    "counter",
    "Spans that were lost: more ended than were exported, or the endpoint didn't take them.",
);

/// Connections closed, by shard and by reason.
pub const CLOSED: About =
    about("tickstream_connections_closed_total", "counter", "Connections that ended, by reason.");
/// Limits that fired, by shard and by limit.
pub const FIRED: About = about(
    "tickstream_limits_fired_total",
    "counter",
    "How often each limit refused, delayed or ended something.",
);

/// Events that were rejected, by shard and by code; only where events are collected.
pub const REJECTED: About = about(
    "tickstream_events_rejected_total",
    "counter",
    "Events that were rejected, by the code of their rejection.",
);

/// See the constants of this type below.
const fn about(name: &'static str, kind: &'static str, help: &'static str) -> About {
    About { name, kind, help }
}

/// Label: `shard`.
pub const LATENCY: About = about(
    "publish_latency_ms",
    "histogram",
    "Milliseconds from when a live frame's first tick was due until its socket had taken the frame.",
);
/// Labels: `shard`, `stream`.
pub const BATCH_TICKS: About =
    about("tickstream_batch_ticks", "histogram", "Ticks of a batch sealed for the stream's subscribers.");
/// Label: `shard`.
pub const BUSY: About = about(
    "tickstream_loop_busy_seconds_total",
    "counter",
    "CPU time of the shard's thread, the kernel's work for it included: its rate is how busy the loop is.",
);
/// Label: `shard`.
pub const DELAYED: About = about(
    "tickstream_loop_delayed_seconds_total",
    "counter",
    "Time that the shard's thread was ready to run, but something else had its CPU.",
);
/// Label: `shard`.
pub const CLOCK_FORWARD: About = about(
    "tickstream_clock_forward_seconds_total",
    "counter",
    "Time by which the wall clock was set forward in those steps.",
);
/// Label: `shard`.
pub const CLOCK_BACK: About = about(
    "tickstream_clock_back_seconds_total",
    "counter",
    "Time by which the wall clock was set back in those steps.",
);
/// Label: `shard`. Only where events are collected.
pub const SYNC: About = about(
    "tickstream_journal_sync_seconds",
    "histogram",
    "Seconds from when a commit group was handed to the kernel until it was on stable storage.",
);

/// Upper bounds of the buckets of [`LATENCY`] and [`SYNC`], nanoseconds. Each is one of [`Latencies::BOUNDS_NS`], so that folding is
/// exact.
pub const LATENCY_BOUNDS_NS: [u64; 14] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
];

const _: () = {
    let mut index = 0;
    while index < LATENCY_BOUNDS_NS.len() {
        let mut fine = 0;
        // Runs out of bounds, and so fails to compile, if there is none.
        while Latencies::BOUNDS_NS[fine] != LATENCY_BOUNDS_NS[index] {
            fine += 1;
        }
        index += 1;
    }
};

/// Nanoseconds of what [`LATENCY`] counts in.
pub const MILLISECOND_NS: f64 = 1e6;
/// Nanoseconds of what [`SYNC`] counts in.
pub const SECOND_NS: f64 = 1e9;

/// The buckets of [`LATENCY`] or [`SYNC`]: each up to its bound, in units of so many nanoseconds.
pub fn latency_buckets(latencies: &Latencies, unit_ns: f64) -> impl Iterator<Item = (Option<f64>, u64)> {
    let mut counts = latencies.counts().iter().zip(Latencies::BOUNDS_NS).peekable();
    let bounds = LATENCY_BOUNDS_NS.into_iter().map(Some).chain([None]);
    bounds.map(move |bound| {
        let mut count = 0;
        while let Some((fine, _)) = counts.next_if(|(_, fine)| bound.is_none_or(|bound| *fine <= bound)) {
            count += fine;
        }
        (bound.map(|bound| bound as f64 / unit_ns), count)
    })
}

/// The buckets of [`BATCH_TICKS`].
pub fn batch_buckets(counters: &StreamCounters) -> impl Iterator<Item = (Option<f64>, u64)> {
    let last = StreamCounters::BATCH_SIZES - 1;
    counters
        .batch_sizes
        .into_iter()
        .enumerate()
        .map(move |(exponent, count)| (Some(f64::from(1_u32 << exponent)).filter(|_| exponent < last), count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickstream_service::metrics::{PROCESS_FAMILIES, ProcessMetrics, Value};

    #[test]
    fn fine_buckets_are_folded_exactly() {
        let mut latencies = Latencies::default();
        let observed = [
            (49_999, 1),
            (50_000, 1),
            (50_001, 10),
            (1_000_000, 100),
            (1_000_001, 1_000),
            (1_000_000_000, 10_000),
            (1_000_000_001, 100_000),
            (60_000_000_000, 100_000),
        ];
        for (ns, times) in observed {
            latencies.record(ns, times);
        }
        let folded: Vec<_> =
            latency_buckets(&latencies, MILLISECOND_NS).filter(|(_, count)| *count > 0).collect();
        let expected = [
            (Some(0.05), 2),
            (Some(0.1), 10),
            (Some(1.0), 100),
            (Some(2.5), 1_000),
            (Some(1_000.0), 10_000),
            (None, 200_000),
        ];
        assert_eq!(folded, expected);
    }

    #[test]
    fn batches_fall_under_their_size() {
        let mut counters = StreamCounters::default();
        for ticks in [1, 1, 50, 1 << 30] {
            counters.batch_sizes[StreamCounters::batch_size(ticks)] += 1;
        }
        let found: Vec<_> = batch_buckets(&counters).filter(|(_, count)| *count > 0).collect();
        assert_eq!(found, [(Some(1.0), 2), (Some(64.0), 1), (None, 1)]);
    }

    /// Rows `| name | type | labels | meaning |` of all metrics, in the order of the tables above.
    fn documented() -> Vec<String> {
        fn row(name: &str, kind: &str, labels: &str, help: &str) -> String {
            format!("| `{name}` | {kind} | {labels} | {help} |")
        }
        fn rows<S>(families: &[Family<S>], labels: &str) -> Vec<String> {
            let kind = |family: &Family<S>| match family.value {
                Value::Counter(_) => "counter",
                Value::Gauge(_) => "gauge",
            };
            families.iter().map(|family| row(family.name, kind(family), labels, family.help)).collect()
        }
        let mut all = [
            rows(OF_SHARD, "shard"),
            rows(OF_STREAM, "shard, stream"),
            rows(OF_EVENTS, "shard"),
            rows(OF_THREAD, "shard"),
            rows(OF_SERVER, "none"),
            rows(PROCESS_FAMILIES, "none"),
        ]
        .concat();
        let with_labels = [
            (CLOSED, "shard, reason"),
            (FIRED, "shard, limit"),
            (REJECTED, "shard, code"),
            (LATENCY, "shard"),
            (BATCH_TICKS, "shard, stream"),
            (SYNC, "shard"),
            (BUSY, "shard"),
            (DELAYED, "shard"),
            (CLOCK_FORWARD, "shard"),
            (CLOCK_BACK, "shard"),
            (SPANS_DROPPED, "none"),
        ];
        let of_process = ProcessMetrics::ABOUT.map(|about| {
            let labels = if about.name == "tickstream_build_info" { "version" } else { "none" };
            (about, labels)
        });
        let others = with_labels.into_iter().chain(of_process);
        all.extend(others.map(|(About { name, kind, help }, labels)| row(name, kind, labels, help)));
        all
    }

    /// The metric of a row.
    fn metric_of(line: &str) -> Option<&str> {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        ["counter", "gauge", "histogram"]
            .iter()
            .any(|kind| rest.starts_with(&format!("{kind} | ")))
            .then_some(name)
    }

    /// The page with these rows: each in its place, and one that the page lacks behind the row before it in `rows`.
    fn with_rows(page: &str, rows: &[String]) -> String {
        let row_of = |line: &str| rows.iter().find(|row| metric_of(row) == metric_of(line)).cloned();
        let is_metric = |line: &str| metric_of(line).is_some();
        let mut lines: Vec<String> = page
            .lines()
            .filter_map(|line| if is_metric(line) { row_of(line) } else { Some(line.to_owned()) })
            .collect();
        for (before, row) in std::iter::zip(rows, &rows[1..]) {
            if !lines.contains(row) {
                let place =
                    lines.iter().position(|line| line == before).expect("the row before has its place");
                lines.insert(place + 1, row.clone());
            }
        }
        lines.join("\n") + "\n"
    }

    /// Every metric has a row, and no other metric has one. To write the rows anew:
    /// `TICKSTREAM_BLESS=1 cargo test -p tickstream-server the_documentation_lists_every_metric`. A row of a new metric may then
    /// be moved to another table of the page.
    #[test]
    fn the_documentation_lists_every_metric_with_its_type_and_meaning() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let mut expected = documented();
        if std::env::var_os("TICKSTREAM_BLESS").is_some() {
            let page = std::fs::read_to_string(path).unwrap();
            std::fs::write(path, with_rows(&page, &expected)).unwrap();
        }
        let text = std::fs::read_to_string(path).unwrap();
        let mut found: Vec<&str> = text.lines().filter(|line| metric_of(line).is_some()).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "see this test's comment");
    }

    #[test]
    fn rows_are_written_anew_in_their_places() {
        let row = |name: &str, help: &str| format!("| `{name}` | gauge | none | {help} |");
        let page = format!("# M\n\n{}\n{}\n\ntext\n\n{}\n", row("b", "old"), row("gone", ""), row("a", "A."));
        let rows = [row("a", "A."), row("new", "N."), row("b", "B.")];
        let expected = format!("# M\n\n{}\n\ntext\n\n{}\n{}\n", rows[2], rows[0], rows[1]);
        assert_eq!(with_rows(&page, &rows), expected);
    }
}
