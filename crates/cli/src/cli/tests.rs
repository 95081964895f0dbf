//! Command lines, and what comes of them.

use super::*;

const CREDENTIALS: [(&str, &str); 2] = [("STREAM_USER", "u"), ("STREAM_PASS", "p")];

fn run(line: &str, env: &[(&str, &str)]) -> Result<Command, CliError> {
    let env = |name: &str| Some(OsString::from(env.iter().find(|(known, _)| *known == name)?.1));
    parse_from(["tickstream"].into_iter().chain(line.split_whitespace()), &env)
}

/// The command as `field` shows it, or the exit code and a part of the message.
fn check(
    line: &str,
    env: &[(&str, &str)],
    field: impl Fn(Command) -> String,
    expected: Result<&str, (u8, &str)>,
) {
    match (run(line, env), expected) {
        (Ok(command), Ok(expected)) => assert_eq!(field(command), expected),
        (Err(error), Err((code, part))) => {
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.exit_code(), code);
        }
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    }
}

fn check_error(line: &str, env: &[(&str, &str)], code: u8, part: &str) {
    check(line, env, |_| String::new(), Err((code, part)));
}

fn serve_config(command: Command) -> Config {
    let Command::Serve(config, _) = command else { panic!("{command:?}") };
    *config
}

#[test]
fn the_command_tree_is_sound() {
    command().debug_assert();
}

#[test]
fn serve_takes_every_setting_as_a_flag() {
    let serve = command().find_subcommand("serve").unwrap().clone();
    for setting in config::TABLE.settings() {
        let about = setting.about();
        let arg = serve.get_arguments().find(|arg| arg.get_long() == Some(&about.flag())).unwrap();
        assert_eq!(arg.get_env(), Some(about.variable().as_ref()));
        assert!(arg.is_hide_env_values_set() == about.secret);
        assert!(arg.get_help_heading().is_some());
    }
}

#[test]
fn serve_merges_its_sources() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.toml");
    std::fs::write(&path, "auth_timeout = \"1s\"\nticks_per_second = 1\nticks_per_minute = 1").unwrap();
    let env = [
        CREDENTIALS[0],
        CREDENTIALS[1],
        ("TICKSTREAM_TICKS_PER_SECOND", "2"),
        ("TICKSTREAM_TICKS_PER_MINUTE", "2"),
    ];
    let field = |command| {
        let config = serve_config(command).settings;
        format!("{:?} {} {}", config.auth_timeout, config.ticks_per_second, config.ticks_per_minute)
    };
    let line = format!("serve --config {} --ticks-per-minute 3", path.display());
    check(&line, &env, field, Ok("1s 2 3"));
    let by_variable = [&env[..], &[("TICKSTREAM_CONFIG", path.to_str().unwrap())]].concat();
    check("serve", &by_variable, field, Ok("1s 2 2"));
    check("serve", &[&env[..], &[("TICKSTREAM_CONFIG", "")]].concat(), field, Ok("5s 2 2"));
}

#[test]
fn wrong_configurations_exit_with_2() {
    check_error("serve", &[], exit::USAGE, "no user name: set the environment variable STREAM_USER");
    check_error("serve", &CREDENTIALS[..1], exit::USAGE, "no password: set");
    check_error(
        "serve --heartbeat-interval 30s",
        &[CREDENTIALS[0], CREDENTIALS[1], ("HEARTBEAT_TIMEOUT", "5s")],
        exit::USAGE,
        "heartbeat_timeout = \"5s\" (from environment HEARTBEAT_TIMEOUT): must be longer than \
         heartbeat_interval (30s)",
    );
    check_error(
        "serve --listen localhost:1",
        &CREDENTIALS,
        exit::USAGE,
        "listen = \"localhost:1\" (from flag --listen): names a host",
    );
    check_error("serve --config absent.toml", &CREDENTIALS, exit::USAGE, "absent.toml");
    check_error("serve --nonsense", &CREDENTIALS, exit::USAGE, "--nonsense");
    check_error("nonsense", &[], exit::USAGE, "nonsense");
    check_error("", &[], exit::USAGE, "Usage: tickstream <COMMAND>");
}

