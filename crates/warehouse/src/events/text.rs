//! Texts of values, appended to a buffer.

use std::io::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD};

const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// Two digits of each byte.
const PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Appends lower-case hexadecimal digits.
pub fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() * 2);
    for &byte in bytes {
        out.extend_from_slice(&PAIRS[usize::from(byte)]);
    }
}

/// Appends quotes around what `write` appends.
pub fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

/// Appends bytes in Base64, quoted.
pub fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    quoted(out, |out| out.extend_from_slice(STANDARD.encode(bytes).as_bytes()));
}

/// Appends a comma, unless an object or list has just begun.
pub fn comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), None | Some(b'{' | b'[')) {
        out.push(b',');
    }
}

/// Completes an object whose fields each have a comma before their keys, and begin at `begin`.
pub fn close_object(begin: usize, out: &mut Vec<u8>) {
    match out.get_mut(begin) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

/// Appends a UUID in its text form; other lengths than 16 bytes as hexadecimal digits.
pub fn uuid(bytes: &[u8], out: &mut Vec<u8>) {
    match <&[u8; 16]>::try_from(bytes) {
        Ok(bytes) => out.extend_from_slice(&uuid_text(bytes)),
        Err(_) => hex(bytes, out),
    }
}

/// Text form of a UUID.
pub fn uuid_text(bytes: &[u8; 16]) -> [u8; 36] {
    /// Places of the digits of each byte.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let mut text = [b'-'; 36];
    for (byte, at) in bytes.iter().zip(PLACES) {
        text[at..at + 2].copy_from_slice(&PAIRS[usize::from(*byte)]);
    }
    text
}

/// Bytes of a UUID in its text form, in either case.
pub fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 || [8, 13, 18, 23].iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut digits = text.iter().copied().enumerate().filter(|(at, _)| !matches!(at, 8 | 13 | 18 | 23));
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        *byte = digit(digits.next()?.1)? << 4 | digit(digits.next()?.1)?;
    }
    Some(bytes)
}

/// Appends a JSON string. Bytes that aren't UTF-8 become U+FFFD.
pub fn json_string(bytes: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    out.reserve(bytes.len() + 16);
    out.push(b'"');
    // Most texts are short ASCII: eight bytes at a time are checked and copied, the last eight over those before.
    let (words, rest) = bytes.as_chunks::<8>();
    let mut any = 0;
    for word in words {
        any |= special(u64::from_le_bytes(*word));
        out.extend_from_slice(word);
    }
    match bytes.last_chunk::<8>() {
        Some(last) => {
            any |= special(u64::from_le_bytes(*last));
            out.truncate(begin + 1 + bytes.len().saturating_sub(8));
            out.extend_from_slice(last);
        }
        None => {
            // Blanks are plain.
            let mut padded = [b' '; 8];
            rest.iter().zip(&mut padded).for_each(|(byte, place)| *place = *byte);
            any |= special(u64::from_le_bytes(padded));
            out.extend_from_slice(&padded);
            out.truncate(begin + 1 + rest.len());
        }
    }
    if any != 0 {
        out.truncate(begin + 1);
        match std::str::from_utf8(bytes) {
            Ok(text) => escaped(text.as_bytes(), out),
            Err(_) => escaped(String::from_utf8_lossy(bytes).as_bytes(), out),
        }
    }
    out.push(b'"');
}

/// Not zero if a byte of the word is below 0x20, above 0x7F, a quote or a backslash (Bit Twiddling Hacks, "Determine if a
/// word has a byte less than n").
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let below = |word: u64, bound: u64| word.wrapping_sub(bound * ONES) & !word;
    let equals = |byte: u8| below(word ^ (u64::from(byte) * ONES), 1);
    (below(word, 0x20) | equals(b'"') | equals(b'\\') | word) & HIGH
}

fn escaped(bytes: &[u8], out: &mut Vec<u8>) {
    let mut start = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[start..at]);
        start = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0C => out.extend_from_slice(b"\\f"),
            _ => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
    }
    out.extend_from_slice(&bytes[start..]);
}

