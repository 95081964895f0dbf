//! The command tree, as clap has it.

use super::common::{addr_arg, admin_arg, admin_token_arg, config_arg, examples, server_args};
use crate::client_tls;
use crate::events::{KINDS, Moment, kind, producer};
use clap::{
    Arg, ArgAction,
    builder::{PossibleValuesParser, TypedValueParser},
    value_parser,
};
use clap_complete::Shell;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;
use tickstream_server::config;
use tickstream_service::settings::{self, DurationRange, ValueError, flags};
use tickstream_wire::messages::Mode;

/// Intervals at which top may ask. The server gathers its figures at most ten times a second.
const TOP_INTERVAL: DurationRange =
    DurationRange::millis(Duration::from_millis(100), Duration::from_secs(3_600));

/// Longest wait of upgrade. By itself the server gives up on a new process after a minute, and says so.
const UPGRADE_TIMEOUT: DurationRange =
    DurationRange::millis(Duration::from_millis(100), Duration::from_secs(3_600));

/// The tree.
pub fn command() -> clap::Command {
    clap::Command::new("tickstream")
        .version(env!("TICKSTREAM_VERSION"))
        .about("Streams ticks to authenticated TCP clients")
        .after_help(examples(
            "  tickstream demo
  STREAM_USER=alice STREAM_PASS=secret tickstream serve
  STREAM_USER=alice STREAM_PASS=secret tickstream watch",
        ))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            serve(),
            super::collect::command(),
            watch(),
            super::publish::command(),
            events(),
            top(),
            upgrade(),
            super::configure::check_config(),
            super::configure::user_secret(),
            demo(),
            doctor(),
            completions_command(),
            manual_command(),
        ])
        .subcommands(super::operator::commands())
}

fn serve() -> clap::Command {
    clap::Command::new("serve")
        .about("Run the server")
        .long_about(
            "Run the server. Every setting is a flag, an environment variable or a key of the TOML file: flags take \
             precedence over the environment, that over the file, that over the default.",
        )
        .after_help(examples(
            "  STREAM_USER=alice TICKSTREAM_STREAM_PASS_FILE=/run/secrets/pass tickstream serve --cpus 0-1
  tickstream serve --config tickstream.toml --print-config",
        ))
        .arg(config_arg())
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print the effective settings with their origins, secrets masked, and exit"),
        )
        .args(server_args())
}

fn watch() -> clap::Command {
    clap::Command::new("watch")
        .about("Subscribe to a server and print its ticks")
        .after_help(examples(
            "  STREAM_USER=alice STREAM_PASS=secret tickstream watch --count 10
  tickstream watch --addr a.example:7400 --addr b.example:7400 --mode minute --json \\
      --stream-user alice --stream-pass-file /run/secrets/pass
  tickstream watch --addr a.example:7443 --tls-ca ca.pem --tls-client-cert alice.pem --tls-client-key alice.key",
        ))
        .arg(addr_arg())
        .arg(mode_arg())
        .arg(
            Arg::new("resume-after")
                .long("resume-after")
                .value_name("SEQUENCE")
                .value_parser(value_parser!(u64))
                .help("Replay the ticks after this sequence first"),
        )
        .args([count_arg(), json_arg()])
        .args(flags::args(&client_tls::TABLE))
        .mut_arg("tls", |tls| tls.num_args(0..=1).require_equals(true).default_missing_value("on"))
}

fn events() -> clap::Command {
    clap::Command::new("events")
        .about("Show the events that a server has collected, from its journals")
        .long_about(
            "Show the events that a server has collected, from the files of its journals, also while it writes them. \
             DIR is what serve --journal was given, or one journal in it, such as DIR/000.",
        )
        .after_help(examples(
            "  tickstream events tail -f /var/lib/tickstream/events
  tickstream events export /var/lib/tickstream/events --since 2h --kind log,video | jq .event_name
  tickstream events dead-letters /var/lib/tickstream/events --replay | tickstream publish
  tickstream events stats /var/lib/tickstream/events --since 1d
  tickstream events verify /var/lib/tickstream/events",
        ))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            events_export(),
            events_tail(),
            events_stats(),
            events_verify(),
            events_dead_letters(),
        ])
}

