//! Users of a file: their secrets, roles and limits, and what a reload does to them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tickstream_schema::events::{Body, CustomEvent, Event, EventType, Publish};
use tickstream_wire::messages::{Auth, Mode, Subscribe};
use tickstream_wire::{FrameType, frame};

use crate::operator::{check_fails, said, tickstream};
use crate::reload::upgraded;
use crate::support::{Client, Metrics, PATIENCE, Server, TOKEN};

struct Users {
    directory: tempfile::TempDir,
}

impl Users {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("users.toml")
    }

    /// Adds a user by the command, and answers with its secret.
    fn add(&self, args: &[&str]) -> String {
        let output = tickstream(&[&["user-secret"], args].concat());
        let (entry, said) = (output.stdout, String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{said}");
        let mut all = std::fs::read(self.path()).unwrap_or_default();
        all.extend(entry);
        std::fs::write(self.path(), all).unwrap();
        said.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap().to_owned()
    }
}

fn start(users: &Path, more: &[&str]) -> Server {
    Server::start(&[&["--users", users.to_str().unwrap()], more].concat())
}

fn connect(server: &Server, name: &str, secret: &str) -> Client {
    let mut client = Client::connect(server);
    client.send(&frame::seal(&Auth { username: name.into(), password: secret.into(), client: None }));
    client
}

fn subscribe(client: &mut Client) {
    client.send(&frame::seal(&Subscribe { mode: Mode::Second.into(), resume_after: None }));
}

fn publish(client: &mut Client, sequence: u64, events: u8) {
    let event = |number: u8| Event {
        event_id: [[number; 8], sequence.to_be_bytes()].concat(),
        timestamp: 1_700_000_000_000_000_000,
        platform: "web".to_owned(),
        event_type: EventType::Custom.into(),
        event_name: "tried".to_owned(),
        body: Some(Body::Custom(CustomEvent::default())),
        ..Event::default()
    };
    let events = (0..events).map(event).collect();
    let publish = Publish { producer_id: vec![7; 16], sequence, events, ..Publish::default() };
    client.send(&frame::seal_as(FrameType::Publish, &publish));
}

/// The error with which a client is closed.
fn error(client: &mut Client) -> (String, String) {
    client.read_to_end();
    let error = client.error.take().expect("it is told why");
    (error.code, error.message)
}

#[test]
fn each_user_comes_in_with_its_own_secret_beside_the_environment_s() {
    let users = Users::new();
    let (ada2, bob) = (users.add(&["ada2"]), users.add(&["bob"]));
    assert_eq!((ada2.len(), ada2 == bob), (64, false));
    let file = std::fs::read_to_string(users.path()).unwrap();
    assert!(!file.contains(&ada2) && !file.contains(&bob), "the file has hashes alone");
    let server = start(&users.path(), &["--ticks-per-second", "20"]);
    for (name, secret) in [("ada", "s3cret"), ("ada2", &*ada2), ("bob", &*bob)] {
        let mut client = connect(&server, name, secret);
        subscribe(&mut client);
        client.read_ticks(1);
    }
    for (name, secret) in [("bob", &*ada2), ("ada", &*bob), ("bob", "s3cret"), ("eve", &*bob), ("bob", "")] {
        assert_eq!(error(&mut connect(&server, name, secret)).0, "AUTH_FAILED", "{name}");
    }
}

