//! Answers what operators ask a shard, a bounded bit in each pass: who asks must not hold up ticks.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use tickstream_engine::{AddressKey, ConnId, Connection, Identified, Report, Shard, Slot, Standing};

use super::journal_driver::JournalDriver;
use super::mailbox::Mailbox;
use super::order::{Place, Sort};
use super::request::{AddressCounts, Closed, Closing, Found, Lag, PageFound, Request, Snapshot};
use crate::ring::SocketRing;

/// Slots of the connection table that one pass looks at: tens of microseconds.
const SLOTS_PER_PASS: u32 = 2_048;
/// Slots that counting a connection's address counts for: it looks up a table.
const SLOTS_PER_COUNT: u32 = 3;
/// Slots that closing a connection counts for: it seals a frame.
const SLOTS_PER_CLOSE: u32 = 32;
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
    shard: usize,
    /// The next slot to look at.
    slot: Slot,
    lag: [Lag; 2],
    /// The connection that was asked for.
    found: Option<ConnId>,
    /// Connections that pass the filter, or that were closed.
    total: u64,
    /// Those of them that stand behind the page's place.
    behind: u64,
    /// The first of these, the last on top.
    first: BinaryHeap<Entry>,
    addresses: HashMap<AddressKey, AddressCounts>,
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
        self.jobs.extend(mailbox.take().into_iter().map(|request| Job::new(self.shard, request)));
        let mut slots = SLOTS_PER_PASS;
        while let Some(mut job) = self.jobs.pop_front() {
            if job.go_on(&mut slots, shard) {
                self.answer(job, shard, ring, journal);
            } else {
                return self.jobs.push_front(job);
            }
        }
    }

    /// True if there is more to do: then the shard must not sleep.
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

    /// Answers a request. The asker may have gone: then nobody hears the answer.
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
                let connections = job.first.into_iter().map(|entry| entry.found(shard));
                let _ = asker.send(PageFound {
                    shard: self.shard,
                    total: job.total,
                    behind: job.behind,
                    connections: connections.collect(),
                });
            }
            Request::Addresses(asker) => {
                let _ = asker.send((self.shard, job.addresses));
            }
            Request::CloseAll(_, asker) => {
                let _ = asker.send((self.shard, job.total));
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
    fn new(shard: usize, request: Request) -> Self {
        Self {
            request,
            shard,
            slot: Slot(0),
            lag: [Lag::default(); 2],
            found: None,
            total: 0,
            behind: 0,
            first: BinaryHeap::new(),
            addresses: HashMap::new(),
        }
    }

    /// Looks at as many slots as there are left in this pass. True if the answer is complete.
    fn go_on(&mut self, slots: &mut u32, shard: &mut Shard) -> bool {
        if matches!(self.request, Request::Snapshot(_)) && shard.counters().lagging == 0 {
            self.lag = [Lag::default(); 2];
            return true;
        }
        while self.slot < shard.slots_end() {
            if *slots == 0 {
                return false;
            }
            *slots -= 1;
            if let Some(connection) = shard.connection(self.slot) {
                match self.look(&connection, shard.identified(self.slot)) {
                    Look::Next => {}
                    Look::Done => return true,
                    Look::Counted => *slots = slots.saturating_sub(SLOTS_PER_COUNT),
                    Look::Close => {
                        self.total += u64::from(shard.kick(connection.id));
                        *slots = slots.saturating_sub(SLOTS_PER_CLOSE);
                    }
                }
            }
            self.slot.0 += 1;
        }
        true
    }

    /// Looks at one connection.
    fn look(&mut self, connection: &Connection, identified: Identified<'_>) -> Look {
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
                Look::Next
            }
            Request::Connections(page, _) => {
                if page.filter.passes(self.shard, connection, identified) {
                    self.total += 1;
                    let (value, id) =
                        (page.sort.value(connection, identified), (self.shard, connection.number));
                    if page.after.as_ref().is_none_or(|after| page.sort.compare(value, id, after).is_gt()) {
                        self.behind += 1;
                        let entry = || Entry::new(Place::new(value, id.0, id.1), page.sort, *connection);
                        if self.first.len() < page.most {
                            self.first.push(entry());
                        } else if let Some(mut last) = self.first.peek_mut()
                            && page.sort.compare(value, id, &last.place).is_lt()
                        {
                            *last = entry();
                        }
                    }
                }
                Look::Next
            }
            Request::Addresses(_) => {
                let counts = self.addresses.entry(connection.peer.ip().into()).or_default();
                counts.add(&AddressCounts {
                    connections: 1,
                    lagging: connection.lagging.into(),
                    unauthenticated: (connection.standing == Standing::Unauthenticated).into(),
                    bytes_sent: connection.bytes_sent,
                });
                Look::Counted
            }
            Request::CloseAll(filter, _) => {
                let is_meant = connection.standing != Standing::Closing
                    && filter.passes(self.shard, connection, identified);
                if is_meant { Look::Close } else { Look::Next }
            }
            Request::Close(number, _) => {
                self.found = Some(connection.id).filter(|_| connection.number == *number);
                if self.found.is_some() { Look::Done } else { Look::Next }
            }
        }
    }
}

