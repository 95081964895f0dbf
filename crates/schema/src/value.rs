//! Values of any type: walking over their bytes.

use crate::cursor::{Cursor, Malformed, Wire};
use crate::rejection::RejectionCode;
use crate::table::{
    TYPED_ENTRIES_MAX, TYPED_KEY_BYTES_MAX, VALUE_BYTES_MAX, VALUE_DEPTH_MAX, VALUE_LIST_MAX,
};

/// Fields of Value.
pub(crate) const TEXT: u32 = 1;
const NUMBER: u32 = 2;
const INTEGER: u32 = 3;
const BOOLEAN: u32 = 4;
pub(crate) const LIST: u32 = 5;
pub(crate) const MAP: u32 = 6;
pub(crate) const BYTES: u32 = 7;

/// Problem of a Value, and the bytes, entries or levels that were found.
pub(crate) type Problem = (RejectionCode, u64);

fn malformed(Malformed: Malformed) -> Problem {
    (RejectionCode::Malformed, 0)
}

/// The layout of the field of Value with this number.
pub(crate) fn wire_of(number: u32) -> Option<Wire> {
    match number {
        TEXT | LIST | MAP | BYTES => Some(Wire::Bytes),
        NUMBER => Some(Wire::Fixed64),
        INTEGER | BOOLEAN => Some(Wire::Varint),
        _ => None,
    }
}

/// Key and value of an entry of a map of Values.
///
/// # Errors
/// The code of the problem: an entry with two keys or two values is one, since readers merge them.
pub(crate) fn entry(bytes: &[u8]) -> Result<(&str, &[u8]), RejectionCode> {
    let malformed = |Malformed| RejectionCode::Malformed;
    let mut pair = [None, None];
    let mut cursor = Cursor::new(bytes);
    while let Some((number, wire)) = cursor.key().map_err(malformed)? {
        if let 1 | 2 = number {
            if wire != Wire::Bytes {
                return Err(RejectionCode::Malformed);
            }
            let place = &mut pair[number as usize - 1];
            if place.replace(cursor.bytes().map_err(malformed)?).is_some() {
                return Err(RejectionCode::FieldRepeated);
            }
        } else {
            cursor.skip(number, wire).map_err(malformed)?;
        }
    }
    let key = std::str::from_utf8(pair[0].unwrap_or_default()).map_err(|_| RejectionCode::InvalidUtf8)?;
    Ok((key, pair[1].unwrap_or_default()))
}

/// The key of a map's entry; of two the last, empty where the entry can't be read.
pub(crate) fn key(entry: &[u8]) -> &[u8] {
    let mut last = &[][..];
    let mut cursor = Cursor::new(entry);
    while let Ok(Some((number, wire))) = cursor.key() {
        match (number, wire) {
            (1, Wire::Bytes) => last = cursor.bytes().unwrap_or_default(),
            _ if cursor.skip(number, wire).is_err() => break,
            _ => {}
        }
    }
    last
}

/// Checks an entry of a map of Values, `depth` lists and maps of Values being around that map.
pub(crate) fn check_entry(bytes: &[u8], depth: u32) -> Result<(), Problem> {
    let (key, value) = entry(bytes).map_err(|code| (code, 0))?;
    if key.is_empty() || key.len() as u64 > u64::from(TYPED_KEY_BYTES_MAX) {
        return Err((RejectionCode::FieldTooLong, key.len() as u64));
    }
    check(value, depth)
}

/// Checks a Value that `depth` lists and maps of Values are around.
pub(crate) fn check(bytes: &[u8], depth: u32) -> Result<(), Problem> {
    let mut cursor = Cursor::new(bytes);
    let mut has_kind = false;
    while let Some((number, wire)) = cursor.key().map_err(malformed)? {
        let Some(expected) = wire_of(number) else {
            cursor.skip(number, wire).map_err(malformed)?;
            continue;
        };
        if wire != expected {
            return Err((RejectionCode::Malformed, 0));
        }
        if std::mem::replace(&mut has_kind, true) {
            return Err((RejectionCode::FieldRepeated, 0));
        }
        if wire != Wire::Bytes {
            cursor.skip(number, wire).map_err(malformed)?;
            continue;
        }
        let inner = cursor.bytes().map_err(malformed)?;
        match number {
            LIST | MAP => check_items(number, inner, depth + 1)?,
            _ if inner.len() as u64 > u64::from(VALUE_BYTES_MAX) => {
                return Err((RejectionCode::FieldTooLong, inner.len() as u64));
            }
            TEXT if std::str::from_utf8(inner).is_err() => return Err((RejectionCode::InvalidUtf8, 0)),
            _ => {}
        }
    }
    Ok(())
}

