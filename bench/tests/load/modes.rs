//! Runs that hold no subscriptions, against servers that answer as a test wants it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Output},
    thread,
    time::Duration,
};

use tickstream_schema::events::{Message, Publish, PublishAck};
use tickstream_wire::{
    Decoder, FrameType,
    frame::{seal, seal_as},
    messages::{Ack, ErrorMsg, MsgType},
};

use crate::{json, serve};

fn answer(mut stream: TcpStream, frame: &[u8]) {
    let mut buffer = [0; 512];
    if stream.read(&mut buffer).is_ok_and(|len| len > 0) {
        let _ = stream.write_all(frame);
        // Until the client's FIN.
        while stream.read(&mut buffer).is_ok_and(|len| len > 0) {}
    }
}

fn accept(stream: TcpStream) {
    answer(stream, &seal(&Ack { acked_type: MsgType::Auth as i32, ..Ack::default() }));
}

fn refuse(stream: TcpStream) {
    answer(stream, &error("AUTH_FAILED"));
}

fn error(code: &str) -> Vec<u8> {
    seal(&ErrorMsg { code: code.into(), message: String::new(), retry_after_ms: 0 })
}

fn load(port: u16, arguments: &str) -> (Output, serde_json::Value) {
    let output = crate::load(port, &arguments.split_whitespace().collect::<Vec<_>>());
    let json = json(&output);
    (output, json)
}

#[test]
fn handshakes_are_counted_and_timed() {
    let (output, summary) = load(serve(accept), "--handshakes 300 --in-flight 10 --threads 2");
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    assert_eq!(summary["accepted"], 300);
    assert_eq!(summary["until_ack"]["count"], 300);
    assert!(summary["server_user_us_each"].is_number(), "{summary:#}");

    let (output, summary) = load(serve(accept), "--handshakes 50 --ramp 100");
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    assert!(summary["took_s"].as_f64() > Some(0.4), "{summary:#}");

    let (output, summary) = load(serve(refuse), "--handshakes 5");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(summary["answers"]["AUTH_FAILED"], 5, "{summary:#}");
}

#[test]
fn guesses_come_at_their_rate_from_many_addresses() {
    // It tells where each came from by its answer.
    let port = serve(|stream| {
        let address = stream.peer_addr().unwrap().ip();
        answer(stream, &error(&format!("FROM {address}")));
    });
    let (output, summary) = load(port, "--brute-force 200 --sources 4 --duration 1s");
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    let attempts = summary["attempts"].as_u64().unwrap();
    assert!((150..=200).contains(&attempts), "{summary:#}");
    for last in 1..=4 {
        let from = summary["answers"][format!("FROM 127.0.1.{last}")].as_u64();
        assert!(from >= Some(attempts / 4), "{summary:#}");
    }

    let (output, summary) = load(serve(accept), "--brute-force 100 --duration 200ms");
    assert_eq!(output.status.code(), Some(1), "a server that takes any password: {summary:#}");
}

#[test]
fn dribblers_are_watched_until_they_are_closed() {
    let port = serve(|mut stream| {
        let mut bytes = [0; 3];
        let _ = stream.read_exact(&mut bytes);
        assert_eq!(bytes, *b"TS\x01");
        let _ = stream.write_all(&error("AUTH_REQUIRED"));
    });
    let (output, summary) = load(port, "--dribble -n 20 --duration 10s");
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    assert_eq!(summary["ends"]["AUTH_REQUIRED"], 20, "{summary:#}");
    assert_eq!(summary["bytes_sent"], 60, "{summary:#}");
    let closed = summary["until_closed"]["max_us"].as_u64().unwrap();
    assert!((2_000_000..4_000_000).contains(&closed), "{summary:#}");

    let patient = serve(|stream| {
        thread::sleep(Duration::from_secs(10));
        drop(stream);
    });
    let (output, summary) = load(patient, "--dribble -n 5 --duration 500ms");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(summary["left_open"], 5);
}