#[test]
fn a_user_without_a_role_is_told_so() {
    let (users, journal) = (Users::new(), tempfile::tempdir().unwrap());
    let reader = users.add(&["reader", "--role", "subscribe"]);
    let writer = users.add(&["writer", "--role", "publish"]);
    let journal = [
        "--journal",
        journal.path().to_str().unwrap(),
        "--journal-segment-mib",
        "4",
        "--event-age-max-days",
        "36500",
    ];
    let server = start(&users.path(), &[&["--ticks-per-second", "20"], &journal[..]].concat());
    let mut client = connect(&server, "reader", &reader);
    subscribe(&mut client);
    client.read_ticks(2);
    publish(&mut client, 1, 1);
    let (code, message) = error(&mut client);
    assert_eq!(
        (&*code, &*message),
        ("PERMISSION_DENIED", "this user may not publish events: it lacks the role publish")
    );
    let mut client = connect(&server, "writer", &writer);
    publish(&mut client, 1, 1);
    server.wait_for_metric("tickstream_events_accepted_total{shard=\"0\"}", 1.0);
    let shown = server.get("/connections?user=writer").body;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["connections"][0]["events_accepted"], 1, "{shown}");
    subscribe(&mut client);
    assert_eq!(error(&mut client).0, "PERMISSION_DENIED");
    // A connection is counted when it is gone, a moment after its client was told.
    let closed = "tickstream_connections_closed_total{shard=\"0\",reason=\"permission_denied\"}";
    server.wait_for_metric(closed, 2.0);
}

