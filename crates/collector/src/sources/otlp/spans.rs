//! Spans.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{
        ScopeSpans, Span,
        span::{Event as OtlpEvent, Link},
        status::StatusCode,
    },
};
use prost::{DecodeError, Message};
use tickstream_client::events::{
    Body, Event, EventType, Kind, SpanAttributes, SpanEvent, SpanLink, SpanStatus, TraceSpan,
};

use super::{
    json,
    logs::envelope,
    plain,
    semantics::{METHOD, METHOD_BYTES_MAX, STATEMENT, STATEMENT_BYTES_MAX, STATUS_CODE, URL, URL_BYTES_MAX},
    shared::{SharedResource, SharedScope},
    values::{Attributes, MappingError, to_map},
};
use crate::{
    outcome::Malformed,
    sources::fields::{EVENT_NAME_BYTES_MAX, clipped_or},
    writer::{EventWriter, Extra},
};

pub(super) fn decode(request: ExportTraceServiceRequest, writer: &mut EventWriter<'_>) {
    for spans in request.resource_spans {
        let resource = SharedResource::new(spans.resource, spans.schema_url);
        for ScopeSpans { scope, spans, schema_url } in spans.scope_spans {
            let shared = SharedScope::new(resource.as_ref(), scope, schema_url);
            spans.into_iter().for_each(|span| take(&shared, span, writer));
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
            for span in scope.records {
                match span {
                    Ok(span) => take(&shared, span, writer),
                    Err(problem) => writer.reject("MALFORMED", problem),
                }
            }
        }
    }
    Ok(())
}

/// Decodes a request in protobuf: plain spans by the short way, where the writer takes that.
pub(super) fn decode_protobuf(body: &[u8], writer: &mut EventWriter<'_>) -> Result<(), DecodeError> {
    let groups = writer.takes_encoded(EventType::TraceSpan).then(|| plain::groups(body)).flatten();
    let Some(groups) = groups else {
        decode(ExportTraceServiceRequest::decode(body)?, writer);
        return Ok(());
    };
    let mut encoder = plain::Encoder::default();
    for group in groups {
        let resource = group.resource.map(Resource::decode).transpose()?;
        let resource = SharedResource::new(resource, group.schema_url.to_owned());
        for scope in group.scopes {
            let own = scope.scope.map(InstrumentationScope::decode).transpose()?;
            let shared = SharedScope::new(resource.as_ref(), own, scope.schema_url.to_owned());
            for span in scope.records {
                let plain = shared.as_ref().ok().and_then(|shared| {
                    let name = encoder.span(span, shared.resource)?;
                    Some((name, &shared.fields))
                });
                match plain {
                    Some((name, fields)) => {
                        let [head, body] = encoder.parts();
                        writer.encoded_event(EventType::TraceSpan, name, &[head, body, fields]);
                    }
                    None => match Span::decode(span) {
                        Ok(span) => take(&shared, span, writer),
                        Err(error) => writer.reject("MALFORMED", error.to_string()),
                    },
                }
            }
        }
    }
    Ok(())
}

fn take(shared: &Result<SharedScope<'_>, MappingError>, span: Span, writer: &mut EventWriter<'_>) {
    let taken = shared.as_ref().map_err(Clone::clone).and_then(|shared| {
        let event = event(shared.resource, span)?;
        Ok((event, Extra { fields: &shared.fields, time: 0 }))
    });
    match taken {
        Ok((event, extra)) => writer.event_with(event, extra),
        Err((code, message)) => writer.reject(code, message),
    }
}

