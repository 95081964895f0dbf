//! Users of the SQL wires, and their roles. Passwords stand in files of their own.

use std::path::{Path, PathBuf};

use ring::digest;
use serde::Deserialize;

use crate::query::Role;

/// Users that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// A file can't be read.
    #[error("reading {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file isn't a list of users.
    #[error("{} is no list of users", .path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// A user has no password.
    #[error("the password of user {user:?} in {} is empty", .path.display())]
    Empty {
        /// Which user.
        user: String,
        /// File of the password.
        path: PathBuf,
    },
    /// No user, or one twice.
    #[error("{} must name each user once, and at least one", .path.display())]
    Names {
        /// Which file.
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
}

/// Users and roles.
#[derive(Clone)]
pub struct Users(Vec<User>);

#[derive(Clone)]
struct User {
    name: String,
    password: digest::Digest,
    role: Role,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|user| &user.name)).finish()
    }
}

impl Users {
    /// Reads users from a TOML file: `[[user]]` with `name`, `password_file` and `sees_personal`. Files of passwords are
    /// relative to it.
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
            let role = Role { sees_personal: entry.sees_personal };
            users.push(User { name: entry.name, password: hash(password.as_bytes()), role });
        }
        if users.is_empty() { Err(UsersError::Names { path: path.to_owned() }) } else { Ok(Self(users)) }
    }

    /// Role of a user with this password. An unknown name takes the same work as a wrong password.
    pub fn role(&self, name: &str, password: &[u8]) -> Option<Role> {
        let given = hash(password);
        let mut found = None;
        for user in &self.0 {
            let is_password = subtle::ConstantTimeEq::ct_eq(user.password.as_ref(), given.as_ref());
            if bool::from(is_password) & (user.name == name) {
                found = Some(user.role.clone());
            }
        }
        found
    }
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
        assert_eq!(users.role("grafana", b"secret"), Some(Role { sees_personal: false }));
        assert_eq!(users.role("grafana", b"secret\n"), None);
        assert_eq!(users.role("other", b"secret"), None);
        assert!(!format!("{users:?}").contains("secret"));
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
