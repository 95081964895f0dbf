//! From the events of a request to the answer that they are on stable storage.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tickstream_client::{BatchAnswer, events::EventType};

use crate::{
    budget::Budget,
    clock::now_ns,
    keys::Key,
    metrics::Metrics,
    outcome::{Cause, Outcome, Rejection, Unavailable},
    quota::{Buckets, quota_address},
    retime,
    rules::Rules,
    spool::Spool,
    upstream::Upstream,
    writer::{EventWriter, Ids, Origin, Request, RequestBatch},
};

/// Quotas by address are kept for so many addresses.
const ADDRESSES_MAX: usize = 65_536;
/// Quotas by key: more than anyone has.
const KEYS_MAX: usize = 65_536;
/// Bytes of a request that are on their way to the servers at a time.
const SUBMITTED_BYTES_MAX: usize = 4 << 20;
/// Advice to senders where the collector itself is full.
const RETRY_AFTER_FULL: Duration = Duration::from_secs(2);

/// Answers of the servers to a request, as far as they came.
struct Published {
    outcome: Outcome,
    /// Of a batch without an answer.
    failure: Option<Unavailable>,
}

impl Published {
    fn whole(self) -> Result<Outcome, Unavailable> {
        self.failure.map_or(Ok(self.outcome), Err)
    }

    /// Adds the answer to a batch whose events have these indexes.
    fn add(&mut self, answer: Result<BatchAnswer, Unavailable>, indexes: &[u32]) {
        let outcome = &mut self.outcome;
        match answer {
            Ok(answer) => {
                outcome.accepted += u64::from(answer.accepted);
                outcome.duplicates += u64::from(answer.duplicates);
                outcome.retry_after = outcome.retry_after.max(answer.retry_after);
                let rejected = answer.rejected.into_iter().map(|rejection| {
                    let index = indexes[rejection.index as usize];
                    Rejection::of_server(index, rejection)
                });
                outcome.rejected.extend(rejected);
            }
            Err(unavailable) => self.failure = Some(unavailable),
        }
    }
}

/// Takes the events of all sources.
#[derive(Debug)]
pub struct Intake {
    upstream: Arc<Upstream>,
    /// Disk queue in which events are stable before the servers have them: an agent's.
    spool: Option<Spool>,
    /// Bytes of all requests that are read, decoded or waiting for their answers.
    pub budget: Budget,
    /// Counters.
    pub metrics: Metrics,
    rules: Rules,
    key_quotas: Buckets<[u8; 16]>,
    address_quotas: Buckets<([u8; 16], IpAddr)>,
    is_draining: AtomicBool,
}

impl Intake {
    /// An intake whose requests hold at most `memory_bytes`, and whose events go through `rules`. With a disk queue, events
    /// are stored when they are there.
    pub fn new(upstream: Arc<Upstream>, spool: Option<Spool>, memory_bytes: usize, rules: Rules) -> Self {
        Self {
            upstream,
            spool,
            budget: Budget::new(memory_bytes),
            metrics: Metrics::default(),
            rules,
            key_quotas: Buckets::new(KEYS_MAX),
            address_quotas: Buckets::new(ADDRESSES_MAX),
            is_draining: AtomicBool::new(false),
        }
    }

