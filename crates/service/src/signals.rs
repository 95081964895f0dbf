//! Signals of an operator, as requests.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator;

/// Time in which a signal that comes again is still the same one: timeout(1) sends its signal to the process, and then to
/// the process's group.
pub const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// A request of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT or SIGTERM: end in good order; a second one ends at once.
    End,
    /// SIGHUP: read settings again.
    Reload,
    /// SIGUSR2: hand over to a new process.
    Upgrade,
}

/// The signals of this process, held back until somebody handles them.
#[derive(Debug)]
pub struct Signals(iterator::Signals);

impl Signals {
    /// Holds back all of them. Call it before the program serves: by default a signal ends the process.
    ///
    /// # Errors
    /// If the kernel refuses a handler.
    pub fn take() -> io::Result<Self> {
        iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR2]).map(Self)
    }

    /// Hands each to `handle`, on a thread of its own.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub fn forward(mut self, mut handle: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
        let forward = move || {
            let mut ended: Option<Instant> = None;
            for signal in self.0.forever() {
                handle(match signal {
                    SIGHUP => Signal::Reload,
                    SIGUSR2 => Signal::Upgrade,
                    _ if ended.replace(Instant::now()).is_some_and(|at| at.elapsed() < SAME_SIGNAL) => {
                        continue;
                    }
                    _ => Signal::End,
                });
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(forward).map(drop)
    }
}
