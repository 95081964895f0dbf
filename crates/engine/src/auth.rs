//! Credentials of those who may subscribe and publish: a pair of user and password, users with secrets, or both.

use std::fmt;
use std::num::NonZeroU32;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use subtle::{Choice, ConstantTimeEq};

/// Longest user name or password, bytes.
const CREDENTIAL_BYTES: usize = 255;

/// User names and secrets that the server takes.
#[derive(Clone, Default)]
pub struct Credentials {
    pair: Option<Pair>,
    /// By name.
    users: Box<[User]>,
}

/// One user name and its password.
#[derive(Clone)]
struct Pair {
    user: Padded,
    pass: Padded,
}

/// A user with a secret of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Name, 1 to 255 bytes.
    pub name: Box<str>,
    /// SHA-256 of the secret. The secret is random, so that a fast hash protects it (docs/decisions/0026-users.md).
    pub secret_sha256: [u8; SHA256_OUTPUT_LEN],
    /// Permissions and limits.
    pub access: Access,
}

impl User {
    /// The hash of a secret, as [`User::secret_sha256`] has it.
    pub fn hash(secret: &str) -> [u8; SHA256_OUTPUT_LEN] {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
        hash
    }
}

/// Permissions and limits of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// May subscribe to streams.
    pub subscribe: bool,
    /// May publish events.
    pub publish: bool,
    /// Connections on each shard; one more gets SERVER_BUSY. `None`: no limit of its own.
    pub connections: Option<NonZeroU32>,
    /// Events a second on each shard, of all its connections together, in the place of
    /// [`IngestConfig::events_per_second`](crate::IngestConfig::events_per_second). `None`: that holds.
    pub events_per_second: Option<NonZeroU32>,
}

impl Access {
    /// Every permission, and no limits.
    pub const ALL: Self = Self { subscribe: true, publish: true, connections: None, events_per_second: None };
}

/// The credential that an AUTH was accepted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// The pair's user and password.
    Pair,
    /// The pair's password, for the name in a certificate.
    Certified,
    /// The user at this index.
    User(usize),
}

impl Credentials {
    /// One user name and its password.
    ///
    /// # Errors
    /// If either is empty or longer than 255 bytes.
    pub fn new(user: &str, pass: &str) -> Result<Self, CredentialError> {
        let padded = |what, secret: &str| {
            Padded::new(secret.as_bytes()).ok_or(CredentialError { what, bytes: secret.len() })
        };
        let pair = Pair { user: padded("the user name", user)?, pass: padded("the password", pass)? };
        Ok(Self { pair: Some(pair), ..Self::default() })
    }

    /// Adds users, in the place of those that were added before. The names must differ, also from the pair's; the first
    /// of two counts.
    #[must_use]
    pub fn with_users(self, mut users: Vec<User>) -> Self {
        users.sort_by(|a, b| a.name.cmp(&b.name));
        Self { users: users.into(), ..self }
    }

    /// The pair's user name.
    pub(crate) fn pair_user(&self) -> &str {
        self.pair.as_ref().map_or("", |pair| pair.user.as_str())
    }

    /// The user at the index of a [`Grant::User`].
    pub(crate) fn user(&self, index: usize) -> &User {
        &self.users[index]
    }

    /// The user with this name.
    pub(crate) fn find(&self, name: &str) -> Option<&User> {
        self.users.binary_search_by(|user| (*user.name).cmp(name)).ok().map(|index| &self.users[index])
    }

    /// Compares the secret, for a client whose certificate names it.
    pub(crate) fn accept_certified(&self, name: &str, pass: &str) -> Option<Grant> {
        let certified = self.pair.as_ref().map_or(Choice::from(0), |pair| pair.pass.matches(pass.as_bytes()));
        // A user with a secret of its own doesn't come in with the pair's password.
        match (self.index_of(name), self.accept_user(name, pass)) {
            (Some(_), granted) => granted,
            (None, _) => bool::from(certified).then_some(Grant::Certified),
        }
    }

    /// Compares name and secret. Takes the same time for every `pass` of the same length, whatever is wrong with it,
    /// and the same for a name that is unknown.
    pub(crate) fn accept(&self, name: &str, pass: &str) -> Option<Grant> {
        let pair = self.pair.as_ref().map_or(Choice::from(0), |pair| {
            pair.user.matches(name.as_bytes()) & pair.pass.matches(pass.as_bytes())
        });
        let granted = self.accept_user(name, pass);
        if bool::from(pair) { Some(Grant::Pair) } else { granted }
    }

    fn accept_user(&self, name: &str, pass: &str) -> Option<Grant> {
        if self.users.is_empty() {
            return None;
        }
        let index = self.index_of(name);
        // Nobody's: an unknown name costs as much as a known one.
        let expected = index.map_or([0; SHA256_OUTPUT_LEN], |index| self.users[index].secret_sha256);
        let is_right: bool = User::hash(pass).ct_eq(&expected).into();
        index.filter(|_| is_right && pass.len() <= CREDENTIAL_BYTES).map(Grant::User)
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        self.users.binary_search_by(|user| (*user.name).cmp(name)).ok()
    }
}

