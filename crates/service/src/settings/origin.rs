//! Origin of a value.

use std::{fmt, path::PathBuf};

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag, named without its dashes.
    Flag(String),
    /// An environment variable.
    Environment(String),
    /// The configuration file.
    File {
        /// As it was given.
        path: PathBuf,
        /// Line of the key, from 1.
        line: usize,
    },
    /// The program itself: [`Values::of_program`](super::Values::of_program).
    Program,
    /// The default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag --{flag}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { path, line } => write!(f, "file {}, line {line}", path.display()),
            Self::Program => f.write_str("program"),
            Self::Default => f.write_str("default"),
        }
    }
}
