//! `tickstream publish` against a server that the tests play by hand, and against the real one.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tickstream_journal::{FileDirectory, Reader};
use tickstream_schema::events::{Codec, Event, EventBatch, Publish, PublishAck, Rejected, StoredBatch};
use tickstream_schema::json::{parse_event, write_event};
use tickstream_wire::messages::{Ack, Message, MsgType};
use tickstream_wire::{Decoder, FrameType, frame};

use crate::check;
use crate::pipe::{held, wait_until_held};
use crate::process::{Process, binary, signal, tickstream};

const ALL_KINDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/events/all-kinds.jsonl");

/// State of the server. It rejects events that are called "bad", takes those that are called "later" at
/// their second coming, and says nothing to a batch with one that is called "never".
#[derive(Default)]
struct Stored {
    events: Vec<Event>,
    ids: BTreeSet<Vec<u8>>,
    seen_later: BTreeSet<Vec<u8>>,
    batches: Vec<(u64, i32, usize)>,
    producers: BTreeSet<Vec<u8>>,
    connections: u32,
}

struct Server {
    address: String,
    stored: Arc<Mutex<Stored>>,
}

#[derive(Clone, Copy, Default)]
struct Manners {
    is_off: bool,
    /// The first connection is cut at its second batch, unanswered.
    cuts: bool,
    refuses: bool,
    /// Its messages have control characters in them.
    is_hostile: bool,
}

impl Server {
    fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stored = Arc::<Mutex<Stored>>::default();
        let shared = stored.clone();
        // It ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, stored) = (stream.unwrap(), shared.clone());
                thread::spawn(move || serve(stream, &stored, manners));
            }
        });
        Self { address, stored }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = binary();
        command.args(["publish", "--addr", &self.address]).args(args);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("STREAM_USER", "ada")
            .env("STREAM_PASS", "s3cret");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it with this standard input.
    fn publish(&self, args: &[&str], input: &str) -> Output {
        let mut child = self.command(args).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.stored.lock().unwrap().events.iter().map(|event| event.event_name.clone()).collect()
    }
}

fn serve(mut stream: TcpStream, stored: &Mutex<Stored>, manners: Manners) {
    let connection = {
        let stored = &mut stored.lock().unwrap();
        stored.connections += 1;
        stored.connections
    };
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 1 << 16];
    let mut published = 0;
    loop {
        let Ok(len @ 1..) = stream.read(&mut buffer) else { return };
        let mut input = &buffer[..len];
        while let Some(received) = decoder.next(&mut input, 1 << 20).unwrap() {
            let answer = match FrameType::from_byte(received.kind).unwrap() {
                FrameType::Auth if manners.refuses => {
                    let code = "AUTH_FAILED".to_owned();
                    frame::seal(&tickstream_wire::messages::ErrorMsg { code, ..Default::default() })
                }
                FrameType::Auth => frame::seal(&limits(manners.is_off)),
                FrameType::Heartbeat => frame::heartbeat(),
                FrameType::Publish => {
                    published += 1;
                    if manners.cuts && connection == 1 && published == 2 {
                        return;
                    }
                    let publish = Publish::decode(received.payload).unwrap();
                    match stored.lock().unwrap().take(publish, manners.is_hostile) {
                        Some(ack) => frame::seal_as(FrameType::PublishAck, &ack),
                        None => continue,
                    }
                }
                other => panic!("{other:?}"),
            };
            stream.write_all(&answer).unwrap();
            if manners.refuses {
                return;
            }
        }
    }
}

fn limits(is_off: bool) -> Ack {
    let credits = if is_off { 0 } else { 4 };
    Ack {
        acked_type: MsgType::Auth.into(),
        publish_credits: credits,
        max_publish_size: 1 << 19,
        ..Ack::default()
    }
}