fn events_export() -> clap::Command {
    clap::Command::new("export")
        .about("Print all events, journal by journal, each as a line")
        .after_help(examples(
            "  tickstream events export /var/lib/tickstream/events --since 2026-01-31 --output january.jsonl
  tickstream events export /var/lib/tickstream/events --bare | tickstream publish --addr other.example:7400",
        ))
        .args([journal_arg()])
        .args(filter_args())
        .arg(format_arg("json"))
        .arg(Arg::new("bare").long("bare").action(ArgAction::SetTrue).help(
            "Print events as they were published, without what the server knows of them: what tickstream publish takes",
        ))
        .arg(Arg::new("otlp").long("otlp").action(ArgAction::SetTrue).conflicts_with_all(["bare", "format"]).help(
            "Print logs, spans and metric series alone, each as a line of OpenTelemetry's OTLP in JSON",
        ))
        .arg(
            Arg::new("output")
                .long("output")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write to a file; one that is there is replaced [default: standard output]"),
        )
}

fn events_tail() -> clap::Command {
    clap::Command::new("tail")
        .about("Print the last events, in the order in which they came, each as a line")
        .long_about(
            "Print the last events, in the order in which they came, each as a line: from the files in DIR, or, with --admin, \
             from a server elsewhere, whose events go on until Ctrl-C. A reader that is too slow is told which it missed.",
        )
        .after_help(examples(
            "  tickstream events tail -n 100 -f --kind log /var/lib/tickstream/events
  tickstream events tail -f --format text --service 'pay*' /var/lib/tickstream/events
  tickstream events tail --admin 10.0.0.7:9090 --admin-token-file token --format text --kind log",
        ))
        .arg(journal_arg().required(false).required_unless_present("admin").conflicts_with("admin"))
        .arg(admin_arg().default_value(None).conflicts_with_all(["since", "until"]))
        .arg(admin_token_arg().requires("admin"))
        .arg(
            Arg::new("no-follow")
                .long("no-follow")
                .action(ArgAction::SetTrue)
                .requires("admin")
                .help("With --admin: end after the last events"),
        )
        .arg(
            Arg::new("lines")
                .short('n')
                .long("lines")
                .value_name("N")
                .value_parser(value_parser!(u32))
                .default_value("10")
                .help("Number of events to print first"),
        )
        .arg(
            Arg::new("follow")
                .short('f')
                .long("follow")
                .action(ArgAction::SetTrue)
                .help("Go on, and print new events as they come"),
        )
        .arg(format_arg("json"))
        .args(filter_args())
}

fn events_stats() -> clap::Command {
    clap::Command::new("stats")
        .about("Count events by kind, name, service and user, and dead letters by code")
        .after_help(examples(
            "  tickstream events stats /var/lib/tickstream/events
  tickstream events stats /var/lib/tickstream/events --since 1d --kind log --format json | jq .services.top",
        ))
        .args([journal_arg()])
        .arg(format_arg("text"))
        .args(filter_args())
}

fn events_verify() -> clap::Command {
    clap::Command::new("verify")
        .about("Check every byte of the journals")
        .long_about(
            "Check every byte of the journals. Damage is told with its file and offset, and what to do about it. The end \
             of a journal that is being written is no damage.",
        )
        .after_help(examples("  tickstream events verify /var/lib/tickstream/events || echo damaged"))
        .args([journal_arg()])
}