/// Answers each PUBLISH as `answer` says, until it says nothing: then it closes.
fn collect(mut stream: TcpStream, mut answer: impl FnMut(&Publish) -> Option<PublishAck>) {
    let (mut decoder, mut buffer) = (Decoder::new(), vec![0; 1 << 16]);
    while let Ok(len) = stream.read(&mut buffer) {
        let mut bytes = &buffer[..len];
        while let Some(frame) = decoder.next(&mut bytes, 1 << 20).unwrap() {
            let answer = if frame.kind == FrameType::Auth as u8 {
                let acked_type = MsgType::Auth as i32;
                seal(&Ack { acked_type, publish_credits: 4, max_publish_size: 1 << 19, ..Ack::default() })
            } else {
                let publish = Publish::decode(frame.payload).unwrap();
                let Some(ack) = answer(&publish) else { return };
                let ack = PublishAck { sequence: publish.sequence, producer_id: publish.producer_id, ..ack };
                seal_as(FrameType::PublishAck, &ack)
            };
            let _ = stream.write_all(&answer);
        }
        if len == 0 {
            return;
        }
    }
}

fn accepted(publish: &Publish) -> PublishAck {
    PublishAck { accepted: publish.events.len() as u32, ..PublishAck::default() }
}

#[test]
fn what_is_published_is_acknowledged_and_noted() {
    let port = serve(|stream| collect(stream, |publish| Some(accepted(publish))));
    let folder = tempfile::tempdir().unwrap();
    let acked = folder.path().join("acked");
    let options =
        "--publish -n 4 --threads 2 --rate 2000 --events-per-batch 20 --warmup 0s --duration 1s --acked";
    let (output, summary) = load(port, &format!("{options} {}", acked.display()));
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    let events = summary["events_accepted"].as_u64().unwrap();
    assert!((1_500..=2_100).contains(&events), "{summary:#}");
    assert_eq!(
        summary["ack_latency"]["count"].as_u64(),
        summary["events"].as_u64().map(|events| events / 20)
    );
    assert!((290.0..310.0).contains(&summary["event_bytes"].as_f64().unwrap()), "{summary:#}");
    let lines = std::fs::read_to_string(acked).unwrap();
    assert_eq!(lines.lines().count() as u64 * 20, events);
    assert!(lines.lines().all(|line| line.ends_with(" 20") && line.split(' ').next().unwrap().len() == 32));
}

#[test]
fn what_a_server_lost_or_refused_is_seen() {
    let check = |port, options: &str, expected: &str| {
        let (output, summary) = load(port, &format!("--publish -n 2 --warmup 0s --duration 300ms {options}"));
        assert_eq!(output.status.code(), Some(1), "{options}: {summary:#}");
        let failures = summary["failures"].to_string();
        assert!(failures.contains(expected), "{options}: {failures} instead of {expected}");
    };
    let short =
        serve(|stream| collect(stream, |_| Some(PublishAck { accepted: 7, ..PublishAck::default() })));
    check(short, "", "aren't as many as were sent");
    let twice = serve(|stream| collect(stream, |publish| Some(accepted(publish))));
    check(twice, "--resend --rate 1000", "published twice");
    let known = serve(|stream| {
        collect(stream, |publish| Some(PublishAck { accepted: 0, duplicates: 100, ..accepted(publish) }));
    });
    check(known, "--rate 1000", "0 were accepted");
    let silent = serve(|stream| collect(stream, |_| None));
    check(silent, "", "no batch was acknowledged");
    check(serve(accept), "", "takes no events");
    check(serve(refuse), "", "AUTH_FAILED");
}

#[test]
fn what_was_not_acknowledged_is_sent_again_after_a_reconnect() {
    let port = serve(|stream| {
        let mut left = 3;
        collect(stream, |publish| {
            left -= 1;
            (left >= 0).then(|| accepted(publish))
        });
    });
    let options = "--publish -n 1 --reconnect --rate 5000 --warmup 0s --duration 500ms";
    let (output, summary) = load(port, options);
    assert_eq!(output.status.code(), Some(0), "{summary:#}");
    assert!(
        summary["batches_resent"].as_u64() > Some(0) && summary["reconnects"].as_u64() > Some(0),
        "{summary:#}"
    );
    assert_eq!(summary["batches_distinct"], summary["batches_acknowledged"], "{summary:#}");
}

#[test]
fn one_kind_of_run_at_a_time() {
    let output = Command::new(env!("CARGO_BIN_EXE_tickstream-load"))
        .args(["--handshakes", "5", "--dribble", "--user", "user"])
        .env("STREAM_PASS", "password")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
