//! JSON of the admin endpoint: `/snapshot` and `/connections`. Fields may be added.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tickstream_engine::{AddressKey, CloseReason, IngestCounters, Latencies, Limit, Mode, RejectionCode};
use tickstream_service::metrics::Process;

use super::collect::{self, Counted, Gathered, Listed};
use crate::ring::RingStats;
use crate::shard::{AddressCounts, Closing, Command, Found, JournalSnapshot, Lag, Snapshot};

/// Ends of connections that a report tells, of all shards.
const EVENTS_MAX: usize = 64;

/// All that is counted, at one moment. Counters are totals since the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The server's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Address that it listens on.
    pub address: String,
    /// "serving", "draining" or "stopping".
    pub state: String,
    /// Every shard's loop has turned lately.
    pub healthy: bool,
    /// When it began, Unix milliseconds.
    pub started_unix_ms: u64,
    /// When this was gathered, Unix milliseconds.
    pub now_unix_ms: u64,
    /// The process.
    pub process: ProcessReport,
    /// Upper bounds of all but the last bucket of [`ShardReport::latency`], milliseconds; a value that equals one
    /// belongs to it.
    pub latency_bounds_ms: Vec<f64>,
    /// By shard.
    pub shards: Vec<ShardReport>,
    /// The last connections that ended, newest first.
    pub events: Vec<EventReport>,
}

/// The process. What the kernel doesn't tell is 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessReport {
    /// Resident memory.
    pub resident_bytes: u64,
    /// CPU time of all threads.
    pub cpu_ms: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors, but for the shards'.
    pub open_fds: u64,
    /// Lines that the log lost.
    pub log_lines_lost: u64,
    /// Times that the shards were asked for their counters.
    pub collections: u64,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardReport {
    /// Its number.
    pub shard: usize,
    /// Its CPU.
    pub cpu: usize,
    /// True if it answered; if not, its counters are its last ones, or 0.
    pub answered: bool,
    /// True if the shard ended as it was asked to.
    pub retired: bool,
    /// Time for which its loop hasn't turned, if that is too long, else 0.
    pub hung_ms: u64,
    /// Open descriptors of its table.
    pub open_fds: u64,
    /// CPU time of its thread.
    pub busy_ms: u64,
    /// Time that its thread could have run, but something else had its CPU.
    pub delayed_ms: u64,
    /// Passes of its loop.
    pub passes: u64,
    /// Connections, those that are being closed included.
    pub connections: u32,
    /// Of these, those that wait for their socket to take more.
    pub lagging: u32,
    /// Connections taken.
    pub accepted: u64,
    /// Connections refused.
    pub refused: u64,
    /// Connections that haven't authenticated.
    pub unauthenticated: u32,
    /// TLS handshakes completed in full.
    pub handshakes_full: u64,
    /// TLS handshakes that resumed a session.
    pub handshakes_resumed: u64,
    /// AUTHs with wrong credentials.
    pub auth_failures: u64,
    /// AUTHs accepted.
    pub authenticated: u64,
    /// SUBSCRIBEs accepted.
    pub subscribed: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// HEARTBEATs received.
    pub heartbeats: u64,
    /// Frames of every type sent whole.
    pub messages_sent: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Sends handed to sockets.
    pub sends: u64,
    /// Of these, those that the socket didn't take whole.
    pub sends_short: u64,
    /// Connections that ended, by reason; those that never occurred are left out.
    pub closed: BTreeMap<String, u64>,
    /// Number of times that each limit fired; those that never did are left out.
    pub limits_fired: BTreeMap<String, u64>,
    /// "SECOND" and "MINUTE".
    pub streams: BTreeMap<String, StreamReport>,
    /// Delays with which live frames reached their sockets.
    pub latency: LatencyReport,
    /// The socket ring.
    pub ring: RingReport,
    /// Published events; absent where they aren't collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<CollectionReport>,
}

/// One stream of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Subscribers.
    pub subscribers: u32,
    /// Of these, those whose socket took no more.
    pub lagging: u32,
    /// Wait of the oldest unsent byte of these.
    pub oldest_unsent_ms: u64,
    /// Batches sealed.
    pub frames_published: u64,
    /// Ticks in them.
    pub ticks_published: u64,
    /// DATA_BATCH frames sent whole, to each subscriber.
    pub frames_delivered: u64,
    /// Ticks in them.
    pub ticks_delivered: u64,
    /// Frames sealed for a single subscriber.
    pub frames_replayed: u64,
    /// Ticks in batches that were sealed late.
    pub ticks_late: u64,
    /// Ticks left out.
    pub ticks_skipped: u64,
}

