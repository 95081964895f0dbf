//! The binary as its users meet it: exit codes, errors, output.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::process::{Metronome, Process, signal, tickstream};

/// The binary with nothing of ours in its environment.
fn without_credentials(args: &[&str]) -> Command {
    let mut command = tickstream(args);
    command.env_remove("STREAM_USER").env_remove("STREAM_PASS");
    command
}

fn check(mut command: Command, code: i32, stderr_has: &[&str]) -> Output {
    let output = command.output().expect("the binary runs");
    crate::check(&output, code, stderr_has);
    output
}

/// A shell that lowers a limit before it becomes the binary.
fn limited(ulimit: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit {ulimit} && exec \"$0\" serve --listen 127.0.0.1:0 --shards 1")]);
    shell.arg(env!("CARGO_BIN_EXE_tickstream")).env("STREAM_USER", "ada").env("STREAM_PASS", "s3cret");
    shell
}

/// A server on a port of its own.
struct Server {
    address: String,
    _process: Process,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", args)
    }

    fn start_on(address: &str, args: &[&str]) -> Self {
        let own = ["serve", "--listen", address, "--shards", "1", "--drain-seconds", "1"];
        let process = Process::start(tickstream(&own).args(args));
        Self { address: process.started("address").to_owned(), _process: process }
    }

    fn watch(&self, args: &[&str]) -> Command {
        let mut command = tickstream(&["watch", "--addr", &self.address]);
        command.args(args);
        command
    }
}

#[test]
fn it_refuses_to_start_without_credentials() {
    check(without_credentials(&["serve"]), 2, &["STREAM_USER", "STREAM_PASS"]);
    let mut empty = without_credentials(&["serve"]);
    empty.env("STREAM_USER", "ada").env("STREAM_PASS", "");
    check(empty, 2, &["STREAM_PASS"]);
}

#[test]
fn a_bad_setting_is_named_with_its_origin() {
    check(tickstream(&["serve", "--listen", "localhost"]), 2, &["listen", "localhost"]);
    let mut environment = tickstream(&["serve"]);
    environment.env("HEARTBEAT_TIMEOUT", "5s");
    check(environment, 2, &["heartbeat_timeout", "HEARTBEAT_TIMEOUT", "heartbeat_interval"]);
    check(tickstream(&["serve", "--no-such-flag"]), 2, &["--no-such-flag"]);
    check(tickstream(&["serve", "--cpus", "4095"]), 2, &["4095"]);
}

#[test]
fn an_unusable_limit_is_named() {
    check(limited("-n 100"), 1, &["RLIMIT_NOFILE", "100"]);
    check(limited("-l 100"), 1, &["RLIMIT_MEMLOCK"]);
    let many = tickstream(&["serve", "--max-connections", "100000000", "--shards", "1"]);
    check(many, 1, &["max_connections", "RLIMIT_NOFILE"]);
}

#[test]
fn an_address_that_cannot_be_had_is_named() {
    check(tickstream(&["serve", "--listen", "203.0.113.1:7400", "--shards", "1"]), 1, &["203.0.113.1:7400"]);
}

#[test]
fn print_config_masks_the_password() {
    let output = check(tickstream(&["serve", "--print-config", "--batch-window-ms", "7"]), 0, &[]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("batch_window_ms = 7"), "{printed}");
    assert!(
        printed.contains("flag") && printed.contains("STREAM_USER") && !printed.contains("s3cret"),
        "{printed}"
    );
}

#[test]
fn help_version_and_completions_are_there() {
    for (args, expected) in [
        (&["--help"][..], "watch"),
        (&["serve", "--help"], "--numa-node"),
        (&["doctor", "--help"], "--connections"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["completions", "bash"], "complete"),
    ] {
        let output = check(without_credentials(args), 0, &[]);
        assert!(String::from_utf8_lossy(&output.stdout).contains(expected), "{args:?}");
    }
}

#[test]
fn watch_prints_ticks_and_ends_at_the_count() {
    let server = Server::start(&["--ticks-per-second", "50"]);
    let output = check(server.watch(&["--count", "20", "--json"]), 0, &[]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sequences: Vec<_> =
        lines[..20].iter().map(|line| line["sequence"].as_u64().expect("a tick")).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sequences:?}");
    assert_eq!((&lines[20]["event"], &lines[20]["ticks"]), (&"summary".into(), &20.into()));
}

#[test]
fn watch_tells_a_refusal_by_its_exit_code() {
    let server = Server::start(&[]);
    let mut command = server.watch(&[]);
    command.env("STREAM_PASS", "wrong");
    check(command, 3, &["AUTH_FAILED"]);
}

#[test]
fn watch_tells_a_server_that_is_not_there() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    check(tickstream(&["watch", "--addr", &address]), 1, &[&address]);
}

#[test]
fn watch_tells_a_server_without_tls() {
    let server = Server::start(&[]);
    let rcgen::CertifiedKey { cert, .. } = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let mut ca = tempfile::NamedTempFile::new().unwrap();
    ca.write_all(cert.pem().as_bytes()).unwrap();
    let ca = ca.path().to_str().unwrap();
    check(server.watch(&["--tls-ca", ca]), 1, &[&server.address, "check that this port speaks TLS"]);
    check(server.watch(&["--tls-ca", "absent.pem"]), 2, &["--tls-ca", "can't read absent.pem"]);
}

