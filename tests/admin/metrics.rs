//! Every metric is there, and right after events that are known.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tickstream_engine::{CloseReason, Limit};
use tickstream_server::shard;
use tickstream_wire::frame;
use tickstream_wire::messages::Mode;

use crate::support::{Client, Metrics, PATIENCE, Server, has_tool};

/// Metrics that the requirements name.
const REQUIRED: [&str; 5] = [
    "active_connections",
    "messages_sent_total",
    "bytes_sent_total",
    "heartbeat_timeouts_total",
    "publish_latency_ms_count",
];

#[test]
fn what_happens_is_counted() {
    let server = Server::start(&[
        "--ticks-per-second",
        "50",
        "--heartbeat-interval",
        "300ms",
        "--heartbeat-timeout",
        "1s",
        "--auth-timeout",
        "1s",
    ]);
    let at_first = server.metrics();
    for name in REQUIRED {
        at_first.check(&format!("{name}{{shard=\"0\"}}"), 0.0);
    }

    // A subscriber without heartbeats: closed after a second.
    let mut silent = Client::subscribed(&server, Mode::Second, None);
    silent.read_to_end();
    assert_eq!(silent.error.as_ref().map(|error| error.code.as_str()), Some("HEARTBEAT_TIMEOUT"));
    // One that resumes, and leaves.
    let mut resuming = Client::subscribed(&server, Mode::Second, Some(1));
    resuming.read_ticks(60_000);
    drop(resuming);
    // Wrong credentials, and no frames.
    let mut stranger = Client::connect(&server);
    stranger.authenticate("wrong");
    stranger.read_to_end();
    let mut scanner = Client::connect(&server);
    scanner.send(b"GET / HTTP/1.1\r\n\r\n");
    scanner.read_to_end();

    let metrics = server.wait_for_metric("active_connections{shard=\"0\"}", 0.0);
    metrics.check("heartbeat_timeouts_total{shard=\"0\"}", 1.0);
    metrics.check("tickstream_connections_accepted_total{shard=\"0\"}", 4.0);
    metrics.check("tickstream_connections_refused_total{shard=\"0\"}", 0.0);
    metrics.check("tickstream_auth_successes_total{shard=\"0\"}", 2.0);
    metrics.check("tickstream_auth_failures_total{shard=\"0\"}", 1.0);
    metrics.check("tickstream_subscriptions_total{shard=\"0\"}", 2.0);
    for (reason, count) in
        [("heartbeat_timeout", 1.0), ("auth_failed", 1.0), ("not_a_frame", 1.0), ("internal", 0.0)]
    {
        metrics
            .check(&format!("tickstream_connections_closed_total{{shard=\"0\",reason=\"{reason}\"}}"), count);
    }
    let stream =
        |name: &str| metrics.get(&format!("{name}{{shard=\"0\",stream=\"SECOND\"}}")).expect("it is there");
    // 50 ticks a second in a second and a bit. A shared machine may be late, but loses none.
    let published = stream("tickstream_ticks_published_total");
    assert!(published >= 49.0, "{published}");
    assert_eq!(published, stream("tickstream_batch_ticks_sum"));
    assert_eq!(stream("tickstream_frames_published_total"), stream("tickstream_batch_ticks_count"));
    assert!(stream("tickstream_frames_published_total") <= published, "{published}");
    assert!(stream("tickstream_frames_replayed_total") >= 60_000.0 / 1_024.0);
    assert!(stream("tickstream_ticks_delivered_total") >= 60_000.0 + 49.0);
    assert!(silent.ticks >= 49, "{}", silent.ticks);
    // What is replayed isn't timed, and all that the silent one got was live: but two ACKs and an ERROR.
    let timed = metrics.get("publish_latency_ms_count{shard=\"0\"}").unwrap();
    let (least, most) =
        (silent.frames as f64 - 3.0, stream("tickstream_frames_delivered_total") - 60_000.0 / 1_024.0);
    assert!((least..=most).contains(&timed), "{timed} isn't from {least} to {most}");
    assert_eq!(metrics.get("publish_latency_ms_bucket{shard=\"0\",le=\"+Inf\"}"), Some(timed));
    let sum_ms = metrics.get("publish_latency_ms_sum{shard=\"0\"}").unwrap();
    assert!(sum_ms > 0.0, "{sum_ms}");
    assert!(metrics.get("tickstream_loop_busy_seconds_total{shard=\"0\"}").unwrap() > 0.0);
    assert!(metrics.get("tickstream_loop_passes_total{shard=\"0\"}").unwrap() > 50.0);
    let enters = metrics.get("tickstream_ring_enters_total{shard=\"0\"}").unwrap();
    assert!(enters > 50.0 && metrics.get("tickstream_ring_completions_total{shard=\"0\"}").unwrap() > 50.0);
    assert!(metrics.get("process_resident_memory_bytes").unwrap() > 1e6);
    assert!(metrics.get("process_start_time_seconds").unwrap() > 1.7e9);
}

