//! Metrics of published events, where they are collected.

use tickstream_engine::RejectionCode;
use tickstream_schema::events::Publish;
use tickstream_schema::events::{Body, CustomEvent, Event, EventType};
use tickstream_wire::FrameType;
use tickstream_wire::frame;

use crate::metrics::promtool;
use crate::support::{Client, Server, has_tool};

fn event(number: u8, platform: &str) -> Event {
    Event {
        event_id: vec![number; 16],
        timestamp: 1_700_000_000_000_000_000,
        platform: platform.to_owned(),
        event_type: EventType::Custom.into(),
        event_name: "tried".to_owned(),
        body: Some(Body::Custom(CustomEvent::default())),
        ..Event::default()
    }
}

#[test]
fn what_is_collected_is_counted() {
    let journal = tempfile::tempdir().unwrap();
    let path = journal.path().to_str().unwrap();
    let server =
        Server::start(&["--journal", path, "--journal-segment-mib", "4", "--event-age-max-days", "36500"]);
    let at_first = server.metrics();
    at_first.check("tickstream_events_accepted_total{shard=\"0\"}", 0.0);
    for code in RejectionCode::ALL {
        at_first.check(
            &format!("tickstream_events_rejected_total{{shard=\"0\",code=\"{}\"}}", code.as_str()),
            0.0,
        );
    }
    let mut client = Client::connect(&server);
    client.authenticate("s3cret");
    let events = vec![event(1, "web"), event(2, "web"), event(3, "")];
    for sequence in [1, 1] {
        let publish =
            Publish { producer_id: vec![7; 16], sequence, events: events.clone(), ..Publish::default() };
        client.send(&frame::seal_as(FrameType::Publish, &publish));
    }
    let metrics = server.wait_for_metric("tickstream_events_duplicate_total{shard=\"0\"}", 2.0);
    for (name, expected) in [
        ("tickstream_event_publishes_total", 2.0),
        ("tickstream_events_accepted_total", 2.0),
        ("tickstream_event_dead_letters_total", 1.0),
        ("tickstream_event_publishes_in_flight", 0.0),
        ("tickstream_event_records_total", 1.0),
        ("tickstream_journal_appended_sequence", 1.0),
        ("tickstream_journal_acknowledged_sequence", 1.0),
        (
            "tickstream_journal_sync_seconds_count",
            metrics.get("tickstream_journal_commit_groups_total{shard=\"0\"}").unwrap(),
        ),
        ("tickstream_journal_full", 0.0),
    ] {
        metrics.check(&format!("{name}{{shard=\"0\"}}"), expected);
    }
    metrics.check("tickstream_events_rejected_total{shard=\"0\",code=\"FIELD_MISSING\"}", 2.0);
    assert!(metrics.get("tickstream_journal_disk_bytes{shard=\"0\"}").unwrap() >= f64::from(4 << 20));
    let report = server.snapshot();
    let events = report.shards[0].events.as_ref().expect("events are collected");
    assert_eq!((events.accepted, events.duplicates, events.rejected["FIELD_MISSING"]), (2, 2, 2));
    assert_eq!((events.journal.acknowledged_sequence, events.journal.full_since_unix_ms), (1, None));
    if has_tool("promtool") {
        assert_eq!(promtool(&server), "publish_latency_ms metric names should not contain abbreviated units");
    }
}

#[test]
fn where_none_are_collected_nothing_is_told_of_them() {
    let server = Server::start(&[]);
    let metrics = server.metrics();
    let of_events = |series: &&str| series.starts_with("event") || series.starts_with("journal");
    assert_eq!(metrics.series().into_iter().filter(of_events).collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(server.snapshot().shards[0].events.is_none());
    assert!(!server.get("/snapshot").body.contains("\"journal\""));
}
