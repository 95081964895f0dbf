//! Asks the shards, so that who asks for it costs them nothing: what was gathered is shared by all who ask within a tenth
//! of a second, and lists of connections are made one at a time.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tickstream_engine::AddressKey;
use tickstream_service::metrics::{Process, Thread};

use crate::shard::{AddressCounts, Closed, Control, Filter, Found, Page, PageFound, Request, Snapshot};

/// Age up to which gathered figures are told again.
const FRESH_FOR: Duration = Duration::from_millis(100);
/// Longest wait for the shards' answers. They look at their mailbox ten times a second.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);
/// Time in which shards close the connections that pass a filter: a bounded bit in each pass.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
/// Between two lists of connections. Each makes the shards look at all of theirs.
const LISTS_APART: Duration = Duration::from_millis(100);
/// Addresses that are told.
const ADDRESSES_MAX: usize = 20;
/// Requests for a list that may wait for their turn.
const LISTS_WAITING_MAX: u64 = 16;

/// Figures that were gathered at one moment.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// When.
    pub at: SystemTime,
    /// By shard.
    pub shards: Vec<Shard>,
    /// The process.
    pub process: Process,
    /// Number of times that the shards were asked, this time included.
    pub collections: u64,
}

/// Facts of one shard.
#[derive(Clone, Debug)]
pub struct Shard {
    /// True if it answered in time.
    pub answered: bool,
    /// True if the shard ended as it was asked to.
    pub retired: bool,
    /// Its last answer; `None` if it never gave one.
    pub snapshot: Option<Box<Snapshot>>,
    /// Its thread.
    pub thread: Thread,
}

/// A list of connections.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Connections that pass the filter, of the shards that answered.
    pub total: u64,
    /// The page, each connection with its place.
    pub connections: Vec<Found>,
    /// There are more behind the page.
    pub has_more: bool,
    /// Shards that didn't answer.
    pub missing: Vec<usize>,
}

/// Connections by address.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Different addresses.
    pub total: u64,
    /// Those with the most connections, the first first.
    pub addresses: Vec<(AddressKey, AddressCounts)>,
    /// Shards that didn't answer.
    pub missing: Vec<usize>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// Too many asked before.
    #[error("{LISTS_WAITING_MAX} requests for lists of connections wait already; try again later")]
    Busy,
    /// The shard hangs, or has ended.
    #[error("shard {0} doesn't answer")]
    Silent(usize),
}

/// Asks the shards.
#[derive(Debug)]
pub struct Collector {
    control: Arc<Control>,
    gathered: tokio::sync::Mutex<Option<(Instant, Arc<Gathered>)>>,
    collections: AtomicU64,
    last: Mutex<Vec<Option<Box<Snapshot>>>>,
    last_list: tokio::sync::Mutex<Option<Instant>>,
    lists_waiting: AtomicU64,
}

impl Collector {
    pub fn new(control: Arc<Control>) -> Self {
        let last = Mutex::new(vec![None; control.shards()]);
        Self {
            control,
            gathered: tokio::sync::Mutex::default(),
            collections: AtomicU64::new(0),
            last,
            last_list: tokio::sync::Mutex::default(),
            lists_waiting: AtomicU64::new(0),
        }
    }

    /// All counters, at most [`FRESH_FOR`] old.
    pub async fn gathered(self: &Arc<Self>) -> Arc<Gathered> {
        // A task of its own: it goes on when who asked has gone, so that coming and going doesn't ask the shards.
        let this = Arc::clone(self);
        tokio::spawn(async move { this.refreshed().await }).await.expect("gathering doesn't panic")
    }

    async fn refreshed(self: Arc<Self>) -> Arc<Gathered> {
        let mut gathered = self.gathered.lock().await;
        if let Some((at, known)) = gathered.as_ref()
            && at.elapsed() < FRESH_FOR
        {
            return Arc::clone(known);
        }
        let this = Arc::clone(&self);
        let fresh = tokio::task::spawn_blocking(move || Arc::new(this.gather())).await;
        let fresh = fresh.expect("gathering doesn't panic");
        *gathered = Some((Instant::now(), Arc::clone(&fresh)));
        fresh
    }

