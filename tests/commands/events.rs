//! `tickstream events` over what a running server has collected from `tickstream publish`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tickstream_schema::events::{Event, Publish};
use tickstream_wire::messages::{Auth, Message};
use tickstream_wire::{Decoder, FrameType, frame};

use crate::pipe::wait_until_held;
use crate::process::{Process, signal, tickstream};

/// One event of each kind.
const ALL_KINDS: &str = include_str!("../events/all-kinds.jsonl");

/// A server that collects events.
struct Server {
    address: String,
    process: Process,
    directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"))
    }

    /// A server in the directory of this one, which has ended.
    fn restart(self) -> Self {
        Self::start_in(self.directory)
    }

    fn start_in(directory: tempfile::TempDir) -> Self {
        let serve =
            ["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--drain-seconds", "1", "--journal"];
        let mut command = tickstream(&serve);
        // The events of the file were made some time ago.
        command.arg(directory.path().join("events"));
        command.args(["--journal-segment-mib", "4", "--event-age-max-days", "36500"]);
        let process = Process::start(&mut command);
        Self { address: process.started("address").to_owned(), process, directory }
    }

    fn journal(&self) -> PathBuf {
        self.directory.path().join("events")
    }

    /// The exit code of `tickstream publish` with these lines.
    fn publish(&self, lines: &str) -> i32 {
        let mut publish = tickstream(&["publish", "--addr", &self.address])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        publish.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("it reads");
        publish.wait().expect("it ends").code().expect("a code")
    }

    fn events(&self, action: &str, args: &[&str]) -> Output {
        events(&self.journal(), action, args)
    }

    /// Output, line by line.
    fn lines(&self, action: &str, args: &[&str]) -> Vec<serde_json::Value> {
        let output = self.events(action, args);
        assert!(output.status.success(), "{action} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        json_lines(std::str::from_utf8(&output.stdout).expect("text"))
    }
}

fn events(directory: &Path, action: &str, args: &[&str]) -> Output {
    tickstream(&["events", action]).arg(directory).args(args).output().expect("the binary runs")
}

fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

#[test]
fn every_kind_comes_back_field_by_field() {
    let server = Server::start();
    assert_eq!(server.publish(ALL_KINDS), 0);
    let sent = json_lines(ALL_KINDS);
    assert_eq!(server.lines("export", &["--bare"]), sent);
    // What it prints with --bare is what publish takes: nothing that the server doesn't know.
    let bare = String::from_utf8(server.events("export", &["--bare"]).stdout).unwrap();
    assert_eq!(server.publish(&bare), 0);
    let mut exported = server.lines("export", &[]);
    let positions: Vec<_> = exported
        .iter_mut()
        .map(|line| {
            let enrichment = line.as_object_mut().unwrap().remove("enrichment").unwrap();
            assert_eq!(
                (&enrichment["user"], &enrichment["shard"]),
                (&"ada".into(), &0.into()),
                "{enrichment}"
            );
            assert!(enrichment["peer"].as_str().unwrap().starts_with("127.0.0.1"), "{enrichment}");
            assert_eq!(enrichment["producer"].as_str().unwrap().len(), 32, "{enrichment}");
            enrichment["position"].to_string()
        })
        .collect();
    assert_eq!(exported, sent);
    let distinct: std::collections::BTreeSet<_> = positions.iter().collect();
    assert_eq!(distinct.len(), sent.len(), "{positions:?}");
    assert!(positions[0].contains("\"journal\":\"000\""), "{positions:?}");

    let file = server.directory.path().join("events.jsonl");
    assert!(server.lines("export", &["--output", file.to_str().unwrap(), "--bare"]).is_empty());
    assert_eq!(json_lines(&std::fs::read_to_string(file).unwrap()), sent);
}