#[test]
fn print_config_shows_also_what_is_wrong() {
    let printed = |line, env: &[_]| match run(line, env).unwrap() {
        Command::PrintConfig { toml, problem } => (toml, problem.map(|problem| problem.to_string())),
        other => panic!("{other:?}"),
    };
    let (toml, problem) = printed("serve --print-config --shards 3", &CREDENTIALS);
    assert!(toml.contains("shards = 3 # flag --shards\n") && problem.is_none(), "{toml} {problem:?}");
    assert!(toml.contains("# stream_pass = \"***\" # environment STREAM_PASS; masked\n"), "{toml}");
    let (toml, problem) = printed("serve --print-config --phase odd", &[]);
    assert!(toml.contains("phase = \"odd\" # flag --phase\n"), "{toml}");
    assert!(problem.unwrap().contains("no user name"));
}

#[test]
fn watch_has_defaults_and_flags() {
    let field = |command| match command {
        Command::Watch(watch) => format!("{watch:?}"),
        other => panic!("{other:?}"),
    };
    let credentials = "credentials: Credentials { user: \"u\", pass: \"***\" }";
    check(
        "watch",
        &CREDENTIALS,
        field,
        Ok(&format!(
            "WatchArgs {{ addrs: [\"127.0.0.1:7400\"], {credentials}, tls: None, mode: Second, resume_after: None, \
             count: None, json: false }}"
        )),
    );
    check(
        "watch --addr a:1,[::1]:2 --addr b:3 --mode minute --resume-after 0 --count 9 --json --stream-user u",
        &[("STREAM_PASS", "p")],
        field,
        Ok(&format!(
            "WatchArgs {{ addrs: [\"a:1\", \"[::1]:2\", \"b:3\"], {credentials}, tls: None, mode: Minute, \
             resume_after: Some(0), count: Some(9), json: true }}"
        )),
    );
}

#[test]
fn a_token_that_cannot_be_read_is_named_as_such() {
    let line = "upgrade --admin-token-file /nowhere/token";
    check_error(line, &[], exit::USAGE, "can't read the token from /nowhere/token: No such file");
    // Lines of a wrong file don't become headers.
    let file = tempfile::NamedTempFile::new().unwrap();
    for text in ["", "one\nX-Header: two\n", "two words", "ümlaut"] {
        std::fs::write(file.path(), text).unwrap();
        let line = format!("reload --admin-token-file {}", file.path().display());
        check_error(&line, &[], exit::USAGE, "it must hold one line of printable ASCII characters");
    }
}

#[test]
fn top_has_defaults_and_flags() {
    let field = |command| match command {
        Command::Top(TopArgs { admin, interval, once }) => {
            format!("{} {interval:?} {once}", admin.address)
        }
        other => panic!("{other:?}"),
    };
    check("top", &[], field, Ok("127.0.0.1:9090 1s false"));
    check(
        "top --admin unix:/run/a.sock --interval 250ms --once",
        &[],
        field,
        Ok("unix:/run/a.sock 250ms true"),
    );
    check_error("top --admin localhost", &[], exit::USAGE, "no address of the admin endpoint");
    check_error("top --interval 1ms", &[], exit::USAGE, "out of range");
    check_error("top --interval 5", &[], exit::USAGE, "needs a unit");
}

