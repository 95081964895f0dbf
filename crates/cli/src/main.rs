//! The `tickstream` command.

#![forbid(unsafe_code)]

mod admin_client;
mod cli;
mod client_tls;
mod demo;
mod doctor;
mod events;
mod exit;
mod journal_files;
mod operator;
mod output;
mod publish;
mod signals;
mod top;
mod user_secret;
mod watch;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::cli::{Command, DemoArgs, DoctorArgs, PublishArgs, UpgradeArgs, WatchArgs};
use crate::demo::DemoError;
use crate::doctor::{Host, Plan, Report};
use crate::events::EventsArgs;
use crate::operator::{OperatorArgs, OperatorError};
use crate::top::TopArgs;
use crate::user_secret::{UserSecretArgs, UserSecretError};
use tickstream_server::config::{Config, ConfigError, LogFormat, Source};
use tickstream_server::serve;
use tickstream_service::{logs, text};

fn main() -> ExitCode {
    match cli::parse() {
        Ok(Command::Serve(config, source)) => serve(*config, source),
        Ok(Command::PrintConfig { toml, problem }) => print_config(&toml, problem.as_ref()),
        Ok(Command::Collect(args)) => cli::collect::run(*args),
        Ok(Command::Watch(args)) => watch(&args),
        Ok(Command::Publish(args)) => publish(&args),
        Ok(Command::Events(args)) => show_events(&args),
        Ok(Command::Top(args)) => top(&args),
        Ok(Command::Upgrade(args)) => upgrade(&args),
        Ok(Command::Operator(args)) => operate(&args),
        Ok(Command::CheckConfig(config)) => check_config(&config),
        Ok(Command::UserSecret(args)) => user_secret(&args),
        Ok(Command::Demo(args)) => demo(&args),
        Ok(Command::Doctor(args)) => doctor(*args),
        Ok(Command::Completions(shell)) => print(&cli::completions(shell)),
        Ok(Command::Manual(directory)) => manual(&directory),
        Err(error) => written(error.print(), ExitCode::from(error.exit_code())),
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
    let code = print(text::lines(toml).as_bytes());
    match problem {
        Some(problem) => fail(problem, exit::USAGE),
        None => code,
    }
}

fn watch(args: &WatchArgs) -> ExitCode {
    match watch::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, error.refusal().exit_code()),
    }
}

fn publish(args: &PublishArgs) -> ExitCode {
    match publish::run(args) {
        Ok(publish::Outcome::AllStored) => ExitCode::SUCCESS,
        Ok(publish::Outcome::NotAll) => ExitCode::from(exit::FAILURE),
        Err(error) => fail(&error, error.refusal().exit_code()),
    }
}

fn show_events(args: &EventsArgs) -> ExitCode {
    match events::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, error.exit_code()),
    }
}

fn top(args: &TopArgs) -> ExitCode {
    match top::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, exit::FAILURE),
    }
}

fn upgrade(args: &UpgradeArgs) -> ExitCode {
    match args.admin.post("/upgrade", args.timeout) {
        Ok(answer) => print(format!("{}\n", text::one_line(answer.trim_end())).as_bytes()),
        Err(source) => {
            let error = OperatorError::Admin { address: args.admin.address.clone(), source };
            fail(&error, error.exit_code())
        }
    }
}

fn operate(args: &OperatorArgs) -> ExitCode {
    match operator::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, error.exit_code()),
    }
}

fn check_config(config: &Config) -> ExitCode {
    match serve::check(config) {
        Ok(()) => print(b"the configuration can be used\n"),
        Err(error) => fail(&error, exit::USAGE),
    }
}

fn user_secret(args: &UserSecretArgs) -> ExitCode {
    match user_secret::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ UserSecretError::Name) => fail(&error, exit::USAGE),
        Err(error) => fail(&error, exit::FAILURE),
    }
}

fn demo(args: &DemoArgs) -> ExitCode {
    let guard = match logs::init("warn", LogFormat::Auto) {
        Ok(guard) => guard,
        Err(error) => return fail(&error, exit::FAILURE),
    };
    let code = match demo::run(args, &guard) {
        Ok(()) => ExitCode::SUCCESS,
        Err(DemoError::Config(error)) => fail(&error, exit::USAGE),
        Err(DemoError::Watch(error)) => fail(&error, error.refusal().exit_code()),
        Err(error) => fail(&error, exit::FAILURE),
    };
    drop(guard);
    code
}

fn doctor(args: DoctorArgs) -> ExitCode {
    let DoctorArgs { config, connections, pid, root, json } = args;
    let host = root.map_or_else(|| Host::this(pid), |root| Host::at(root, pid));
    let report = Report::of(&host, Plan::new(&config, connections));
    let report_text = if json { report.json() } else { report.text(text::has_colours(&io::stdout())) };
    let code = print(report_text.as_bytes());
    if report.is_fit() { code } else { ExitCode::from(exit::FAILURE) }
}

fn manual(directory: &Path) -> ExitCode {
    match cli::manual(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, exit::FAILURE),
    }
}

fn print(bytes: &[u8]) -> ExitCode {
    let mut out = io::stdout();
    written(out.write_all(bytes).and_then(|()| out.flush()), ExitCode::SUCCESS)
}

/// The exit code after writing to standard output: `code`, unless that failed.
fn written(result: io::Result<()>, code: ExitCode) -> ExitCode {
    match result {
        // Who closed it has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "error: can't write to standard output: {error}");
            ExitCode::from(exit::FAILURE)
        }
        _ => code,
    }
}

/// Says what went wrong. A closed standard error is no reason to panic.
fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {}", text::lines(&error.to_string()));
    ExitCode::from(code)
}
