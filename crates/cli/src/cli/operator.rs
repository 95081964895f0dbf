//! Operator's commands on the command line.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, builder::PossibleValuesParser, value_parser};
use tickstream_server::config::Network;
use tickstream_server::shard::SortKey;
use tickstream_service::settings::{self, DurationRange};
use tickstream_service::standard;

use super::common::{admin_arg, admin_token_arg, examples};
use super::{CliError, Command, admin_client, required};
use crate::operator::{ConnectionsArgs, KickArgs, OperatorAction, OperatorArgs, Which};

/// Intervals of `connections --watch`. The server lists connections at most ten times a second.
const WATCH_INTERVAL: DurationRange =
    DurationRange::millis(Duration::from_millis(200), Duration::from_secs(3_600));
const LAG: DurationRange = DurationRange::millis(Duration::ZERO, Duration::from_secs(3_600));

/// The subcommands, as clap has them.
pub(super) fn commands() -> [clap::Command; 7] {
    [status(), connections(), connection(), kick(), drain(), reload(), log_level()]
        .map(|command| command.arg(admin_arg()).arg(admin_token_arg()))
}

fn status() -> clap::Command {
    clap::Command::new("status")
        .about("Say how a running server is")
        .after_help(examples(
            "  tickstream status
  tickstream status --admin unix:/run/tickstream/admin.sock --json | jq .state",
        ))
        .arg(json_arg("Print the server's whole answer, one JSON object"))
}

fn connections() -> clap::Command {
    let keys = SortKey::ALL.map(|(name, _)| name);
    clap::Command::new("connections")
        .about("List the connections of a running server")
        .long_about(
            "List the connections of a running server, the slowest first. Conditions narrow the list down; each that is \
             given must hold.",
        )
        .after_help(examples(
            "  tickstream connections --user 'probe-*' --sort age
  tickstream connections --peer 10.0.0.0/8 --lag 500ms --watch
  tickstream connections --all --sort id --json > connections.jsonl",
        ))
        .args(which_args())
        .arg(
            Arg::new("sort")
                .long("sort")
                .value_name("KEY")
                .value_parser(PossibleValuesParser::new(keys))
                .default_value("lag")
                .help("Order: lag, age, sent, received and events have the largest first"),
        )
        .arg(Arg::new("reverse").long("reverse").action(ArgAction::SetTrue).help("Reverse the order"))
        .arg(
            Arg::new("limit")
                .short('n')
                .long("limit")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .default_value("100")
                .help("Most connections to list"),
        )
        .arg(Arg::new("all").long("all").action(ArgAction::SetTrue).conflicts_with("limit").help("List all connections"))
        .arg(
            Arg::new("after")
                .long("after")
                .value_name("CURSOR")
                .value_parser(value_parser!(String))
                .help("Go on behind a list, whose last line names the cursor"),
        )
        .arg(
            Arg::new("watch")
                .long("watch")
                .value_name("DURATION")
                .value_parser(|text: &str| settings::duration(text, WATCH_INTERVAL))
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("2s")
                .conflicts_with_all(["json", "after"])
                .help("List them again and again, so often [default with --watch: 2s]"),
        )
        .arg(json_arg("Print one JSON object a line"))
}

fn connection() -> clap::Command {
    clap::Command::new("connection")
        .about("Show one connection of a running server")
        .after_help(examples("  tickstream connection 0-17\n  tickstream connection 0-17 --json"))
        .arg(
            Arg::new("id")
                .value_name("ID")
                .required(true)
                .value_parser(value_parser!(String))
                .help("Shard and number, as the log and `tickstream connections` have it"),
        )
        .arg(json_arg("Print one JSON object"))
}

fn kick() -> clap::Command {
    clap::Command::new("kick")
        .about("Close connections of a running server")
        .long_about(
            "Close connections of a running server. Clients are told to come back later, and do; to keep one out, take \
             its user out of users_file. It says how many they are, and asks first.",
        )
        .after_help(examples(
            "  tickstream kick 0-17
  tickstream kick --user mallory --yes
  tickstream kick --peer 203.0.113.0/24 --admin unix:/run/tickstream/admin.sock",
        ))
        .arg(
            Arg::new("ids")
                .value_name("ID")
                .num_args(1..)
                .value_parser(value_parser!(String))
                .conflicts_with("which")
                .help("Connections, each by shard and number"),
        )
        .args(which_args())
        .group(ArgGroup::new("which").args(WHICH).multiple(true))
        .group(ArgGroup::new("what").args(["ids"]).args(WHICH).multiple(true).required(true))
        .arg(Arg::new("yes").short('y').long("yes").action(ArgAction::SetTrue).help("Don't ask"))
}

fn drain() -> clap::Command {
    clap::Command::new("drain")
        .about("Have a running server close every connection in good order, and end")
        .long_about(
            "Have a running server close every connection in good order, and end. As SIGTERM: clients are told to come \
             back, and have drain_seconds to leave.",
        )
        .after_help(examples("  tickstream drain --admin unix:/run/tickstream/admin.sock"))
}

