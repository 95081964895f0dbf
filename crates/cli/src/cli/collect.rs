//! `tickstream collect` on the command line.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches};
use tickstream_client::{Builder, Client, TlsConfig};
use tickstream_collector::{
    free_memory::Allocator,
    process::{self, Options},
    settings::CollectSettings,
    source_config::{self, SourceConfig, SourceError},
};
use tickstream_service::{
    credentials::{CredentialSettings, Credentials},
    logs,
    settings::{ConfigError, Environment, Source, Table, effective, flags},
    standard::Standard,
};

use super::{
    CliError, Command,
    common::{config_arg, examples},
    exit, file,
};
use crate::client_tls::{TlsSettings, client_tls};

/// Every setting of a collector.
static TABLE: Table = Table {
    command: "tickstream collect",
    groups: &[
        CollectSettings::SECTIONS,
        CredentialSettings::SECTIONS,
        TlsSettings::SECTIONS,
        Standard::SECTIONS,
    ],
    former_variables: &[],
};

/// Settings with addresses, of which a flag may have several, and may be there several times.
const LISTS: [&str; 9] =
    ["to", "http", "otlp_grpc", "otlp_http", "syslog_tcp", "syslog_udp", "relp", "fluent", "statsd"];

/// Arguments of `collect`.
pub struct CollectArgs {
    options: Options,
    credentials: Credentials,
    tls: Option<TlsConfig>,
}

impl std::fmt::Debug for CollectArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CollectArgs").field("settings", &self.options.settings).finish_non_exhaustive()
    }
}

/// The subcommand, as clap has it.
pub(super) fn command() -> clap::Command {
    clap::Command::new("collect")
        .about("Take events from other programs, and answer when a server has stored them")
        .long_about(
            "Take events from other programs in their own protocols, have servers store them, and answer success only \
             then. Every setting is a flag, an environment variable or a key of the TOML file: flags take precedence \
             over the environment, that over the file, that over the default. docs/collector.md describes each protocol.",
        )
        .after_help(examples(
            "  STREAM_USER=alice STREAM_PASS=secret tickstream collect --to a.example:7400 \\
      --http 0.0.0.0:8080 --keys keys.toml
  tickstream collect --config collect.toml --print-config",
        ))
        .arg(config_arg())
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print the effective settings with their origins, secrets masked, and exit"),
        )
        .args(flags::args(&TABLE).map(|arg| match LISTS.contains(&arg.get_id().as_str()) {
            true => arg.num_args(1..).action(ArgAction::Append),
            false => arg,
        }))
        .mut_arg("tls", |tls| tls.num_args(0..=1).require_equals(true).default_missing_value("on"))
}

pub(super) fn from_matches(matches: &ArgMatches, env: Environment<'_>) -> Result<Command, CliError> {
    let source = Source::new(&TABLE, flags::given(matches, &TABLE), file(matches, env));
    let source = source.with_own_tables(source_config::TABLES);
    let values = source.read(env)?;
    let read = || -> Result<CollectArgs, ConfigError> {
        let (settings, standard) = (CollectSettings::read(&values)?, Standard::read(&values)?);
        settings.check_keys(&values)?;
        Ok(CollectArgs {
            credentials: Credentials::from_values(&values)?,
            tls: client_tls(&values)?,
            options: Options {
                tls: settings.tls_files(&values)?,
                sources: sources(&source)?,
                settings,
                token: standard.admin_token(&values)?,
                standard,
                effective: effective(&values),
                allocator: Allocator {
                    allocated: tickstream_server::ring::allocated_memory,
                    release: tickstream_server::ring::release_memory,
                },
            },
        })
    };
    if matches.get_flag("print-config") {
        return Ok(Command::PrintConfig { toml: effective(&values), problem: read().err() });
    }
    Ok(Command::Collect(Box::new(read()?)))
}

/// The tables of the file that aren't settings.
fn sources(source: &Source) -> Result<SourceConfig, ConfigError> {
    let (Some(path), Some(text)) = (source.file(), source.text()?) else {
        return Ok(SourceConfig::default());
    };
    SourceConfig::parse(&text).map_err(|SourceError { offset, problem }| ConfigError::Syntax {
        path: path.to_owned(),
        line: 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count(),
        message: problem,
    })
}

/// Runs until a signal ends it.
pub fn run(args: CollectArgs) -> ExitCode {
    let CollectArgs { options, credentials, tls } = args;
    let guard = match logs::init(&options.standard.log_level, options.standard.log_format) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::FAILURE);
        }
    };
    let servers = options.settings.to.clone();
    let builder = move |index| builder(&servers, index, &credentials, tls.clone());
    match process::run(options, builder, &guard) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = tickstream_client::with_causes(&error);
            tracing::error!(%error, "the collector ends");
            ExitCode::from(exit::FAILURE)
        }
    }
}

/// A client whose list of servers begins with another one for each connection.
fn builder(servers: &[String], index: usize, credentials: &Credentials, tls: Option<TlsConfig>) -> Builder {
    let mut order = servers.iter().cycle().skip(index % servers.len()).take(servers.len());
    let first = order.next().cloned().unwrap_or_default();
    let builder = order.fold(Client::builder(first), |builder, server| builder.server(server));
    let builder = builder.credentials(&credentials.user, &credentials.pass);
    match tls {
        Some(tls) => builder.tls(tls),
        None => builder,
    }
}
