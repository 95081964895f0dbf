//! Addresses of the admin endpoint, and the token that changes need.

use crate::settings::{Setting, ValueError, kind, read_bounded};
use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use subtle::ConstantTimeEq;

/// Begins a path.
const UNIX: &str = "unix:";
/// Addresses for people.
const ADDRESSES: &str = "IP addresses with ports, and absolute paths behind unix:, such as 127.0.0.1:9090,unix:/run/tickstream.sock";
/// Longest path of a unix socket, bytes (sockaddr_un's 108, less the NUL and what a name to begin with is longer by).
const PATH_BYTES_MAX: usize = 90;

/// A setting with addresses of the admin endpoint.
pub const fn addresses() -> Setting<Vec<AdminAddress>> {
    kind::text(|| ADDRESSES.to_owned(), AdminAddress::parse_list).value_name("ADDRESSES")
}

/// One address of the admin endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// TCP; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A unix socket at an absolute path.
    Unix(PathBuf),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl AdminAddress {
    /// Addresses separated by commas; none if the text is empty.
    fn parse_list(text: &str) -> Result<Vec<Self>, ValueError> {
        let parts = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
        parts
            .map(|part| {
                Self::parse(part)
                    .ok_or_else(|| ValueError::program(AdminAddressError { part: part.to_owned() }))
            })
            .collect()
    }

    /// Addresses as the setting has them.
    pub fn list(addresses: &[Self]) -> String {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// One address.
    ///
    /// # Errors
    /// [`AdminAddressError`].
    pub fn parse_one(text: &str) -> Result<Self, ValueError> {
        Self::parse(text).ok_or_else(|| ValueError::program(AdminAddressError { part: text.to_owned() }))
    }

    fn parse(text: &str) -> Option<Self> {
        let Some(path) = text.strip_prefix(UNIX) else { return text.parse().ok().map(Self::Tcp) };
        let is_usable = path.starts_with('/') && path.len() <= PATH_BYTES_MAX && !path.ends_with('/');
        is_usable.then(|| Self::Unix(path.into()))
    }
}

/// No address of the admin endpoint. Continues the sentence that begins with key, value and origin.
#[derive(Debug, thiserror::Error)]
#[error("has {part:?}, which is no address of the admin endpoint; accepted: {ADDRESSES}")]
pub struct AdminAddressError {
    /// The part of the list that isn't one.
    pub part: String,
}

/// A file without a usable token. Nothing of it is shown.
#[derive(Debug, thiserror::Error)]
#[error(
    "must hold one line of {} to {} printable ASCII characters without spaces, such as `openssl rand -hex 32` makes",
    AdminToken::BYTES_MIN,
    AdminToken::BYTES_MAX
)]
pub struct AdminTokenError;

/// The secret that the admin endpoint asks for before it changes anything. `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// Shortest token, bytes: nobody guesses it, however often they try.
    pub const BYTES_MIN: usize = 16;
    /// Longest token, bytes.
    pub const BYTES_MAX: usize = 1_024;

    /// Reads the token from a file.
    ///
    /// # Errors
    /// [`ValueError::File`], [`AdminTokenError`].
    pub fn from_file(path: &Path) -> Result<Self, ValueError> {
        let newline_bytes = "\r\n".len();
        let text = read_bounded(path, (Self::BYTES_MAX + newline_bytes) as u64).map_err(ValueError::File)?;
        let token = text.trim_end_matches(['\r', '\n']);
        // It stands in an Authorization header as it is.
        let is_printable = token.bytes().all(|byte| byte.is_ascii_graphic());
        let is_long_enough = (Self::BYTES_MIN..=Self::BYTES_MAX).contains(&token.len());
        if is_printable && is_long_enough {
            Ok(Self(token.to_owned()))
        } else {
            Err(ValueError::program(AdminTokenError))
        }
    }

    /// Compares, in a time that doesn't depend on how much of `token` is right.
    pub fn is(&self, token: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(token).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[&str], &str>) {
        match (AdminAddress::parse_list(text), expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
            }
            (Err(error), Err(part)) => {
                assert!(error.to_string().starts_with(&format!("has {part:?}, ")), "{error}");
            }
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn addresses_are_tcp_or_unix_and_several_at_once() {
        check("", Ok(&[]));
        check("127.0.0.1:9090", Ok(&["127.0.0.1:9090"]));
        check("[::1]:0, unix:/run/admin.sock", Ok(&["[::1]:0", "unix:/run/admin.sock"]));
        check("9090", Err("9090"));
        check("localhost:9090", Err("localhost:9090"));
        check("127.0.0.1:1,", Err(""));
        check("unix:", Err("unix:"));
        check("unix:run/admin.sock", Err("unix:run/admin.sock"));
        check("unix:/run/", Err("unix:/run/"));
        let long = format!("unix:/{}", "x".repeat(PATH_BYTES_MAX));
        check(&long, Err(&long));
    }

    fn check_token(content: &str, expected: Result<&str, &str>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        match (AdminToken::from_file(file.path()), expected) {
            (Ok(token), Ok(expected)) => {
                assert!(
                    token.is(expected.as_bytes()) && !token.is(b"") && !token.is(&content.as_bytes()[1..])
                );
                assert_eq!(format!("{token:?}"), "***");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_token_is_long_and_printable() {
        check_token("0123456789abcdef", Ok("0123456789abcdef"));
        check_token("0123456789abcdef\r\n", Ok("0123456789abcdef"));
        check_token("0123456789abcde\n", Err("must hold one line of 16 to 1024"));
        check_token("0123456789 abcdef", Err("must hold one line"));
        check_token("0123456789abcdef\n0123456789abcdef\n", Err("must hold one line"));
        check_token(&"x".repeat(1_100), Err("can't be read: longer than"));
    }
}
