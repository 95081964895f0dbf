//! Reasons to distrust a run's figures: a generator that is a bottleneck, a machine that others use.

use crate::{
    figures::{BUSY_PERCENT, Percentiles, ThreadUsage, cpus, machine_warnings, ms},
    options::{CpuList, Options},
};

/// A turn of a worker's loop that takes longer, more than once in a hundred, delays what it measures.
const TURN_LONG_US: u64 = 5_000;
/// Above this share of its time, waiting for a CPU is what a worker measures.
const WAITED_PERCENT: f64 = 50.0;

/// Circumstances that may have disturbed a run.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    pub generator_threads: &'a [ThreadUsage],
    /// A turn of a worker's loop between two waits.
    pub generator_turn: Option<Percentiles>,
    /// Of the machine, by neither server nor generator.
    pub others_percent: Option<f64>,
    pub steal_percent: f64,
}

/// Reasons to distrust the figures.
pub fn distrust(options: &Options, circumstances: Circumstances<'_>) -> Vec<String> {
    let Circumstances { generator_threads, generator_turn, others_percent, steal_percent } = circumstances;
    let mut warnings = Vec::new();
    let mut say = |warning| warnings.push(warning);
    let busiest = generator_threads.iter().map(|thread| thread.cpu_percent).fold(0.0, f64::max);
    let together: f64 = generator_threads.iter().map(|thread| thread.cpu_percent).sum();
    let pinned = options.cpus.as_ref().map(CpuList::distinct);
    let cpus = pinned.unwrap_or_else(cpus).min(generator_threads.len().max(1));
    if busiest > BUSY_PERCENT || together > BUSY_PERCENT * cpus as f64 {
        say(format!(
            "the generator is a bottleneck: its busiest thread took {busiest:.0} % of a CPU, all of them \
             {together:.0} % of {cpus} CPUs"
        ));
    }
    if let Some(turn) = generator_turn.filter(|turn| turn.p99_us > TURN_LONG_US) {
        say(format!(
            "the generator is a bottleneck: one turn of its loop in a hundred took {} or more",
            ms(turn.p99_us)
        ));
    }
    let waited = generator_threads.iter().map(|thread| thread.waited_percent).fold(0.0, f64::max);
    if waited > WAITED_PERCENT {
        say(format!("a generator thread waited for a CPU {waited:.0} % of the time: latencies include it"));
    }
    warnings.extend(machine_warnings(others_percent, steal_percent));
    warnings
}