fn events_dead_letters() -> clap::Command {
    clap::Command::new("dead-letters")
        .about("Print the events that were rejected for good, each with the reason, as a line of JSON")
        .after_help(examples(
            "  tickstream events dead-letters /var/lib/tickstream/events --since 1h | jq -r .code | sort | uniq -c
  tickstream events dead-letters /var/lib/tickstream/events --replay > mended.jsonl",
        ))
        .args([journal_arg()])
        .args(filter_args())
        .arg(format_arg("json").conflicts_with("replay"))
        .arg(Arg::new("replay").long("replay").action(ArgAction::SetTrue).help(
            "Print the events alone, as tickstream publish takes them; those that can't be read are left out",
        ))
}

fn journal_arg() -> Arg {
    Arg::new("directory")
        .value_name("DIR")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("Directory of the journals, or one journal in it")
}

/// `--format`
fn format_arg(default: &'static str) -> Arg {
    Arg::new("format")
        .long("format")
        .value_name("FORMAT")
        .value_parser(["json", "text"])
        .default_value(default)
        .help("JSON for programs, text for people")
}

fn filter_args() -> [Arg; 8] {
    let pattern = |name: &'static str, value: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .action(ArgAction::Append)
            .value_parser(value_parser!(String))
    };
    let time = |name: &'static str| Arg::new(name).long(name).value_name("TIME").value_parser(Moment::parse);
    [
        time("since")
            .help("Only those received then or later: 2026-01-31T12:00:00Z, 2026-01-31, or how long ago, 2h"),
        time("until").help("Only those received before"),
        Arg::new("shard")
            .long("shard")
            .value_name("N")
            .value_parser(value_parser!(u32))
            .help("Only those that this shard took"),
        Arg::new("kind")
            .long("kind")
            .value_name("KIND")
            .value_delimiter(',')
            .action(ArgAction::Append)
            .value_parser(PossibleValuesParser::new(KINDS).try_map(|name| kind(&name)))
            .help("Only these kinds"),
        Arg::new("producer")
            .long("producer")
            .value_name("HEX")
            .value_parser(producer)
            .help("Only those of the producer with this id"),
        pattern("user", "USER_ID")
            .help("Only those about this user; * stands for any text, several are alternatives"),
        pattern("name", "NAME").help("Only those with this event_name, likewise"),
        pattern("service", "SERVICE").help("Only metrics, spans and logs of this service, likewise"),
    ]
}

fn upgrade() -> clap::Command {
    clap::Command::new("upgrade")
        .about("Have a running server hand over to a new process, without refusing a connection")
        .long_about(
            "Have a running server hand over to a new process, without refusing a connection: it starts its program again, with \
             the same arguments, lets it inherit the listening sockets, and drains once the new process serves. If that \
             fails, it goes on serving. As SIGUSR2, but it waits, and says what came of it.",
        )
        .after_help(examples(
            "  tickstream upgrade --admin unix:/run/tickstream/admin.sock
  tickstream upgrade --admin 127.0.0.1:9090 --admin-token-file token",
        ))
        .args([admin_arg(), admin_token_arg()])
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("DURATION")
                .value_parser(|text: &str| settings::duration(text, UPGRADE_TIMEOUT))
                .default_value("90s")
                .help("Longest time until the new process serves"),
        )
}

fn top() -> clap::Command {
    clap::Command::new("top")
        .about("Show what a server does, on the terminal, until q is pressed")
        .long_about(
            "Show what a server does, on the terminal, until q is pressed: the figures of the live page, from the server's \
             admin endpoint (serve --admin).",
        )
        .after_help(examples(
            "  tickstream top
  tickstream top --admin unix:/run/tickstream/admin.sock --interval 5s
  tickstream top --once | grep Lagging",
        ))
        .arg(admin_arg())
        .arg(
            Arg::new("interval")
                .long("interval")
                .value_name("DURATION")
                .value_parser(|text: &str| settings::duration(text, TOP_INTERVAL))
                .default_value("1s")
                .help("Interval between two requests to the server"),
        )
        .arg(
            Arg::new("once")
                .long("once")
                .action(ArgAction::SetTrue)
                .help("Ask twice, an interval apart, print the figures as plain text, and exit"),
        )
}