#[test]
fn a_user_s_limits_hold_for_all_its_connections() {
    let (users, journal) = (Users::new(), tempfile::tempdir().unwrap());
    let bob = users.add(&["bob", "--connections-max", "2", "--events-per-second-max", "10"]);
    let journal = [
        "--journal",
        journal.path().to_str().unwrap(),
        "--journal-segment-mib",
        "4",
        "--event-age-max-days",
        "36500",
    ];
    let server = start(&users.path(), &journal);
    let mut clients = [connect(&server, "bob", &bob), connect(&server, "bob", &bob)];
    server.wait_for_metric("tickstream_auth_successes_total{shard=\"0\"}", 2.0);
    let (code, message) = error(&mut connect(&server, "bob", &bob));
    assert_eq!((&*code, &*message), ("SERVER_BUSY", "the limit on connections of your user is reached"));
    server.wait_for_metric("tickstream_limits_fired_total{shard=\"0\",limit=\"connections_per_user\"}", 1.0);
    // Both connections spend one quota: two seconds' worth at once, then its rate.
    let began = Instant::now();
    for sequence in 1..=4 {
        publish(&mut clients[0], sequence, 200);
        publish(&mut clients[1], 100 + sequence, 200);
    }
    let series = |name: &str| format!("tickstream_events_{name}_total{{shard=\"0\"");
    let of = |metrics: &Metrics| {
        let accepted = metrics.get(&format!("{}}}", series("accepted"))).unwrap_or(0.0);
        (accepted, metrics.get(&format!("{},code=\"RATE_LIMITED\"}}", series("rejected"))).unwrap_or(0.0))
    };
    let (accepted, room) = loop {
        let (accepted, rejected) = of(&server.metrics());
        let room = 20.0 + 10.0 * began.elapsed().as_secs_f64();
        if accepted + rejected >= 8.0 * 200.0 {
            break (accepted, room);
        }
        assert!(began.elapsed() < PATIENCE, "{accepted} accepted, {rejected} rejected");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!((20.0..=room).contains(&accepted), "{accepted} accepted, of {room}");
    // One that goes makes room.
    clients[0].hang_up();
    server.wait_until(|report| report.shards[0].connections == 1);
    let third = connect(&server, "bob", &bob);
    server.wait_for_metric("tickstream_auth_successes_total{shard=\"0\"}", 3.0);
    drop((third, clients));
}

#[test]
fn a_reload_takes_users_out_and_in_and_keeps_all_if_the_file_is_broken() {
    let users = Users::new();
    let bob = users.add(&["bob"]);
    let with_bob = std::fs::read_to_string(users.path()).unwrap();
    let eve = users.add(&["eve"]);
    let server = start(&users.path(), &["--ticks-per-second", "20"]);
    let reload = || said(&["reload", "--admin", &format!("unix:{}", server.socket.display())]);
    let mut clients = [connect(&server, "bob", &bob), connect(&server, "eve", &eve)];
    clients.iter_mut().for_each(subscribe);
    clients.iter_mut().for_each(|client| client.read_ticks(1));

    let whole = std::fs::read_to_string(users.path()).unwrap();
    std::fs::write(users.path(), whole.replace("[[user]]", "[[user]")).unwrap();
    let admin = format!("unix:{}", server.socket.display());
    check_fails(
        &["reload", "--admin", &admin],
        1,
        &["users_file", "isn't a file of users", "those in use stay"],
    );
    clients.iter_mut().for_each(|client| client.read_ticks(3));
    subscribe(&mut connect(&server, "eve", &eve));

    std::fs::write(users.path(), &with_bob).unwrap();
    let zoe = users.add(&["zoe"]);
    assert_eq!(reload(), "reloaded; changed: none\nusers added: zoe\nusers removed: eve\n");
    let (code, message) = error(&mut clients[1]);
    assert_eq!((&*code, &*message), ("PERMISSION_DENIED", "the user was removed, or lost its roles"));
    assert_eq!(error(&mut connect(&server, "eve", &eve)).0, "AUTH_FAILED");
    clients[0].read_ticks(3);
    let mut client = connect(&server, "zoe", &zoe);
    subscribe(&mut client);
    client.read_ticks(1);

    let text = std::fs::read_to_string(users.path()).unwrap();
    std::fs::write(users.path(), text.replace("\"subscribe\", ", "")).unwrap();
    assert_eq!(reload(), "reloaded; changed: none\nusers changed: bob zoe\n");
    assert_eq!(error(&mut clients[0]).0, "PERMISSION_DENIED");
}

#[test]
fn users_alone_are_enough_and_none_at_all_are_not() {
    let users = Users::new();
    let bob = users.add(&["bob"]);
    let path = users.path();
    let args = ["check-config", "--users-file", path.to_str().unwrap()];
    assert_eq!(said(&args), "the configuration can be used\n");
    std::fs::write(&path, "").unwrap();
    check_fails(&args, 2, &["has no users", "tickstream user-secret"]);
    let named = users.add(&["ada"]);
    assert_ne!(bob, named);
    let both = [&args[..], &["--stream-user", "ada", "--stream-pass", "x"]].concat();
    check_fails(&both, 2, &["stream_user has this name"]);
    check_fails(&["user-secret", "a\nb"], 2, &["control character"]);
    check_fails(&["user-secret", "a", "--role", "admin"], 2, &["subscribe", "publish"]);
}

/// A named pipe, which gives `text` to who reads it first; whoever reads it once more waits for ever.
fn pipe(directory: &Path, name: &str, text: String) -> String {
    let path = directory.join(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let shown = path.display().to_string();
    std::thread::spawn(move || std::fs::write(path, text).unwrap());
    shown
}

#[test]
fn users_and_the_token_from_pipes_outlast_reloads_and_upgrades() {
    let (users, pipes) = (Users::new(), tempfile::tempdir().unwrap());
    let bob = users.add(&["bob"]);
    let directory = pipes.path();
    let file = pipe(directory, "users", std::fs::read_to_string(users.path()).unwrap());
    let token = pipe(directory, "token", format!("{TOKEN}\n"));
    let args = ["--users-file", &file, "--admin-token-file", &token, "--ticks-per-second", "20"];
    let server = Server::start_with(&args, &[], false);
    let check = |when: &str| {
        let mut client = connect(&server, "bob", &bob);
        subscribe(&mut client);
        client.read_ticks(1);
        // By the socket: after an upgrade, port 0 is another port. Settings without the token's text would be refused.
        let answer = server.post_by_unix("/reload");
        assert_eq!((answer.status, answer.body.as_str()), (200, "reloaded; changed: none\n"), "{when}");
    };
    assert_eq!(server.post("/reload", Some(TOKEN)).status, 200);
    assert_eq!(server.post("/reload", Some("another-token-of-some-length")).status, 403);
    check("at the start");
    let first = upgraded(&server);
    check("after an upgrade");
    let second = upgraded(&server);
    check("after two upgrades");
    drop((first, second));
}
