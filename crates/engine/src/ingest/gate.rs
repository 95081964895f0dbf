//! The gate before the pipeline: refuses a whole batch that the journal or the client's quota has no room for.

use std::num::NonZeroU32;

use super::publisher::{Pending, Publisher};
use super::{IngestConfig, IngestPressure};
use crate::clock::ActiveTime;
use crate::identity::Account;
use crate::limit::Limit;

/// Wait that is asked for while the queue of records is full, milliseconds.
const QUEUE_FULL_MS: u32 = 100;

/// Limits on batches as a whole.
#[derive(Debug)]
pub(crate) struct Gate {
    pressure: IngestPressure,
    queue_bytes_max: u64,
    events_per_second: Option<NonZeroU32>,
}

impl Gate {
    pub fn new(config: &IngestConfig) -> Self {
        Self {
            pressure: IngestPressure::None,
            queue_bytes_max: config.queue_bytes,
            events_per_second: config.events_per_second,
        }
    }

    pub fn set_pressure(&mut self, pressure: IngestPressure) {
        self.pressure = pressure;
    }

    /// The limit that refuses the batch of `publisher`, where the queue of records has `queue_bytes`. Sets how many of its
    /// events are granted, and how long the client is asked to wait.
    pub fn refusal(
        &self,
        queue_bytes: u64,
        (publisher, account): (&mut Publisher, &Account),
        pending: &mut Pending,
        now: ActiveTime,
    ) -> Option<Limit> {
        let busy = match self.pressure {
            IngestPressure::Refuse { ms } => Some(ms.max(1)),
            _ if queue_bytes >= self.queue_bytes_max => Some(QUEUE_FULL_MS),
            _ => None,
        };
        if let Some(throttle_ms) = busy {
            pending.throttle_ms = throttle_ms;
            return Some(Limit::Journal);
        }
        let grant = match account.access().events_per_second {
            None => publisher.spend(pending.events, self.events_per_second, now),
            // The user's own quota is that of all its connections.
            own => publisher.spend_of(&account.paid, pending.events, own, now),
        };
        (pending.granted, pending.throttle_ms) = (grant.events, grant.throttle_ms);
        if grant.events == 0 {
            return Some(Limit::EventRate);
        }
        if let IngestPressure::Throttle { ms } = self.pressure {
            pending.throttle_ms = pending.throttle_ms.max(ms);
        }
        None
    }
}
