//! From the events of a request to the answer that they are on stable storage.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    budget::Budget,
    http::now_ns,
    keys::Key,
    metrics::Metrics,
    outcome::{Cause, Outcome, Rejection, Unavailable},
    quota::{Buckets, quota_address},
    upstream::{BatchLimits, Upstream},
    writer::{Origin, Request, RequestBatch},
};

/// Quotas by address are kept for so many addresses.
const ADDRESSES_MAX: usize = 65_536;
/// Quotas by key: more than anyone has.
const KEYS_MAX: usize = 65_536;
/// Advice to senders where the collector itself is full.
const RETRY_AFTER_FULL: Duration = Duration::from_secs(2);

/// Takes the events of all sources.
#[derive(Debug)]
pub struct Intake {
    upstream: Upstream,
    /// Bytes of all requests that are read, decoded or waiting for their answers.
    pub budget: Budget,
    /// Counters.
    pub metrics: Metrics,
    key_quotas: Buckets<[u8; 16]>,
    address_quotas: Buckets<([u8; 16], IpAddr)>,
    is_draining: AtomicBool,
}

impl Intake {
    /// An intake whose requests hold at most `memory_bytes`.
    pub fn new(upstream: Upstream, memory_bytes: usize) -> Self {
        Self {
            upstream,
            budget: Budget::new(memory_bytes),
            metrics: Metrics::default(),
            key_quotas: Buckets::new(KEYS_MAX),
            address_quotas: Buckets::new(ADDRESSES_MAX),
            is_draining: AtomicBool::new(false),
        }
    }

    /// What batches may have at present.
    pub fn batch_limits(&self) -> BatchLimits {
        self.upstream.batch_limits()
    }

    /// Whether requests can be taken.
    pub fn is_ready(&self) -> bool {
        self.upstream.is_connected() && !self.is_draining.load(Ordering::Relaxed)
    }

    /// Whether a server can be reached.
    pub fn is_connected(&self) -> bool {
        self.upstream.is_connected()
    }

    /// Bytes of events without an answer.
    pub fn queued_bytes(&self) -> usize {
        self.upstream.queued_bytes()
    }

    /// Whether a request may come now: before its body is read.
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
        let (started, weights) = (Instant::now(), request.weights);
        let mut outcome = Outcome { rejected: request.rejected, notes: request.notes, ..Outcome::default() };
        // All are submitted before the first answer is waited for.
        let submitted: Vec<_> = request
            .batches
            .into_iter()
            .map(|RequestBatch { batch, indexes }| (self.upstream.submit(batch), indexes))
            .collect();
        let mut failure = None;
        for (answer, indexes) in submitted {
            match answer.await {
                Ok(answer) => {
                    outcome.accepted += u64::from(answer.accepted);
                    outcome.duplicates += u64::from(answer.duplicates);
                    outcome.retry_after = outcome.retry_after.max(answer.retry_after);
                    let rejected = answer.rejected.into_iter().map(|verdict| {
                        let index = indexes[verdict.index as usize];
                        Rejection::of_server(index, verdict)
                    });
                    outcome.rejected.extend(rejected);
                }
                Err(unavailable) => failure = Some(unavailable),
            }
        }
        outcome.rejected.sort_by_key(|rejection| rejection.index);
        outcome.stored = stored(&weights, &outcome.rejected);
        let now_ms = now_ns() / 1_000_000;
        self.metrics.answered(origin.source, &origin.key.name, &outcome, started.elapsed(), now_ms);
        failure.map_or(Ok(outcome), Err)
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

/// Sums over the records that aren't rejected.
fn stored(weights: &[(u32, [u32; 3])], rejected: &[Rejection]) -> [u64; 3] {
    let is_rejected = |index: u32| rejected.binary_search_by_key(&index, |rejection| rejection.index).is_ok();
    let kept =
        weights.iter().filter(|(index, _)| !is_rejected(*index)).map(|(_, weight)| weight.map(u64::from));
    kept.fold([0; 3], |[a, b, c], [x, y, z]| [a + x, b + y, c + z])
}

/// Shared by all listeners.
pub type SharedIntake = Arc<Intake>;