/// A histogram.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyReport {
    /// All latencies together.
    pub sum_ms: f64,
    /// Frames in each bucket, not cumulated: as many as [`Report::latency_bounds_ms`], and one for what is above.
    pub buckets: Vec<u64>,
}

/// A socket ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RingReport {
    /// Calls of io_uring_enter.
    pub enters: u64,
    /// Submissions.
    pub submissions: u64,
    /// Completions.
    pub completions: u64,
    /// Times that accepting was begun.
    pub accepts_armed: u64,
    /// Times that receiving was begun.
    pub receives_armed: u64,
    /// Times that no provided buffer was left.
    pub buffers_exhausted: u64,
    /// Times that completions waited outside a full queue.
    pub overflows: u64,
    /// Accepts that failed.
    pub accept_errors: u64,
}

/// A shard's handling of published events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CollectionReport {
    /// PUBLISHes received.
    pub publishes: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Events that are on stable storage.
    pub accepted: u64,
    /// Events that were known already.
    pub duplicates: u64,
    /// Events that were rejected, by the code of their rejection; those that never occurred are left out.
    pub rejected: BTreeMap<String, u64>,
    /// Rejected events that were stored with their reason.
    pub dead_letters: u64,
    /// PUBLISH_ACKs that ask the client to wait.
    pub throttled: u64,
    /// PUBLISHes without a PUBLISH_ACK.
    pub in_flight: u32,
    /// Records made of PUBLISHes.
    pub records: u64,
    /// Bytes of their payloads.
    pub record_bytes: u64,
    /// Records that weren't stored.
    pub records_refused: u64,
    /// Records that are neither stored nor refused.
    pub records_outstanding: u32,
    /// Bytes of records that the journal hasn't taken yet.
    pub queue_bytes: u64,
    /// Bytes of PUBLISHes of which only a part has come.
    pub partial_bytes: u64,
    /// The journal.
    pub journal: JournalReport,
}

/// A shard's journal. Sequences are those of its records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JournalReport {
    /// The oldest record that is kept.
    pub first_sequence: u64,
    /// The last record that it took.
    pub appended_sequence: u64,
    /// The last record that was written.
    pub written_sequence: u64,
    /// The last record on stable storage.
    pub synced_sequence: u64,
    /// The last record whose PUBLISH was acknowledged.
    pub acknowledged_sequence: u64,
    /// Writes that were brought to stable storage, marks included.
    pub flushes: u64,
    /// Bytes of these, padding included.
    pub flushed_bytes: u64,
    /// Segments with records.
    pub segments: usize,
    /// Segments that retention removed.
    pub removed: u64,
    /// Removals that failed and are tried again.
    pub removals_failed: u64,
    /// Length of its files.
    pub disk_bytes: u64,
    /// Memory of records that aren't on stable storage yet.
    pub waiting_bytes: usize,
    /// The most that it may be.
    pub waiting_bytes_max: usize,
    /// Since when the disk is full, Unix milliseconds.
    pub full_since_unix_ms: Option<u64>,
    /// Times that commit groups took until they were on stable storage.
    pub syncs: LatencyReport,
}

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventReport {
    /// When.
    pub unix_ms: u64,
    /// Name of the connection in the log: shard and number.
    pub id: String,
    /// The client's address and port.
    pub peer: String,
    /// Why it ended.
    pub reason: String,
    /// More about that, for people; may be empty.
    pub detail: String,
    /// The stream that it was subscribed to.
    pub mode: Option<String>,
    /// Time for which it was open.
    pub open_ms: u64,
    /// Wait of its oldest unsent byte.
    pub unsent_ms: u64,
}

