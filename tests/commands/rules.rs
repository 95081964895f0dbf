//! Rules that hold for every command: its output is written or that is an error, signals end it in good order, text from
//! elsewhere steers no terminal, refusals have exit codes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tickstream_wire::messages::{Ack, DataBatch, ErrorMsg, GoAway, Mode, MsgType, SCHEMA_VERSION, Tick};
use tickstream_wire::{Decoder, FrameType, frame};

use crate::check;
use crate::process::{Process, signal, tickstream};

/// Text that clears a screen, forges lines, and reorders what follows.
const HOSTILE: &str = "a\x1b[2J\x1b]0;b\x07\r\nerror: forged\u{9b}31m\u{202e}c\u{2066}d\u{85}\u{2028}e";

/// The binary without an input, and with pipes for its outputs.
fn piped(args: &[&str]) -> Command {
    let mut command = tickstream(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Checks that text has nothing in it that a terminal acts on, but ends of lines.
fn check_harmless(text: &[u8]) {
    let text = String::from_utf8(text.to_vec()).expect("UTF-8");
    assert!(!text.lines().any(|line| line.chars().any(tickstream_service::text::steers)), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("error: forged")), "{text:?}");
}

fn ends_within(mut child: Child, seconds: u64) -> Output {
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if since.elapsed() > Duration::from_secs(seconds) {
            let _ = child.kill();
            panic!("it goes on: {:?}", child.wait_with_output());
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

/// A server with a journal and an admin endpoint.
struct Server {
    address: String,
    directory: tempfile::TempDir,
    _process: Process,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command =
            tickstream(&["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--drain-seconds", "1"]);
        command.args(["--ticks-per-second", "50", "--journal-segment-mib", "4", "--journal"]);
        command.arg(directory.path().join("events"));
        command.arg("--admin").arg(format!("unix:{}", directory.path().join("admin.sock").display()));
        let process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()));
        Self { address: process.started("address").to_owned(), directory, _process: process }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

/// A server that the test plays by hand: it answers a login by `login`, and a subscription by `subscribed`.
fn played(
    login: impl Fn() -> Vec<u8> + Send + 'static,
    subscribed: impl Fn() -> Vec<Vec<u8>> + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // It ends with the process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            play(stream.unwrap(), &login, &subscribed);
        }
    });
    address
}