impl Stored {
    fn take(&mut self, publish: Publish, is_hostile: bool) -> Option<PublishAck> {
        let Publish { producer_id, sequence, events, codec, compressed } = publish;
        let events = match Codec::try_from(codec).unwrap() {
            Codec::None => events,
            Codec::Lz4 => unpack(&lz4_flex::block::decompress_size_prepended(&compressed).unwrap()),
            Codec::Zstd => {
                let mut batch = vec![0; 1 << 20];
                let len = ruzstd::decoding::FrameDecoder::new().decode_all(&compressed, &mut batch).unwrap();
                unpack(&batch[..len])
            }
        };
        self.batches.push((sequence, codec, events.len()));
        self.producers.insert(producer_id.clone());
        if events.iter().any(|event| event.event_name == "never") {
            return None;
        }
        let mut ack = PublishAck { sequence, producer_id, ..PublishAck::default() };
        for (index, event) in (0..).zip(events) {
            let is_first = |seen: &mut BTreeSet<_>| seen.insert(event.event_id.clone());
            let rejection = |code: &str, retryable| Rejected {
                index,
                code: code.into(),
                message: if is_hostile { "it is\x1b[2J\r\nerror: forged\u{202e}" } else { "it is so" }.into(),
                retryable,
            };
            match &event.event_name[..] {
                "bad" => ack.rejected.push(rejection("FIELD_MISSING", false)),
                "later" if is_first(&mut self.seen_later) => {
                    ack.rejected.push(rejection("STORAGE_FULL", true));
                }
                _ if is_first(&mut self.ids) => {
                    ack.accepted += 1;
                    self.events.push(event);
                }
                _ => ack.duplicates += 1,
            }
        }
        Some(ack)
    }
}

fn unpack(batch: &[u8]) -> Vec<Event> {
    EventBatch::decode(batch).unwrap().events
}

/// The real server, with a journal.
fn real_server(journal: &Path) -> Process {
    let mut command = tickstream(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--shards",
        "1",
        "--drain-seconds",
        "1",
        "--journal",
    ]);
    Process::start(command.arg(journal))
}

/// A line for each name.
fn lines(names: &[&str]) -> String {
    names.iter().map(|name| format!("{{\"event_name\":\"{name}\"}}\n")).collect()
}

/// Sends a signal, and again once the command has told that it took the first: two at once would be one.
fn signal_twice(child: &Child, name: &str) {
    let said = child.stderr.as_ref().expect("a pipe");
    let before = held(said);
    signal(child.id(), name);
    wait_until_held(said, |bytes| bytes > before);
    signal(child.id(), name);
}

fn wait_for(what: impl Fn() -> bool) {
    let since = Instant::now();
    while !what() {
        assert!(since.elapsed() < Duration::from_secs(20), "it should have happened by now");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_field_of_every_kind_arrives() {
    let lines = std::fs::read_to_string(ALL_KINDS).unwrap();
    let events: Vec<Event> = lines.lines().map(|line| parse_event(line).unwrap()).collect();
    for codec in ["none", "lz4", "zstd"] {
        let server = Server::start(Manners::default());
        let output = server.command(&["--codec", codec, "--batch", "22", ALL_KINDS]).output().unwrap();
        let stdout = check(&output, 0, &[]);
        assert!(
            stdout.starts_with(
                "22 events: 22 stored, 0 duplicates, 0 rejected, 0 without an answer; 0 bad lines;"
            ),
            "{stdout}"
        );
        let stored = server.stored.lock().unwrap();
        assert_eq!(stored.events, events);
        assert_eq!(
            stored.batches.iter().map(|(_, codec, _)| *codec != 0).collect::<Vec<_>>(),
            [codec != "none"]
        );
    }
    // Once more to the same server: all are duplicates, which is fine.
    let server = Server::start(Manners::default());
    check(&server.publish(&["--json"], &lines), 0, &[]);
    let stdout = check(&server.publish(&["--json", "-"], &lines), 0, &[]);
    let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&summary["accepted"], &summary["duplicates"]), (&0.into(), &22.into()));
}

