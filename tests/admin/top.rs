//! `tickstream top` against a real server: printed, drawn on a terminal, and where nobody answers.

use std::process::{Command, Output};

use tickstream_wire::messages::Mode;

use crate::support::{Client, Server, has_tool};

fn top(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickstream"));
    command.arg("top").args(args).env_clear().output().expect("the binary runs")
}

fn check_fails(args: &[&str], part: &str) {
    let output = top(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    assert!(said.starts_with("error: ") && said.contains(part), "{args:?}: {said}");
    assert_eq!(output.stdout, b"", "{args:?}");
}

#[test]
fn once_it_prints_plain_text_over_tcp_and_unix() {
    let server = Server::start(&["--ticks-per-second", "50", "--shards", "2"]);
    let clients: Vec<_> = (0..5).map(|_| Client::subscribed(&server, Mode::Second, None)).collect();
    server.wait_until(|report| report.shards.iter().map(|shard| shard.subscribed).sum::<u64>() == 5);
    for admin in [server.admin.to_string(), format!("unix:{}", server.socket.display())] {
        let output = top(&["--once", "--admin", &admin]);
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).expect("a line").to_owned();
        assert!(text.starts_with("tickstream ") && line("tickstream").contains("  serving  "), "{text}");
        assert_eq!(line("Connections").split_whitespace().nth(1), Some("5"), "{text}");
        let ticks =
            line("Ticks delivered").split_whitespace().nth(2).and_then(|rate| rate.parse::<f64>().ok());
        assert!(ticks.is_some_and(|rate| rate > 0.0), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains(" SECOND ")).count(), 5, "the slowest\n{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }
    drop(clients);
}

#[test]
fn where_nobody_answers_it_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let absent = format!("unix:{}", directory.path().join("admin.sock").display());
    check_fails(&["--once", "--admin", &absent], &format!("no answer from the admin endpoint at {absent}: "));
    check_fails(&["--admin", &absent], "no answer from the admin endpoint");
    let server = Server::start(&[]);
    // The port of the stream: something answers there, or hangs up, but it isn't the endpoint.
    check_fails(&["--once", "--admin", &server.address.to_string()], "no answer from the admin endpoint");
    check_fails(&["--admin", &server.admin.to_string()], "--once prints plain text");
}

/// tests/admin/top.py has the checks.
#[test]
fn on_a_terminal_it_draws_until_q_and_leaves_no_trace() {
    if !has_tool("python3") {
        return;
    }
    let server = Server::start(&["--ticks-per-second", "50", "--shards", "2"]);
    let clients: Vec<_> = (0..5).map(|_| Client::subscribed(&server, Mode::Second, None)).collect();
    server.wait_until(|report| report.shards.iter().map(|shard| shard.subscribed).sum::<u64>() == 5);
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests");
    let output = Command::new("python3")
        .args([tests, "admin.top", env!("CARGO_BIN_EXE_tickstream"), &server.admin.to_string(), "5"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    drop(clients);
}