#[test]
fn filters_leave_out_the_rest() {
    let server = Server::start();
    assert_eq!(server.publish(ALL_KINDS), 0);
    let all = server.lines("export", &[]);
    let producer = all[0]["enrichment"]["producer"].as_str().unwrap();
    let received = all[0]["enrichment"]["receive_time"].as_str().unwrap();
    let check = |args: &[&str], expected: usize| {
        assert_eq!(server.lines("export", args).len(), expected, "export {args:?}");
        assert_eq!(server.lines("tail", &[args, &["-n", "100"]].concat()).len(), expected, "tail {args:?}");
    };
    check(&[], all.len());
    check(&["--kind", "log"], 1);
    check(&["--kind", "log,video", "--kind", "custom"], 3);
    check(&["--shard", "0"], all.len());
    check(&["--shard", "1"], 0);
    check(&["--producer", producer], all.len());
    check(&["--producer", "00000000000000000000000000000001"], 0);
    check(&["--since", "1h"], all.len());
    check(&["--until", "1h"], 0);
    check(&["--since", received], all.len());
    check(&["--until", received], 0);
}

#[test]
fn the_tail_goes_on() {
    let server = Server::start();
    assert_eq!(server.publish(ALL_KINDS), 0);
    let all = server.lines("export", &[]);
    assert_eq!(server.lines("tail", &["-n", "3"]), all[all.len() - 3..]);
    assert_eq!(server.lines("tail", &["-n", "0"]).len(), 0);
    let mut tail = tickstream(&["events", "tail", "-f", "-n", "1"]);
    let mut tail = tail.arg(server.journal()).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut lines = BufReader::new(tail.stdout.take().expect("a pipe")).lines();
    let mut next = || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next(), all[all.len() - 1]);
    let more = r#"{"platform":"web","event_type":"custom","event_name":"later","custom":{"schema":"x/1"}}"#;
    assert_eq!(server.publish(more), 0);
    assert_eq!(next()["event_name"], "later");
    // Whoever closes the pipe has seen enough.
    drop(lines);
    assert_eq!(server.publish(more), 0);
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = tail.try_wait().expect("a child") {
            break status;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "it goes on without a reader");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(status.success(), "{status}");
}

#[test]
fn dead_letters_can_be_published_again() {
    let server = Server::start();
    let bad = r#"{"event_type":"custom","event_name":"no platform","custom":{"schema":"x/1"}}"#;
    assert_eq!(server.publish(bad), 1, "publish says that a line isn't stored");
    let letters = server.lines("dead-letters", &[]);
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(
        (&letter["code"], &letter["message"]),
        (&"FIELD_MISSING".into(), &"platform: required".into())
    );
    assert_eq!(letter["event"]["event_name"], "no platform");
    assert_eq!(letter["enrichment"]["position"]["index"], 0);
    assert!(server.lines("export", &[]).is_empty());
    assert_eq!(server.lines("dead-letters", &["--kind", "log"]).len(), 0);
    let replayed = String::from_utf8(server.events("dead-letters", &["--replay"]).stdout).unwrap();
    let mended = replayed.replace("{\"event_id\"", "{\"platform\":\"web\",\"event_id\"");
    assert_eq!(server.publish(&mended), 0, "{mended}");
    let stored = server.lines("export", &["--bare"]);
    assert_eq!(stored[0]["event_id"], letter["event"]["event_id"]);
}

