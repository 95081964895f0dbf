//! Commands about a configuration that isn't in use yet, on the command line.

use std::num::NonZeroU32;

use clap::{
    Arg, ArgAction, ArgMatches,
    builder::{PossibleValuesParser, TypedValueParser},
    value_parser,
};
use tickstream_server::config::{Config, users::Role};
use tickstream_service::settings::Environment;

use super::common::{config_arg, examples, server_args};
use super::{CliError, Command, required, server_source};
use crate::user_secret::UserSecretArgs;

/// `check-config`, as clap has it.
pub(super) fn check_config() -> clap::Command {
    clap::Command::new("check-config")
        .about("Check a server's configuration, without starting the server")
        .long_about(
            "Check a server's configuration, without starting the server: every setting, the rules between them, and the \
             files that they name (certificates, keys, users, tokens). It takes the settings of serve, from the same \
             sources. `tickstream doctor` checks whether the machine is fit.",
        )
        .after_help(examples(
            "  STREAM_USER=alice STREAM_PASS=secret tickstream check-config --config config/tickstream.toml
  tickstream check-config --users-file users.toml && tickstream reload",
        ))
        .arg(config_arg())
        .args(server_args())
}

/// `user-secret`, as clap has it.
pub(super) fn user_secret() -> clap::Command {
    let roles = PossibleValuesParser::new(Role::ALL.map(|(name, _)| name)).map(|name| {
        let role = Role::ALL.into_iter().find(|(known, _)| *known == name);
        role.expect("clap takes these alone").1
    });
    let limit = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("N").value_parser(value_parser!(NonZeroU32)).help(help)
    };
    clap::Command::new("user-secret")
        .about("Make a user's secret, and its entry for users_file")
        .long_about(
            "Make a user's secret, and its entry for users_file. The entry goes to standard output; the secret is shown \
             once, on standard error. The file holds its hash alone.",
        )
        .after_help(examples(
            "  tickstream user-secret ada >> users.toml
  tickstream user-secret sensor-7 --role publish --events-per-second-max 100 >> users.toml",
        ))
        .arg(
            Arg::new("name")
                .value_name("NAME")
                .required(true)
                .value_parser(value_parser!(String))
                .help("The user's name"),
        )
        .arg(
            Arg::new("role")
                .long("role")
                .value_name("ROLE")
                .action(ArgAction::Append)
                .value_delimiter(',')
                .value_parser(roles)
                .help("Rights of the user [default: both]"),
        )
        .arg(limit("connections-max", "Connections that it may have on each shard [default: no limit]"))
        .arg(limit(
            "events-per-second-max",
            "Events that all its connections on a shard may publish a second [default: publish_events_per_second_max each]",
        ))
}

pub(super) fn check_from(matches: &ArgMatches, env: Environment<'_>) -> Result<Command, CliError> {
    let source = server_source(matches, env);
    Ok(Command::CheckConfig(Box::new(Config::from_merged(&source.read(env)?)?)))
}

pub(super) fn secret_from(matches: &ArgMatches) -> Command {
    let given: Vec<Role> = matches.get_many("role").into_iter().flatten().copied().collect();
    Command::UserSecret(UserSecretArgs {
        name: required(matches, "name"),
        roles: if given.is_empty() { Role::ALL.map(|(_, role)| role).to_vec() } else { given },
        connections_max: matches.get_one("connections-max").copied(),
        events_per_second_max: matches.get_one("events-per-second-max").copied(),
    })
}
