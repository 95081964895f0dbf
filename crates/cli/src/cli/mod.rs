//! The command line: what was asked for, as a typed [`Command`].

mod args;
pub mod collect;
mod common;
mod configure;
mod manual;
mod operator;
mod publish;
pub mod refusal;
#[cfg(test)]
mod tests;

pub use args::command;
pub use collect::CollectArgs;
pub use manual::manual;
pub use publish::PublishArgs;

pub use crate::output::{Inputs, OutputFile};
pub use crate::signals::{StopFlag, StopSignals};

use crate::admin_client::AdminClient;
use crate::client_tls::{self, client_tls};
use crate::doctor::Host;
use crate::events::{EventsAction, EventsArgs, Filter, TapArgs, View};
use crate::exit;
use crate::operator::OperatorArgs;
use crate::top::TopArgs;
use crate::user_secret::UserSecretArgs;
use clap::ArgMatches;
use clap_complete::Shell;
use std::{
    ffi::OsString,
    io::{self, Write},
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};
use tickstream_client::TlsConfig;
use tickstream_server::config::{self, Config, ConfigError, Source};
use tickstream_server::placement::Machine;
use tickstream_service::admin::AdminAddress;
use tickstream_service::credentials::Credentials;
use tickstream_service::pattern::Pattern;
use tickstream_service::settings::{self, Environment, Values, flags};
use tickstream_service::text;
use tickstream_wire::messages::Mode;

/// A command with its arguments.
#[derive(Debug)]
pub enum Command {
    /// Run the server.
    Serve(Box<Config>, Source),
    /// Print the effective configuration to stdout, then what is wrong with it, if anything, to stderr (and exit
    /// with [`exit::USAGE`]).
    PrintConfig {
        /// The configuration as TOML, secrets masked.
        toml: String,
        /// Why the server wouldn't start with it.
        problem: Option<ConfigError>,
    },
    /// Run a collector.
    Collect(Box<CollectArgs>),
    /// Subscribe and print ticks.
    Watch(WatchArgs),
    /// Publish events from JSON lines.
    Publish(PublishArgs),
    /// Show what a server has collected.
    Events(EventsArgs),
    /// Show what a server does.
    Top(TopArgs),
    /// Run server and client in one process.
    Demo(DemoArgs),
    /// Have a running server hand over to a new process.
    Upgrade(UpgradeArgs),
    /// Ask or change a running server.
    Operator(OperatorArgs),
    /// Check a configuration, which could be read.
    CheckConfig(Box<Config>),
    /// Make a user's secret.
    UserSecret(UserSecretArgs),
    /// Say what of a machine stands in the way.
    Doctor(Box<DoctorArgs>),
    /// Print a script of completions: see [`completions`].
    Completions(Shell),
    /// Write the manual pages into a directory: see [`manual()`].
    Manual(PathBuf),
}

/// Arguments of `watch`.
#[derive(Clone, Debug)]
pub struct WatchArgs {
    /// Servers, each a host name or IP address with a port; at least one.
    pub addrs: Vec<String>,
    /// User and password.
    pub credentials: Credentials,
    /// Encryption, if any.
    pub tls: Option<TlsConfig>,
    /// The stream.
    pub mode: Mode,
    /// Replay ticks after this sequence.
    pub resume_after: Option<u64>,
    /// Stop after this many ticks.
    pub count: Option<NonZeroU64>,
    /// JSON lines instead of text.
    pub json: bool,
}

/// Arguments of `upgrade`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeArgs {
    /// The server's admin endpoint.
    pub admin: AdminClient,
    /// Longest wait for the new process.
    pub timeout: Duration,
}

/// Arguments of `demo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoArgs {
    /// Address of the server; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Stream that the client watches.
    pub mode: Mode,
    /// Ticks of mode SECOND in a second.
    pub ticks_per_second: NonZeroU32,
    /// Clients beside the one that prints; `None`: some hundred, fewer where ticks are many.
    pub clients: Option<u32>,
    /// Stop after this many ticks.
    pub count: Option<NonZeroU64>,
    /// JSON lines instead of text.
    pub json: bool,
}

/// Arguments of `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorArgs {
    /// The server's settings; without credentials where there are none.
    pub config: Config,
    /// Connections at once; `None`: what the settings allow.
    pub connections: Option<NonZeroU32>,
    /// The process whose limits count; `None`: this one.
    pub pid: Option<u32>,
    /// Directory of the machine's files; `None`: this machine.
    pub root: Option<PathBuf>,
    /// One JSON object instead of text.
    pub json: bool,
}

