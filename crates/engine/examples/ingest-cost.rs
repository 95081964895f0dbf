//! The engine's cost of one event, from the frame to the record and the PUBLISH_ACK:
//! `cargo run --release -p tickstream-engine --example ingest-cost`. Run it on a machine that does nothing else.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "the example plays the driver, which has a clock and somewhere to write"
)]

use std::collections::BTreeMap;
use std::time::Instant;

use tickstream_engine::{
    Action, Config, Credentials, IngestConfig, Limits, Mode, Now, Phase, PrivacyConfig, ProxyProtocol, Rate,
    SendOutcome, Shard,
};
use tickstream_schema::events::*;
use tickstream_schema::events::{Message, Publish};
use tickstream_wire::frame;
use tickstream_wire::messages::Auth;

const AT_NS: u64 = 1_700_000_000_000_000_000;
/// Events that one measurement sends.
const EVENTS: usize = 400_000;
/// Bytes that one receive hands over, as a ring with buffers of this size would.
const RECEIVED: usize = 16_384;

/// Makes the event with this number.
type Make = fn(u64) -> Event;

fn main() {
    println!("{:42} {:>7} {:>9}", "", "bytes", "ns/event");
    let kinds = [("log", log as Make), ("user interaction", interaction), ("trace span", span)];
    for (name, make) in kinds {
        for batch in [10, 100, 1_000] {
            measure(&format!("{name}, batches of {batch}"), batch, make, Codec::None, &[]);
        }
    }
    measure("user interaction, 100, user_id hashed", 100, interaction, Codec::None, &["user_id=hash"]);
    measure("user interaction, 100, user_id masked", 100, interaction, Codec::None, &["user_id=mask"]);
    measure("user interaction, 100, LZ4", 100, interaction, Codec::Lz4, &[]);
    measure("user interaction, 100, Zstandard", 100, interaction, Codec::Zstd, &[]);
}

fn measure(name: &str, batch: usize, make: Make, codec: Codec, rules: &[&str]) {
    let frames: Vec<Vec<u8>> = (0..EVENTS / batch)
        .map(|at| frame::seal_as(frame::FrameType::Publish, &publish(at as u64, batch, make, codec)))
        .collect();
    let mut shard = shard(rules);
    let conn = shard.accept(([127, 0, 0, 1], 5_000).into(), false).expect("room for one");
    shard.received(
        conn,
        &frame::seal(&Auth { username: "ada".into(), password: "s3cret".into(), client: None }),
    );
    answer(&mut shard);
    let mut stored = 0;
    let began = Instant::now();
    for frame in &frames {
        for part in frame.chunks(RECEIVED) {
            shard.received(conn, part);
        }
        while let Some(record) = shard.poll_record() {
            stored += record.payload.len();
            let id = record.id;
            shard.records_synced(id);
        }
        answer(&mut shard);
    }
    let took = began.elapsed();
    assert_eq!(shard.counters().ingest.accepted, EVENTS as u64);
    println!("{name:42} {:7} {:9.0}", stored / EVENTS, took.as_nanos() as f64 / EVENTS as f64);
}

/// Takes what the shard wants to send.
fn answer(shard: &mut Shard) {
    while let Some(action) = shard.poll_action() {
        if let Action::Send { conn, frame, .. } = action {
            shard.sent(conn, SendOutcome::Sent(frame.as_bytes().len() as u32));
        }
    }
}

fn shard(rules: &[&str]) -> Shard {
    let mut ingest = IngestConfig::new("server-1", 7);
    let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
    ingest.privacy = PrivacyConfig::new(rules, [7; 32], false).expect("rules for fields that there are");
    let config = Config {
        shard: 0,
        credentials: Credentials::new("ada", "s3cret").expect("short"),
        second: Rate::new(Mode::Second, 1).expect("a rate"),
        minute: Rate::new(Mode::Minute, 1).expect("a rate"),
        phase: Phase::Aligned,
        batch_window_ms: 5,
        heartbeat_interval_ms: 15_000,
        heartbeat_timeout_ms: 20_000,
        proxy_protocol: ProxyProtocol::Off,
        proxy_trusted: Vec::new(),
        seed: 7,
        ingest: Some(ingest),
        limits: Limits {
            connections: 10,
            connections_per_address: None,
            unauthenticated: 10,
            unauthenticated_per_address: None,
            connections_per_second: None,
            auth_failures_per_minute: 0,
            lag_ms: 0,
            handshake_timeout_ms: 5_000,
            payload_bytes: 65_536,
            auth_timeout_ms: 5_000,
            write_deadline_ms: 5_000,
            frames_per_second: 100,
            replay_window_ms: 0,
            replay_ticks: 0,
        },
    };
    Shard::new(config, Now { mono_ns: 1, unix_ns: AT_NS })
}