fn play(mut stream: TcpStream, login: &impl Fn() -> Vec<u8>, subscribed: &impl Fn() -> Vec<Vec<u8>>) {
    let mut decoder = Decoder::new();
    let mut buffer = [0; 4_096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let mut input = &buffer[..length];
        while let Some(received) = decoder.next(&mut input, 1 << 16).unwrap() {
            let answers = match FrameType::from_byte(received.kind).unwrap() {
                FrameType::Auth => vec![login()],
                FrameType::Subscribe => subscribed(),
                _ => vec![frame::heartbeat()],
            };
            for answer in answers {
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        }
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn accepted(acked: MsgType, next_sequence: u64, server_time_ms: u64) -> Vec<u8> {
    let (heartbeat_interval_ms, heartbeat_timeout_ms) = (15_000, 45_000);
    frame::seal(&Ack {
        acked_type: acked.into(),
        heartbeat_interval_ms,
        heartbeat_timeout_ms,
        next_sequence,
        server_time_ms,
        ..Ack::default()
    })
}

fn refused(code: &str, retry_after_ms: u32) -> Vec<u8> {
    frame::seal(&ErrorMsg { code: code.into(), message: HOSTILE.into(), retry_after_ms })
}

/// Every command below `path` that has none below itself: `["events", "stats"]`.
fn commands(path: &[String]) -> Vec<Vec<String>> {
    let args: Vec<_> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let help = check(&piped(&args).output().unwrap(), 0, &[]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed
        .take_while(|line| line.is_empty() || line.starts_with(' '))
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split(' ').next())
        .filter(|name| *name != "help");
    let below: Vec<_> = names.flat_map(|name| commands(&[path, &[name.to_owned()]].concat())).collect();
    if below.is_empty() { vec![path.to_vec()] } else { below }
}

/// Runs a command with a full disk as its output: it fails, and says why.
fn check_unwritten(args: &[&str]) {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let child = piped(args).stdout(full).spawn().unwrap();
    let output = ends_within(child, 30);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code != 0), "{args:?} exits with 0: {said}");
    assert!(said.contains("No space left on device"), "{args:?} doesn't say why: {said}");
    assert!(!said.contains("panicked"), "{args:?}: {said}");
}

#[test]
fn output_that_cannot_be_written_is_an_error_in_every_command() {
    let server = Server::start();
    let (events, admin) = (server.path("events"), format!("unix:{}", server.path("admin.sock")));
    let one = server.path("one.jsonl");
    std::fs::write(&one, "{\"platform\":\"web\",\"event_type\":\"custom\",\"event_name\":\"a\",\"custom\":{\"schema\":\"x\"}}\n{}\n")
        .unwrap();
    let stored = piped(&["publish", "--addr", &server.address, &one]).output().unwrap();
    check(&stored, 1, &["line 2: "]);
    let address = &server.address[..];
    let mut watching = piped(&["watch", "--addr", address]).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    thread::spawn(move || lines.for_each(drop));
    let listed = piped(&["connections", "--admin", &admin, "--json"]).output().unwrap();
    let connection: serde_json::Value = serde_json::from_str(&check(&listed, 0, &[])).unwrap();
    let id = connection["id"].as_str().unwrap();
    let tried = [
        &["--help"][..],
        &["--version"],
        &["help", "watch"],
        &["serve", "--help"],
        &["events", "export", "--help"],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["serve", "--print-config"],
        &["doctor", "--connections", "10"],
        &["doctor", "--connections", "10", "--json"],
        &["watch", "--addr", address, "--count", "3"],
        &["watch", "--addr", address, "--count", "3", "--json"],
        &["publish", "--addr", address, &one],
        &["publish", "--addr", address, "--json", &one],
        &["events", "export", &events],
        &["events", "export", &events, "--bare"],
        &["events", "tail", &events],
        &["events", "verify", &events],
        &["events", "dead-letters", &events],
        &["top", "--once", "--interval", "100ms", "--admin", &admin],
        &["demo", "--count", "1"],
        &["demo", "--count", "1", "--json"],
        &["collect", "--to", "127.0.0.1:7400", "--http", "127.0.0.1:0", "--print-config"],
        &["check-config", "--listen", "127.0.0.1:0"],
        &["user-secret", "bob"],
        &["events", "stats", &events],
        &["status", "--admin", &admin],
        &["connections", "--admin", &admin],
        &["connections", "--admin", &admin, "--json"],
        &["connection", id, "--admin", &admin],
        &["log-level", "--admin", &admin],
        &["reload", "--admin", &admin],
        &["kick", id, "--yes", "--admin", &admin],
        // The server ends.
        &["drain", "--admin", &admin],
    ];
    for args in tried {
        check_unwritten(args);
    }
    let _ = watching.kill();
    let _ = watching.wait();
    let is_tried =
        |command: &Vec<String>| tried.iter().any(|args| args.iter().zip(command).all(|(a, b)| a == b));
    // Files are all that manual writes; a new process of the server's would outlive the test.
    let left_out = |command: &Vec<String>| ["manual", "upgrade"].contains(&&*command[0]);
    let untried: Vec<_> =
        commands(&[]).into_iter().filter(|command| !is_tried(command) && !left_out(command)).collect();
    assert!(untried.is_empty(), "{untried:?}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let server = Server::start();
    for args in [
        &["--help"][..],
        &["--version"],
        &["completions", "bash"],
        &["serve", "--print-config"],
        &["watch", "--addr", &server.address],
        &["watch", "--addr", &server.address, "--json"],
        &["demo", "--ticks-per-second", "50"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = ends_within(piped(args).stdout(writer).spawn().unwrap(), 20);
        check(&output, 0, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("error"), "{args:?}: {said}");
    }
}

#[test]
fn a_termination_is_an_interrupt() {
    let server = Server::start();
    for name in ["INT", "TERM", "HUP"] {
        let admin = format!("unix:{}", server.path("admin.sock"));
        let watching = ["connections", "--admin", &admin, "--watch"];
        let mut child = piped(&watching).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        signal(child.id(), name);
        check(&ends_within(child, 10), 0, &[]);
        for args in [
            &["watch", "--addr", &server.address, "--json"][..],
            &["demo", "--ticks-per-second", "50", "--json"],
        ] {
            let mut child = piped(args).spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let tick = lines.by_ref().map(Result::unwrap).find(|line| line.contains("\"tick\""));
            assert!(tick.is_some());
            signal(child.id(), name);
            let last = lines.map(Result::unwrap).last().unwrap();
            check(&ends_within(child, 10), 0, &[]);
            assert!(last.contains("\"summary\""), "{name} {args:?}: {last}");
        }
    }
}

#[test]
fn the_server_s_words_steer_no_terminal() {
    let refusing = played(|| refused("AUTH_FAILED", 0), Vec::new);
    for args in [&["watch", "--addr", &refusing][..], &["publish", "--addr", &refusing]] {
        let output = piped(args).output().unwrap();
        check(&output, 3, &["AUTH_FAILED: a\\u{1b}[2J", "\\r\\nerror: forged\\u{9b}31m\\u{202e}c"]);
        check_harmless(&output.stderr);
        assert_eq!(output.stderr.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
    // A code that this version doesn't know is shown as well.
    let unknown = played(|| refused("A\x1b[2J\nerror: forged", 0), Vec::new);
    let output = piped(&["watch", "--addr", &unknown]).output().unwrap();
    check_harmless(&output.stderr);

    let farewell = || {
        let now = unix_ms();
        let goodbye = frame::seal(&GoAway { reason: HOSTILE.into(), retry_after_ms: 60_000 });
        let tick = Tick { mode: Mode::Second.into(), epoch_ms: now };
        let batch = DataBatch { schema_version: SCHEMA_VERSION, ticks: vec![tick], first_sequence: 7 };
        vec![accepted(MsgType::Subscribe, 7, now), goodbye, frame::seal(&batch)]
    };
    let leaving = played(|| accepted(MsgType::Auth, 0, unix_ms()), farewell);
    for form in [&["--count", "1"][..], &["--count", "1", "--json"]] {
        let args = [&["watch", "--addr", &leaving], form].concat();
        let output = ends_within(piped(&args).spawn().unwrap(), 20);
        let stdout = check(&output, 0, &[]);
        check_harmless(&output.stdout);
        assert!(stdout.contains("error: forged"), "{stdout}");
    }
}

#[test]
fn the_admin_endpoint_s_words_steer_no_terminal() {
    for head in ["HTTP/1.1 500 Internal Server Error", "HTTP/1.1 200 OK"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4_096]);
                let _ = write!(stream, "{head}\r\n\r\n{HOSTILE}");
            }
        });
        for args in [&["upgrade", "--admin", &address][..], &["top", "--once", "--admin", &address]] {
            let output = ends_within(piped(args).spawn().unwrap(), 20);
            check_harmless(&output.stdout.iter().chain(&output.stderr).copied().collect::<Vec<_>>());
        }
    }
}

