//! Log records.

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::any_value::Value as Any,
    logs::v1::{LogRecord, ScopeLogs},
};
use tickstream_client::events::{Body, Event, EventType, Log, LogContext, LogLevel};

use super::{
    shared::SharedResource,
    values::{Attributes, Unfit, id, to_value},
};
use crate::{
    sources::fields::{EVENT_NAME_BYTES_MAX, clipped_or, is_message},
    writer::{EventWriter, Extra},
};

/// Longest id of a user or a session, bytes.
const ID_BYTES_MAX: usize = 128;

pub(super) fn decode(request: ExportLogsServiceRequest, writer: &mut EventWriter<'_>) {
    for logs in request.resource_logs {
        let resource = SharedResource::new(logs.resource, logs.schema_url);
        for scope in logs.scope_logs {
            decode_scope(resource.as_ref(), scope, writer);
        }
    }
}

fn decode_scope(resource: Result<&SharedResource, &Unfit>, logs: ScopeLogs, writer: &mut EventWriter<'_>) {
    let ScopeLogs { scope, log_records, schema_url } = logs;
    let shared = resource.map_err(Clone::clone).and_then(|resource| {
        let fields = resource.with_scope(scope, schema_url)?;
        Ok((resource, fields))
    });
    for record in log_records {
        let observed = record.observed_time_unix_nano;
        match shared.as_ref().map_err(Clone::clone).and_then(|(resource, _)| event(resource, record)) {
            Ok(event) => {
                let fields = shared.as_ref().map(|(_, fields)| &fields[..]).unwrap_or_default();
                writer.event_with(event, Extra { fields, time: observed });
            }
            Err((code, message)) => writer.reject(code, message),
        }
    }
}

fn event(resource: &SharedResource, record: LogRecord) -> Result<Event, Unfit> {
    let attributes = Attributes::new(record.attributes)?;
    let (message, body) = match record.body.map(|body| body.value) {
        Some(Some(Any::StringValue(text))) if is_message(&text) => (text, None),
        body => (String::new(), Some(to_value(body.flatten(), 0)?)),
    };
    let context = LogContext {
        trace_id: id(record.trace_id, 16),
        span_id: id(record.span_id, 8),
        ..LogContext::default()
    };
    let mut event = envelope(EventType::Log, record.time_unix_nano, &attributes, resource);
    event.event_name = clipped_or(&record.event_name, EVENT_NAME_BYTES_MAX, "log").to_owned();
    event.body = Some(Body::Log(Log {
        service: resource.service.clone(),
        level: level(record.severity_number).into(),
        message,
        context: Some(context).filter(|context| *context != LogContext::default()),
        metadata: attributes.texts,
        typed_metadata: attributes.typed,
        body,
        severity_number: u32::try_from(record.severity_number)
            .map_err(|_| ("OUT_OF_RANGE", "the severity number is below 0".to_owned()))?,
        severity_text: record.severity_text,
        observed_time: record.observed_time_unix_nano,
        flags: record.flags,
        dropped_attributes_count: record.dropped_attributes_count,
        event_name: record.event_name,
        ..Log::default()
    }));
    Ok(event)
}

/// An event of telemetry, with what the attributes say about session and user.
pub(super) fn envelope(
    event_type: EventType,
    timestamp: u64,
    attributes: &Attributes,
    resource: &SharedResource,
) -> Event {
    let id = |keys: [&str; 2]| {
        let found = keys.iter().find_map(|key| attributes.text(key))?;
        (1..=ID_BYTES_MAX).contains(&found.len()).then(|| found.to_owned())
    };
    Event {
        timestamp,
        platform: resource.platform.clone(),
        event_type: event_type.into(),
        session_id: id(["session.id", "session_id"]).unwrap_or_default(),
        user_id: id(["user.id", "enduser.id"]),
        ..Event::default()
    }
}

/// The levels of the data model's table: "Displaying Severity".
fn level(severity_number: i32) -> LogLevel {
    match severity_number {
        1..=4 => LogLevel::Trace,
        5..=8 => LogLevel::Debug,
        13..=16 => LogLevel::Warn,
        17..=20 => LogLevel::Error,
        21.. => LogLevel::Fatal,
        // 9 to 12, and without a number.
        _ => LogLevel::Info,
    }
}