fn reload() -> clap::Command {
    clap::Command::new("reload")
        .about("Have a running server read its settings again")
        .long_about(
            "Have a running server read its settings again, with the files that they name. As SIGHUP, but it says which \
             settings have another value now, which need a restart, and which users came and went. If anything can't be \
             used, all stays as it was.",
        )
        .after_help(examples("  tickstream reload --admin unix:/run/tickstream/admin.sock"))
}

fn log_level() -> clap::Command {
    clap::Command::new("log-level")
        .about("Show or set the level of a running server's log")
        .long_about(
            "Show the level of a running server's log, or set it until the server starts again or a reload brings another \
             log_level.",
        )
        .after_help(examples(
            "  tickstream log-level
  tickstream log-level debug --admin unix:/run/tickstream/admin.sock
  tickstream log-level info,tickstream_server=trace --admin-token-file token",
        ))
        .arg(
            Arg::new("level")
                .value_name("LEVEL")
                .value_parser(|text: &str| standard::setting::log_level.read(text))
                .help("error, warn, info, debug, trace or off, also for parts: info,tickstream_server=debug"),
        )
}

/// The conditions on connections.
const WHICH: [&str; 8] = ["user", "peer", "client", "subject", "mode", "state", "lag", "shard"];

fn which_args() -> [Arg; 8] {
    let pattern = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).value_parser(value_parser!(String)).help(help)
    };
    let network = |text: &str| text.parse::<Network>().map(|network| network.to_string());
    [
        pattern("user", "NAME", "Only those of this user; * stands for any text"),
        Arg::new("peer")
            .long("peer")
            .visible_alias("cidr")
            .value_name("NETWORK")
            .value_parser(network)
            .help("Only those from this address or network, such as 10.0.0.0/8"),
        pattern("client", "LIBRARY", "Only those of this client library, likewise: 'tickstream-rust/*'"),
        pattern(
            "subject",
            "SUBJECT",
            "Only those whose certificate has this subject, likewise: 'CN=probe-*'",
        ),
        Arg::new("mode")
            .long("mode")
            .value_name("MODE")
            .value_parser(PossibleValuesParser::new(["second", "minute"]))
            .help("Only subscribers of this stream"),
        Arg::new("state")
            .long("state")
            .value_name("STATE")
            .value_parser(PossibleValuesParser::new(["unauthenticated", "authenticated", "closing"]))
            .help("Only those that are so far"),
        Arg::new("lag")
            .long("lag")
            .value_name("DURATION")
            .value_parser(|text: &str| settings::duration(text, LAG))
            .help("Only those that lag, with bytes that wait for at least so long"),
        Arg::new("shard")
            .long("shard")
            .value_name("N")
            .value_parser(value_parser!(u32))
            .help("Only those of this shard"),
    ]
}

fn json_arg(help: &'static str) -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help(help)
}

/// The command of one of [`commands`]; `None` for any other.
pub(super) fn from_matches(name: &str, matches: &ArgMatches) -> Option<Result<Command, CliError>> {
    let json = || matches.get_flag("json");
    let action = match name {
        "status" => OperatorAction::Status { json: json() },
        "connections" => OperatorAction::Connections(ConnectionsArgs {
            which: which(matches),
            sort: required(matches, "sort"),
            reverse: matches.get_flag("reverse"),
            limit: if matches.get_flag("all") { u64::MAX } else { required(matches, "limit") },
            after: matches.get_one("after").cloned(),
            watch: matches.get_one("watch").copied(),
            json: json(),
        }),
        "connection" => OperatorAction::Connection { id: required(matches, "id"), json: json() },
        "kick" => OperatorAction::Kick(KickArgs {
            ids: matches.get_many("ids").into_iter().flatten().cloned().collect(),
            which: which(matches),
            yes: matches.get_flag("yes"),
        }),
        "drain" => OperatorAction::Drain,
        "reload" => OperatorAction::Reload,
        "log-level" => OperatorAction::LogLevel(matches.get_one("level").cloned()),
        _ => return None,
    };
    Some(admin_client(matches).map(|admin| Command::Operator(OperatorArgs { admin, action })))
}

fn which(matches: &ArgMatches) -> Which {
    let mut pairs: Vec<(&'static str, String)> = Vec::new();
    for key in ["user", "peer", "client", "subject", "mode", "state"] {
        pairs.extend(matches.get_one::<String>(key).map(|value| (key, value.clone())));
    }
    let lag = matches.get_one::<Duration>("lag");
    pairs.extend(lag.map(|lag| ("lag_ms", lag.as_millis().to_string())));
    pairs.extend(matches.get_one::<u32>("shard").map(|shard| ("shard", shard.to_string())));
    Which(pairs)
}

/// The file of `--admin-token-file`, read.
pub(super) fn token(matches: &ArgMatches) -> Result<Option<String>, CliError> {
    let file: Option<&PathBuf> = matches.get_one("admin-token-file");
    let token = file.map(|path| {
        let unreadable = |reason| CliError::Token { path: path.clone(), reason };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let token = text.trim_end();
        // It stands in a header as it is: what isn't a token would make another request.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = "it must hold one line of printable ASCII characters without spaces";
            return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, problem)));
        }
        Ok(token.to_owned())
    });
    token.transpose()
}
