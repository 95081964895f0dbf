//! Log records.

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::any_value::Value as Any,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use tickstream_client::events::{Body, Event, EventType, Log, LogContext};

use super::{
    groups::{Group, Scope},
    plain::Encoder,
    semantics::{ID_BYTES_MAX, SESSION, USER, level},
    shared::SharedResource,
    values::{Attributes, MappingError, id, to_value},
    walk::{PlainRecord, Record, Shared, write_event},
};
use crate::{
    sources::fields::{EVENT_NAME_BYTES_MAX, clipped_or, is_message},
    writer::EventWriter,
};

impl Record for LogRecord {
    type Request = ExportLogsServiceRequest;

    fn groups(
        request: Self::Request,
    ) -> impl Iterator<Item = Group<impl Iterator<Item = Scope<impl Iterator<Item = Result<Self, String>>>>>>
    {
        let scope = |ScopeLogs { scope, log_records, schema_url }| Scope {
            scope,
            schema_url,
            records: log_records.into_iter().map(Ok),
        };
        request.resource_logs.into_iter().map(move |ResourceLogs { resource, scope_logs, schema_url }| {
            Group { resource, schema_url, scopes: scope_logs.into_iter().map(scope) }
        })
    }

    fn write(self, shared: &Shared<'_>, writer: &mut EventWriter<'_>) {
        write_event(shared, self.observed_time_unix_nano, |resource| event(resource, self), writer);
    }
}

impl PlainRecord for LogRecord {
    const KIND: EventType = EventType::Log;

    fn encode_plain<'a>(
        encoder: &mut Encoder<'a>,
        record: &'a [u8],
        resource: &SharedResource,
    ) -> Option<&'a str> {
        encoder.log(record, resource)
    }
}

fn event(resource: &SharedResource, record: LogRecord) -> Result<Event, MappingError> {
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
        session_id: id(SESSION).unwrap_or_default(),
        user_id: id(USER),
        ..Event::default()
    }
}
