//! Parts of a stored batch: what holds for all events, an event's envelope, a dead letter.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::descriptor::Schema;
use super::enrichment::Facts;
use super::json::Writer;
use super::protobuf::{Entry, Fields, Invalid, Value};
use super::text;

/// Numbers of fields of `StoredBatch`, `DeadLetter` and `Event` in `proto/events.proto`; a test compares them.
pub(super) mod number {
    pub const BATCH_RECEIVE_TIME: u32 = 1;
    pub const BATCH_PEER: u32 = 2;
    pub const BATCH_EVENTS: u32 = 3;
    pub const BATCH_SERVER: u32 = 4;
    pub const BATCH_USER: u32 = 5;
    pub const BATCH_SHARD: u32 = 6;
    pub const BATCH_DEAD_LETTERS: u32 = 7;

    pub const LETTER_INDEX: u32 = 1;
    pub const LETTER_CODE: u32 = 2;
    pub const LETTER_MESSAGE: u32 = 3;
    pub const LETTER_EVENT: u32 = 4;

    pub const EVENT_ID: u32 = 1;
    pub const TIMESTAMP: u32 = 2;
    pub const PLATFORM: u32 = 3;
    pub const SESSION_ID: u32 = 4;
    pub const USER_ID: u32 = 5;
    pub const EVENT_TYPE: u32 = 6;
    pub const EVENT_NAME: u32 = 7;
    pub const CONTEXT: u32 = 8;
    pub const PROPERTIES: u32 = 9;
    pub const ANONYMOUS_ID: u32 = 42;
}

/// Facts of a record that hold for all of its events. Texts are UTF-8.
#[derive(Default)]
pub(super) struct Batch<'a> {
    pub receive_time_ns: u64,
    pub peer: Cow<'a, str>,
    pub server: Cow<'a, str>,
    pub user: Cow<'a, str>,
    pub shard: u32,
}

impl<'a> Batch<'a> {
    /// Reads what holds for all events; it may stand behind them.
    pub fn of(payload: &'a [u8]) -> Result<Self, Invalid> {
        let mut batch = Self::default();
        for entry in Fields::of(payload) {
            match entry? {
                Entry { number: number::BATCH_RECEIVE_TIME, value: Value::Fixed64(ns), .. } => {
                    batch.receive_time_ns = ns;
                }
                Entry { number: number::BATCH_PEER, value: Value::Bytes(text), .. } => {
                    batch.peer = String::from_utf8_lossy(text);
                }
                Entry { number: number::BATCH_SERVER, value: Value::Bytes(text), .. } => {
                    batch.server = String::from_utf8_lossy(text);
                }
                Entry { number: number::BATCH_USER, value: Value::Bytes(text), .. } => {
                    batch.user = String::from_utf8_lossy(text);
                }
                Entry { number: number::BATCH_SHARD, value: Value::Varint(shard), .. } => {
                    batch.shard = shard as u32;
                }
                _ => {}
            }
        }
        Ok(batch)
    }
}

/// Fields of an event's envelope.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub event_id: [u8; 16],
    pub timestamp_ns: u64,
    pub platform: &'a [u8],
    pub session: &'a [u8],
    pub user: &'a [u8],
    pub event_type: i32,
    pub event_name: &'a [u8],
    pub anonymous: &'a [u8],
    /// Facts for the columns that are computed.
    pub facts: Facts<'a>,
}

impl<'a> Envelope<'a> {
    /// Reads the fields of an event; of one that comes twice, the last counts.
    pub fn of(event: &'a [u8]) -> Result<Self, Invalid> {
        let mut envelope = Self::default();
        let mut fields = Fields::of(event);
        while let Some((number, wire_type)) = fields.tag()? {
            match (number, fields.value(wire_type)?) {
                (number::EVENT_ID, Value::Bytes(id)) => envelope.event_id = id.try_into().unwrap_or_default(),
                (number::TIMESTAMP, Value::Fixed64(ns)) => envelope.timestamp_ns = ns,
                (number::PLATFORM, Value::Bytes(text)) => envelope.platform = text,
                (number::SESSION_ID, Value::Bytes(text)) => envelope.session = text,
                (number::USER_ID, Value::Bytes(text)) => envelope.user = text,
                (number::EVENT_TYPE, Value::Varint(kind)) => envelope.event_type = kind as i32,
                (number::EVENT_NAME, Value::Bytes(text)) => envelope.event_name = text,
                (number::ANONYMOUS_ID, Value::Bytes(text)) => envelope.anonymous = text,
                (number, Value::Bytes(message)) => envelope.facts.add(number, message),
                _ => {}
            }
        }
        Ok(envelope)
    }
}

/// An event that was rejected.
#[derive(Default)]
pub(super) struct Letter<'a> {
    pub index: u32,
    pub code: &'a [u8],
    pub message: &'a [u8],
    pub event: Option<&'a [u8]>,
}

impl<'a> Letter<'a> {
    pub fn of(bytes: &'a [u8]) -> Result<Self, Invalid> {
        let mut letter = Self::default();
        for entry in Fields::of(bytes) {
            match entry? {
                Entry { number: number::LETTER_INDEX, value: Value::Varint(index), .. } => {
                    letter.index = index as u32;
                }
                Entry { number: number::LETTER_CODE, value: Value::Bytes(text), .. } => letter.code = text,
                Entry { number: number::LETTER_MESSAGE, value: Value::Bytes(text), .. } => {
                    letter.message = text;
                }
                Entry { number: number::LETTER_EVENT, value: Value::Bytes(event), .. } => {
                    letter.event = Some(event);
                }
                _ => {}
            }
        }
        Ok(letter)
    }

    /// Appends the letter as JSON: its event, or, where that can't be read, the bytes that came.
    pub fn write(&self, writer: &mut Writer, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"code\":");
        text::json_string(self.code, out);
        out.extend_from_slice(b",\"message\":");
        text::json_string(self.message, out);
        let before = out.len();
        if let Some(event) = self.event {
            out.extend_from_slice(b",\"event\":");
            if writer.message(Schema::get().event, event, out).is_ok() {
                out.push(b'}');
                return;
            }
            out.truncate(before);
        }
        if let Some(bytes) = self.event {
            out.extend_from_slice(b",\"bytes\":\"");
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
    }
}
