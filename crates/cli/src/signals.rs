//! Signals that end a command in good order: SIGINT, SIGTERM, and SIGHUP unless it was ignored from the start (nohup).

use std::fs;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use tickstream_service::signals::Repeats;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals for asynchronous commands.
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
    repeats: Repeats,
}

impl StopSignals {
    /// Catches the signals from now on.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn catch() -> io::Result<Self> {
        let hangup = if is_ignored(SIGHUP) { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup,
            repeats: Repeats::default(),
        })
    }

    /// Waits for the next one. Cancelled, it loses none.
    pub async fn next(&mut self) {
        loop {
            self.any().await;
            if !self.repeats.is_repeat(Instant::now()) {
                return;
            }
        }
    }

    async fn any(&mut self) {
        let Self { interrupt, terminate, hangup, .. } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = hung_up => {}
        }
    }
}

/// The signals for commands that look at a flag between two pieces of work. A second signal ends the process at once, unless it
/// is the first one that came twice.
#[derive(Clone)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Catches the signals from now on.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn catch() -> io::Result<Self> {
        let is_caught = |number: &i32| *number != SIGHUP || !is_ignored(SIGHUP);
        let caught: Vec<_> = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(is_caught).collect();
        let stopped = Arc::new(AtomicBool::new(false));
        for number in &caught {
            // In the handler: the flag is set before a call that the signal interrupts comes back.
            flag::register(*number, stopped.clone())?;
        }
        let mut signals = Signals::new(caught)?;
        let wait = move || {
            let (mut repeats, mut has_come) = (Repeats::default(), false);
            for number in signals.forever() {
                if !repeats.is_repeat(Instant::now()) && mem::replace(&mut has_come, true) {
                    // Nothing is left to do if this fails: the flag is set.
                    let _ = emulate_default_handler(number);
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
        Ok(Self(stopped))
    }

    /// True once one came.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// True if the process was started with the signal ignored: the mask SigIgn of proc_pid_status(5).
fn is_ignored(number: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (number - 1) & 1 == 1
}
