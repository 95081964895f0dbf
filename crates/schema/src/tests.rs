//! Validation and privacy against prost, which reads the same bytes another way.

use proptest::prelude::*;
use samples::{AT_NS, event, events, log, text_map};

use crate::cursor::{Cursor, Wire};
use crate::events::*;
use crate::plan::{Plan, ROOT};
use crate::rejection::{Rejection, RejectionCode as Code};
use crate::table::Rule;
use crate::validate::{Clocks, is_readable, validate};
use crate::{PrivacyAction, PrivacyConfig, PrivacyError, PrivacyRule, Redactor};

#[path = "../../../tests/events/samples.rs"]
#[allow(dead_code, reason = "other crates use the rest")]
mod samples;

const CLOCKS: Clocks = Clocks { now_ns: AT_NS, age_ns_max: 60_000_000_000, ahead_ns_max: 1_000_000_000 };

fn plan() -> Plan {
    Plan::new(&[]).unwrap()
}

fn check_bytes(bytes: &[u8]) -> Result<(), Rejection> {
    validate(&plan(), bytes, CLOCKS).map(drop)
}

/// The rejection of a sample of kind `kind`, from 0, after a change: its code, and the field that its message names.
fn rejection(kind: usize, change: impl FnOnce(&mut Event)) -> Option<(Code, String)> {
    let mut event = events().swap_remove(kind);
    change(&mut event);
    let rejection = check_bytes(&event.encode_to_vec()).err()?;
    let message = rejection.message(&plan(), 60_000, 1_000);
    let field = message.split(": ").next().unwrap_or_default().to_owned();
    Some((rejection.code, field))
}

macro_rules! body {
    ($event:expr, $kind:ident) => {
        match &mut $event.body {
            Some(Body::$kind(body)) => body,
            other => panic!("{other:?}"),
        }
    };
}

#[cfg(feature = "json")]
mod typed;

const INTERACTION: usize = 0;
const PERFORMANCE: usize = 1;
const VIDEO: usize = 2;
const METRIC: usize = 3;
const SPAN: usize = 4;
const LOG: usize = 5;
const INFRASTRUCTURE: usize = 6;
const CUSTOM: usize = 7;

#[test]
fn an_event_of_each_kind_with_every_field_is_accepted() {
    for event in events() {
        assert_eq!(check_bytes(&event.encode_to_vec()), Ok(()), "{event:?}");
    }
}

#[test]
fn an_event_of_each_kind_with_only_what_is_required_is_accepted() {
    let measurement = Measurement { name: "m".into(), value: Some(0.0), unit: String::new() };
    let bodies = [
        Body::UserInteraction(UserInteraction {
            properties: Some(InteractionProperties { action: "click".into(), ..Default::default() }),
            ..Default::default()
        }),
        Body::Performance(Performance { category: 4, measurements: vec![measurement], context: None }),
        Body::Video(Video { video_id: "v".into(), event_name: 5, ..Default::default() }),
        Body::ApplicationMetric(ApplicationMetric {
            service: "s".into(),
            metric_type: 2,
            name: "n".into(),
            value: Some(-1.0),
            ..Default::default()
        }),
        Body::TraceSpan(TraceSpan {
            trace_id: vec![1; 16],
            span_id: vec![1; 8],
            service: "s".into(),
            operation: "o".into(),
            start_time: 1,
            end_time: 1,
            status: 1,
            ..Default::default()
        }),
        Body::Log(Log { service: "s".into(), level: 1, message: "m".into(), ..Default::default() }),
        Body::InfrastructureMetric(InfrastructureMetric {
            resource_type: 1,
            resource_id: "r".into(),
            ..Default::default()
        }),
        Body::Custom(CustomEvent::default()),
    ];
    for (index, body) in bodies.into_iter().enumerate() {
        let mut event = event(1, body);
        (event.user_id, event.context, event.properties) = (None, Default::default(), Default::default());
        if index > VIDEO {
            event.session_id.clear();
        }
        assert_eq!(check_bytes(&event.encode_to_vec()), Ok(()), "{event:?}");
    }
}