/// Checks a ValueList or a ValueMap.
fn check_items(kind: u32, bytes: &[u8], depth: u32) -> Result<(), Problem> {
    if depth > VALUE_DEPTH_MAX {
        return Err((RejectionCode::InvalidValue, u64::from(depth)));
    }
    let max = if kind == LIST { VALUE_LIST_MAX } else { TYPED_ENTRIES_MAX };
    let mut cursor = Cursor::new(bytes);
    let mut count = 0;
    while let Some((number, wire)) = cursor.key().map_err(malformed)? {
        if number != 1 {
            cursor.skip(number, wire).map_err(malformed)?;
            continue;
        }
        if wire != Wire::Bytes {
            return Err((RejectionCode::Malformed, 0));
        }
        count += 1;
        if count > max {
            return Err((RejectionCode::TooManyItems, u64::from(count)));
        }
        let item = cursor.bytes().map_err(malformed)?;
        if kind == LIST { check(item, depth)? } else { check_entry(item, depth)? }
    }
    Ok(())
}

/// True if every reader takes these bytes as a Value. Bounds on lengths don't matter; the bound on depth does, since what
/// lies deeper isn't walked over.
pub(crate) fn is_readable(bytes: &[u8], depth: u32) -> bool {
    let read = || -> Result<bool, Malformed> {
        let mut cursor = Cursor::new(bytes);
        while let Some((number, wire)) = cursor.key()? {
            match wire_of(number) {
                Some(expected) if wire != expected => return Ok(false),
                Some(Wire::Bytes) => {
                    let inner = cursor.bytes()?;
                    let is_readable = match number {
                        LIST | MAP => items_are_readable(number, inner, depth + 1)?,
                        TEXT => std::str::from_utf8(inner).is_ok(),
                        _ => true,
                    };
                    if !is_readable {
                        return Ok(false);
                    }
                }
                _ => cursor.skip(number, wire)?,
            }
        }
        Ok(true)
    };
    read().unwrap_or(false)
}

fn items_are_readable(kind: u32, bytes: &[u8], depth: u32) -> Result<bool, Malformed> {
    if depth > VALUE_DEPTH_MAX {
        return Ok(false);
    }
    let mut cursor = Cursor::new(bytes);
    while let Some((number, wire)) = cursor.key()? {
        if number != 1 {
            cursor.skip(number, wire)?;
            continue;
        }
        if wire != Wire::Bytes {
            return Ok(false);
        }
        let item = cursor.bytes()?;
        let is_readable =
            if kind == LIST { is_readable(item, depth) } else { entry_is_readable(item, depth) };
        if !is_readable {
            return Ok(false);
        }
    }
    Ok(true)
}

/// As [`is_readable`], for an entry of a map of Values.
pub(crate) fn entry_is_readable(bytes: &[u8], depth: u32) -> bool {
    let read = || -> Result<bool, Malformed> {
        let mut cursor = Cursor::new(bytes);
        while let Some((number, wire)) = cursor.key()? {
            let is_readable = match (number, wire) {
                (1, Wire::Bytes) => std::str::from_utf8(cursor.bytes()?).is_ok(),
                (2, Wire::Bytes) => is_readable(cursor.bytes()?, depth),
                (1 | 2, _) => false,
                _ => cursor.skip(number, wire).is_ok(),
            };
            if !is_readable {
                return Ok(false);
            }
        }
        Ok(true)
    };
    read().unwrap_or(false)
}
