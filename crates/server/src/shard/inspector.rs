//! Answers what operators ask a shard, a bounded bit in each pass: who asks must not hold up ticks.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use tickstream_engine::{ConnId, Connection, Report, Shard, Slot, Standing};

use super::journal_driver::JournalDriver;
use super::mailbox::Mailbox;
use super::request::{Closed, Closing, Lag, Page, PageFound, Request, Snapshot};
use crate::ring::SocketRing;

/// Slots of the connection table that one pass looks at: tens of microseconds.
const SLOTS_PER_PASS: u32 = 2_048;
/// Ends of connections that are kept to be shown.
const CLOSES_KEPT: usize = 32;

/// A shard's side of its mailbox.
pub(super) struct Inspector {
    shard: usize,
    passes: u64,
    jobs: VecDeque<Job>,
    /// Oldest first.
    closes: VecDeque<Closing>,
}

/// A request, and how far its answer is.
struct Job {
    request: Request,
    /// The next slot to look at.
    slot: Slot,
    lag: [Lag; 2],
    /// The connection that was asked for.
    found: Option<ConnId>,
    /// Connections that pass the filter.
    total: u64,
    /// The slowest of them, the fastest on top.
    slowest: BinaryHeap<Reverse<Slowness>>,
}

impl Inspector {
    pub fn new(shard: usize) -> Self {
        Self { shard, passes: 0, jobs: VecDeque::new(), closes: VecDeque::with_capacity(CLOSES_KEPT) }
    }

    /// Takes what was asked, and goes on answering. Call it once a pass, behind [`Shard::advance`].
    pub fn pass(
        &mut self,
        mailbox: &Mailbox,
        shard: &mut Shard,
        ring: &SocketRing,
        journal: Option<&JournalDriver>,
    ) {
        self.passes += 1;
        self.jobs.extend(mailbox.take().into_iter().map(Job::new));
        let mut slots = SLOTS_PER_PASS;
        while let Some(mut job) = self.jobs.pop_front() {
            if job.go_on(&mut slots, shard) {
                self.answer(job, shard, ring, journal);
            } else {
                return self.jobs.push_front(job);
            }
        }
    }

    /// Whether there is more to do: then the shard must not sleep.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Keeps the end of a connection, to be visible.
    pub fn keep(&mut self, report: Report, unix_ns: u64) {
        if self.closes.len() == CLOSES_KEPT {
            self.closes.pop_front();
        }
        self.closes.push_back(Closing { unix_ms: unix_ns / 1_000_000, report });
    }

    /// Who asked may have gone: then nobody hears the answer.
    fn answer(&self, job: Job, shard: &mut Shard, ring: &SocketRing, journal: Option<&JournalDriver>) {
        match job.request {
            Request::Snapshot(asker) => {
                let _ = asker.send(Snapshot {
                    shard: self.shard,
                    counters: shard.counters(),
                    latencies: shard.latencies().clone(),
                    ring: ring.stats(),
                    lag: job.lag,
                    passes: self.passes,
                    closes: self.closes.iter().cloned().collect(),
                    journal: journal.map(JournalDriver::snapshot),
                });
            }
            Request::Connections(_, asker) => {
                let connections = job.slowest.into_iter().map(|Reverse(Slowness(connection))| connection);
                let _ = asker.send(PageFound {
                    shard: self.shard,
                    total: job.total,
                    connections: connections.collect(),
                });
            }
            Request::Close(_, asker) => {
                let _ = asker.send(match job.found.map(|conn| shard.kick(conn)) {
                    Some(true) => Closed::Now,
                    Some(false) => Closed::Before,
                    None => Closed::Unknown,
                });
            }
        }
    }
}

impl Job {
    fn new(request: Request) -> Self {
        Self {
            request,
            slot: Slot(0),
            lag: [Lag::default(); 2],
            found: None,
            total: 0,
            slowest: BinaryHeap::new(),
        }
    }

    /// Looks at as many slots as there are left in this pass. True if the answer is complete.
    fn go_on(&mut self, slots: &mut u32, shard: &Shard) -> bool {
        if matches!(self.request, Request::Snapshot(_)) && shard.counters().lagging == 0 {
            self.lag = [Lag::default(); 2];
            return true;
        }
        while self.slot < shard.slots_end() {
            if *slots == 0 {
                return false;
            }
            *slots -= 1;
            if let Some(connection) = shard.connection(self.slot)
                && self.look(&connection)
            {
                return true;
            }
            self.slot.0 += 1;
        }
        true
    }

