//! Maintenance, which keeps the tables small, whole and lawful: compaction, vacuum, verification, erasure; and what changed,
//! for tables that are derived.
//!
//! One process at a time maintains, by a lease. All of it is safe beside readers and loaders, and after a kill at any
//! step: files come before the commit that names them, and go long after the commit that gave them up.

pub mod aggregate;
pub mod changes;
pub mod compact;
mod derived;
pub mod enrich;
pub mod erase;
pub mod lease;
pub mod retention;
mod rewrite;
pub mod vacuum;
pub mod verify;

use datafusion::common::DataFusionError;
use deltalake::DeltaTableError;

use crate::loader::LoadError;
use crate::loader::suppression::SuppressionError;
use crate::store::StoreError;
use crate::store::commit::CommitError;
use crate::store::parquet::WriteError;

pub use derived::{Exchange, Making, Part};
pub use lease::Lease;

/// Maintenance that can't go on.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// Somebody else is at work.
    #[error("{holder} maintains these tables; try again when it has ended")]
    Held {
        /// Holder of the lease.
        holder: String,
    },
    /// Tables can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The table's log can't be read or cleaned.
    #[error("{action}")]
    Delta {
        /// Operation that failed.
        action: &'static str,
        /// The error.
        source: Box<DeltaTableError>,
    },
    /// Rows can't be read.
    #[error("reading rows of {what}")]
    Read {
        /// Of which files.
        what: String,
        /// The error.
        source: Box<DataFusionError>,
    },
    /// A file can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The commit can't be made.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Others commit all the time.
    #[error("others committed first {attempts} times")]
    Outpaced {
        /// Number of attempts.
        attempts: u32,
    },
    /// The list of erased identifiers can't be used.
    #[error(transparent)]
    Suppression(#[from] SuppressionError),
    /// Journals can't be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Aggregates can't be computed.
    #[error("computing aggregates")]
    Aggregate(#[source] Box<crate::query::QueryError>),
    /// A record of what was done can't be written.
    #[error("writing {}", .path.display())]
    Report {
        /// The file.
        path: std::path::PathBuf,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// Bytes of an erased identifier were found.
    #[error("bytes of the erased identifier are still in {file}")]
    Found {
        /// The file.
        file: String,
    },
}

impl MaintenanceError {
    pub(crate) fn delta(action: &'static str) -> impl FnOnce(DeltaTableError) -> Self {
        move |source| Self::Delta { action, source: Box::new(source) }
    }

    pub(crate) fn read(what: &str) -> impl FnOnce(DataFusionError) -> Self {
        let what = what.to_owned();
        move |source| Self::Read { what, source: Box::new(source) }
    }
}