    fn gather(&self) -> Gathered {
        let (sender, answers) = mpsc::channel();
        let asked = (0..self.control.shards())
            .filter(|&shard| self.ask(shard, Request::Snapshot(sender.clone())))
            .count();
        let mut answered = vec![false; self.control.shards()];
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for snapshot in received(&answers, asked, ANSWERS_WITHIN) {
            let shard = snapshot.shard;
            answered[shard] = true;
            last[shard] = Some(Box::new(snapshot));
        }
        let shards = last.iter().zip(answered).enumerate().map(|(shard, (snapshot, answered))| Shard {
            answered,
            retired: self.control.has_retired(shard),
            snapshot: snapshot.clone(),
            thread: self.control.thread(shard).map(Thread::read).unwrap_or_default(),
        });
        Gathered {
            at: SystemTime::now(),
            shards: shards.collect(),
            process: Process::read(),
            collections: self.collections.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    /// A page of connections, of all shards or of one: those that `page` asks for, behind the first `offset` of them.
    ///
    /// # Errors
    /// [`CollectError::Busy`].
    pub async fn connections(
        self: &Arc<Self>,
        shard: Option<usize>,
        page: Page,
        offset: usize,
    ) -> Result<Listed, CollectError> {
        self.in_turn(move |this| this.list(shard, page, offset)).await
    }

    /// Counts connections by address.
    ///
    /// # Errors
    /// [`CollectError::Busy`].
    pub async fn addresses(self: &Arc<Self>) -> Result<Counted, CollectError> {
        self.in_turn(|this| {
            let (found, missing) =
                this.ask_each(None, ANSWERS_WITHIN, Request::Addresses, |(shard, _)| *shard);
            let mut all: HashMap<AddressKey, AddressCounts> = HashMap::new();
            for (address, counts) in found.into_iter().flat_map(|(_, addresses)| addresses) {
                all.entry(address).or_default().add(&counts);
            }
            let total = all.len() as u64;
            let mut addresses: Vec<_> = all.into_iter().collect();
            addresses.sort_unstable_by_key(|(address, counts)| (Reverse(counts.connections), *address));
            addresses.truncate(ADDRESSES_MAX);
            Counted { total, addresses, missing }
        })
        .await
    }

    /// Closes all connections that pass the filter, and answers how many, and which shards didn't answer.
    ///
    /// # Errors
    /// [`CollectError::Busy`].
    pub async fn close_all(
        self: &Arc<Self>,
        shard: Option<usize>,
        filter: Filter,
    ) -> Result<(u64, Vec<usize>), CollectError> {
        self.in_turn(move |this| {
            let request = |sender| Request::CloseAll(filter.clone(), sender);
            let (closed, missing) = this.ask_each(shard, CLOSED_WITHIN, request, |(shard, _)| *shard);
            (closed.into_iter().map(|(_, closed)| closed).sum(), missing)
        })
        .await
    }

    /// Has the shards look at all of their connections, once it is its turn.
    async fn in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, CollectError> {
        if self.lists_waiting.fetch_add(1, Ordering::Relaxed) >= LISTS_WAITING_MAX {
            self.lists_waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(CollectError::Busy);
        }
        let this = Arc::clone(self);
        let list = tokio::spawn(async move {
            let mut last = this.last_list.lock().await;
            if let Some(last) = *last {
                tokio::time::sleep_until((last + LISTS_APART).into()).await;
            }
            let that = Arc::clone(&this);
            let done = tokio::task::spawn_blocking(move || work(&that)).await;
            *last = Some(Instant::now());
            this.lists_waiting.fetch_sub(1, Ordering::Relaxed);
            done.expect("listing doesn't panic")
        });
        Ok(list.await.expect("listing doesn't panic"))
    }

    fn list(&self, shard: Option<usize>, page: Page, offset: usize) -> Listed {
        let (limit, sort) = (page.most, page.sort);
        let page = Page { most: offset + limit, ..page };
        let request = |sender| Request::Connections(page.clone(), sender);
        let (found, missing) = self.ask_each(shard, ANSWERS_WITHIN, request, |page| page.shard);
        let count = |count: fn(&PageFound) -> u64| found.iter().map(count).sum::<u64>();
        let (total, behind) = (count(|page| page.total), count(|page| page.behind));
        let mut connections: Vec<_> = found.into_iter().flat_map(|page| page.connections).collect();
        connections.sort_unstable_by(|a, b| sort.compare(a.place.value(), a.place.id(), &b.place));
        let connections = connections.into_iter().skip(offset).take(limit).collect();
        Listed { total, connections, has_more: behind > (offset + limit) as u64, missing }
    }

    /// Asks one shard or all of them. Answers with what came, and the shards that didn't answer; `number` is the shard
    /// of an answer.
    fn ask_each<T>(
        &self,
        shard: Option<usize>,
        within: Duration,
        request: impl Fn(Sender<T>) -> Request,
        number: impl Fn(&T) -> usize,
    ) -> (Vec<T>, Vec<usize>) {
        let (sender, answers) = mpsc::channel();
        let mut missing: Vec<_> =
            (0..self.control.shards()).filter(|number| shard.is_none_or(|shard| shard == *number)).collect();
        let asked = missing.iter().filter(|&&shard| self.ask(shard, request(sender.clone()))).count();
        let found: Vec<_> = received(&answers, asked, within).collect();
        missing.retain(|shard| found.iter().all(|answer| number(answer) != *shard));
        (found, missing)
    }

    /// Closes connection `number` of a shard.
    ///
    /// # Errors
    /// [`CollectError::Silent`].
    pub async fn close(self: &Arc<Self>, shard: usize, number: u64) -> Result<Closed, CollectError> {
        let this = Arc::clone(self);
        let close = move || {
            let (sender, answers) = mpsc::channel();
            let asked = this.ask(shard, Request::Close(number, sender));
            let closed = received(&answers, usize::from(asked), ANSWERS_WITHIN).next();
            closed.ok_or(CollectError::Silent(shard))
        };
        tokio::task::spawn_blocking(close).await.expect("closing doesn't panic")
    }

    /// False if the shard can't be asked, and so won't answer.
    fn ask(&self, shard: usize, request: Request) -> bool {
        !self.control.has_retired(shard) && self.control.mailbox(shard).ask(request).is_ok()
    }
}

/// The answers that come in time, at most `count`.
fn received<T>(answers: &Receiver<T>, count: usize, within: Duration) -> impl Iterator<Item = T> {
    let until = Instant::now() + within;
    (0..count).map_while(move |_| answers.recv_timeout(until.saturating_duration_since(Instant::now())).ok())
}
