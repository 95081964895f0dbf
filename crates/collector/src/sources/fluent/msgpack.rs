//! MessagePack, as much as Fluent Forward needs: <https://github.com/msgpack/msgpack/blob/master/spec.md>

use std::collections::BTreeMap;

use tickstream_client::events::{Kind, Value, ValueList, ValueMap};

/// A value. Keys of maps are texts; single values as keys become their text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Above what a signed integer holds.
    Unsigned(u64),
    Number(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Item>),
    Map(Vec<(String, Item)>),
    /// Fluentd's EventTime: Unix time, nanoseconds.
    Time(u64),
}

/// Deepest nesting.
const DEPTH_MAX: usize = 32;

/// Words on bytes in which no value can be found.
pub(super) const BROKEN: &str = "these bytes are no MessagePack";

/// Progress of a [`Scanner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// A value of so many bytes is there.
    Whole(usize),
    /// More has to come.
    Part,
    /// No value can begin like this.
    Broken,
}

/// Finds the end of a value in bytes that come bit by bit. It goes over each byte once, whatever the pieces.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Bytes that are understood.
    at: usize,
    /// Values that have to come, after those at `at`; the first value isn't counted.
    open: u64,
    has_begun: bool,
}

/// A value's first bytes.
struct Head {
    /// Bytes of the head and of a text behind it.
    len: usize,
    /// Values that follow as its parts.
    parts: u64,
}

impl Scanner {
    /// Goes on with the same bytes, of which more may have come. After [`Scan::Whole`] it begins anew.
    pub fn scan(&mut self, bytes: &[u8]) -> Scan {
        if !self.has_begun {
            (self.open, self.has_begun) = (1, true);
        }
        while self.open > 0 {
            let Some(rest) = bytes.get(self.at..).filter(|rest| !rest.is_empty()) else { return Scan::Part };
            match head(rest) {
                Some(Ok(Head { len, parts })) => {
                    self.at += len;
                    self.open = (self.open - 1).saturating_add(parts);
                }
                Some(Err(())) => return Scan::Broken,
                None => return Scan::Part,
            }
        }
        let len = self.at;
        if len > bytes.len() {
            return Scan::Part;
        }
        *self = Self::default();
        Scan::Whole(len)
    }
}

/// A big-endian number of `len` bytes behind the first byte.
fn number(bytes: &[u8], len: usize) -> Option<u64> {
    Some(bytes.get(1..=len)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// `None`: the head isn't whole. An error: there is no such head.
fn head(bytes: &[u8]) -> Option<Result<Head, ()>> {
    let first = *bytes.first()?;
    let fixed = |len| Some(Ok(Head { len, parts: 0 }));
    let long = |width: usize, more: usize| {
        Some(Ok(Head { len: 1 + width + more + number(bytes, width)? as usize, parts: 0 }))
    };
    let many =
        |width: usize, each: u64| Some(Ok(Head { len: 1 + width, parts: number(bytes, width)? * each }));
    match first {
        0x00..=0x7F | 0xE0..=0xFF | 0xC0 | 0xC2 | 0xC3 => fixed(1),
        0x80..=0x8F => Some(Ok(Head { len: 1, parts: 2 * u64::from(first & 0x0F) })),
        0x90..=0x9F => Some(Ok(Head { len: 1, parts: u64::from(first & 0x0F) })),
        0xA0..=0xBF => fixed(1 + usize::from(first & 0x1F)),
        0xC1 => Some(Err(())),
        0xC4 | 0xD9 => long(1, 0),
        0xC5 | 0xDA => long(2, 0),
        0xC6 | 0xDB => long(4, 0),
        0xC7 => long(1, 1),
        0xC8 => long(2, 1),
        0xC9 => long(4, 1),
        0xCC | 0xD0 => fixed(2),
        0xCD | 0xD1 => fixed(3),
        0xCA | 0xCE | 0xD2 => fixed(5),
        0xCB | 0xCF | 0xD3 => fixed(9),
        0xD4 => fixed(3),
        0xD5 => fixed(4),
        0xD6 => fixed(6),
        0xD7 => fixed(10),
        0xD8 => fixed(18),
        0xDC => many(2, 1),
        0xDD => many(4, 1),
        0xDE => many(2, 2),
        0xDF => many(4, 2),
    }
}

/// The value of bytes that a [`Scanner`] has found whole. `None` where it is too deep, has more than so many parts (in
/// memory, each has many times its byte), or has a list or a map as a key.
pub(super) fn parse(bytes: &[u8], parts_max: usize) -> Option<Item> {
    Parser { rest: bytes, parts_left: parts_max }.item(0)
}

struct Parser<'a> {
    rest: &'a [u8],
    parts_left: usize,
}

impl Parser<'_> {
    fn item(&mut self, depth: usize) -> Option<Item> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.parts_left = self.parts_left.checked_sub(1)?;
        let bytes = self.rest;
        let first = *bytes.first()?;
        let Head { len, parts } = head(bytes)?.ok()?;
        let own = bytes.get(..len)?;
        self.rest = &bytes[len..];
        let signed = |len: usize| {
            let shift = 64 - 8 * len as u32;
            number(own, len).map(|number| (number << shift) as i64 >> shift)
        };
        Some(match first {
            0x00..=0x7F => Item::Integer(first.into()),
            0xE0..=0xFF => Item::Integer((first as i8).into()),
            0xC0 | 0xC1 => Item::Null,
            0xC2 | 0xC3 => Item::Boolean(first == 0xC3),
            0xCA => Item::Number(f32::from_bits(number(own, 4)? as u32).into()),
            0xCB => Item::Number(f64::from_bits(number(own, 8)?)),
            0xCC..=0xCF => unsigned(number(own, 1 << (first - 0xCC))?),
            0xD0..=0xD3 => Item::Integer(signed(1 << (first - 0xD0))?),
            0xA0..=0xBF => text(&own[1..]),
            0xD9..=0xDB => text(&own[1 + (1 << (first - 0xD9))..]),
            0xC4..=0xC6 => Item::Bytes(own[1 + (1 << (first - 0xC4))..].to_vec()),
            0xD4..=0xD8 => extension(own[1] as i8, &own[2..]),
            0xC7..=0xC9 => {
                let width = 1 << (first - 0xC7);
                extension(own[1 + width] as i8, &own[2 + width..])
            }
            0x90..=0x9F | 0xDC | 0xDD => {
                let items = (0..parts).map(|_| self.item(depth + 1));
                Item::List(items.collect::<Option<_>>()?)
            }
            0x80..=0x8F | 0xDE | 0xDF => {
                let pairs =
                    (0..parts / 2).map(|_| Some((key(self.item(depth + 1)?)?, self.item(depth + 1)?)));
                Item::Map(pairs.collect::<Option<_>>()?)
            }
        })
    }
}

