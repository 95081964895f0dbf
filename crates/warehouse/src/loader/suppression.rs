//! Identifiers that were erased: events that name them never come into the tables again.
//!
//! Only keyed hashes are kept: who reads the list learns no identifier, and can't try out guesses without the key.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::store::files;

/// Name of the list in the state directory.
pub const LIST: &str = "suppressed.json";
/// Answers that are remembered.
const CACHE_MAX: usize = 65_536;

/// Kind of an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A user's id.
    User,
    /// A session's id.
    Session,
    /// A device's or browser's id: the anonymous id.
    Device,
}

impl Subject {
    /// Column of `events` that holds the identifier's UUID.
    pub fn column(self) -> &'static str {
        match self {
            Self::User => "user_id",
            Self::Session => "session_id",
            Self::Device => "anonymous_id",
        }
    }
}

/// List of suppressed identifiers that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SuppressionError {
    /// The file can't be read or written.
    #[error("{action} {}", .path.display())]
    Io {
        /// Operation that failed.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The list beside tables in a bucket can't be read or written.
    #[error("reaching the list of suppressed identifiers beside the tables")]
    Bucket(#[from] deltalake::ObjectStoreError),
    /// Other hosts add all the time.
    #[error("other hosts added first {attempts} times")]
    Outpaced {
        /// Number of attempts.
        attempts: u32,
    },
    /// The file isn't a list.
    #[error("{} is no list of suppressed identifiers; restore it from a backup: without it, erased events could return", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        source: serde_json::Error,
    },
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct List {
    /// Rises with each entry.
    version: u64,
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    subject: Subject,
    /// HMAC-SHA-256 of the identifier, hexadecimal digits.
    hmac: String,
}

/// Suppressed identifiers.
pub struct Suppression {
    path: PathBuf,
    key: hmac::Key,
    version: u64,
    entries: HashSet<(Subject, [u8; 32])>,
    /// Identifiers that were asked for; cleared with each entry.
    known: HashMap<(Subject, Box<[u8]>), bool>,
}

impl std::fmt::Debug for Suppression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suppression")
            .field("version", &self.version)
            .field("entries", &self.entries.len())
            .finish()
    }
}

impl Suppression {
    /// Reads the list in `directory`.
    ///
    /// # Errors
    /// If it is damaged or can't be read.
    pub fn open(directory: &Path, key: &[u8]) -> Result<Self, SuppressionError> {
        let path = directory.join(LIST);
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let mut suppression = Self { path, key, version: 0, entries: HashSet::new(), known: HashMap::new() };
        suppression.reload()?;
        Ok(suppression)
    }

    /// Rises with each entry.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Reads the list again.
    ///
    /// # Errors
    /// If it is damaged or can't be read.
    pub fn reload(&mut self) -> Result<(), SuppressionError> {
        let list = self.read()?;
        self.version = list.version;
        self.entries =
            list.entries.iter().filter_map(|entry| Some((entry.subject, digits(&entry.hmac)?))).collect();
        self.known.clear();
        Ok(())
    }

    fn read(&self) -> Result<List, SuppressionError> {
        let path = self.path.clone();
        match fs::read(&self.path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| SuppressionError::Damaged { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(List::default()),
            Err(source) => Err(SuppressionError::Io { action: "reading", path, source }),
        }
    }

    /// Adds identifiers; the list is on stable storage when this returns. The new version.
    ///
    /// # Errors
    /// If the list can't be written.
    pub fn add(&mut self, identifiers: &[(Subject, &[u8])]) -> Result<u64, SuppressionError> {
        let mut list = self.read()?;
        for (subject, identifier) in identifiers {
            let hash = self.hash(*subject, identifier);
            if !self.entries.contains(&(*subject, hash)) {
                let mut text = Vec::new();
                crate::events::text::hex(&hash, &mut text);
                let hmac = String::from_utf8_lossy(&text).into_owned();
                list.entries.push(Entry { subject: *subject, hmac });
            }
        }
        list.version += 1;
        let bytes = serde_json::to_vec(&list).expect("texts and numbers have JSON");
        files::write_synced(&self.path, &bytes).map_err(|source| SuppressionError::Io {
            action: "writing",
            path: self.path.clone(),
            source,
        })?;
        self.reload()?;
        Ok(self.version)
    }

    /// True if events that name the identifier are kept out.
    pub fn contains(&mut self, subject: Subject, identifier: &[u8]) -> bool {
        if self.entries.is_empty() || identifier.is_empty() {
            return false;
        }
        let key = (subject, Box::<[u8]>::from(identifier));
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let found = self.entries.contains(&(subject, self.hash(subject, identifier)));
        if self.known.len() == CACHE_MAX {
            self.known.clear();
        }
        self.known.insert(key, found);
        found
    }

    /// True if nothing is suppressed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True if a text in a JSON text, a key excepted, is a suppressed identifier.
    pub fn is_mentioned(&mut self, json: &[u8]) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        texts(json).any(|text| {
            // An identifier has at most 128 bytes.
            let is_identifier = (1..=128).contains(&text.len());
            is_identifier
                && [Subject::User, Subject::Session, Subject::Device]
                    .iter()
                    .any(|subject| self.contains(*subject, &text))
        })
    }

