//! Spans.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{
        ScopeSpans, Span,
        span::{Event as OtlpEvent, Link},
        status::StatusCode,
    },
};
use tickstream_client::events::{
    Body, Event, EventType, Kind, SpanAttributes, SpanEvent, SpanLink, SpanStatus, TraceSpan,
};

use super::{
    logs::envelope,
    shared::SharedResource,
    values::{Attributes, Unfit, to_map},
};
use crate::{
    sources::fields::{EVENT_NAME_BYTES_MAX, clipped_or},
    writer::{EventWriter, Extra},
};

/// Attributes that have a field of their own: today's key, and the one that it replaced, which many still send.
pub(super) const METHOD: [&str; 2] = ["http.request.method", "http.method"];
pub(super) const URL: [&str; 2] = ["url.full", "http.url"];
pub(super) const STATUS_CODE: [&str; 2] = ["http.response.status_code", "http.status_code"];
pub(super) const STATEMENT: [&str; 2] = ["db.query.text", "db.statement"];

pub(super) fn decode(request: ExportTraceServiceRequest, writer: &mut EventWriter<'_>) {
    for spans in request.resource_spans {
        let resource = SharedResource::new(spans.resource, spans.schema_url);
        for scope in spans.scope_spans {
            decode_scope(resource.as_ref(), scope, writer);
        }
    }
}

fn decode_scope(resource: Result<&SharedResource, &Unfit>, spans: ScopeSpans, writer: &mut EventWriter<'_>) {
    let ScopeSpans { scope, spans, schema_url } = spans;
    let shared = resource.map_err(Clone::clone).and_then(|resource| {
        let fields = resource.with_scope(scope, schema_url)?;
        Ok((resource, fields))
    });
    for span in spans {
        match shared.as_ref().map_err(Clone::clone).and_then(|(resource, _)| event(resource, span)) {
            Ok(event) => {
                let fields = shared.as_ref().map(|(_, fields)| &fields[..]).unwrap_or_default();
                writer.event_with(event, Extra { fields, time: 0 });
            }
            Err((code, message)) => writer.reject(code, message),
        }
    }
}

fn event(resource: &SharedResource, span: Span) -> Result<Event, Unfit> {
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

fn to_status(code: i32) -> Result<SpanStatus, Unfit> {
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
    let http_method = take_text(METHOD, 32).unwrap_or_default();
    let http_url = take_text(URL, 4096).unwrap_or_default();
    let db_statement = take_text(STATEMENT, 8192).unwrap_or_default();
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

fn to_event(event: OtlpEvent) -> Result<SpanEvent, Unfit> {
    let OtlpEvent { time_unix_nano, name, attributes, dropped_attributes_count } = event;
    Ok(SpanEvent { time: time_unix_nano, name, attributes: to_map(attributes)?, dropped_attributes_count })
}

fn to_link(link: Link) -> Result<SpanLink, Unfit> {
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
