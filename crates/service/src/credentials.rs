//! User and password, as the server expects them and as a client sends them.

use crate::settings::{ConfigError, Value, ValueError, Values, kind, read_bounded};
use std::{
    fmt,
    path::{Path, PathBuf},
};

crate::settings! {
    /// User and password of the stream.
    pub struct CredentialSettings, handles in setting;

    section "Credentials" {
        /// User name that clients authenticate with. Required.
        stream_user: String =
            kind::text(accepted, read).value_name("NAME").variable("STREAM_USER").live();
        /// Password. Required, here or in stream_pass_file. Flags are visible to other users: prefer the environment or
        /// the file.
        stream_pass: String =
            kind::text(accepted, read).value_name("PASSWORD").variable("STREAM_PASS").live().secret();
        /// File with the password; one newline at its end is removed. Excludes stream_pass.
        stream_pass_file: Option<PathBuf> = kind::path().or_none("none").live();
    }
}

fn accepted() -> String {
    format!("text of 1 to {} bytes", Credentials::BYTES_MAX)
}

fn read(text: &str) -> Result<String, ValueError> {
    Ok(text.to_owned())
}

/// User name and password, 1 to 255 bytes each. `Debug` shows neither length nor text of the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub user: String,
    /// The password.
    pub pass: String,
}

const NO_USER: &str = "no user name: set the environment variable STREAM_USER or --stream-user";
const NO_PASSWORD: &str = "no password: set the environment variable STREAM_PASS, or TICKSTREAM_STREAM_PASS_FILE or \
                           --stream-pass-file to a file that holds it";

impl Credentials {
    /// Longest user name and longest password, bytes (docs/protocol.md, AUTH).
    pub const BYTES_MAX: usize = 255;

    /// Reads stream_user, and stream_pass or the file that stream_pass_file names.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Missing`] names what isn't set; [`ConfigError::Value`] a wrong length, an unreadable file,
    /// or password and file both set.
    pub fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let (user, pass) = (values.get(&setting::stream_user), values.get(&setting::stream_pass));
        let file = values.get(&setting::stream_pass_file);
        if pass.is_set() && file.is_set() {
            let other = pass.key();
            return Err(file.invalid(ValueError::Excludes { other, origin: pass.origin.to_string() }));
        }
        let needed = [(user.is_set(), NO_USER), (pass.is_set() || file.is_set(), NO_PASSWORD)];
        let missing: Vec<_> =
            needed.iter().filter(|(is_set, _)| !is_set).map(|(_, sentence)| (*sentence).to_owned()).collect();
        if !missing.is_empty() {
            return Err(ConfigError::Missing(missing));
        }
        let pass = if file.is_set() { from_file(&file)? } else { checked(&pass, pass.text.clone())? };
        Ok(Self { user: checked(&user, user.text.clone())?, pass })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).field("pass", &"***").finish()
    }
}

fn from_file(file: &Value) -> Result<String, ConfigError> {
    let newline_bytes = "\r\n".len();
    let mut pass = read_bounded(Path::new(&file.text), (Credentials::BYTES_MAX + newline_bytes) as u64)
        .map_err(|source| file.invalid(ValueError::File(source)))?;
    if pass.ends_with('\n') {
        pass.pop();
        if pass.ends_with('\r') {
            pass.pop();
        }
    }
    checked(file, pass)
}

fn checked(value: &Value, text: String) -> Result<String, ConfigError> {
    match text.len() {
        1..=Credentials::BYTES_MAX => Ok(text),
        bytes => Err(value.invalid(ValueError::Length { bytes, max: Credentials::BYTES_MAX })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Table;
    use std::fs;

    static TABLE: Table =
        Table { command: "t", groups: &[CredentialSettings::SECTIONS], former_variables: &[] };

    fn check(values: &[(&str, &str)], expected: Result<(&str, &str), &str>) {
        let values = Values::of_program(&TABLE, values.iter().copied()).unwrap();
        match (Credentials::from_values(&values), expected) {
            (Ok(found), Ok((user, pass))) => {
                assert_eq!((found.user.as_str(), found.pass.as_str()), (user, pass));
            }
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn both_are_needed() {
        check(&[("stream_user", "u"), ("stream_pass", "p")], Ok(("u", "p")));
        check(&[("stream_pass", "p")], Err("no user name: set the environment variable STREAM_USER"));
        check(&[("stream_user", "u")], Err("no password: set the environment variable STREAM_PASS"));
        check(&[], Err("--stream-user; no password: set"));
    }

    #[test]
    fn lengths_are_1_to_255_bytes() {
        let (longest, longer) = ("é".repeat(127) + "x", "é".repeat(128));
        check(&[("stream_user", &longest), ("stream_pass", &longest)], Ok((&longest, &longest)));
        check(
            &[("stream_user", ""), ("stream_pass", "p")],
            Err("stream_user = \"\" (from program): must be 1 to 255 bytes long, it has 0"),
        );
        check(
            &[("stream_user", "u"), ("stream_pass", &longer)],
            Err("stream_pass = \"***\" (from program): must be 1 to 255 bytes long, it has 256"),
        );
        check(&[("stream_user", "u"), ("stream_pass", "")], Err("stream_pass = \"***\""));
    }

    #[test]
    fn a_file_may_hold_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pass");
        let with_file = |content: &str, expected| {
            fs::write(&path, content).unwrap();
            check(&[("stream_user", "u"), ("stream_pass_file", path.to_str().unwrap())], expected);
        };
        with_file("p", Ok(("u", "p")));
        with_file("p\n", Ok(("u", "p")));
        with_file("p\r\n", Ok(("u", "p")));
        with_file(" p \n\n", Ok(("u", " p \n")));
        with_file("\n", Err("must be 1 to 255 bytes long, it has 0"));
        let longest = "x".repeat(255);
        with_file(&format!("{longest}\n"), Ok(("u", &longest)));
        with_file(&format!("{longest}x\n"), Err("must be 1 to 255 bytes long, it has 256"));
        with_file(&"x".repeat(9_999), Err("can't be read: longer than 257 bytes"));
    }

    #[test]
    fn an_unreadable_file_is_named() {
        check(
            &[("stream_user", "u"), ("stream_pass_file", "absent/file")],
            Err("stream_pass_file = \"absent/file\" (from program): can't be read: No such file"),
        );
    }

    #[test]
    fn password_and_file_exclude_each_other() {
        check(
            &[("stream_user", "u"), ("stream_pass", "p"), ("stream_pass_file", "f")],
            Err(
                "stream_pass_file = \"f\" (from program): excludes stream_pass, which is set too (from program)",
            ),
        );
        check(&[("stream_user", "u"), ("stream_pass", "p"), ("stream_pass_file", "")], Ok(("u", "p")));
    }

    #[test]
    fn debug_masks_the_password() {
        let credentials = Credentials { user: "u".into(), pass: "hunter2".into() };
        assert_eq!(format!("{credentials:?}"), "Credentials { user: \"u\", pass: \"***\" }");
    }
}