#[test]
fn frames_and_bytes_are_those_that_clients_got() {
    let server = Server::start(&["--ticks-per-second", "1000", "--shards", "2"]);
    let mut clients: Vec<_> = (0..6).map(|_| Client::subscribed(&server, Mode::Second, None)).collect();
    for client in &mut clients {
        client.read_ticks(200);
    }
    // A shard that gets no CPU for long is missing in the answer.
    let all = |metrics: &Metrics| {
        sum(metrics, "active_connections") == 6.0 && sum(metrics, "tickstream_subscribers") == 6.0
    };
    let until = Instant::now() + PATIENCE;
    while !all(&server.metrics()) {
        assert!(Instant::now() < until, "{}", server.get("/metrics").body);
    }
    // Closing tells everybody goodbye: then each has got all that was sent to it.
    let ids: Vec<String> =
        connections(&server).iter().map(|connection| connection["id"].as_str().unwrap().to_owned()).collect();
    for id in ids {
        assert_eq!(server.post_by_unix(&format!("/connections/{id}/close")).status, 200);
    }
    clients.iter_mut().for_each(Client::read_to_end);
    drop_until_gone(&server, &mut clients);
    let metrics = server.metrics();
    let (frames, bytes, ticks) = (
        clients.iter().map(|client| client.frames).sum::<u64>(),
        clients.iter().map(|client| client.bytes).sum::<u64>(),
        clients.iter().map(|client| client.ticks).sum::<u64>(),
    );
    assert_eq!(sum(&metrics, "messages_sent_total"), frames as f64);
    assert_eq!(sum(&metrics, "bytes_sent_total"), bytes as f64);
    assert_eq!(sum(&metrics, "tickstream_ticks_delivered_total"), ticks as f64);
    assert_eq!(sum(&metrics, "publish_latency_ms_count"), sum(&metrics, "tickstream_frames_delivered_total"));
}

fn drop_until_gone(server: &Server, clients: &mut [Client]) {
    for client in clients.iter_mut() {
        client.hang_up();
    }
    for shard in 0..2 {
        server.wait_for_metric(&format!("active_connections{{shard=\"{shard}\"}}"), 0.0);
    }
}

fn connections(server: &Server) -> Vec<serde_json::Value> {
    let listed: serde_json::Value = serde_json::from_str(&server.get("/connections").body).unwrap();
    listed["connections"].as_array().unwrap().clone()
}

/// All series of a metric together.
fn sum(metrics: &Metrics, name: &str) -> f64 {
    let is_of = |series: &&str| series.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    metrics.series().into_iter().filter(is_of).map(|series| metrics.get(series).unwrap()).sum()
}