/// Why there is nothing to do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A wrong command line, or a request for help or version.
    #[error("{0}")]
    Usage(#[from] clap::Error),
    /// A wrong configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A token that can't be read.
    #[error("can't read the token from {}: {reason}", .path.display())]
    Token {
        /// Its file.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
}

impl CliError {
    /// The process's exit code: [`exit::OK`] for help and version.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(error) if error.exit_code() == 0 => exit::OK,
            _ => exit::USAGE,
        }
    }

    /// Writes it to stdout (help, version) or stderr.
    ///
    /// # Errors
    /// If help or version can't be written. An error that can't is lost.
    pub fn print(&self) -> io::Result<()> {
        match self {
            Self::Usage(error) if error.exit_code() == 0 => error.print().and_then(|()| io::stdout().flush()),
            Self::Usage(error) => {
                let _ = error.print();
                Ok(())
            }
            error => {
                let _ = writeln!(io::stderr(), "error: {}", text::lines(&error.to_string()));
                Ok(())
            }
        }
    }
}

/// Reads the command line and the environment of this process.
///
/// # Errors
///
/// [`CliError`], also for `--help` and `--version`.
pub fn parse() -> Result<Command, CliError> {
    parse_from(std::env::args_os(), &|name| std::env::var_os(name))
}

/// Reads a command line, the program's name first, and an environment.
///
/// # Errors
///
/// [`CliError`], also for `--help` and `--version`.
pub fn parse_from<T: Into<OsString> + Clone>(
    args: impl IntoIterator<Item = T>,
    env: Environment<'_>,
) -> Result<Command, CliError> {
    let matches = command().try_get_matches_from(args)?;
    match matches.subcommand() {
        Some(("serve", matches)) => serve_from(matches, env),
        Some(("collect", matches)) => collect::from_matches(matches, env),
        Some(("watch", matches)) => watch_from(matches, env),
        Some(("publish", matches)) => publish::from_matches(matches, env),
        Some(("events", matches)) => Ok(Command::Events(events_from(matches)?)),
        Some(("top", matches)) => Ok(Command::Top(top_from(matches))),
        Some(("upgrade", matches)) => upgrade_from(matches),
        Some(("demo", matches)) => Ok(Command::Demo(demo_from(matches))),
        Some(("doctor", matches)) => doctor_from(matches, env),
        Some(("completions", matches)) => Ok(Command::Completions(required(matches, "shell"))),
        Some(("manual", matches)) => Ok(Command::Manual(required(matches, "directory"))),
        Some(("check-config", matches)) => configure::check_from(matches, env),
        Some(("user-secret", matches)) => Ok(configure::secret_from(matches)),
        Some((name, matches)) => operator::from_matches(name, matches)
            .unwrap_or_else(|| unreachable!("clap requires a known subcommand, not {name:?}")),
        None => unreachable!("clap requires a subcommand"),
    }
}

/// The completion script of a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    // Into memory first: generate() panics where its output fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "tickstream", &mut script);
    script
}

fn serve_from(matches: &ArgMatches, env: Environment<'_>) -> Result<Command, CliError> {
    let source = server_source(matches, env);
    let values = source.read(env)?;
    let config = Config::from_merged(&values);
    if matches.get_flag("print-config") {
        return Ok(Command::PrintConfig { toml: settings::effective(&values), problem: config.err() });
    }
    Ok(Command::Serve(Box::new(config?), source))
}

/// The sources of the server's settings.
fn server_source(matches: &ArgMatches, env: Environment<'_>) -> Source {
    Source::new(&config::TABLE, flags::given(matches, &config::TABLE), file(matches, env))
}

/// The configuration file, if one is named.
fn file(matches: &ArgMatches, env: Environment<'_>) -> Option<PathBuf> {
    let variable = || env("TICKSTREAM_CONFIG").filter(|path| !path.is_empty());
    flags::given_text(matches, "config").or_else(variable).map(PathBuf::from)
}

fn watch_from(matches: &ArgMatches, env: Environment<'_>) -> Result<Command, CliError> {
    let values = Values::merge(&client_tls::TABLE, &flags::given(matches, &client_tls::TABLE), env, None)?;
    Ok(Command::Watch(WatchArgs {
        addrs: matches.get_many("addr").into_iter().flatten().cloned().collect(),
        credentials: Credentials::from_values(&values)?,
        tls: client_tls(&values)?,
        mode: required(matches, "mode"),
        resume_after: matches.get_one("resume-after").copied(),
        count: matches.get_one("count").copied(),
        json: matches.get_flag("json"),
    }))
}

