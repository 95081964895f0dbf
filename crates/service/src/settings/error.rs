//! Errors of a configuration: each says where to change what.

use super::origin::Origin;
use super::table::Table;
use super::value_error::ValueError;
use std::{error::Error, io, path::PathBuf};

/// A configuration that can't be used. `Display` tells all of it, reasons included.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that isn't accepted, or not beside another one.
    #[error(transparent)]
    Value(Box<WrongValue>),
    /// Settings without which the program can't run: a sentence for each.
    #[error("{}", .0.join("; "))]
    Missing(Vec<String>),
    /// A variable that is set under a name that it doesn't have any more.
    #[error("the environment variable {former} is set, which is now called {new}: rename it, or unset it")]
    FormerVariable {
        /// The old name.
        former: &'static str,
        /// The new one.
        new: String,
    },
    /// A key that no setting has.
    #[error("unknown key {key:?} (from {place}); {hint}")]
    UnknownKey {
        /// The key.
        key: String,
        /// Its place.
        place: String,
        /// A similar key, and where all are listed.
        hint: String,
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
        /// Accepted values.
        accepted: String,
    },
    /// The file is no TOML.
    #[error("{}:{line}: {message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The parser's message.
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
    /// A reason of the program's own.
    #[error(transparent)]
    Program(Box<dyn Error + Send + Sync>),
}

/// A setting with a value that isn't accepted.
#[derive(Debug, thiserror::Error)]
#[error("{key} = {value:?} ({}): {reason}", from(.origin))]
pub struct WrongValue {
    /// The setting.
    pub key: &'static str,
    /// Its value, masked if it is a secret.
    pub value: String,
    /// Its origin.
    pub origin: Origin,
    /// The reason.
    pub reason: ValueError,
}

fn from(origin: &Origin) -> String {
    match origin {
        Origin::Default => "the default".to_owned(),
        origin => format!("from {origin}"),
    }
}

impl ConfigError {
    /// A reason of the program's own.
    pub fn program(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Program(error.into())
    }

    pub(super) fn unknown_key(table: &Table, key: &str, place: String) -> Self {
        let keys = table.settings().map(|setting| setting.about().key);
        let similar = keys.map(|known| (strsim::jaro_winkler(key, known), known));
        let nearest = similar.max_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(likeness, _)| *likeness > 0.8);
        let meant = nearest.map(|(_, known)| format!("did you mean {known:?}? ")).unwrap_or_default();
        let hint = format!("{meant}`{} --help` lists all", table.command);
        Self::UnknownKey { key: key.to_owned(), place, hint }
    }
}
