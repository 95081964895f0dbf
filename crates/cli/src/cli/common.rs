//! Parts that several commands have.

use std::path::PathBuf;

use clap::{Arg, ArgAction, builder::OsStringValueParser, value_parser};
use tickstream_server::config;
use tickstream_service::{admin::AdminAddress, settings::flags};

const EXIT_CODES: &str = "\
Exit codes:
  0  ok
  1  failed while running; doctor: something must be fixed; top and operator's
     commands: no answer, or no such connection; publish: not every line is
     stored; events: a journal is damaged, or interrupted
  2  wrong command line or configuration
  3  refused by the server for good: credentials, certificate, role, version, no
     event collection (watch, publish); the admin endpoint's token
  4  the journal of events can't be opened: damaged, locked, or the disk refuses (serve)
  5  refused by the server for the moment: busy, shutting down, or too many attempts;
     the error says when to try again";

/// Columns of the narrowest terminal that examples fit on.
const COLUMNS: usize = 80;
/// Indentation of a continued line.
const CONTINUED: &str = "      ";

/// Examples, and the exit codes. Longer lines than a terminal's are continued: clap would break them where a shell doesn't.
pub(super) fn examples(examples: &str) -> String {
    let lines: Vec<_> = examples.lines().map(continued).collect();
    format!("Examples:\n{}\n\n{EXIT_CODES}", lines.join("\n"))
}

/// A command on as many lines as it takes, joined by backslashes.
fn continued(line: &str) -> String {
    if line.len() < COLUMNS {
        return line.to_owned();
    }
    let fits = line.get(..COLUMNS - 2).unwrap_or_default();
    let before = |word: &&str| fits.rfind(*word).filter(|at| *at > CONTINUED.len());
    let good = [" --", " | ", " > ", " /"].iter().filter_map(before).max();
    match good.or_else(|| before(&" ")) {
        Some(at) => {
            format!("{} \\\n{}", &line[..at], continued(&format!("{CONTINUED}{}", line[at..].trim_start())))
        }
        None => line.to_owned(),
    }
}

/// `--admin-token-file`
pub(super) fn admin_token_arg() -> Arg {
    Arg::new("admin-token-file")
        .long("admin-token-file")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .help("File with the endpoint's token, which changes need on TCP")
}

/// `--admin`
pub(super) fn admin_arg() -> Arg {
    Arg::new("admin")
        .long("admin")
        .value_name("ADDRESS")
        .value_parser(AdminAddress::parse_one)
        .default_value("127.0.0.1:9090")
        .help("The server's admin endpoint: an IP address and a port, or unix: and a path")
}

/// `--config`
pub(super) fn config_arg() -> Arg {
    Arg::new("config")
        .long("config")
        .env("TICKSTREAM_CONFIG")
        .value_name("PATH")
        .value_parser(OsStringValueParser::new())
        .help("TOML file of settings, keyed like the flags with _ for -")
}

/// A flag for each of the server's settings.
pub(super) fn server_args() -> Vec<Arg> {
    let short = |arg: Arg| if arg.get_id() == "users_file" { arg.visible_alias("users") } else { arg };
    flags::args(&config::TABLE).map(short).collect()
}

/// `--addr`
pub(super) fn addr_arg() -> Arg {
    Arg::new("addr")
        .long("addr")
        .value_name("HOST:PORT")
        .action(ArgAction::Append)
        .value_delimiter(',')
        .value_parser(host_and_port)
        .default_value("127.0.0.1:7400")
        .help("Server to connect to; several are tried in turn")
}

fn host_and_port(text: &str) -> Result<String, &'static str> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    let host_has_colon = text.rsplit_once(':').is_some_and(|(host, _)| host.contains(':'));
    match port {
        Some(Ok(1..)) if !host_has_colon || text.starts_with('[') => Ok(text.to_owned()),
        _ => Err("write HOST:PORT with a port from 1 to 65535, an IPv6 address in brackets"),
    }
}
