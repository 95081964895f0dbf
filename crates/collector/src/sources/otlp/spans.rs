//! Spans.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span,
        span::{Event as OtlpEvent, Link},
        status::StatusCode,
    },
};
use tickstream_client::events::{
    Body, Event, EventType, Kind, SpanAttributes, SpanEvent, SpanLink, SpanStatus, TraceSpan,
};

use super::{
    groups::{Group, Scope},
    logs::envelope,
    plain::Encoder,
    semantics::{METHOD, METHOD_BYTES_MAX, STATEMENT, STATEMENT_BYTES_MAX, STATUS_CODE, URL, URL_BYTES_MAX},
    shared::SharedResource,
    values::{Attributes, MappingError, to_map},
    walk::{PlainRecord, Record, Shared, write_event},
};
use crate::{
    sources::fields::{EVENT_NAME_BYTES_MAX, clipped_or},
    writer::EventWriter,
};

impl Record for Span {
    type Request = ExportTraceServiceRequest;

    fn groups(
        request: Self::Request,
    ) -> impl Iterator<Item = Group<impl Iterator<Item = Scope<impl Iterator<Item = Result<Self, String>>>>>>
    {
        let scope = |ScopeSpans { scope, spans, schema_url }| Scope {
            scope,
            schema_url,
            records: spans.into_iter().map(Ok),
        };
        request.resource_spans.into_iter().map(move |ResourceSpans { resource, scope_spans, schema_url }| {
            Group { resource, schema_url, scopes: scope_spans.into_iter().map(scope) }
        })
    }

    fn write(self, shared: &Shared<'_>, writer: &mut EventWriter<'_>) {
        write_event(shared, 0, |resource| event(resource, self), writer);
    }
}

impl PlainRecord for Span {
    const KIND: EventType = EventType::TraceSpan;

    fn encode_plain<'a>(
        encoder: &mut Encoder<'a>,
        record: &'a [u8],
        resource: &SharedResource,
    ) -> Option<&'a str> {
        encoder.span(record, resource)
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
