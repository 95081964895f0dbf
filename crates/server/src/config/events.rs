//! Event collection: where the journal is, what is kept, what is taken out.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tickstream_engine::{PrivacyAction, PrivacyConfig, PrivacyRule};
use tickstream_journal::Retention;

use super::{ConfigError, Values, file::read_bounded, kind::Kind, parse::ValueError};

const MIB: u64 = 1 << 20;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of a key, decoded.
const KEY_BYTES: usize = 32;
/// A file with a key holds its hexadecimal digits and at most a newline.
const KEY_FILE_BYTES_MAX: u64 = 2 * KEY_BYTES as u64 + 2;
/// Where the kernel says what the host is called.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// How events are collected; a [`Config`](super::Config) has it if they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// The directory that holds a journal for each shard.
    pub journal: PathBuf,
    /// Length of a segment of a journal, bytes.
    pub segment_bytes: u64,
    /// What one shard's journal may take, bytes.
    pub journal_bytes_max: Option<u64>,
    /// How long events are kept.
    pub journal_age_max: Option<Duration>,
    /// Whether events that are too old are removed although a consumer hasn't loaded them.
    pub age_removes_unloaded: bool,
    /// Age of a segment at which the next one is begun.
    pub segment_age: Duration,
    /// What the server is called in records.
    pub server_id: Box<str>,
    /// PUBLISHes of one connection that may be on the way.
    pub credits: NonZeroU32,
    /// Largest payload of a PUBLISH, bytes.
    pub publish_bytes: u32,
    /// Events of one connection in a second.
    pub events_per_second: Option<NonZeroU32>,
    /// How long ago an event may have happened.
    pub age_max: Duration,
    /// How far an event's time may be ahead of the clock.
    pub ahead_max: Duration,
    /// Event ids that a shard remembers.
    pub event_ids: u32,
    /// What is taken out of events before they are stored.
    pub privacy: PrivacyConfig,
}

impl Events {
    /// What the settings say; `None` without a journal, with which the others mean something.
    pub(super) fn from_values(values: &Values, shards: usize) -> Result<Option<Self>, ConfigError> {
        let segment_bytes = u64::from(values.integer("journal_segment_mib")?) * MIB;
        let events = Self {
            journal: PathBuf::from(&values.get("journal").text),
            segment_bytes,
            journal_bytes_max: journal_bytes_max(values, shards, segment_bytes)?,
            journal_age_max: values
                .if_set("journal_max_days", Values::positive)?
                .map(|days| Duration::from_secs(u64::from(days.get()) * 86_400)),
            age_removes_unloaded: values.choice("journal_unloaded", &UNLOADED)?,
            segment_age: values.duration("journal_segment_age")?,
            server_id: server_id(values)?,
            credits: values.positive("publish_credits")?,
            publish_bytes: values.size("publish_size_max")?.get(),
            events_per_second: NonZeroU32::new(values.integer("publish_events_per_second_max")?),
            age_max: Duration::from_secs(u64::from(values.integer("event_age_max_days")?) * 86_400),
            ahead_max: values.duration("event_ahead_max")?,
            event_ids: values.integer("event_ids_max")?,
            privacy: privacy(values)?,
        };
        Ok(values.get("journal").is_set().then_some(events))
    }
}

impl Events {
    /// Retention of one shard's journal.
    pub fn retention(&self) -> Retention {
        Retention {
            bytes: self.journal_bytes_max,
            age: self.journal_age_max,
            age_removes_unloaded: self.age_removes_unloaded,
        }
    }
}

const UNLOADED: [(&str, bool); 2] = [("keep", false), ("remove", true)];

/// Each shard's share of what all journals may take. It must hold a segment that is full, one that is written and one
/// that is made ready.
fn journal_bytes_max(values: &Values, shards: usize, segment_bytes: u64) -> Result<Option<u64>, ConfigError> {
    let Some(all) = values.if_set("journal_max_mib", Values::positive)? else { return Ok(None) };
    let share = u64::from(all.get()) * MIB / shards as u64;
    if share < 3 * segment_bytes {
        let least = 3 * segment_bytes * shards as u64 / MIB;
        return Err(values.get("journal_max_mib").invalid(ValueError::JournalSize { shards, least }));
    }
    Ok(Some(share))
}

