//! Fields that this version of the schema doesn't know: an event of a newer client has them, its journal keeps them, and
//! what is printed leaves them out. That is said.
//!
//! They are found by comparison: what decoding and encoding again loses, and isn't a default value, is unknown. That needs
//! no description of the schema. Order and doubled fields don't count as lost.

use tickstream_schema::events::{DeadLetter, Event, StoredBatch};
use tickstream_wire::messages::Message;

use super::batch::Batch;
use super::say;
use tickstream_service::text::counted;

/// Number of `events` in a `StoredBatch`.
const EVENTS: u64 = 3;

/// The events' bytes where `stored` has fewer bytes than the payload that it was read from; otherwise none.
pub fn raw_events(payload: &[u8], stored: &StoredBatch) -> Vec<Vec<u8>> {
    if stored.encoded_len() == payload.len() {
        return Vec::new();
    }
    let fields = fields(payload).unwrap_or_default().into_iter();
    fields.filter(|field| field.number == EVENTS).map(|field| field.value.to_vec()).collect()
}

/// Events of which something was left out.
#[derive(Default)]
pub struct Unknown {
    events: u64,
}

impl Unknown {
    /// Looks at an event that was printed.
    pub fn look_at(&mut self, journal: &str, batch: &Batch, index: usize) {
        if let (Some(raw), Some(event)) = (batch.raw_events.get(index), batch.stored.events.get(index)) {
            self.compare(raw, event, &format!("{journal}, record {}, index {index}", batch.record));
        }
    }

    /// Looks at a dead letter whose event was printed.
    pub fn look_at_letter(&mut self, journal: &str, batch: &Batch, letter: &DeadLetter) {
        let raw = letter.event.as_deref().unwrap_or_default();
        if let Ok(event) = <Event as Message>::decode(raw)
            && event.encoded_len() != raw.len()
        {
            self.compare(raw, &event, &format!("{journal}, record {}, dead letter", batch.record));
        }
    }

    fn compare(&mut self, raw: &[u8], event: &Event, place: &str) {
        let Some(path) = lost(raw, &Message::encode_to_vec(event)) else { return };
        self.events += 1;
        if self.events == 1 {
            say(&format!(
                "warning: an event has a field that this version of tickstream doesn't know (number {path}; {place}): it is \
                 left out here, and stays in the journal. A newer version knows it"
            ));
        }
    }

    /// Says how many there were, after the first.
    pub fn sum_up(&self) {
        if self.events > 1 {
            say(&format!(
                "warning: fields that this version doesn't know were left out of {}",
                counted(self.events, "event")
            ));
        }
    }
}

/// A field of a message.
struct Field<'a> {
    number: u64,
    has_length: bool,
    /// Its value; of a length-delimited one, what is behind the length.
    value: &'a [u8],
}

/// Numbers of the first field in `raw`, from the outermost message on, that `known`, the same without what is unknown,
/// has nothing of.
fn lost(raw: &[u8], known: &[u8]) -> Option<String> {
    // Both are events of at most 128 KiB, or parts of one: a message in a message is as deep as the schema.
    let (raw, mut known) = (fields(raw)?, fields(known)?);
    for field in raw {
        let has_value = field.value.iter().any(|byte| *byte != 0);
        let same = |other: &Field<'_>| other.number == field.number;
        // The same value, where there is one: maps are encoded in another order.
        let exact = known.iter().position(|other| same(other) && other.value == field.value);
        match exact.or_else(|| known.iter().position(same)) {
            Some(at) if exact.is_some() => drop(known.swap_remove(at)),
            Some(at) if field.has_length => {
                if let Some(within) = lost(field.value, known[at].value) {
                    return Some(format!("{}.{within}", field.number));
                }
            }
            None if has_value => return Some(field.number.to_string()),
            Some(_) | None => {}
        }
    }
    None
}

/// A message's fields by the wire format of Protocol Buffers; `None` where the bytes are no message.
fn fields(mut bytes: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let length = match key & 7 {
            0 => bytes.iter().position(|byte| *byte < 0x80)? + 1,
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = bytes.split_at_checked(length)?;
        fields.push(Field { number: key >> 3, has_length: key & 7 == 2, value });
        bytes = rest;
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tickstream_schema::events::{Body, Log};

    use super::*;

    fn event() -> Event {
        let metadata = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let log = Log { service: "payments".into(), metadata, ..Log::default() };
        Event { event_name: "declined".into(), body: Some(Body::Log(log)), ..Event::default() }
    }

    /// The number of a field that is lost, of an event's bytes.
    fn check(raw: &[u8], expected: Option<&str>) {
        let event = <Event as Message>::decode(raw).unwrap();
        assert_eq!(lost(raw, &event.encode_to_vec()).as_deref(), expected);
    }

    #[test]
    fn only_what_is_lost_is_unknown() {
        let known = event().encode_to_vec();
        check(&known, None);
        // session_id and timestamp, explicitly empty.
        check(&[&known[..], &[0x22, 0], &[0x11, 0, 0, 0, 0, 0, 0, 0, 0]].concat(), None);
        // A name that comes twice; the last one counts.
        check(&[&[0x3a, 1, b'x'], &known[..]].concat(), None);
        // Number 99: a varint, eight bytes, four bytes, text.
        check(&[&known[..], &[0x98, 6, 1]].concat(), Some("99"));
        check(&[&known[..], &[0x99, 6, 1, 0, 0, 0, 0, 0, 0, 0]].concat(), Some("99"));
        check(&[&known[..], &[0x9d, 6, 1, 0, 0, 0]].concat(), Some("99"));
        check(&[&known[..], &[0x9a, 6, 1, b'x']].concat(), Some("99"));
        check(&[&[0x9a, 6, 1, b'x'], &known[..]].concat(), Some("99"));
    }

    #[test]
    fn fields_within_a_body_are_found() {
        let Some(Body::Log(log)) = event().body else { unreachable!("it is a log") };
        let body = [&log.encode_to_vec()[..], &[0x98, 6, 7]].concat();
        let raw = [&[0x3a, 1, b'n', 0x7a, body.len() as u8], &body[..]].concat();
        check(&raw, Some("15.99"));
        // The same maps in another order of their entries.
        let entry = |key: u8| [0x42, 6, 0x0a, 1, key, 0x12, 1, key];
        let body = [&[0x0a, 1, b's'][..], &entry(b'b'), &entry(b'a')].concat();
        check(&[&[0x7a, body.len() as u8], &body[..]].concat(), None);
    }
}
