//! Event collection: the journal, its retention, privacy.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tickstream_engine::{PrivacyAction, PrivacyConfig};
use tickstream_journal::Retention;

use tickstream_service::settings::{ConfigError, ValueError, Values, read_bounded};

use super::readers::SettingError;
use super::settings::{PeerPrivacy, Settings, UnloadedEvents, setting};

const MIB: u64 = 1 << 20;
/// Bytes of a key, decoded.
const KEY_BYTES: usize = 32;
/// A file with a key holds its hexadecimal digits and at most a newline.
const KEY_FILE_BYTES_MAX: u64 = 2 * KEY_BYTES as u64 + 2;
/// The file with the host's name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Event collection; a [`Config`](super::Config) has it if events are collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// The directory that holds a journal for each shard.
    pub journal: PathBuf,
    /// Length of a segment of a journal, bytes.
    pub segment_bytes: u64,
    /// Largest size of one shard's journal, bytes.
    pub journal_bytes_max: Option<u64>,
    /// Time that events are kept.
    pub journal_age_max: Option<Duration>,
    /// True if events that are too old are removed although a consumer hasn't loaded them.
    pub age_removes_unloaded: bool,
    /// Age of a segment at which the next one is begun.
    pub segment_age: Duration,
    /// The server's name in records.
    pub server_id: Box<str>,
    /// PUBLISHes of one connection that may be on the way.
    pub credits: NonZeroU32,
    /// Largest payload of a PUBLISH, bytes.
    pub publish_bytes: u32,
    /// Events of one connection in a second.
    pub events_per_second: Option<NonZeroU32>,
    /// Greatest age of an event.
    pub age_max: Duration,
    /// Greatest lead of an event's time over the clock.
    pub ahead_max: Duration,
    /// Event ids that a shard remembers.
    pub event_ids: u32,
    /// Rules for fields of events, applied before they are stored.
    pub privacy: PrivacyConfig,
}

impl Events {
    /// Event collection of these settings; `None` without a journal, with which the others mean something.
    pub(super) fn new(
        settings: &Settings,
        values: &Values,
        shards: usize,
    ) -> Result<Option<Self>, ConfigError> {
        let segment_bytes = u64::from(settings.journal_segment_mib) * MIB;
        let journal_bytes_max = journal_bytes_max(settings, values, shards, segment_bytes)?;
        let (server_id, privacy) = (server_id(settings, values)?, privacy(settings, values)?);
        Ok(settings.journal.clone().map(|journal| Self {
            journal,
            segment_bytes,
            journal_bytes_max,
            journal_age_max: settings.journal_max_days,
            age_removes_unloaded: settings.journal_unloaded == UnloadedEvents::Remove,
            segment_age: settings.journal_segment_age,
            server_id,
            credits: settings.publish_credits,
            publish_bytes: settings.publish_size_max.get(),
            events_per_second: settings.publish_events_per_second_max,
            age_max: settings.event_age_max_days,
            ahead_max: settings.event_ahead_max,
            event_ids: settings.event_ids_max,
            privacy,
        }))
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

/// Each shard's share of what all journals may take. It must hold a segment that is full, one that is written and one
/// that is made ready.
fn journal_bytes_max(
    settings: &Settings,
    values: &Values,
    shards: usize,
    segment_bytes: u64,
) -> Result<Option<u64>, ConfigError> {
    let Some(all) = settings.journal_max_mib else { return Ok(None) };
    let share = u64::from(all.get()) * MIB / shards as u64;
    if share < 3 * segment_bytes {
        let least = 3 * segment_bytes * shards as u64 / MIB;
        return Err(values
            .get(&setting::journal_max_mib)
            .invalid(SettingError::JournalSize { shards, least }));
    }
    Ok(Some(share))
}

fn server_id(settings: &Settings, values: &Values) -> Result<Box<str>, ConfigError> {
    if let Some(name) = &settings.server_id {
        return Ok(name.as_str().into());
    }
    let name = std::fs::read_to_string(HOST_NAME)
        .map_err(|source| values.get(&setting::server_id).invalid(ValueError::File(source)))?;
    Ok(name.trim().into())
}

fn privacy(settings: &Settings, values: &Values) -> Result<PrivacyConfig, ConfigError> {
    let rules = settings.privacy_rules.clone();
    let hashes = rules.iter().any(|rule| rule.action == PrivacyAction::Hash);
    let wrong = |reason: ValueError| values.get(&setting::privacy_rules).invalid(reason);
    let key = match &settings.privacy_key_file {
        Some(file) => {
            read_key(file).map_err(|error| values.get(&setting::privacy_key_file).invalid(error))?
        }
        None if hashes => return Err(wrong(ValueError::Needs { other: "privacy_key_file" })),
        None => [0; _],
    };
    let truncates_peer = settings.privacy_peer == PeerPrivacy::Truncate;
    PrivacyConfig::new(rules, key, truncates_peer).map_err(|error| wrong(SettingError::Privacy(error).into()))
}

/// A key in hexadecimal digits.
fn read_key(path: &Path) -> Result<[u8; KEY_BYTES], ValueError> {
    let text = read_bounded(path, KEY_FILE_BYTES_MAX).map_err(ValueError::File)?;
    let digits = text.trim_end_matches(['\r', '\n']).as_bytes();
    if digits.len() != 2 * KEY_BYTES {
        return Err(SettingError::PrivacyKey.into());
    }
    let mut key = [0; KEY_BYTES];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let pair =
            std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()));
        *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or(SettingError::PrivacyKey)?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TABLE;

    fn check(settings: &[(&str, &str)], expected: Result<fn(&Events) -> bool, &str>) {
        let values = Values::of_program(&TABLE, settings.iter().copied()).unwrap();
        let events = Settings::read(&values).and_then(|settings| Events::new(&settings, &values, 2));
        match (events, expected) {
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
        let values = Values::of_program(&TABLE, [("listen", "0.0.0.0:1")]).unwrap();
        let settings = Settings::read(&values).unwrap();
        assert!(Events::new(&settings, &values, 1).unwrap().is_none());
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
