//! Credentials of those who may subscribe and publish.

use std::fmt;

use subtle::{Choice, ConstantTimeEq};

/// Longest user name or password, bytes.
const CREDENTIAL_BYTES: usize = 255;

/// The one user name and password that the server takes.
#[derive(Clone)]
pub struct Credentials {
    user: Padded,
    pass: Padded,
}

impl Credentials {
    /// Credentials to compare others with.
    ///
    /// # Errors
    /// If either is empty or longer than 255 bytes.
    pub fn new(user: &str, pass: &str) -> Result<Self, CredentialError> {
        let padded = |what, secret: &str| {
            Padded::new(secret.as_bytes()).ok_or(CredentialError { what, bytes: secret.len() })
        };
        Ok(Self { user: padded("the user name", user)?, pass: padded("the password", pass)? })
    }

    /// The user name.
    pub(crate) fn user(&self) -> &str {
        self.user.as_str()
    }

    /// Compares the password, for a client whose certificate names it. Takes the same time for all.
    pub fn accept_password(&self, pass: &str) -> bool {
        self.pass.matches(pass.as_bytes()).into()
    }

    /// Compares both. Takes the same time for every `user` and `pass` of up to 255 bytes, whatever is
    /// wrong with them.
    pub fn accept(&self, user: &str, pass: &str) -> bool {
        (self.user.matches(user.as_bytes()) & self.pass.matches(pass.as_bytes())).into()
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

/// A string with its length in the first byte and zeros behind it: comparing two of them takes the same time
/// for all lengths.
#[derive(Clone)]
struct Padded([u8; CREDENTIAL_BYTES + 1]);

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
        self.0[..].ct_eq(&offered.0[..]) & usable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_both_are_accepted() {
        let credentials = Credentials::new("ada", "s3cret").unwrap();
        let check =
            |user, pass, expected| assert_eq!(credentials.accept(user, pass), expected, "{user:?} {pass:?}");
        check("ada", "s3cret", true);
        check("ada", "s3cre", false);
        check("ada", "s3cret\0", false);
        check("ada", "", false);
        check("", "s3cret", false);
        check("bob", "s3cret", false);
        check(&"a".repeat(300), &"b".repeat(300), false);
    }

    #[test]
    fn unusable_credentials_are_refused_and_never_shown() {
        assert!(Credentials::new("", "x").is_err());
        assert!(Credentials::new("x", "").is_err());
        assert!(Credentials::new("x", &"y".repeat(256)).is_err());
        let longest = "y".repeat(255);
        let credentials = Credentials::new("x", &longest).unwrap();
        assert!(credentials.accept("x", &longest));
        assert!(!format!("{credentials:?}").contains('y'));
    }
}
