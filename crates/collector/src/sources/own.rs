//! The collector's own HTTP API: `POST /v1/events`, events as JSON or protobuf. docs/collector.md describes it.

use hyper::StatusCode;
use prost::Message;
use serde::{
    Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::{json, value::RawValue};
use tickstream_client::{events::EventBatch, json::parse_event};

use crate::{
    http::{Head, HttpSource, Refusal, Reply},
    outcome::{Malformed, Outcome, Rejection},
    sources::json::RECORD_BYTES_MAX,
    writer::EventWriter,
};

/// `POST /v1/events`
pub struct Events;

/// `GET /openapi.json`: the description of the API for programs.
pub struct Description;

const OPENAPI: &str = include_str!("../../openapi.json");

impl HttpSource for Description {
    fn name(&self) -> &'static str {
        "events"
    }

    fn needs_key(&self) -> bool {
        false
    }

    fn decode(&self, _: &Head, _: &[u8], _: &mut EventWriter<'_>) -> Result<(), Malformed> {
        Ok(())
    }

    fn success(&self, _: &Head, _: &Outcome) -> Reply {
        Reply::new(StatusCode::OK, "application/json", OPENAPI)
    }

    fn refusal(&self, head: &Head, refusal: &Refusal) -> Reply {
        Events.refusal(head, refusal)
    }
}

/// A protobuf body is an `EventBatch`.
const PROTOBUF: [&str; 2] = ["application/x-protobuf", "application/protobuf"];

impl HttpSource for Events {
    fn name(&self) -> &'static str {
        "events"
    }

    fn decode(&self, head: &Head, body: &[u8], writer: &mut EventWriter<'_>) -> Result<(), Malformed> {
        if let Some(send_time) = send_time(head)? {
            writer.set_send_time(send_time);
        }
        // Whatever else the type says, such as text/plain, which needs no preflight of browsers: JSON tells itself.
        if PROTOBUF.contains(&&head.media_type()[..]) {
            return decode_protobuf(body, writer);
        }
        match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => decode_array(body, writer),
            Some(_) if !has_object(body) => {
                Err(Malformed("the body is neither an array nor objects of JSON".to_owned()))
            }
            Some(_) => {
                match one_event(body) {
                    Some(event) => take(event, writer),
                    None => decode_lines(body, writer),
                }
                Ok(())
            }
            None => {
                Err(Malformed("the body is empty; send a JSON array, JSON lines, or protobuf".to_owned()))
            }
        }
    }

    fn success(&self, _: &Head, outcome: &Outcome) -> Reply {
        Reply::json(StatusCode::OK, &answer(outcome))
    }

    fn refusal(&self, _: &Head, refusal: &Refusal) -> Reply {
        let mut body = match refusal {
            Refusal::Partly(outcome) => answer(outcome),
            _ => json!({}),
        };
        body["error"] = json!({ "code": refusal.code(), "message": refusal.to_string() });
        Reply::json(refusal.status(), &body)
    }
}

fn answer(outcome: &Outcome) -> serde_json::Value {
    let rejected = |rejection: &Rejection| {
        json!({
            "index": rejection.index,
            "code": rejection.code,
            "message": rejection.message,
            "retryable": rejection.retryable,
        })
    };
    json!({
        "accepted": outcome.accepted,
        "duplicates": outcome.duplicates,
        "rejected": outcome.rejected.iter().map(rejected).collect::<Vec<_>>(),
    })
}

/// Parameter `sent_at`: the sender's clock at this attempt, Unix time, milliseconds.
fn send_time(head: &Head) -> Result<Option<u64>, Malformed> {
    let Some(text) = head.parameter("sent_at") else { return Ok(None) };
    let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let ms = text.parse().ok().filter(|ms: &u64| is_number && *ms <= SENT_AT_MAX);
    let ms = ms.ok_or_else(|| Malformed(format!("sent_at is \"{text}\", not Unix time in milliseconds")))?;
    Ok(Some(ms.saturating_mul(1_000_000)))
}

/// The largest whole number that every JSON has.
const SENT_AT_MAX: u64 = (1 << 53) - 1;

fn decode_protobuf(body: &[u8], writer: &mut EventWriter<'_>) -> Result<(), Malformed> {
    let batch = EventBatch::decode(body)
        .map_err(|error| Malformed(format!("the body is no protobuf message stream.EventBatch: {error}")))?;
    batch.events.into_iter().for_each(|event| writer.event(event));
    Ok(())
}

/// True if a line begins as an object does: otherwise none of the body can be an event.
fn has_object(body: &[u8]) -> bool {
    body.split(|byte| *byte == b'\n').any(|line| line.trim_ascii_start().starts_with(b"{"))
}

/// The event that the whole body is, where it goes over several lines.
fn one_event(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?.trim_ascii();
    let first_line = text.lines().next()?;
    // A first line that is a value by itself is the first of many.
    let is_cut = first_line.len() < text.len() && serde_json::from_str::<&RawValue>(first_line).is_err();
    (is_cut && serde_json::from_str::<&RawValue>(text).is_ok()).then_some(text)
}

/// Each line is judged by itself: a broken one spoils no other.
fn decode_lines(body: &[u8], writer: &mut EventWriter<'_>) {
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        match std::str::from_utf8(line) {
            _ if line.is_empty() => {}
            Ok(line) => take(line, writer),
            Err(error) => writer.reject("INVALID_UTF8", error.to_string()),
        }
    }
}

