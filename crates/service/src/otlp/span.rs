//! The parts of OTLP's messages that every span has.

use std::fs;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

use super::Service;

/// Flags of a span whose trace is sampled (W3C Trace Context).
pub const SAMPLED: u32 = 1;

/// The origin of every span: this process, known by `instance`.
pub fn resource(service: &Service, instance: [u8; 16]) -> Resource {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let attributes = vec![
        text("service.name", service.name),
        text("service.version", service.version),
        text("service.instance.id", uuid(instance)),
        text("host.name", host.trim_end()),
        number("process.pid", std::process::id()),
    ];
    Resource { attributes, ..Resource::default() }
}

/// A request with these spans.
pub fn request(service: &Service, resource: &Resource, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: service.name.to_owned(),
        version: service.version.to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let spans = ResourceSpans { resource: Some(resource.clone()), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![spans] }
}

/// An attribute with text.
pub fn text(key: &str, text: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(text.into()))
}

/// An attribute with a number.
pub fn number(key: &str, number: impl TryInto<i64>) -> KeyValue {
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

    #[test]
    fn instances_are_uuids() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
