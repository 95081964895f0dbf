//! `tickstream publish` on the command line.

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{
    Arg, ArgAction, ArgMatches,
    builder::{PossibleValuesParser, TypedValueParser},
    value_parser,
};
use tickstream_client::{Compression, TlsConfig};

use super::{
    CliError, Command,
    common::{addr_arg, examples},
    required,
};
use crate::client_tls::{self, client_tls};
use tickstream_service::credentials::Credentials;
use tickstream_service::settings::{self, DurationRange, Environment, Values, flags};

/// Arguments of `publish`.
#[derive(Clone, Debug)]
pub struct PublishArgs {
    /// File of the lines; `None`: standard input.
    pub file: Option<PathBuf>,
    /// Servers, each a host name or IP address with a port; at least one.
    pub addrs: Vec<String>,
    /// User and password.
    pub credentials: Credentials,
    /// Encryption, if any.
    pub tls: Option<TlsConfig>,
    /// Events in a batch.
    pub batch: usize,
    /// Longest wait of an event until its batch goes anyway.
    pub linger: Duration,
    /// Id of the producer that numbers the batches, and the first number; `None`: a new random id, and 1.
    pub producer: Option<([u8; 16], u64)>,
    /// Compression of batches.
    pub compression: Compression,
    /// File for rejected events and bad lines.
    pub dead_letters: Option<PathBuf>,
    /// Files with secrets and certificates that were read, and must not be written.
    pub settings_files: Vec<PathBuf>,
    /// A line that is no event ends it.
    pub strict: bool,
    /// Events without an id or a time are bad lines, not completed.
    pub complete_only: bool,
    /// The summary as a JSON object.
    pub json: bool,
}

/// Settings of clients that name files.
const SETTINGS_FILES: [&str; 4] = ["stream_pass_file", "tls_ca", "tls_client_cert", "tls_client_key"];

const LINGER: DurationRange = DurationRange::millis(Duration::ZERO, Duration::from_secs(3_600));

/// The subcommand, as clap has it.
pub(super) fn command() -> clap::Command {
    let codecs = PossibleValuesParser::new(["none", "lz4", "zstd"]).map(|codec| match codec.as_str() {
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::None,
    });
    clap::Command::new("publish")
        .about("Publish events from JSON lines, and wait until the server has stored them")
        .long_about(
            "Publish events from JSON lines, and wait until the server has stored them. docs/publishing.md describes the \
             lines. A line that is no event, and an event that the server rejects, are named with the number of the line; \
             the rest goes on. It exits with 0 only if every line is stored. Ctrl-C or SIGTERM stops reading, publishes what \
             was read, and waits up to 10 s for the answers; once more, and it doesn't wait.",
        )
        .after_help(examples(
            "  STREAM_USER=alice STREAM_PASS=secret tickstream publish events.jsonl
  echo '{\"platform\":\"linux\",\"event_type\":\"custom\",\"event_name\":\"hello\",' \\
      '\"custom\":{}}' | STREAM_USER=alice STREAM_PASS=secret tickstream publish
  my-agent | tickstream publish --linger 1s --addr a.example:7400 --stream-user alice --stream-pass-file /run/secrets/pass
  tickstream publish --dead-letters rejected.jsonl --codec zstd --addr a.example:7443 --tls-ca ca.pem events.jsonl",
        ))
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .default_value("-")
                .help("File of JSON lines; -: standard input"),
        )
        .arg(addr_arg())
        .arg(
            Arg::new("batch")
                .long("batch")
                .value_name("EVENTS")
                .value_parser(value_parser!(u64).range(1..=2048))
                .default_value("200")
                .help("Events in a batch; fewer where that is more than the server takes"),
        )
        .arg(
            Arg::new("linger")
                .long("linger")
                .value_name("DURATION")
                .value_parser(|text: &str| settings::duration(text, LINGER))
                .default_value("10s")
                .help("Longest time for which an event waits for others to fill its batch"),
        )
        .arg(
            Arg::new("codec")
                .long("codec")
                .value_name("CODEC")
                .value_parser(codecs)
                .default_value("none")
                .help("Compression of batches"),
        )
        .arg(
            Arg::new("producer-id")
                .long("producer-id")
                .value_name("UUID")
                .value_parser(producer_id)
                .requires("first-sequence")
                .help("Id of the producer that numbers the batches [default: a new random id]"),
        )
        .arg(
            Arg::new("first-sequence")
                .long("first-sequence")
                .value_name("N")
                .value_parser(value_parser!(NonZeroU64))
                .requires("producer-id")
                .help(
                    "The first batch's number. The server drops batches of this producer whose numbers it has seen, so take \
                     one above all that were used, or the old one to send exactly the same batches again",
                ),
        )
        .arg(
            Arg::new("dead-letters")
                .long("dead-letters")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help(
                    "Write rejected events, bad lines and events without an answer to this file, as JSON lines with the reason; \
                     it is made, or replaced, with the first of them",
                ),
        )
        .arg(flag("strict", "Stop at the first line that is no event"))
        .arg(flag(
            "complete-only",
            "Take an event without event_id or timestamp for a bad line, instead of giving it a new id and the present time",
        ))
        .arg(flag("json", "Print the summary as a JSON object"))
        .args(flags::args(&client_tls::TABLE))
        .mut_arg("tls", |tls| tls.num_args(0..=1).require_equals(true).default_missing_value("on"))
}

/// Reads the subcommand's arguments.
pub(super) fn from_matches(matches: &ArgMatches, env: Environment<'_>) -> Result<Command, CliError> {
    let values = Values::merge(&client_tls::TABLE, &flags::given(matches, &client_tls::TABLE), env, None)?;
    let first_sequence = matches.get_one("first-sequence").copied().map(NonZeroU64::get);
    let batch: u64 = required(matches, "batch");
    Ok(Command::Publish(PublishArgs {
        file: matches.get_one("file").cloned().filter(|file: &PathBuf| file.as_os_str() != "-"),
        addrs: matches.get_many("addr").into_iter().flatten().cloned().collect(),
        credentials: Credentials::from_values(&values)?,
        tls: client_tls(&values)?,
        batch: batch as usize,
        linger: required(matches, "linger"),
        producer: matches.get_one("producer-id").copied().zip(first_sequence),
        compression: required(matches, "codec"),
        dead_letters: matches.get_one("dead-letters").cloned(),
        settings_files: SETTINGS_FILES
            .into_iter()
            .filter_map(|key| client_tls::TABLE.find(key))
            .map(|setting| values.get(setting))
            .filter(|value| value.is_set())
            .map(|value| PathBuf::from(value.text))
            .collect(),
        strict: matches.get_flag("strict"),
        complete_only: matches.get_flag("complete-only"),
        json: matches.get_flag("json"),
    }))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn producer_id(text: &str) -> Result<[u8; 16], &'static str> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let is_uuid = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let id = u128::from_str_radix(&digits, 16).ok().filter(|id| is_uuid && *id != 0);
    id.map(u128::to_be_bytes)
        .ok_or("write a UUID: 32 hexadecimal digits, with or without hyphens, not all zeros")
}
