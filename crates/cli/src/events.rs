//! `tickstream events`: shows what the server has collected, from the files of its journals, also while it writes them.
//!
//! - `journals`: which journals a directory has; `feed`: a journal's batches, one after another;
//! - `lines`: what is printed of an event; `filter`: which of them;
//! - `export`, `tail`, `letters`, `verify`: the commands. None holds more than a batch of each journal in memory, but for
//!   the last lines that `tail` begins with.

mod export;
mod feed;
mod filter;
mod journals;
mod letters;
mod lines;
mod tail;
mod verify;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tickstream_journal as journal;
use tickstream_wire::messages::DecodeError;

use tickstream_server::shard::with_cause;

pub use filter::{Filter, KINDS, Moment, kind, producer};

/// What to do with the journals of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsArgs {
    /// The directory that `serve --journal` was given, or one journal's.
    pub directory: PathBuf,
    /// What.
    pub action: EventsAction,
}

/// What to do with the journals of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventsAction {
    /// Print all events.
    Export {
        /// Only these.
        filter: Filter,
        /// Without what the server added.
        bare: bool,
        /// Into this file instead of standard output.
        output: Option<PathBuf>,
    },
    /// Print the last events.
    Tail {
        /// So many.
        count: usize,
        /// And then those that come.
        follow: bool,
        /// Only these.
        filter: Filter,
    },
    /// Check every byte.
    Verify,
    /// Print what was rejected.
    DeadLetters {
        /// Only these.
        filter: Filter,
        /// As `tickstream publish` takes them.
        replay: bool,
    },
}

/// Why events can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// Nothing to read.
    #[error("{} holds no journal; name the directory that serve --journal was given", .0.display())]
    NoJournal(PathBuf),
    /// The directory can't be listed.
    #[error("can't read {}: {source}", .path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A journal can't be read, or not to its end.
    #[error("the journal in {}: {}", .path.display(), with_cause(source))]
    Journal {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        source: journal::Error,
    },
    /// A sound record that holds something else.
    #[error("the journal in {}: record {sequence} isn't a batch of events: {source}", .path.display())]
    Record {
        /// Where the journal is.
        path: PathBuf,
        /// Which record.
        sequence: u64,
        /// What doesn't fit.
        source: DecodeError,
    },
    /// What was found can't be written.
    #[error("can't write to {to}: {source}")]
    Output {
        /// Where to.
        to: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// What [`EventsAction::Verify`] was to find; it has said where.
    #[error("{damaged} of {checked} journals are damaged")]
    Damaged {
        /// With damage.
        damaged: usize,
        /// In all.
        checked: usize,
    },
}

/// Does it. Whoever closes standard output has seen enough.
///
/// # Errors
/// [`EventsError`]; what was read before is printed.
pub fn run(args: &EventsArgs) -> Result<(), EventsError> {
    // Before a file is replaced: a mistyped directory must not cost an earlier export.
    journals::find(&args.directory)?;
    let mut out = match &args.action {
        EventsAction::Export { output: Some(path), .. } => Output::file(path)?,
        _ => Output::standard(),
    };
    let done = match &args.action {
        EventsAction::Export { filter, bare, .. } => export::run(&args.directory, filter, *bare, &mut out),
        EventsAction::Tail { count, follow, filter } => {
            tail::run(&args.directory, *count, *follow, filter, &mut out)
        }
        EventsAction::Verify => verify::run(&args.directory, &mut out),
        EventsAction::DeadLetters { filter, replay } => {
            letters::run(&args.directory, filter, *replay, &mut out)
        }
    };
    // What was found before an error is printed all the same.
    match done.and(out.flush()) {
        Err(EventsError::Output { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Where lines go.
struct Output {
    to: String,
    writer: BufWriter<Box<dyn Write>>,
}

impl Output {
    fn standard() -> Self {
        Self { to: "standard output".to_owned(), writer: BufWriter::new(Box::new(io::stdout().lock())) }
    }

    fn file(path: &Path) -> Result<Self, EventsError> {
        let to = path.display().to_string();
        match File::create(path) {
            Ok(file) => Ok(Self { to, writer: BufWriter::with_capacity(1 << 16, Box::new(file)) }),
            Err(source) => Err(EventsError::Output { to, source }),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), EventsError> {
        let done = self.writer.write_all(bytes);
        self.told(done)
    }

    fn flush(&mut self) -> Result<(), EventsError> {
        let done = self.writer.flush();
        self.told(done)
    }

    fn told(&self, done: io::Result<()>) -> Result<(), EventsError> {
        done.map_err(|source| EventsError::Output { to: self.to.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_journals_no_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("january.jsonl");
        std::fs::write(&output, "precious").unwrap();
        for directory in [folder.path().to_owned(), folder.path().join("absent")] {
            let (filter, output) = (Filter::default(), Some(output.clone()));
            let action = EventsAction::Export { filter, bare: false, output };
            run(&EventsArgs { directory, action }).unwrap_err();
        }
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "precious");
    }
}
