//! Keys of senders: the file that `--keys` names.
//!
//! ```toml
//! [key.web]
//! secret = "wk_5c1f9a"          # public: it stands in each page
//! public = true
//! origins = ["https://shop.example"]
//! address_events_per_second = 50
//!
//! [key.backend]
//! secret = "bk_0b77…"
//! events_per_second = 20000
//! ```

use std::{
    collections::HashMap,
    fmt, io,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use ring::digest::{SHA256, digest};
use serde::Deserialize;
use tickstream_client::events::EventType;
use tickstream_service::settings::read_bounded;

use crate::{cardinality::SeriesLimit, event_id::key_namespace, quota::Rate};

/// Longest file, bytes: several thousand keys.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Rights of the senders that know one secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its name in the file, which is stored with each event.
    pub name: String,
    /// The secret is known to everybody: event ids are taken into the key's namespace, and kinds are those of clients
    /// unless the file says otherwise.
    pub is_public: bool,
    /// Namespace of the ids of its events.
    pub namespace: [u8; 16],
    /// Kinds of events that it may send; empty: all.
    pub kinds: Vec<EventType>,
    /// Origins from which browsers may send; empty: all. It keeps honest pages apart and protects nothing: whoever
    /// isn't a browser sends what it likes.
    pub origins: Vec<String>,
    /// Quota of all senders together.
    pub quota: Option<Rate>,
    /// Quota of each address.
    pub address_quota: Option<Rate>,
    /// Bound on the series of each metric.
    pub series: Arc<SeriesLimit>,
}

/// Series of a metric within an hour where the file doesn't say.
const SERIES_MAX: usize = 1_000_000;

impl Key {
    /// The key of senders where there is no file: it may do everything.
    pub fn unrestricted(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_public: false,
            namespace: key_namespace(name),
            kinds: Vec::new(),
            origins: Vec::new(),
            quota: None,
            address_quota: None,
            series: Arc::new(SeriesLimit::new(SERIES_MAX)),
        }
    }

    /// True if it may send events of this kind.
    pub fn allows(&self, kind: i32) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|allowed| *allowed as i32 == kind)
    }
}

/// All keys.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// By the SHA-256 of the secret, so that the time of a look-up tells nothing of the secret.
    by_secret: HashMap<[u8; 32], Arc<Key>>,
    by_name: HashMap<String, (Secret, Arc<Key>)>,
}

/// A secret, which no log has.
#[derive(Clone)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The keys at present; `None`: whoever reaches a listener may send.
pub type SharedKeys = Arc<RwLock<Option<Arc<Keys>>>>;

