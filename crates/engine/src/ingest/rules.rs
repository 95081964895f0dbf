//! The rules that a batch and its events must satisfy.

use super::config::IngestConfig;
use super::{ACK_BYTES_PER_EVENT, EVENTS_MAX};
use crate::clock::{MS, Now};
use tickstream_schema::Plan;
use tickstream_schema::Rejection;
use tickstream_schema::validate::Clocks;

/// Rules of one shard; they say themselves what was against them.
#[derive(Debug)]
pub(crate) struct Rules {
    pub plan: Plan,
    /// Events of one PUBLISH.
    pub events_max: u32,
    age_ms_max: u64,
    ahead_ms_max: u64,
}

impl Rules {
    /// Rules under which an answer fits `payload_bytes`.
    pub fn new(config: &IngestConfig, payload_bytes: u32) -> Self {
        Self {
            plan: config.privacy.plan(),
            events_max: EVENTS_MAX.min(payload_bytes / ACK_BYTES_PER_EVENT),
            age_ms_max: config.age_ms_max,
            ahead_ms_max: config.ahead_ms_max,
        }
    }

    /// Bounds of an event's timestamp.
    pub fn clocks(&self, now: Now) -> Clocks {
        Clocks {
            now_ns: now.unix_ns,
            age_ns_max: self.age_ms_max.saturating_mul(MS),
            ahead_ns_max: self.ahead_ms_max.saturating_mul(MS),
        }
    }

    /// For people: what is against the rules.
    pub fn message(&self, rejection: &Rejection) -> String {
        rejection.message(&self.plan, self.age_ms_max, self.ahead_ms_max)
    }
}
