//! `tickstream events`: shows what the server has collected, from the files of its journals, also while it writes them.
//!
//! - `journals`: which journals a directory has; `feed`: a journal's batches, one after another;
//! - `lines`, `text`: what is printed of an event, as JSON and for people; `unknown`: fields that this version can't
//!   print; `tap`: events of a server elsewhere;
//! - `export`, `tail`, `stats`, `dead_letters`, `verify`: the commands. None holds more than a batch of each journal in memory, but
//!   for the last lines that `tail` begins with. Each goes on with the other journals where one is damaged, names that one
//!   on standard error, and fails in the end.

mod batch;
mod dead_letters;
mod export;
mod feed;
pub mod journals;
mod lines;
mod stats;
mod tail;
mod tap;
mod text;
mod unknown;
mod verify;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tickstream_journal as journal;
use tickstream_wire::messages::DecodeError;

use crate::admin_client::{AdminClientError, advice};
use crate::cli::{Inputs, OutputFile, StopFlag};
use crate::exit;
use tickstream_server::shard::with_cause;
use tickstream_service::admin::AdminAddress;
use tickstream_service::text::{counted, one_line};

pub use lines::View;
pub use tap::TapArgs;
pub use tickstream_server::stored::{Filter, KINDS, Moment, kind, producer};

/// A command on events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventsArgs {
    /// On the journals of a directory.
    Files {
        /// The directory that `serve --journal` was given, or one journal's.
        directory: PathBuf,
        /// The action.
        action: EventsAction,
    },
    /// On a server elsewhere.
    Tap(TapArgs),
}

/// A command on the journals of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventsAction {
    /// Print all events.
    Export {
        /// Only these.
        filter: Filter,
        /// In this form.
        view: View,
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
        /// In this form.
        view: View,
    },
    /// Count the events.
    Stats {
        /// Only these.
        filter: Filter,
        /// One JSON object instead of text.
        json: bool,
    },
    /// Check every byte.
    Verify,
    /// Print what was rejected.
    DeadLetters {
        /// Only these.
        filter: Filter,
        /// In this form; bare, as `tickstream publish` takes them.
        view: View,
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
        /// Its path.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// A journal can't be read, or not to its end.
    #[error("the journal in {}: {}", .path.display(), with_cause(source))]
    Journal {
        /// Its directory.
        path: PathBuf,
        /// The damage, or the kernel's error.
        source: journal::Error,
    },
    /// A sound record that holds something else.
    #[error("the journal in {}: record {sequence} isn't a batch of events: {source}", .path.display())]
    Record {
        /// The journal's directory.
        path: PathBuf,
        /// Sequence of the record.
        sequence: u64,
        /// The decoder's error.
        source: DecodeError,
    },
    /// The output can't be written.
    #[error("can't write to {to}: {source}")]
    Output {
        /// The output's name.
        to: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// Some of several journals can't be read to their end; each was named.
    #[error("{damaged} of {} can't be read to the end: what lies behind the damage is missing", counted(*checked as u64, "journal"))]
    Damaged {
        /// With damage.
        damaged: usize,
        /// In all.
        checked: usize,
    },
    /// A signal; what was printed is less than was asked for.
    #[error("interrupted: the output isn't complete")]
    Interrupted,
    /// The admin endpoint of a server elsewhere.
    #[error("the admin endpoint at {address}: {source}{}", advice(source))]
    Tap {
        /// Its address.
        address: AdminAddress,
        /// The reason.
        source: AdminClientError,
    },
    /// A line of its answer isn't JSON.
    #[error("the admin endpoint's answer can't be read: {0}")]
    TapLine(serde_json::Error),
    /// Signals can't be caught.
    #[error("can't catch signals: {0}")]
    Signals(io::Error),
}

/// Runs the command. Whoever closes standard output has seen enough.
///
/// # Errors
/// [`EventsError`]; what was read before is printed.
pub fn run(args: &EventsArgs) -> Result<(), EventsError> {
    let stop = StopFlag::catch().map_err(EventsError::Signals)?;
    let (directory, action) = match args {
        EventsArgs::Files { directory, action } => (directory, action),
        EventsArgs::Tap(args) => {
            let mut out = Output::standard(&Inputs::default())?;
            let done = tap::run(args, &stop, &mut out);
            return quiet(done.and(out.flush()));
        }
    };
    // Before a file is replaced: a mistyped directory must not cost an earlier export.
    let inputs = inputs(directory)?;
    let mut out = match action {
        EventsAction::Export { output: Some(path), .. } => Output::file(path, inputs)?,
        _ => Output::standard(&inputs)?,
    };
    let done = match action {
        EventsAction::Export { filter, view, .. } => export::run(directory, filter, *view, (&stop, &mut out)),
        EventsAction::Tail { count, follow, filter, view } => {
            tail::run(directory, (*count, *follow), (filter, *view), (&stop, &mut out))
        }
        EventsAction::Stats { filter, json } => stats::run(directory, filter, *json, (&stop, &mut out)),
        EventsAction::Verify => verify::run(directory, (&stop, &mut out)),
        EventsAction::DeadLetters { filter, view } => {
            dead_letters::run(directory, filter, *view, (&stop, &mut out))
        }
    };
    // What was found before an error is printed all the same.
    let finished = if done.is_ok() { out.finish() } else { out.flush() };
    quiet(done.and(finished))
}

/// Whoever closes standard output has seen enough.
fn quiet(done: Result<(), EventsError>) -> Result<(), EventsError> {
    match done {
        Err(EventsError::Output { to, source })
            if to == STANDARD_OUTPUT && source.kind() == io::ErrorKind::BrokenPipe =>
        {
            Ok(())
        }
        other => other,
    }
}

impl EventsError {
    /// The exit code of a command that fails by it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Tap { source, .. } => source.exit_code(),
            _ => exit::FAILURE,
        }
    }
}

