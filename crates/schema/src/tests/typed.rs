//! The kinds and values that came later: each kind with every field, from tests/events/all-kinds.jsonl.

use super::*;
use crate::json::{parse_event, write_event};
use crate::table::{EVENT, TYPED_ENTRIES_MAX, VALUE_DEPTH_MAX, VALUE_LIST_MAX};

/// An event of each kind with every field.
fn full() -> Vec<Event> {
    let lines = include_str!("../../../../tests/events/all-kinds.jsonl").lines();
    lines.map(|line| Event { timestamp: AT_NS, ..parse_event(line).unwrap() }).collect()
}

fn of_kind(kind: EventType) -> Event {
    full().into_iter().find(|event| event.event_type() == kind).unwrap()
}

/// The rejection of an event of this kind after a change: its code, and the field that its message names.
fn changed_to(kind: EventType, change: impl FnOnce(&mut Event)) -> Option<(Code, String)> {
    let mut event = of_kind(kind);
    change(&mut event);
    let rejection = check_bytes(&event.encode_to_vec()).err()?;
    let message = rejection.message(&plan(), 60_000, 1_000);
    Some((rejection.code, message.split(": ").next().unwrap_or_default().to_owned()))
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(text: &str) -> Value {
    value(Kind::Text(text.to_owned()))
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    value(Kind::Map(ValueMap { entries: entries.map(|(key, value)| (key.to_owned(), value)).into() }))
}

fn list(values: Vec<Value>) -> Value {
    value(Kind::List(ValueList { values }))
}

#[test]
fn an_event_of_each_kind_with_every_field_is_accepted_also_those_that_came_later() {
    let events = full();
    assert_eq!(events.len(), crate::table::BODIES as usize);
    for event in events {
        let bytes = event.encode_to_vec();
        assert_eq!(check_bytes(&bytes), Ok(()), "{}", event.event_name);
        assert!(is_readable(&plan(), &bytes), "{}", event.event_name);
    }
}

#[test]
fn bodies_and_types_agree_by_their_numbers() {
    for event in full() {
        let body = event.body.as_ref().unwrap();
        assert_eq!(body.event_type(), event.event_type());
        let number = EVENT.field(body.name()).unwrap().number;
        assert_eq!(number, event.event_type as u32 + crate::table::FIRST_BODY - 1);
    }
}

#[test]
fn the_later_kinds_rules_hold() {
    let check = |kind, change: fn(&mut Event), code, field: &str| {
        assert_eq!(changed_to(kind, change), Some((code, field.to_owned())));
    };
    use EventType::*;
    check(
        MetricSeries,
        |e| body!(e, MetricSeries).points.clear(),
        Code::FieldMissing,
        "metric_series.points",
    );
    check(
        MetricSeries,
        |e| body!(e, MetricSeries).points = vec![MetricPoint { time: 1, ..Default::default() }; 4_097],
        Code::TooManyItems,
        "metric_series.points",
    );
    check(
        MetricSeries,
        |e| body!(e, MetricSeries).points[0].histogram.as_mut().unwrap().bucket_counts = vec![1; 1_025],
        Code::TooManyItems,
        "metric_series.points.histogram.bucket_counts",
    );
    check(ReplayChunk, |e| e.session_id.clear(), Code::FieldMissing, "session_id");
    check(ReplayChunk, |e| body!(e, ReplayChunk).end_time = 1, Code::OutOfRange, "replay_chunk.end_time");
    check(Cost, |e| body!(e, Cost).charge_period_end = 1, Code::OutOfRange, "cost.charge_period_end");
    check(Finding, |e| body!(e, Finding).score = Some(10.5), Code::OutOfRange, "finding.score");
    check(Log, |e| body!(e, Log).severity_number = 25, Code::OutOfRange, "log.severity_number");
    check(
        Access,
        |e| e.sender.as_mut().unwrap().client_address = "x".into(),
        Code::InvalidValue,
        "sender.client_address",
    );
    check(
        TraceSpan,
        |e| body!(e, TraceSpan).links[0].trace_id = vec![0; 16],
        Code::InvalidValue,
        "trace_span.links.trace_id",
    );
    check(
        Log,
        |e| (body!(e, Log).message.clear(), body!(e, Log).body = None).1,
        Code::FieldMissing,
        "log.message",
    );
    assert_eq!(changed_to(Log, |e| body!(e, Log).message.clear()), None, "a body is enough");
}

#[test]
fn numbers_of_series_may_be_none_and_others_not() {
    let any = |e: &mut Event| {
        let point = &mut body!(e, MetricSeries).points[0];
        point.value = Some(f64::NAN);
        point.histogram.as_mut().unwrap().bounds = vec![f64::NEG_INFINITY, 1.0, f64::INFINITY];
    };
    assert_eq!(changed_to(EventType::MetricSeries, any), None);
    let revenue = |e: &mut Event| e.revenue.as_mut().unwrap().amount = Some(f64::NAN);
    assert_eq!(changed_to(EventType::Cost, revenue), Some((Code::NotFinite, "revenue.amount".into())));
}

#[test]
fn values_are_bounded() {
    let check = |value: Value, expected: Option<Code>| {
        let put = |e: &mut Event| drop(e.typed_properties.insert("k".into(), value));
        let found = changed_to(EventType::Custom, put);
        assert_eq!(found, expected.map(|code| (code, "properties".to_owned())));
    };
    let nested = |depth: u32| {
        (0..depth).fold(
            text("in"),
            |inner, level| {
                if level % 2 == 0 { list(vec![inner]) } else { map([("k", inner)]) }
            },
        )
    };
    check(nested(VALUE_DEPTH_MAX), None);
    check(nested(VALUE_DEPTH_MAX + 1), Some(Code::InvalidValue));
    check(nested(40), Some(Code::InvalidValue));
    check(text(&"t".repeat(65_536)), None);
    check(text(&"t".repeat(65_537)), Some(Code::FieldTooLong));
    check(value(Kind::Bytes(vec![0; 65_537])), Some(Code::FieldTooLong));
    check(list(vec![Value::default(); VALUE_LIST_MAX as usize]), None);
    check(list(vec![Value::default(); VALUE_LIST_MAX as usize + 1]), Some(Code::TooManyItems));
    let entries = |count: u32| (0..count).map(|key| (key.to_string(), Value::default())).collect();
    check(value(Kind::Map(ValueMap { entries: entries(TYPED_ENTRIES_MAX) })), None);
    check(value(Kind::Map(ValueMap { entries: entries(TYPED_ENTRIES_MAX + 1) })), Some(Code::TooManyItems));
    check(map([("", text("x"))]), Some(Code::FieldTooLong));
    check(value(Kind::Number(f64::NAN)), None);
    let many = |e: &mut Event| e.typed_context = entries(TYPED_ENTRIES_MAX + 1);
    assert_eq!(changed_to(EventType::Custom, many), Some((Code::TooManyItems, "context".into())));
    let long_key = |e: &mut Event| drop(e.typed_context.insert("k".repeat(257), Value::default()));
    assert_eq!(changed_to(EventType::Custom, long_key), Some((Code::FieldTooLong, "context".into())));
}

#[test]
fn a_key_is_in_one_of_two_maps() {
    let both = |e: &mut Event| {
        e.properties.insert("k".into(), "x".into());
        e.typed_properties.insert("k".into(), value(Kind::Integer(1)));
    };
    assert_eq!(changed_to(EventType::Custom, both), Some((Code::FieldRepeated, "properties".into())));
    let other = |e: &mut Event| drop(e.typed_properties.insert("l".into(), value(Kind::Integer(1))));
    assert_eq!(changed_to(EventType::Custom, other), None);
}

#[test]
fn lists_of_numbers_come_packed_or_one_by_one() {
    // metric_series.points.histogram.bounds, twice as one number and once packed.
    let one = [&b"\x31"[..], &1.5_f64.to_le_bytes()].concat();
    let packed = [&b"\x32\x10"[..], &[0; 16]].concat();
    let mut event = of_kind(EventType::MetricSeries);
    let series = body!(event, MetricSeries);
    series.points.truncate(1);
    series.points[0] = MetricPoint { time: 1, histogram: Some(Histogram::default()), ..Default::default() };
    let bytes = event.encode_to_vec();
    assert_eq!(check_bytes(&bytes), Ok(()));
    for (unpacked, entries) in [(one.clone(), 1), ([one.clone(), packed, one].concat(), 4)] {
        let histogram = Histogram::decode(&unpacked[..]).unwrap();
        assert_eq!(histogram.bounds.len(), entries);
        let mut point = b"\x09\x01\0\0\0\0\0\0\0".to_vec();
        crate::cursor::put_bytes(&mut point, 6, &unpacked);
        let mut series = MetricSeries { name: "n".into(), r#type: 1, ..Default::default() }.encode_to_vec();
        crate::cursor::put_bytes(&mut series, 10, &point);
        let mut bytes = Event { body: None, ..event.clone() }.encode_to_vec();
        crate::cursor::put_bytes(&mut bytes, 18, &series);
        assert_eq!(check_bytes(&bytes), Ok(()));
        assert!(is_readable(&plan(), &bytes));
    }
}

#[test]
fn a_value_has_one_kind() {
    // properties.k with two kinds: a text and an integer.
    let entry = b"\x0a\x01k\x12\x05\x0a\x01x\x18\x02";
    let mut bytes = of_kind(EventType::Custom).encode_to_vec();
    crate::cursor::put_bytes(&mut bytes, 41, entry);
    assert!(Event::decode(&bytes[..]).is_ok());
    assert_eq!(check_bytes(&bytes).unwrap_err().code, Code::FieldRepeated);
}

#[test]
fn what_lies_too_deep_is_neither_accepted_nor_walked_over() {
    let mut inner = Vec::new();
    for _ in 0..30_000 {
        let mut outer = Vec::new();
        crate::cursor::put_bytes(&mut outer, 1, &inner);
        inner.clear();
        crate::cursor::put_bytes(&mut inner, 5, &outer);
        if inner.len() > 120_000 {
            break;
        }
    }
    let mut entry = b"\x0a\x01k".to_vec();
    crate::cursor::put_bytes(&mut entry, 2, &inner);
    let mut bytes = log(1).encode_to_vec();
    crate::cursor::put_bytes(&mut bytes, 41, &entry);
    assert_eq!(check_bytes(&bytes).unwrap_err().code, Code::InvalidValue);
    assert!(!is_readable(&plan(), &bytes));
}

// ---- Privacy ----------------------------------------------------------------------------------------------------

/// The properties of an event as the rules leave them, as JSON.
fn redacted(rules: &[&str], properties: &str) -> String {
    let line = format!(
        r#"{{"event_id":"01935006-9b80-7111-8a5e-3f1c2b4d5e01","timestamp":{AT_NS},"platform":"web","event_type":"custom","event_name":"x","properties":{properties},"custom":{{}}}}"#
    );
    let mut event = redact(rules, &parse_event(&line).unwrap());
    (event.event_id, event.timestamp, event.event_type) = (Vec::new(), 0, 0);
    (event.platform, event.event_name, event.body) = (String::new(), String::new(), None);
    let mut out = Vec::new();
    write_event(&event, &mut out);
    let out = String::from_utf8(out).unwrap();
    out.strip_prefix(r#"{"properties":"#).and_then(|out| out.strip_suffix('}')).unwrap().to_owned()
}

#[test]
fn rules_for_a_map_hold_for_its_values() {
    let check = |rules: &[&str], properties: &str, expected: &str| {
        assert_eq!(redacted(rules, properties), expected, "{rules:?}");
    };
    check(&["properties.a=mask"], r#"{"a":5,"b":6}"#, r#"{"a":{"$text":"***"},"b":6}"#);
    check(&["properties.a=drop"], r#"{"a":5,"b":6,"c":"x"}"#, r#"{"c":"x","b":6}"#);
    check(&["properties.a=truncate"], r#"{"a":{"$text":"192.0.2.7"}}"#, r#"{"a":{"$text":"192.0.2.0"}}"#);
    check(&["properties=mask"], r#"{"a":5,"b":"x","c":null}"#, r#"{"b":"***","a":{"$text":"***"},"c":null}"#);
    check(
        &["properties.user.email=mask"],
        r#"{"user":{"email":"ada@example.org","id":7},"user.email":"ada@example.org"}"#,
        r#"{"user.email":"***","user":{"email":"***","id":7}}"#,
    );
    check(
        &["properties.users.email=drop"],
        r#"{"users":[{"email":"a","id":1},{"email":"b","id":2},3]}"#,
        r#"{"users":[{"id":1},{"id":2},3]}"#,
    );
    // The key's own rule goes before its map's, inside of values as well.
    check(
        &["properties=mask", "properties.user.email=drop"],
        r#"{"user":{"email":"a","id":1}}"#,
        r#"{"user":{"id":"***"}}"#,
    );
}

#[test]
fn a_text_has_one_hash_in_both_maps() {
    let short = redacted(&["properties.a=hash"], r#"{"a":"ada"}"#);
    let typed = redacted(&["properties.a=hash"], r#"{"a":{"$text":"ada"}}"#);
    assert_eq!(short.len(), r#"{"a":""}"#.len() + 32);
    assert_eq!(typed, short.replace(":\"", r#":{"$text":""#).replace("\"}", "\"}}"));
    let bytes = redacted(&["properties.a=hash"], r#"{"a":{"$bytes":"YWRh"}}"#);
    assert_eq!(bytes, typed, "the same bytes");
}

#[test]
fn a_value_that_is_a_field_is_treated_like_one_in_a_map() {
    let of = |rule: &str| {
        let mut event = redact(&[rule], &of_kind(EventType::Log));
        body!(event, Log).body.take()
    };
    assert_eq!(of("log.body=drop"), None);
    assert_eq!(of("log.body=mask"), Some(text("***")));
    let expected = map([("code", value(Kind::Integer(7))), ("text", text("***"))]);
    assert_eq!(of("log.body.text=mask"), Some(expected));
}

#[test]
fn rules_name_maps_as_json_does() {
    for path in ["typed_properties", "typed_properties.x", "trace_span.attributes.typed_other"] {
        let rule = PrivacyRule { path: path.into(), action: PrivacyAction::Drop };
        assert!(matches!(Plan::new(&[rule]), Err(PrivacyError::Path { .. })), "{path}");
    }
}

// ---- Against prost ----------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn mutations_of_every_kind_never_panic_and_agree_with_prost(bytes in changed(full())) {
        agrees_with_prost(&bytes)?;
    }

    #[test]
    fn no_mutation_keeps_what_a_rule_drops(bytes in changed(full())) {
        let rules: Vec<PrivacyRule> = ["properties=drop", "resource=drop"].map(|rule| rule.parse().unwrap()).into();
        let plan = Plan::new(&rules).unwrap();
        let redactor = Redactor::new(&PrivacyConfig::new(rules, [7; 32], false).unwrap());
        let mut out = Vec::new();
        if is_readable(&plan, &bytes) && redactor.redact(&plan, &bytes, &mut out).is_ok() {
            let event = Event::decode(&out[..]).unwrap();
            prop_assert!(event.properties.is_empty() && event.typed_properties.is_empty());
            prop_assert!(event.resource.is_none());
        }
    }
}