/// A page of `/connections`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionsReport {
    /// Connections that pass the filter, of the shards that answered.
    pub total: u64,
    /// Number of those before the page.
    pub offset: usize,
    /// Most that the page may hold.
    pub limit: usize,
    /// Shards that didn't answer.
    pub missing_shards: Vec<usize>,
    /// The page.
    pub connections: Vec<ConnectionReport>,
    /// Cursor of the next page, for `after`; `None` on the last. In an order whose values change a connection may move
    /// between two pages; in that of ids, addresses and users each that stays is on one page.
    #[serde(default)]
    pub next: Option<String>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// Its name in the log and in `/connections/{id}/close`: shard and number.
    pub id: String,
    /// Its shard.
    pub shard: usize,
    /// The client's address and port.
    pub peer: String,
    /// "unauthenticated", "authenticated" or "closing".
    pub state: String,
    /// The stream that it is subscribed to.
    pub mode: Option<String>,
    /// Its age.
    pub open_ms: u64,
    /// Its socket took no more when it was last asked.
    pub lagging: bool,
    /// Wait of its oldest unsent byte; 0 if there is none.
    pub unsent_ms: u64,
    /// Published ticks that weren't handed to its socket yet.
    pub ticks_behind: u64,
    /// Bytes that its socket took.
    pub bytes_sent: u64,
    /// Bytes of frames that came from it.
    #[serde(default)]
    pub bytes_received: u64,
    /// Events of it that are on stable storage, and were acknowledged.
    #[serde(default)]
    pub events_accepted: u64,
    /// The user that AUTH or its certificate named.
    #[serde(default)]
    pub user: Option<String>,
    /// The subject of its certificate.
    #[serde(default)]
    pub subject: Option<String>,
    /// The client's library, as AUTH says.
    #[serde(default)]
    pub client: Option<String>,
}

/// The outcome of closing the connections that pass a filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedReport {
    /// Connections that are being closed.
    pub closed: u64,
    /// Shards that didn't answer, and go on closing if they turn again.
    pub missing_shards: Vec<usize>,
}

/// Addresses with the most connections: `/addresses`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressesReport {
    /// Different addresses; an IPv6 /64 is one.
    pub total: u64,
    /// Shards that didn't answer.
    pub missing_shards: Vec<usize>,
    /// Those with the most connections, the first first.
    pub addresses: Vec<AddressReport>,
}

/// An address, or an IPv6 /64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressReport {
    /// The address or network.
    pub address: String,
    /// Its connections.
    pub connections: u64,
    /// Those of them that lag.
    pub lagging: u64,
    /// Those of them that haven't authenticated.
    pub unauthenticated: u64,
    /// Bytes that their sockets took.
    pub bytes_sent: u64,
}

impl AddressesReport {
    pub(super) fn new(counted: Counted) -> Self {
        let Counted { total, addresses, missing } = counted;
        let report = |(address, counts): (AddressKey, AddressCounts)| AddressReport {
            address: address.to_string(),
            connections: counts.connections.into(),
            lagging: counts.lagging.into(),
            unauthenticated: counts.unauthenticated.into(),
            bytes_sent: counts.bytes_sent,
        };
        Self { total, missing_shards: missing, addresses: addresses.into_iter().map(report).collect() }
    }
}

/// Parts of a report beside the gathered figures.
pub(super) struct Frame {
    pub address: String,
    pub command: Command,
    pub started: SystemTime,
    pub cpus: Vec<usize>,
    /// Shards whose loop doesn't turn, each with for how long.
    pub sick: Vec<(usize, Duration)>,
    pub log_lines_lost: u64,
}

impl Report {
    pub(super) fn new(frame: &Frame, gathered: &Gathered) -> Self {
        let shard = |(number, shard)| {
            let sick = frame.sick.iter().find(|(sick, _)| *sick == number);
            let hung_ms = sick.map_or(0, |(_, duration)| millis(*duration));
            ShardReport::new(number, frame.cpus[number], hung_ms, shard)
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            address: frame.address.clone(),
            state: state(frame.command).to_owned(),
            healthy: frame.sick.is_empty(),
            started_unix_ms: unix_ms(frame.started),
            now_unix_ms: unix_ms(gathered.at),
            process: ProcessReport::new(gathered.process, frame.log_lines_lost, gathered.collections),
            latency_bounds_ms: bounds_ms(),
            shards: gathered.shards.iter().enumerate().map(shard).collect(),
            events: events(gathered),
        }
    }
}

/// A word for what the shards were told.
pub fn state(command: Command) -> &'static str {
    match command {
        Command::Serve => "serving",
        Command::Drain => "draining",
        Command::Stop => "stopping",
    }
}