#[test]
fn the_real_server_stores_every_field_of_every_kind_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = real_server(dir.path());
    // It takes no events that are older than a month.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let examples = std::fs::read_to_string(ALL_KINDS).unwrap();
    let events: Vec<Event> =
        examples.lines().map(|line| Event { timestamp: now, ..parse_event(line).unwrap() }).collect();
    let mut lines = Vec::new();
    for event in &events {
        write_event(event, &mut lines);
        lines.push(b'\n');
    }
    let file = dir.path().join("events.jsonl");
    std::fs::write(&file, &lines).unwrap();
    for expected in ["22 events: 22 stored, 0 duplicates", "22 events: 0 stored, 22 duplicates"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tickstream"));
        command.args(["publish", "--codec", "zstd", "--addr", server.started("address")]).arg(&file);
        command.env_clear().env("STREAM_USER", "ada").env("STREAM_PASS", "s3cret");
        let stdout = check(&command.output().unwrap(), 0, &[]);
        assert!(stdout.starts_with(expected), "{stdout}");
    }
    drop(server);

    let mut journal = Reader::new(FileDirectory::open(dir.path().join("000")), 1);
    let mut stored = Vec::new();
    while let Some(record) = journal.next_record().unwrap() {
        stored.extend(StoredBatch::decode(record.payload).unwrap().events);
    }
    assert_eq!(stored, events);
}

#[test]
fn what_is_not_stored_is_named_by_its_line_and_kept() {
    let server = Server::start(Manners::default());
    let dir = tempfile::tempdir().unwrap();
    let letters = dir.path().join("letters.jsonl");
    let input = format!("{}\n{{\"evnt\":1}}\n{}", lines(&["a", "bad", "later"]), lines(&["b"]));
    let args = ["--dead-letters", letters.to_str().unwrap(), "--batch", "2", "--linger", "10ms"];
    let output = server.publish(&args, &input);
    let said = [
        "line 2: FIELD_MISSING: it is so",
        "line 5: column 7: evnt: no such key; there are event_id",
        "the server can't take events at present: STORAGE_FULL (it is so); trying again",
    ];
    let stdout = check(&output, 1, &said);
    assert!(
        stdout.starts_with("4 events: 3 stored, 0 duplicates, 1 rejected, 0 without an answer; 1 bad line;"),
        "{stdout}"
    );
    let mut names = server.names();
    names.sort();
    assert_eq!(names, ["a", "b", "later"]);
    let letters = std::fs::read_to_string(letters).unwrap();
    let mut letters: Vec<serde_json::Value> =
        letters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    letters.sort_by_key(|letter| letter["line"].as_u64());
    assert_eq!((&letters[0]["line"], &letters[0]["code"]), (&2.into(), &"FIELD_MISSING".into()));
    assert_eq!(parse_event(&letters[0]["event"].to_string()).unwrap().event_name, "bad");
    assert_eq!((&letters[1]["code"], &letters[1]["text"]), (&"BAD_LINE".into(), &"{\"evnt\":1}".into()));
    assert_eq!(letters.len(), 2);
}

