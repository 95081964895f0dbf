//! OTLP in, events, OTLP out: equal.

mod records;

use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, LogsData, ResourceLogs, ScopeLogs},
    metrics::v1::{MetricsData, ResourceMetrics, ScopeMetrics},
    trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData},
};
use proptest::{collection::vec, prelude::*};
use prost::Message;
use records::{log, metric, plain_log, plain_span, resource, scope, span};

use super::{
    Signal,
    export::{Telemetry, telemetry},
    plain,
    shared::SharedResource,
    walk,
};
use crate::{
    http::{HttpSource, test_head},
    keys::Key,
    outcome::Malformed,
    upstream::BatchLimits,
    writer::{
        EventWriter, Ids, Request,
        tests::{decoded, origin},
    },
};

const LIMITS: BatchLimits = BatchLimits { events: 2048, bytes: 400_000 };

fn decode(signal: Signal, content_type: &str, body: &[u8]) -> Result<Request, Malformed> {
    let head = test_head("POST", "/v1/logs", &[("content-type", content_type)]);
    let origin = origin(Key::unrestricted("k"));
    let mut writer = EventWriter::new(&origin, Ids::OfBody(body), LIMITS, 10_000);
    signal.decode(&head, body, &mut writer)?;
    Ok(writer.finish().unwrap())
}

/// The telemetry that comes out, one message an event.
fn exported(signal: Signal, message: &impl Message) -> Vec<Telemetry> {
    let request = decode(signal, "application/x-protobuf", &message.encode_to_vec()).unwrap();
    assert_eq!(request.rejected, []);
    decoded(&request).into_iter().map(|event| telemetry(event).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn logs_come_out_as_they_went_in(record in log(), resource in resource(), scope in scope(), schema in "[a-z]{0,9}") {
        let scope = ScopeLogs { scope, log_records: vec![record], schema_url: schema.clone() };
        let data = LogsData { resource_logs: vec![ResourceLogs { resource, scope_logs: vec![scope], schema_url: schema }] };
        prop_assert_eq!(exported(Signal::Logs, &data), vec![Telemetry::Logs(data)]);
    }

    #[test]
    fn spans_come_out_as_they_went_in(span in span(), resource in resource(), scope in scope(), schema in "[a-z]{0,9}") {
        let scope = ScopeSpans { scope, spans: vec![span], schema_url: schema.clone() };
        let data = TracesData { resource_spans: vec![ResourceSpans { resource, scope_spans: vec![scope], schema_url: schema }] };
        prop_assert_eq!(exported(Signal::Traces, &data), vec![Telemetry::Traces(data)]);
    }

    #[test]
    fn metrics_come_out_as_they_went_in(metric in metric(), resource in resource(), scope in scope(), schema in "[a-z]{0,9}") {
        let scope = ScopeMetrics { scope, metrics: vec![metric], schema_url: schema.clone() };
        let data = MetricsData { resource_metrics: vec![ResourceMetrics { resource, scope_metrics: vec![scope], schema_url: schema }] };
        prop_assert_eq!(exported(Signal::Metrics, &data), vec![Telemetry::Metrics(data)]);
    }

    #[test]
    fn json_is_the_same_as_protobuf(record in log(), resource in resource(), scope in scope()) {
        let scope = ScopeLogs { scope, log_records: vec![record], schema_url: String::new() };
        let data = LogsData { resource_logs: vec![ResourceLogs { resource, scope_logs: vec![scope], schema_url: String::new() }] };
        let json = serde_json::to_vec(&data).unwrap();
        let request = decode(Signal::Logs, "application/json", &json).unwrap();
        let event = decoded(&request).remove(0);
        prop_assert_eq!(telemetry(event).unwrap(), Telemetry::Logs(data));
    }

    #[test]
    fn plain_records_are_the_same_either_way(log in plain_log(), span in plain_span(), resource in resource(), scope in scope()) {
        let logs = ScopeLogs { scope: scope.clone(), log_records: vec![log.clone()], ..ScopeLogs::default() };
        let logs = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs { resource: resource.clone(), scope_logs: vec![logs], ..ResourceLogs::default() }],
        };
        let spans = ScopeSpans { scope, spans: vec![span.clone()], ..ScopeSpans::default() };
        let spans = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans: vec![spans], ..ResourceSpans::default() }],
        };
        let mut encoder = plain::Encoder::default();
        let (log, span) = (log.encode_to_vec(), span.encode_to_vec());
        let shared = SharedResource::new(None, String::new()).unwrap();
        prop_assert!(encoder.log(&log, &shared).is_some() && encoder.span(&span, &shared).is_some());
        let long_way = |body: &[u8], decode: &dyn Fn(&mut EventWriter<'_>)| {
            let origin = origin(Key::unrestricted("k"));
            let mut writer = EventWriter::new(&origin, Ids::OfBody(body), LIMITS, 10_000);
            decode(&mut writer);
            writer.finish().unwrap()
        };
        let body = logs.encode_to_vec();
        let expected = long_way(&body, &|writer| walk::decode::<LogRecord>(logs.clone(), writer));
        let found = decode(Signal::Logs, "application/x-protobuf", &body).unwrap();
        prop_assert_eq!((decoded(&found), &found.sample), (decoded(&expected), &expected.sample));
        let body = spans.encode_to_vec();
        let expected = long_way(&body, &|writer| walk::decode::<Span>(spans.clone(), writer));
        let found = decode(Signal::Traces, "application/x-protobuf", &body).unwrap();
        prop_assert_eq!((decoded(&found), &found.sample), (decoded(&expected), &expected.sample));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200), signal in 0..3_usize) {
        let signal = [Signal::Logs, Signal::Traces, Signal::Metrics][signal];
        _ = decode(signal, "application/x-protobuf", &bytes);
        _ = decode(signal, "application/json", &bytes);
    }
}

