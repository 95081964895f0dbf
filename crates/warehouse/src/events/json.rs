//! JSON of a message straight from its bytes, without building the message.
//!
//! It is that of `tickstream_schema::json`; a test compares the two. Fields that this program doesn't know, of a newer
//! schema, aren't lost: their bytes stand as Base64 under the key [`UNKNOWN`] of their message.

use std::io::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD};
use smallvec::SmallVec;

use super::columns::Promoted;
use super::descriptor::{Field, Kind, MessageId, MessageTable, Schema, enum_name};
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
    /// True while the fields of each message are sorted before they are written.
    sorts: bool,
    promoted: SmallVec<[(Promoted, PromotedValue); 8]>,
}

/// Why a message isn't written to its end.
enum Stop {
    /// Its bytes are no message.
    Invalid(Invalid),
    /// Fields don't come by rising numbers, or are unknown.
    Disorder,
}

impl From<Invalid> for Stop {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// Value of a promoted column.
#[derive(Clone, Copy, Debug)]
pub enum PromotedValue {
    /// Range of the written JSON, without quotes.
    Text {
        /// Its first byte.
        start: usize,
        /// The byte behind its last one.
        end: usize,
        /// True if there are escapes in it.
        has_escapes: bool,
    },
    /// A number.
    Number(f64),
}

impl Default for Writer {
    fn default() -> Self {
        Self { schema: Schema::get(), sorts: false, promoted: SmallVec::new() }
    }
}

impl Writer {
    /// Forgets promoted values.
    pub fn begin(&mut self) {
        self.promoted.clear();
    }

    /// Values of promoted columns, each column once.
    pub fn promoted(&self) -> impl Iterator<Item = (Promoted, PromotedValue)> + '_ {
        let mut seen = 0_u32;
        // Of values for the same column, the last one counts.
        self.promoted.iter().rev().copied().filter(move |(column, _)| {
            let bit = 1 << *column as u32;
            let is_new = seen & bit == 0;
            seen |= bit;
            is_new
        })
    }

    /// Appends a message as a JSON object.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no message; what was appended is then no JSON.
    pub fn message(&mut self, id: MessageId, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
        self.message_with_ranges(id, bytes, out, &mut |_, _| {})
    }

    /// As [`Writer::message`]. `written` gets each field's number and the range of its value in `out`.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no message; what was appended is then no JSON.
    pub fn message_with_ranges(
        &mut self,
        id: MessageId,
        bytes: &[u8],
        out: &mut Vec<u8>,
        written: &mut impl FnMut(u32, (usize, usize)),
    ) -> Result<(), Invalid> {
        let (begin, promoted) = (out.len(), self.promoted.len());
        self.sorts = false;
        let mut done = self.fields(id, bytes, out, DEPTH_MAX, written);
        // Encoders write fields in order. For others all is written once more, so that nobody pays for it twice.
        if matches!(done, Err(Stop::Disorder)) {
            out.truncate(begin);
            self.promoted.truncate(promoted);
            self.sorts = true;
            done = self.fields(id, bytes, out, DEPTH_MAX, written);
        }
        match done {
            Err(Stop::Invalid(invalid)) => Err(invalid),
            Ok(()) | Err(Stop::Disorder) => Ok(()),
        }
    }

    fn fields(
        &mut self,
        id: MessageId,
        bytes: &[u8],
        out: &mut Vec<u8>,
        depth: usize,
        written: &mut impl FnMut(u32, (usize, usize)),
    ) -> Result<(), Stop> {
        let table = self.schema.message(id);
        if !self.sorts {
            return self.in_order(table, bytes, out, depth, written);
        }
        let mut entries = Fields::of(bytes).collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(|entry| entry.number);
        self.sorted(table, &entries, out, depth, written)
    }

