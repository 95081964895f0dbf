//! The sources of a program's settings, to be read again on a reload.

use super::{ConfigError, Environment, File, Flags, Table, Values, file::text};
use std::fmt;
use std::path::{Path, PathBuf};

/// The flags, the environment and the file of a process.
#[derive(Clone)]
pub struct Source {
    table: &'static Table,
    /// Tables of the file that the program reads itself.
    own_tables: &'static [&'static str],
    flags: Flags,
    file: Option<PathBuf>,
}

impl Source {
    /// The flags, and the file if there is one.
    pub fn new(table: &'static Table, flags: Flags, file: Option<PathBuf>) -> Self {
        Self { table, own_tables: &[], flags, file }
    }

    /// Leaves tables of the file with these names to the program.
    #[must_use]
    pub fn with_own_tables(self, own_tables: &'static [&'static str]) -> Self {
        Self { own_tables, ..self }
    }

    /// The text of the file, if there is one.
    ///
    /// # Errors
    /// [`ConfigError::File`].
    pub fn text(&self) -> Result<Option<String>, ConfigError> {
        self.file.as_deref().map(text).transpose()
    }

    /// Reads every setting.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(&self, env: Environment<'_>) -> Result<Values, ConfigError> {
        let file = self
            .file
            .as_ref()
            .zip(self.text()?)
            .map(|(path, text)| File::parse_beside(self.table, self.own_tables, path, &text));
        Values::merge(self.table, &self.flags, env, file.transpose()?.as_ref())
    }

    /// The file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A flag or the file may hold the password.
        f.debug_struct("Source").field("file", &self.file()).finish_non_exhaustive()
    }
}
