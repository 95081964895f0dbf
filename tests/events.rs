//! `tickstream events` over what a running server has collected from `tickstream publish`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// One event of each kind.
const ALL_KINDS: &str = include_str!("events/all-kinds.jsonl");

fn tickstream(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickstream"));
    command.args(args).env_clear().env("STREAM_USER", "ada").env("STREAM_PASS", "s3cret");
    command
}

/// A server that collects events.
struct Server {
    child: Child,
    address: String,
    directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"))
    }

    /// A server in the directory of this one, which has ended.
    fn restart(mut self) -> Self {
        Self::start_in(std::mem::replace(&mut self.directory, tempfile::tempdir().expect("a directory")))
    }

    fn start_in(directory: tempfile::TempDir) -> Self {
        let journal = directory.path().join("events");
        let serve =
            ["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--drain-seconds", "1", "--journal"];
        let mut command = tickstream(&serve);
        // The events of the file were made some time ago.
        command.arg(&journal).args(["--journal-segment-mib", "4", "--event-age-max-days", "36500"]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        let said = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).expect("a line of the log") > 0, "it doesn't serve");
            let said: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
            if said["message"] == "serving" {
                break said;
            }
        };
        // Goes on reading, so that the server can go on logging.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { child, address: said["address"].as_str().expect("an address").to_owned(), directory }
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

    /// What is printed, line by line.
    fn lines(&self, action: &str, args: &[&str]) -> Vec<serde_json::Value> {
        let output = self.events(action, args);
        assert!(output.status.success(), "{action} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        json_lines(std::str::from_utf8(&output.stdout).expect("text"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
    let _ = server.child.kill();
    let _ = server.child.wait();
    let journal = server.journal();
    std::fs::remove_dir_all(journal.join("000")).unwrap();
    std::fs::create_dir(journal.join("000")).unwrap();
    let segment = std::fs::File::create(journal.join("000/00000000000000000001.journal")).unwrap();
    (&segment).write_all(include_bytes!("events/journal-of-version-1/segment.bin")).unwrap();
    segment.set_len(4 << 20).unwrap();
    let exported = include_str!("events/journal-of-version-1/export.jsonl");
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
    assert_eq!(server.lines("export", &[]).len(), 24 + 8);
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
