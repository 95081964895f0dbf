//! Records as most senders write them, from OpenTelemetry's bytes to an event's, without structures between.
//!
//! A record that has anything else, such as a list among its attributes or an event of a span, isn't plain: it goes by
//! [`logs`](super::logs) and [`spans`](super::spans), which also say what is wrong. Both ways give the same events.

mod encoder;
mod view;

pub(super) use encoder::Encoder;
use tickstream_schema::cursor::{Cursor, Wire};
use view::text;

/// Records of one resource.
pub(super) struct Group<'a> {
    pub resource: Option<&'a [u8]>,
    pub schema_url: &'a str,
    pub scopes: Vec<Scope<'a>>,
}

/// Records of one scope.
#[derive(Default)]
pub(super) struct Scope<'a> {
    pub scope: Option<&'a [u8]>,
    pub schema_url: &'a str,
    pub records: Vec<&'a [u8]>,
}

/// An export request, taken apart as far as its records. `None`: it has something unusual, or is malformed.
pub(super) fn groups(request: &[u8]) -> Option<Vec<Group<'_>>> {
    let mut groups = Vec::new();
    let mut cursor = Cursor::new(request);
    while let Some(field) = cursor.key().ok()? {
        match field {
            (1, Wire::Bytes) => groups.push(group(cursor.bytes().ok()?)?),
            _ => return None,
        }
    }
    Some(groups)
}

fn group(bytes: &[u8]) -> Option<Group<'_>> {
    let mut group = Group { resource: None, schema_url: "", scopes: Vec::new() };
    let mut cursor = Cursor::new(bytes);
    while let Some(field) = cursor.key().ok()? {
        match field {
            (1, Wire::Bytes) if group.resource.is_none() => group.resource = Some(cursor.bytes().ok()?),
            (2, Wire::Bytes) => group.scopes.push(scope(cursor.bytes().ok()?)?),
            (3, Wire::Bytes) => group.schema_url = text(&mut cursor)?,
            _ => return None,
        }
    }
    Some(group)
}

fn scope(bytes: &[u8]) -> Option<Scope<'_>> {
    let mut scope = Scope::default();
    let mut cursor = Cursor::new(bytes);
    while let Some(field) = cursor.key().ok()? {
        match field {
            (1, Wire::Bytes) if scope.scope.is_none() => scope.scope = Some(cursor.bytes().ok()?),
            (2, Wire::Bytes) => scope.records.push(cursor.bytes().ok()?),
            (3, Wire::Bytes) => scope.schema_url = text(&mut cursor)?,
            _ => return None,
        }
    }
    Some(scope)
}
