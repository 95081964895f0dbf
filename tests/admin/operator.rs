//! Operator's commands against the real server: what they print, what they change, and what they say where they can't.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use tickstream_client::{Client as StreamClient, Mode};
use tickstream_wire::messages::Mode as WireMode;

use crate::support::{Client, Server, TOKEN};

pub fn tickstream(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickstream"));
    command.args(args).env_clear().stdin(Stdio::null()).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Standard output of a command that succeeds.
pub fn said(args: &[&str]) -> String {
    let output = tickstream(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A command that fails so, and says so.
pub fn check_fails(args: &[&str], code: i32, parts: &[&str]) {
    let output = tickstream(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "{args:?}, {part}: {said}");
    }
}

fn unix(server: &Server) -> String {
    format!("unix:{}", server.socket.display())
}

fn subscribed(server: &Server, count: u64) -> Vec<Client> {
    let clients: Vec<_> = (0..count).map(|_| Client::subscribed(server, WireMode::Second, None)).collect();
    server.wait_until(|report| report.shards.iter().map(|shard| shard.subscribed).sum::<u64>() == count);
    clients
}

#[test]
fn the_status_is_some_lines_or_the_whole_answer() {
    let server = Server::start(&["--shards", "2"]);
    let clients = subscribed(&server, 3);
    let status = said(&["status", "--admin", &server.admin.to_string()]);
    for part in [
        "State        serving, healthy\n",
        "Connections  3, 0 not authenticated, 0 lagging\n",
        "Stream       SECOND, 3 subscribers\n",
        "Shards       2\n",
    ] {
        assert!(status.contains(part), "{part}: {status}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&said(&["status", "--json", "--admin", &unix(&server)])).unwrap();
    assert_eq!(json["state"], "serving");
    drop(clients);
}

#[test]
fn connections_are_listed_with_who_they_are() {
    let server = Server::start(&[]);
    let clients = subscribed(&server, 2);
    let admin = server.admin.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = server.address.to_string();
    let _library = runtime.block_on(async {
        let client = StreamClient::builder(address).credentials("ada", "s3cret").connect().await.unwrap();
        client.subscribe(Mode::Minute).await.unwrap()
    });
    let list = said(&["connections", "--admin", &admin, "--sort", "id"]);
    let lines: Vec<_> = list.lines().collect();
    assert_eq!(lines.len(), 4, "{list}");
    assert!(lines[0].starts_with("ID        USER          PEER"), "{list}");
    assert!(lines[1].starts_with("0-1       ada") && lines[1].contains("SECOND"), "{list}");
    let library = concat!("tickstream-rust/", env!("CARGO_PKG_VERSION"));
    assert!(lines[3].starts_with("0-3       ada") && lines[3].ends_with(library), "{list}");

    let lines = |args: &[&str]| {
        let args = [&["connections", "--admin", &admin, "--json"], args].concat();
        said(&args)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect::<Vec<serde_json::Value>>()
    };
    assert_eq!(lines(&["--user", "a*"]).len(), 3);
    assert_eq!(lines(&["--user", "eve"]).len(), 0);
    assert_eq!(lines(&["--client", "tickstream-rust/*"]).len(), 1);
    assert_eq!(lines(&["--cidr", "127.0.0.0/8"]).len(), 3);
    assert_eq!(lines(&["--peer", "10.0.0.0/8"]).len(), 0);
    assert_eq!(lines(&["--mode", "minute"]).len(), 1);
    assert_eq!(lines(&["--lag", "0s"]).len(), 0);
    let ids = |lines: Vec<serde_json::Value>| -> Vec<String> {
        lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(lines(&["--sort", "id", "--reverse"])), ["0-3", "0-2", "0-1"]);
    let first = &lines(&["--sort", "id", "-n", "1"])[0];
    assert!(first["bytes_received"].as_u64() > Some(0) && first["bytes_sent"].as_u64() > Some(0), "{first}");
    // Page by page, each place is behind the one before.
    let rest = tickstream(&["connections", "--admin", &admin, "--sort", "id", "-n", "2", "--json"]);
    let hint = text(&rest.stderr);
    let after = hint.split("--after ").nth(1).expect("a cursor").trim();
    assert!(hint.starts_with("2 of 3 connections; more with --after "), "{hint}");
    assert_eq!(ids(lines(&["--sort", "id", "--after", after])), ["0-3"]);
    drop(clients);
}

#[test]
fn more_connections_than_a_page_are_listed_once_each() {
    // None of them says who it is, and they stay for three lists.
    let server = Server::start(&["--shards", "2", "--auth-timeout", "60s"]);
    let clients: Vec<_> = (0..1_100).map(|_| Client::connect(&server)).collect();
    server.wait_until(|report| report.shards.iter().map(|shard| shard.connections).sum::<u32>() == 1_100);
    for sort in ["id", "peer", "user"] {
        let list =
            said(&["connections", "--admin", &server.admin.to_string(), "--all", "--sort", sort, "--json"]);
        let mut ids: Vec<_> = list
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].to_string())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((list.lines().count(), ids.len()), (1_100, 1_100), "{sort}");
    }
    drop(clients);
}

#[test]
fn one_connection_is_shown_or_said_to_be_missing() {
    let server = Server::start(&[]);
    let clients = subscribed(&server, 1);
    let admin = server.admin.to_string();
    let shown = said(&["connection", "0-1", "--admin", &admin]);
    for part in [
        "Connection   0-1\n",
        "User         ada\n",
        "Stream       SECOND\n",
        "Certificate  -\n",
        "Lag          none\n",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    for id in ["0-99", "7-1", "x", "0-1/close", "\u{1b}[2J"] {
        check_fails(
            &["connection", id, "--admin", &admin],
            1,
            &["has no connection", "`tickstream connections`"],
        );
    }
    drop(clients);
}

#[test]
fn foreign_text_does_not_steer_the_terminal() {
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    let auth = tickstream_wire::messages::Auth {
        username: "ada".into(),
        password: "s3cret".into(),
        client: Some("evil\u{1b}[2J\n\u{202e}lib".into()),
    };
    client.send(&tickstream_wire::frame::seal(&auth));
    server.wait_for_metric("tickstream_auth_successes_total{shard=\"0\"}", 1.0);
    let admin = server.admin.to_string();
    for args in [
        &["connections", "--admin", &admin][..],
        &["connections", "--admin", &admin, "--json"],
        &["connection", "0-1", "--admin", &admin],
        &["connection", "0-1", "--json", "--admin", &admin],
    ] {
        let shown = said(args);
        assert!(shown.contains("evil") && shown.contains("lib"), "{args:?}: {shown}");
        let foreign = shown.chars().any(|char| char != '\n' && tickstream_service::text::steers(char));
        assert!(!foreign, "{args:?}: {shown:?}");
    }
}

#[test]
fn a_client_s_library_is_cut_and_never_refused() {
    let server = Server::start(&[]);
    let long = "é".repeat(1_000);
    for (number, client) in [Some(long), Some(String::new()), None].into_iter().enumerate() {
        let mut connection = Client::connect(&server);
        let (username, password) = ("ada".into(), "s3cret".into());
        let auth = tickstream_wire::messages::Auth { username, password, client };
        connection.send(&tickstream_wire::frame::seal(&auth));
        server.wait_for_metric("tickstream_auth_successes_total{shard=\"0\"}", number as f64 + 1.0);
        let shown = server.get(&format!("/connections/0-{}", number + 1)).body;
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let expected = if number == 0 { "é".repeat(32).into() } else { serde_json::Value::Null };
        assert_eq!(shown["client"], expected);
    }
}

#[test]
fn kick_closes_by_id_and_by_condition() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let token = ["--admin-token-file", token.to_str().unwrap()];
    let server = Server::start(&["--shards", "2"]);
    let mut clients = subscribed(&server, 5);
    let address = server.admin.to_string();
    let admin = ["--admin", &address, token[0], token[1]];
    fn kick<'a>(args: &[&'a str], admin: &[&'a str]) -> Vec<&'a str> {
        [&["kick"], args, admin].concat()
    }
    let kick = |args: &[&'static str]| kick(args, &admin);
    // Nobody says yes here.
    check_fails(&kick(&["0-1"]), 2, &["no terminal", "--yes"]);
    check_fails(&kick(&["--user", "ada"]), 2, &["no terminal", "--yes"]);
    assert_eq!(said(&kick(&["--user", "eve", "--yes"])), "no connection with user eve\n");
    check_fails(&kick(&["0-99", "--yes"]), 1, &["no connection 0-99"]);
    let first = server.get("/connections?sort=id&limit=1").body;
    let id = serde_json::from_str::<serde_json::Value>(&first).unwrap()["connections"][0]["id"].clone();
    let id = id.as_str().unwrap();
    let by_id = [&["kick", id, "--yes"][..], &admin].concat();
    assert_eq!(said(&by_id), format!("{id} is being closed\n"));
    let closed = said(&kick(&["--user", "a*", "--peer", "127.0.0.0/8", "--yes"]));
    assert_eq!(closed, "4 connections closed\n");
    for client in &mut clients {
        client.read_to_end();
        assert_eq!(client.error.take().expect("it is told why").message, "closed by an operator");
    }
    // The endpoint itself closes nobody without a condition.
    let all = server.post("/connections/close", Some(TOKEN));
    assert_eq!((all.status, all.body.contains("unless a query says which")), (400, true), "{}", all.body);
    check_fails(&["kick", "--yes"], 2, &["required"]);
    check_fails(&kick(&["0-1", "--user", "ada"]), 2, &["cannot be used with"]);
}

/// On a terminal it tells how many, and takes "no" for an answer.
#[test]
fn kick_asks_first() {
    if !crate::support::has_tool("script") {
        return;
    }
    let server = Server::start(&[]);
    let clients = subscribed(&server, 2);
    let program = env!("CARGO_BIN_EXE_tickstream");
    let ask = |answer: &str| {
        let command = format!("{program} kick --user ada --admin {}", unix(&server));
        let mut child = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), text(&output.stdout))
    };
    let (code, shown) = ask("n\n");
    assert!(shown.contains("Close 2 connections with user ada? [y/N]"), "{shown}");
    assert!(code == Some(1) && shown.contains("nothing was closed"), "{shown}");
    assert_eq!(server.snapshot().shards[0].connections, 2);
    let (code, shown) = ask("y\n");
    assert!(code == Some(0) && shown.contains("2 connections closed"), "{shown}");
    drop(clients);
}

#[test]
fn changes_need_the_token_or_the_socket() {
    let server = Server::start(&[]);
    let admin = server.admin.to_string();
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("wrong");
    std::fs::write(&wrong, "0123456789abcdeX").unwrap();
    for command in
        [&["drain"][..], &["reload"], &["log-level", "debug"], &["kick", "0-1", "--yes"], &["upgrade"]]
    {
        let without = [command, &["--admin", &admin]].concat();
        check_fails(&without, 3, &[&admin, "missing", "--admin-token-file", "unix socket"]);
        let with_wrong = [&without[..], &["--admin-token-file", wrong.to_str().unwrap()]].concat();
        check_fails(&with_wrong, 3, &["is wrong"]);
    }
    check_fails(
        &["status", "--admin", "unix:/nowhere/admin.sock"],
        1,
        &["unix:/nowhere/admin.sock", "--admin"],
    );
    check_fails(&["connections", "--admin", &server.address.to_string()], 1, &["the admin endpoint at"]);
    assert_eq!(said(&["drain", "--admin", &unix(&server)]), "draining\n");
    assert!(server.ended().0.success());
}

#[test]
fn the_level_of_the_log_is_shown_and_set() {
    let server = Server::start(&[]);
    let admin = unix(&server);
    let level = |args: &[&str]| said(&[&["log-level", "--admin", &admin], args].concat());
    assert_eq!(level(&[]), "info\n");
    assert_eq!(level(&["debug"]), "debug, before info\n");
    assert_eq!(level(&[]), "debug\n");
    let config = server.get("/config").body;
    assert!(
        config.ends_with("# log_level \"debug\" is in use: an operator has set it since the start.\n"),
        "{config}"
    );
    // A probe's end is logged at this level alone.
    let probe = Client::connect(&server);
    server.wait_until(|report| report.shards[0].connections == 1);
    probe.hang_up();
    server.wait_until(|report| report.shards[0].connections == 0);
    assert!(server.log().contains("\"reason\":\"probe\""), "{}", server.log());
    assert_eq!(level(&["info"]), "info, before debug\n");
    assert!(!server.get("/config").body.contains("an operator"));
    check_fails(&["log-level", "loud", "--admin", &admin], 2, &["loud"]);
    assert_eq!(server.post("/log-level?level=loud", Some(TOKEN)).status, 400);
    assert_eq!(server.post("/log-level", Some(TOKEN)).status, 400);
}

#[test]
fn a_reload_says_what_was_and_what_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tickstream.toml");
    std::fs::write(&path, "frames_per_second_max = 7\n").unwrap();
    let server = Server::start(&["--config", path.to_str().unwrap()]);
    std::fs::write(&path, "frames_per_second_max = 8\nreplay_ticks_max = 9\n").unwrap();
    let reloaded = said(&["reload", "--admin", &unix(&server)]);
    let expected = "reloaded; changed: frames_per_second_max\n  frames_per_second_max: \"7\" -> \"8\"\n\
                    needs a restart, the old value stays in use: replay_ticks_max\n  replay_ticks_max: \"100000\" -> \"9\"\n";
    assert_eq!(reloaded, expected);
    std::fs::write(&path, "bogus = 1\n").unwrap();
    check_fails(&["reload", "--admin", &unix(&server)], 1, &["bogus", "those in use stay"]);
}

#[test]
fn a_configuration_is_checked_without_a_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.toml");
    let check = |text: &str, expected: Result<(), &str>| {
        std::fs::write(&path, text).unwrap();
        let args = ["check-config", "--config", path.to_str().unwrap()];
        match expected {
            Ok(()) => assert_eq!(said(&args), "the configuration can be used\n"),
            Err(part) => check_fails(&args, 2, &[part]),
        }
    };
    check("stream_user = \"u\"\nstream_pass = \"p\"\n", Ok(()));
    check("stream_user = \"u\"\n", Err("no password"));
    check("stream_user = \"u\"\nstream_pass = \"p\"\nshards = 0\n", Err("out of range"));
    let cert =
        "stream_user = \"u\"\nstream_pass = \"p\"\ntls_cert = \"/absent.pem\"\ntls_key = \"/absent.key\"\n";
    check(cert, Err("/absent.pem"));
    check("users_file = \"/absent.toml\"\n", Err("users_file = \"/absent.toml\""));
}
