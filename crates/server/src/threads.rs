//! The place of threads that aren't shards': beside them where there are other CPUs, else behind them.

use crate::placement::{self, Machine};
use crate::ring;

/// Added to the niceness of a thread that shares its CPUs with shards: where both want to run, they get nine tenths.
const NICENESS: i32 = 10;

/// The place of a thread.
#[derive(Clone, Debug)]
pub enum Place {
    /// CPUs that no shard has.
    Own(Vec<usize>),
    /// Those of the shards: there are no others.
    Shared,
}

impl Place {
    /// The place beside shards on these CPUs.
    pub fn beside(shard_cpus: &[usize]) -> Self {
        let allowed = Machine::detect().map(|machine| machine.allowed).unwrap_or_default();
        let others: Vec<_> = allowed.into_iter().filter(|cpu| !shard_cpus.contains(cpu)).collect();
        if others.is_empty() { Self::Shared } else { Self::Own(others) }
    }

    /// Brings the calling thread there, and those that it starts; `name` is for the log.
    pub fn take(&self, name: &str) {
        let taken = match self {
            Self::Own(cpus) => ring::run_on(cpus),
            Self::Shared => ring::be_nice(NICENESS),
        };
        if let Err(error) = taken {
            tracing::warn!(%error, name, "this thread can't be kept from taking the shards' CPU time");
        }
    }

    /// Logs the place of the admin endpoint.
    pub fn log(&self) {
        match self {
            Self::Own(cpus) => tracing::debug!(cpus = placement::format_cpus(cpus), "admin endpoint"),
            Self::Shared => tracing::info!(
                niceness = NICENESS,
                "shards run on every CPU, so the admin endpoint runs beside one of them, at a lower priority"
            ),
        }
    }
}