    /// Looks at one connection. True if there is no need to look at others.
    fn look(&mut self, connection: &Connection) -> bool {
        match &self.request {
            Request::Snapshot(_) => {
                if let Some(mode) = connection
                    .mode
                    .filter(|_| connection.lagging && connection.standing == Standing::Authenticated)
                {
                    let lag = &mut self.lag[mode as usize];
                    lag.subscribers += 1;
                    lag.oldest_ms = lag.oldest_ms.max(connection.unsent_ms);
                }
                false
            }
            Request::Connections(Page { most, filter }, _) => {
                if filter.passes(connection) {
                    self.total += 1;
                    let found = Slowness(*connection);
                    if self.slowest.len() < *most {
                        self.slowest.push(Reverse(found));
                    } else if let Some(mut fastest) =
                        self.slowest.peek_mut().filter(|fastest| fastest.0 < found)
                    {
                        *fastest = Reverse(found);
                    }
                }
                false
            }
            Request::Close(number, _) => {
                self.found = Some(connection.id).filter(|_| connection.number == *number);
                self.found.is_some()
            }
        }
    }
}

/// Orders connections by how slow they are: by their oldest unsent byte, then by what they lack, then the oldest.
struct Slowness(Connection);

impl Slowness {
    fn key(&self) -> impl Ord + use<> {
        slowness(&self.0)
    }
}

/// What orders connections by how slow they are; of two, the slower one's is greater.
pub fn slowness(connection: &Connection) -> (u64, u64, Reverse<u64>) {
    (connection.unsent_ms, connection.ticks_behind, Reverse(connection.number))
}

impl PartialEq for Slowness {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Slowness {}

impl PartialOrd for Slowness {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slowness {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tickstream_engine::{Config, Credentials, Limits, Mode, Now, Phase, ProxyProtocol, Rate};

    use super::*;
    use crate::shard::request::Filter;

    /// Connections: more than three passes look at.
    const CONNECTIONS: u32 = 3 * SLOTS_PER_PASS + 1;

    fn shard() -> Shard {
        let config = Config {
            shard: 0,
            credentials: Credentials::new("ada", "s3cret").unwrap(),
            second: Rate::new(Mode::Second, 1).unwrap(),
            minute: Rate::new(Mode::Minute, 1).unwrap(),
            phase: Phase::Aligned,
            batch_window_ms: 5,
            heartbeat_interval_ms: 15_000,
            heartbeat_timeout_ms: 20_000,
            proxy_protocol: ProxyProtocol::Off,
            proxy_trusted: vec![],
            seed: 0,
            ingest: None,
            limits: Limits {
                connections: CONNECTIONS,
                connections_per_address: None,
                unauthenticated: CONNECTIONS,
                unauthenticated_per_address: None,
                connections_per_second: None,
                auth_failures_per_minute: 0,
                lag_ms: 0,
                handshake_timeout_ms: 5_000,
                payload_bytes: 65_536,
                auth_timeout_ms: 5_000,
                write_deadline_ms: 5_000,
                frames_per_second: 100,
                replay_window_ms: 0,
                replay_ticks: 0,
            },
        };
        let mut shard = Shard::new(config, Now { mono_ns: 0, unix_ns: 0 });
        for number in 1..=CONNECTIONS {
            let peer = ([10, 0, 0, (number % 4) as u8], 5_000);
            shard.accept(peer.into(), false).expect("room for one more");
        }
        shard
    }

    /// Lets a job run, and answers in how many passes it was done.
    fn run(job: &mut Job, shard: &Shard) -> u32 {
        (1..).find(|_| job.go_on(&mut { SLOTS_PER_PASS }, shard)).expect("an end")
    }

    #[test]
    fn a_list_is_made_in_bounded_bits_and_has_the_slowest() {
        let (shard, (asker, _answers)) = (shard(), mpsc::channel());
        let filter = Filter { peer: Some([10, 0, 0, 3].into()), ..Filter::default() };
        let mut job = Job::new(Request::Connections(Page { most: 3, filter }, asker));
        assert_eq!(run(&mut job, &shard), 4);
        assert_eq!(job.total, u64::from(CONNECTIONS / 4));
        let mut found: Vec<_> =
            job.slowest.into_iter().map(|Reverse(Slowness(found))| found.number).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 7, 11], "of those that are as slow as each other, the oldest");
    }

    #[test]
    fn a_connection_is_found_by_its_number() {
        let shard = shard();
        let check = |number: u64, passes: u32, is_there: bool| {
            let mut job = Job::new(Request::Close(number, mpsc::channel().0));
            assert_eq!(run(&mut job, &shard), passes);
            let found = job.found.and_then(|conn| shard.connection(conn.slot)).map(|found| found.number);
            assert_eq!(found, Some(number).filter(|_| is_there));
        };
        check(1, 1, true);
        check(u64::from(CONNECTIONS), 4, true);
        check(u64::from(CONNECTIONS) + 1, 4, false);
    }

    #[test]
    fn where_nobody_lags_a_snapshot_needs_no_look() {
        let mut job = Job::new(Request::Snapshot(mpsc::channel().0));
        assert_eq!(run(&mut job, &shard()), 1);
        assert_eq!(job.slot, Slot(0));
    }
}
