//! Requests that change something, and who may make them.

use tickstream_wire::messages::Mode;

use crate::process::signal;
use crate::support::{Client, Server, TOKEN};

/// The id of the only connection.
fn only_connection(server: &Server) -> String {
    server.wait_for_metric("tickstream_subscribers{shard=\"0\",stream=\"SECOND\"}", 1.0);
    let listed: serde_json::Value = serde_json::from_str(&server.get("/connections").body).unwrap();
    assert_eq!(listed["total"], 1, "{listed}");
    listed["connections"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_connection_is_closed_by_the_id_that_the_log_has() {
    let server = Server::start(&["--ticks-per-second", "20"]);
    let mut client = Client::subscribed(&server, Mode::Second, None);
    client.read_ticks(3);
    let id = only_connection(&server);
    let closed = server.post(&format!("/connections/{id}/close"), Some(TOKEN));
    assert_eq!((closed.status, closed.body), (200, format!("{id} is being closed\n")));
    client.read_to_end();
    let error = client.error.take().expect("it is told why");
    assert_eq!((error.code.as_str(), error.message.as_str()), ("SHUTTING_DOWN", "closed by an operator"));
    assert!(error.retry_after_ms > 0);
    client.hang_up();
    let metrics = server.wait_for_metric("active_connections{shard=\"0\"}", 0.0);
    metrics.check("tickstream_connections_closed_total{shard=\"0\",reason=\"kicked\"}", 1.0);
    assert!(server.log().contains(&format!("\"conn\":\"{id}\"")), "{}", server.log());
    for unknown in [&id, "0-99", "7-1", "x", "0-", "0-1-1"] {
        let answer = server.post(&format!("/connections/{unknown}/close"), Some(TOKEN));
        assert_eq!((answer.status, answer.body), (404, format!("there is no connection {unknown}\n")));
    }
}

#[test]
fn without_the_token_nothing_changes() {
    let server = Server::start(&["--ticks-per-second", "20"]);
    let mut client = Client::subscribed(&server, Mode::Second, None);
    client.read_ticks(1);
    let id = only_connection(&server);
    for path in ["/drain".to_owned(), format!("/connections/{id}/close")] {
        for (token, said) in [
            (None, "missing"),
            (Some("wrong"), "wrong"),
            (Some(&TOKEN[1..]), "wrong"),
            (Some(""), "no bearer token"),
        ] {
            let answer = server.post(&path, token);
            assert_eq!(answer.status, 403, "{path} {token:?}");
            assert!(
                answer.body.contains("admin_token_file") && answer.body.contains(said),
                "{}",
                answer.body
            );
        }
    }
    assert_eq!(server.get("/readyz").status, 200);
    client.read_ticks(10);
    assert_eq!(server.post("/drain", Some(TOKEN)).status, 202);
    assert!(server.ended().0.success());
}

#[test]
fn without_a_token_file_only_the_unix_socket_changes_anything() {
    let server = Server::start_with(&[], &[], false);
    for token in [None, Some(TOKEN)] {
        let answer = server.post("/drain", token);
        assert_eq!(answer.status, 403);
        assert!(
            answer.body.contains("unix socket only") && answer.body.contains("admin_token_file"),
            "{}",
            answer.body
        );
    }
    assert_eq!(server.get("/readyz").status, 200);
    assert_eq!(server.post_by_unix("/drain").status, 202);
    let socket = server.socket.clone();
    assert!(server.ended().0.success());
    assert!(!socket.exists(), "its file is removed");
}

#[test]
fn connections_are_filtered_and_paged() {
    let server = Server::start(&["--shards", "2"]);
    let clients: Vec<_> = (0..5).map(|_| Client::subscribed(&server, Mode::Minute, None)).collect();
    let stranger = Client::connect(&server);
    server.wait_until(|report| report.shards.iter().map(|shard| shard.subscribed).sum::<u64>() == 5);
    let list = |query: &str| -> (u64, Vec<String>) {
        let answer = server.get(&format!("/connections?{query}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let listed: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let ids = listed["connections"].as_array().unwrap().iter();
        (
            listed["total"].as_u64().unwrap(),
            ids.map(|connection| connection["id"].as_str().unwrap().to_owned()).collect(),
        )
    };
    let (total, all) = list("");
    assert_eq!((total, all.len()), (6, 6));
    let (total, minute) = list("mode=minute&state=authenticated");
    assert_eq!((total, minute.len()), (5, 5));
    let pages = [list("limit=4"), list("limit=4&offset=4"), list("limit=4&offset=8")];
    assert_eq!(pages.each_ref().map(|(total, page)| (*total, page.len())), [(6, 4), (6, 2), (6, 0)]);
    assert_eq!(pages.into_iter().flat_map(|(_, page)| page).collect::<Vec<_>>(), all);
    let by_shard = [list("shard=0"), list("shard=1")];
    assert_eq!(by_shard.iter().map(|(total, _)| total).sum::<u64>(), 6);
    assert_eq!(list("peer=127.0.0.1").0, 6);
    assert_eq!(list("peer=127.0.0.2").0, 0);
    assert_eq!(list("state=unauthenticated").0, 1);
    drop((clients, stranger));
}

#[test]
fn a_reload_shows_and_takes_another_token() {
    let directory = tempfile::tempdir().unwrap();
    let (config, token) = (directory.path().join("tickstream.toml"), directory.path().join("another-token"));
    let write = |frames: u32, window: u32, name: &str| {
        let text = format!("frames_per_second_max = {frames}\nbatch_window_ms = {window}\n{name}\n");
        std::fs::write(&config, text).unwrap();
    };
    write(50, 6, "");
    let server = Server::start_with(&["--config", config.to_str().unwrap()], &[], false);
    let shown = server.get("/config").body;
    assert!(
        shown.contains("\nframes_per_second_max = 50 ") && shown.contains("\nbatch_window_ms = 6 "),
        "{shown}"
    );
    assert_eq!(server.post("/drain", Some(TOKEN)).status, 403);

    let another = "fedcba9876543210";
    std::fs::write(&token, another).unwrap();
    write(60, 7, &format!("admin_token_file = {token:?}"));
    signal(server.pid(), "HUP");
    let begin = std::time::Instant::now();
    while !server.get("/config").body.contains("\nframes_per_second_max = 60 ") {
        assert!(begin.elapsed().as_secs() < 10, "{}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let shown = server.get("/config").body;
    assert!(shown.contains("\nbatch_window_ms = 6 "), "that needs a restart: {shown}");
    assert_eq!(server.post("/drain", Some(TOKEN)).status, 403);
    assert_eq!(server.post("/drain", Some(another)).status, 202);
}

#[test]
fn the_settings_are_shown_without_secrets() {
    let server = Server::start(&["--batch-window-ms", "7"]);
    let shown = server.get("/config").body;
    assert!(shown.contains("batch_window_ms = 7 # flag --batch-window-ms\n"), "{shown}");
    assert!(shown.contains("# stream_pass = \"***\" # environment STREAM_PASS; masked\n"), "{shown}");
    assert!(!shown.contains("s3cret") && !shown.contains(TOKEN), "{shown}");
}