#[test]
fn demo_prints_a_tick_each_second_within_the_first_two() {
    let metronome = Metronome::start();
    let began = Instant::now();
    // It is killed, and can't remove its journal.
    let temporary = tempfile::tempdir().unwrap();
    let mut command = without_credentials(&["demo"]);
    let mut child =
        command.env("TMPDIR", temporary.path()).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let first =
        lines.by_ref().map(Result::unwrap).find(|line| line.contains("tick 17") || line.contains("tick 18"));
    let took = began.elapsed();
    let second = lines.next().expect("another line").unwrap();
    let _ = child.kill();
    let _ = child.wait();
    assert!(first.is_some_and(|line| line.contains("SECOND")));
    assert!(second.contains("tick"), "{second}");
    // Several threads have to get the CPU one after another, as in tests/faults.
    let waited = 3 * metronome.worst();
    assert!(
        took < Duration::from_secs(2) + waited,
        "the first tick took {took:?}, {waited:?} of it for the CPU"
    );
}

#[test]
fn the_next_server_binds_at_once_after_a_kill() {
    let server = Server::start(&["--ticks-per-second", "50"]);
    check(server.watch(&["--count", "5"]), 0, &[]);
    let address = server.address.clone();
    drop(server); // SIGKILL
    let next = Server::start_on(&address, &[]);
    assert_eq!(next.address, address);
    check(next.watch(&["--count", "1"]), 0, &[]);
}

/// The doctor on a machine of files: with this hard limit on descriptors, and little else to read.
fn doctor(descriptors: &str, args: &[&str]) -> (tempfile::TempDir, Command) {
    let root = tempfile::tempdir().unwrap();
    let process = root.path().join("proc/self");
    std::fs::create_dir_all(&process).unwrap();
    std::fs::write(process.join("status"), "Cpus_allowed_list:\t0-3\n").unwrap();
    let limits = format!("Max open files            1024                 {descriptors}              files\n");
    std::fs::write(process.join("limits"), limits).unwrap();
    let mut command = without_credentials(&["doctor", "--root"]);
    command.arg(root.path()).args(args);
    (root, command)
}

#[test]
fn doctor_tells_by_its_exit_code_whether_something_must_be_fixed() {
    let (_root, command) = doctor("524288", &["--connections", "100000"]);
    let text = String::from_utf8(check(command, 0, &[]).stdout).unwrap();
    assert!(text.contains("100,000 connections on 4 shards, CPUs 0-3"), "{text}");
    assert!(text.contains("\n0 must be fixed, 0 advised, 2 ok, "), "{text}");
    assert!(!text.contains('\x1b'), "a pipe gets no colour: {text}");

    let (_root, command) = doctor("20000", &["--connections", "100000", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&check(command, 1, &[]).stdout).unwrap();
    assert_eq!((&report["fit"], &report["must_fix"]), (&false.into(), &1.into()));

    // The same settings as serve's, and the same complaints.
    let (_root, command) = doctor("20000", &["--connections", "100000", "--shards", "6"]);
    check(command, 0, &[]);
    let (_root, command) = doctor("20000", &["--max-connections", "70000"]);
    check(command, 0, &[]);
    let (_root, command) = doctor("20000", &["--cpus", "0,4"]);
    check(command, 2, &["CPU 4", "allowed: 0-3"]);
    let (_root, command) = doctor("20000", &["--connections", "0"]);
    check(command, 2, &["--connections"]);
}

#[test]
fn doctor_reads_this_machine() {
    let output = without_credentials(&["doctor", "--connections", "100", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let check = |name: &str| {
        let checks = report["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).unwrap()["verdict"].clone()
    };
    for name in ["kernel", "io_uring", "descriptors"] {
        assert!(["ok", "advice"].contains(&check(name).as_str().unwrap()), "{name}: {report:#}");
    }
}

#[test]
fn the_service_manager_is_told_of_start_life_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let heard = || {
        let mut buffer = [0; 512];
        let bytes = socket.recv(&mut buffer).expect("a datagram");
        String::from_utf8(buffer[..bytes].to_vec()).unwrap()
    };
    let args = ["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--drain-seconds", "1"];
    let mut command = tickstream(&args);
    let mut child =
        command.env("NOTIFY_SOCKET", &path).stderr(Stdio::null()).spawn().expect("the binary runs");
    let ready = heard();
    assert!(ready.starts_with(&format!("READY=1\nMAINPID={}\nSTATUS=1 shard on", child.id())), "{ready}");
    assert_eq!(heard(), "WATCHDOG=1");
    signal(child.id(), "TERM");
    let last = std::iter::repeat_with(heard).find(|said| said != "WATCHDOG=1").unwrap();
    assert_eq!(last, "STOPPING=1\nEXTEND_TIMEOUT_USEC=11000000");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
