//! Users of the SQL wires, and their roles. Passwords stand in files of their own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use serde::Deserialize;

use crate::query::Role;

/// Users that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// A file can't be read.
    #[error("reading {}", .path.display())]
    Read {
        /// The one in question.
        path: PathBuf,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// The file isn't a list of users.
    #[error("{} is no list of users", .path.display())]
    Syntax {
        /// The one in question.
        path: PathBuf,
        /// The problem with it.
        source: Box<toml::de::Error>,
    },
    /// A user has no password.
    #[error("the password of user {user:?} in {} is empty", .path.display())]
    Empty {
        /// The user.
        user: String,
        /// File of the password.
        path: PathBuf,
    },
    /// No user, or one twice.
    #[error("{} must name each user once, and at least one", .path.display())]
    Names {
        /// The file.
        path: PathBuf,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    user: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    password_file: PathBuf,
    #[serde(default)]
    sees_personal: bool,
    #[serde(default)]
    teams: Vec<String>,
}

/// Rounds of PBKDF2 in SCRAM-SHA-256 (RFC 7677).
pub const SCRAM_ROUNDS: u32 = 4096;

/// Access to the SQL wires.
#[derive(Clone, Debug)]
pub enum Access {
    /// Users with passwords.
    Users(Users),
    /// Every process of this host, on addresses of the loopback alone.
    Local,
}

impl Access {
    /// True if a listener at `address` may serve with this access.
    pub fn allows(&self, address: SocketAddr) -> bool {
        matches!(self, Self::Users(_)) || address.ip().is_loopback()
    }

    /// Rights that its users have: to see what is personal, or not.
    pub fn sees_personal(&self) -> BTreeSet<bool> {
        match self {
            Self::Local => BTreeSet::from([true]),
            Self::Users(users) => users.users.iter().map(|user| user.role.sees_personal).collect(),
        }
    }
}

/// Users and roles.
#[derive(Clone)]
pub struct Users {
    users: Vec<User>,
    /// Key of the salts of names that nobody has.
    unknown: hmac::Key,
}

#[derive(Clone)]
struct User {
    name: String,
    password: digest::Digest,
    salted: Salted,
    role: Role,
}

/// Password as SCRAM-SHA-256 knows it.
#[derive(Clone)]
pub struct Salted {
    /// Salt of the password.
    pub salt: Vec<u8>,
    /// Password after [`SCRAM_ROUNDS`] rounds with the salt.
    pub password: Vec<u8>,
}

impl Salted {
    fn new(password: &[u8], salt: &[u8]) -> Self {
        let rounds = NonZeroU32::new(SCRAM_ROUNDS).expect("it isn't zero");
        let mut salted = vec![0; digest::SHA256_OUTPUT_LEN];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password, &mut salted);
        Self { salt: salt.to_vec(), password: salted }
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.users.iter().map(|user| &user.name)).finish()
    }
}

impl Users {
    /// Reads users from a TOML file: `[[user]]` with `name`, `password_file`, `sees_personal` and `teams`. Files of
    /// passwords are relative to it.
    ///
    /// # Errors
    /// [`UsersError`] names the file.
    pub fn read(path: &Path) -> Result<Self, UsersError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| UsersError::Read { path: path.to_owned(), source })
        };
        let file: File = toml::from_str(&read(path)?)
            .map_err(|source| UsersError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        let mut users: Vec<User> = Vec::new();
        for entry in file.user {
            let password_file = path.parent().unwrap_or(Path::new(".")).join(&entry.password_file);
            let password = read(&password_file)?;
            let password = password.trim_end_matches(['\r', '\n']);
            if password.is_empty() {
                return Err(UsersError::Empty { user: entry.name, path: password_file });
            }
            if users.iter().any(|user| user.name == entry.name) {
                return Err(UsersError::Names { path: path.to_owned() });
            }
            let role =
                Role { user: entry.name.clone(), sees_personal: entry.sees_personal, teams: entry.teams };
            let salted = Salted::new(password.as_bytes(), &random(path)?);
            users.push(User { name: entry.name, password: hash(password.as_bytes()), salted, role });
        }
        if users.is_empty() {
            return Err(UsersError::Names { path: path.to_owned() });
        }
        Ok(Self { users, unknown: hmac::Key::new(hmac::HMAC_SHA256, &random(path)?) })
    }

    /// Salted password of a user. A name that nobody has gets one that no password fits, and always the same salt: names
    /// can't be found out.
    pub fn salted(&self, name: &str) -> Salted {
        match self.users.iter().find(|user| user.name == name) {
            Some(user) => user.salted.clone(),
            None => {
                let tag = hmac::sign(&self.unknown, name.as_bytes());
                let (salt, password) = tag.as_ref().split_at(SALT_BYTES);
                Salted { salt: salt.to_vec(), password: password.to_vec() }
            }
        }
    }

    /// Role of a user who was authenticated.
    pub fn role_of(&self, name: &str) -> Option<Role> {
        self.users.iter().find(|user| user.name == name).map(|user| user.role.clone())
    }

    /// Role of a user with this password. An unknown name takes the same work as a wrong password.
    pub fn role(&self, name: &str, password: &[u8]) -> Option<Role> {
        let given = hash(password);
        let mut found = None;
        for user in &self.users {
            let is_password = subtle::ConstantTimeEq::ct_eq(user.password.as_ref(), given.as_ref());
            if bool::from(is_password) & (user.name == name) {
                found = Some(user.role.clone());
            }
        }
        found
    }
}

const SALT_BYTES: usize = 16;

fn random(path: &Path) -> Result<[u8; SALT_BYTES], UsersError> {
    let mut bytes = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| UsersError::Read {
        path: path.to_owned(),
        source: std::io::Error::other("the system gives no random bytes"),
    })?;
    Ok(bytes)
}

fn hash(password: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_role_and_errors_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users.toml");
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("grafana.password", "secret\n");
        write("users.toml", "[[user]]\nname = \"grafana\"\npassword_file = \"grafana.password\"\n");
        let users = Users::read(&path).unwrap();
        assert_eq!(
            users.role("grafana", b"secret"),
            Some(Role { user: "grafana".into(), ..Role::default() })
        );
        assert_eq!(users.role("grafana", b"secret\n"), None);
        assert_eq!(users.role("other", b"secret"), None);
        assert!(!format!("{users:?}").contains("secret"));
        assert_eq!(users.salted("nobody").salt, users.salted("nobody").salt);
        assert_ne!(users.salted("nobody").salt, users.salted("grafana").salt);
        let loopback = "127.0.0.1:1".parse().unwrap();
        let everywhere = "0.0.0.0:1".parse().unwrap();
        assert!(Access::Local.allows(loopback) && !Access::Local.allows(everywhere));
        assert!(Access::Users(users).allows(everywhere));
        for wrong in
            ["", "user = []", "[[user]]\nname = \"x\"\npassword_file = \"missing\"", "[[user]]\nname = 1"]
        {
            write("users.toml", wrong);
            let error = crate::loader::with_sources(&Users::read(&path).unwrap_err());
            assert!(error.contains(directory.path().to_str().unwrap()), "{error}");
        }
        write("empty", "\n");
        write("users.toml", "[[user]]\nname = \"x\"\npassword_file = \"empty\"");
        assert!(matches!(Users::read(&path), Err(UsersError::Empty { .. })));
    }
}