fn server_id(values: &Values) -> Result<Box<str>, ConfigError> {
    let value = values.get("server_id");
    if value.is_set() {
        let is_name = value.text.len() <= NAME_BYTES_MAX && !value.text.contains(char::is_control);
        let name = is_name.then(|| value.text.as_str().into());
        return name.ok_or_else(|| value.invalid(ValueError::Name(value.setting.kind)));
    }
    let name =
        std::fs::read_to_string(HOST_NAME).map_err(|source| value.invalid(ValueError::File(source)))?;
    Ok(name.trim().into())
}

fn privacy(values: &Values) -> Result<PrivacyConfig, ConfigError> {
    let setting = values.get("privacy_rules");
    let rules = values.list("privacy_rules", parse_rules)?;
    let hashes = rules.iter().any(|rule| rule.action == PrivacyAction::Hash);
    let file = values.get("privacy_key_file");
    if hashes && !file.is_set() {
        return Err(setting.invalid(ValueError::Needs { other: "privacy_key_file" }));
    }
    let key = if file.is_set() {
        read_key(Path::new(&file.text)).map_err(|error| file.invalid(error))?
    } else {
        [0; _]
    };
    let truncates_peer = values.choice("privacy_peer", &PEERS)?;
    PrivacyConfig::new(rules, key, truncates_peer)
        .map_err(|error| setting.invalid(ValueError::Privacy(error)))
}

const PEERS: [(&str, bool); 2] = [("store", false), ("truncate", true)];

fn parse_rules(text: &str, _: Kind) -> Result<Vec<PrivacyRule>, ValueError> {
    let rules = text.split(',').map(str::trim).filter(|rule| !rule.is_empty());
    rules.map(|rule| rule.parse().map_err(ValueError::Privacy)).collect()
}

/// A key in hexadecimal digits.
fn read_key(path: &Path) -> Result<[u8; KEY_BYTES], ValueError> {
    let text = read_bounded(path, KEY_FILE_BYTES_MAX).map_err(ValueError::File)?;
    let digits = text.trim_end_matches(['\r', '\n']).as_bytes();
    if digits.len() != 2 * KEY_BYTES {
        return Err(ValueError::PrivacyKey);
    }
    let mut key = [0; KEY_BYTES];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let pair =
            std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()));
        *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or(ValueError::PrivacyKey)?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &[(&str, &str)], expected: Result<fn(&Events) -> bool, &str>) {
        let values = Values::of_program(settings.iter().copied()).unwrap();
        match (Events::from_values(&values, 2), expected) {
            (Ok(Some(events)), Ok(holds)) => assert!(holds(&events), "{settings:?}: {events:?}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => panic!("{settings:?}: {found:?}"),
        }
    }

    #[test]
    fn what_goes_together_is_taken_and_what_does_not_is_told() {
        let journal = ("journal", "/var/lib/tickstream");
        check(&[journal], Ok(|events| events.journal_bytes_max.is_none() && !events.server_id.is_empty()));
        check(&[journal, ("server_id", "edge-7")], Ok(|events| &*events.server_id == "edge-7"));
        check(
            &[journal, ("journal_max_mib", "2000")],
            Ok(|events| events.journal_bytes_max == Some(1000 * MIB)),
        );
        check(&[journal], Ok(|events| !events.age_removes_unloaded && events.segment_age.as_secs() == 3600));
        check(
            &[journal, ("journal_unloaded", "remove")],
            Ok(|events| events.retention().age_removes_unloaded),
        );
        check(&[journal, ("journal_max_mib", "700")], Err("at least 768"));
        check(&[journal, ("privacy_rules", "user_id=hash")], Err("needs privacy_key_file"));
        check(&[journal, ("privacy_rules", "user_id=shred")], Err("one of drop, mask, hash"));
        check(&[journal, ("privacy_rules", "nobody=drop")], Err("names no field"));
        check(&[journal, ("privacy_rules", "user_id=drop, log.message=mask")], Ok(|_| true));
        assert!(Events::from_values(&Values::of_program([("listen", "x")]).unwrap(), 1).unwrap().is_none());
    }

    #[test]
    fn a_key_is_64_hexadecimal_digits() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let check = |content: String, is_good: bool| {
            std::fs::write(file.path(), &content).unwrap();
            assert_eq!(read_key(file.path()).is_ok(), is_good, "{content:?}");
        };
        check("0f".repeat(32), true);
        check("0F".repeat(32) + "\n", true);
        check("0f".repeat(31), false);
        check("0g".repeat(32), false);
        check("+f".repeat(32), false);
        check("0f".repeat(33), false);
    }
}
