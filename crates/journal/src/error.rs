//! Errors: the problem, its place, and a remedy.

use std::io;

use crate::config::ConfigError;
use crate::group::BodyError;
use crate::record::Sequence;
use crate::segment::FileName;

/// Why a record wasn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// All memory is waiting for the disk, or the next segment isn't ready yet. Try again soon.
    #[error("the journal's memory is used up until the disk has caught up")]
    Busy,
    /// The disk is full. The journal tries again by itself; nothing is deleted for it.
    #[error("the disk is full")]
    Full,
    /// The record is longer than a group can hold.
    #[error("a payload of {length} bytes is above the limit of {max} bytes")]
    TooLarge {
        /// Bytes of the payload.
        length: usize,
        /// The limit, bytes.
        max: usize,
    },
    /// The journal has failed, or was asked to end: it takes nothing more.
    #[error("the journal has ended")]
    Ended,
}

/// The journal can promise nothing any more: the process must end, so that its next start recovers from what is on
/// the disk. It isn't tried again: after a failed fsync Linux takes the lost pages for clean, and the next fsync
/// would succeed without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// The action that failed.
    pub action: Action,
    /// To which file; `None` for the directory.
    pub file: Option<FileName>,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// The kernel's error.
    pub errno: i32,
}

/// A journal's actions on files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Creating the next segment.
    Create,
    /// Opening the current segment.
    Open,
    /// Writing.
    Write,
    /// fdatasync, or fsync of the directory.
    Sync,
    /// Giving the next segment its name.
    Rename,
}

impl std::error::Error for Fatal {}

impl std::fmt::Display for Fatal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let action = match self.action {
            Action::Create => "creating",
            Action::Open => "opening",
            Action::Write => "writing to",
            Action::Sync => "fsync of",
            Action::Rename => "naming",
        };
        match self.file {
            Some(file) => write!(f, "{action} {file} at offset {}", self.offset)?,
            None => write!(f, "{action} the directory")?,
        }
        let error = io::Error::from_raw_os_error(self.errno);
        write!(f, ": {error}; nothing is acknowledged from here on, end the process and look at the disk")
    }
}

/// Why a journal can't be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bound doesn't go with another.
    #[error("the journal's configuration")]
    Config(#[from] ConfigError),
    /// A system call failed.
    #[error("{action} {}", name(.file))]
    Io {
        /// The action that failed.
        action: &'static str,
        /// To which file; `None` for the directory.
        file: Option<FileName>,
        /// The system's error.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the journal is in use by another process: end that one, or choose another directory")]
    Locked,
    /// A file was written by another version.
    #[error(
        "{file} has version {found} of the format, this program reads version {}: use the program that wrote it",
        crate::VERSION
    )]
    Version {
        /// The file.
        file: FileName,
        /// Its version.
        found: u32,
    },
    /// Something that was on stable storage isn't as it was written.
    #[error(transparent)]
    Damage(#[from] Damage),
}

fn name(file: &Option<FileName>) -> String {
    file.map_or_else(|| "the directory".to_owned(), |file| file.to_string())
}

impl Error {
    pub(crate) fn io(action: &'static str, file: Option<FileName>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, file, source }
    }
}

/// Damage inside a journal, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} is damaged at offset {offset}: {what}. {}", advice(.file, .what))]
pub struct Damage {
    /// The file.
    pub file: FileName,
    /// Offset in it, bytes.
    pub offset: u64,
    /// The part that isn't as it was written.
    pub what: Fault,
}

fn advice(file: &FileName, what: &Fault) -> String {
    match what {
        Fault::Missing { .. } => {
            return "Put the missing segments back, or move all older ones out of the directory to go on without them"
                .into();
        }
        Fault::Gone { .. } => {
            return "Put the newest segments back, or start the server: it goes on with a new journal id"
                .into();
        }
        Fault::SyncedFile => return "All records can be read".into(),
        _ => {}
    }
    format!(
        "Records before it can still be exported. Restore the file from a copy, or move it and all later ones out of \
         the directory to go on without the records from {file} on"
    )
}

/// The part that isn't as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file isn't as long as it was made.
    #[error("the file has {found} bytes, not {expected}")]
    Length {
        /// As its header says, bytes.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The first block isn't a valid header.
    #[error("the segment's header is invalid")]
    SegmentHeader,
    /// The header is valid and belongs to another file or journal.
    #[error("the header belongs to another file or another journal")]
    Foreign,
    /// A segment of the chain isn't there.
    #[error("the segment before it, {}, is missing", FileName::Segment(*.previous))]
    Missing {
        /// Its first sequence.
        previous: Sequence,
    },
    /// Two segments don't fit together.
    #[error("the segment doesn't end as the next one says")]
    Chain,
    /// Bytes where a group should be that no power cut leaves.
    #[error("no valid group header")]
    GroupHeader,
    /// A valid group that isn't the next one.
    #[error("group {expected} is expected, group {found} is there")]
    Order {
        /// The number that belongs here.
        expected: u64,
        /// The number that was found.
        found: u64,
    },
    /// The group's records or padding have changed.
    #[error("group {number}: {what}")]
    Body {
        /// The group's number.
        number: u64,
        /// The problem with it.
        what: BodyError,
    },
    /// There is no whole group, and a later one says that there was.
    #[error(
        "group {number} isn't whole, but group {later} at offset {at} says that it was on stable storage"
    )]
    Synced {
        /// The number of the group that isn't whole.
        number: u64,
        /// The number of the later one.
        later: u64,
        /// Offset of the later one, bytes.
        at: u64,
    },
    /// The last segment has no whole group, though it had one: the file `synced` says so, or that segments before it were
    /// removed.
    #[error("the first group isn't whole, but it was on stable storage")]
    Lost,
    /// The file `synced` isn't as it was written.
    #[error(
        "the file isn't valid; it holds no records, and the next start writes it again and begins a new journal id"
    )]
    SyncedFile,
    /// The newest records aren't there any more.
    #[error("records up to {synced} were on stable storage, the last one that is there is {last}")]
    Gone {
        /// The last record that was on stable storage.
        synced: Sequence,
        /// The last record that is there.
        last: Sequence,
    },
    /// Something was written where nothing ever was.
    #[error("there are bytes behind the last group")]
    NotBlank,
}