#[test]
fn the_envelope_s_rules_hold() {
    let check = |change: fn(&mut Event), code, field: &str| {
        assert_eq!(rejection(VIDEO, change), Some((code, field.to_owned())));
    };
    check(|event| event.event_id.clear(), Code::FieldMissing, "event_id");
    check(|event| event.event_id.truncate(15), Code::InvalidValue, "event_id");
    check(|event| event.event_id = vec![0; 16], Code::InvalidValue, "event_id");
    check(|event| event.timestamp = 0, Code::FieldMissing, "timestamp");
    check(|event| event.timestamp = AT_NS + 1_000_000_001, Code::ClockAhead, "timestamp");
    check(|event| event.timestamp = AT_NS - 60_000_000_001, Code::TooOld, "timestamp");
    check(|event| event.timestamp = u64::MAX, Code::ClockAhead, "timestamp");
    check(|event| event.platform.clear(), Code::FieldMissing, "platform");
    check(|event| event.platform = "p".repeat(65), Code::FieldTooLong, "platform");
    check(|event| event.session_id.clear(), Code::FieldMissing, "session_id");
    check(|event| event.user_id = Some("u".repeat(129)), Code::FieldTooLong, "user_id");
    check(|event| event.event_type = 0, Code::FieldMissing, "event_type");
    check(|event| event.event_type = 23, Code::InvalidValue, "event_type");
    check(|event| event.event_type = -1, Code::InvalidValue, "event_type");
    check(|event| event.event_type = 6, Code::BodyMismatch, "body");
    check(|event| event.body = None, Code::BodyMismatch, "body");
    check(|event| event.event_name.clear(), Code::FieldMissing, "event_name");
    check(|event| event.context = text_map([("", "x")]), Code::FieldTooLong, "context");
    check(|event| event.context = [("k".repeat(65), String::new())].into(), Code::FieldTooLong, "context");
    check(
        |event| event.properties = [("k".into(), "v".repeat(1_025))].into(),
        Code::FieldTooLong,
        "properties",
    );
    check(
        |event| event.properties = (0..65).map(|key| (key.to_string(), String::new())).collect(),
        Code::TooManyItems,
        "properties",
    );
    assert_eq!(rejection(LOG, |event| event.session_id.clear()), None, "a log needs no session");
    for at in [AT_NS + 1_000_000_000, AT_NS - 60_000_000_000] {
        assert_eq!(rejection(VIDEO, |event| event.timestamp = at), None);
    }
}

