//! Health and readiness, also of a server that is broken.

use std::time::{Duration, Instant};

use crate::process::Metronome;
use crate::support::{Client, Server};
use tickstream_wire::messages::Mode;

/// Faults on demand exist only in builds with debug assertions.
fn can_break() -> bool {
    cfg!(debug_assertions)
}

#[test]
fn a_server_that_serves_is_healthy_and_ready() {
    let server = Server::start(&["--shards", "2"]);
    for path in ["/healthz", "/readyz"] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"), "{path}");
    }
    // Longer than a shard may be silent: an idle one still turns.
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_shard_that_hangs_is_told_within_a_second_and_ends_the_process() {
    if !can_break() {
        return;
    }
    let server = Server::start_with(&["--shards", "2"], &[("TICKSTREAM_CHAOS", "hang:1:700")], true);
    let metronome = Metronome::start();
    let begin = Instant::now();
    while !server.log().contains("TICKSTREAM_CHAOS") {
        assert!(begin.elapsed() < Duration::from_secs(20), "it doesn't hang");
        std::thread::sleep(Duration::from_millis(5));
    }
    let hung = Instant::now();
    let answer = loop {
        let answer = server.get("/healthz");
        if answer.status != 200 {
            break answer;
        }
        // Several threads have to get the CPU one after another.
        let bound = Duration::from_secs(1) + 3 * metronome.worst();
        assert!(hung.elapsed() < bound, "still healthy after {:?}", hung.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with("shard 1: its loop hasn't turned for "), "{}", answer.body);
    assert_eq!(server.get("/readyz").status, 503);
    // What is known of it is still told, and what it was asked is not waited for very long.
    let metrics = server.metrics();
    metrics.check("tickstream_shard_up{shard=\"0\"}", 1.0);
    metrics.check("tickstream_shard_up{shard=\"1\"}", 0.0);
    let report = server.snapshot();
    assert!(!report.healthy && report.shards[1].hung_ms >= 700 && !report.shards[1].answered);
    let listed: serde_json::Value = serde_json::from_str(&server.get("/connections").body).unwrap();
    assert_eq!(listed["missing_shards"], serde_json::json!([1]));
    assert_eq!(server.post_by_unix("/connections/1-1/close").status, 503);
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("shard 1 has stopped turning"), "{log}");
    assert!(hung.elapsed() < Duration::from_secs(15), "{:?}", hung.elapsed());
}

#[test]
fn a_shard_that_panics_ends_the_process_at_once() {
    if !can_break() {
        return;
    }
    let server = Server::start_with(&["--shards", "2"], &[("TICKSTREAM_CHAOS", "panic:0:300")], true);
    let begin = Instant::now();
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("shard 0: it panicked: TICKSTREAM_CHAOS"), "{log}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn a_server_that_drains_is_healthy_but_not_ready() {
    let server = Server::start(&["--ticks-per-second", "20"]);
    let mut client = Client::subscribed(&server, Mode::Second, None);
    client.read_ticks(5);
    assert_eq!(server.post_by_unix("/drain").status, 202);
    let ready = server.get("/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "draining\n"));
    assert_eq!(server.get("/healthz").status, 200);
    client.read_to_end();
    assert_eq!(client.error.map(|error| error.code), Some("SHUTTING_DOWN".to_owned()));
    let (status, log) = server.ended();
    assert!(status.success() && log.contains("an operator drains the server"), "{log}");
}
