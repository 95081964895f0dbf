//! Users out of a file: each with the hash of a random secret, its roles and its limits.
//!
//! ```toml
//! [[user]]
//! name = "ada"
//! secret_sha256 = "2bb8…"
//! roles = ["subscribe", "publish"]
//! connections_max = 10           # on each shard
//! events_per_second_max = 1000   # on each shard
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::num::NonZeroU32;
use std::path::Path;

use serde::Deserialize;
use tickstream_engine::{Access, User};
use tickstream_service::credentials::Credentials;
use tickstream_service::settings::read_bounded;

/// Longest file, bytes: some 20,000 users.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Role of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May subscribe to streams.
    Subscribe,
    /// May publish events.
    Publish,
}

impl Role {
    /// Every one of them, with its name in the file.
    pub const ALL: [(&'static str, Self); 2] = [("subscribe", Self::Subscribe), ("publish", Self::Publish)];
}

/// A file of users that can't be used. Each message continues the sentence that begins with the setting.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The file can't be read.
    #[error("can't be read: {0}")]
    Read(io::Error),
    /// The file isn't TOML, or has other keys.
    #[error("isn't a file of users: {0}")]
    Syntax(String),
    /// A user that can't be. Its hash isn't shown.
    #[error("has a wrong entry: user {name:?} (entry {entry}): {reason}")]
    Entry {
        /// Number of the entry, from 1.
        entry: usize,
        /// Its name.
        name: String,
        /// The reason.
        reason: &'static str,
    },
    /// No client could authenticate.
    #[error(
        "has no users, and stream_user isn't set: nobody could authenticate; `tickstream user-secret NAME` makes an entry"
    )]
    Nobody,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    user: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    secret_sha256: String,
    roles: Vec<Role>,
    connections_max: Option<NonZeroU32>,
    events_per_second_max: Option<NonZeroU32>,
}

/// Reads the users of a file; `pair_user` is the name in stream_user.
///
/// # Errors
/// See [`UsersError`].
pub fn read_users(path: &Path, pair_user: Option<&str>) -> Result<Vec<User>, UsersError> {
    parse(&read_bounded(path, FILE_BYTES_MAX).map_err(UsersError::Read)?, pair_user)
}

fn parse(text: &str, pair_user: Option<&str>) -> Result<Vec<User>, UsersError> {
    // The parser's excerpt of the file isn't shown: it may be in a log, and have a hash in it.
    let syntax = |error: toml::de::Error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        UsersError::Syntax(format!("{place}{}", error.message().replace('\n', " ")))
    };
    let File { user: entries } = toml::from_str(text).map_err(syntax)?;
    let mut users: Vec<User> = Vec::with_capacity(entries.len());
    let mut names = std::collections::HashSet::new();
    for (place, entry) in entries.into_iter().enumerate() {
        let name = entry.name.clone();
        let checked = entry.user().and_then(|user| {
            if pair_user == Some(&*user.name) {
                return Err("stream_user has this name; take the entry or the setting out");
            }
            if names.insert(user.name.clone()) { Ok(user) } else { Err("an entry before has the same name") }
        });
        users.push(checked.map_err(|reason| UsersError::Entry { entry: place + 1, name, reason })?);
    }
    if users.is_empty() && pair_user.is_none() {
        return Err(UsersError::Nobody);
    }
    Ok(users)
}

impl Entry {
    fn user(self) -> Result<User, &'static str> {
        if !is_name(&self.name) {
            return Err("a name has 1 to 255 bytes, none of them a control character");
        }
        let secret_sha256 = from_hex(&self.secret_sha256)
            .ok_or("secret_sha256 has 64 hexadecimal digits; `tickstream user-secret` makes them")?;
        if self.roles.is_empty() {
            return Err("roles names at least one of \"subscribe\" and \"publish\"");
        }
        let access = Access {
            subscribe: self.roles.contains(&Role::Subscribe),
            publish: self.roles.contains(&Role::Publish),
            connections: self.connections_max,
            events_per_second: self.events_per_second_max,
        };
        Ok(User { name: self.name.into(), secret_sha256, access })
    }
}