fn bounds_ms() -> Vec<f64> {
    let bounds = &Latencies::BOUNDS_NS[..Latencies::BUCKETS - 1];
    bounds.iter().map(|bound| *bound as f64 / 1e6).collect()
}

fn events(gathered: &Gathered) -> Vec<EventReport> {
    let snapshots = gathered.shards.iter().filter_map(|shard| shard.snapshot.as_deref());
    let mut events: Vec<_> = snapshots
        .flat_map(|snapshot| snapshot.closes.iter().map(|closing| EventReport::new(snapshot.shard, closing)))
        .collect();
    events.sort_by_key(|event| std::cmp::Reverse(event.unix_ms));
    events.truncate(EVENTS_MAX);
    events
}

impl ProcessReport {
    fn new(process: Process, log_lines_lost: u64, collections: u64) -> Self {
        Self {
            resident_bytes: process.resident_bytes.unwrap_or_default(),
            cpu_ms: process.cpu.map_or(0, millis),
            threads: process.threads.unwrap_or_default(),
            open_fds: process.open_fds.unwrap_or_default(),
            log_lines_lost,
            collections,
        }
    }
}

impl ShardReport {
    fn new(number: usize, cpu: usize, hung_ms: u64, shard: &collect::Shard) -> Self {
        let snapshot = shard.snapshot.as_deref();
        let counters = snapshot.map(|snapshot| snapshot.counters).unwrap_or_default();
        let occurred = |(name, count): (&'static str, u64)| (count > 0).then(|| (name.to_owned(), count));
        let closed = CloseReason::ALL.map(|reason| (reason.as_str(), counters.closed(reason)));
        let fired = Limit::ALL.map(|limit| (limit.as_str(), counters.fired(limit)));
        let streams = [Mode::Second, Mode::Minute]
            .map(|mode| (mode.as_str_name().to_owned(), StreamReport::new(snapshot, mode)));
        Self {
            shard: number,
            cpu,
            answered: shard.answered,
            retired: shard.retired,
            hung_ms,
            open_fds: shard.thread.open_fds.unwrap_or_default(),
            busy_ms: shard.thread.busy.map_or(0, millis),
            delayed_ms: shard.thread.delayed.map_or(0, millis),
            passes: snapshot.map_or(0, |snapshot| snapshot.passes),
            connections: counters.connections,
            lagging: counters.lagging,
            unauthenticated: counters.unauthenticated,
            accepted: counters.accepted,
            refused: counters.refused,
            handshakes_full: counters.handshakes_full,
            handshakes_resumed: counters.handshakes_resumed,
            auth_failures: counters.auth_failures,
            authenticated: counters.authenticated,
            subscribed: counters.subscribed,
            frames_received: counters.frames_received,
            bytes_received: counters.bytes_received,
            heartbeats: counters.heartbeats,
            messages_sent: counters.frames_sent,
            bytes_sent: counters.bytes_sent,
            sends: counters.sends,
            sends_short: counters.sends_short,
            closed: closed.into_iter().filter_map(occurred).collect(),
            limits_fired: fired.into_iter().filter_map(occurred).collect(),
            streams: streams.into(),
            latency: snapshot.map_or_else(Latencies::default, |s| s.latencies.clone()).into(),
            ring: RingReport::from(snapshot.map(|snapshot| snapshot.ring).unwrap_or_default()),
            events: snapshot.and_then(|snapshot| {
                Some(CollectionReport::new(&snapshot.counters.ingest, snapshot.journal.as_ref()?))
            }),
        }
    }
}

impl StreamReport {
    fn new(snapshot: Option<&Snapshot>, mode: Mode) -> Self {
        let Some(snapshot) = snapshot else { return Self::default() };
        let (counters, lag) = (snapshot.counters.stream(mode), snapshot.lag[mode as usize]);
        let Lag { subscribers: lagging, oldest_ms: oldest_unsent_ms } = lag;
        Self {
            subscribers: counters.subscribers,
            lagging,
            oldest_unsent_ms,
            frames_published: counters.batches,
            ticks_published: counters.ticks,
            frames_delivered: counters.frames_sent,
            ticks_delivered: counters.ticks_sent,
            frames_replayed: counters.replays,
            ticks_late: counters.ticks_late,
            ticks_skipped: counters.ticks_skipped,
        }
    }
}

impl From<Latencies> for LatencyReport {
    fn from(latencies: Latencies) -> Self {
        Self { sum_ms: latencies.sum_ns() as f64 / 1e6, buckets: latencies.counts().to_vec() }
    }
}

impl CollectionReport {
    fn new(counters: &IngestCounters, journal: &JournalSnapshot) -> Self {
        let rejected = RejectionCode::ALL.map(|code| (code.as_str(), counters.rejected(code)));
        let rejected = rejected.into_iter().filter(|(_, count)| *count > 0);
        Self {
            publishes: counters.publishes,
            bytes: counters.bytes,
            accepted: counters.accepted,
            duplicates: counters.duplicates,
            rejected: rejected.map(|(code, count)| (code.to_owned(), count)).collect(),
            dead_letters: counters.dead_letters,
            throttled: counters.throttled,
            in_flight: counters.in_flight,
            records: counters.records,
            record_bytes: counters.record_bytes,
            records_refused: counters.records_refused,
            records_outstanding: counters.records_outstanding,
            queue_bytes: counters.queue_bytes,
            partial_bytes: counters.partial_bytes,
            journal: JournalReport::new(journal),
        }
    }

