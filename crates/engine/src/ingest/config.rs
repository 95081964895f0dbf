//! Settings of event collection.

use std::num::NonZeroU32;

use tickstream_schema::PrivacyConfig;

/// The settings of event collection on one shard. Every bound of it is here or beside it, with its unit.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Name of the server, as it stands in every record.
    pub server: Box<str>,
    /// PUBLISHes that one connection may have on the way without a PUBLISH_ACK; one more is a PROTOCOL_VIOLATION.
    pub credits: NonZeroU32,
    /// Bytes of a PUBLISH's payload; a longer one gets MESSAGE_TOO_LARGE.
    pub publish_bytes: u32,
    /// Bytes that a compressed batch may unpack to; more gets MESSAGE_TOO_LARGE.
    pub unpacked_bytes: u32,
    /// Bytes of one record, at least 256 KiB; events that don't fit get BATCH_FULL. The journal must take records of
    /// this size.
    pub record_bytes: u32,
    /// Bytes of PUBLISHes of which only a part has come, on the whole shard; who goes beyond gets SERVER_BUSY.
    pub partial_bytes: u64,
    /// Bytes of records that nobody has asked for by [`Shard::poll_record`](crate::Shard::poll_record); beyond, events
    /// get the rejection SERVER_BUSY.
    pub queue_bytes: u64,
    /// Events that one connection may publish in a second, in the long run; two seconds' worth may come at once. Beyond
    /// half of that it is asked to slow down, beyond all of it events get RATE_LIMITED. `None`: no limit.
    pub events_per_second: Option<NonZeroU32>,
    /// Maximum lead of an event's timestamp over the clock, milliseconds.
    pub ahead_ms_max: u64,
    /// Maximum age of an event, milliseconds.
    pub age_ms_max: u64,
    /// Event ids that are remembered: exactly so many, the newest. 32 bytes each, rounded up to a power of two.
    pub event_ids: u32,
    /// A number that nobody else knows; keys the table of event ids.
    pub seed: u64,
    /// Data that is taken out of events before they are stored.
    pub privacy: PrivacyConfig,
}

impl IngestConfig {
    /// Event collection with its defaults, and no privacy rules.
    pub fn new(server: &str, seed: u64) -> Self {
        Self {
            server: server.into(),
            credits: NonZeroU32::new(8).expect("not 0"),
            publish_bytes: 524_288,
            unpacked_bytes: 1 << 20,
            record_bytes: 2 << 20,
            partial_bytes: 64 << 20,
            queue_bytes: 16 << 20,
            events_per_second: None,
            ahead_ms_max: 10 * 60 * 1_000,
            age_ms_max: 30 * 24 * 60 * 60 * 1_000,
            event_ids: 1 << 19,
            seed,
            privacy: PrivacyConfig::default(),
        }
    }
}
