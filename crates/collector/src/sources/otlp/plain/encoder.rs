//! Events of plain records. The numbers are those of the fields in proto/events.proto.

use tickstream_client::events::{EventType, SpanStatus};
use tickstream_schema::cursor::{put_bytes, put_number, put_varint, varint_len};

use super::view::{Attribute, LogView, Plain, SpanView};
use crate::sources::{
    fields::{EVENT_NAME_BYTES_MAX, clipped_or},
    otlp::{
        semantics::{
            ID_BYTES_MAX, METHOD, METHOD_BYTES_MAX, SESSION, STATEMENT, STATEMENT_BYTES_MAX, STATUS_CODE,
            URL, URL_BYTES_MAX, USER, level,
        },
        shared::SharedResource,
    },
};

const LOG: u32 = 15;
const TRACE_SPAN: u32 = 14;

/// Room for the records of a request, one after the other.
#[derive(Default)]
pub(in super::super) struct Encoder<'a> {
    attributes: Vec<Attribute<'a>>,
    /// Fields of the event, up to the length of its body.
    head: Vec<u8>,
    body: Vec<u8>,
    nested: Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Encodes a log record, if it is plain, and gives the event's name.
    pub fn log(&mut self, record: &'a [u8], resource: &SharedResource) -> Option<&'a str> {
        let log = LogView::read(record, &mut self.attributes)?;
        let body = &mut self.body;
        body.clear();
        put_bytes(body, 1, resource.service.as_bytes());
        put_number(body, 2, level(log.severity_number as i32) as u64);
        put_bytes(body, 3, log.message.as_bytes());
        put_context(body, log.trace_id, log.span_id);
        self.attributes.iter().for_each(|attribute| put_attribute(body, [8, 9], *attribute));
        put_number(body, 11, log.severity_number);
        put_text(body, 12, log.severity_text);
        put_fixed64(body, 13, log.observed_time);
        put_number(body, 14, log.flags.into());
        put_number(body, 15, log.dropped_attributes_count);
        put_text(body, 16, log.event_name);
        let name = clipped_or(log.event_name, EVENT_NAME_BYTES_MAX, "log");
        self.put_head(EventType::Log, log.time, name, LOG, resource);
        Some(name)
    }

    /// Encodes a span, if it is plain, and gives the event's name.
    pub fn span(&mut self, record: &'a [u8], resource: &SharedResource) -> Option<&'a str> {
        let span = SpanView::read(record, &mut self.attributes)?;
        let status = match span.status_code {
            0 => SpanStatus::Unset,
            1 => SpanStatus::Success,
            _ => SpanStatus::Error,
        };
        self.put_span_attributes();
        let body = &mut self.body;
        body.clear();
        put_some(body, 1, span.trace_id);
        put_some(body, 2, span.span_id);
        put_some(body, 3, span.parent_span_id);
        put_bytes(body, 4, resource.service.as_bytes());
        put_text(body, 5, span.name);
        put_fixed64(body, 6, span.start_time);
        put_fixed64(body, 7, span.end_time);
        put_number(body, 9, status as u64);
        put_bytes(body, 10, &self.nested);
        put_number(body, 12, span.kind);
        put_text(body, 13, span.status_message);
        put_text(body, 14, span.trace_state);
        put_number(body, 15, span.flags.into());
        for (number, count) in (18..).zip(span.dropped_counts) {
            put_number(body, number, count);
        }
        let name = clipped_or(span.name, EVENT_NAME_BYTES_MAX, "span");
        self.put_head(EventType::TraceSpan, span.start_time, name, TRACE_SPAN, resource);
        Some(name)
    }

    /// The event that was encoded last, without its id and what the resource brings.
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.head, &self.body]
    }

    fn put_head(&mut self, kind: EventType, time: u64, name: &str, number: u32, resource: &SharedResource) {
        let (session, user) = (self.id(SESSION), self.id(USER));
        let head = &mut self.head;
        head.clear();
        put_fixed64(head, 2, time);
        put_text(head, 3, &resource.platform);
        put_text(head, 4, session.unwrap_or_default());
        put_text(head, 5, user.unwrap_or_default());
        put_number(head, 6, kind as u64);
        put_text(head, 7, name);
        put_key(head, number, 2);
        put_varint(head, self.body.len() as u64);
    }

    fn find(&self, key: &str) -> Option<usize> {
        self.attributes.iter().position(|attribute| attribute.key == key)
    }

    fn text_at(&self, at: Option<usize>) -> Option<&'a str> {
        match self.attributes[at?].value {
            Plain::Text(text) => Some(text),
            _ => None,
        }
    }

    fn id(&self, keys: [&str; 2]) -> Option<&'a str> {
        let found = keys.iter().find_map(|key| self.text_at(self.find(key)))?;
        (1..=ID_BYTES_MAX).contains(&found.len()).then_some(found)
    }

    /// A text that has a field of its own, and the attribute that it takes the place of.
    fn own_text(&self, [now, before]: [&str; 2], bytes_max: usize) -> (&'a str, Option<usize>) {
        let (now, before) = (self.find(now), self.find(before));
        match self.text_at(now).or_else(|| self.text_at(before)) {
            Some(found) if (1..=bytes_max).contains(&found.len()) => {
                (found, now.filter(|_| before.is_none()))
            }
            _ => ("", None),
        }
    }

    fn own_status_code(&self) -> (Option<u64>, Option<usize>) {
        let [now, before] = STATUS_CODE.map(|key| self.find(key));
        let code = |at: Option<usize>| match self.attributes[at?].value {
            Plain::Integer(code @ 100..=599) => Some(code as u64),
            _ => None,
        };
        match code(now) {
            Some(code) if before.is_none() => (Some(code), now),
            found => (found.or_else(|| code(before)), None),
        }
    }

    /// Fields of `SpanAttributes`, as `spans::own_fields` has them.
    fn put_span_attributes(&mut self) {
        let mut nested = std::mem::take(&mut self.nested);
        nested.clear();
        let (method, first) = self.own_text(METHOD, METHOD_BYTES_MAX);
        let (url, second) = self.own_text(URL, URL_BYTES_MAX);
        let (statement, third) = self.own_text(STATEMENT, STATEMENT_BYTES_MAX);
        let (status_code, fourth) = self.own_status_code();
        put_text(&mut nested, 1, method);
        put_text(&mut nested, 2, url);
        put_number(&mut nested, 3, status_code.unwrap_or_default());
        put_text(&mut nested, 4, statement);
        let moved = [first, second, third, fourth];
        for (at, attribute) in self.attributes.iter().enumerate() {
            if !moved.contains(&Some(at)) {
                put_attribute(&mut nested, [15, 16], *attribute);
            }
        }
        self.nested = nested;
    }
}