/// The files of all journals, none of which may be written.
fn inputs(directory: &Path) -> Result<Inputs, EventsError> {
    let mut inputs = Inputs::default();
    for place in journals::find(directory)? {
        // A journal that can't be listed can't be read either, which is said in its turn.
        for entry in std::fs::read_dir(&place.path).into_iter().flatten().flatten() {
            inputs.add(&entry.path());
        }
    }
    Ok(inputs)
}

/// Says something beside the output.
fn say(text: &str) {
    // Nobody to tell is no reason to fail.
    let _ = writeln!(io::stderr(), "{}", one_line(text));
}

const STANDARD_OUTPUT: &str = "standard output";

/// The destination of lines.
struct Output {
    to: String,
    writer: Writer,
}

enum Writer {
    Standard(BufWriter<io::StdoutLock<'static>>),
    File(OutputFile),
}

impl Output {
    fn standard(inputs: &Inputs) -> Result<Self, EventsError> {
        let to = STANDARD_OUTPUT.to_owned();
        match inputs.check_stdout() {
            Ok(()) => Ok(Self { to, writer: Writer::Standard(BufWriter::new(io::stdout().lock())) }),
            Err(source) => Err(EventsError::Output { to, source }),
        }
    }

    fn file(path: &Path, inputs: Inputs) -> Result<Self, EventsError> {
        let to = path.display().to_string();
        match OutputFile::prepare(path, inputs) {
            Ok(file) => Ok(Self { to, writer: Writer::File(file) }),
            Err(source) => Err(EventsError::Output { to, source }),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), EventsError> {
        let written = match &mut self.writer {
            Writer::Standard(writer) => writer.write_all(bytes),
            Writer::File(file) => file.write_all(bytes),
        };
        self.checked(written)
    }

    fn flush(&mut self) -> Result<(), EventsError> {
        let flushed = match &mut self.writer {
            Writer::Standard(writer) => writer.flush(),
            Writer::File(file) => file.flush(),
        };
        self.checked(flushed)
    }

    /// Flushes, and makes the file also where there was nothing to write.
    fn finish(&mut self) -> Result<(), EventsError> {
        if let Writer::File(file) = &mut self.writer {
            let begun = file.begin().map(drop);
            self.checked(begun)?;
        }
        self.flush()
    }

    fn checked(&self, done: io::Result<()>) -> Result<(), EventsError> {
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
            let action = EventsAction::Export { filter, view: View::Json { bare: false }, output };
            run(&EventsArgs::Files { directory, action }).unwrap_err();
        }
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "precious");
    }
}