    fn hash(&self, subject: Subject, identifier: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(match subject {
            Subject::User => b"user\0",
            Subject::Session => b"sess\0",
            Subject::Device => b"devc\0",
        });
        context.update(identifier);
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// Strings of a JSON text that are values, without escapes.
fn texts(json: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + json.get(at..)?.iter().position(|byte| *byte == b'"')? + 1;
            let mut end = start;
            let mut has_escapes = false;
            while *json.get(end)? != b'"' {
                has_escapes |= json[end] == b'\\';
                end += 1 + usize::from(json[end] == b'\\');
            }
            at = end + 1;
            if json.get(at) == Some(&b':') {
                continue;
            }
            let text = &json[start..end];
            if !has_escapes {
                return Some(Cow::Borrowed(text));
            }
            let plain: Option<String> = serde_json::from_slice(&json[start - 1..=end]).ok();
            return Some(Cow::Owned(plain.unwrap_or_default().into_bytes()));
        }
    })
}

fn digits(text: &str) -> Option<[u8; 32]> {
    let bytes = text.as_bytes();
    let mut hash = [0; 32];
    if bytes.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suppressed_identifiers_are_known_after_a_restart_and_stand_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let mut suppression = Suppression::open(directory.path(), b"key").unwrap();
        assert!(!suppression.contains(Subject::User, b"someone@example.com"));
        assert_eq!(suppression.add(&[(Subject::User, b"someone@example.com")]).unwrap(), 1);
        assert!(suppression.contains(Subject::User, b"someone@example.com"));
        assert!(!suppression.contains(Subject::Session, b"someone@example.com"));
        let mut again = Suppression::open(directory.path(), b"key").unwrap();
        assert!(again.contains(Subject::User, b"someone@example.com"));
        assert!(!again.contains(Subject::User, b"other@example.com"));
        assert!(
            !Suppression::open(directory.path(), b"else")
                .unwrap()
                .contains(Subject::User, b"someone@example.com")
        );
        let text = fs::read_to_string(directory.path().join(LIST)).unwrap();
        assert!(!text.contains("someone"), "{text}");
    }

    #[test]
    fn an_identifier_that_another_event_mentions_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let mut suppression = Suppression::open(directory.path(), b"key").unwrap();
        assert!(!suppression.is_mentioned(br#"{"a":"ada"}"#));
        suppression.add(&[(Subject::User, b"ada"), (Subject::User, "a\"b".as_bytes())]).unwrap();
        let mut check =
            |json: &str, expected| assert_eq!(suppression.is_mentioned(json.as_bytes()), expected, "{json}");
        check(r#"{"alias":{"previous_id":"ada"}}"#, true);
        check(r#"{"ada":"x"}"#, false);
        check(r#"{"x":["y","a\"b"]}"#, true);
        check(r#"{"x":"ada lovelace"}"#, false);
        check(r#"{"x":"unfinished"#, false);
        check("", false);
    }

    #[test]
    fn a_damaged_list_is_an_error_and_no_empty_list() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(LIST), b"{").unwrap();
        let error = Suppression::open(directory.path(), b"key").unwrap_err();
        assert!(error.to_string().contains("suppressed.json"), "{error}");
    }
}
