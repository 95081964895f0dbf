//! Settings of event collection.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

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
    /// get the verdict SERVER_BUSY.
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
    /// What is taken out of events before they are stored.
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

/// What is taken out of events before anything is written, dead letters included.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PrivacyConfig {
    rules: Vec<PrivacyRule>,
    key: [u8; 32],
    truncate_peer: bool,
}

impl PrivacyConfig {
    /// Rules by field, of two for the same field or key the last; the key of [`PrivacyAction::Hash`], with which values
    /// can be tried; and whether the client's address is stored as by [`PrivacyAction::Truncate`].
    ///
    /// # Errors
    /// A rule for which there is no field, or which can't be applied to it.
    pub fn new(rules: Vec<PrivacyRule>, key: [u8; 32], truncate_peer: bool) -> Result<Self, PrivacyError> {
        super::plan::Plan::new(&rules)?;
        Ok(Self { rules, key, truncate_peer })
    }

    pub(super) fn rules(&self) -> &[PrivacyRule] {
        &self.rules
    }

    pub(super) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    pub(super) fn truncates_peer(&self) -> bool {
        self.truncate_peer
    }
}

impl fmt::Debug for PrivacyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rules, key: _, truncate_peer } = self;
        f.debug_struct("PrivacyConfig").field("rules", rules).field("truncate_peer", truncate_peer).finish()
    }
}

/// What becomes of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivacyRule {
    /// The field, by its way from the event in the names of the schema: `user_id`, `trace_span.attributes.http_url`,
    /// `properties.email` for one key of a map, `properties` or `properties.*` for all its values.
    pub path: String,
    /// What is done to it.
    pub action: PrivacyAction,
}

/// What a privacy rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivacyAction {
    /// The field is left out. For every kind of field; of a map by its name alone: all its entries.
    Drop,
    /// The text becomes `***`.
    Mask,
    /// The value becomes the first half of its HMAC-SHA-256: a text 32 hexadecimal digits, an id as many bytes as it
    /// has, other bytes 16. Equal values stay equal.
    Hash,
    /// An IPv4 address becomes its /24, an IPv6 address its /48; what is neither becomes `***`.
    Truncate,
}

impl PrivacyAction {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Drop, Self::Mask, Self::Hash, Self::Truncate];

    /// Its name in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Mask => "mask",
            Self::Hash => "hash",
            Self::Truncate => "truncate",
        }
    }
}

/// `path=action`
impl FromStr for PrivacyRule {
    type Err = PrivacyError;

    fn from_str(text: &str) -> Result<Self, PrivacyError> {
        let parsed = text.rsplit_once('=').and_then(|(path, name)| {
            let action = PrivacyAction::ALL.into_iter().find(|action| action.as_str() == name)?;
            Some(Self { path: path.to_owned(), action })
        });
        parsed.ok_or_else(|| PrivacyError::Syntax { rule: text.to_owned() })
    }
}

/// A privacy rule that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrivacyError {
    /// It isn't `path=action`.
    #[error(
        "the privacy rule {rule:?} must be a field and one of drop, mask, hash and truncate: user_id=hash"
    )]
    Syntax {
        /// What was written.
        rule: String,
    },
    /// The schema has no such field.
    #[error("the privacy rule for {path:?} names no field of an event; docs/events.md lists them")]
    Path {
        /// What was named.
        path: String,
    },
    /// The field can't be treated like that.
    #[error(
        "{path:?} can't be treated with {}: texts take all actions, ids and bytes drop and hash, other fields drop, and \
         event_id, timestamp and event_type none",
        .action.as_str()
    )]
    Action {
        /// Which field.
        path: String,
        /// What was to be done.
        action: PrivacyAction,
    },
}
