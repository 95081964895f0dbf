//! A durable event log: what was acknowledged is on stable storage, and stays what it was.
//!
//! A [`Journal`] is a plain data structure. It is told what to append, what completed and what time it is, and starts
//! operations on a [`Storage`], which never waits. [`recover`] makes one from the files of the last process;
//! [`Reader`] and [`verify`] read those files, also while a server writes them. docs/journal.md has the format,
//! the guarantees, and how a torn tail is told from damage.
//!
//! A map: `record`, `group` and `segment` are the bytes, from the inside out; `journal` takes and writes,
//! `scan` reads and validates, `recovery` puts a journal back into order; `files` and `simulated` are two disks.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod buffer;
mod clock;
mod config;
mod consumers;
mod directory;
mod error;
#[cfg(unix)]
mod files;
#[cfg(unix)]
mod follow;
mod group;
mod journal;
mod progress;
mod reader;
pub mod record;
mod recovery;
mod scan;
mod segment;
mod simulated;
mod stats;
mod storage;
mod synced;
#[cfg(unix)]
mod unowned;
mod verify;

pub use buffer::{BLOCK, Buffer};
pub use clock::Now;
pub use config::{Config, ConfigError, Retention};
pub use consumers::{Consumer, ConsumerError, ConsumerState, NOTICED_AFTER, Position, consumers};
pub use directory::Directory;
pub use error::{Action, AppendError, Damage, Error, Fatal, Fault};
#[cfg(unix)]
pub use files::{FileDirectory, FileStorage, create_directory};
#[cfg(unix)]
pub use follow::{Batch, Follower, Problem, Step, journals};
pub use group::BodyError;
pub use journal::Journal;
pub use progress::Progress;
pub use reader::{CommitGroup, Reader};
pub use record::{ProducerId, Record, Sequence};
pub use recovery::{NewId, Recovered, Restore, recover};
pub use segment::{FileName, JournalId, VERSION};
pub use simulated::{Faults, SimulatedDisk};
pub use stats::Stats;
pub use storage::{Completion, Failure, Operation, OperationId, Storage};
pub use synced::Synced;
#[cfg(unix)]
pub use unowned::{Removed, remove_unowned};
pub use verify::{Report, Tail, verify};
