//! The `tickstream` command.

use std::io::Write;
use std::process::ExitCode;

use tickstream::cli::{self, Command, exit};
use tickstream::config::Config;
use tickstream::{logs, serve};

fn main() -> ExitCode {
    match cli::parse() {
        Ok(command) => run(command),
        Err(error) => {
            error.print();
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(config) => serve(*config),
        _ => ExitCode::from(exit::USAGE),
    }
}

fn serve(config: Config) -> ExitCode {
    let guard = match logs::init(&config.log_level, config.log_format) {
        Ok(guard) => guard,
        Err(error) => return fail(&error),
    };
    let code = match serve::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the server ends");
            ExitCode::from(exit::FAILURE)
        }
    };
    drop(guard);
    code
}

/// Says what went wrong where the log can't.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    // A closed standard error is no reason to panic.
    let _ = writeln!(std::io::stderr(), "tickstream: {error}");
    ExitCode::from(exit::FAILURE)
}