#[test]
fn refusals_say_when_to_try_again() {
    for (code, retry_after_ms, exit, advice) in [
        ("RATE_LIMITED", 4_100, 5, "; try again in 5 s"),
        ("SERVER_BUSY", 250, 5, "; try again in 250 ms"),
        ("SHUTTING_DOWN", 0, 5, "; try again later"),
        ("AUTH_FAILED", 1_000, 3, "AUTH_FAILED"),
        ("UNSUPPORTED_VERSION", 0, 3, "UNSUPPORTED_VERSION"),
        ("INTERNAL", 0, 1, "INTERNAL"),
    ] {
        let address = played(move || refused(code, retry_after_ms), Vec::new);
        for command in ["watch", "publish"] {
            check(&piped(&[command, "--addr", &address]).output().unwrap(), exit, &[code, advice]);
        }
    }
    let help = check(&piped(&["--help"]).output().unwrap(), 0, &[]);
    for part in ["  3  refused by the server for good", "  5  refused by the server for the moment"] {
        assert!(help.contains(part), "{help}");
    }
}

#[test]
fn live_ticks_are_live_whatever_this_machine_s_clock_says() {
    for ahead_ms in [-3_600_000_i64, -20_000, 20_000, 3_600_000] {
        let server_ms = move || unix_ms().wrapping_add_signed(ahead_ms);
        let ticks = move || {
            let now = server_ms();
            // Two that are replayed, and one that is due now.
            let tick = |epoch_ms| Tick { mode: Mode::Second.into(), epoch_ms };
            let ticks = vec![tick(now - 2_000), tick(now - 1_000), tick(now)];
            let batch = DataBatch { schema_version: SCHEMA_VERSION, ticks, first_sequence: 7 };
            vec![accepted(MsgType::Subscribe, 7, now), frame::seal(&batch)]
        };
        let address = played(move || accepted(MsgType::Auth, 0, server_ms()), ticks);
        let args = ["watch", "--addr", &address, "--resume-after", "6", "--count", "3", "--json"];
        let stdout = check(&ends_within(piped(&args).spawn().unwrap(), 20), 0, &[]);
        let lines: Vec<serde_json::Value> =
            stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let latencies: Vec<_> = lines
            .iter()
            .filter(|line| line["event"] == "tick")
            .map(|line| line["latency_ms"].as_f64())
            .collect();
        assert!(latencies[..2] == [None, None], "{ahead_ms}: {stdout}");
        assert!(latencies[2].is_some_and(|latency| latency < 5_000.0), "{ahead_ms}: {stdout}");
    }
}

