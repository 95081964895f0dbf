//! The live page: what the server says about it, and how it does in a browser.

use std::process::Command;

use tickstream_wire::messages::Mode;

use crate::support::{Client, Server, has_tool};

#[test]
fn it_is_served_with_a_policy_that_holds_it_to_itself() {
    let server = Server::start(&[]);
    let answer = server.get("/");
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with("<!doctype html>") && answer.body.ends_with("</html>\n"));
    assert!(answer.body.len() < 64 * 1_024, "{} bytes", answer.body.len());
    assert!(!answer.body.contains("http"), "it names something outside");
    let head = answer.head.to_ascii_lowercase();
    for part in [
        "content-type: text/html; charset=utf-8",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "content-security-policy: default-src 'none';",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(head.contains(part), "{part} in {head}");
    }
    assert!(!head.contains("unsafe"), "{head}");
    let help = server.get("/help");
    assert!(help.status == 200 && help.body.contains("POST /drain"), "{help:?}");
}

/// tests/admin/page.py has the checks.
#[test]
fn a_browser_shows_what_the_server_has_and_nothing_else() {
    if !has_tool("python3") || !has_tool("chromium") {
        return;
    }
    // The clients say nothing, for as long as a browser takes on a busy machine.
    let server = Server::start(&["--ticks-per-second", "5", "--shards", "3", "--heartbeat-timeout", "10m"]);
    let clients: Vec<_> = (0..20).map(|_| Client::subscribed(&server, Mode::Second, None)).collect();
    let mut stranger = Client::connect(&server);
    stranger.authenticate("wrong");
    stranger.read_to_end();
    server.wait_until(|report| report.shards.iter().map(|shard| shard.connections).sum::<u32>() == 20);
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests");
    let output = Command::new("python3")
        .args([tests, "admin.page", &format!("http://{}/", server.admin), "--connections", "20"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    drop(clients);
}