#[test]
fn only_so_many_lines_are_named() {
    let server = Server::start(Manners::default());
    let output = server.publish(&[], &"{\n".repeat(200));
    check(&output, 1, &["line 50: ", "further lines are only counted"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 51);
}

#[test]
fn strict_stops_at_the_first_bad_line_and_keeps_what_was_before() {
    let server = Server::start(Manners::default());
    let input = format!("{}{{\n{}", lines(&["a"]), lines(&["b"]));
    check(&server.publish(&["--strict"], &input), 1, &["line 2: column 1: EOF"]);
    assert_eq!(server.names(), ["a"]);
}

#[test]
fn complete_only_makes_no_ids() {
    let server = Server::start(Manners::default());
    check(&server.publish(&["--complete-only"], &lines(&["a"])), 1, &["line 1: no event_id"]);
    assert!(server.names().is_empty());
}

#[test]
fn a_lost_server_is_mentioned_and_nothing_lost_or_doubled() {
    let server = Server::start(Manners { cuts: true, ..Manners::default() });
    let names: Vec<String> = (0..1000).map(|name| name.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let producer = ["--producer-id", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "--first-sequence", "5"];
    let output = server.publish(&[&["--batch", "10"], &producer[..]].concat(), &lines(&names));
    check(&output, 0, &["no server: ", "connected to ", "batches go again"]);
    assert_eq!(server.names(), names);
    let stored = server.stored.lock().unwrap();
    assert_eq!(stored.producers.first().unwrap()[..2], [0x01, 0x7f]);
    assert_eq!((stored.batches[0].0, stored.batches.last().unwrap().0, stored.connections), (5, 104, 2));
}

#[test]
fn an_interrupt_waits_for_what_is_owed_and_says_what_is_left() {
    let server = Server::start(Manners::default());
    let mut child = server.command(&["--linger", "1h"]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines(&["a", "b"]).as_bytes()).unwrap();
    // Its lines linger for others, which don't come.
    wait_until_held(&input, |bytes| bytes == 0);
    thread::sleep(Duration::from_millis(500));
    signal(child.id(), "INT");
    let stdout = check(&child.wait_with_output().unwrap(), 0, &["waiting for the answers to what was read"]);
    assert!(stdout.starts_with("2 events: 2 stored"), "{stdout}");

    let mut child = server.command(&["--batch", "1"]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines(&["c", "never"]).as_bytes()).unwrap();
    wait_for(|| server.stored.lock().unwrap().batches.len() == 3);
    signal_twice(&child, "INT");
    let said = "1 event has no answer, the first of them line 2; 1 was sent and may be stored";
    check(&child.wait_with_output().unwrap(), 1, &[said]);
}

#[test]
fn refusals_have_a_code_of_their_own() {
    let refusing = Server::start(Manners { refuses: true, ..Manners::default() });
    check(&refusing.publish(&[], ""), 3, &["AUTH_FAILED"]);
    let off = Server::start(Manners { is_off: true, ..Manners::default() });
    check(&off.publish(&[], ""), 3, &["event collection is off at 127.0.0.1:"]);
    check(&off.command(&["no-such-file"]).output().unwrap(), 1, &["can't read no-such-file"]);
}

/// Lines of a file.
fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_signal_publishes_what_was_read() {
    for name in ["INT", "TERM", "HUP"] {
        let server = Server::start(Manners::default());
        let mut child = server.command(&["--linger", "1h", "--batch", "2"]).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(lines(&["a", "b", "c", "d", "e"]).as_bytes()).unwrap();
        wait_for(|| server.stored.lock().unwrap().events.len() == 4);
        signal(child.id(), name);
        let said = ["waiting for the answers to what was read", "stopped after line 5"];
        let stdout = check(&child.wait_with_output().unwrap(), 0, &said);
        assert!(stdout.starts_with("5 events: 5 stored"), "{name}: {stdout}");
        assert_eq!(server.names(), ["a", "b", "c", "d", "e"], "{name}");
        drop(input);
    }
}

#[test]
fn nothing_that_was_read_is_lost_without_a_word() {
    // The server takes four batches without an answer: the others wait, and lines that were read behind them.
    let server = Server::start(Manners::default());
    let dir = tempfile::tempdir().unwrap();
    let letters = dir.path().join("letters.jsonl");
    let args = ["--batch", "1", "--dead-letters", letters.to_str().unwrap()];
    let mut child = server.command(&args).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // More than it takes; what it leaves in the pipe isn't its business.
    let writer = thread::spawn(move || drop(input.write_all(lines(&vec!["never"; 20_000]).as_bytes())));
    wait_for(|| server.stored.lock().unwrap().batches.len() == 4);
    signal_twice(&child, "TERM");
    check(
        &child.wait_with_output().unwrap(),
        1,
        &["events have no answer", "; 4 were sent and may be stored"],
    );
    let letters = json_lines(&letters);
    let numbers: BTreeSet<_> = letters.iter().map(|letter| letter["line"].as_u64().unwrap()).collect();
    // All that left the pipe, without a hole.
    let most = *numbers.last().unwrap();
    assert!(
        letters
            .iter()
            .all(|letter| letter["code"] == "UNANSWERED" && letter["event"]["event_name"] == "never")
    );
    assert_eq!(numbers.len() as u64, most, "{most}");
    assert!(most > 100, "{most}");
    writer.join().unwrap();
}

#[test]
fn what_is_named_as_refused_is_on_disk() {
    let server = Server::start(Manners::default());
    let dir = tempfile::tempdir().unwrap();
    let letters = dir.path().join("letters.jsonl");
    let args = ["--batch", "1", "--dead-letters", letters.to_str().unwrap()];
    let mut child = server.command(&args).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    for (line, part) in [("{", "line 1: "), ("{\"event_name\":\"bad\"}", "line 2: FIELD_MISSING")] {
        writeln!(input, "{line}").unwrap();
        let said = said.next().unwrap().unwrap();
        assert!(said.starts_with(part), "{said}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let codes: Vec<_> = json_lines(&letters).into_iter().map(|letter| letter["code"].clone()).collect();
    assert_eq!(codes, ["BAD_LINE", "FIELD_MISSING"]);
}

#[test]
fn no_file_that_is_read_is_written() {
    let server = Server::start(Manners::default());
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let content = "{\n".repeat(3);
    let input = at("in");
    std::fs::write(&input, &content).unwrap();
    std::fs::write(at("pass"), "s3cret").unwrap();
    std::fs::hard_link(&input, at("hard")).unwrap();
    std::os::unix::fs::symlink(&input, at("soft")).unwrap();
    let shell = |command: &str| {
        let mut shell = Command::new("sh");
        let binary = env!("CARGO_BIN_EXE_tickstream");
        shell.args(["-c", &format!("cd {} && {binary} publish --addr {} {command}", at(""), server.address)]);
        shell.env_clear().env("STREAM_USER", "ada").env("STREAM_PASS", "s3cret").output().unwrap()
    };
    for command in [
        "--dead-letters in in",
        "--dead-letters ./in in",
        "--dead-letters hard in",
        "--dead-letters soft in",
        "--dead-letters in soft",
        "--dead-letters in < in",
        "--dead-letters hard - < in",
        "--dead-letters in /dev/stdin < in",
        "--dead-letters /dev/stdin < in",
        "--dead-letters /dev/fd/7 in 7>> in",
        "--dead-letters /dev/stdout in >> in",
        "in >> in",
        "< in >> hard",
    ] {
        let output = shell(command);
        check(&output, 1, &["the same file as", "which is read"]);
        assert_eq!(std::fs::read_to_string(&input).unwrap(), content, "{command}");
    }
    let mut command =
        server.command(&["--stream-pass-file", &at("pass"), "--dead-letters", &at("pass"), &input]);
    check(&command.env_remove("STREAM_PASS").output().unwrap(), 1, &["the same file as"]);
    assert_eq!(std::fs::read_to_string(at("pass")).unwrap(), "s3cret");
}

#[test]
fn dead_letters_are_made_when_there_are_some() {
    let server = Server::start(Manners::default());
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    std::fs::write(&old, "earlier").unwrap();
    for path in [&old, &new] {
        check(&server.publish(&["--dead-letters", path.to_str().unwrap()], &lines(&["a"])), 0, &[]);
    }
    // Nor by a command that can't begin.
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let unreachable = Server { address: nowhere, stored: Arc::default() };
    check(&unreachable.publish(&["--dead-letters", old.to_str().unwrap()], ""), 1, &[]);
    assert_eq!((std::fs::read_to_string(&old).unwrap(), new.exists()), ("earlier".to_owned(), false));
    check(&server.publish(&["--dead-letters", old.to_str().unwrap()], "{\n"), 1, &[]);
    assert_eq!(json_lines(&old).len(), 1);
    let absent = dir.path().join("no/such");
    check(
        &server.publish(&["--dead-letters", absent.to_str().unwrap()], ""),
        1,
        &["can't write dead letters to "],
    );
}

#[test]
fn dead_letters_that_cannot_be_written_end_it() {
    let server = Server::start(Manners::default());
    let output = server.publish(&["--dead-letters", "/dev/full"], &"{\n".repeat(10_000));
    check(
        &output,
        1,
        &[
            "line 1: column 1: EOF while parsing an object (not in the dead letters)",
            "can't write dead letters to /dev/full: No space",
        ],
    );
    assert!(output.stderr.iter().filter(|byte| **byte == b'\n').count() < 10);
}

#[test]
fn verdicts_and_lines_steer_no_terminal() {
    let server = Server::start(Manners { is_hostile: true, ..Manners::default() });
    let dir = tempfile::tempdir().unwrap();
    let letters = dir.path().join("letters.jsonl");
    let bad_key = "{\"a\\u001b[2J\\nerror: forged\\u202e\":1}\n{\"event_type\":\"\u{9b}31m\u{2066}\"}\n\u{9b}\u{202e}\n";
    let input = format!("{}{bad_key}", lines(&["bad"]));
    let args = ["--batch", "1", "--dead-letters", letters.to_str().unwrap()];
    let output = server.publish(&args, &input);
    check(
        &output,
        1,
        &["line 1: FIELD_MISSING: it is\\u{1b}[2J\\r\\nerror: forged\\u{202e}", "line 2: ", "line 4: "],
    );
    let kept = std::fs::read_to_string(&letters).unwrap();
    for text in [String::from_utf8(output.stderr).unwrap(), kept] {
        assert!(!text.lines().any(|line| line.chars().any(tickstream_service::text::steers)), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("error: forged")), "{text:?}");
    }
    assert_eq!(json_lines(&letters).len(), 4);
}

#[test]
fn what_is_empty_or_zero_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let server = real_server(dir.path());
    let publish = |line: &str| {
        let file = dir.path().join("line.jsonl");
        std::fs::write(&file, line).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tickstream"));
        command.args(["publish", "--addr", server.started("address")]).arg(&file);
        command.env_clear().env("STREAM_USER", "ada").env("STREAM_PASS", "s3cret");
        command.output().unwrap()
    };
    let event = r#""platform":"web","event_type":"log","event_name":"a""#;
    let log = r#""log":{"service":"s","level":"info","message":"m","context":{"user_id":"","trace_id":""}}"#;
    // Optional, so it may be empty.
    check(&publish(&format!("{{{event},{log},\"user_id\":\"\"}}")), 0, &[]);
    for (key, problem) in [("\"timestamp\":0", "timestamp: "), ("\"event_id\":\"\"", "event_id: ")] {
        check(&publish(&format!("{{{event},{log},{key}}}")), 1, &["line 1: column ", problem]);
    }
    check(
        &publish(&format!("{{{event},{log},\"timestamp\":\"1970-01-01T00:00:00Z\"}}")),
        1,
        &["timestamp: "],
    );
    let late = format!("{{{event},{log},\"event_id\":\"00000000-0000-0000-0000-000000000000\"}}");
    check(&publish(&late), 1, &["line 1: INVALID_VALUE: event_id"]);
}

#[test]
fn a_line_of_a_mebibyte_is_taken() {
    let server = Server::start(Manners::default());
    let line = |bytes: usize| format!("{{\"event_name\":\"a\"{}}}\n", " ".repeat(bytes - 18));
    assert_eq!(line(1 << 20).len(), (1 << 20) + 1);
    check(&server.publish(&[], &line(1 << 20)), 0, &[]);
    check(&server.publish(&[], &line((1 << 20) + 1)), 1, &["line 1: longer than 1048576 bytes"]);
}
