//! Handing over to a new process without refusing or resetting a connection.
//!
//! The old process starts the program again, with the same arguments, and lets it inherit the listening sockets. Both
//! accept from the same queues until the new one says that it serves; then the old one stops accepting, which resets
//! nothing, since the new one holds the sockets, and drains. A new one that fails, or doesn't say in time that it
//! serves, changes nothing.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{env, thread};

use socket2::SockRef;
use tickstream_service::settings::kept;

use crate::listeners::{self, Listeners};
use crate::{journal_lock, ring};

/// The variable that names the descriptor by which the new process says that it serves.
const READY_FD: &str = "TICKSTREAM_READY_FD";
/// Message by which the new process says so.
const READY: &[u8] = b"ready";
/// Longest wait for that message.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval of the checks whether a new process is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Why the old process goes on serving.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// There is nothing to hand over any more.
    #[error("the server is draining already")]
    Draining,
    /// The program can't be started.
    #[error("{program:?} can't be started: {source}")]
    Start {
        /// The program, as this process was started.
        program: OsString,
        /// The kernel's error.
        source: io::Error,
    },
    /// The new process ended before it served.
    #[error("the new process ended before it served ({status}); its log says why")]
    Ended {
        /// Its end.
        status: String,
    },
    /// The new process didn't serve in time.
    #[error("the new process didn't serve within {} s and was ended", READY_TIMEOUT.as_secs())]
    Timeout,
    /// The configuration that this process has kept can't be handed over.
    #[error("can't hand over the configuration: {0}")]
    Settings(io::Error),
    /// Sockets can't be set up for it.
    #[error("can't hand over the sockets: {0}")]
    Sockets(io::Error),
}

/// A new process that doesn't serve yet.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    /// Channel on which it says that it serves.
    ready: UnixStream,
}

/// Starts the program again with `listeners`, and with further descriptors, each of which a variable names.
///
/// # Errors
/// See [`UpgradeError`].
pub fn start_successor(
    listeners: &Listeners,
    others: &[(&'static str, BorrowedFd<'_>)],
) -> Result<Successor, UpgradeError> {
    let (ready, theirs) = UnixStream::pair().map_err(UpgradeError::Sockets)?;
    ready.set_read_timeout(Some(LOOK_INTERVAL)).map_err(UpgradeError::Sockets)?;
    Ok(Successor { child: start(listeners, theirs, others)?, ready })
}

impl Successor {
    /// Waits until it serves, as long as it `is_wanted`. Answers its process id.
    ///
    /// # Errors
    /// See [`UpgradeError`]; the new process is gone then.
    pub fn wait(mut self, is_wanted: impl Fn() -> bool) -> Result<u32, UpgradeError> {
        let until = Instant::now() + READY_TIMEOUT;
        let mut said = [0; READY.len()];
        loop {
            match self.ready.read(&mut said) {
                Ok(bytes) if said[..bytes] == *READY => {
                    let pid = self.child.id();
                    reap(self.child);
                    return Ok(pid);
                }
                Err(error) if is_again(&error) && !is_wanted() => {
                    self.kill();
                    return Err(UpgradeError::Draining);
                }
                Err(error) if is_again(&error) && Instant::now() >= until => {
                    self.kill();
                    return Err(UpgradeError::Timeout);
                }
                Err(error) if is_again(&error) => {}
                Ok(_) | Err(_) => return Err(self.ended()),
            }
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Handles the end of the new process: it closed its side, so it has ended, or is about to.
    fn ended(&mut self) -> UpgradeError {
        match self.child.wait() {
            Ok(status) => UpgradeError::Ended { status: status.to_string() },
            Err(error) => UpgradeError::Ended { status: error.to_string() },
        }
    }
}

/// True if this process takes over from another.
pub fn is_successor() -> bool {
    env::var_os(READY_FD).is_some()
}

/// Tells the process that started this one, if one did, that this one serves.
pub fn tell_predecessor() {
    let Some(fd) = env::var(READY_FD).ok().and_then(|fd| fd.parse::<RawFd>().ok()) else { return };
    let answered = ring::take_descriptor(fd).and_then(|fd| UnixStream::from(fd).write_all(READY));
    if let Err(error) = answered {
        tracing::warn!(%error, "the process before this one can't be told that this one serves");
    }
}

/// Takes over the files that the process before this one has kept, and closes their descriptor.
pub fn take_over_kept_files() {
    kept::take_over();
    if let Some(fd) = env::var(kept::KEPT_FD).ok().and_then(|fd| fd.parse::<RawFd>().ok()) {
        drop(ring::take_descriptor(fd));
    }
}

fn start(
    listeners: &Listeners,
    theirs: UnixStream,
    others: &[(&'static str, BorrowedFd<'_>)],
) -> Result<Child, UpgradeError> {
    let mut args = env::args_os();
    let program = args.next().unwrap_or_else(|| "tickstream".into());
    let theirs = OwnedFd::from(theirs);
    let mut command = Command::new(&program);
    command.args(args);
    command.env(listeners::HANDED_OVER, listeners.handed_over());
    command.env(listeners::PASSED, listeners.passed());
    command.env(READY_FD, theirs.as_raw_fd().to_string());
    // They were this process's.
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        command.env_remove(name);
    }
    command.env_remove(journal_lock::HANDED_OVER);
    for (variable, descriptor) in others {
        command.env(variable, descriptor.as_raw_fd().to_string());
    }
    let set_inheritable = |inheritable: bool| {
        let mut others = others.iter().map(|(_, descriptor)| descriptor);
        others.try_for_each(|descriptor| SockRef::from(descriptor).set_cloexec(!inheritable))?;
        listeners.set_inheritable(inheritable)
    };
    let inheritable = SockRef::from(&theirs).set_cloexec(false).and_then(|()| set_inheritable(true));
    let child = inheritable
        .map_err(UpgradeError::Sockets)
        .and_then(|()| command.spawn().map_err(|source| UpgradeError::Start { program, source }));
    set_inheritable(false).map_err(UpgradeError::Sockets)?;
    child
}

/// True if nothing was said so far.
fn is_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Waits for a process that serves now, so that it leaves no zombie if it ends before this one.
fn reap(mut child: Child) {
    let wait = move || {
        let _ = child.wait();
    };
    // Without a thread there may be a zombie, until this process ends.
    let _ = thread::Builder::new().name("successor".to_owned()).spawn(wait);
}