fn publish(at: u64, batch: usize, make: Make, codec: Codec) -> Publish {
    let events: Vec<Event> = (0..batch as u64).map(|index| make(at * batch as u64 + index)).collect();
    let mut publish =
        Publish { producer_id: vec![1; 16], sequence: at + 1, codec: codec.into(), ..Publish::default() };
    match codec {
        Codec::None => publish.events = events,
        Codec::Lz4 => {
            publish.compressed =
                lz4_flex::block::compress_prepend_size(&EventBatch { events }.encode_to_vec());
        }
        Codec::Zstd => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            publish.compressed =
                ruzstd::encoding::compress_to_vec(&EventBatch { events }.encode_to_vec()[..], level);
        }
    }
    publish
}

/// An event with an id that looks random, as UUIDs do.
fn event(number: u64, event_type: EventType, body: Body) -> Event {
    let high = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let low = high.rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    Event {
        event_id: [high.to_be_bytes(), low.to_be_bytes()].concat(),
        timestamp: AT_NS - number,
        platform: "android".into(),
        session_id: "5f2c1ab0-session".into(),
        user_id: Some("user-1234567".into()),
        event_type: event_type.into(),
        event_name: "something_happened".into(),
        context: BTreeMap::new(),
        properties: [("campaign".to_owned(), "spring".to_owned()), ("variant".to_owned(), "b".to_owned())]
            .into(),
        body: Some(body),
        ..Default::default()
    }
}

fn log(number: u64) -> Event {
    let log = Log {
        service: "checkout".into(),
        level: LogLevel::Info.into(),
        message: format!(
            "order {number} was placed by a customer and is on its way to the warehouse in the north"
        ),
        logger_name: "shop.orders".into(),
        context: Some(LogContext { request_id: "r-0123456789".into(), ..Default::default() }),
        ..Default::default()
    };
    event(number, EventType::Log, Body::Log(log))
}

fn interaction(number: u64) -> Event {
    let body = UserInteraction {
        device_info: Some(DeviceInfo {
            r#type: "phone".into(),
            os: "Android".into(),
            version: "16".into(),
            manufacturer: "Fairphone".into(),
            ..Default::default()
        }),
        properties: Some(InteractionProperties {
            screen_name: "cart".into(),
            element_id: "buy-button".into(),
            element_type: "button".into(),
            action: "click".into(),
            value: None,
        }),
        context: Some(InteractionContext {
            app_version: "4.2.0".into(),
            network_type: "wifi".into(),
            carrier: "A1".into(),
            locale: "de-AT".into(),
            timezone: "Europe/Vienna".into(),
        }),
    };
    event(number, EventType::UserInteraction, Body::UserInteraction(body))
}

fn span(number: u64) -> Event {
    let body = TraceSpan {
        trace_id: vec![7; 16],
        span_id: (number + 1).to_be_bytes().to_vec(),
        parent_span_id: Some(vec![9; 8]),
        service: "checkout".into(),
        operation: "POST /orders".into(),
        start_time: AT_NS - 5_000_000,
        end_time: AT_NS,
        duration_ms: Some(5.0),
        status: SpanStatus::Success.into(),
        attributes: Some(SpanAttributes {
            http_method: "POST".into(),
            http_url: "https://shop.example.org/orders".into(),
            http_status_code: Some(201),
            ..Default::default()
        }),
        resource: Some(SpanResource { service_name: "checkout".into(), ..Default::default() }),
        ..Default::default()
    };
    event(number, EventType::TraceSpan, Body::TraceSpan(body))
}