fn event(resource: &SharedResource, span: Span) -> Result<Event, MappingError> {
    if span.start_time_unix_nano == 0 {
        return Err(("FIELD_MISSING", "start_time_unix_nano: a span needs one".to_owned()));
    }
    let mut attributes = Attributes::new(span.attributes)?;
    let status = span.status.unwrap_or_default();
    let mut event = envelope(EventType::TraceSpan, span.start_time_unix_nano, &attributes, resource);
    let own_fields = own_fields(&mut attributes);
    event.event_name = clipped_or(&span.name, EVENT_NAME_BYTES_MAX, "span").to_owned();
    event.body = Some(Body::TraceSpan(TraceSpan {
        trace_id: span.trace_id,
        span_id: span.span_id,
        parent_span_id: Some(span.parent_span_id).filter(|id| !id.is_empty()),
        service: resource.service.clone(),
        operation: span.name,
        start_time: span.start_time_unix_nano,
        end_time: span.end_time_unix_nano,
        status: to_status(status.code)?.into(),
        attributes: Some(SpanAttributes {
            other: attributes.texts,
            typed_other: attributes.typed,
            ..own_fields
        }),
        kind: span.kind,
        status_message: status.message,
        trace_state: span.trace_state,
        flags: span.flags,
        events: span.events.into_iter().map(to_event).collect::<Result<_, _>>()?,
        links: span.links.into_iter().map(to_link).collect::<Result<_, _>>()?,
        dropped_attributes_count: span.dropped_attributes_count,
        dropped_events_count: span.dropped_events_count,
        dropped_links_count: span.dropped_links_count,
        ..TraceSpan::default()
    }));
    Ok(event)
}

fn to_status(code: i32) -> Result<SpanStatus, MappingError> {
    match StatusCode::try_from(code) {
        Ok(StatusCode::Unset) => Ok(SpanStatus::Unset),
        Ok(StatusCode::Ok) => Ok(SpanStatus::Success),
        Ok(StatusCode::Error) => Ok(SpanStatus::Error),
        Err(_) => Err(("INVALID_VALUE", format!("status.code: there is no {code}"))),
    }
}

/// Fields of attributes that have one. An attribute under today's key alone moves; otherwise the attributes stay as
/// they are, and the field repeats one of them.
fn own_fields(attributes: &mut Attributes) -> SpanAttributes {
    let mut take_text = |keys: [&str; 2], bytes_max: usize| {
        let found = keys.iter().find_map(|key| attributes.text(key))?;
        if !(1..=bytes_max).contains(&found.len()) {
            return None;
        }
        let found = found.to_owned();
        if attributes.text(keys[1]).is_none() && !attributes.typed.contains_key(keys[1]) {
            attributes.texts.remove(keys[0]);
            attributes.typed.remove(keys[0]);
        }
        Some(found)
    };
    let http_method = take_text(METHOD, METHOD_BYTES_MAX).unwrap_or_default();
    let http_url = take_text(URL, URL_BYTES_MAX).unwrap_or_default();
    let db_statement = take_text(STATEMENT, STATEMENT_BYTES_MAX).unwrap_or_default();
    let http_status_code = take_status_code(attributes);
    SpanAttributes { http_method, http_url, http_status_code, db_statement, ..SpanAttributes::default() }
}

fn take_status_code(attributes: &mut Attributes) -> Option<u32> {
    let integer = |attributes: &Attributes, key: &str| match attributes.typed.get(key)?.kind {
        Some(Kind::Integer(code @ 100..=599)) => Some(code as u32),
        _ => None,
    };
    let [now, before] = STATUS_CODE;
    let has_before = attributes.typed.contains_key(before) || attributes.texts.contains_key(before);
    match integer(attributes, now) {
        Some(code) if !has_before => {
            attributes.typed.remove(now);
            Some(code)
        }
        found => found.or_else(|| integer(attributes, before)),
    }
}

fn to_event(event: OtlpEvent) -> Result<SpanEvent, MappingError> {
    let OtlpEvent { time_unix_nano, name, attributes, dropped_attributes_count } = event;
    Ok(SpanEvent { time: time_unix_nano, name, attributes: to_map(attributes)?, dropped_attributes_count })
}

fn to_link(link: Link) -> Result<SpanLink, MappingError> {
    let Link { trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags } = link;
    Ok(SpanLink {
        trace_id,
        span_id,
        trace_state,
        attributes: to_map(attributes)?,
        dropped_attributes_count,
        flags,
    })
}