fn demo() -> clap::Command {
    clap::Command::new("demo")
        .about("Run a server with clients and events, to see everything at once")
        .long_about(
            "Run a server on this machine with some hundred clients and an agent that publishes events, and print the ticks of \
             one more client. It says where the live page is, and what else to try. Events go into a journal in a temporary \
             directory. Ctrl-C ends everything, and removes the journal.",
        )
        .after_help(examples(
            "  tickstream demo
  tickstream demo --ticks-per-second 1000 --count 5000 --json",
        ))
        .arg(mode_arg())
        .arg(
            Arg::new("ticks-per-second")
                .long("ticks-per-second")
                .value_name("N")
                .value_parser(ticks_per_second)
                .default_value("1")
                .help("Ticks in each second of the stream SECOND"),
        )
        .arg(
            Arg::new("listen")
                .long("listen")
                .value_name("IP:PORT")
                .value_parser(settings::address)
                .default_value("127.0.0.1:0")
                .help("Address of the server; port 0: one that is free"),
        )
        .arg(
            Arg::new("clients")
                .long("clients")
                .value_name("N")
                .value_parser(value_parser!(u32).range(0..=400))
                .help("Clients beside the one that prints [default: 200, fewer at more than 100 ticks a second]"),
        )
        .args([count_arg(), json_arg()])
}

fn doctor() -> clap::Command {
    clap::Command::new("doctor")
        .about("Check this machine for so many connections, and say what to change")
        .long_about(
            "Check this machine for so many connections, and say what to change. It takes the settings of serve, from \
             the same sources, and changes nothing; with --journal it writes a small file there for two seconds at most. \
             Limits are those of the process that runs it, unless --pid names \
             another.",
        )
        .after_help(examples(
            "  tickstream doctor --connections 100000 --config /etc/tickstream/tickstream.toml
  tickstream doctor --pid $(systemctl show --property MainPID --value tickstream)
  tickstream doctor --numa-node 0 --json",
        ))
        .arg(
            Arg::new("connections")
                .long("connections")
                .value_name("N")
                .value_parser(value_parser!(NonZeroU32))
                .help("Connections that this process is to hold at once [default: max_connections, or else 100000]"),
        )
        .arg(
            Arg::new("pid")
                .long("pid")
                .value_name("PID")
                .value_parser(value_parser!(u32).range(1..))
                .help("Process whose limits, CPUs and cgroup count [default: this one]"),
        )
        .arg(
            Arg::new("root")
                .long("root")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("Read proc and sys below this directory, such as a host's mounted into a container; then only \
                       files are looked at"),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print one JSON object"))
        .arg(config_arg())
        .args(server_args())
}

fn completions_command() -> clap::Command {
    clap::Command::new("completions")
        .about("Print a shell's completion script")
        .after_help(examples("  tickstream completions bash > /etc/bash_completion.d/tickstream"))
        .arg(Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell)))
}

/// For packages; not in the help.
fn manual_command() -> clap::Command {
    clap::Command::new("manual")
        .about("Write the manual pages into a directory, a file for each command")
        .hide(true)
        .arg(Arg::new("directory").value_name("DIR").required(true).value_parser(value_parser!(PathBuf)))
}

fn mode_arg() -> Arg {
    let parser = PossibleValuesParser::new(["second", "minute"]).map(|mode| match mode.as_str() {
        "minute" => Mode::Minute,
        _ => Mode::Second,
    });
    Arg::new("mode")
        .long("mode")
        .value_name("MODE")
        .value_parser(parser)
        .default_value("second")
        .help("Stream to watch")
}

fn count_arg() -> Arg {
    Arg::new("count")
        .long("count")
        .value_name("N")
        .value_parser(value_parser!(NonZeroU64))
        .help("Stop after N ticks")
}

fn json_arg() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON lines")
}

fn ticks_per_second(text: &str) -> Result<NonZeroU32, ValueError> {
    config::setting::ticks_per_second.read(text)
}
