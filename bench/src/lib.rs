//! `tickstream-load`: a load generator for tickstream servers that verifies every tick.
//!
//! The main thread leads a run (`options` → `plan` → `run` → `summary` → `output`): it starts the workers, commands
//! them, samples CPU and memory, and sums up. Each worker holds its share of the connections on a ring and a
//! descriptor table of its own, and shares nothing but a few gauges with the others.
//!
//! `modes` has other runs, which hold no subscriptions: handshakes, wrong passwords, one byte a second, publishing.
//!
//! Bytes are decoded and verified without I/O in `connection`, `batch`, `verify` and
//! `schedule`; `worker` carries it out on `tickstream-uring`.
//!
//! `tickstream-bare-loop` (`src/bin/bare-loop.rs`) is the server without features that others are compared with.

#![forbid(unsafe_code)]

mod batch;
mod clock;
mod conditions;
mod connection;
mod control;
mod distrust;
pub mod figures;
mod modes;
mod options;
pub mod output;
mod pace;
mod plan;
mod progress;
mod report;
mod run;
pub mod sample;
mod schedule;
pub mod snapshot;
mod socket;
mod stats;
mod summary;
mod tls;
mod token;
mod verify;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};
use tickstream_uring::system::raise_limit;

pub use crate::{clock::wall_us, options::CpuList, schedule::Schedule, stats::precise as latency_histogram};
use crate::{options::Options, plan::Plan};

/// Ticks were wrong, or connections were lost.
const EXIT_FAULTS: u8 = 1;
/// The run couldn't be made. (Wrong usage is clap's 2.)
const EXIT_NOT_RUN: u8 = 3;

/// The command `tickstream-load`: 0 if every tick was right, 1 if not, 2 for wrong usage, 3 if the run couldn't
/// be made.
pub fn main() -> ExitCode {
    match try_main(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAULTS),
        Err(error) => {
            eprintln!("tickstream-load: {error:#}");
            ExitCode::from(EXIT_NOT_RUN)
        }
    }
}

fn try_main(options: Options) -> anyhow::Result<bool> {
    let descriptors = raise_limit(libc::RLIMIT_NOFILE)?;
    let password = std::env::var("STREAM_PASS").ok();
    let plan = Plan::new(options, password, descriptors)
        // Ends the process with exit code 2, as any wrong usage does.
        .unwrap_or_else(|error| Options::command().error(ErrorKind::ValueValidation, error).exit());
    if plan.options.modes.is_any() {
        return modes::run(plan);
    }
    let summary = run::run(plan.clone())?;
    output::write(&summary, &plan.options)?;
    Ok(summary.passed)
}