fn upgrade_from(matches: &ArgMatches) -> Result<Command, CliError> {
    Ok(Command::Upgrade(UpgradeArgs { admin: admin_client(matches)?, timeout: required(matches, "timeout") }))
}

/// The client of `--admin` and `--admin-token-file`.
fn admin_client(matches: &ArgMatches) -> Result<AdminClient, CliError> {
    Ok(AdminClient { address: required(matches, "admin"), token: operator::token(matches)? })
}

fn events_from(matches: &ArgMatches) -> Result<EventsArgs, CliError> {
    let (action, matches) = matches.subcommand().expect("clap requires one");
    let filter = || Filter {
        since: matches.get_one("since").copied(),
        until: matches.get_one("until").copied(),
        shard: matches.get_one("shard").copied(),
        kinds: matches.get_many("kind").into_iter().flatten().copied().collect(),
        producer: matches.get_one("producer").copied(),
        users: patterns(matches, "user"),
        names: patterns(matches, "name"),
        services: patterns(matches, "service"),
    };
    if matches.try_get_one::<AdminAddress>("admin").is_ok_and(|admin| admin.is_some()) {
        return Ok(EventsArgs::Tap(TapArgs {
            admin: admin_client(matches)?,
            lines: required::<u32>(matches, "lines") as usize,
            follow: !matches.get_flag("no-follow"),
            filter: filter(),
            view: view(matches, false),
        }));
    }
    let action = match action {
        "export" => EventsAction::Export {
            filter: filter(),
            view: view(matches, matches.get_flag("bare")),
            output: matches.get_one("output").cloned(),
        },
        "tail" => EventsAction::Tail {
            count: required::<u32>(matches, "lines") as usize,
            follow: matches.get_flag("follow"),
            filter: filter(),
            view: view(matches, false),
        },
        "stats" => EventsAction::Stats { filter: filter(), json: is_json(matches) },
        "verify" => EventsAction::Verify,
        "dead-letters" => {
            EventsAction::DeadLetters { filter: filter(), view: view(matches, matches.get_flag("replay")) }
        }
        other => unreachable!("clap requires a known subcommand: {other:?}"),
    };
    Ok(EventsArgs::Files { directory: required(matches, "directory"), action })
}

fn patterns(matches: &ArgMatches, id: &str) -> Vec<Pattern> {
    matches.get_many(id).into_iter().flatten().cloned().map(Pattern).collect()
}

fn view(matches: &ArgMatches, bare: bool) -> View {
    // A file gets no colours.
    let is_file = matches.try_get_one::<PathBuf>("output").is_ok_and(|output| output.is_some());
    let is_otlp = matches.try_get_one::<bool>("otlp").is_ok_and(|otlp| otlp == Some(&true));
    match is_json(matches) {
        _ if is_otlp => View::Otlp,
        true => View::Json { bare },
        false => View::Text { colours: !is_file && text::has_colours(&io::stdout()) },
    }
}

fn is_json(matches: &ArgMatches) -> bool {
    matches.get_one::<String>("format").is_some_and(|format| format == "json")
}

fn top_from(matches: &ArgMatches) -> TopArgs {
    TopArgs {
        admin: AdminClient { address: required(matches, "admin"), token: None },
        interval: required(matches, "interval"),
        once: matches.get_flag("once"),
    }
}

fn demo_from(matches: &ArgMatches) -> DemoArgs {
    DemoArgs {
        listen: required(matches, "listen"),
        mode: required(matches, "mode"),
        ticks_per_second: required(matches, "ticks-per-second"),
        clients: matches.get_one("clients").copied(),
        count: matches.get_one("count").copied(),
        json: matches.get_flag("json"),
    }
}

fn doctor_from(matches: &ArgMatches, env: Environment<'_>) -> Result<Command, CliError> {
    let (pid, root) = (matches.get_one("pid").copied(), matches.get_one::<PathBuf>("root").cloned());
    let values = server_source(matches, env).read(env)?;
    let files = Host::at(root.clone().unwrap_or_else(|| PathBuf::from("/")), pid);
    let machine = Machine::read(&files.process(), &files.path("sys/devices/system/node"));
    let config = Config::for_checks(&values, &machine.map_err(ConfigError::program)?)?;
    Ok(Command::Doctor(Box::new(DoctorArgs {
        config,
        connections: matches.get_one("connections").copied(),
        pid,
        root,
        json: matches.get_flag("json"),
    })))
}

/// An argument that is required or has a default.
fn required<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, id: &str) -> T {
    matches.get_one::<T>(id).cloned().unwrap_or_else(|| unreachable!("{id} has a default or is required"))
}
