//! The schema itself, read by protox, says which events there can be.

use std::collections::BTreeSet;

use proptest::prelude::*;
use protox::prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use serde_json::Value;

use super::*;
use crate::events::{Event, Message as _};

const ALL_KINDS: &str = include_str!("../../../../tests/events/all-kinds.jsonl");
const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");

/// Content of a message of the schema.
struct Schema(DescriptorPool);

impl Schema {
    fn read() -> Self {
        let files = protox::compile(["events.proto"], [PROTO]).unwrap();
        Self(DescriptorPool::from_file_descriptor_set(files).unwrap())
    }

    fn message(&self, name: &str) -> MessageDescriptor {
        self.0.get_message_by_name(&format!("stream.{name}")).unwrap()
    }
}

/// Makes encoded messages of any content.
struct Maker {
    random: fastrand::Rng,
    /// Every field is there and isn't empty.
    full: bool,
    /// Messages around what is made: with more than 8, a Value is no list and no map.
    depth: u32,
}

impl Maker {
    fn message(&mut self, descriptor: &MessageDescriptor) -> Vec<u8> {
        let mut out = Vec::new();
        self.depth += 1;
        let mut oneofs = BTreeSet::new();
        for field in descriptor.fields() {
            if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
                let of: Vec<_> = oneof.fields().collect();
                if oneofs.insert(oneof.name().to_owned()) && (self.full || self.random.bool()) {
                    let field = &of[self.random.usize(..of.len())];
                    if self.depth > 8 && matches!(field.name(), "list" | "map") {
                        continue;
                    }
                    self.value(field.number(), &field.kind(), &mut out);
                }
                continue;
            }
            let count = match (self.full, field.is_list() || field.is_map()) {
                (true, false) => 1,
                (true, true) => 2,
                (false, false) => self.random.usize(..2),
                (false, true) => self.random.usize(..4),
            };
            (0..count).for_each(|_| self.value(field.number(), &field.kind(), &mut out));
        }
        self.depth -= 1;
        out
    }

    fn value(&mut self, number: u32, kind: &Kind, out: &mut Vec<u8>) {
        let mut key = |wire: u32| prost::encoding::encode_varint(u64::from(number << 3 | wire), out);
        match kind {
            Kind::Double => {
                key(1);
                out.extend(self.double().to_le_bytes());
            }
            Kind::Fixed64 => {
                key(1);
                out.extend(
                    (self.random.u64(..) >> self.random.u32(..64)).max(u64::from(self.full)).to_le_bytes(),
                );
            }
            Kind::Uint32 => {
                key(0);
                prost::encoding::encode_varint(self.random.u32(..).into(), out);
            }
            Kind::Uint64 => {
                key(0);
                prost::encoding::encode_varint(self.random.u64(..), out);
            }
            Kind::Sint32 => {
                key(0);
                let value = self.random.i32(..) >> self.random.u32(..32);
                prost::encoding::encode_varint((value << 1 ^ value >> 31) as u32 as u64, out);
            }
            Kind::Sint64 => {
                key(0);
                let value = self.random.i64(..) >> self.random.u32(..64);
                prost::encoding::encode_varint((value << 1 ^ value >> 63) as u64, out);
            }
            Kind::Bool => {
                key(0);
                out.push(u8::from(self.full || self.random.bool()));
            }
            Kind::Enum(_) => {
                key(0);
                let value = if self.full { 1 } else { self.random.i32(-2..12) };
                prost::encoding::encode_varint(i64::from(value) as u64, out);
            }
            Kind::String => {
                key(2);
                self.bytes(|maker| maker.text().into_bytes(), out);
            }
            Kind::Bytes => {
                key(2);
                self.bytes(|maker| (0..maker.length()).map(|_| maker.random.u8(..)).collect(), out);
            }
            Kind::Message(descriptor) => {
                key(2);
                self.bytes(|maker| maker.message(descriptor), out);
            }
            other => panic!("the schema has {other:?} now"),
        }
    }

    fn bytes(&mut self, make: impl FnOnce(&mut Self) -> Vec<u8>, out: &mut Vec<u8>) {
        let bytes = make(self);
        prost::encode_length_delimiter(bytes.len(), out).unwrap();
        out.extend(bytes);
    }

    fn length(&mut self) -> usize {
        let lengths = [16, 8, 1, 2, 15, 17, 40, 0];
        lengths[self.random.usize(..lengths.len() - usize::from(self.full))]
    }

    fn text(&mut self) -> String {
        let alphabet =
            ['a', 'Z', '0', ' ', '"', '\\', '/', '\n', '\0', '\u{7f}', 'é', '漢', '😀', '\u{2028}', '-'];
        (0..self.length()).map(|_| alphabet[self.random.usize(..alphabet.len())]).collect()
    }

    fn double(&mut self) -> f64 {
        match self.random.u8(..6) {
            0 => self.random.f64(),
            1 => f64::from(self.random.i32(..)),
            2 => [0.0, -0.0, f64::MIN, f64::MAX, 5e-324, f64::INFINITY, f64::NEG_INFINITY]
                [self.random.usize(..7)],
            // One of them: their payload has no text.
            3 => f64::NAN,
            _ => Some(f64::from_bits(self.random.u64(..))).filter(|value| !value.is_nan()).unwrap_or(1e-7),
        }
    }
}

