//! Parts of a stored batch: what holds for all events, an event's envelope, a dead letter.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::descriptor::Schema;
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

/// Facts of a record that hold for all of its events.
#[derive(Clone, Copy, Default)]
pub(super) struct Batch<'a> {
    pub receive_time_ns: u64,
    pub peer: &'a [u8],
    pub server: &'a [u8],
    pub user: &'a [u8],
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
                Entry { number: number::BATCH_PEER, value: Value::Bytes(text), .. } => batch.peer = text,
                Entry { number: number::BATCH_SERVER, value: Value::Bytes(text), .. } => batch.server = text,
                Entry { number: number::BATCH_USER, value: Value::Bytes(text), .. } => batch.user = text,
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
}

impl<'a> Envelope<'a> {
    pub fn of(entries: &[Entry<'a>]) -> Self {
        let mut envelope = Self::default();
        for entry in entries {
            match (entry.number, entry.value) {
                (number::EVENT_ID, Value::Bytes(id)) => envelope.event_id = id.try_into().unwrap_or_default(),
                (number::TIMESTAMP, Value::Fixed64(ns)) => envelope.timestamp_ns = ns,
                (number::PLATFORM, Value::Bytes(text)) => envelope.platform = text,
                (number::SESSION_ID, Value::Bytes(text)) => envelope.session = text,
                (number::USER_ID, Value::Bytes(text)) => envelope.user = text,
                (number::EVENT_TYPE, Value::Varint(kind)) => envelope.event_type = kind as i32,
                (number::EVENT_NAME, Value::Bytes(text)) => envelope.event_name = text,
                (number::ANONYMOUS_ID, Value::Bytes(text)) => envelope.anonymous = text,
                _ => {}
            }
        }
        envelope
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

    pub fn write(&self, entries: Option<&[Entry<'_>]>, writer: &mut Writer, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"code\":");
        text::json_string(self.code, out);
        out.extend_from_slice(b",\"message\":");
        text::json_string(self.message, out);
        let before = out.len();
        if let Some(entries) = entries {
            out.extend_from_slice(b",\"event\":");
            if writer.object(Schema::get().event, entries, out, &mut |_, _| {}).is_ok() {
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