#[test]
fn every_reason_limit_and_shard_has_its_series_from_the_start() {
    let metrics = Server::start(&["--shards", "2"]).metrics();
    for shard in 0..2 {
        for reason in CloseReason::ALL {
            let reason = reason.as_str();
            metrics.check(
                &format!("tickstream_connections_closed_total{{shard=\"{shard}\",reason=\"{reason}\"}}"),
                0.0,
            );
        }
        for limit in Limit::ALL {
            metrics.check(
                &format!("tickstream_limits_fired_total{{shard=\"{shard}\",limit=\"{}\"}}", limit.as_str()),
                0.0,
            );
        }
        for bound in [
            "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "25", "50", "100", "250", "500", "1000",
            "+Inf",
        ] {
            metrics.check(&format!("publish_latency_ms_bucket{{shard=\"{shard}\",le=\"{bound}\"}}"), 0.0);
        }
        metrics.check(&format!("tickstream_shard_up{{shard=\"{shard}\"}}"), 1.0);
    }
    let version = env!("CARGO_PKG_VERSION");
    metrics.check(&format!("tickstream_build_info{{version=\"{version}\"}}"), 1.0);
    metrics.check("tickstream_log_lines_lost_total", 0.0);
}

/// Each limit that one client can reach, with what reaches it.
#[test]
fn a_limit_that_fires_is_counted_by_its_name() {
    type Provoke = fn(&Server) -> Vec<Client>;
    fn connect<const N: usize>(server: &Server) -> Vec<Client> {
        (0..N).map(|_| Client::connect(server)).collect()
    }
    let check = |limit: &str, args: &[&str], provoke: Provoke| {
        let server = Server::start(args);
        let value = |limit: &str| format!("tickstream_limits_fired_total{{shard=\"0\",limit=\"{limit}\"}}");
        server.metrics().check(&value(limit), 0.0);
        let begin = Instant::now();
        // Held, so that they count, and again, since a busy machine may be too slow for a limit by the second.
        let mut held = provoke(&server);
        let metrics = loop {
            let metrics = server.metrics();
            if metrics.get(&value(limit)) > Some(0.0) {
                break metrics;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{limit} doesn't fire");
            std::thread::sleep(Duration::from_millis(100));
            held.extend(provoke(&server));
        };
        for other in Limit::ALL.map(Limit::as_str).into_iter().filter(|&other| other != limit) {
            metrics.check(&value(other), 0.0);
        }
    };
    check("connections", &["--max-connections", "1"], connect::<2>);
    check("connections_per_address", &["--max-connections-per-ip", "1"], connect::<2>);
    check("unauthenticated", &["--unauthenticated-max", "1"], connect::<2>);
    check("unauthenticated_per_address", &["--unauthenticated-per-ip-max", "1"], connect::<2>);
    check("connection_rate", &["--connections-per-second-max", "1"], connect::<3>);
    let untrusted = ["--proxy-protocol", "required", "--proxy-trusted", "10.0.0.0/8"];
    check("untrusted_proxy", &untrusted, connect::<1>);
    check("memory", &["--memory-max-mib", "1"], connect::<1>);
    check("auth_failures", &["--auth-failures-per-minute-max", "1"], |server| {
        for mut client in connect::<2>(server) {
            client.authenticate("wrong");
            client.read_to_end();
        }
        Vec::new()
    });
    check("frames", &["--frames-per-second-max", "1"], |server| {
        let mut client = Client::subscribed(server, Mode::Second, None);
        client.send(&[frame::heartbeat(), frame::heartbeat()].concat());
        client.read_to_end();
        Vec::new()
    });
    check("frame_bytes", &[], |server| {
        let mut client = Client::connect(server);
        client.send(b"TS\x01\x01\0\0\x10\x01");
        client.read_to_end();
        Vec::new()
    });
}

/// The one thing that `promtool check metrics` finds is in a name that is required.
#[test]
fn promtool_finds_nothing_but_the_unit_of_a_required_name() {
    if !has_tool("promtool") {
        return;
    }
    let server = Server::start(&["--ticks-per-second", "50"]);
    Client::subscribed(&server, Mode::Second, None).read_ticks(10);
    assert_eq!(promtool(&server), "publish_latency_ms metric names should not contain abbreviated units");
}

/// Output of `promtool check metrics`.
pub fn promtool(server: &Server) -> String {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    let mut input = promtool.stdin.take().expect("a pipe");
    input.write_all(server.metrics().0.as_bytes()).expect("promtool reads");
    drop(input);
    let output = promtool.wait_with_output().expect("promtool ends");
    String::from_utf8([output.stdout, output.stderr].concat()).expect("text").trim().to_owned()
}

#[test]
fn a_subscriber_that_does_not_read_shows() {
    let server = Server::start(&[
        "--ticks-per-second",
        "100000",
        "--send-buffer",
        "4KiB",
        "--unsent-max",
        "1KiB",
        "--write-deadline-ms",
        "60000",
    ]);
    let stalled = Client::subscribed(&server, Mode::Second, None);
    // Until the receiver's buffer has grown to its full size, its oldest byte goes through.
    server.wait_until(|report| report.shards[0].streams["SECOND"].oldest_unsent_ms >= 300);
    let metrics = server.metrics();
    metrics.check("tickstream_subscribers_lagging{shard=\"0\",stream=\"SECOND\"}", 1.0);
    metrics.check("tickstream_connections_lagging{shard=\"0\"}", 1.0);
    assert!(metrics.get("tickstream_oldest_unsent_seconds{shard=\"0\",stream=\"SECOND\"}").unwrap() >= 0.3);
    metrics.check("tickstream_subscribers_lagging{shard=\"0\",stream=\"MINUTE\"}", 0.0);
    let slowest = &connections(&server)[0];
    assert_eq!(slowest["peer"], stalled.peer().to_string());
    assert_eq!(
        (&slowest["lagging"], &slowest["state"], &slowest["mode"]),
        (&true.into(), &"authenticated".into(), &"SECOND".into())
    );
    assert!(
        slowest["unsent_ms"].as_u64().unwrap() >= 300 && slowest["ticks_behind"].as_u64().unwrap() > 0,
        "{slowest}"
    );
    assert!(slowest["bytes_sent"].as_u64().unwrap() > 1_000, "{slowest}");
}

#[test]
fn the_snapshot_says_the_same() {
    let server = Server::start(&["--ticks-per-second", "50", "--shards", "2"]);
    let mut client = Client::subscribed(&server, Mode::Second, None);
    client.read_ticks(20);
    let mut stranger = Client::connect(&server);
    stranger.authenticate("wrong");
    stranger.read_to_end();
    server.wait_until(|report| !report.events.is_empty());
    let report = server.snapshot();
    assert_eq!((report.state.as_str(), report.healthy, report.shards.len()), ("serving", true, 2));
    assert_eq!((report.pid, report.address.as_str()), (server.pid(), server.address.to_string().as_str()));
    let serving: Vec<_> = report.shards.iter().filter(|shard| shard.subscribed > 0).collect();
    let [shard] = serving[..] else { panic!("{report:?}") };
    assert!(shard.answered && shard.cpu < 4_096);
    assert_eq!(shard.latency.buckets.len(), report.latency_bounds_ms.len() + 1);
    let timed = shard.latency.buckets.iter().sum::<u64>();
    assert!(timed > 0 && timed == shard.streams["SECOND"].frames_delivered && shard.latency.sum_ms > 0.0);
    assert!(shard.streams["SECOND"].ticks_delivered >= 20 && shard.streams["SECOND"].subscribers == 1);
    assert_eq!(shard.streams["MINUTE"].ticks_published, 0);
    assert!(report.process.resident_bytes > 1_000_000 && report.process.threads >= 4);
    let closed: Vec<_> = report.shards.iter().flat_map(|shard| &shard.closed).collect();
    assert_eq!(closed, [(&"auth_failed".to_owned(), &1)]);
    let event = &report.events[0];
    assert_eq!(
        (event.reason.as_str(), event.peer.as_str()),
        ("auth_failed", stranger.peer().to_string().as_str())
    );
    assert!(event.unix_ms >= report.started_unix_ms && event.unix_ms <= report.now_unix_ms);
    assert_eq!(tickstream_server::admin::report::state(shard::Command::Drain), "draining");
}