    /// Writes fields as they come.
    fn in_order(
        &mut self,
        table: &MessageTable,
        bytes: &[u8],
        out: &mut Vec<u8>,
        depth: usize,
        written: &mut impl FnMut(u32, (usize, usize)),
    ) -> Result<(), Stop> {
        let begin = out.len();
        let mut fields = Fields::of(bytes);
        let (mut before, mut at) = (0, 0);
        while let Some((number, wire_type)) = fields.tag()? {
            let value = fields.value(wire_type)?;
            let next = table.field(number).filter(|field| number > before && fits(field, value));
            let field = next.ok_or(Stop::Disorder)?;
            before = number;
            if field.is_repeated {
                let (mut same, mut other) = (Few::new(), Few::new());
                same.push(Entry { number, value, whole: fields.since(at) });
                while let Some(entry) = fields.next_if(number)? {
                    if !fits(field, entry.value) {
                        return Err(Stop::Disorder);
                    }
                    same.push(entry);
                }
                match field.other_half {
                    Some(half) if half < number => run(half, Fields::of(bytes), &mut other)?,
                    Some(half) => run(half, fields.clone(), &mut other)?,
                    None => {}
                }
                self.several(field, &same, &other, out, depth, written)?;
            } else if !is_absent(field, value) {
                field.write_next_key(out);
                let start = out.len();
                self.value(field.kind, value, out, depth)?;
                if let Some(column) = field.promoted {
                    self.promote(column, value, start, out);
                }
                written(number, (start, out.len()));
            }
            at = fields.offset();
        }
        text::close_object(begin, out);
        Ok(())
    }

    /// Writes a field with all of its entries, and, of two maps that are one object, those of the other.
    fn several(
        &mut self,
        field: &Field,
        same: &[Entry<'_>],
        other: &[Entry<'_>],
        out: &mut Vec<u8>,
        depth: usize,
        written: &mut impl FnMut(u32, (usize, usize)),
    ) -> Result<(), Stop> {
        let number = same[0].number;
        // The object is written where the first of the maps stands.
        if other.first().is_some_and(|other| other.number < number) {
            return Ok(());
        }
        if let Some(start) = self.field(field, same, other, out, depth)? {
            // It is known by the number of the map of texts.
            let texts = if matches!(field.kind, Kind::Values) { field.other_half } else { None };
            written(texts.unwrap_or(number), (start, out.len()));
        }
        Ok(())
    }

    /// Writes fields that are sorted by their numbers, and those that nobody knows behind them.
    fn sorted(
        &mut self,
        table: &MessageTable,
        entries: &[Entry<'_>],
        out: &mut Vec<u8>,
        depth: usize,
        written: &mut impl FnMut(u32, (usize, usize)),
    ) -> Result<(), Stop> {
        out.push(b'{');
        let mut unknown = Vec::new();
        for same in entries.chunk_by(|one, next| one.number == next.number) {
            let number = same[0].number;
            let known = table.field(number).filter(|field| same.iter().all(|entry| fits(field, entry.value)));
            let Some(field) = known else {
                same.iter().for_each(|entry| unknown.extend_from_slice(entry.whole));
                continue;
            };
            self.several(field, same, other_half(entries, field.other_half), out, depth, written)?;
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
    ) -> Result<Option<usize>, Stop> {
        let last = same[same.len() - 1];
        let is_nothing = if field.is_repeated {
            is_packed(field.kind) && same.iter().all(|entry| matches!(entry.value, Value::Bytes(&[])))
        } else {
            is_absent(field, last.value)
        };
        if is_nothing {
            return Ok(None);
        }
        field.write_key(out);
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
        let is_number = column as usize >= Promoted::TEXTS;
        let promoted = match value {
            Value::Fixed64(bits) if is_number => PromotedValue::Number(f64::from_bits(bits)),
            _ if is_number => return,
            _ => {
                // Numbers of an enum without a name have no quotes.
                let quote = usize::from(out[start] == b'"');
                let (start, end) = (start + quote, out.len() - quote);
                PromotedValue::Text { start, end, has_escapes: out[start..end].contains(&b'\\') }
            }
        };
        self.promoted.push((column, promoted));
    }

    fn value(&mut self, kind: Kind, value: Value<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Stop> {
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
    ) -> Result<(), Stop> {
        if depth == 0 {
            base64(bytes, out);
            return Ok(());
        }
        self.fields(id, bytes, out, depth - 1, &mut |_, _| {})
    }

    fn list(
        &mut self,
        field: &Field,
        same: &[Entry<'_>],
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Stop> {
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

/// Entries of one field; a few need no allocation. It is large, and isn't moved.
type Few<'a> = SmallVec<[Entry<'a>; 12]>;

/// Finds the entries of one field among fields in order.
fn run<'a>(number: u32, mut fields: Fields<'a>, found: &mut Few<'a>) -> Result<(), Invalid> {
    loop {
        let mut next = fields.clone();
        match next.tag()? {
            Some((other, wire_type)) if other < number => _ = next.value(wire_type)?,
            _ => break,
        }
        fields = next;
    }
    while let Some(entry) = fields.next_if(number)? {
        found.push(entry);
    }
    Ok(())
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