/// A text; what isn't UTF-8 is bytes, as senders of the old format have all of theirs.
fn text(bytes: &[u8]) -> Item {
    String::from_utf8(bytes.to_vec()).map_or_else(|error| Item::Bytes(error.into_bytes()), Item::Text)
}

fn unsigned(number: u64) -> Item {
    i64::try_from(number).map_or(Item::Unsigned(number), Item::Integer)
}

/// Type 0 is Fluentd's EventTime: seconds and nanoseconds.
fn extension(kind: i8, bytes: &[u8]) -> Item {
    match (kind, bytes) {
        (0, [s1, s2, s3, s4, n1, n2, n3, n4]) => {
            let seconds = u32::from_be_bytes([*s1, *s2, *s3, *s4]);
            let nanos = u32::from_be_bytes([*n1, *n2, *n3, *n4]);
            Item::Time(u64::from(seconds) * 1_000_000_000 + u64::from(nanos))
        }
        _ => Item::Bytes(bytes.to_vec()),
    }
}

fn key(item: Item) -> Option<String> {
    Some(match item {
        Item::Text(text) => text,
        Item::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Item::Integer(number) => number.to_string(),
        Item::Unsigned(number) | Item::Time(number) => number.to_string(),
        Item::Number(number) => number.to_string(),
        Item::Boolean(boolean) => boolean.to_string(),
        Item::Null => "null".to_owned(),
        // As texts within texts, their size would double with each level.
        Item::List(_) | Item::Map(_) => return None,
    })
}

impl Item {
    /// The time of an entry, Unix time, nanoseconds.
    pub fn time(&self) -> Option<u64> {
        match self {
            Self::Time(ns) => Some(*ns),
            Self::Integer(seconds) => u64::try_from(*seconds).ok()?.checked_mul(1_000_000_000),
            Self::Number(seconds) if (0.0..1e10).contains(seconds) => Some((seconds * 1e9) as u64),
            // Fluent Bit's time with metadata behind it.
            Self::List(parts) if !matches!(parts.first(), Some(Self::List(_))) => parts.first()?.time(),
            _ => None,
        }
    }

    /// The value of an event.
    pub fn into_value(self) -> Value {
        let kind = match self {
            Self::Null => None,
            Self::Boolean(boolean) => Some(Kind::Boolean(boolean)),
            Self::Integer(number) => Some(Kind::Integer(number)),
            Self::Unsigned(number) => Some(Kind::Number(number as f64)),
            Self::Number(number) => Some(Kind::Number(number)),
            Self::Text(text) => Some(Kind::Text(text)),
            Self::Bytes(bytes) => Some(Kind::Bytes(bytes)),
            Self::Time(ns) => i64::try_from(ns).ok().map(Kind::Integer),
            Self::List(items) => {
                Some(Kind::List(ValueList { values: items.into_iter().map(Self::into_value).collect() }))
            }
            Self::Map(pairs) => {
                let entries: BTreeMap<_, _> =
                    pairs.into_iter().map(|(key, value)| (key, value.into_value())).collect();
                Some(Kind::Map(ValueMap { entries }))
            }
        };
        Value { kind }
    }
}

/// `{"ack": chunk}`
pub(super) fn ack(chunk: &str) -> Vec<u8> {
    let mut out = vec![MAP | 1];
    put_text(&mut out, "ack");
    put_text(&mut out, chunk);
    out
}

/// First bytes of a list and of a map, with the number of what they have, up to 15.
pub(super) const LIST: u8 = 0x90;
pub(super) const MAP: u8 = 0x80;

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(len) if len < 32 => out.push(0xA0 | len),
        Ok(len) => out.extend([0xD9, len]),
        Err(_) => {
            out.push(0xDB);
            out.extend((text.len() as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    out.extend([0xC4, bytes.len() as u8]);
    out.extend_from_slice(bytes);
}

pub(super) fn put_boolean(out: &mut Vec<u8>, boolean: bool) {
    out.push(if boolean { 0xC3 } else { 0xC2 });
}