fn event(seed: u64, full: bool) -> Event {
    thread_local!(static SCHEMA: Schema = Schema::read());
    let mut maker = Maker { random: fastrand::Rng::with_seed(seed), full, depth: 0 };
    let bytes = SCHEMA.with(|schema| maker.message(&schema.message("Event")));
    Event::decode(&bytes[..]).unwrap()
}

fn line(event: &Event) -> String {
    let mut out = Vec::new();
    write_event(event, &mut out);
    String::from_utf8(out).unwrap()
}

proptest! {
    #[test]
    fn every_event_comes_back(seed: u64, full: bool) {
        let event = event(seed, full);
        let line = line(&event);
        prop_assert!(!line.contains('\n'));
        let read = parse_event(&line).map_err(|error| TestCaseError::fail(format!("{error}: {line}")))?;
        // As bytes: NaN isn't equal to itself.
        prop_assert!(read.encode_to_vec() == event.encode_to_vec(), "{}", line);
    }

    #[test]
    fn noise_is_no_panic(line: String) {
        parse_event(&line).ok();
    }

    #[test]
    fn a_line_that_is_cut_is_refused_where_it_ends(seed: u64, cut: prop::sample::Index) {
        let line = line(&event(seed, true));
        let cut = cut.index(line.len());
        if line.is_char_boundary(cut) {
            let error = parse_event(&line[..cut]).unwrap_err();
            prop_assert!(error.column.abs_diff(cut) <= 1 && error.problem.starts_with("EOF"), "{} {:?}", cut, error);
        }
    }
}

#[test]
fn the_examples_have_every_field_of_every_kind_and_are_as_we_write_them() {
    let schema = Schema::read();
    let mut kinds = Vec::new();
    for example in ALL_KINDS.lines() {
        let event = parse_event(example).unwrap();
        assert_eq!(line(&event), example);
        let mut json: Value = serde_json::from_str(example).unwrap();
        let kind = json["event_type"].as_str().unwrap().to_owned();
        assert!(json[&kind].is_object(), "{kind}");
        has_all(&schema.message("Event"), &mut json, &mut kinds, "");
    }
    let bodies = schema.message("Event").oneofs().next().unwrap();
    let expected: Vec<_> = bodies.fields().map(|field| field.name().to_owned()).collect();
    assert_eq!(kinds, expected);
}

