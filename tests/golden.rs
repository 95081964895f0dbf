//! `proto/golden.json`, the vectors that clients in other languages test with, from our side.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tickstream_schema::events::{Body, Codec, CustomEvent, Event, EventType, Publish, PublishAck, Rejected};
use tickstream_wire::frame::{self, FrameError, FrameType};
use tickstream_wire::messages::{
    Ack, Auth, DataBatch, ErrorMsg, GoAway, Message, Mode, MsgType, Payload, Subscribe, Tick,
};
use tickstream_wire::{Decoder, ErrorCode};

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/golden.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect(path)).expect(path)
}

fn vectors<'a>(golden: &'a Value, list: &str) -> impl Iterator<Item = (&'a str, &'a Value, Vec<u8>)> {
    golden[list].as_array().expect(list).iter().map(|vector| {
        let hex = vector["hex"].as_str().expect("hex");
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
        let bytes = (0..hex.len()).step_by(2).map(byte).collect();
        (vector["name"].as_str().expect("name"), vector, bytes)
    })
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn number<T: TryFrom<u64, Error: std::fmt::Debug>>(value: &Value) -> T {
    T::try_from(value.as_u64().expect("a number")).expect("a number of this width")
}

fn mode(value: &Value) -> i32 {
    Mode::from_str_name(value.as_str().expect("a mode")).expect("a known mode").into()
}

/// The frame that the fields make, and the fields that the payload holds.
fn both_ways<M: Payload>(message: &M, payload: &[u8], fields: impl Fn(&M) -> Value) -> (Vec<u8>, Value) {
    both_ways_as(M::TYPE, message, payload, fields)
}

fn both_ways_as<M: Message + Default>(
    kind: FrameType,
    message: &M,
    payload: &[u8],
    fields: impl Fn(&M) -> Value,
) -> (Vec<u8>, Value) {
    let decoded = M::decode(payload).expect("a payload of this message");
    (frame::seal_as(kind, message), fields(&decoded))
}

/// Encodes and decodes one vector by the message that it names.
fn check_valid(vector: &Value, payload: &[u8]) -> (Vec<u8>, Value) {
    let given = &vector["fields"];
    let tick = |value: &Value| Tick { mode: mode(&value["mode"]), epoch_ms: number(&value["epoch_ms"]) };
    let tick_fields = |tick: &Tick| json!({"mode": tick.mode().as_str_name(), "epoch_ms": tick.epoch_ms});
    match vector["message"].as_str() {
        None => (frame::heartbeat(), json!({})),
        Some("Auth") => {
            let auth = Auth {
                username: text(&given["username"]),
                password: text(&given["password"]),
                client: given.get("client").map(text),
            };
            both_ways(&auth, payload, |auth| {
                let mut fields = json!({"username": auth.username, "password": auth.password});
                if let Some(client) = &auth.client {
                    fields["client"] = client.as_str().into();
                }
                fields
            })
        }
        Some("Subscribe") => {
            let resume_after = given.get("resume_after").map(number);
            both_ways(&Subscribe { mode: mode(&given["mode"]), resume_after }, payload, |subscribe| {
                let mut fields = json!({"mode": subscribe.mode().as_str_name()});
                if let Some(after) = subscribe.resume_after {
                    fields["resume_after"] = after.into();
                }
                fields
            })
        }
        Some("DataBatch") => {
            let batch = DataBatch {
                schema_version: number(&given["schema_version"]),
                ticks: given["ticks"].as_array().expect("ticks").iter().map(tick).collect(),
                first_sequence: number(&given["first_sequence"]),
            };
            both_ways(&batch, payload, |batch| {
                json!({
                    "schema_version": batch.schema_version,
                    "ticks": batch.ticks.iter().map(tick_fields).collect::<Vec<_>>(),
                    "first_sequence": batch.first_sequence,
                })
            })
        }
        Some("ErrorMsg") => {
            let error = ErrorMsg {
                code: text(&given["code"]),
                message: text(&given["message"]),
                retry_after_ms: number(&given["retry_after_ms"]),
            };
            both_ways(
                &error,
                payload,
                |error| json!({"code": error.code, "message": error.message, "retry_after_ms": error.retry_after_ms}),
            )
        }
        Some("Ack") => {
            let acked =
                MsgType::from_str_name(given["acked_type"].as_str().expect("a type")).expect("a known type");
            let ack = Ack {
                acked_type: acked.into(),
                heartbeat_interval_ms: number(&given["heartbeat_interval_ms"]),
                heartbeat_timeout_ms: number(&given["heartbeat_timeout_ms"]),
                max_msg_size: number(&given["max_msg_size"]),
                batch_window_ms: number(&given["batch_window_ms"]),
                next_sequence: number(&given["next_sequence"]),
                server_time_ms: number(&given["server_time_ms"]),
                publish_credits: number(&given["publish_credits"]),
                max_publish_size: number(&given["max_publish_size"]),
            };
            both_ways(&ack, payload, |ack| {
                json!({
                    "acked_type": ack.acked_type().as_str_name(),
                    "heartbeat_interval_ms": ack.heartbeat_interval_ms,
                    "heartbeat_timeout_ms": ack.heartbeat_timeout_ms,
                    "max_msg_size": ack.max_msg_size,
                    "batch_window_ms": ack.batch_window_ms,
                    "next_sequence": ack.next_sequence,
                    "server_time_ms": ack.server_time_ms,
                    "publish_credits": ack.publish_credits,
                    "max_publish_size": ack.max_publish_size,
                })
            })
        }
        Some("GoAway") => {
            let (reason, retry_after_ms) = (text(&given["reason"]), number(&given["retry_after_ms"]));
            both_ways(
                &GoAway { reason, retry_after_ms },
                payload,
                |goaway| json!({"reason": goaway.reason, "retry_after_ms": goaway.retry_after_ms}),
            )
        }
        Some("Publish") => both_ways_as(FrameType::Publish, &publish(given), payload, publish_fields),
        Some("PublishAck") => {
            both_ways_as(FrameType::PublishAck, &publish_ack(given), payload, publish_ack_fields)
        }
        Some(other) => panic!("a message that version 1 doesn't have: {other}"),
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    let digits = value.as_str().expect("hexadecimal digits");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn map(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().expect("a map").iter();
    entries.map(|(key, value)| (key.clone(), text(value))).collect()
}

fn publish(given: &Value) -> Publish {
    let codec = Codec::from_str_name(given["codec"].as_str().expect("a codec")).expect("a known codec");
    let event = |given: &Value| Event {
        event_id: bytes(&given["event_id"]),
        timestamp: number(&given["timestamp"]),
        platform: text(&given["platform"]),
        session_id: text(&given["session_id"]),
        user_id: given.get("user_id").map(text),
        event_type: EventType::from_str_name(given["event_type"].as_str().expect("a type"))
            .expect("a known type")
            .into(),
        event_name: text(&given["event_name"]),
        context: map(&given["context"]),
        properties: map(&given["properties"]),
        body: Some(Body::Custom(CustomEvent {
            schema: text(&given["custom"]["schema"]),
            attributes: map(&given["custom"]["attributes"]),
            measurements: Vec::new(),
            payload: bytes(&given["custom"]["payload"]),
            ..Default::default()
        })),
        ..Default::default()
    };
    Publish {
        producer_id: bytes(&given["producer_id"]),
        sequence: number(&given["sequence"]),
        events: given["events"].as_array().expect("events").iter().map(event).collect(),
        codec: codec.into(),
        compressed: bytes(&given["compressed"]),
    }
}

fn publish_fields(publish: &Publish) -> Value {
    let event = |event: &Event| {
        let Some(Body::Custom(custom)) = &event.body else { panic!("{event:?}") };
        json!({
            "event_id": hex(&event.event_id),
            "timestamp": event.timestamp,
            "platform": event.platform,
            "session_id": event.session_id,
            "user_id": event.user_id,
            "event_type": event.event_type().as_str_name(),
            "event_name": event.event_name,
            "context": event.context,
            "properties": event.properties,
            "custom": {"schema": custom.schema, "attributes": custom.attributes, "payload": hex(&custom.payload)},
        })
    };
    json!({
        "producer_id": hex(&publish.producer_id),
        "sequence": publish.sequence,
        "events": publish.events.iter().map(event).collect::<Vec<_>>(),
        "codec": publish.codec().as_str_name(),
        "compressed": hex(&publish.compressed),
    })
}

fn publish_ack(given: &Value) -> PublishAck {
    let rejected = |given: &Value| Rejected {
        index: number(&given["index"]),
        code: text(&given["code"]),
        message: text(&given["message"]),
        retryable: given["retryable"].as_bool().expect("true or false"),
    };
    PublishAck {
        sequence: number(&given["sequence"]),
        accepted: number(&given["accepted"]),
        duplicates: number(&given["duplicates"]),
        rejected: given["rejected"].as_array().expect("verdicts").iter().map(rejected).collect(),
        throttle_ms: number(&given["throttle_ms"]),
        producer_id: bytes(&given["producer_id"]),
    }
}

fn publish_ack_fields(ack: &PublishAck) -> Value {
    let rejected = |rejected: &Rejected| {
        json!({
            "index": rejected.index,
            "code": rejected.code,
            "message": rejected.message,
            "retryable": rejected.retryable,
        })
    };
    json!({
        "sequence": ack.sequence,
        "accepted": ack.accepted,
        "duplicates": ack.duplicates,
        "rejected": ack.rejected.iter().map(rejected).collect::<Vec<_>>(),
        "throttle_ms": ack.throttle_ms,
        "producer_id": hex(&ack.producer_id),
    })
}

#[test]
fn valid_vectors_encode_to_their_bytes_and_decode_to_their_fields() {
    let golden = golden();
    let mut types = std::collections::BTreeSet::new();
    for (name, vector, bytes) in vectors(&golden, "valid") {
        let mut decoder = Decoder::new();
        let mut input = &bytes[..];
        let frame = decoder.next(&mut input, 65_536).expect(name).expect(name);
        assert_eq!(u64::from(frame.kind), vector["type"], "{name}");
        let (encoded, fields) = check_valid(vector, frame.payload);
        assert_eq!(encoded, bytes, "{name}");
        assert_eq!(fields, vector["fields"], "{name}");
        types.insert(frame.kind);
    }
    assert!(types.into_iter().eq(FrameType::ALL.map(|kind| kind as u8)), "a vector for every type");
}

#[test]
fn invalid_vectors_are_refused_where_they_say() {
    let golden = golden();
    for (name, vector, bytes) in vectors(&golden, "invalid") {
        let mut decoder = Decoder::new();
        let read = decoder.next(&mut &bytes[..], number::<u32>(&vector["max_payload"]));
        match vector["judged_by"].as_str() {
            Some("header" | "crc") => {
                let code = read.expect_err(name).code().map(ErrorCode::as_str);
                assert_eq!(code, vector["error"].as_str(), "{name}");
                assert_eq!(
                    vector["judged_by"] == "crc",
                    matches!(read, Err(FrameError::Crc { .. })),
                    "{name}"
                );
            }
            // A well-formed frame: the engine's tests refuse its type or payload.
            Some("type" | "payload") => assert!(read.expect(name).is_some(), "{name}"),
            other => panic!("{name}: judged by {other:?}"),
        }
    }
}