fn put_key(out: &mut Vec<u8>, number: u32, wire: u32) {
    put_varint(out, u64::from(number << 3 | wire));
}

fn put_fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_key(out, number, 1);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Bytes, unless there are none.
fn put_some(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    if !value.is_empty() {
        put_bytes(out, number, value);
    }
}

fn put_text(out: &mut Vec<u8>, number: u32, text: &str) {
    put_some(out, number, text.as_bytes());
}

/// `Log.context`: ids that say something.
fn put_context(out: &mut Vec<u8>, trace_id: &[u8], span_id: &[u8]) {
    let says = |id: &[u8], len: usize| id.len() == len && id.iter().any(|byte| *byte != 0);
    let trace_id = Some(trace_id).filter(|id| says(id, 16)).unwrap_or_default();
    let span_id = Some(span_id).filter(|id| says(id, 8)).unwrap_or_default();
    let field_len = |id: &[u8]| if id.is_empty() { 0 } else { 2 + id.len() };
    let len = field_len(trace_id) + field_len(span_id);
    if len > 0 {
        put_key(out, 7, 2);
        put_varint(out, len as u64);
        put_some(out, 3, trace_id);
        put_some(out, 4, span_id);
    }
}

/// An entry of the map of texts, or of that of values.
fn put_attribute(out: &mut Vec<u8>, [texts, typed]: [u32; 2], attribute: Attribute<'_>) {
    let key = attribute.key.as_bytes();
    let field_len = |len: usize| 1 + varint_len(len as u64) + len;
    let mut value = [0; 12];
    let (number, value) = match attribute.value {
        Plain::Text(text) => (texts, text.as_bytes()),
        Plain::Boolean(boolean) => (typed, encoded(&mut value, 4 << 3, u64::from(boolean))),
        Plain::Integer(integer) => {
            let zigzag = ((integer << 1) ^ (integer >> 63)) as u64;
            (typed, encoded(&mut value, 3 << 3, zigzag))
        }
        Plain::Number(number) => {
            value[0] = 2 << 3 | 1;
            value[1..9].copy_from_slice(&number.to_le_bytes());
            (typed, &value[..9])
        }
    };
    put_key(out, number, 2);
    put_varint(out, (field_len(key.len()) + field_len(value.len())) as u64);
    put_bytes(out, 1, key);
    put_bytes(out, 2, value);
}

/// A key of one byte and a varint.
fn encoded(out: &mut [u8; 12], key: u8, mut value: u64) -> &[u8] {
    out[0] = key;
    let mut len = 1;
    while value >= 0x80 {
        out[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    out[len] = value as u8;
    &out[..=len]
}
