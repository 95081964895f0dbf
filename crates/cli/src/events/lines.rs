//! What is printed of an event: one line of JSON.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use tickstream_schema::events::{DeadLetter, Event};
use tickstream_wire::messages::Message;

use super::feed::Batch;
use tickstream_client::json::write_event;

/// What the server knows of an event beside the event itself.
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
}

/// Where an event is stored. No other has the same.
#[derive(Serialize)]
struct Position<'a> {
    journal: &'a str,
    record: u64,
    index: usize,
}

/// What is printed of a dead letter before the event.
#[derive(Serialize)]
struct Verdict<'a> {
    code: &'a str,
    message: &'a str,
}

/// Appends the event's line.
pub fn event(out: &mut Vec<u8>, journal: &str, batch: &Batch, index: usize, bare: bool) {
    write_event(&batch.stored.events[index], out);
    if !bare {
        continued(out, "enrichment", &Enrichment::new(journal, batch, index));
    }
    out.push(b'\n');
}

/// Appends the line of a dead letter. Its event is there as JSON if it can be read, otherwise its bytes are, as
/// hexadecimal digits, if they were kept.
pub fn letter(out: &mut Vec<u8>, journal: &str, batch: &Batch, letter: &DeadLetter) {
    append(out, &Verdict { code: &letter.code, message: &letter.message });
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
    continued(out, "enrichment", &Enrichment::new(journal, batch, letter.index as usize));
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
    fn new(journal: &'a str, batch: &'a Batch, index: usize) -> Self {
        let stored = &batch.stored;
        Self {
            receive_time: time(stored.receive_time_ns),
            peer: &stored.peer,
            server: &stored.server,
            user: &stored.user,
            shard: stored.shard,
            producer: hex(&batch.producer),
            sequence: batch.sequence,
            position: Position { journal, record: batch.record, index },
        }
    }
}
