//! Lines of JSON, one for each event. Control characters in their texts are escaped: they come from clients.

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use tickstream_schema::events::{DeadLetter, Event};
use tickstream_schema::json::write_event;
use tickstream_service::text::json;
use tickstream_wire::messages::Message;

use super::StoredRecord;

/// Facts that the server knows of an event beside the event itself.
#[derive(Serialize)]
struct Enrichment<'a> {
    receive_time: String,
    peer: &'a str,
    server: &'a str,
    user: &'a str,
    shard: u32,
    producer: String,
    sequence: u64,
    position: Position<'a>,
    /// Of a dead letter: its place in the PUBLISH, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_index: Option<u32>,
}

/// Place of an event in the journals, which no other event has. A record's dead letters come behind its events.
#[derive(Serialize)]
struct Position<'a> {
    journal: &'a str,
    record: u64,
    index: usize,
}

/// The members of a dead letter before the event.
#[derive(Serialize)]
struct Rejection<'a> {
    code: &'a str,
    message: &'a str,
}

/// Appends an event's line; bare, without what the server added.
pub fn event(out: &mut Vec<u8>, record: StoredRecord<'_>, index: usize, bare: bool) {
    write_event(&record.stored.events[index], out);
    if !bare {
        continued(out, "enrichment", &Enrichment::new(record, index));
    }
    end_line(out);
}

/// Appends the line of a dead letter. Its event is there as JSON if it can be read, otherwise its bytes are, as
/// hexadecimal digits, if they were kept. Bare, it is the event alone. False if there is no such line.
pub fn dead_letter(out: &mut Vec<u8>, record: StoredRecord<'_>, place: usize, bare: bool) -> bool {
    let letter = &record.stored.dead_letters[place];
    if bare {
        let Some(event) = event_of(letter) else { return false };
        write_event(&event, out);
        end_line(out);
        return true;
    }
    append(out, &Rejection { code: &letter.code, message: &letter.message });
    match (event_of(letter), &letter.event) {
        (Some(event), _) => {
            out.pop();
            out.extend_from_slice(b",\"event\":");
            write_event(&event, out);
            out.push(b'}');
        }
        (None, Some(bytes)) => continued(out, "event_bytes", &hex(bytes)),
        (None, None) => {}
    }
    let enrichment = Enrichment::new(record, record.stored.events.len() + place);
    continued(out, "enrichment", &Enrichment { batch_index: Some(letter.index), ..enrichment });
    end_line(out);
    true
}

/// Ends the line, and escapes what a terminal would act on.
pub fn end_line(out: &mut Vec<u8>) {
    if let Ok(text) = std::str::from_utf8(out)
        && let Cow::Owned(safe) = json(text)
    {
        *out = safe.into_bytes();
    }
    out.push(b'\n');
}

/// The event of a dead letter, if it is one.
pub fn event_of(letter: &DeadLetter) -> Option<Event> {
    Event::decode(letter.event.as_deref()?).ok()
}

/// Unix nanoseconds as RFC 3339 has them.
pub fn time(unix_ns: u64) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(unix_ns)).to_string()
}

/// Adds a member to the object at the end of `out`.
fn continued(out: &mut Vec<u8>, key: &str, value: &impl Serialize) {
    let end = out.pop();
    debug_assert_eq!(end, Some(b'}'));
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    append(out, key);
    out.push(b':');
    append(out, value);
    out.push(b'}');
}

fn append(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("writing to a Vec can't fail, and all keys are texts");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<'a> Enrichment<'a> {
    fn new(record: StoredRecord<'a>, index: usize) -> Self {
        let StoredRecord { journal, record, producer, sequence, stored } = record;
        Self {
            receive_time: time(stored.receive_time_ns),
            peer: &stored.peer,
            server: &stored.server,
            user: &stored.user,
            shard: stored.shard,
            producer: hex(&producer),
            sequence,
            position: Position { journal, record, index },
            batch_index: None,
        }
    }
}