    /// A writer for the events of a request.
    pub fn writer<'a>(&'a self, origin: &'a Origin, ids: Ids<'a>, events_max: u32) -> EventWriter<'a> {
        EventWriter::new(origin, ids, self.upstream.batch_limits(), events_max).with_rules(&self.rules)
    }

    /// True if requests can be taken.
    pub fn is_ready(&self) -> bool {
        let has_way = self.spool.as_ref().map_or_else(|| self.upstream.is_connected(), Spool::has_room);
        has_way && !self.is_draining.load(Ordering::Relaxed)
    }

    /// The disk queue, if there is one.
    pub fn spool(&self) -> Option<&Spool> {
        self.spool.as_ref()
    }

    /// True if a server can be reached.
    pub fn is_connected(&self) -> bool {
        self.upstream.is_connected()
    }

    /// Bytes of events without an answer.
    pub fn queued_bytes(&self) -> usize {
        self.upstream.queued_bytes()
    }

    /// Checks that a request may come now, before its body is read.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn admit(&self, key: &Key, address: Option<IpAddr>) -> Result<(), Unavailable> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Err(Unavailable { cause: Cause::Draining, retry_after: Duration::from_secs(1) });
        }
        self.charge(key, address, 0)
    }

    /// Publishes a request. A success is the servers' word for each event.
    ///
    /// # Errors
    /// [`Unavailable`]: the sender has to send the request again. A part may be stored; its event ids tell.
    pub async fn store(&self, origin: &Origin, request: Request) -> Result<Outcome, Unavailable> {
        self.charge(&origin.key, origin.address, request.events() as u64)?;
        let (started, sample) = (Instant::now(), request.sample.clone());
        let stored = self.publish(request).await;
        self.count(origin, &stored, sample, started);
        stored.whole()
    }

    /// Publishes a request of a sender that can't be told of a wrong clock: events that the servers find too old, or ahead
    /// of their clocks, are stored at the time of their receipt. `sender.original_timestamp` keeps what they said.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    pub async fn store_by_receipt(&self, origin: &Origin, request: &Request) -> Result<Outcome, Unavailable> {
        self.charge(&origin.key, origin.address, request.events() as u64)?;
        let started = Instant::now();
        let mut stored = self.publish(request.clone()).await;
        if let Some(retimed) = retime::at_receipt(request, &stored.outcome.rejected, origin.receive_time) {
            let again = self.publish(retimed).await;
            retime::merge(&mut stored.outcome, again.outcome);
            stored.failure = stored.failure.or(again.failure);
        }
        self.count(origin, &stored, request.sample.clone(), started);
        stored.whole()
    }

    async fn publish(&self, request: Request) -> Published {
        let weights = request.weights;
        let mut outcome = Outcome {
            rejected: request.rejected,
            filtered: request.filtered,
            notes: request.notes,
            ..Outcome::default()
        };
        if let Some(spool) = &self.spool {
            let failure = keep(spool, &request.batches, &mut outcome).await;
            outcome.stored = stored(&weights, &outcome.rejected);
            return Published { outcome, failure };
        }
        let mut published = Published { outcome, failure: None };
        let mut submitted: VecDeque<(_, Vec<u32>, usize)> = VecDeque::new();
        let mut bytes = 0;
        for RequestBatch { batch, indexes } in request.batches {
            // A request that is larger than what the connections hold could otherwise never be stored.
            while bytes > 0 && bytes + batch.byte_len() > SUBMITTED_BYTES_MAX {
                let Some((answer, indexes, len)) = submitted.pop_front() else { break };
                published.add(answer.await, &indexes);
                bytes -= len;
            }
            if published.failure.is_some() {
                break;
            }
            let len = batch.byte_len();
            bytes += len;
            submitted.push_back((self.upstream.submit(batch), indexes, len));
        }
        for (answer, indexes, _) in submitted {
            published.add(answer.await, &indexes);
        }
        let Published { mut outcome, failure } = published;
        outcome.rejected.sort_by_key(|rejection| rejection.index);
        outcome.stored = stored(&weights, &outcome.rejected);
        Published { outcome, failure }
    }

    fn count(
        &self,
        origin: &Origin,
        published: &Published,
        sample: Option<(EventType, String)>,
        started: Instant,
    ) {
        let (source, key, outcome) = (origin.source, &origin.key.name, &published.outcome);
        self.metrics.answered(source, outcome, started.elapsed());
        self.metrics.seen(key, source, outcome, sample, now_ns() / 1_000_000);
    }

    /// Refuses new requests from now on.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Waits for the answers that are owed, for `patience` at the most, and closes the connections to the servers.
    pub async fn close(&self, patience: Duration) {
        self.upstream.close(patience).await;
    }

    /// The error of a request that finds no memory.
    pub fn full() -> Unavailable {
        Unavailable { cause: Cause::Full, retry_after: RETRY_AFTER_FULL }
    }

    /// Charges both quotas, or neither.
    fn charge(&self, key: &Key, address: Option<IpAddr>, events: u64) -> Result<(), Unavailable> {
        let now = Instant::now();
        let refuse = |cause| move |retry_after| Unavailable { cause, retry_after };
        let address = address.map(|address| (key.namespace, quota_address(address)));
        if let Some(rate) = key.quota {
            self.key_quotas.check(key.namespace, rate, now).map_err(refuse(Cause::KeyQuota))?;
        }
        if let (Some(rate), Some(address)) = (key.address_quota, address) {
            self.address_quotas.charge(address, rate, events, now).map_err(refuse(Cause::AddressQuota))?;
        }
        if let Some(rate) = key.quota {
            self.key_quotas.charge(key.namespace, rate, events, now).map_err(refuse(Cause::KeyQuota))?;
        }
        Ok(())
    }
}

/// Keeps batches on the disk. What couldn't be kept is told.
async fn keep(spool: &Spool, batches: &[RequestBatch], outcome: &mut Outcome) -> Option<Unavailable> {
    for RequestBatch { batch, .. } in batches {
        if let Err(problem) = spool.keep(batch).await {
            tracing::debug!(%problem, "a batch wasn't kept");
            return Some(Unavailable { cause: Cause::DiskQueue, retry_after: RETRY_AFTER_FULL });
        }
        outcome.accepted += batch.len() as u64;
    }
    None
}

/// Sums over the records that aren't rejected.
fn stored(weights: &[(u32, [u32; 3])], rejected: &[Rejection]) -> [u64; 3] {
    let is_rejected = |index: u32| rejected.binary_search_by_key(&index, |rejection| rejection.index).is_ok();
    let kept =
        weights.iter().filter(|(index, _)| !is_rejected(*index)).map(|(_, weight)| weight.map(u64::from));
    kept.fold([0; 3], |[a, b, c], [x, y, z]| [a + x, b + y, c + z])
}

/// Shared by all listeners.
pub type SharedIntake = Arc<Intake>;