#[test]
fn each_kind_s_rules_hold() {
    let check = |kind, change: fn(&mut Event), code, field: &str| {
        assert_eq!(rejection(kind, change), Some((code, field.to_owned())));
    };
    let interaction = |change, code, field| check(INTERACTION, change, code, field);
    interaction(
        |e| body!(e, UserInteraction).properties = None,
        Code::FieldMissing,
        "user_interaction.properties",
    );
    interaction(
        |e| body!(e, UserInteraction).properties.as_mut().unwrap().action.clear(),
        Code::FieldMissing,
        "user_interaction.properties.action",
    );
    interaction(
        |e| body!(e, UserInteraction).device_info.as_mut().unwrap().manufacturer = "m".repeat(129),
        Code::FieldTooLong,
        "user_interaction.device_info.manufacturer",
    );
    let performance = |change, code, field| check(PERFORMANCE, change, code, field);
    performance(|e| body!(e, Performance).category = 0, Code::FieldMissing, "performance.category");
    performance(
        |e| body!(e, Performance).measurements.clear(),
        Code::FieldMissing,
        "performance.measurements",
    );
    performance(
        |e| body!(e, Performance).measurements[1].value = None,
        Code::FieldMissing,
        "performance.measurements.value",
    );
    performance(
        |e| body!(e, Performance).measurements[1].value = Some(f64::NAN),
        Code::NotFinite,
        "performance.measurements.value",
    );
    performance(
        |e| {
            let measurements = &mut body!(e, Performance).measurements;
            *measurements = vec![measurements[0].clone(); 65];
        },
        Code::TooManyItems,
        "performance.measurements",
    );
    performance(
        |e| {
            let context = body!(e, Performance).context.as_mut().unwrap();
            context.network_info.as_mut().unwrap().strength = Some(1.5);
        },
        Code::OutOfRange,
        "performance.context.network_info.strength",
    );
    let video = |change, code, field| check(VIDEO, change, code, field);
    video(|e| body!(e, Video).video_id.clear(), Code::FieldMissing, "video.video_id");
    video(|e| body!(e, Video).event_name = 12, Code::InvalidValue, "video.event_name");
    video(
        |e| body!(e, Video).measurements.as_mut().unwrap().fps = Some(f64::INFINITY),
        Code::NotFinite,
        "video.measurements.fps",
    );
    video(
        |e| body!(e, Video).measurements.as_mut().unwrap().latency = Some(-0.5),
        Code::OutOfRange,
        "video.measurements.latency",
    );
    video(
        |e| body!(e, Video).quality_metrics.as_mut().unwrap().video_quality_score = Some(101.0),
        Code::OutOfRange,
        "video.quality_metrics.video_quality_score",
    );
    let metric = |change, code, field| check(METRIC, change, code, field);
    metric(|e| body!(e, ApplicationMetric).value = None, Code::FieldMissing, "application_metric.value");
    metric(|e| body!(e, ApplicationMetric).value = Some(-1.0), Code::OutOfRange, "application_metric.value");
    metric(
        |e| body!(e, ApplicationMetric).metric_type = 4,
        Code::InvalidValue,
        "application_metric.metric_type",
    );
    metric(
        |e| body!(e, ApplicationMetric).host_info.as_mut().unwrap().ip = "10.0.0".into(),
        Code::InvalidValue,
        "application_metric.host_info.ip",
    );
    let span = |change, code, field| check(SPAN, change, code, field);
    span(|e| body!(e, TraceSpan).trace_id = vec![0; 16], Code::InvalidValue, "trace_span.trace_id");
    span(|e| body!(e, TraceSpan).span_id.clear(), Code::FieldMissing, "trace_span.span_id");
    span(
        |e| body!(e, TraceSpan).parent_span_id = Some(vec![1; 7]),
        Code::InvalidValue,
        "trace_span.parent_span_id",
    );
    let empty_parent = rejection(SPAN, |e| body!(e, TraceSpan).parent_span_id = Some(vec![]));
    assert_eq!(empty_parent, None, "an empty optional id is as good as an absent one");
    span(|e| body!(e, TraceSpan).start_time = AT_NS + 1, Code::OutOfRange, "trace_span.end_time");
    span(|e| body!(e, TraceSpan).duration_ms = Some(-1.0), Code::OutOfRange, "trace_span.duration_ms");
    span(|e| body!(e, TraceSpan).status = 0, Code::FieldMissing, "trace_span.status");
    span(
        |e| body!(e, TraceSpan).attributes.as_mut().unwrap().http_status_code = Some(99),
        Code::OutOfRange,
        "trace_span.attributes.http_status_code",
    );
    check(LOG, |e| body!(e, Log).level = 7, Code::InvalidValue, "log.level");
    check(LOG, |e| body!(e, Log).message = "m".repeat(16_385), Code::FieldTooLong, "log.message");
    check(
        LOG,
        |e| body!(e, Log).context.as_mut().unwrap().trace_id = Some(vec![1; 15]),
        Code::InvalidValue,
        "log.context.trace_id",
    );
    let infrastructure = |change, code, field| check(INFRASTRUCTURE, change, code, field);
    infrastructure(
        |e| body!(e, InfrastructureMetric).resource_type = 0,
        Code::FieldMissing,
        "infrastructure_metric.resource_type",
    );
    infrastructure(
        |e| body!(e, InfrastructureMetric).cost_data.as_mut().unwrap().currency = "eur".into(),
        Code::InvalidValue,
        "infrastructure_metric.cost_data.currency",
    );
    infrastructure(
        |e| body!(e, InfrastructureMetric).cost_data.as_mut().unwrap().currency.clear(),
        Code::FieldMissing,
        "infrastructure_metric.cost_data.currency",
    );
    check(CUSTOM, |e| body!(e, Custom).payload = vec![0; 65_537], Code::FieldTooLong, "custom.payload");
}