#[test]
fn journals_are_verified_beside_their_writer() {
    let server = Server::start();
    assert_eq!(server.publish(ALL_KINDS), 0);
    let output = server.events("verify", &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for part in ["events/000\n", "1 segment, ", " 22 events, ", "sound"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    // One journal, by its own directory.
    assert_eq!(events(&server.journal().join("000"), "export", &[]).stdout.len(), {
        server.events("export", &[]).stdout.len()
    });
    let segment = server.journal().join("000/00000000000000000001.journal");
    let mut bytes = std::fs::read(&segment).unwrap();
    let copy = tempfile::tempdir().unwrap();
    // In the first flush, behind the segment's header.
    bytes[4_096 + 200] ^= 1;
    std::fs::write(copy.path().join("00000000000000000001.journal"), &bytes).unwrap();
    let output = events(copy.path(), "verify", &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("DAMAGED: 00000000000000000001.journal is damaged at offset 4096"), "{said}");
}

/// tests/events/journal-of-version-1/README.md says what this is and how it was made.
#[test]
fn a_journal_that_was_written_by_version_1_exports_verifies_and_goes_on() {
    let mut server = Server::start();
    signal(server.process.pid(), "KILL");
    server.process.wait(Duration::from_secs(20));
    let journal = server.journal();
    std::fs::remove_dir_all(journal.join("000")).unwrap();
    std::fs::create_dir(journal.join("000")).unwrap();
    let segment = std::fs::File::create(journal.join("000/00000000000000000001.journal")).unwrap();
    (&segment).write_all(include_bytes!("../events/journal-of-version-1/segment.bin")).unwrap();
    segment.set_len(4 << 20).unwrap();
    let exported = include_str!("../events/journal-of-version-1/export.jsonl");
    let check = |server: &Server| {
        assert_eq!(server.lines("export", &[])[..24], json_lines(exported)[..]);
        assert_eq!(server.lines("dead-letters", &[]).len(), 1);
        let verified = server.events("verify", &[]);
        assert!(verified.status.success(), "{verified:?}");
    };
    check(&server);
    let server = server.restart();
    assert_eq!(server.publish(ALL_KINDS), 0);
    check(&server);
    assert_eq!(server.lines("export", &[]).len(), 24 + json_lines(ALL_KINDS).len());
}

#[test]
fn what_is_no_journal_is_told() {
    let empty = tempfile::tempdir().unwrap();
    for action in ["export", "tail", "verify", "dead-letters"] {
        for (directory, part) in
            [(empty.path(), "holds no journal"), (Path::new("/no/such"), "can't read /no/such")]
        {
            let output = events(directory, action, &[]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains(part), "{said}");
        }
    }
}

/// A directory with a damaged journal, `000`, and a sound one, `001`, and how many events the sound one has.
fn damaged(server: &Server) -> (tempfile::TempDir, usize) {
    assert_eq!(server.publish(ALL_KINDS), 0);
    assert_eq!(server.publish("{}"), 1, "a dead letter");
    let bytes = std::fs::read(server.journal().join("000/00000000000000000001.journal")).unwrap();
    let copy = tempfile::tempdir().unwrap();
    for (name, is_damaged) in [("000", true), ("001", false)] {
        let mut bytes = bytes.clone();
        // In the first commit group, behind the segment's header.
        bytes[4_096 + 200] ^= u8::from(is_damaged);
        std::fs::create_dir(copy.path().join(name)).unwrap();
        std::fs::write(copy.path().join(name).join("00000000000000000001.journal"), bytes).unwrap();
        // Without it, the last record counts as stored only from the next commit marker on.
        std::fs::copy(server.journal().join("000/synced"), copy.path().join(name).join("synced")).unwrap();
    }
    (copy, json_lines(ALL_KINDS).len())
}

#[test]
fn one_damaged_journal_does_not_hide_the_sound_ones() {
    let server = Server::start();
    let (copy, count) = damaged(&server);
    for (action, args, expected) in [
        ("export", &[][..], count),
        ("export", &["--bare"], count),
        ("tail", &["-n", "100"], count),
        ("tail", &["-n", "2"], 2),
        ("dead-letters", &[], 1),
        ("dead-letters", &["--replay"], 1),
    ] {
        let output = events(copy.path(), action, args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{action} {args:?}: {said}");
        assert_eq!(
            json_lines(std::str::from_utf8(&output.stdout).unwrap()).len(),
            expected,
            "{action} {args:?}"
        );
        assert!(said.contains("/000: ") && !said.contains("/001"), "{action}: {said}");
        assert!(said.contains("1 of 2 journals can't be read to the end"), "{action}: {said}");
    }
    let file = copy.path().join("out.jsonl");
    let output = events(copy.path(), "export", &["--output", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json_lines(&std::fs::read_to_string(&file).unwrap()).len(), count);
    let output = events(copy.path(), "verify", &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(1) && said.contains("DAMAGED") && said.contains("sound"), "{said}");
    // A journal whose directory can't be listed is no reason either.
    let other = tempfile::tempdir().unwrap();
    std::fs::rename(copy.path().join("001"), other.path().join("001")).unwrap();
    std::fs::create_dir(other.path().join("000")).unwrap();
    std::fs::write(other.path().join("000/00000000000000000001.journal"), "no journal").unwrap();
    let output = events(other.path(), "tail", &["-n", "100"]);
    assert_eq!(json_lines(std::str::from_utf8(&output.stdout).unwrap()).len(), count);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_tail_follows_the_sound_journals_and_ends_by_a_signal() {
    let server = Server::start();
    let (copy, count) = damaged(&server);
    // The sound one is the server's own, which goes on.
    std::fs::remove_dir_all(copy.path().join("001")).unwrap();
    std::os::unix::fs::symlink(server.journal().join("000"), copy.path().join("001")).unwrap();
    let journal = server.journal();
    for (name, directory, code) in [("TERM", copy.path(), 1), ("TERM", &journal, 0), ("INT", &journal, 0)] {
        let mut tail = tickstream(&["events", "tail", "-f", "-n", "1000"]);
        let tail = tail.arg(directory).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tail = tail.spawn().expect("the binary runs");
        let mut lines = BufReader::new(tail.stdout.take().expect("a pipe")).lines();
        for _ in 0..count {
            lines.next().unwrap().unwrap();
        }
        let later =
            r#"{"platform":"web","event_type":"custom","event_name":"later","custom":{"schema":"x/1"}}"#;
        assert_eq!(server.publish(later), 0);
        while !lines.next().expect("it goes on").unwrap().contains("later") {}
        signal(tail.id(), name);
        let output = tail.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn an_export_that_is_interrupted_ends_with_a_whole_line_and_an_error() {
    let server = Server::start();
    let event = |at: usize| {
        format!(
            "{{\"platform\":\"web\",\"event_type\":\"custom\",\"event_name\":\"e{at}\",\"custom\":{{\"schema\":\"x/1\"}}}}\n"
        )
    };
    assert_eq!(server.publish(&(0..3_000).map(event).collect::<String>()), 0);
    let mut export = tickstream(&["events", "export"]);
    let export = export.arg(server.journal()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let export = export.spawn().expect("the binary runs");
    // The pipe, of 64 KiB, is filled, and it waits.
    wait_until_held(export.stdout.as_ref().unwrap(), |bytes| bytes > 32 << 10);
    std::thread::sleep(Duration::from_millis(500));
    signal(export.id(), "TERM");
    let output = export.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("interrupted: the output isn't complete"), "{said}");
    let lines = json_lines(std::str::from_utf8(&output.stdout).unwrap()).len();
    assert!((1..3_000).contains(&lines) && output.stdout.ends_with(b"\n"), "{lines}");
}

#[test]
fn no_file_of_a_journal_is_written() {
    let server = Server::start();
    assert_eq!(server.publish(ALL_KINDS), 0);
    let journal = server.journal();
    let segment = journal.join("000/00000000000000000001.journal");
    let at = |name: &str| server.directory.path().join(name);
    std::fs::hard_link(&segment, at("hard")).unwrap();
    std::os::unix::fs::symlink(&segment, at("soft")).unwrap();
    // The server writes a commit marker when nothing has come for a second.
    let before = loop {
        let before = std::fs::read(&segment).unwrap();
        std::thread::sleep(Duration::from_millis(1_500));
        if std::fs::read(&segment).unwrap() == before {
            break before;
        }
    };
    for output in [
        segment.clone(),
        at("hard"),
        at("soft"),
        journal.join("000/lock"),
        journal.join("000/new.journal"),
        journal.join("000/../000/x"),
    ] {
        for directory in [journal.clone(), journal.join("000")] {
            let output = events(&directory, "export", &["--output", output.to_str().unwrap()]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("name another one"), "{said}");
        }
    }
    assert!(!journal.join("000/new.journal").exists());
    let append = std::fs::File::options().append(true).open(&segment).unwrap();
    for action in ["export", "tail", "dead-letters", "verify"] {
        let mut command = tickstream(&["events", action]);
        let output = command.arg(&journal).stdout(append.try_clone().unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{action}");
    }
    assert!(std::fs::read(&segment).unwrap() == before, "the journal is as it was");
    // An earlier export stays until there is another one.
    let earlier = at("earlier.jsonl");
    std::fs::write(&earlier, "precious").unwrap();
    let damaged = at("damaged");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(damaged.join("00000000000000000001.journal"), "no journal at all").unwrap();
    let output = events(&damaged, "export", &["--output", earlier.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&earlier).unwrap(), "precious");
    let args = ["--output", earlier.to_str().unwrap(), "--until", "1970-01-02"];
    assert!(events(&journal, "export", &args).status.success());
    assert_eq!(std::fs::read_to_string(&earlier).unwrap(), "", "there are none");
}

#[test]
fn an_event_and_a_dead_letter_have_positions_of_their_own() {
    let server = Server::start();
    let line = |platform: &str| {
        format!(
            "{{{platform}\"event_type\":\"custom\",\"event_name\":\"a\",\"custom\":{{\"schema\":\"x/1\"}}}}\n"
        )
    };
    // Of one batch: bad, good, bad, good.
    let (good, bad) = (line("\"platform\":\"web\","), line(""));
    assert_eq!(server.publish(&[&bad[..], &good, &bad, &good].concat()), 1);
    let position = |line: &serde_json::Value| line["enrichment"]["position"].to_string();
    let (stored, letters) = (server.lines("export", &[]), server.lines("dead-letters", &[]));
    let positions: std::collections::BTreeSet<_> = stored.iter().chain(&letters).map(position).collect();
    assert_eq!(positions.len(), 4, "{positions:?}");
    let indexes: Vec<_> = letters.iter().map(|letter| letter["enrichment"]["batch_index"].as_u64()).collect();
    assert_eq!(indexes, [Some(0), Some(2)]);
}

#[test]
fn times_are_taken_in_every_form_of_rfc_3339() {
    let server = Server::start();
    assert_eq!(server.publish(ALL_KINDS), 0);
    let all = json_lines(ALL_KINDS).len();
    for (since, expected) in [
        ("2026-11-28T09:00:00+01:00", None),
        ("2026-11-28t08:00:00z", None),
        ("2026-11-28T08:00:00.123456789Z", None),
        ("2026-11-28 08:00:00.5-11:30", None),
        ("2000-01-01T00:00:00+14:00", Some(all)),
        ("2500-01-01T00:00:00-12:00", Some(0)),
    ] {
        let output = server.events("export", &["--since", since]);
        assert!(output.status.success(), "{since}: {}", String::from_utf8_lossy(&output.stderr));
        let found = json_lines(std::str::from_utf8(&output.stdout).unwrap()).len();
        assert!(expected.is_none_or(|expected| expected == found), "{since}: {found}");
        let until = server.events("tail", &["-n", "100", "--until", since]);
        assert_eq!(json_lines(std::str::from_utf8(&until.stdout).unwrap()).len(), all - found, "{since}");
    }
    // Of an event, too.
    let event = r#"{"timestamp":"TIME","platform":"web","event_type":"custom","event_name":"t","custom":{"schema":"x"}}"#;
    for (time, expected) in [
        ("2026-11-21T21:30:00.5+01:30", "2026-11-21T20:00:00.500000000Z"),
        ("2026-11-21t20:00:01.25z", "2026-11-21T20:00:01.250000000Z"),
        ("2026-11-21T15:00:02-05:00", "2026-11-21T20:00:02.000000000Z"),
    ] {
        assert_eq!(server.publish(&event.replace("TIME", time)), 0, "{time}");
        assert_eq!(server.lines("tail", &["-n", "1"])[0]["timestamp"], expected);
    }
}

#[test]
fn texts_of_events_steer_no_terminal() {
    let server = Server::start();
    let event = "{\"platform\":\"w\u{9b}31m\",\"event_type\":\"custom\",\"event_name\":\"a\u{202e}\\u001b[2J\\r\\nb\u{2028}c\",\
                 \"custom\":{\"schema\":\"x/1\"}}\n{\"event_name\":\"d\u{9d}\u{7f}\u{2066}\",\"event_type\":\"custom\",\"custom\":{}}";
    assert_eq!(server.publish(event), 1);
    for (action, args) in [
        ("export", &[][..]),
        ("export", &["--bare"]),
        ("tail", &[]),
        ("dead-letters", &[]),
        ("dead-letters", &["--replay"]),
    ] {
        let text = String::from_utf8(server.events(action, args).stdout).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            !text.lines().any(|line| line.chars().any(tickstream_service::text::steers)),
            "{action}: {text:?}"
        );
    }
    let stored = &server.lines("export", &["--bare"])[0];
    assert_eq!(stored["event_name"], "a\u{202e}\u{1b}[2J\r\nb\u{2028}c");
    assert_eq!(stored["platform"], "w\u{9b}31m");
}

/// Publishes an event as these bytes.
fn publish_bytes(server: &Server, event: &[u8]) {
    let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
    let mut answers = Vec::new();
    let mut decoder = Decoder::new();
    let mut answer = |stream: &mut std::net::TcpStream, wanted| loop {
        let mut buffer = [0; 4_096];
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "the server hangs up");
        let mut input = &buffer[..length];
        while let Some(frame) = decoder.next(&mut input, 1 << 20).unwrap() {
            answers.push(frame.kind);
        }
        if answers.contains(&(wanted as u8)) {
            return;
        }
    };
    stream
        .write_all(&frame::seal(&Auth { username: "ada".into(), password: "s3cret".into(), client: None }))
        .unwrap();
    answer(&mut stream, FrameType::Ack);
    let publish = Publish { producer_id: vec![7; 16], sequence: 1, ..Publish::default() };
    let mut bytes = Vec::new();
    frame::seal_with(&mut bytes, FrameType::Publish as u8, |payload| {
        payload.extend(publish.encode_to_vec());
        payload.extend([0x1a, event.len() as u8]);
        payload.extend(event);
    });
    stream.write_all(&bytes).unwrap();
    answer(&mut stream, FrameType::PublishAck);
}

#[test]
fn fields_of_a_newer_schema_are_not_dropped_without_a_word() {
    let server = Server::start();
    let line = r#"{"event_id":"017f22e2-79b0-7cc3-98c4-dc0c0c07398f","timestamp":1795291200123456789,"platform":"web","event_type":"custom","event_name":"a","custom":{"schema":"x/1"}}"#;
    let event: Event = tickstream_schema::json::parse_event(line).unwrap();
    assert_eq!(server.publish(line), 0);
    for action in ["export", "tail"] {
        assert_eq!(String::from_utf8_lossy(&server.events(action, &[]).stderr), "", "it knows them all");
    }
    let other = Event { event_id: vec![9; 16], ..event };
    // Field 1999 is a text.
    publish_bytes(&server, &[&other.encode_to_vec()[..], &[0xfa, 0x7c, 3], b"new"].concat());
    for (action, args) in [("export", &["--bare"][..]), ("export", &[]), ("tail", &[])] {
        let output = server.events(action, args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success()
                && said.contains("this version of tickstream doesn't know (number 1999; 000, record 2"),
            "{said}"
        );
        assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 2);
    }
}

/// Five events of two users and two services, and a dead letter.
fn varied(server: &Server) {
    let log = |service: &str, level: &str, user: &str, name: &str| {
        format!(
            "{{\"platform\":\"linux\",\"event_type\":\"log\",\"event_name\":\"{name}\",\"user_id\":\"{user}\",\
             \"log\":{{\"service\":\"{service}\",\"level\":\"{level}\",\"message\":\"m\"}}}}\n"
        )
    };
    let custom = "{\"platform\":\"web\",\"event_type\":\"custom\",\"event_name\":\"signed_up\",\"user_id\":\"bob\",\"custom\":{\"schema\":\"x/1\"}}\n";
    let lines = [
        log("pay", "error", "ada", "payment_failed"),
        log("pay", "info", "bob", "payment_done"),
        log("payouts", "warn", "ada", "late"),
        log("search", "info", "ada", "searched"),
        custom.to_owned(),
        custom.replace("\"platform\":\"web\",", ""),
    ];
    assert_eq!(server.publish(&lines.concat()), 1);
}

#[test]
fn events_are_filtered_by_user_name_and_service() {
    let server = Server::start();
    varied(&server);
    for (args, expected) in [
        (&["--user", "ada"][..], 3),
        (&["--user", "ada", "--user", "bob"], 5),
        (&["--user", "a"], 0),
        (&["--name", "payment_*"], 2),
        (&["--service", "pay"], 2),
        (&["--service", "pay*"], 3),
        (&["--service", "*"], 4),
        (&["--service", "pay", "--user", "ada", "--kind", "log"], 1),
    ] {
        assert_eq!(server.lines("export", args).len(), expected, "{args:?}");
        assert_eq!(server.lines("tail", &[args, &["-n", "100"]].concat()).len(), expected, "{args:?}");
        let stats = server.lines("stats", &[args, &["--format", "json"]].concat());
        assert_eq!(stats[0]["events"], expected, "{args:?}");
    }
    assert_eq!(server.lines("dead-letters", &["--user", "bob"]).len(), 1);
    assert_eq!(server.lines("dead-letters", &["--user", "ada"]).len(), 0);
}

#[test]
fn stats_count_by_kind_name_service_user_and_code() {
    let server = Server::start();
    varied(&server);
    let text = String::from_utf8(server.events("stats", &[]).stdout).unwrap();
    assert!(text.starts_with("5 events, 1 dead letter, in 1 batch of 1 journal\nreceived from "), "{text}");
    for part in [
        "\nby kind\n           4  80.0 %  log\n           1  20.0 %  custom\n",
        "\nby service\n           2  50.0 %  pay\n",
        "\nby user\n           3  60.0 %  ada\n           2  40.0 %  bob\n",
        "\nby code of dead letters\n           1 100.0 %  FIELD_MISSING\n",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let (copy, _) = damaged(&server);
    let output = events(copy.path(), "stats", &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("/000: "), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains(" of 1 journal\n"));
}

#[test]
fn text_is_for_people() {
    let server = Server::start();
    varied(&server);
    let lines = |action: &str, args: &[&str]| {
        let args = [args, &["--format", "text"]].concat();
        String::from_utf8(server.events(action, &args).stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let tail = lines("tail", &["-n", "5"]);
    assert!(
        tail[0]
            .ends_with("Z log payment_failed level=error message=m service=pay platform=linux user_id=ada"),
        "{tail:?}"
    );
    assert_eq!(lines("export", &[]), tail);
    assert!(!tail.concat().contains('\x1b'), "a pipe gets no colours");
    let letters = lines("dead-letters", &[]);
    assert!(
        letters[0].contains("Z FIELD_MISSING \"platform: required\" custom signed_up schema=x/1 user_id=bob"),
        "{letters:?}"
    );
}