#[test]
fn upgrade_has_defaults_and_flags() {
    let field = |command| match command {
        Command::Upgrade(UpgradeArgs { admin: AdminClient { address, token }, timeout }) => {
            format!("{address} {token:?} {timeout:?}")
        }
        other => panic!("{other:?}"),
    };
    check("upgrade", &[], field, Ok("127.0.0.1:9090 None 90s"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    let line = format!(
        "upgrade --admin unix:/run/a.sock --timeout 100ms --admin-token-file {}",
        file.path().display()
    );
    check(&line, &[], field, Ok("unix:/run/a.sock Some(\"s3cret\") 100ms"));
    check_error("upgrade --timeout 99ms", &[], exit::USAGE, "out of range");
    check_error("upgrade --timeout 2h", &[], exit::USAGE, "out of range");
    check_error("upgrade --admin-token-file absent", &[], exit::USAGE, "absent");
}

#[test]
fn events_are_asked_for_by_directory_and_filter() {
    let field = |command| match command {
        Command::Events(events) => format!("{events:?}"),
        other => panic!("{other:?}"),
    };
    let none = "Filter { since: None, until: None, shard: None, kinds: [], producer: None, \
                users: [], names: [], services: [] }";
    let directory = "Files { directory: \"d\", action:";
    check("events verify d", &[], field, Ok(&format!("{directory} Verify }}")));
    check(
        "events tail d",
        &[],
        field,
        Ok(&format!(
            "{directory} Tail {{ count: 10, follow: false, filter: {none}, view: Json {{ bare: false }} }} }}"
        )),
    );
    check(
        "events dead-letters d --replay",
        &[],
        field,
        Ok(&format!("{directory} DeadLetters {{ filter: {none}, view: Json {{ bare: true }} }} }}")),
    );
    check(
        "events export d --bare --output f --since 1970-01-01T00:00:01Z --until 1970-01-02 --shard 3 --kind log,video \
         --producer 00112233445566778899aabbccddeeff --user ada --name a* --name b --service pay",
        &[],
        |command| match command {
            Command::Events(EventsArgs::Files {
                action: EventsAction::Export { filter, view, output },
                ..
            }) => {
                let Filter { since, until, shard, kinds, producer, users, names, services } = filter;
                format!(
                    "{since:?} {until:?} {shard:?} {kinds:?} {:?} {view:?} {output:?} {users:?} {names:?} {services:?}",
                    producer.map(|id| id[15])
                )
            }
            other => panic!("{other:?}"),
        },
        Ok(
            "Some(Moment(1000000000)) Some(Moment(86400000000000)) Some(3) [Log, Video] Some(255) Json { bare: true } Some(\"f\") \
             [Pattern(\"ada\")] [Pattern(\"a*\"), Pattern(\"b\")] [Pattern(\"pay\")]",
        ),
    );
    check_error("events", &[], exit::USAGE, "Usage: tickstream events <COMMAND>");
    check_error("events export", &[], exit::USAGE, "DIR");
    check(
        "events stats d --format json",
        &[],
        field,
        Ok(&format!("{directory} Stats {{ filter: {none}, json: true }} }}")),
    );
    check_error("events dead-letters d --replay --format text", &[], exit::USAGE, "cannot be used with");
    check_error("events export d --since noon", &[], exit::USAGE, "RFC 3339");
    check_error("events export d --kind logs", &[], exit::USAGE, "[possible values: user_interaction, ");
    check_error("events tail d --producer 12", &[], exit::USAGE, "32 hexadecimal digits");
}

#[test]
fn watch_says_what_is_wrong() {
    check_error("watch", &[], exit::USAGE, "no user name");
    for addr in ["a", "a:", ":1", "a:0", "a:65536", "::1:1", "a:b"] {
        check_error(&format!("watch --addr {addr}"), &CREDENTIALS, exit::USAGE, "write HOST:PORT");
    }
    check_error("watch --tls-ca absent.pem", &CREDENTIALS, exit::USAGE, "can't read absent.pem");
    let both = [CREDENTIALS[0], CREDENTIALS[1], ("TICKSTREAM_TLS_CLIENT_CERT", "a.pem")];
    check_error(
        "watch --tls",
        &both,
        exit::USAGE,
        "(from environment TICKSTREAM_TLS_CLIENT_CERT): needs tls_client_key",
    );
    check_error("watch --tls=perhaps", &CREDENTIALS, exit::USAGE, "accepted: on or off");
    check_error("watch --count 0", &CREDENTIALS, exit::USAGE, "--count");
    check_error("watch --mode hour", &CREDENTIALS, exit::USAGE, "[possible values: second, minute]");
}

#[test]
fn publish_has_defaults_and_flags() {
    let field = |command| match command {
        Command::Publish(PublishArgs {
            credentials: _,
            tls: _,
            addrs,
            file,
            batch,
            linger,
            producer,
            ..
        }) => {
            format!("{addrs:?} {file:?} {batch} {linger:?} {producer:?}")
        }
        other => panic!("{other:?}"),
    };
    check("publish", &CREDENTIALS, field, Ok("[\"127.0.0.1:7400\"] None 200 10s None"));
    check("publish -", &CREDENTIALS, field, Ok("[\"127.0.0.1:7400\"] None 200 10s None"));
    check(
        "publish --addr a:1 --batch 7 --linger 250ms events.jsonl --first-sequence 9 \
         --producer-id 00000000-0000-0000-0000-0000000000ff",
        &CREDENTIALS,
        field,
        Ok(
            "[\"a:1\"] Some(\"events.jsonl\") 7 250ms Some(([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255], 9))",
        ),
    );
    let rest = |command| match command {
        Command::Publish(PublishArgs { compression, dead_letters, strict, complete_only, json, .. }) => {
            format!("{compression:?} {dead_letters:?} {strict} {complete_only} {json}")
        }
        other => panic!("{other:?}"),
    };
    check("publish", &CREDENTIALS, rest, Ok("None None false false false"));
    let all = "publish --codec zstd --dead-letters dead --strict --complete-only --json";
    check(all, &CREDENTIALS, rest, Ok("Zstd Some(\"dead\") true true true"));
}

#[test]
fn publish_says_what_is_wrong() {
    check_error("publish", &[], exit::USAGE, "no user name");
    let id = "publish --producer-id 00000000-0000-0000-0000-0000000000ff";
    check_error(id, &CREDENTIALS, exit::USAGE, "--first-sequence");
    check_error("publish --first-sequence 1", &CREDENTIALS, exit::USAGE, "--producer-id");
    for id in ["0", "00000000-0000-0000-0000-000000000000", "+0000000-0000-0000-0000-0000000000ff"] {
        let line = format!("publish --producer-id {id} --first-sequence 1");
        check_error(&line, &CREDENTIALS, exit::USAGE, "write a UUID");
    }
    check_error("publish --batch 0", &CREDENTIALS, exit::USAGE, "--batch");
    check_error("publish --linger 5", &CREDENTIALS, exit::USAGE, "needs a unit");
    check_error("publish --codec gzip", &CREDENTIALS, exit::USAGE, "[possible values: none, lz4, zstd]");
}

#[test]
fn demo_needs_nothing() {
    let field = |command| match command {
        Command::Demo(demo) => format!("{demo:?}"),
        other => panic!("{other:?}"),
    };
    check(
        "demo",
        &[],
        field,
        Ok(
            "DemoArgs { listen: 127.0.0.1:0, mode: Second, ticks_per_second: 1, clients: None, count: None, json: false }",
        ),
    );
    check(
        "demo --mode minute --ticks-per-second 1000 --listen [::1]:7 --clients 3 --count 5 --json",
        &[],
        field,
        Ok(
            "DemoArgs { listen: [::1]:7, mode: Minute, ticks_per_second: 1000, clients: Some(3), count: Some(5), json: true }",
        ),
    );
    check_error("demo --ticks-per-second 0", &[], exit::USAGE, "a whole number from 1 to 10000000");
    check_error("demo --listen 7400", &[], exit::USAGE, "is only a port; write 0.0.0.0:7400");
}

#[test]
fn doctor_takes_the_server_s_settings_and_needs_no_credentials() {
    let field = |command| match command {
        Command::Doctor(doctor) => {
            let DoctorArgs { config, connections, pid, root, json } = *doctor;
            format!("{} {connections:?} {pid:?} {root:?} {json}", config.settings.listen)
        }
        other => panic!("{other:?}"),
    };
    check("doctor", &[], field, Ok("0.0.0.0:7400 None None None false"));
    let own = format!("doctor --connections 7 --pid {} --json --listen [::]:1", std::process::id());
    let expected = format!("[::]:1 Some(7) Some({}) None true", std::process::id());
    check(&own, &[("STREAM_USER", "u")], field, Ok(&expected));
    check_error("doctor --phase odd", &CREDENTIALS, exit::USAGE, "phase = \"odd\" (from flag --phase)");
    check_error("doctor --root absent", &[], exit::USAGE, "absent/proc/self/status");
    check_error("doctor --pid 0", &[], exit::USAGE, "--pid");
}

#[test]
fn help_and_version_exit_with_0() {
    check_error("--help", &[], exit::OK, "3  refused by the server for good: ");
    check_error("--version", &[], exit::OK, env!("CARGO_PKG_VERSION"));
    check_error("--version", &[], exit::OK, env!("TICKSTREAM_VERSION"));
    check_error("serve --help", &[], exit::OK, "[env: HEARTBEAT_TIMEOUT=");
}

#[test]
fn shells_are_completed() {
    check("completions zsh", &[], |command| format!("{command:?}"), Ok("Completions(Zsh)"));
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        assert!(String::from_utf8(completions(shell)).unwrap().contains("print-config"), "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    manual(&directory.path().join("man1")).unwrap();
    for (page, text) in [
        ("tickstream", "SUBCOMMANDS"),
        ("tickstream-serve", "tls\\-cert"),
        ("tickstream-events-tail", "follow"),
    ] {
        let written = std::fs::read_to_string(directory.path().join(format!("man1/{page}.1"))).expect(page);
        let unbroken = "EXAMPLES\n.nf\n  ";
        assert!(
            written.contains(text) && written.contains(unbroken) && !written.contains("EXTRA"),
            "{page}: {written}"
        );
    }
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(manual(&file).unwrap_err().to_string().contains("file: "));
}

/// The lines of the examples of a command and of those below it, continued lines joined.
fn examples(command: &clap::Command, found: &mut Vec<String>) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default().replace("\\\n", "");
    let lines = help.lines().take_while(|line| !line.starts_with("Exit codes")).map(str::trim);
    found.extend(lines.filter(|line| line.contains("tickstream ")).map(str::to_owned));
    command.get_subcommands().for_each(|command| examples(command, found));
}

/// The words that a shell makes of a command's arguments.
fn words(arguments: &str) -> Vec<String> {
    let script = format!("set -- {arguments}; printf '%s\\n' \"$@\"");
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{arguments}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_example_of_the_help_is_a_command_line() {
    let mut found = Vec::new();
    examples(&command(), &mut found);
    assert!(found.len() > 25, "{found:#?}");
    for line in found {
        for part in line.split(" | ").filter(|part| part.contains("tickstream ")) {
            let (_, arguments) = part.split_once("tickstream ").unwrap();
            // What the shell does with the output, and another command's, are no arguments.
            let end = [" > ", " >> ", " || ", " && "].iter().filter_map(|cut| arguments.find(cut)).min();
            let arguments = &arguments[..end.unwrap_or(arguments.len())];
            let arguments = match arguments.split_once("$(") {
                Some((before, rest)) => format!("{before}1{}", rest.split_once(')').unwrap().1),
                None => arguments.to_owned(),
            };
            let words = std::iter::once("tickstream".to_owned()).chain(words(&arguments));
            if let Err(error) = command().try_get_matches_from(words) {
                panic!("{line}: {error}");
            }
        }
    }
}
