//! `tickstream publish` against a server that the tests play by hand, and against the real one.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tickstream_client::json::{parse_event, write_event};
use tickstream_journal::{FileDirectory, Reader};
use tickstream_schema::events::{Codec, Event, EventBatch, Publish, PublishAck, Rejected, StoredBatch};
use tickstream_wire::messages::{Ack, Message, MsgType};
use tickstream_wire::{Decoder, FrameType, frame};

const ALL_KINDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/events/all-kinds.jsonl");

/// What the server has been through. It rejects events that are called "bad", takes those that are called "later" at
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_tickstream"));
        command.args(["publish", "--addr", &self.address]).args(args);
        command.env_clear().env("STREAM_USER", "ada").env("STREAM_PASS", "s3cret");
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
                    match stored.lock().unwrap().take(publish) {
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
    fn take(&mut self, publish: Publish) -> Option<PublishAck> {
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
            let verdict = |code: &str, retryable| Rejected {
                index,
                code: code.into(),
                message: "it is so".into(),
                retryable,
            };
            match &event.event_name[..] {
                "bad" => ack.rejected.push(verdict("FIELD_MISSING", false)),
                "later" if is_first(&mut self.seen_later) => ack.rejected.push(verdict("STORAGE_FULL", true)),
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
struct RealServer {
    child: Child,
    address: String,
}

impl RealServer {
    fn start(journal: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tickstream"));
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--shards",
            "1",
            "--drain-seconds",
            "1",
            "--journal",
        ]);
        command.arg(journal).env_clear().env("STREAM_USER", "ada").env("STREAM_PASS", "s3cret");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line: serde_json::Value = serde_json::from_str(&log.next().unwrap().unwrap()).unwrap();
            if line["message"] == "serving" {
                break line["address"].as_str().unwrap().to_owned();
            }
        };
        // Goes on reading, so that the server can go on logging.
        thread::spawn(move || log.for_each(drop));
        Self { child, address }
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A line for each name.
fn lines(names: &[&str]) -> String {
    names.iter().map(|name| format!("{{\"event_name\":\"{name}\"}}\n")).collect()
}

fn check(output: &Output, code: i32, stderr_has: &[&str]) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}{stdout}");
    for part in stderr_has {
        assert!(stderr.contains(part), "it doesn't say {part:?}: {stderr}");
    }
    stdout
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
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
    let server = RealServer::start(dir.path());
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
        command.args(["publish", "--codec", "zstd", "--addr", &server.address]).arg(&file);
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
        stdout.starts_with("4 events: 3 stored, 0 duplicates, 1 rejected, 0 without an answer; 1 bad lines;"),
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
    // Its lines wait for company; which they won't get.
    thread::sleep(Duration::from_millis(500));
    interrupt(&child);
    let stdout = check(&child.wait_with_output().unwrap(), 0, &["waiting for the answers that are owed"]);
    assert!(stdout.starts_with("2 events: 2 stored"), "{stdout}");

    let mut child = server.command(&["--batch", "1"]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines(&["c", "never"]).as_bytes()).unwrap();
    wait_for(|| server.stored.lock().unwrap().batches.len() == 3);
    interrupt(&child);
    thread::sleep(Duration::from_millis(300));
    interrupt(&child);
    let said = "1 events have no answer, the first of them line 2; 1 were sent and may be stored";
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