#[test]
fn an_event_as_a_whole_is_bounded() {
    let mut event = event(1, Body::Custom(CustomEvent::default()));
    let entries = |map: &str| (0..64).map(|key| (format!("{map}{key}"), "v".repeat(1_024))).collect();
    (event.context, event.properties) = (entries("c"), entries("p"));
    assert_eq!(check_bytes(&event.encode_to_vec()).unwrap_err().code, Code::EventTooLarge);
}

#[test]
fn a_field_that_comes_twice_is_refused_though_readers_would_take_the_last() {
    let bytes = log(1).encode_to_vec();
    for field in [&b"\x1a\x03web"[..], b"\x30\x06", b"\x11\x01\0\0\0\0\0\0\0", b"\x7a\0"] {
        let twice = [&bytes, field].concat();
        assert!(Event::decode(&twice[..]).is_ok());
        assert_eq!(check_bytes(&twice).unwrap_err().code, Code::FieldRepeated, "{field:x?}");
    }
    // The first one has its default value, which counts as absent, and is there all the same.
    for field in [&b"\x0a\0"[..], b"\x30\0", b"\x11\0\0\0\0\0\0\0\0"] {
        let twice = [field, &bytes].concat();
        assert_eq!(check_bytes(&twice).unwrap_err().code, Code::FieldRepeated, "{field:x?}");
    }
    let other_body = [&bytes, &b"\x8a\x01\0"[..]].concat();
    assert_eq!(check_bytes(&other_body).unwrap_err().code, Code::BodyMismatch);
}

#[test]
fn fields_of_a_later_version_are_kept() {
    let bytes = [&log(1).encode_to_vec()[..], b"\xfa\x3f\x03new\xf8\x3f\x05"].concat();
    assert_eq!(check_bytes(&bytes), Ok(()));
}

// ---- Privacy ----------------------------------------------------------------------------------------------------

fn redact(rules: &[&str], event: &Event) -> Event {
    let rules: Vec<PrivacyRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    let plan = Plan::new(&rules).unwrap();
    let redactor = Redactor::new(&PrivacyConfig::new(rules, [7; 32], true).unwrap());
    let bytes = event.encode_to_vec();
    assert!(validate(&plan, &bytes, CLOCKS).unwrap().is_private, "a rule names a field of it");
    let mut out = Vec::new();
    redactor.redact(&plan, &bytes, &mut out).unwrap();
    Event::decode(&out[..]).unwrap()
}

/// Effect of a rule on one field of a sample, and on nothing else.
fn check_privacy(kind: usize, rule: &str, expect: impl FnOnce(&mut Event)) {
    let mut expected = events().swap_remove(kind);
    let redacted = redact(&[rule], &expected);
    expect(&mut expected);
    assert_eq!(redacted, expected, "{rule}");
}

