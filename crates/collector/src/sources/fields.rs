//! Bounds of the schema's fields, and values within them: what several sources need.

use std::collections::BTreeMap;

use tickstream_client::events::{Kind, Log, LogLevel, Value};

/// Longest `Event.event_name`, bytes.
pub(super) const EVENT_NAME_BYTES_MAX: usize = 128;
/// Longest name of a service, bytes.
pub(super) const SERVICE_BYTES_MAX: usize = 128;
/// Longest `Log.message`, bytes.
const MESSAGE_BYTES_MAX: usize = 16_384;
/// Longest text and key of a map of texts, bytes, and its most entries. What is beyond stands in the map of values.
const TEXT_BYTES_MAX: usize = 1024;
const TEXT_KEY_BYTES_MAX: usize = 64;
pub(super) const TEXTS_MAX: usize = 64;

/// The beginning of a text, of at most so many bytes, for a field beside one that has all of it.
pub(super) fn clipped(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// A text's beginning, or `otherwise` if it is empty: for required fields.
pub(super) fn clipped_or<'a>(text: &'a str, bytes_max: usize, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { clipped(text, bytes_max) }
}

/// True if a map of texts takes another one.
pub(super) fn takes_text(texts: &BTreeMap<String, String>, key: &str, text: &str) -> bool {
    fits_text_map(key, text) && texts.len() < TEXTS_MAX
}

/// True if a map of texts takes a key and a text of such lengths.
pub(super) fn fits_text_map(key: &str, text: &str) -> bool {
    text.len() <= TEXT_BYTES_MAX && (1..=TEXT_KEY_BYTES_MAX).contains(&key.len())
}

/// Puts a text into the map of texts, or where it doesn't fit, into that of values.
pub(crate) fn put_text(
    texts: &mut BTreeMap<String, String>,
    typed: &mut BTreeMap<String, Value>,
    key: String,
    text: String,
) {
    if takes_text(texts, &key, &text) {
        texts.insert(key, text);
    } else {
        typed.insert(key, text_value(text));
    }
}

/// A text as a value.
pub(super) fn text_value(text: String) -> Value {
    Value { kind: Some(Kind::Text(text)) }
}

/// True if a log has room for a text as its message.
pub(super) fn is_message(text: &str) -> bool {
    (1..=MESSAGE_BYTES_MAX).contains(&text.len())
}

/// Sets a log's text: its message, or where it doesn't fit, its body.
pub(crate) fn set_message(log: &mut Log, text: String) {
    if is_message(&text) {
        log.message = text;
    } else {
        log.body = Some(text_value(text));
    }
}

/// The level that people's words mean; syslog's numbers among them.
pub(super) fn level(text: &str) -> LogLevel {
    match &text.trim().to_ascii_lowercase()[..] {
        "trace" => LogLevel::Trace,
        "debug" | "7" => LogLevel::Debug,
        "warn" | "warning" | "4" => LogLevel::Warn,
        "err" | "error" | "3" => LogLevel::Error,
        "crit" | "critical" | "alert" | "emerg" | "emergency" | "fatal" | "panic" | "0" | "1" | "2" => {
            LogLevel::Fatal
        }
        _ => LogLevel::Info,
    }
}

/// An id in hexadecimal digits that says something.
pub(super) fn hex_id(text: &str, len: usize) -> Option<Vec<u8>> {
    let is_hex = text.len() == 2 * len && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|number| is_hex && *number != 0)?;
    Some(number.to_be_bytes()[16 - len..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!((clipped("éé", 3), clipped("ab", 5), clipped_or("", 5, "x")), ("é", "ab", "x"));
    }

    #[test]
    fn what_does_not_fit_a_map_of_texts_is_typed() {
        let (mut texts, mut typed) = (BTreeMap::new(), BTreeMap::new());
        for (key, len) in
            [("a".to_owned(), 1024), ("b".to_owned(), 1025), ("c".repeat(65), 1), (String::new(), 1)]
        {
            put_text(&mut texts, &mut typed, key, "x".repeat(len));
        }
        assert_eq!((texts.len(), typed.len()), (1, 3));
    }

    #[test]
    fn ids_are_hexadecimal_and_not_zero() {
        assert_eq!(hex_id("00000000000000ff", 8), Some(vec![0, 0, 0, 0, 0, 0, 0, 255]));
        for none in ["", "0000000000000000", "+0000000000000ff", "00000000000000f"] {
            assert_eq!(hex_id(none, 8), None, "{none}");
        }
    }
}