/// True for text that a user may be called.
pub fn is_name(text: &str) -> bool {
    (1..=Credentials::BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

/// The entry of a user, as the file has it.
pub fn entry(user: &User) -> String {
    let User { name, secret_sha256, access } = user;
    let roles: Vec<_> = [("subscribe", access.subscribe), ("publish", access.publish)]
        .into_iter()
        .filter(|(_, has)| *has)
        .map(|(role, _)| format!("{role:?}"))
        .collect();
    let mut hex = String::new();
    secret_sha256.iter().for_each(|byte| write!(hex, "{byte:02x}").expect("writing to a String can't fail"));
    // A name has no control characters, so that these two are all that a basic string escapes.
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    let roles = roles.join(", ");
    let mut text = format!("[[user]]\nname = \"{name}\"\nsecret_sha256 = \"{hex}\"\nroles = [{roles}]\n");
    for (key, limit) in
        [("connections_max", access.connections), ("events_per_second_max", access.events_per_second)]
    {
        if let Some(limit) = limit {
            writeln!(text, "{key} = {limit}").expect("writing to a String can't fail");
        }
    }
    text
}

/// Differences between two files of users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsersChange {
    /// Names of users that are new.
    pub added: Vec<String>,
    /// Names of users that are gone: their connections end.
    pub removed: Vec<String>,
    /// Names of users with another secret, other roles or other limits.
    pub changed: Vec<String>,
}

impl UsersChange {
    /// The change from `old` to `new`.
    pub fn between(old: &[User], new: &[User]) -> Self {
        let by_name = |users: &[User]| -> BTreeMap<Box<str>, User> {
            users.iter().map(|user| (user.name.clone(), user.clone())).collect()
        };
        let (old, new) = (by_name(old), by_name(new));
        let names = |users: &BTreeMap<Box<str>, User>, is_meant: &dyn Fn(&User) -> bool| {
            users.values().filter(|user| is_meant(user)).map(|user| user.name.to_string()).collect()
        };
        Self {
            added: names(&new, &|user| !old.contains_key(&user.name)),
            removed: names(&old, &|user| !new.contains_key(&user.name)),
            changed: names(&new, &|user| old.get(&user.name).is_some_and(|before| before != user)),
        }
    }

    /// True if nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<_> = digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn check(text: &str, pair_user: Option<&str>, expected: Result<&[&str], &str>) {
        match (parse(&text.replace("HASH", HASH), pair_user), expected) {
            (Ok(users), Ok(expected)) => {
                assert_eq!(users.iter().map(|user| &*user.name).collect::<Vec<_>>(), expected, "{text}");
            }
            (Err(error), Err(part)) => {
                let error = error.to_string();
                assert!(error.contains(part) && !error.contains(&HASH[..12]), "{error}");
            }
            (found, expected) => panic!("{text}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_file_has_users() {
        let ada = "[[user]]\nname = \"ada\"\nsecret_sha256 = \"HASH\"\nroles = [\"subscribe\"]\n";
        check(ada, None, Ok(&["ada"]));
        check("", Some("eve"), Ok(&[]));
        check("", None, Err("has no users"));
        check(&format!("{ada}{ada}"), None, Err("user \"ada\" (entry 2): an entry before has the same name"));
        check(ada, Some("ada"), Err("stream_user has this name"));
        check(&ada.replace("\"subscribe\"", ""), None, Err("at least one of"));
        check(&ada.replace("\"subscribe\"", "\"admin\""), None, Err("line 4: unknown variant `admin`"));
        check(&ada.replace("HASH", "HAS"), None, Err("64 hexadecimal digits"));
        check(&ada.replace("ada", ""), None, Err("a name has 1 to 255 bytes"));
        check(&ada.replace("ada", "a\\nb"), None, Err("a name has 1 to 255 bytes"));
        check(&format!("{ada}connections_max = 0"), None, Err("line 5: invalid value"));
        check(&format!("{ada}password = \"x\""), None, Err("unknown field `password`"));
        check("[[user]\n", None, Err("line 1: "));
        check("[[user]]\nname = \"ada\"\nsecret_sha256 = \"HASH\n", None, Err("line 3: "));
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let some = NonZeroU32::new;
        for (name, access) in [
            ("ada", Access::ALL),
            ("a \"quoted\" \\ name é", Access { subscribe: false, connections: some(3), ..Access::ALL }),
            ("a'b", Access { publish: false, events_per_second: some(9), ..Access::ALL }),
        ] {
            let user = User { name: name.into(), secret_sha256: from_hex(HASH).unwrap(), access };
            assert_eq!(parse(&entry(&user), None).unwrap(), [user]);
        }
    }

    #[test]
    fn changes_are_named() {
        let user = |name: &str, access| User { name: name.into(), secret_sha256: [0; 32], access };
        let reader = Access { publish: false, ..Access::ALL };
        let old = [user("ada", Access::ALL), user("bob", Access::ALL), user("eve", Access::ALL)];
        let new = [user("eve", reader), user("ada", Access::ALL), user("zoe", Access::ALL)];
        let change = UsersChange::between(&old, &new);
        let (added, removed) = (vec!["zoe".to_owned()], vec!["bob".to_owned()]);
        assert_eq!(change, UsersChange { added, removed, changed: vec!["eve".to_owned()] });
        assert!(UsersChange::between(&old, &old).is_empty());
    }
}
