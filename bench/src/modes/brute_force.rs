//! `--brute-force RATE`: wrong passwords from many addresses, and what the server answers to each.

use std::{collections::BTreeMap, fmt, io, num::NonZeroU32, sync::Arc};

use serde::Serialize;
use tickstream_wire::{frame::seal, messages::Auth};

use super::{
    attempts::{ACCEPTED, AttemptCounts, Attempts, Workload},
    outcome::Outcome,
    threads::{Run, ServerCost, on_threads},
};
use crate::{
    clock::wall_us,
    figures::{Percentiles, percentiles},
    plan::Plan,
};

#[derive(Debug, Serialize)]
pub struct BruteForce {
    per_second_wanted: u32,
    sources: usize,
    attempts: u64,
    /// The rate wanted them, but --in-flight were on their way.
    left_out: u64,
    took_s: f64,
    per_second: f64,
    /// By what became of them: an ERROR's code, or what else ended them.
    answers: BTreeMap<String, u64>,
    /// From opening to the answer.
    until_answer: Option<Percentiles>,
    server: Option<ServerCost>,
    server_cpu_us_each: Option<f64>,
}

/// Makes the run.
///
/// # Errors
/// If a thread fails.
pub fn run(plan: &Arc<Plan>, rate: NonZeroU32) -> anyhow::Result<BruteForce> {
    let Run { results, took, server } = on_threads(plan, |number| one(plan, number, rate.get()))?;
    let counts = AttemptCounts::merged(results);
    Ok(BruteForce {
        per_second_wanted: rate.get(),
        sources: plan.sources.len().max(1),
        attempts: counts.begun,
        left_out: counts.left_out,
        took_s: took.as_secs_f64(),
        per_second: counts.begun as f64 / took.as_secs_f64(),
        until_answer: Percentiles::of(&counts.refused),
        server,
        server_cpu_us_each: server.map(|server| {
            let (user, system) = server.each(counts.begun);
            user + system
        }),
        answers: counts.answers,
    })
}

fn one(plan: &Arc<Plan>, number: u32, rate: u32) -> io::Result<AttemptCounts> {
    let in_flight = plan.share(plan.options.in_flight.get(), number).max(1);
    // As long as the right one, so that nothing but the comparison can tell them apart; and never the right one.
    let wrong = |byte: u8| if byte == b'x' { 'y' } else { 'x' };
    let password = plan.password.bytes().map(wrong).collect();
    let auth = Auth { username: plan.options.user.clone(), password, client: None };
    Attempts::new(plan, number, in_flight, seal(&auth))?.run(Workload {
        count: u64::MAX,
        until_us: wall_us() + plan.options.duration.as_micros() as u64,
        per_second: plan.share(rate, number).into(),
    })
}

impl Outcome for BruteForce {
    fn passed(&self) -> bool {
        !self.answers.contains_key(ACCEPTED)
    }
}

impl fmt::Display for BruteForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |key: &str, value: String| writeln!(f, "{key:<16}{value}");
        row(
            "guesses",
            format!(
                "{} from {} addresses in {:.1} s: {:.0} of {} a second, {} left out (--in-flight)",
                self.attempts,
                self.sources,
                self.took_s,
                self.per_second,
                self.per_second_wanted,
                self.left_out
            ),
        )?;
        for (answer, count) in &self.answers {
            row("  answer", format!("{count} × {answer}"))?;
        }
        if let Some(latency) = &self.until_answer {
            row("until answer", percentiles(latency))?;
        }
        if let (Some(cpu), Some(server)) = (self.server_cpu_us_each, &self.server) {
            row(
                "server",
                format!(
                    "{cpu:.1} µs of CPU each; RSS {:.1} MB before, {:.1} MB after",
                    server.rss_before_bytes as f64 / 1e6,
                    server.rss_after_bytes as f64 / 1e6
                ),
            )?;
        }
        if !self.passed() {
            row("FAILED", "a wrong password was accepted".into())?;
        }
        Ok(())
    }
}
