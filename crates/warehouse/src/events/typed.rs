//! JSON of Values and of maps, straight from their bytes; the marks are those of `tickstream_schema::json`.

use smallvec::SmallVec;
use tickstream_schema::table::{MAP_KEY_BYTES_MAX, MAP_VALUE_BYTES_MAX};

use super::protobuf::{Entry, Fields, Invalid, Value, zigzag};
use super::text::{self, base64, comma};

/// Keys of an object that stands for what JSON can't tell apart.
const MARKS: [&[u8]; 6] = [b"$bytes", b"$number", b"$text", b"$null", b"$map", b"$string"];
/// Values in each other that are written; deeper ones are null.
const DEPTH_MAX: usize = 64;

/// Numbers of the fields of `Value`.
const TEXT: u32 = 1;
const NUMBER: u32 = 2;
const INTEGER: u32 = 3;
const BOOLEAN: u32 = 4;
const LIST: u32 = 5;
const MAP: u32 = 6;
const BYTES: u32 = 7;

/// A map's entry: its key, and the bytes of its value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// Appends a map of texts.
///
/// # Errors
/// [`Invalid`] if an entry is none.
pub fn texts(entries: &[Entry<'_>], out: &mut Vec<u8>) -> Result<(), Invalid> {
    out.push(b'{');
    for (key, value) in &pairs(entries)? {
        comma(out);
        text::json_string(key, out);
        out.push(b':');
        text::json_string(value, out);
    }
    out.push(b'}');
    Ok(())
}

/// Appends a map of Values.
///
/// # Errors
/// [`Invalid`] if an entry is none.
pub fn values(entries: &[Entry<'_>], out: &mut Vec<u8>) -> Result<(), Invalid> {
    object(&pairs(entries)?, out, DEPTH_MAX)
}

/// Appends a map of texts and the map of Values that completes it, as one object.
///
/// # Errors
/// [`Invalid`] if an entry is none.
pub fn pair(texts: &[Entry<'_>], values: &[Entry<'_>], out: &mut Vec<u8>) -> Result<(), Invalid> {
    if values.is_empty() && plain_texts(texts, out)? {
        return Ok(());
    }
    let (texts, values) = (pairs(texts)?, pairs(values)?);
    let (mut texts, mut values) = (texts.iter().peekable(), values.iter().peekable());
    out.push(b'{');
    loop {
        let key = match (texts.peek(), values.peek()) {
            (None, None) => break,
            (Some((key, _)), None) | (None, Some((key, _))) => *key,
            (Some((one, _)), Some((other, _))) => *one.min(other),
        };
        let of_texts = texts.next_if(|(other, _)| *other == key).map(|(_, value)| *value);
        let of_values = values.next_if(|(other, _)| *other == key).map(|(_, value)| *value);
        comma(out);
        text::json_string(key, out);
        out.push(b':');
        match (of_texts, of_values) {
            (Some(value), None) if is_short(key, value) => text::json_string(value, out),
            (Some(value), of_values) => {
                out.extend_from_slice(b"{\"$string\":");
                text::json_string(value, out);
                if let Some(bytes) = of_values {
                    out.extend_from_slice(b",\"$value\":");
                    written(bytes, out, DEPTH_MAX)?;
                }
                out.push(b'}');
            }
            (None, Some(bytes)) => match last_field(bytes)? {
                Some(Entry { number: TEXT, value: Value::Bytes(short), .. }) if is_short(key, short) => {
                    out.extend_from_slice(b"{\"$text\":");
                    text::json_string(short, out);
                    out.push(b'}');
                }
                _ => written(bytes, out, DEPTH_MAX)?,
            },
            (None, None) => {}
        }
    }
    out.push(b'}');
    Ok(())
}

/// Appends a map of texts whose entries come by rising keys, none of them longer than in a map of texts. False if they don't;
/// then nothing is appended.
fn plain_texts(entries: &[Entry<'_>], out: &mut Vec<u8>) -> Result<bool, Invalid> {
    let begin = out.len();
    let mut before: Option<&[u8]> = None;
    for entry in entries {
        let Value::Bytes(bytes) = entry.value else { continue };
        let (key, value) = pair_of(bytes)?;
        if before.is_some_and(|before| before >= key) || !is_short(key, value) {
            out.truncate(begin);
            return Ok(false);
        }
        out.push(b',');
        text::json_string(key, out);
        out.push(b':');
        text::json_string(value, out);
        before = Some(key);
    }
    text::close_object(begin, out);
    Ok(true)
}

/// Appends a Value that is a field of its own.
///
/// # Errors
/// [`Invalid`] if the bytes are no Value.
pub fn value(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    if last_field(bytes)?.is_none() {
        out.extend_from_slice(b"{\"$null\":true}");
        return Ok(());
    }
    written(bytes, out, DEPTH_MAX)
}

/// Texts that belong in a map of texts.
fn is_short(key: &[u8], text: &[u8]) -> bool {
    key.len() <= MAP_KEY_BYTES_MAX as usize && text.len() <= MAP_VALUE_BYTES_MAX as usize
}

fn last_field(bytes: &[u8]) -> Result<Option<Entry<'_>>, Invalid> {
    let mut last = None;
    for entry in Fields::of(bytes) {
        let entry = entry?;
        if (TEXT..=BYTES).contains(&entry.number) {
            last = Some(entry);
        }
    }
    Ok(last)
}

fn written(bytes: &[u8], out: &mut Vec<u8>, depth: usize) -> Result<(), Invalid> {
    let Some(entry) = last_field(bytes)?.filter(|_| depth > 0) else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    match (entry.number, entry.value) {
        (TEXT, Value::Bytes(bytes)) => text::json_string(bytes, out),
        (NUMBER, Value::Fixed64(bits)) => {
            let number = f64::from_bits(bits);
            if number.is_finite() {
                text::number(number, out);
            } else {
                out.extend_from_slice(b"{\"$number\":");
                text::number(number, out);
                out.push(b'}');
            }
        }
        (INTEGER, Value::Varint(number)) => text::signed(zigzag(number), out),
        (BOOLEAN, Value::Varint(number)) => {
            out.extend_from_slice(if number == 0 { b"false" } else { b"true" });
        }
        (LIST, Value::Bytes(bytes)) => list(bytes, out, depth - 1)?,
        (MAP, Value::Bytes(bytes)) => map(bytes, out, depth - 1)?,
        (BYTES, Value::Bytes(bytes)) => {
            out.extend_from_slice(b"{\"$bytes\":");
            base64(bytes, out);
            out.push(b'}');
        }
        _ => out.extend_from_slice(b"null"),
    }
    Ok(())
}

fn list(bytes: &[u8], out: &mut Vec<u8>, depth: usize) -> Result<(), Invalid> {
    out.push(b'[');
    for entry in Fields::of(bytes) {
        if let Entry { number: 1, value: Value::Bytes(item), .. } = entry? {
            comma(out);
            written(item, out, depth)?;
        }
    }
    out.push(b']');
    Ok(())
}

fn map(bytes: &[u8], out: &mut Vec<u8>, depth: usize) -> Result<(), Invalid> {
    let entries = Fields::of(bytes).collect::<Result<Vec<_>, _>>()?;
    let pairs = pairs(&entries)?;
    let is_marked = pairs.iter().any(|(key, _)| MARKS.contains(key));
    if is_marked {
        out.extend_from_slice(b"{\"$map\":");
    }
    object(&pairs, out, depth)?;
    if is_marked {
        out.push(b'}');
    }
    Ok(())
}

fn object(pairs: &[Pair<'_>], out: &mut Vec<u8>, depth: usize) -> Result<(), Invalid> {
    out.push(b'{');
    for (key, value) in pairs {
        comma(out);
        text::json_string(key, out);
        out.push(b':');
        written(value, out, depth)?;
    }
    out.push(b'}');
    Ok(())
}

/// Entries of a map; a few need no allocation.
type Pairs<'a> = SmallVec<[Pair<'a>; 12]>;

/// Entries by rising keys; of a key that comes twice, the last one.
fn pairs<'a>(entries: &[Entry<'a>]) -> Result<Pairs<'a>, Invalid> {
    let found = entries.iter().filter_map(|entry| match entry.value {
        Value::Bytes(bytes) => Some(pair_of(bytes)),
        _ => None,
    });
    let mut pairs = found.collect::<Result<Pairs<'_>, _>>()?;
    if !pairs.is_sorted_by(|one, next| one.0 < next.0) {
        pairs.reverse();
        pairs.sort_by_key(|(key, _)| *key);
        pairs.dedup_by_key(|(key, _)| *key);
    }
    Ok(pairs)
}

fn pair_of(bytes: &[u8]) -> Result<Pair<'_>, Invalid> {
    let mut found: Pair<'_> = (b"", b"");
    let mut fields = Fields::of(bytes);
    while let Some((number, wire_type)) = fields.tag()? {
        match (number, fields.value(wire_type)?) {
            (1, Value::Bytes(key)) => found.0 = key,
            (2, Value::Bytes(value)) => found.1 = value,
            _ => {}
        }
    }
    Ok(found)
}