/// Appends a number as JSON; those that JSON lacks as the texts of proto3's JSON.
pub fn number(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        // The shortest text that reads back as the same number. Writing to a vector can't fail.
        let _ = serde_json::to_writer(out, &value);
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if value > 0.0 {
        out.extend_from_slice(b"\"Infinity\"");
    } else {
        out.extend_from_slice(b"\"-Infinity\"");
    }
}

/// Appends a whole number.
pub fn unsigned(value: u64, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, &value);
}

/// Appends a whole number with its sign.
pub fn signed(value: i64, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, &value);
}

/// Appends nanoseconds since 1970 as RFC 3339 in UTC with nine digits of a second.
pub fn time(ns: u64, out: &mut Vec<u8>) {
    let seconds = ns / 1_000_000_000;
    let (year, month, day) = civil((seconds / 86_400) as i64);
    let of_day = seconds % 86_400;
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    let mut put = |start: usize, digits: usize, mut value: u64| {
        for at in (start..start + digits).rev() {
            text[at] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year as u64);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, of_day / 3600);
    put(14, 2, of_day / 60 % 60);
    put(17, 2, of_day % 60);
    put(20, 9, ns % 1_000_000_000);
    out.extend_from_slice(&text);
}

/// Date of a day since 1970, `2026-11-28`.
pub fn date(days: i64) -> String {
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of a day since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * shifted_month + 2) / 5 + 1) as u64;
    let month = (if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 }) as u64;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_are_escaped_as_serde_json_does() {
        let all: String = (0..0x80_u8).map(char::from).chain("äöü€😀\u{2028}".chars()).collect();
        assert_eq!(written(|out| json_string(all.as_bytes(), out)), serde_json::to_string(&all).unwrap());
        assert_eq!(written(|out| json_string(b"a\xFFb", out)), "\"a\u{FFFD}b\"");
    }

    #[test]
    fn a_special_character_is_found_at_each_place_of_a_text() {
        for length in 1..40 {
            let plain: Vec<char> = ('!'..).filter(|c| !matches!(c, '"' | '\\')).take(length).collect();
            for at in 0..length {
                for special in ['a', '\0', '\u{1F}', '"', '\\', '\u{7F}', '\u{80}', '€'] {
                    let mut text = plain.clone();
                    text[at] = special;
                    let text: String = text.into_iter().collect();
                    let json = written(|out| json_string(text.as_bytes(), out));
                    assert_eq!(json, serde_json::to_string(&text).unwrap(), "at {at} of {length}");
                }
            }
        }
        assert_eq!(written(|out| json_string(b"", out)), "\"\"");
    }

    #[test]
    fn uuids_come_back() {
        let bytes: [u8; 16] = std::array::from_fn(|at| at as u8 * 17);
        let text = uuid_text(&bytes);
        assert_eq!(&text, b"00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(parse_uuid(&text), Some(bytes));
        assert_eq!(parse_uuid(text.to_ascii_uppercase().as_slice()), Some(bytes));
        assert_eq!(parse_uuid(b"00112233-4455-6677-8899-aabbccddeefg"), None);
        assert_eq!(parse_uuid(b"00112233445566778899aabbccddeeff"), None);
    }

    #[test]
    fn times_have_nine_digits() {
        assert_eq!(written(|out| time(0, out)), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(written(|out| time(1_795_857_234_123_456_789, out)), "2026-11-28T09:13:54.123456789Z");
        assert_eq!(written(|out| time(u64::MAX, out)), "2554-07-21T23:34:33.709551615Z");
        assert_eq!(date(20_785), "2026-11-28");
    }

    #[test]
    fn numbers_that_json_lacks_are_texts() {
        assert_eq!(written(|out| number(1.5, out)), "1.5");
        assert_eq!(written(|out| number(f64::NAN, out)), "\"NaN\"");
        assert_eq!(written(|out| number(f64::NEG_INFINITY, out)), "\"-Infinity\"");
    }
}
