//! State of the collector as JSON, for its page and for programs: `/snapshot`. Fields may be added.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    intake::Intake,
    metrics::{RefusalCount, Sender, SourceCounts},
};

/// State of a collector.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Version of the program.
    pub version: &'static str,
    /// Unix time, milliseconds.
    pub time_ms: u64,
    /// A server can be reached.
    pub is_connected: bool,
    /// Requests are taken.
    pub is_ready: bool,
    /// Bytes that requests hold.
    pub memory_bytes: u64,
    /// Bytes of events without an answer.
    pub queue_bytes: u64,
    /// Bytes of the disk queue that the servers don't have yet, where there is one.
    pub disk_queue_bytes: Option<u64>,
    /// Events that came by UDP and found no room.
    pub datagrams_dropped: u64,
    /// Datagrams that the kernel has dropped, by source.
    pub kernel_drops: BTreeMap<&'static str, u64>,
    /// Counters of the sources that have taken anything, since the start.
    pub sources: Vec<SourceCounts>,
    /// Requests that weren't taken, or not all of them.
    pub refusals: Vec<RefusalCount>,
    /// The keys that have sent, and their last events.
    pub senders: BTreeMap<String, Sender>,
}

impl Snapshot {
    /// The present state, at this Unix time in milliseconds.
    pub fn of(intake: &Intake, time_ms: u64) -> Self {
        let metrics = &intake.metrics;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            time_ms,
            is_connected: intake.is_connected(),
            is_ready: intake.is_ready(),
            memory_bytes: intake.budget.used() as u64,
            queue_bytes: intake.queued_bytes() as u64,
            disk_queue_bytes: intake.spool().map(|spool| spool.bytes()),
            datagrams_dropped: metrics.dropped(),
            kernel_drops: metrics.dropped_by_kernel(),
            sources: metrics.source_counts(),
            refusals: metrics.refusal_counts(),
            senders: metrics.senders(),
        }
    }
}
