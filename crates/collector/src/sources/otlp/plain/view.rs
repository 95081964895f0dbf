//! Plain records where they lie. Every reader gives `None` for what isn't plain.

use tickstream_schema::cursor::{Cursor, Wire};

use crate::sources::fields::{fits_text_map, is_message};

/// Most attributes of a plain record: they are compared with each other.
const ATTRIBUTES_MAX: usize = 16;
/// OpenTelemetry's highest numbers of severity, kind and status.
const SEVERITY_MAX: u64 = 24;
const KIND_MAX: u64 = 5;
const STATUS_MAX: u64 = 2;

/// An attribute.
#[derive(Clone, Copy)]
pub(super) struct Attribute<'a> {
    pub key: &'a str,
    pub value: Plain<'a>,
}

/// A value that is no list, no map and no bytes.
#[derive(Clone, Copy)]
pub(super) enum Plain<'a> {
    Text(&'a str),
    Boolean(bool),
    Integer(i64),
    Number(f64),
}

#[derive(Default)]
pub(super) struct LogView<'a> {
    pub time: u64,
    pub observed_time: u64,
    pub severity_number: u64,
    pub severity_text: &'a str,
    pub message: &'a str,
    pub dropped_attributes_count: u64,
    pub flags: u32,
    pub trace_id: &'a [u8],
    pub span_id: &'a [u8],
    pub event_name: &'a str,
}

impl<'a> LogView<'a> {
    pub fn read(bytes: &'a [u8], attributes: &mut Vec<Attribute<'a>>) -> Option<Self> {
        let mut view = Self::default();
        attributes.clear();
        let mut cursor = Cursor::new(bytes);
        while let Some(field) = cursor.key().ok()? {
            match field {
                (1, Wire::Fixed64) => view.time = cursor.fixed64().ok()?,
                (2, Wire::Varint) => view.severity_number = cursor.varint().ok()?,
                (3, Wire::Bytes) => view.severity_text = text(&mut cursor)?,
                (5, Wire::Bytes) if view.message.is_empty() => {
                    let Plain::Text(message) = value(cursor.bytes().ok()?)? else { return None };
                    view.message = message;
                }
                (6, Wire::Bytes) => attributes.push(attribute(cursor.bytes().ok()?)?),
                (7, Wire::Varint) => view.dropped_attributes_count = count(&mut cursor)?,
                (8, Wire::Fixed32) => view.flags = cursor.fixed32().ok()?,
                (9, Wire::Bytes) => view.trace_id = cursor.bytes().ok()?,
                (10, Wire::Bytes) => view.span_id = cursor.bytes().ok()?,
                (11, Wire::Fixed64) => view.observed_time = cursor.fixed64().ok()?,
                (12, Wire::Bytes) => view.event_name = text(&mut cursor)?,
                _ => return None,
            }
        }
        let is_plain = view.time != 0 && view.severity_number <= SEVERITY_MAX && is_message(view.message);
        (is_plain && are_unique(attributes)).then_some(view)
    }
}

#[derive(Default)]
pub(super) struct SpanView<'a> {
    pub trace_id: &'a [u8],
    pub span_id: &'a [u8],
    pub parent_span_id: &'a [u8],
    pub trace_state: &'a str,
    pub name: &'a str,
    pub kind: u64,
    pub start_time: u64,
    pub end_time: u64,
    pub status_code: u64,
    pub status_message: &'a str,
    pub flags: u32,
    /// Of attributes, events, links.
    pub dropped_counts: [u64; 3],
}

impl<'a> SpanView<'a> {
    pub fn read(bytes: &'a [u8], attributes: &mut Vec<Attribute<'a>>) -> Option<Self> {
        let mut view = Self::default();
        attributes.clear();
        let mut cursor = Cursor::new(bytes);
        while let Some(field) = cursor.key().ok()? {
            match field {
                (1, Wire::Bytes) => view.trace_id = cursor.bytes().ok()?,
                (2, Wire::Bytes) => view.span_id = cursor.bytes().ok()?,
                (3, Wire::Bytes) => view.trace_state = text(&mut cursor)?,
                (4, Wire::Bytes) => view.parent_span_id = cursor.bytes().ok()?,
                (5, Wire::Bytes) => view.name = text(&mut cursor)?,
                (6, Wire::Varint) => view.kind = cursor.varint().ok()?,
                (7, Wire::Fixed64) => view.start_time = cursor.fixed64().ok()?,
                (8, Wire::Fixed64) => view.end_time = cursor.fixed64().ok()?,
                (9, Wire::Bytes) => attributes.push(attribute(cursor.bytes().ok()?)?),
                (10, Wire::Varint) => view.dropped_counts[0] = count(&mut cursor)?,
                (12, Wire::Varint) => view.dropped_counts[1] = count(&mut cursor)?,
                (14, Wire::Varint) => view.dropped_counts[2] = count(&mut cursor)?,
                (15, Wire::Bytes) => view.read_status(cursor.bytes().ok()?)?,
                (16, Wire::Fixed32) => view.flags = cursor.fixed32().ok()?,
                _ => return None,
            }
        }
        let is_plain = view.start_time != 0 && view.kind <= KIND_MAX && view.status_code <= STATUS_MAX;
        (is_plain && are_unique(attributes)).then_some(view)
    }

    fn read_status(&mut self, bytes: &'a [u8]) -> Option<()> {
        let mut cursor = Cursor::new(bytes);
        while let Some(field) = cursor.key().ok()? {
            match field {
                (2, Wire::Bytes) => self.status_message = text(&mut cursor)?,
                (3, Wire::Varint) => self.status_code = cursor.varint().ok()?,
                _ => return None,
            }
        }
        Some(())
    }
}

/// The next bytes, which are a text.
pub(super) fn text<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    std::str::from_utf8(cursor.bytes().ok()?).ok()
}

/// The next number, which is one of 32 bits.
fn count(cursor: &mut Cursor<'_>) -> Option<u64> {
    cursor.varint().ok().filter(|count| *count <= u32::MAX.into())
}

fn attribute(bytes: &[u8]) -> Option<Attribute<'_>> {
    let mut cursor = Cursor::new(bytes);
    let Some((1, Wire::Bytes)) = cursor.key().ok()? else { return None };
    let key = text(&mut cursor)?;
    let Some((2, Wire::Bytes)) = cursor.key().ok()? else { return None };
    let value = value(cursor.bytes().ok()?)?;
    let is_plain = match value {
        Plain::Text(text) => fits_text_map(key, text),
        _ => true,
    };
    (is_plain && cursor.key().ok()?.is_none()).then_some(Attribute { key, value })
}

fn value(bytes: &[u8]) -> Option<Plain<'_>> {
    let mut cursor = Cursor::new(bytes);
    let value = match cursor.key().ok()?? {
        (1, Wire::Bytes) => Plain::Text(text(&mut cursor)?),
        (2, Wire::Varint) => Plain::Boolean(cursor.varint().ok()? != 0),
        (3, Wire::Varint) => Plain::Integer(cursor.varint().ok()? as i64),
        (4, Wire::Fixed64) => Plain::Number(f64::from_bits(cursor.fixed64().ok()?)),
        _ => return None,
    };
    cursor.key().ok()?.is_none().then_some(value)
}

fn are_unique(attributes: &[Attribute<'_>]) -> bool {
    let is_new = |at: usize| attributes[..at].iter().all(|other| other.key != attributes[at].key);
    attributes.len() <= ATTRIBUTES_MAX && (1..attributes.len()).all(is_new)
}
