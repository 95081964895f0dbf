//! The command `tickstream-warehouse`.

#![forbid(unsafe_code)]

mod alerts;
mod args;
mod background;
mod commands;
mod demo;
mod doctor;
mod erase;
mod export;
mod maintain;
mod output;
mod place;
mod plan;
mod report;
mod run;
mod settings;
mod status;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::{CommandFactory, FromArgMatches};
use tickstream_service::logs::{self, LogFormat};
use tickstream_service::standard::Standard;

/// Stack of a thread: plans of long queries are deep trees.
const STACK_BYTES: usize = 16 << 20;

/// jemalloc keeps the memory of one batch for the next, and gives it back some seconds after the last
/// (docs/decisions/0030-jemalloc.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let command = Cli::command().mut_subcommand("run", |run| run.args(settings::args()));
    let matches = command.get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match execute(cli, &matches) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The libraries of tables print each error that they return, and each conflict; here they are told once, with what was done.
fn with_own_errors(level: &str) -> String {
    format!("{level},buoyant_kernel=off,deltalake_core::kernel::transaction=error")
}

fn execute(cli: Cli, matches: &clap::ArgMatches) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build()?;
    if let Command::Run(args) = &cli.command {
        let matches = matches.subcommand_matches("run").unwrap_or(matches);
        let values = run::values(matches, args.config.clone())?;
        if args.print_config {
            print!("{}", tickstream_service::settings::effective(&values));
            return Ok(ExitCode::SUCCESS);
        }
        let standard = Standard::read(&values)?;
        let log = logs::init(&with_own_errors(&standard.log_level), standard.log_format)?;
        return runtime.block_on(run::run(&values, &log));
    }
    let level = std::env::var("TICKSTREAM_LOG_LEVEL").unwrap_or_else(|_| "warn".to_owned());
    let log = logs::init(&with_own_errors(&level), LogFormat::Auto)?;
    if let Command::Demo(args) = &cli.command {
        return runtime.block_on(demo::run(args, &log));
    }
    runtime.block_on(commands::run(cli.command))
}
