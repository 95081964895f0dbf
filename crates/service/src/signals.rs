//! Signals of an operator, as requests.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator;

/// Time in which a signal that comes again is still the same one.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// Finds signals that come twice: timeout(1) sends its signal to the process, and then to the process's group.
#[derive(Debug, Default)]
pub struct Repeats(Option<Instant>);

impl Repeats {
    /// True if the signal that has come is the last one again. `now` doesn't go back.
    pub fn is_repeat(&mut self, now: Instant) -> bool {
        let is_repeat = self.0.is_some_and(|last| now - last < SAME_SIGNAL);
        if !is_repeat {
            self.0 = Some(now);
        }
        is_repeat
    }
}

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
            let mut repeats = Repeats::default();
            for signal in self.0.forever() {
                handle(match signal {
                    SIGHUP => Signal::Reload,
                    SIGUSR2 => Signal::Upgrade,
                    _ if repeats.is_repeat(Instant::now()) => continue,
                    _ => Signal::End,
                });
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(forward).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_comes_twice_at_once_counts_once() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        let mut at = |ms| repeats.is_repeat(start + Duration::from_millis(ms));
        assert_eq!(
            [at(0), at(0), at(99), at(100), at(150), at(5_000)],
            [false, true, true, false, true, false]
        );
    }
}
