//! Faults on demand, so that tests can see what a shard that hangs or panics does to the process.
//!
//! Only builds with debug assertions have this module, and only the environment that the process was started with
//! asks for a fault: nothing that comes over a socket can.

use std::time::Duration;

use tickstream_journal::{Completion, Failure, OperationId};

use crate::ring;

/// `hang:SHARD:MS`, `panic:SHARD:MS`, `stall:SHARD:MS` or `fsync:SHARD:MS`: so many milliseconds after the shard began.
const VARIABLE: &str = "TICKSTREAM_CHAOS";
/// Duration of a stall.
const STALL: Duration = Duration::from_millis(200);

/// A fault to come.
pub(super) struct Chaos {
    fault: Fault,
    at_ns: u64,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Hang,
    Panic,
    /// Once.
    Stall,
    /// The next commit group of the journal isn't brought to stable storage.
    Fsync,
}

impl Chaos {
    /// Fault that the environment asks of this shard.
    ///
    /// # Panics
    /// If it asks for what there isn't: a test that doesn't test must not pass.
    pub fn of_environment(shard: usize) -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        let (fault, at) = text.split_once(':').expect("FAULT:SHARD:MS");
        let (number, after_ms) = at.split_once(':').expect("FAULT:SHARD:MS");
        let fault = match fault {
            "hang" => Fault::Hang,
            "panic" => Fault::Panic,
            "stall" => Fault::Stall,
            "fsync" => Fault::Fsync,
            other => panic!("{VARIABLE}: no fault is called {other}"),
        };
        let after_ms: u64 = after_ms.parse().expect("milliseconds");
        let is_meant = number.parse() == Ok(shard);
        is_meant.then(|| Self { fault, at_ns: ring::now().mono_ns + after_ms * 1_000_000 })
    }

    /// Does it, once its time has come.
    pub fn pass(&mut self) {
        if !self.is_due() || matches!(self.fault, Fault::Fsync) {
            return;
        }
        tracing::warn!(fault = ?self.fault, "{VARIABLE}");
        match self.fault {
            Fault::Hang => loop {
                std::thread::park();
            },
            Fault::Panic => panic!("{VARIABLE}"),
            Fault::Stall => {
                self.at_ns = u64::MAX;
                std::thread::sleep(STALL);
            }
            Fault::Fsync => {}
        }
    }

    /// Has the sync of a commit group fail, once the time for it has come.
    pub fn change(&mut self, completion: &mut Completion) {
        let is_commit = completion.id == OperationId::Commit && completion.buffer.is_some();
        if is_commit && matches!(self.fault, Fault::Fsync) && self.is_due() {
            tracing::warn!(fault = ?self.fault, "{VARIABLE}");
            completion.result = Err(Failure::Sync(libc::EIO));
        }
    }

    fn is_due(&self) -> bool {
        ring::now().mono_ns >= self.at_ns
    }
}