/// The keys at present.
pub fn present(keys: &SharedKeys) -> Option<Arc<Keys>> {
    keys.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Keys of protocols that have no place for a secret in each message.
#[derive(Clone, Debug)]
pub struct StreamKeys {
    keys: SharedKeys,
    /// Name of the key of senders that don't prove to have one.
    name: String,
    /// The key where the file has none of that name.
    any_key: Arc<Key>,
}

impl StreamKeys {
    /// Keys of a collector.
    pub fn new(keys: SharedKeys, name: &str) -> Self {
        Self { keys, name: name.to_owned(), any_key: Arc::new(Key::unrestricted(name)) }
    }

    /// The key of a sender that has proven to have the one of this name, or none. `None`: it is no longer in the file.
    pub fn key(&self, proven: Option<&str>) -> Option<Arc<Key>> {
        let keys = present(&self.keys);
        let named = |name: &str| keys.as_ref().and_then(|keys| keys.named(name)).cloned();
        match proven {
            Some(name) => named(name),
            None => Some(named(&self.name).unwrap_or_else(|| self.any_key.clone())),
        }
    }
}

/// Why a file of keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file can't be read.
    #[error("can't read {path}")]
    Read {
        /// The file.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// The file isn't TOML, or has settings that there aren't.
    #[error("{path} is no file of keys")]
    Syntax {
        /// The file.
        path: String,
        /// The parser's error, with line and column.
        source: Box<toml::de::Error>,
    },
    /// A key can't be as it is.
    #[error("[key.{name}] {problem}")]
    Key {
        /// The key.
        name: String,
        /// The problem, and its remedy.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: HashMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    secret: String,
    #[serde(default)]
    public: bool,
    kinds: Option<Vec<String>>,
    #[serde(default)]
    origins: Vec<String>,
    events_per_second: Option<f64>,
    burst_events: Option<f64>,
    address_events_per_second: Option<f64>,
    address_burst_events: Option<f64>,
    series_max: Option<usize>,
}

impl Keys {
    /// Reads a file.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let shown = path.display().to_string();
        match read_bounded(path, FILE_BYTES_MAX) {
            Ok(text) => Self::parse(&text, &shown),
            Err(source) => Err(KeysError::Read { path: shown, source }),
        }
    }

    /// Reads the text of a file with this name.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn parse(text: &str, path: &str) -> Result<Self, KeysError> {
        let file: File = toml::from_str(text)
            .map_err(|source| KeysError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        let mut keys = Self::default();
        for (name, entry) in file.key {
            let problem = |problem: String| KeysError::Key { name: name.clone(), problem };
            let secret = Secret(entry.secret.clone());
            check_secret(&name, &secret.0).map_err(problem)?;
            let key = Arc::new(entry.key(&name).map_err(problem)?);
            if let Some(other) = keys.by_secret.insert(hash(&secret.0), key.clone()) {
                return Err(problem(format!("has the secret of [key.{}]; give each its own", other.name)));
            }
            keys.by_name.insert(name, (secret, key));
        }
        Ok(keys)
    }

    /// The key with this secret.
    pub fn find(&self, secret: &str) -> Option<&Arc<Key>> {
        self.by_secret.get(&hash(secret))
    }

    /// The key with this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Key>> {
        self.by_name.get(name).map(|(_, key)| key)
    }

    /// The key whose secret a sender has proven to know without sending it, and what `check` gives for that secret.
    pub fn proven<T>(&self, check: impl Fn(&str) -> Option<T>) -> Option<(&Arc<Key>, T)> {
        self.by_name.values().find_map(|(secret, key)| Some((key, check(&secret.0)?)))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.by_secret.len()
    }

    /// True if there are no keys.
    pub fn is_empty(&self) -> bool {
        self.by_secret.is_empty()
    }
}

fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}

fn check_secret(name: &str, secret: &str) -> Result<(), String> {
    if !(1..=64).contains(&name.len()) {
        return Err("has a name of more than 64 bytes, or none".to_owned());
    }
    let is_visible = secret.bytes().all(|byte| byte.is_ascii_graphic());
    if !(1..=256).contains(&secret.len()) || !is_visible {
        return Err("needs a secret of 1 to 256 visible ASCII characters".to_owned());
    }
    if secret.len() < SECRET_LEN_GOOD {
        tracing::warn!(
            key = name,
            "the secret of this key has less than {SECRET_LEN_GOOD} characters: it can be guessed"
        );
    }
    Ok(())
}

/// Characters of a secret that nobody guesses; shorter ones are taken, as some write keys of other systems are.
const SECRET_LEN_GOOD: usize = 16;

impl Entry {
    fn key(self, name: &str) -> Result<Key, String> {
        let kinds = match (&self.kinds, self.public) {
            (Some(names), _) => names.iter().map(|name| kind(name)).collect::<Result<_, _>>()?,
            (None, true) => CLIENT_KINDS.to_vec(),
            (None, false) => Vec::new(),
        };
        Ok(Key {
            is_public: self.public,
            kinds,
            quota: rate("events_per_second", self.events_per_second, self.burst_events)?,
            address_quota: rate(
                "address_events_per_second",
                self.address_events_per_second,
                self.address_burst_events,
            )?,
            origins: self.origins,
            series: Arc::new(SeriesLimit::new(self.series_max.unwrap_or(SERIES_MAX))),
            ..Key::unrestricted(name)
        })
    }
}

/// Kinds that applications on users' devices send. Not among them is an alias, by which anybody could merge two users.
const CLIENT_KINDS: &[EventType] = &[
    EventType::UserInteraction,
    EventType::Performance,
    EventType::Video,
    EventType::Custom,
    EventType::Exposure,
    EventType::Identify,
    EventType::Group,
    EventType::Consent,
    EventType::Feedback,
    EventType::Crash,
    EventType::ReplayChunk,
];