#[test]
fn the_guide_s_examples_are_events() {
    let guide = include_str!("../../../../docs/events.md");
    let blocks = guide.split("\n```json\n").skip(1);
    let examples = blocks.map(|block| block.split_once("\n```\n").expect("the end of an example").0);
    let kinds: Vec<_> = examples
        .map(|example| {
            let json = example.replace(r#""…": "as below""#, "");
            parse_event(&json).unwrap_or_else(|error| panic!("{error}: {json}")).body.map(|body| body.name())
        })
        .collect();
    assert_eq!((kinds.len(), kinds.iter().flatten().collect::<BTreeSet<_>>().len()), (23, 22));
}

/// Every field of `message` is in `json`, and nothing else; of a oneof, the one that is there goes to `kinds`.
fn has_all(message: &MessageDescriptor, json: &mut Value, kinds: &mut Vec<String>, path: &str) {
    let object = json.as_object_mut().unwrap_or_else(|| panic!("{path} is no object"));
    for field in message.fields().filter(|field| !field.name().starts_with("typed_")) {
        let path = format!("{path}.{}", field.name());
        let Some(mut value) = object.remove(field.name()) else {
            let is_other_kind = field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic());
            assert!(is_other_kind, "{path} is missing");
            continue;
        };
        if field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic()) {
            kinds.push(field.name().to_owned());
        }
        match (field.kind(), &mut value) {
            (Kind::Message(_), Value::Object(map)) if field.is_map() => {
                let has_values = message.get_field_by_name(&format!("typed_{}", field.name())).is_some();
                assert!(map.values().any(Value::is_string), "{path}");
                assert!(!has_values || map.values().any(|value| !value.is_string()), "{path}");
            }
            (Kind::Message(inner), _) if inner.name() == "Value" => {}
            (Kind::Message(inner), Value::Array(list)) => {
                assert!(!list.is_empty(), "{path}");
                list.iter_mut().for_each(|value| has_all(&inner, value, kinds, &path));
            }
            (Kind::Message(inner), value) => has_all(&inner, value, kinds, &path),
            _ => {}
        }
    }
    assert!(object.is_empty(), "{path}: {object:?}");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let check = |line: &str, expected: &str| {
        assert_eq!(parse_event(line).unwrap_err().to_string(), expected, "{line}");
    };
    check("", "column 0: EOF while parsing a value");
    check("{", "column 1: EOF while parsing an object");
    check(r#"{"log":{"#, "column 8: log: EOF while parsing an object");
    check(
        "[]",
        "column 0: invalid type: sequence, expected an object with some of the keys event_id, timestamp, platform, session_id, user_id, event_type, event_name, context, properties, user_interaction, performance, video, application_metric, trace_span, log, infrastructure_metric, custom, metric_series, exposure, identify, alias, group, consent, feedback, crash, replay_chunk, incident, finding, deployment, access, cost, anonymous_id, group_id, app, device, campaign, page, revenue, sender, resource, scope",
    );
    check(r#"{"platform":"web"} {"#, "column 20: trailing characters");
    check(
        r#"{"log":{"servcie":"x"}}"#,
        "column 17: log.servcie: no such key; there are service, level, message, logger_name, thread_name, stack_trace, context, metadata, body, severity_number, severity_text, observed_time, flags, dropped_attributes_count, event_name",
    );
    check(r#"{"platform":"web","platform":"web"}"#, "column 28: the key `platform` comes twice");
    check(r#"{"context":{"a":"1","a":"2"}}"#, "column 28: context: the key `a` comes twice");
    check(
        r#"{"sender":{"headers":{"a":1}}}"#,
        "column 27: sender.headers.a: invalid type: integer `1`, expected a string",
    );
    check(r#"{"context":{"a":"1","a":2}}"#, "column 26: context: the key `a` comes twice");
    check(
        r#"{"context":{"a":{"$bytes":"","b":1}}}"#,
        "column 32: context.a: `$bytes` stands alone, there is `b` beside it",
    );
    check(r#"{"log":{},"video":{}}"#, "column 21: an event has one body, this one has `log` and `video`");
    check(
        r#"{"trace_span":{"attributes":{"http_status_code":"404"}}}"#,
        "column 53: trace_span.attributes.http_status_code: invalid type: string \"404\", expected u32",
    );
    check(
        r#"{"performance":{"measurements":[{"value":1},{"value":"fast"}]}}"#,
        "column 59: performance.measurements[1].value: invalid type: string \"fast\", expected a number",
    );
    check(
        r#"{"log":{"level":"warning"}}"#,
        "column 25: log.level: invalid value: string \"warning\", expected one of debug, info, warn, error, fatal, trace",
    );
    check(
        r#"{"event_id":"4711x"}"#,
        "column 19: event_id: invalid value: string \"4711x\", expected a UUID such as \"017f22e2-79b0-7cc3-98c4-dc0c0c07398f\"",
    );
    check(
        r#"{"timestamp":1.5}"#,
        "column 16: timestamp: invalid type: floating point `1.5`, expected a time such as \"2026-11-21T20:00:00.123456789Z\", or whole nanoseconds of Unix time, between 1970 and 2554",
    );
    // Both would be absent, and replaced.
    check(
        r#"{"event_id":""}"#,
        "column 14: event_id: invalid value: string \"\", expected a UUID such as \"017f22e2-79b0-7cc3-98c4-dc0c0c07398f\"",
    );
    for zero in ["0", "\"1970-01-01T00:00:00Z\"", "\"1970-01-01T01:00:00+01:00\""] {
        let error = parse_event(&format!(r#"{{"timestamp":{zero}}}"#)).unwrap_err();
        assert_eq!(
            (&*error.path, error.problem.contains("leave the key out")),
            ("timestamp", true),
            "{zero}: {error}"
        );
    }
}

#[test]
fn several_forms_are_read() {
    let check = |line: &str, canonical: &str| {
        let event = parse_event(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(self::line(&event), canonical);
    };
    check("  { }\r", "{}");
    check(r#"{"timestamp":1795291200123456789}"#, r#"{"timestamp":"2026-11-21T20:00:00.123456789Z"}"#);
    check(
        r#"{"timestamp":"2026-11-21T21:00:00+01:00"}"#,
        r#"{"timestamp":"2026-11-21T20:00:00.000000000Z"}"#,
    );
    check(r#"{"user_id":null,"video":null,"log":{"service":null},"context":null}"#, r#"{"log":{}}"#);
    check(
        r#"{"sender":{"original_timestamp":0}}"#,
        r#"{"sender":{"original_timestamp":"1970-01-01T00:00:00.000000000Z"}}"#,
    );
    check(r#"{"video":null,"log":{},"custom":null}"#, r#"{"log":{}}"#);
    check(r#"{"user_id":""}"#, r#"{"user_id":""}"#);
    check(r#"{"session_id":"","context":{},"event_type":0}"#, "{}");
    check(r#"{"event_type":6,"log":{"level":77}}"#, r#"{"event_type":"log","log":{"level":77}}"#);
    check(
        r#"{"event_id":"017F22E279B07CC398C4DC0C0C07398F"}"#,
        r#"{"event_id":"017f22e2-79b0-7cc3-98c4-dc0c0c07398f"}"#,
    );
    check(
        r#"{"properties":{"n":5,"d":5.5,"t":"x","l":[1,null,"y"],"m":{"a":true},"b":{"$bytes":"AP8="},"i":{"$number":"NaN"},"s":{"$text":"z"}}}"#,
        r#"{"properties":{"t":"x","b":{"$bytes":"AP8="},"d":5.5,"i":{"$number":"NaN"},"l":[1,null,"y"],"m":{"a":true},"n":5,"s":{"$text":"z"}}}"#,
    );
    check(
        r#"{"log":{"body":{"$map":{"$bytes":1,"$map":2}}}}"#,
        r#"{"log":{"body":{"$map":{"$bytes":1,"$map":2}}}}"#,
    );
    check(r#"{"log":{"body":{"$null":true}}}"#, r#"{"log":{"body":{"$null":true}}}"#);
    check(r#"{"log":{"body":18446744073709551615}}"#, r#"{"log":{"body":1.8446744073709552e+19}}"#);
    check(
        r#"{"properties":{"a":{"$string":"x","$value":1}}}"#,
        r#"{"properties":{"a":{"$string":"x","$value":1}}}"#,
    );
    check(
        r#"{"application_metric":{"value":3,"labels":{"a":"\u00e9"}}}"#,
        r#"{"application_metric":{"value":3.0,"labels":{"a":"é"}}}"#,
    );
}
