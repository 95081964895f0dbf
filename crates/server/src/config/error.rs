//! What is wrong with a configuration, told so that one knows where to change what.

use super::{kind::Kind, parse::ValueError, settings, values::Origin};
use crate::placement::PlacementError;
use std::{io, path::PathBuf};

/// A configuration that can't be used. `Display` tells all of it, reasons included.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that isn't accepted, or not beside another one.
    #[error(transparent)]
    Value(Box<WrongValue>),
    /// User or password is missing.
    #[error("{}", missing(.0))]
    Missing(Vec<&'static str>),
    /// A key that no setting has.
    #[error("unknown key {key:?} (from {place}); {}", hint(key))]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        place: String,
    },
    /// A value in the file that is neither a string nor, where that makes sense, a number.
    #[error("{}:{line}: {key} is {found}; accepted: {accepted}", .path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The key's line, from 1.
        line: usize,
        /// The setting.
        key: &'static str,
        /// The type that it has.
        found: &'static str,
        /// What is accepted.
        accepted: Kind,
    },
    /// The file is no TOML.
    #[error("{}:{line}: {message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What the parser has to say.
        message: String,
    },
    /// The file can't be read.
    #[error("can't read the configuration file {}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// This machine's CPUs aren't known.
    #[error(transparent)]
    Machine(#[from] PlacementError),
}

/// A setting with a value that isn't accepted.
#[derive(Debug, thiserror::Error)]
#[error("{key} = {value:?} ({}): {reason}", from(.origin))]
pub struct WrongValue {
    /// The setting.
    pub key: &'static str,
    /// Its value, masked if it is a secret.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What is wrong.
    pub reason: ValueError,
}

fn from(origin: &Origin) -> String {
    match origin {
        Origin::Default => "the default".to_owned(),
        origin => format!("from {origin}"),
    }
}

fn missing(keys: &[&'static str]) -> String {
    let how = keys.iter().map(|key| match *key {
        "stream_pass" => {
            "no password: set the environment variable STREAM_PASS, or STREAM_PASS_FILE or \
                          --stream-pass-file to a file that holds it"
        }
        _ => "no user name: set the environment variable STREAM_USER or --stream-user",
    });
    how.collect::<Vec<_>>().join("; ")
}

/// What may have been meant.
fn hint(key: &str) -> String {
    let similar = settings::settings().map(|setting| (strsim::jaro_winkler(key, setting.key), setting.key));
    let nearest = similar.max_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(likeness, _)| *likeness > 0.8);
    let meant = nearest.map(|(_, key)| format!("did you mean {key:?}? ")).unwrap_or_default();
    format!("{meant}`tickstream serve --help` lists all")
}
