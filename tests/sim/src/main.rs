//! Runs seeds of the simulation: one, told in full, or many.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tickstream_engine::{CloseReason, Limit, RejectionCode};

const USAGE: &str = "tickstream-sim SEED            tells one seed in full
tickstream-sim --seeds N [--from SEED] [--step N] [--for SECONDS]";

/// Seeds to run.
struct Run {
    from: u64,
    seeds: u64,
    step: u64,
    most: Duration,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [seed] = &arguments[..]
        && let Ok(seed) = seed.parse()
    {
        let outcome = tickstream_sim::run(seed, true);
        println!("seed {seed}: {} actions, trace {:016x}", outcome.actions, outcome.hash);
        return ExitCode::SUCCESS;
    }
    let mut run = Run { from: 1, seeds: 0, step: 1, most: Duration::MAX };
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { return usage() };
        let Ok(value) = value.parse() else { return usage() };
        match name.as_str() {
            "--seeds" => run.seeds = value,
            "--from" => run.from = value,
            "--step" => run.step = value,
            "--for" => run.most = Duration::from_secs(value),
            _ => return usage(),
        }
    }
    if run.seeds == 0 { usage() } else { many(&run) }
}

/// Rejections that no publisher here provokes: crates/engine/src/ingest/tests.rs and
/// crates/engine/src/shard/tests/publishing.rs do.
const ELSEWHERE: [RejectionCode; 6] = [
    RejectionCode::EventTooLarge,
    RejectionCode::TooManyItems,
    RejectionCode::OutOfRange,
    RejectionCode::NotFinite,
    RejectionCode::InvalidValue,
    RejectionCode::BatchFull,
];

/// True for the name of what the simulation doesn't bring about.
fn is_elsewhere(name: &str) -> bool {
    // The one user of the simulation may do everything: tests/admin/users.rs has users with roles and limits.
    let of_users = [CloseReason::PermissionDenied.as_str(), Limit::ConnectionsPerUser.as_str()];
    // There is no known way to an internal error.
    name == CloseReason::Internal.as_str()
        || of_users.contains(&name)
        || ELSEWHERE.iter().any(|code| code.as_str() == name)
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn many(run: &Run) -> ExitCode {
    let (began, mut trace, mut actions, mut memory_most) = (Instant::now(), 0_u64, 0, 0);
    let (mut closed, mut fired) = ([0; CloseReason::ALL.len()], [0; Limit::ALL.len()]);
    let mut rejected = [0; RejectionCode::ALL.len()];
    let (mut clients, mut ticks, mut seeds) = (0, 0, 0);
    let (mut publishes, mut accepted, mut duplicates, mut records_refused) = (0, 0, 0, 0);
    for seed in (run.from..).step_by(run.step as usize).take(run.seeds as usize) {
        if began.elapsed() > run.most {
            break;
        }
        // The panic has said what was wrong.
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| tickstream_sim::run(seed, false))) else {
            eprintln!(
                "seed {seed} FAILED after {seeds} others in {:.1} s; again, in full: scripts/sim {seed}",
                began.elapsed().as_secs_f64()
            );
            return ExitCode::FAILURE;
        };
        let counters = outcome.counters;
        trace = trace.rotate_left(1) ^ outcome.hash;
        (actions, memory_most, seeds) =
            (actions + outcome.actions, memory_most.max(outcome.memory_most), seeds + 1);
        closed.iter_mut().zip(counters.closed).for_each(|(sum, count)| *sum += count);
        fired.iter_mut().zip(counters.fired).for_each(|(sum, count)| *sum += count);
        let events = &counters.ingest;
        rejected.iter_mut().zip(events.rejected).for_each(|(sum, count)| *sum += count);
        publishes += events.publishes;
        accepted += events.accepted;
        duplicates += events.duplicates;
        records_refused += events.records_refused;
        clients += counters.accepted;
        ticks += counters.streams.iter().map(|stream| stream.ticks_sent).sum::<u64>();
    }
    let took = began.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds from {} in {took:.1} s ({:.0} a second): {clients} clients, {actions} actions, {ticks} ticks, at most {} KiB held; traces {trace:016x}",
        run.from,
        seeds as f64 / took,
        memory_most / 1_024
    );
    println!(
        "{publishes} PUBLISHes: {accepted} events accepted, {duplicates} duplicates; {records_refused} records refused"
    );
    let list = |name: &str, counts: Vec<(&'static str, u64)>| {
        let text: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        println!("{name}: {}", text.join(", "));
        counts.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect::<Vec<_>>()
    };
    let mut never = list(
        "closed",
        CloseReason::ALL.iter().map(|reason| (reason.as_str(), closed[*reason as usize])).collect(),
    );
    never.extend(list(
        "fired",
        Limit::ALL.iter().map(|limit| (limit.as_str(), fired[*limit as usize])).collect(),
    ));
    never.extend(list(
        "rejected",
        RejectionCode::ALL.iter().map(|code| (code.as_str(), rejected[*code as usize])).collect(),
    ));
    never.retain(|name| !is_elsewhere(name));
    if seeds >= 2_000 && !never.is_empty() {
        eprintln!("never seen: {}; the simulation has lost something", never.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
