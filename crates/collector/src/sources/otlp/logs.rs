//! Log records.

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{InstrumentationScope, any_value::Value as Any},
    logs::v1::{LogRecord, ScopeLogs},
    resource::v1::Resource,
};
use prost::{DecodeError, Message};
use tickstream_client::events::{Body, Event, EventType, Log, LogContext};

use super::{
    json, plain,
    semantics::{ID_BYTES_MAX, SESSION, USER, level},
    shared::{SharedResource, SharedScope},
    values::{Attributes, MappingError, id, to_value},
};
use crate::{
    outcome::Malformed,
    sources::fields::{EVENT_NAME_BYTES_MAX, clipped_or, is_message},
    writer::{EventWriter, Extra},
};

pub(super) fn decode(request: ExportLogsServiceRequest, writer: &mut EventWriter<'_>) {
    for logs in request.resource_logs {
        let resource = SharedResource::new(logs.resource, logs.schema_url);
        for ScopeLogs { scope, log_records, schema_url } in logs.scope_logs {
            let shared = SharedScope::new(resource.as_ref(), scope, schema_url);
            log_records.into_iter().for_each(|record| take(&shared, record, writer));
        }
    }
}

/// Decodes a request in JSON.
pub(super) fn decode_json(body: &[u8], writer: &mut EventWriter<'_>) -> Result<(), Malformed> {
    if let Some(request) = json::whole(body) {
        decode(request, writer);
        return Ok(());
    }
    for group in json::by_record(body)? {
        let resource = SharedResource::new(group.resource, group.schema_url);
        for scope in group.scopes {
            let shared = SharedScope::new(resource.as_ref(), scope.scope, scope.schema_url);
            for record in scope.records {
                match record {
                    Ok(record) => take(&shared, record, writer),
                    Err(problem) => writer.reject("MALFORMED", problem),
                }
            }
        }
    }
    Ok(())
}

/// Decodes a request in protobuf: plain records by the short way, where the writer takes that.
pub(super) fn decode_protobuf(body: &[u8], writer: &mut EventWriter<'_>) -> Result<(), DecodeError> {
    let groups = writer.takes_encoded(EventType::Log).then(|| plain::groups(body)).flatten();
    let Some(groups) = groups else {
        decode(ExportLogsServiceRequest::decode(body)?, writer);
        return Ok(());
    };
    let mut encoder = plain::Encoder::default();
    for group in groups {
        let resource = group.resource.map(Resource::decode).transpose()?;
        let resource = SharedResource::new(resource, group.schema_url.to_owned());
        for scope in group.scopes {
            let own = scope.scope.map(InstrumentationScope::decode).transpose()?;
            let shared = SharedScope::new(resource.as_ref(), own, scope.schema_url.to_owned());
            for record in scope.records {
                let plain = shared.as_ref().ok().and_then(|shared| {
                    let name = encoder.log(record, shared.resource)?;
                    Some((name, &shared.fields))
                });
                match plain {
                    Some((name, fields)) => {
                        let [head, body] = encoder.parts();
                        writer.encoded_event(EventType::Log, name, &[head, body, fields]);
                    }
                    None => match LogRecord::decode(record) {
                        Ok(record) => take(&shared, record, writer),
                        Err(error) => writer.reject("MALFORMED", error.to_string()),
                    },
                }
            }
        }
    }
    Ok(())
}

fn take(shared: &Result<SharedScope<'_>, MappingError>, record: LogRecord, writer: &mut EventWriter<'_>) {
    let time = record.observed_time_unix_nano;
    let taken = shared.as_ref().map_err(Clone::clone).and_then(|shared| {
        let event = event(shared.resource, record)?;
        Ok((event, Extra { fields: &shared.fields, time }))
    });
    match taken {
        Ok((event, extra)) => writer.event_with(event, extra),
        Err((code, message)) => writer.reject(code, message),
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