#[test]
fn a_record_that_does_not_fit_is_told_and_others_pass() {
    let pair = |key: &str| KeyValue { key: key.into(), value: None, ..KeyValue::default() };
    let mut deep = Any::BoolValue(true);
    for _ in 0..12 {
        deep = Any::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(deep) }] });
    }
    let records = vec![
        LogRecord { attributes: vec![pair("a"), pair("a")], ..LogRecord::default() },
        LogRecord { severity_text: "fine".into(), ..LogRecord::default() },
        LogRecord { body: Some(AnyValue { value: Some(deep) }), ..LogRecord::default() },
        LogRecord { severity_number: -1, ..LogRecord::default() },
    ];
    let scope = ScopeLogs { log_records: records, ..ScopeLogs::default() };
    let data =
        LogsData { resource_logs: vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }] };
    let request = decode(Signal::Logs, "application/x-protobuf", &data.encode_to_vec()).unwrap();
    let rejections: Vec<_> =
        request.rejected.iter().map(|rejection| (rejection.index, &rejection.code[..])).collect();
    assert_eq!(rejections, [(0, "INVALID_VALUE"), (2, "OUT_OF_RANGE"), (3, "OUT_OF_RANGE")]);
    assert_eq!(decoded(&request).len(), 1);
}

#[test]
fn fault_68_a_record_of_json_that_cannot_be_read_is_told_by_its_field_and_others_pass() {
    let records = [
        r#"{"timeUnixNano":"1","body":{"stringValue":"fine"}}"#,
        // Of a text that JavaScript has cut within a pair.
        r#"{"timeUnixNano":"2","attributes":[{"key":"k","value":{"stringValue":"\ud83d"}}]}"#,
        r#"{"timeUnixNano":"3","body":{"intValue":"18446744073709551615"}}"#,
        r#"{"timeUnixNano":"4","body":{"doubleValue":1e309}}"#,
        r#"{"timeUnixNano":"-5"}"#,
        r#"{"timeUnixNano":"6","body":{"stringValue":"nul\u0000 \ud83d\ude00"}}"#,
    ];
    let logs = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{}]}}]}}]}}"#, records.join(","));
    let request = decode(Signal::Logs, "application/json", logs.as_bytes()).unwrap();
    let rejected: Vec<_> =
        request.rejected.iter().map(|rejection| (rejection.index, &rejection.message[..])).collect();
    for ((index, message), (expected, path)) in
        rejected.iter().zip([(1, "attributes[0].value"), (2, "body"), (3, "body"), (4, "timeUnixNano")])
    {
        assert!(*index == expected && message.starts_with(path), "{rejected:?}");
    }
    assert_eq!((rejected.len(), decoded(&request).len()), (4, 2));
    let spans = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"\ud800"},{"name":"b","startTimeUnixNano":"1"}]}]}]}"#;
    let request = decode(Signal::Traces, "application/json", spans).unwrap();
    assert_eq!((request.rejected.len(), decoded(&request).len()), (1, 1));
    let metrics = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"\ud800"},{"name":"b","gauge":{"dataPoints":[{"timeUnixNano":"5","asInt":"3"}]}}]}]}]}"#;
    let request = decode(Signal::Metrics, "application/json", metrics).unwrap();
    assert_eq!((request.rejected.len(), decoded(&request).len()), (1, 1));
    assert!(decode(Signal::Logs, "application/json", br#"{"resourceLogs":[{"scopeLogs":7}]}"#).is_err());
}

#[test]
fn fault_68_a_record_of_protobuf_that_cannot_be_read_is_told_by_its_field_and_others_pass() {
    let field = |number: u8, body: &[u8]| [&[number << 3 | 2, body.len() as u8], body].concat();
    let scopes = |records: &[Vec<u8>]| field(1, &field(2, &records.concat()));
    // Record.body and Span.name, of which the first isn't UTF-8.
    let logs = [&b"\xFF"[..], b"fine"]
        .map(|text| field(2, &[b"\x09\x01\0\0\0\0\0\0\0".to_vec(), field(5, &field(1, text))].concat()));
    let spans = [&b"\xFF"[..], b"fine"]
        .map(|text| field(2, &[b"\x39\x01\0\0\0\0\0\0\0".to_vec(), field(5, text)].concat()));
    for (signal, records, name) in
        [(Signal::Logs, logs, "LogRecord.body"), (Signal::Traces, spans, "Span.name")]
    {
        let request = decode(signal, "application/x-protobuf", &scopes(&records)).unwrap();
        assert_eq!((request.rejected.len(), request.rejected[0].index, decoded(&request).len()), (1, 0, 1));
        assert!(request.rejected[0].message.contains(name), "{:?}", request.rejected);
    }
}

#[test]
fn a_metric_without_data_is_told() {
    let json = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
        {"name":"named","sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","dataPoints":[]}},
        {"name":"fine","gauge":{"dataPoints":[{"timeUnixNano":"5","asInt":"3","unknown":[1]}]}}]}]}]}"#;
    let request = decode(Signal::Metrics, "application/json", json).unwrap();
    assert_eq!((request.rejected.len(), decoded(&request).len()), (1, 1));
    assert!(request.rejected[0].message.contains("named"), "{:?}", request.rejected);
}

#[test]
fn answers_are_in_the_requests_own_encoding() {
    use crate::outcome::{Outcome, Rejection};
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
    let outcome = Outcome { rejected: vec![Rejection::last(3, "TOO_OLD", "1970")], ..Outcome::default() };
    let head = |content_type| test_head("POST", "/v1/logs", &[("content-type", content_type)]);
    let json = Signal::Logs.success(&head("application/json"), &outcome);
    assert_eq!(
        &json.body()[..],
        br#"{"partialSuccess":{"errorMessage":"record 3: TOO_OLD: 1970","rejectedLogRecords":"1"}}"#
    );
    let protobuf = Signal::Logs.success(&head("application/x-protobuf"), &outcome);
    let partial = ExportLogsServiceResponse::decode(&protobuf.body()[..]).unwrap().partial_success.unwrap();
    assert_eq!((partial.rejected_log_records, &partial.error_message[..]), (1, "record 3: TOO_OLD: 1970"));
    let whole = Signal::Logs.success(&head("application/json"), &Outcome::default());
    assert_eq!(&whole.body()[..], b"{}");
    assert!(Signal::Logs.accepts(&head("text/csv")).is_err());
}