#[test]
fn one_tick_is_one_tick() {
    let server = Server::start();
    let output = piped(&["watch", "--addr", &server.address, "--count", "1"]).output().unwrap();
    let stdout = check(&output, 0, &[]);
    assert!(stdout.contains("\n1 tick, 0 missed"), "{stdout}");
}

/// The output of a command on a terminal, with this environment.
fn on_a_terminal(command: &str, environment: &[(&str, &str)]) -> String {
    let mut script = Command::new("script");
    script
        .args(["-qefc", &format!("{} {command}", env!("CARGO_BIN_EXE_tickstream")), "/dev/null"])
        .env_clear();
    script.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("SHELL", "/bin/sh");
    script.env("STREAM_USER", "ada").env("STREAM_PASS", "s3cret").envs(environment.iter().copied());
    let output = script.stdin(Stdio::null()).output().expect("script runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    if Command::new("script").arg("--version").output().is_err() {
        return;
    }
    let server = Server::start();
    // A gap is shown in colour.
    let gap = || {
        let now = unix_ms();
        let batch = |sequence| DataBatch {
            schema_version: SCHEMA_VERSION,
            ticks: vec![Tick { mode: Mode::Second.into(), epoch_ms: now }],
            first_sequence: sequence,
        };
        vec![accepted(MsgType::Subscribe, 7, now), frame::seal(&batch(7)), frame::seal(&batch(9))]
    };
    let address = played(|| accepted(MsgType::Auth, 0, unix_ms()), gap);
    let (admin, events) = (format!("unix:{}", server.path("admin.sock")), server.path("events"));
    let commands = [
        format!("watch --addr {address} --count 2"),
        "doctor --connections 10".to_owned(),
        "--help".to_owned(),
        "serve --no-such-flag".to_owned(),
        format!("publish --addr {} /dev/null", server.address),
        format!("top --once --interval 100ms --admin {admin}"),
        format!("events verify {events}"),
        "serve --listen 203.0.113.1:7400 --shards 1".to_owned(),
    ];
    for command in &commands {
        for environment in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let shown = on_a_terminal(command, &[("TERM", "xterm"), environment]);
            let colours = shown.match_indices("\x1b[").filter(|(at, _)| {
                shown[at + 2..].trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
            });
            assert_eq!(colours.count(), 0, "{environment:?} {command}: {shown:?}");
            assert!(environment.0 == "NO_COLOR" || !shown.contains('\x1b'), "{command}: {shown:?}");
        }
    }
    let shown = on_a_terminal(&commands[0], &[("TERM", "xterm")]);
    assert!(shown.contains("\x1b[33mgap: tick 8 is missing\x1b[0m"), "{shown:?}");
    let dumb = on_a_terminal(&format!("top --admin {admin}"), &[("TERM", "dumb")]);
    assert!(dumb.contains("--once prints plain text") && !dumb.contains('\x1b'), "{dumb:?}");
}

#[test]
fn the_version_has_the_commit() {
    let version = check(&piped(&["--version"]).output().unwrap(), 0, &[]);
    let head = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"]).output();
    // A source package has no repository.
    let Some(head) = head.ok().filter(|head| head.status.success()) else { return };
    let commit = &String::from_utf8_lossy(&head.stdout)[..12];
    assert_eq!(version, format!("tickstream {} ({commit})\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_demo_shows_the_product_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = piped(&["demo", "--clients", "120"]);
    let mut child = command.env("TMPDIR", temporary.path()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut after = |label: &str| {
        let line = lines.by_ref().find(|line| line.starts_with(label)).expect(label);
        line[label.len()..].trim().to_owned()
    };
    let (page, top) = (after("the page"), after("a terminal"));
    let (tail, stats) = (after("events"), after("how many"));
    let address = page.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    assert!(get("/").contains("<html"));
    let since = Instant::now();
    loop {
        let report: serde_json::Value = serde_json::from_str(&get("/snapshot")).unwrap();
        let shard = &report["shards"][0];
        if shard["connections"].as_u64() >= Some(121) && shard["events"]["accepted"].as_u64() >= Some(10) {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{report:#}");
        thread::sleep(Duration::from_millis(100));
    }
    // As they are printed, but for the program's path and what doesn't end.
    for (line, part) in [(top, "Connections"), (tail.replace(" -f", ""), " log "), (stats, "\nby kind\n")] {
        let mut args: Vec<_> = line.split(' ').skip(1).collect();
        if args[0] == "top" {
            args.push("--once");
        }
        let stdout = check(&piped(&args).output().unwrap(), 0, &[]);
        assert!(stdout.contains(part), "{line}: {stdout}");
    }
    signal(child.id(), "INT");
    let output = ends_within(child, 15);
    check(&output, 0, &[]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "an end in good order warns of nothing");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "the journal is removed");
}
