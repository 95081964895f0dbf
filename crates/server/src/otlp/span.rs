//! Spans in OTLP's messages. Attributes have the names of OpenTelemetry's semantic conventions where there are such, and
//! `tickstream.` before them elsewhere.

use std::fs;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use tickstream_engine::{Report, Severity};

use super::{Traced, Work};

/// Flags of a span whose trace is sampled (W3C Trace Context).
const SAMPLED: u32 = 1;

/// Random bytes that a trace and its span are known by.
pub type SpanIds = [u8; 24];

/// What every span comes from: this process, known by `instance`.
pub fn resource(instance: [u8; 16]) -> Resource {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let attributes = vec![
        text("service.name", "tickstream"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", uuid(instance)),
        text("host.name", host.trim_end()),
        number("process.pid", std::process::id()),
    ];
    Resource { attributes, ..Resource::default() }
}

/// What is sent at once.
pub fn request(resource: &Resource, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "tickstream".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let spans = ResourceSpans { resource: Some(resource.clone()), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![spans] }
}

/// A span, the only one of its trace.
pub fn span(traced: Traced, ids: &SpanIds) -> Span {
    let span = match traced {
        Traced::Connection { shard, report, bytes_sent, ended_unix_ns } => {
            connection(shard, report, bytes_sent, ended_unix_ns)
        }
        Traced::Pass { shard, began_unix_ns, took_ns, work } => pass(shard, began_unix_ns, took_ns, work),
    };
    let (trace, own) = ids.split_at(16);
    Span { trace_id: trace.to_vec(), span_id: own.to_vec(), flags: SAMPLED, ..span }
}

fn connection(shard: usize, report: Report, bytes_sent: Option<u64>, ended_unix_ns: u64) -> Span {
    let is_error = matches!(report.reason.severity(), Severity::Warn | Severity::Error);
    let reason = report.reason.as_str();
    let mut attributes = vec![
        text("network.peer.address", report.peer.ip().to_canonical().to_string()),
        number("network.peer.port", report.peer.port()),
        number("tickstream.shard", shard),
        text("tickstream.connection", format!("{shard}-{}", report.number)),
        text("tickstream.close.reason", reason),
        number("tickstream.unsent_ms", report.unsent_ms),
    ];
    attributes.extend(report.mode.map(|mode| text("tickstream.mode", mode.as_str_name())));
    attributes.extend(bytes_sent.map(|bytes| number("tickstream.bytes_sent", bytes)));
    if !report.detail.is_empty() {
        attributes.push(text("tickstream.close.detail", &*report.detail));
    }
    if is_error {
        attributes.push(text("error.type", reason));
    }
    Span {
        name: "connection".to_owned(),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: ended_unix_ns.saturating_sub(report.open_ms * 1_000_000),
        end_time_unix_nano: ended_unix_ns,
        attributes,
        status: is_error
            .then(|| Status { code: StatusCode::Error.into(), message: report.detail.into_owned() }),
        ..Span::default()
    }
}

fn pass(shard: usize, began_unix_ns: u64, took_ns: u64, work: Work) -> Span {
    let Work { completions, actions, handshakes } = work;
    Span {
        name: "slow pass".to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: began_unix_ns,
        end_time_unix_nano: began_unix_ns + took_ns,
        attributes: vec![
            number("tickstream.shard", shard),
            number("tickstream.pass.completions", completions),
            number("tickstream.pass.actions", actions),
            number("tickstream.pass.handshakes", handshakes),
        ],
        ..Span::default()
    }
}

fn text(key: &str, text: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(text.into()))
}

fn number(key: &str, number: impl TryInto<i64>) -> KeyValue {
    attribute(key, Value::IntValue(number.try_into().unwrap_or(i64::MAX)))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    let value = AnyValue { value: Some(value) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// A random UUID (RFC 9562, version 4) of random bytes.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickstream_engine::{CloseReason, ConnId, Mode};

    fn ended(reason: CloseReason, detail: &'static str, mode: Option<Mode>, bytes_sent: Option<u64>) -> Span {
        let report = Report {
            conn: ConnId { slot: tickstream_engine::Slot(0), generation: 0 },
            number: 17,
            peer: "[::ffff:192.0.2.1]:4000".parse().unwrap(),
            reason,
            detail: detail.into(),
            mode,
            open_ms: 1_500,
            unsent_ms: 20,
        };
        let traced = Traced::Connection { shard: 2, report, bytes_sent, ended_unix_ns: 5_000_000_000 };
        span(traced, &[7; 24])
    }

    fn check(span: &Span, expected: &[(&str, &str)]) {
        let shown =
            |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(Value::StringValue(text)) => text.clone(),
                Some(Value::IntValue(number)) => number.to_string(),
                other => panic!("{other:?}"),
            };
        let found: Vec<_> =
            span.attributes.iter().map(|attribute| (attribute.key.as_str(), shown(attribute))).collect();
        let found: Vec<_> = found.iter().map(|(key, value)| (*key, value.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_subscriber_that_was_slow_is_an_error_with_all_that_is_known() {
        let span = ended(CloseReason::SlowConsumer, "6 s behind", Some(Mode::Second), Some(9));
        check(
            &span,
            &[
                ("network.peer.address", "192.0.2.1"),
                ("network.peer.port", "4000"),
                ("tickstream.shard", "2"),
                ("tickstream.connection", "2-17"),
                ("tickstream.close.reason", "slow_consumer"),
                ("tickstream.unsent_ms", "20"),
                ("tickstream.mode", "SECOND"),
                ("tickstream.bytes_sent", "9"),
                ("tickstream.close.detail", "6 s behind"),
                ("error.type", "slow_consumer"),
            ],
        );
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (3_500_000_000, 5_000_000_000));
        let status = span.status.unwrap();
        assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "6 s behind"));
        assert_eq!((span.trace_id, span.span_id), (vec![7; 16], vec![7; 8]));
    }

    #[test]
    fn a_client_that_left_is_no_error() {
        let span = ended(CloseReason::PeerClosed, "", None, None);
        assert_eq!((span.status, span.kind, span.attributes.len()), (None, SpanKind::Server.into(), 6));
    }

    #[test]
    fn a_slow_pass_says_what_it_did() {
        let work = Work { completions: 1, actions: 2, handshakes: 3 };
        let span = span(Traced::Pass { shard: 0, began_unix_ns: 10, took_ns: 5, work }, &[1; 24]);
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (10, 15));
        check(
            &span,
            &[
                ("tickstream.shard", "0"),
                ("tickstream.pass.completions", "1"),
                ("tickstream.pass.actions", "2"),
                ("tickstream.pass.handshakes", "3"),
            ],
        );
    }

    #[test]
    fn instances_are_uuids() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
