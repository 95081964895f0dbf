//! Counters of event collection.

use tickstream_schema::RejectionCode;

/// Totals since the shard began, and some gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestCounters {
    /// PUBLISHes received.
    pub publishes: u64,
    /// Bytes of their payloads, as they came.
    pub bytes: u64,
    /// Events that are on stable storage.
    pub accepted: u64,
    /// Events that were known already.
    pub duplicates: u64,
    /// Events that were rejected, in the order of [`RejectionCode::ALL`].
    pub rejected: [u64; RejectionCode::ALL.len()],
    /// Dead letters that are on stable storage.
    pub dead_letters: u64,
    /// PUBLISH_ACKs that ask to wait.
    pub throttled: u64,
    /// Records made.
    pub records: u64,
    /// Bytes of their payloads.
    pub record_bytes: u64,
    /// Records that weren't stored.
    pub records_refused: u64,
    /// Gauge: PUBLISHes of connections that are there, without a PUBLISH_ACK.
    pub in_flight: u32,
    /// Gauge: records that are neither stored nor refused.
    pub records_outstanding: u32,
    /// Gauge: bytes of records that nobody has asked for.
    pub queue_bytes: u64,
    /// Gauge: bytes of PUBLISHes of which only a part has come.
    pub partial_bytes: u64,
}

impl IngestCounters {
    /// Events that were rejected for this.
    pub fn rejected(&self, code: RejectionCode) -> u64 {
        self.rejected[code as usize]
    }
}
