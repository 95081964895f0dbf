//! JSON of a message straight from its bytes, without building the message.
//!
//! It is that of `tickstream_schema::json`; a test compares the two. Fields that this program doesn't know, of a newer
//! schema, aren't lost: their bytes stand as Base64 under the key [`UNKNOWN`] of their message.

use std::io::Write as _;

use arrayvec::ArrayVec;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::columns::Promoted;
use super::descriptor::{Field, Kind, MessageId, Schema, enum_name};
use super::protobuf::{Entry, Fields, Invalid, Value, packed_varints, zigzag};
use super::text::{base64, comma, quoted};
use super::{text, typed};

/// Key of a message's unknown fields.
pub const UNKNOWN: &str = "_unknown";

/// Deepest nesting of messages that is written; deeper ones stand as Base64.
const DEPTH_MAX: usize = 32;

/// Writes messages as JSON, and notes the values of promoted columns on the way.
#[derive(Debug)]
pub struct Writer {
    schema: &'static Schema,
    /// Ranges of the written JSON: values of promoted text columns, without quotes. Empty: none.
    pub texts: [(usize, usize); Promoted::TEXTS],
    /// Promoted numbers.
    pub numbers: [Option<f64>; Promoted::COUNT - Promoted::TEXTS],
    /// True if a promoted text has escapes in JSON.
    pub has_escapes: bool,
}

impl Default for Writer {
    fn default() -> Self {
        Self { schema: Schema::get(), texts: [(0, 0); _], numbers: [None; _], has_escapes: false }
    }
}

impl Writer {
    /// Forgets promoted values.
    pub fn begin(&mut self) {
        self.texts = [(0, 0); _];
        self.numbers = [None; _];
        self.has_escapes = false;
    }

    /// Appends a message as a JSON object.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no message; what was appended is then no JSON.
    pub fn message(&mut self, id: MessageId, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
        self.nested(id, bytes, out, DEPTH_MAX)
    }

