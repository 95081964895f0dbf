//! The `tickstream` command.

#![forbid(unsafe_code)]

mod admin_client;
mod cli;
mod client_tls;
mod demo;
mod doctor;
mod events;
mod publish;
mod top;
mod watch;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::cli::{Command, DemoArgs, DoctorArgs, PublishArgs, UpgradeArgs, WatchArgs, exit};
use crate::demo::DemoError;
use crate::doctor::{Host, Plan, Report};
use crate::events::EventsArgs;
use crate::top::TopArgs;
use crate::watch::WatchError;
use tickstream_server::config::{Config, ConfigError, LogFormat, Source};
use tickstream_server::serve;
use tickstream_service::logs;

fn main() -> ExitCode {
    match cli::parse() {
        Ok(Command::Serve(config, source)) => serve(*config, source),
        Ok(Command::PrintConfig { toml, problem }) => print_config(&toml, problem.as_ref()),
        Ok(Command::Watch(args)) => watch(&args),
        Ok(Command::Publish(args)) => publish(&args),
        Ok(Command::Events(args)) => show_events(&args),
        Ok(Command::Top(args)) => top(&args),
        Ok(Command::Upgrade(args)) => upgrade(&args),
        Ok(Command::Demo(args)) => demo(&args),
        Ok(Command::Doctor(args)) => doctor(*args),
        Ok(Command::Completions(shell)) => print(&cli::completions(shell)),
        Err(error) => {
            error.print();
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve(config: Config, source: Source) -> ExitCode {
    let guard = match logs::init(&config.standard.log_level, config.standard.log_format) {
        Ok(guard) => guard,
        Err(error) => return fail(&error, exit::FAILURE),
    };
    let code = match serve::run(config, source, &guard) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the server ends");
            ExitCode::from(if error.is_of_journal() { exit::JOURNAL } else { exit::FAILURE })
        }
    };
    drop(guard);
    code
}

fn print_config(toml: &str, problem: Option<&ConfigError>) -> ExitCode {
    let code = print(toml.as_bytes());
    match problem {
        Some(problem) => fail(problem, exit::USAGE),
        None => code,
    }
}

fn watch(args: &WatchArgs) -> ExitCode {
    match watch::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, watch_code(&error)),
    }
}

fn publish(args: &PublishArgs) -> ExitCode {
    match publish::run(args) {
        Ok(publish::Outcome::AllStored) => ExitCode::SUCCESS,
        Ok(publish::Outcome::NotAll) => ExitCode::from(exit::FAILURE),
        Err(error) => fail(&error, if error.is_refusal() { exit::REFUSED } else { exit::FAILURE }),
    }
}

fn show_events(args: &EventsArgs) -> ExitCode {
    match events::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, exit::FAILURE),
    }
}

fn top(args: &TopArgs) -> ExitCode {
    match top::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, exit::FAILURE),
    }
}

fn upgrade(args: &UpgradeArgs) -> ExitCode {
    match admin_client::post(&args.admin, "/upgrade", args.token.as_deref(), args.timeout) {
        Ok(said) => print(said.as_bytes()),
        Err(error) => {
            let _ = write!(io::stderr(), "at {}: ", args.admin);
            fail(&error, exit::FAILURE)
        }
    }
}

fn demo(args: &DemoArgs) -> ExitCode {
    let guard = match logs::init("warn", LogFormat::Auto) {
        Ok(guard) => guard,
        Err(error) => return fail(&error, exit::FAILURE),
    };
    let code = match demo::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(DemoError::Config(error)) => fail(&error, exit::USAGE),
        Err(DemoError::Watch(error)) => fail(&error, watch_code(&error)),
        Err(error) => fail(&error, exit::FAILURE),
    };
    drop(guard);
    code
}

fn doctor(args: DoctorArgs) -> ExitCode {
    let DoctorArgs { config, connections, pid, root, json } = args;
    let host = root.map_or_else(|| Host::this(pid), |root| Host::at(root, pid));
    let report = Report::of(&host, Plan::new(&config, connections));
    // https://no-color.org
    let colour =
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let code = print(if json { report.json() } else { report.text(colour) }.as_bytes());
    if report.is_fit() { code } else { ExitCode::from(exit::FAILURE) }
}

fn watch_code(error: &WatchError) -> u8 {
    if error.is_refusal() { exit::REFUSED } else { exit::FAILURE }
}

fn print(bytes: &[u8]) -> ExitCode {
    match io::stdout().write_all(bytes) {
        Ok(()) => ExitCode::SUCCESS,
        // Who closed it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error, exit::FAILURE),
    }
}

/// Says what went wrong. A closed standard error is no reason to panic.
fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {error}");
    ExitCode::from(code)
}
