//! Errors of loading.

use deltalake::DeltaTableError;

use super::source::SourceError;
use super::suppression::SuppressionError;
use crate::dedup::{DedupError, RunError};
use crate::events::RowsError;
use crate::store::StoreError;
use crate::store::commit::CommitError;
use crate::store::parquet::WriteError;

/// Loading that can't go on.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A journal can't be loaded.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A record can't become rows.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The table can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The system gives no thread.
    #[error("starting the thread that encodes files")]
    Thread(#[source] std::io::Error),
    /// The commit can't be made.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The table's log can't be read.
    #[error("reading the log of the table of events")]
    Log(#[source] Box<DeltaTableError>),
    /// The ids of the newest events can't be read or written.
    #[error(transparent)]
    Dedup(#[from] DedupError),
    /// A file of the table can't be read for its ids.
    #[error("reading the ids of {path}")]
    Ids {
        /// The file.
        path: String,
        /// The error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The list of erased identifiers can't be used.
    #[error(transparent)]
    Suppression(#[from] SuppressionError),
    /// The list of erased identifiers is older than the table.
    #[error(
        "the table respects version {table} of the list of erased identifiers, the list in the state directory has \
         version {list}; restore it, or erased events would return"
    )]
    OldList {
        /// Version that the table names.
        table: u64,
        /// Version of the list.
        list: u64,
    },
    /// The id files are too old to tell duplicates in the journals.
    #[error(
        "the files of ids have version {covered} of the table, and the log between it and version {version} is gone; \
         start the loader, which writes them, or query without --journal"
    )]
    OldIds {
        /// Version of the files.
        covered: u64,
        /// Version of the table.
        version: u64,
    },
    /// Others commit all the time.
    #[error("others committed first {attempts} times; is another loader at work on the same journals?")]
    Outpaced {
        /// Number of attempts.
        attempts: u32,
    },
}

pub(crate) fn log_error(error: DeltaTableError) -> LoadError {
    LoadError::Log(Box::new(error))
}

/// True if trying again may help.
pub(super) fn is_transient(error: &LoadError) -> bool {
    match error {
        LoadError::Write(WriteError::Store { .. })
        | LoadError::Commit(_)
        | LoadError::Log(_)
        | LoadError::Thread(_)
        | LoadError::Outpaced { .. }
        | LoadError::Ids { .. }
        | LoadError::Suppression(SuppressionError::Bucket(_))
        // A full disk, for example.
        | LoadError::Dedup(DedupError::Io { .. } | DedupError::Run(RunError::Io { .. }))
        | LoadError::Source(SourceError::Consumer(_) | SourceError::List { .. })
        | LoadError::Store(StoreError::Delta { .. }) => true,
        LoadError::Source(_)
        | LoadError::Rows(_)
        | LoadError::Store(_)
        | LoadError::Write(WriteError::Parquet(_))
        | LoadError::Dedup(_)
        | LoadError::Suppression(_)
        | LoadError::OldIds { .. }
        | LoadError::OldList { .. } => false,
    }
}

/// An error with all that caused it, in one line.
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