    /// Appends fields, which are in the order of their numbers, as a JSON object. `written` gets each field's number and
    /// the range of its value in `out`.
    ///
    /// # Errors
    /// [`Invalid`] if a field's bytes are no message; what was appended is then no JSON.
    pub fn object(
        &mut self,
        id: MessageId,
        entries: &[Entry<'_>],
        out: &mut Vec<u8>,
        written: &mut impl FnMut(u32, (usize, usize)),
    ) -> Result<(), Invalid> {
        self.write_object(id, entries, out, DEPTH_MAX, written)
    }

    fn nested(
        &mut self,
        id: MessageId,
        bytes: &[u8],
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Invalid> {
        let mut entries = Entries::default();
        if entries.read(bytes)? {
            return self.write_object(id, entries.as_slice(), out, depth, &mut |_, _| {});
        }
        // Rare: fields out of order, or so many that they don't fit.
        let mut entries = Fields::of(bytes).collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(|entry| entry.number);
        self.write_object(id, &entries, out, depth, &mut |_, _| {})
    }

    fn write_object(
        &mut self,
        id: MessageId,
        entries: &[Entry<'_>],
        out: &mut Vec<u8>,
        depth: usize,
        written: &mut impl FnMut(u32, (usize, usize)),
    ) -> Result<(), Invalid> {
        out.push(b'{');
        let table = self.schema.message(id);
        let mut unknown = Vec::new();
        for same in entries.chunk_by(|one, next| one.number == next.number) {
            let number = same[0].number;
            let known = table.field(number).filter(|field| same.iter().all(|entry| fits(field, entry.value)));
            let Some(field) = known else {
                same.iter().for_each(|entry| unknown.extend_from_slice(entry.whole));
                continue;
            };
            let other = other_half(entries, field.other_half);
            // Two maps that are one object are written where the first of them stands.
            if other.first().is_some_and(|other| other.number < number) {
                continue;
            }
            if let Some(start) = self.field(field, same, other, out, depth)? {
                let texts = if matches!(field.kind, Kind::Values) { field.other_half } else { None };
                written(texts.unwrap_or(number), (start, out.len()));
            }
        }
        if !unknown.is_empty() {
            comma(out);
            let _ = write!(out, "\"{UNKNOWN}\":\"{}\"", STANDARD.encode(&unknown));
        }
        out.push(b'}');
        Ok(())
    }

    /// Writes key and value of a field, unless the value is the one that stands for absence. Start of the value.
    fn field(
        &mut self,
        field: &Field,
        same: &[Entry<'_>],
        other_half: &[Entry<'_>],
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<Option<usize>, Invalid> {
        let last = same[same.len() - 1];
        let is_nothing = if field.is_repeated {
            is_packed(field.kind) && same.iter().all(|entry| matches!(entry.value, Value::Bytes(&[])))
        } else {
            is_absent(field, last.value)
        };
        if is_nothing {
            return Ok(None);
        }
        comma(out);
        out.extend_from_slice(field.key.as_bytes());
        let start = out.len();
        match field.kind {
            Kind::Texts if field.other_half.is_some() => typed::pair(same, other_half, out)?,
            Kind::Values if field.other_half.is_some() => typed::pair(other_half, same, out)?,
            Kind::Texts => typed::texts(same, out)?,
            Kind::Values => typed::values(same, out)?,
            _ if field.is_repeated => self.list(field, same, out, depth)?,
            // Parts of one message are the same as one message, by the rules of protobuf.
            Kind::Message(id) if same.len() > 1 => {
                let parts = same.iter().filter_map(|entry| match entry.value {
                    Value::Bytes(bytes) => Some(bytes),
                    _ => None,
                });
                let whole: Vec<u8> = parts.flatten().copied().collect();
                self.submessage(id, &whole, out, depth)?;
            }
            kind => {
                self.value(kind, last.value, out, depth)?;
                if let Some(column) = field.promoted {
                    self.promote(column, last.value, start, out);
                }
            }
        }
        Ok(Some(start))
    }

    fn promote(&mut self, column: Promoted, value: Value<'_>, start: usize, out: &[u8]) {
        let index = column as usize;
        match value {
            Value::Fixed64(bits) if index >= Promoted::TEXTS => {
                self.numbers[index - Promoted::TEXTS] = Some(f64::from_bits(bits));
            }
            _ if index < Promoted::TEXTS => {
                // Numbers of an enum without a name have no quotes.
                let quote = usize::from(out[start] == b'"');
                self.texts[index] = (start + quote, out.len() - quote);
                self.has_escapes |= out[start..].contains(&b'\\');
            }
            _ => {}
        }
    }

    fn value(
        &mut self,
        kind: Kind,
        value: Value<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Invalid> {
        match (kind, value) {
            (Kind::Text, Value::Bytes(bytes)) => text::json_string(bytes, out),
            (Kind::Uuid, Value::Bytes(bytes)) => quoted(out, |out| text::uuid(bytes, out)),
            (Kind::Hex, Value::Bytes(bytes)) => quoted(out, |out| text::hex(bytes, out)),
            (Kind::Value, Value::Bytes(bytes)) => typed::value(bytes, out)?,
            (Kind::Message(id), Value::Bytes(bytes)) => self.submessage(id, bytes, out, depth)?,
            (_, Value::Bytes(bytes)) => base64(bytes, out),
            (Kind::Time, Value::Fixed64(ns)) => quoted(out, |out| text::time(ns, out)),
            (_, Value::Fixed64(bits)) => text::number(f64::from_bits(bits), out),
            (Kind::Flag, Value::Varint(number)) => {
                out.extend_from_slice(if number == 0 { b"false" } else { b"true" });
            }
            (Kind::Choice(of), Value::Varint(number)) => match enum_name(of, number as i32) {
                Some(name) => quoted(out, |out| out.extend_from_slice(name.as_bytes())),
                None => text::signed(i64::from(number as i32), out),
            },
            (Kind::Signed, Value::Varint(number)) => text::signed(zigzag(number), out),
            (_, Value::Varint(number)) => text::unsigned(number, out),
            (_, Value::Fixed32(number)) => text::unsigned(u64::from(number), out),
        }
        Ok(())
    }

    fn submessage(
        &mut self,
        id: MessageId,
        bytes: &[u8],
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Invalid> {
        if depth == 0 {
            base64(bytes, out);
            return Ok(());
        }
        self.nested(id, bytes, out, depth - 1)
    }

    fn list(
        &mut self,
        field: &Field,
        same: &[Entry<'_>],
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Invalid> {
        out.push(b'[');
        for entry in same {
            match (field.kind, entry.value) {
                (Kind::Double, Value::Bytes(packed)) => {
                    for bits in packed.as_chunks::<8>().0 {
                        comma(out);
                        text::number(f64::from_le_bytes(*bits), out);
                    }
                }
                (Kind::Unsigned, Value::Bytes(packed)) => {
                    for number in packed_varints(packed) {
                        comma(out);
                        text::unsigned(number, out);
                    }
                }
                (kind, value) => {
                    comma(out);
                    self.value(kind, value, out, depth)?;
                }
            }
        }
        out.push(b']');
        Ok(())
    }
}

/// Fields of one message on the stack.
#[derive(Debug, Default)]
pub struct Entries<'a>(ArrayVec<Entry<'a>, 24>);

impl<'a> Entries<'a> {
    /// Reads all fields; false if they aren't in order or don't fit.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no message.
    pub fn read(&mut self, bytes: &'a [u8]) -> Result<bool, Invalid> {
        let mut before = 0;
        for entry in Fields::of(bytes) {
            let entry = entry?;
            if entry.number < before || self.0.try_push(entry).is_err() {
                return Ok(false);
            }
            before = entry.number;
        }
        Ok(true)
    }

    /// The fields that were read.
    pub fn as_slice(&self) -> &[Entry<'a>] {
        &self.0
    }
}

/// True if the wire type is one of the field's kind; otherwise a newer schema may mean something else by the number.
fn fits(field: &Field, value: Value<'_>) -> bool {
    match field.kind {
        Kind::Text
        | Kind::Uuid
        | Kind::Hex
        | Kind::Base64
        | Kind::Message(_)
        | Kind::Value
        | Kind::Texts
        | Kind::Values => matches!(value, Value::Bytes(_)),
        _ if field.is_repeated && matches!(value, Value::Bytes(_)) => true,
        Kind::Time | Kind::Double => matches!(value, Value::Fixed64(_)),
        Kind::Unsigned | Kind::Signed | Kind::Flag | Kind::Choice(_) => matches!(value, Value::Varint(_)),
    }
}

/// True if a list of this kind may stand in one entry.
fn is_packed(kind: Kind) -> bool {
    matches!(kind, Kind::Double | Kind::Unsigned)
}

/// True if a value is the default of a field that has no presence of its own.
fn is_absent(field: &Field, value: Value<'_>) -> bool {
    if field.has_presence {
        return false;
    }
    match value {
        // Also -0.0.
        Value::Fixed64(bits) if matches!(field.kind, Kind::Double) => f64::from_bits(bits) == 0.0,
        Value::Varint(number) | Value::Fixed64(number) => number == 0,
        Value::Fixed32(number) => number == 0,
        Value::Bytes(bytes) => bytes.is_empty(),
    }
}

/// Entries of the other half of a map.
fn other_half<'e, 'a>(entries: &'e [Entry<'a>], number: Option<u32>) -> &'e [Entry<'a>] {
    let Some(number) = number else { return &[] };
    let start = entries.partition_point(|entry| entry.number < number);
    let length = entries[start..].iter().take_while(|entry| entry.number == number).count();
    &entries[start..start + length]
}