/// An empty or overlong user name or password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be 1 to {CREDENTIAL_BYTES} bytes long, it has {bytes}")]
pub struct CredentialError {
    /// "the user name" or "the password".
    what: &'static str,
    bytes: usize,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("access", &self.access).finish_non_exhaustive()
    }
}

/// A string with its length in the first byte and zeros behind it: comparing two of them takes the same time
/// for all lengths.
#[derive(Clone)]
struct Padded([u8; CREDENTIAL_BYTES + 1]);

// No byte is left over when it is compared by words.
const _: () = assert!((CREDENTIAL_BYTES + 1).is_multiple_of(size_of::<u64>()));

impl Padded {
    fn as_str(&self) -> &str {
        let length = usize::from(self.0[0]);
        std::str::from_utf8(&self.0[1..=length]).expect("it was made of a str")
    }

    /// `None` if `secret` is empty or too long.
    fn new(secret: &[u8]) -> Option<Self> {
        let length = u8::try_from(secret.len()).ok().filter(|&length| length > 0)?;
        let mut padded = [0; CREDENTIAL_BYTES + 1];
        padded[0] = length;
        padded[1..=secret.len()].copy_from_slice(secret);
        Some(Self(padded))
    }

    fn matches(&self, offered: &[u8]) -> Choice {
        let (offered, usable) = match Self::new(offered) {
            Some(offered) => (offered, Choice::from(1)),
            None => (Self([0; CREDENTIAL_BYTES + 1]), Choice::from(0)),
        };
        self.words()[..].ct_eq(&offered.words()[..]) & usable
    }

    /// All of its bytes, which are compared many at a time.
    fn words(&self) -> [u64; (CREDENTIAL_BYTES + 1) / size_of::<u64>()] {
        let (words, _) = self.0.as_chunks();
        std::array::from_fn(|word| u64::from_ne_bytes(words[word]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, secret: &str) -> User {
        User { name: name.into(), secret_sha256: User::hash(secret), access: Access::ALL }
    }

    #[test]
    fn only_both_are_accepted() {
        let credentials = Credentials::new("ada", "s3cret").unwrap();
        let check = |user, pass, expected| {
            assert_eq!(credentials.accept(user, pass).is_some(), expected, "{user:?} {pass:?}");
        };
        check("ada", "s3cret", true);
        check("ada", "s3cre", false);
        check("ada", "s3cret\0", false);
        check("ada", "", false);
        check("", "s3cret", false);
        check("bob", "s3cret", false);
        check(&"a".repeat(300), &"b".repeat(300), false);
    }

    #[test]
    fn each_user_has_its_own_secret() {
        let users = vec![user("grace", "g1"), user("bob", "b1")];
        let pair = Credentials::new("ada", "s3cret").unwrap().with_users(users.clone());
        let alone = Credentials::default().with_users(users);
        let check = |name, pass, expected| {
            assert_eq!(pair.accept(name, pass), expected, "{name} {pass}");
            let expected = expected.filter(|grant| *grant != Grant::Pair);
            assert_eq!(alone.accept(name, pass), expected, "{name} {pass} without the pair");
        };
        check("bob", "b1", Some(Grant::User(0)));
        check("grace", "g1", Some(Grant::User(1)));
        check("ada", "s3cret", Some(Grant::Pair));
        for (name, pass) in [
            ("bob", "g1"),
            ("bob", "s3cret"),
            ("ada", "b1"),
            ("eve", "b1"),
            ("eve", ""),
            ("", ""),
            ("bob", ""),
        ] {
            check(name, pass, None);
        }
        assert_eq!(Credentials::default().accept("", ""), None);
        assert_eq!(pair.find("grace").map(|user| &*user.name), Some("grace"));
        assert_eq!(pair.find("ada"), None);
    }

    #[test]
    fn a_certificate_s_name_comes_with_its_own_secret_or_with_the_pair_s_password() {
        let credentials = Credentials::new("ada", "s3cret").unwrap().with_users(vec![user("bob", "b1")]);
        let check = |name, pass, expected| {
            assert_eq!(credentials.accept_certified(name, pass), expected, "{name} {pass}");
        };
        check("probe-7", "s3cret", Some(Grant::Certified));
        check("bob", "b1", Some(Grant::User(0)));
        check("bob", "s3cret", None);
        check("probe-7", "b1", None);
    }

    #[test]
    fn unusable_credentials_are_refused_and_never_shown() {
        assert!(Credentials::new("", "x").is_err());
        assert!(Credentials::new("x", "").is_err());
        assert!(Credentials::new("x", &"y".repeat(256)).is_err());
        let longest = "y".repeat(255);
        let credentials = Credentials::new("x", &longest).unwrap();
        assert!(credentials.accept("x", &longest).is_some());
        assert!(!format!("{credentials:?}").contains('y'));
        let shown = format!("{:?}", user("bob", "b1"));
        assert!(shown.starts_with("User { name: \"bob\"") && !shown.contains("secret"), "{shown}");
    }
}