fn kind(name: &str) -> Result<EventType, String> {
    let constant = format!("EVENT_TYPE_{}", name.to_ascii_uppercase());
    let known = EventType::from_str_name(&constant).filter(|kind| *kind != EventType::Unspecified);
    known.ok_or_else(|| {
        format!("has a kind \"{name}\" that there isn't; such as \"log\" or \"user_interaction\"")
    })
}

/// Seconds of the rate that may come at once where the file doesn't say.
const BURST_SECONDS: f64 = 10.0;

fn rate(setting: &str, per_second: Option<f64>, burst: Option<f64>) -> Result<Option<Rate>, String> {
    let Some(per_second) = per_second else {
        let lonely = burst.is_some();
        return if lonely { Err(format!("has a burst without {setting}")) } else { Ok(None) };
    };
    let burst = burst.unwrap_or(per_second * BURST_SECONDS).max(1.0);
    let holds = per_second > 0.0 && per_second <= 1e9 && burst <= 1e10;
    if holds {
        Ok(Some(Rate { per_second, burst }))
    } else {
        Err(format!("needs {setting} above 0, at most 10⁹"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        let error = Keys::parse(text, "keys.toml").unwrap_err();
        std::error::Error::source(&error).map_or(error.to_string(), |source| format!("{error}: {source}"))
    }

    #[test]
    fn a_file_gives_keys_by_their_secrets() {
        let keys = Keys::parse(
            r#"
            [key.web]
            secret = "wk_5c1f9a00"
            public = true
            origins = ["https://shop.example"]
            address_events_per_second = 50
            [key.backend]
            secret = "bk_0b77ffee"
            kinds = ["log", "trace_span"]
            events_per_second = 20000.0
            burst_events = 1000
            "#,
            "keys.toml",
        )
        .unwrap();
        let web = keys.find("wk_5c1f9a00").unwrap();
        assert_eq!((web.name.as_str(), web.is_public, web.quota), ("web", true, None));
        assert_eq!(web.address_quota, Some(Rate { per_second: 50.0, burst: 500.0 }));
        assert!(web.allows(EventType::Video as i32) && !web.allows(EventType::Log as i32));
        let backend = keys.named("backend").unwrap();
        assert_eq!(backend.quota, Some(Rate { per_second: 20_000.0, burst: 1000.0 }));
        assert!(backend.allows(EventType::Log as i32) && !backend.allows(EventType::Video as i32));
        let (proven, len) = keys.proven(|secret| secret.starts_with("wk_").then_some(secret.len())).unwrap();
        assert_eq!((&proven.name[..], len), ("web", 11));
        assert!(!format!("{keys:?}").contains("5c1f9a00"), "{keys:?}");
        assert_ne!(web.namespace, backend.namespace);
        assert!(keys.find("wk_5c1f9a0").is_none());
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("[key.a]\nsecret = \"\"", "[key.a] needs a secret of 1 to 256"),
            ("[key.a]\nsecret = \"white space\"", "[key.a] needs a secret of 1 to 256"),
            ("[key.a]\nsecret = \"12345678\"\nkinds = [\"logs\"]", "a kind \"logs\" that there isn't"),
            ("[key.a]\nsecret = \"12345678\"\nqouta = 1", "unknown field `qouta`"),
            ("[key.a]\nsecret = \"12345678\"\nevents_per_second = 0", "events_per_second above 0"),
            ("[key.a]\nsecret = \"12345678\"\nevents_per_second = nan", "events_per_second above 0"),
            ("[key.a]\nsecret = \"12345678\"\nburst_events = 5", "a burst without events_per_second"),
            ("[key.a]\npublic = true", "missing field `secret`"),
            ("[key.a]\nsecret = \"12345678\"\n[key.b]\nsecret = \"12345678\"", "has the secret of [key."),
        ];
        for (text, expected) in cases {
            assert!(problem(text).contains(expected), "{text}: {}", problem(text));
        }
    }
}
