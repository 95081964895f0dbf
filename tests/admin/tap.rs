//! The live tap: `events tail --admin` against the real server.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use tickstream_schema::events::{Body, Event, EventType, Log, LogLevel, Publish};
use tickstream_wire::{FrameType, frame};

use crate::operator::{check_fails, said};
use crate::process::signal;
use crate::support::{Client, Server, TOKEN};

fn log(number: u64, service: &str, name: &str) -> Event {
    Event {
        event_id: [[3; 8], number.to_be_bytes()].concat(),
        timestamp: 1_700_000_000_000_000_000,
        platform: "linux".to_owned(),
        event_type: EventType::Log.into(),
        event_name: name.to_owned(),
        user_id: Some(format!("user-{number}")),
        body: Some(Body::Log(Log {
            service: service.to_owned(),
            level: LogLevel::Info.into(),
            message: "hello\u{1b}[2J".to_owned(),
            ..Log::default()
        })),
        ..Event::default()
    }
}

struct Site {
    server: Server,
    client: Client,
    sequence: u64,
    _journal: tempfile::TempDir,
}

impl Site {
    fn new(token: bool) -> Self {
        let journal = tempfile::tempdir().unwrap();
        let path = journal.path().to_str().unwrap();
        let args = ["--journal", path, "--journal-segment-mib", "4", "--event-age-max-days", "36500"];
        let server = Server::start_with(&args, &[], token);
        let mut client = Client::connect(&server);
        client.authenticate("s3cret");
        Self { server, client, sequence: 0, _journal: journal }
    }

    fn publish(&mut self, events: Vec<Event>) {
        self.sequence += 1;
        let (sequence, count) = (self.sequence, events.len() as f64);
        let before = self.server.metrics().get("tickstream_events_accepted_total{shard=\"0\"}").unwrap();
        let publish = Publish { producer_id: vec![9; 16], sequence, events, ..Publish::default() };
        self.client.send(&frame::seal_as(FrameType::Publish, &publish));
        self.server.wait_for_metric("tickstream_events_accepted_total{shard=\"0\"}", before + count);
    }

    fn admin(&self) -> String {
        format!("unix:{}", self.server.socket.display())
    }
}

/// A tap that runs, until this is dropped.
struct Tap {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Tap {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tickstream"));
        command.args(["events", "tail"]).args(args).env_clear().stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the tap has ended");
        line
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn name(line: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
    value["event_name"].as_str().unwrap().to_owned()
}

#[test]
fn it_begins_with_the_last_events_and_goes_on_with_those_that_come() {
    let mut site = Site::new(true);
    for number in 0..30 {
        site.publish(vec![log(number, "pay", &format!("n{number}"))]);
    }
    let mut tap = Tap::start(&["--admin", &site.admin(), "-n", "3"]);
    assert_eq!([tap.line(), tap.line(), tap.line()].map(|line| name(&line)), ["n27", "n28", "n29"]);
    site.publish(vec![log(100, "pay", "new"), log(101, "pay", "newer")]);
    let line = tap.line();
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (value["event_name"].as_str(), value["enrichment"]["user"].as_str()),
        (Some("new"), Some("ada"))
    );
    assert_eq!(name(&tap.line()), "newer");
    assert!(!line.trim_end().chars().any(tickstream_service::text::steers), "{line:?}");
    // SIGINT ends it as it ends the local one.
    signal(tap.child.id(), "INT");
    let mut rest = String::new();
    tap.lines.read_to_string(&mut rest).unwrap();
    assert_eq!((tap.child.wait().unwrap().code(), rest.as_str()), (Some(0), ""));
}

#[test]
fn it_has_the_filters_and_forms_of_the_local_one() {
    let mut site = Site::new(true);
    site.publish(vec![log(1, "pay", "a"), log(2, "shop", "b"), log(3, "pay-api", "c")]);
    let admin = site.admin();
    let names = |args: &[&str]| -> Vec<String> {
        let args = [&["events", "tail", "--no-follow", "--admin", &admin], args].concat();
        said(&args).lines().map(name).collect()
    };
    assert_eq!(names(&[]), ["a", "b", "c"]);
    assert_eq!(names(&["--service", "pay*"]), ["a", "c"]);
    assert_eq!(names(&["--name", "b", "--name", "c"]), ["b", "c"]);
    assert_eq!(names(&["--user", "user-2"]), ["b"]);
    assert_eq!(names(&["--kind", "log"]).len(), 3);
    assert_eq!(names(&["--kind", "video"]).len(), 0);
    assert_eq!(names(&["-n", "1"]), ["c"]);
    let text = said(&["events", "tail", "--no-follow", "--admin", &admin, "--format", "text", "--name", "a"]);
    assert!(
        text.contains(" log a ") && text.contains("service=pay") && text.contains("\\u001b[2J"),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "{text:?}");
    check_fails(&["events", "tail", "--admin", &admin, "--since", "1h"], 2, &["--since"]);
    check_fails(&["events", "tail", "--admin", &admin, "/tmp"], 2, &["cannot be used with"]);
    check_fails(&["events", "tail"], 2, &["required"]);
}

#[test]
fn it_needs_the_token_on_tcp() {
    let site = Site::new(true);
    let admin = site.server.admin.to_string();
    check_fails(
        &["events", "tail", "--no-follow", "--admin", &admin],
        3,
        &["events need the header", "--admin-token-file"],
    );
    assert_eq!(site.server.get("/events").status, 403);
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    said(&[
        "events",
        "tail",
        "--no-follow",
        "--admin",
        &admin,
        "--admin-token-file",
        token.to_str().unwrap(),
    ]);
    let open = Site::new(false);
    let answer = open.server.get("/events");
    assert_eq!((answer.status, answer.body.contains("unix socket only")), (403, true), "{}", answer.body);
}

#[test]
fn without_event_collection_it_says_so() {
    let server = Server::start(&[]);
    let admin = format!("unix:{}", server.socket.display());
    check_fails(&["events", "tail", "--no-follow", "--admin", &admin], 1, &["collects no events"]);
}

#[test]
fn a_tap_that_nobody_knows_is_gone_and_taps_are_few() {
    let site = Site::new(true);
    assert_eq!(site.server.get_by_unix("/events?tap=0").status, 410);
    // At once: each answer without events takes some seconds.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(site.server.get_by_unix("/events").status, 200));
        }
    });
    let answer = site.server.get_by_unix("/events");
    assert_eq!((answer.status, answer.body.contains("8 taps are open")), (503, true), "{}", answer.body);
    assert_eq!(site.server.get_by_unix("/events?tap=0&lines=x").status, 400);
}