#[test]
fn each_action_does_what_it_says_to_each_kind() {
    let masked = || "***".to_owned();
    check_privacy(INTERACTION, "user_id=drop", |e| e.user_id = None);
    check_privacy(INTERACTION, "user_interaction.device_info=drop", |e| {
        body!(e, UserInteraction).device_info = None;
    });
    check_privacy(INTERACTION, "user_interaction.context.carrier=mask", |e| {
        body!(e, UserInteraction).context.as_mut().unwrap().carrier = masked();
    });
    check_privacy(INTERACTION, "context.client_ip=truncate", |e| {
        e.context.insert("client_ip".into(), "192.0.2.0".into());
    });
    check_privacy(INTERACTION, "context.campaign=truncate", |e| {
        e.context.insert("campaign".into(), masked());
    });
    check_privacy(PERFORMANCE, "performance.measurements.name=mask", |e| {
        body!(e, Performance).measurements.iter_mut().for_each(|m| m.name = masked());
    });
    check_privacy(PERFORMANCE, "performance.context.network_info.strength=drop", |e| {
        let context = body!(e, Performance).context.as_mut().unwrap();
        context.network_info.as_mut().unwrap().strength = None;
    });
    check_privacy(VIDEO, "properties=drop", |e| e.properties.clear());
    check_privacy(VIDEO, "properties.*=mask", |e| e.properties.values_mut().for_each(|v| *v = masked()));
    check_privacy(VIDEO, "video.measurements.bitrate=drop", |e| {
        body!(e, Video).measurements.as_mut().unwrap().bitrate = None;
    });
    check_privacy(METRIC, "application_metric.host_info.ip=truncate", |e| {
        body!(e, ApplicationMetric).host_info.as_mut().unwrap().ip = "2001:db8:1::".into();
    });
    check_privacy(METRIC, "application_metric.labels.method=drop", |e| {
        body!(e, ApplicationMetric).labels.clear();
    });
    check_privacy(SPAN, "trace_span.attributes.http_url=mask", |e| {
        body!(e, TraceSpan).attributes.as_mut().unwrap().http_url = masked();
    });
    check_privacy(LOG, "log.message=mask", |e| body!(e, Log).message = masked());
    check_privacy(LOG, "log.context.trace_id=drop", |e| {
        body!(e, Log).context.as_mut().unwrap().trace_id = None;
    });
    check_privacy(INFRASTRUCTURE, "infrastructure_metric.cost_data=drop", |e| {
        body!(e, InfrastructureMetric).cost_data = None;
    });
    check_privacy(CUSTOM, "custom.payload=drop", |e| body!(e, Custom).payload.clear());
    check_privacy(CUSTOM, "custom.measurements=drop", |e| body!(e, Custom).measurements.clear());
}

#[test]
fn equal_values_stay_equal_when_they_are_hashed_and_lengths_hold() {
    let rules =
        ["user_id=hash", "log.context.user_id=hash", "log.context.trace_id=hash", "properties.email=hash"];
    let mut redacted = redact(&rules, &events().swap_remove(LOG));
    let user = redacted.user_id.clone().unwrap();
    assert!(user.len() == 32 && user.bytes().all(|byte| byte.is_ascii_hexdigit()), "{user}");
    let email = redacted.properties["email"].clone();
    assert!(email.len() == 32 && email != user);
    let context = body!(redacted, Log).context.clone().unwrap();
    assert_eq!(context.user_id, Some(user));
    assert_eq!(context.trace_id.map(|id| id.len()), Some(16));
    let again = redact(&rules, &events().swap_remove(LOG));
    assert_eq!(again, redacted);
    assert_eq!(check_bytes(&redacted.encode_to_vec()), Ok(()), "what is stored is an event again");
}

#[test]
fn the_last_rule_for_a_field_counts_and_a_key_s_rule_before_its_map_s() {
    let event = events().swap_remove(LOG);
    assert_eq!(redact(&["user_id=drop", "user_id=mask"], &event).user_id.as_deref(), Some("***"));
    let redacted = redact(&["properties.email=mask", "properties=drop"], &event);
    assert_eq!(redacted.properties, text_map([("email", "***")]));
}