/// Result of a look at a connection.
enum Look {
    /// The next is looked at.
    Next,
    /// Counted in a table; the next one follows.
    Counted,
    /// No other needs to be looked at.
    Done,
    /// To be closed.
    Close,
}

/// A connection of a page, ordered as the page is.
struct Entry {
    place: Place,
    sort: Sort,
    connection: Connection,
}

impl Entry {
    fn new(place: Place, sort: Sort, connection: Connection) -> Self {
        Self { place, sort, connection }
    }

    /// The connection with its identity, if it is still there.
    fn found(self, shard: &Shard) -> Found {
        let Self { place, connection, .. } = self;
        let identified = shard.find(connection.id).map(|slot| shard.identified(slot)).unwrap_or_default();
        Found { place, connection, identity: identified.into() }
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sort.compare(self.place.value(), self.place.id(), &other.place)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tickstream_engine::{Config, Credentials, Limits, Mode, Now, Phase, ProxyProtocol, Rate};

    use super::*;
    use crate::shard::filter::Filter;
    use crate::shard::order::SortKey;
    use crate::shard::request::Page;

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
    fn run(job: &mut Job, shard: &mut Shard) -> u32 {
        (1..).find(|_| job.go_on(&mut { SLOTS_PER_PASS }, shard)).expect("an end")
    }

    /// Numbers of the connections of a page, and how many stand behind its place.
    fn page(shard: &mut Shard, page: Page) -> (Vec<u64>, u64) {
        let mut job = Job::new(0, Request::Connections(page, mpsc::channel().0));
        assert_eq!(run(&mut job, shard), 4);
        let behind = job.behind;
        (job.first.into_sorted_vec().into_iter().map(|entry| entry.connection.number).collect(), behind)
    }

    #[test]
    fn a_list_is_made_in_bounded_bits_and_has_the_slowest() {
        let mut shard = shard();
        let filter = Filter { peer: Some("10.0.0.3".parse().unwrap()), ..Filter::default() };
        let slowest = Page { most: 3, filter, sort: Sort::default(), after: None };
        let found = page(&mut shard, slowest);
        let expected = (vec![3, 7, 11], u64::from(CONNECTIONS / 4));
        assert_eq!(found, expected, "of those that are as slow as each other, the oldest");
    }

    #[test]
    fn pages_go_on_until_each_connection_was_there_once() {
        let mut shard = shard();
        for sort in SortKey::ALL.map(|(_, key)| Sort { key, descending: key.is_largest_first() }) {
            let (mut after, mut seen) = (None, Vec::new());
            loop {
                let filter = Filter::default();
                let mut job = Job::new(
                    0,
                    Request::Connections(Page { most: 1_000, filter, sort, after }, mpsc::channel().0),
                );
                run(&mut job, &mut shard);
                let left = job.behind - job.first.len() as u64;
                let found = job.first.into_sorted_vec();
                seen.extend(found.iter().map(|entry| entry.connection.number));
                after = found.last().map(|entry| entry.place.clone());
                if left == 0 {
                    break;
                }
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(1..=u64::from(CONNECTIONS)), "{sort:?}");
        }
    }

    #[test]
    fn a_connection_is_found_by_its_number() {
        let mut shard = shard();
        let mut check = |number: u64, passes: u32, is_there: bool| {
            let mut job = Job::new(0, Request::Close(number, mpsc::channel().0));
            assert_eq!(run(&mut job, &mut shard), passes);
            let found = job.found.and_then(|conn| shard.connection(conn.slot)).map(|found| found.number);
            assert_eq!(found, Some(number).filter(|_| is_there));
        };
        check(1, 1, true);
        check(u64::from(CONNECTIONS), 4, true);
        check(u64::from(CONNECTIONS) + 1, 4, false);
    }

    #[test]
    fn all_that_pass_a_filter_are_closed_a_few_in_each_pass() {
        let mut shard = shard();
        let filter = Filter { peer: Some("10.0.0.3".parse().unwrap()), ..Filter::default() };
        let mut close = || {
            let mut job = Job::new(0, Request::CloseAll(filter.clone(), mpsc::channel().0));
            (run(&mut job, &mut shard), job.total)
        };
        let (passes, closed) = close();
        assert_eq!(closed, u64::from(CONNECTIONS / 4));
        assert!(passes >= CONNECTIONS / 4 * SLOTS_PER_CLOSE / SLOTS_PER_PASS, "{passes}");
        assert_eq!(close().1, 0, "those that are being closed aren't closed again");
    }

    #[test]
    fn addresses_are_counted_in_bounded_bits() {
        let mut shard = shard();
        let mut job = Job::new(0, Request::Addresses(mpsc::channel().0));
        assert!(run(&mut job, &mut shard) >= 4 * 3);
        let of = |last: u8| job.addresses[&std::net::IpAddr::from([10, 0, 0, last]).into()].connections;
        assert_eq!((job.addresses.len(), of(0), of(1)), (4, CONNECTIONS / 4, CONNECTIONS / 4 + 1));
    }

    #[test]
    fn where_nobody_lags_a_snapshot_needs_no_look() {
        let mut job = Job::new(0, Request::Snapshot(mpsc::channel().0));
        assert_eq!(run(&mut job, &mut shard()), 1);
        assert_eq!(job.slot, Slot(0));
    }
}