fn take(text: &str, writer: &mut EventWriter<'_>) {
    if text.len() > RECORD_BYTES_MAX {
        return writer.reject("EVENT_TOO_LARGE", format!("the event's JSON has {} bytes", text.len()));
    }
    match parse_event(text) {
        Ok(event) => writer.event(event),
        Err(error) => writer.reject("MALFORMED", error.to_string()),
    }
}

fn decode_array(body: &[u8], writer: &mut EventWriter<'_>) -> Result<(), Malformed> {
    let text =
        std::str::from_utf8(body).map_err(|error| Malformed(format!("the body isn't UTF-8: {error}")))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let array = json.deserialize_seq(Elements(writer)).and_then(|()| json.end());
    array.map_err(|error| Malformed(format!("the body is no JSON array: {error}")))
}

/// Takes the elements of an array one by one.
struct Elements<'a, 'b>(&'a mut EventWriter<'b>);

impl<'de> Visitor<'de> for Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(element) = array.next_element::<&RawValue>()? {
            take(element.get(), self.0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tickstream_client::events::Event;

    use super::*;
    use crate::{
        http::secrets,
        keys::Key,
        upstream::BatchLimits,
        writer::{
            Ids, Request,
            tests::{decoded, origin},
        },
    };

    const LIMITS: BatchLimits = BatchLimits { events: 100, bytes: 100_000 };

    fn decode(content_type: &str, uri: &str, body: &[u8]) -> Result<Request, Malformed> {
        let head = crate::http::test_head("POST", uri, &[("content-type", content_type)]);
        assert_eq!(secrets(&head).count(), 0);
        let origin = origin(Key::unrestricted("k"));
        let mut writer = EventWriter::new(&origin, Ids::OfBody(body), LIMITS, 1000);
        Events.decode(&head, body, &mut writer)?;
        Ok(writer.finish().unwrap())
    }

    const ONE: &str =
        r#"{"platform":"web","event_type":"custom","event_name":"one","custom":{"schema":"s"}}"#;
    const TWO: &str =
        r#"{"platform":"web","event_type":"custom","event_name":"two","custom":{"schema":"s"}}"#;

    fn names(request: &Request) -> Vec<String> {
        decoded(request).into_iter().map(|event| event.event_name).collect()
    }

    #[test]
    fn arrays_lines_and_protobuf_are_the_same_events() {
        let array =
            decode("application/json", "/v1/events", format!(" [{ONE},\n{TWO}] ").as_bytes()).unwrap();
        let lines = decode("text/plain", "/v1/events", format!("{ONE}\r\n\n{TWO}").as_bytes()).unwrap();
        let events = [ONE, TWO].map(|line| parse_event(line).unwrap()).to_vec();
        let protobuf = EventBatch { events }.encode_to_vec();
        let protobuf = decode("application/x-protobuf; a=b", "/v1/events", &protobuf).unwrap();
        let pretty = format!("{}\n", ONE.replace(',', ",\n  "));
        assert_eq!(names(&decode("application/json", "/v1/events", pretty.as_bytes()).unwrap()), ["one"]);
        for request in [array, lines, protobuf] {
            assert_eq!((names(&request), request.rejected.len()), (vec!["one".into(), "two".into()], 0));
        }
    }

    #[test]
    fn broken_events_are_told_by_index_and_field_and_others_pass() {
        let body = format!(r#"[{ONE},{{"platform":7}},{TWO},5,{{"nonsense":1}}]"#);
        let request = decode("application/json", "/v1/events", body.as_bytes()).unwrap();
        assert_eq!(names(&request), ["one", "two"]);
        let rejected: Vec<_> = request.rejected.iter().map(|r| (r.index, &r.message[..])).collect();
        assert_eq!(rejected.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 3, 4]);
        assert!(rejected[0].1.contains("platform") && rejected[2].1.contains("nonsense"), "{rejected:?}");
        let lines = [ONE.as_bytes(), b"\n{\"platform\":\"\xFF\"}\n", TWO.as_bytes()].concat();
        let request = decode("", "/v1/events", &lines).unwrap();
        assert_eq!((names(&request).len(), request.rejected[0].index), (2, 1));
        assert_eq!(request.rejected[0].code, "INVALID_UTF8");
    }

    #[test]
    fn fault_66_nested_arrays_and_broken_bodies_are_refused() {
        let nested = ["[".repeat(10_000), "]".repeat(10_000)].concat();
        let events = decode("", "/v1/events", nested.as_bytes());
        assert!(events.is_err() || events.unwrap().rejected.len() == 1);
        for body in ["", "  \n", "[", "[1,", "[{}] x", "[\u{0}]", "5", "null", "\"text\"", "a\nb"] {
            assert!(decode("", "/v1/events", body.as_bytes()).is_err(), "{body}");
        }
        assert!(decode("application/protobuf", "/v1/events", b"\x1A\xFF").is_err());
        for wrong in ["yesterday", "", "-1", "%2B5", "1.5", "99999999999999999"] {
            assert!(decode("", &format!("/v1/events?sent_at={wrong}"), ONE.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fault_69_the_senders_clock_is_corrected_by_sent_at() {
        let event = ONE.replace("{\"platform\"", "{\"timestamp\":1000000000,\"platform\"");
        let request = decode("", "/v1/events?sent_at=3000", event.as_bytes()).unwrap();
        let event: Event = decoded(&request).remove(0);
        assert_eq!(event.timestamp, crate::writer::tests::NOW - 2_000_000_000);
        assert_eq!(event.sender.unwrap().original_timestamp, Some(1_000_000_000));
    }
}
