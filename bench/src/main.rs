//! The command `tickstream-load`: exit code 0 if every tick was right, 1 if not, 2 for wrong usage, 3 if the run
//! couldn't be made.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};
use tickstream_load::{Options, Plan, kernel, run};

const FAULTS: u8 = 1;
const NOT_RUN: u8 = 3;

fn main() -> ExitCode {
    let options = Options::parse();
    match try_main(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAULTS),
        Err(error) => {
            eprintln!("tickstream-load: {error:#}");
            ExitCode::from(NOT_RUN)
        }
    }
}

fn try_main(options: Options) -> anyhow::Result<bool> {
    let descriptors = kernel::raise_descriptor_limit()?;
    let password = std::env::var("STREAM_PASS").ok();
    let plan = Plan::new(options, password, descriptors)
        // Ends the process with exit code 2, as any wrong usage does.
        .unwrap_or_else(|error| Options::command().error(ErrorKind::ValueValidation, error).exit());
    let summary = run(plan.clone())?;
    summary.write(&plan.options)?;
    Ok(summary.passed)
}