#[test]
fn rules_that_can_t_be_are_refused() {
    let check = |rule: &str, expected: fn(&PrivacyError) -> bool| {
        let refused =
            rule.parse().and_then(|rule| PrivacyConfig::new(vec![rule], [0; 32], false)).unwrap_err();
        assert!(expected(&refused), "{rule}: {refused}");
    };
    check("user_id", |error| matches!(error, PrivacyError::Syntax { .. }));
    check("user_id=burn", |error| matches!(error, PrivacyError::Syntax { .. }));
    for path in ["", "user", "log.context.user", "log.message.x", "context.", "video.measurements.x"] {
        check(&format!("{path}=drop"), |error| matches!(error, PrivacyError::Path { .. }));
    }
    for rule in [
        "event_id=hash",
        "event_id=drop",
        "timestamp=drop",
        "event_type=drop",
        "trace_span.trace_id=mask",
        "video.measurements.fps=mask",
        "video.measurements=hash",
        "custom.payload=truncate",
    ] {
        check(rule, |error| matches!(error, PrivacyError::Action { .. }));
    }
    assert_eq!(PrivacyAction::ALL.map(PrivacyAction::as_str), ["drop", "mask", "hash", "truncate"]);
}

// ---- Against prost ----------------------------------------------------------------------------------------------

/// A sample, changed in places.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    changed(events())
}

/// One of `events`, changed in places.
fn changed(events: Vec<Event>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    (0..events.len(), prop::collection::vec(change, 0..4)).prop_map(move |(kind, changes)| {
        let mut bytes = events[kind].encode_to_vec();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

/// True if a map's field isn't laid out as bytes: prost 0.14 doesn't look, and reads a length all the same.
fn has_odd_map(plan: &Plan, node: u16, bytes: &[u8]) -> bool {
    let mut cursor = Cursor::new(bytes);
    while let Ok(Some((number, wire))) = cursor.key() {
        let field = plan.lookup(plan.node(node), number).map(|(_, field)| field);
        match field.map(|field| field.rule) {
            Some(Rule::Map | Rule::TypedMap) if wire != Wire::Bytes => return true,
            Some(Rule::Message(_) | Rule::List { .. }) if wire == Wire::Bytes => {
                let inner = cursor.bytes().unwrap_or_default();
                if has_odd_map(plan, field.map_or(ROOT, |field| field.child), inner) {
                    return true;
                }
            }
            _ if cursor.skip(number, wire).is_err() => return false,
            _ => {}
        }
    }
    false
}

fn agrees_with_prost(bytes: &[u8]) -> Result<(), TestCaseError> {
    let plan = plan();
    let decoded = Event::decode(bytes);
    let odd_map = has_odd_map(&plan, ROOT, bytes);
    prop_assert!(odd_map || is_readable(&plan, bytes) == decoded.is_ok());
    prop_assert!(!(odd_map && is_readable(&plan, bytes)));
    match validate(&plan, bytes, CLOCKS) {
        Ok(_) => prop_assert!(decoded.is_ok()),
        Err(rejection) => {
            if matches!(rejection.code, Code::Malformed | Code::InvalidUtf8) {
                prop_assert!(odd_map || decoded.is_err(), "{:?}", rejection);
            }
            prop_assert!(!rejection.message(&plan, 1, 1).is_empty());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn mutations_never_panic_and_agree_with_prost(bytes in mutated()) {
        agrees_with_prost(&bytes)?;
    }

    #[test]
    fn what_rules_leave_is_what_prost_would_read(bytes in mutated()) {
        let rules: Vec<PrivacyRule> =
            ["user_id=drop", "properties.email=mask", "log.context.request_id=drop"].map(|rule| rule.parse().unwrap()).into();
        let plan = Plan::new(&rules).unwrap();
        let redactor = Redactor::new(&PrivacyConfig::new(rules, [7; 32], false).unwrap());
        let mut out = Vec::new();
        let redacted = redactor.redact(&plan, &bytes, &mut out);
        // Two occurrences of a message are merged by readers, which isn't what this is about.
        if validate(&plan, &bytes, CLOCKS).is_ok() {
            prop_assert!(redacted.is_ok());
            let mut expected = Event::decode(&bytes[..]).unwrap();
            expected.user_id = None;
            expected.properties.get_mut("email").into_iter().filter(|v| !v.is_empty()).for_each(|v| *v = "***".into());
            if let Some(Body::Log(Log { context: Some(context), .. })) = &mut expected.body {
                context.request_id.clear();
            }
            prop_assert_eq!(Event::decode(&out[..]).unwrap(), expected);
        }
    }
}