    /// Events that were rejected, for whatever reason.
    pub fn rejected_in_all(&self) -> u64 {
        self.rejected.values().sum()
    }
}

impl JournalReport {
    fn new(journal: &JournalSnapshot) -> Self {
        let JournalSnapshot { stats, syncs } = journal;
        Self {
            first_sequence: stats.first_sequence,
            appended_sequence: stats.progress.appended(),
            written_sequence: stats.progress.written(),
            synced_sequence: stats.progress.synced(),
            acknowledged_sequence: stats.progress.acknowledged(),
            flushes: stats.groups,
            flushed_bytes: stats.written_bytes,
            segments: stats.segments,
            removed: stats.removed,
            removals_failed: stats.removals_failed,
            disk_bytes: stats.disk_bytes,
            waiting_bytes: stats.waiting_bytes,
            waiting_bytes_max: stats.waiting_bytes_max,
            full_since_unix_ms: stats.full_since_ns.map(|ns| ns / 1_000_000),
            syncs: syncs.clone().into(),
        }
    }
}

impl From<RingStats> for RingReport {
    fn from(stats: RingStats) -> Self {
        let RingStats {
            enters,
            submissions,
            completions,
            accepts_armed,
            accepts_rearmed: _,
            receives_armed,
            buffers_exhausted,
            overflows,
            accept_errors,
        } = stats;
        Self {
            enters,
            submissions,
            completions,
            accepts_armed,
            receives_armed,
            buffers_exhausted,
            overflows,
            accept_errors,
        }
    }
}

impl EventReport {
    fn new(shard: usize, closing: &Closing) -> Self {
        let report = &closing.report;
        Self {
            unix_ms: closing.unix_ms,
            id: format!("{shard}-{}", report.number),
            peer: report.peer.to_string(),
            reason: report.reason.as_str().to_owned(),
            detail: report.detail.to_string(),
            mode: report.mode.map(|mode| mode.as_str_name().to_owned()),
            open_ms: report.open_ms,
            unsent_ms: report.unsent_ms,
        }
    }
}

impl ConnectionsReport {
    pub(super) fn new(offset: usize, limit: usize, listed: Listed) -> Self {
        let Listed { total, connections, has_more, missing } = listed;
        let next = connections.last().filter(|_| has_more).map(|found| found.place.cursor());
        let connections = connections.into_iter().map(Into::into).collect();
        Self { total, offset, limit, missing_shards: missing, connections, next }
    }
}

impl From<Found> for ConnectionReport {
    fn from(Found { place, connection, identity }: Found) -> Self {
        let (shard, text) = (place.id().0, |text: Option<Box<str>>| text.map(String::from));
        Self {
            id: format!("{shard}-{}", connection.number),
            shard,
            peer: connection.peer.to_string(),
            state: connection.standing.as_str().to_owned(),
            mode: connection.mode.map(|mode| mode.as_str_name().to_owned()),
            open_ms: connection.open_ms,
            lagging: connection.lagging,
            unsent_ms: connection.unsent_ms,
            ticks_behind: connection.ticks_behind,
            bytes_sent: connection.bytes_sent,
            bytes_received: connection.bytes_received,
            events_accepted: connection.events_accepted,
            user: text(identity.user),
            subject: text(identity.subject),
            client: text(identity.client),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

pub(super) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, millis)
}
