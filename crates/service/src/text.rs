//! Text for terminals and logs: foreign text without control characters (CWE-150), counts with their nouns, colours.

use std::borrow::Cow;
use std::fmt::Write;
use std::io::IsTerminal;

/// One line of foreign text: control characters, line ends and characters that reorder text are written as escapes
/// (`\n`, `\u{1b}`).
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// As [`one_line`], but ESC stays: of a line whose foreign parts have none, only the program's own colours.
pub fn one_painted_line(text: &str) -> Cow<'_, str> {
    escaped(text, |char| char == '\x1b')
}

/// Text of several lines, such as the excerpt in a TOML error: as [`one_line`], but line feeds and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |char| matches!(char, '\n' | '\t'))
}

/// JSON with the same values, in which no string has such characters as they are. serde_json escapes C0 only.
pub fn json(text: &str) -> Cow<'_, str> {
    if !may_steer(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        // Line feeds stand between values: within strings they are escaped already.
        if steers(char) && !matches!(char, '\n' | '\r' | '\t') {
            // All of them are in the Basic Multilingual Plane: one escape each.
            write!(safe, "\\u{:04x}", u32::from(char)).expect("writing to a String can't fail");
        } else {
            safe.push(char);
        }
    }
    Cow::Owned(safe)
}

/// Appends a JSON value's line, whose strings have no such characters as they are.
pub fn push_json_line(out: &mut Vec<u8>, value: &serde_json::Value) {
    out.extend_from_slice(json(&value.to_string()).as_bytes());
    out.push(b'\n');
}

/// True for a character that makes a terminal or a reader of lines do something else than show it: C0, DEL and C1 controls,
/// line and paragraph separators, and what changes the direction of text (Unicode Standard Annex 9).
pub fn steers(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
}

/// A count with its noun: `1 tick`, `2 ticks`, `0 batches`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {}", noun_for(count, noun))
}

/// The noun of a count that is written in another way.
pub fn noun_for(count: u64, noun: &str) -> String {
    let ending = match noun {
        _ if count == 1 => "",
        noun if noun.ends_with("ch") || noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{noun}{ending}")
}

/// True if colours are wanted on a stream: it is a terminal that knows them, and NO_COLOR isn't set (<https://no-color.org>).
pub fn has_colours(stream: &impl IsTerminal) -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !no_color && can_draw(stream)
}

/// True if a stream is a terminal that knows more than lines of text: TERM isn't `dumb`.
pub fn can_draw(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|char| steers(char) && !stays(char)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match char {
            char if !steers(char) || stays(char) => safe.push(char),
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            char => write!(safe, "{}", char.escape_unicode()).expect("writing to a String can't fail"),
        }
    }
    Cow::Owned(safe)
}

/// True if UTF-8 has a byte with which DEL, a C1 control or a character of direction begins.
fn may_steer(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, 0x7f | 0xc2 | 0xd8 | 0xe2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that steers a terminal, between letters.
    const HOSTILE: &str = "a\x1b[2Jb\r\nc\u{9b}31md\u{202e}e\u{2066}f\u{7f}g\u{2028}h\u{85}i\0j é\tk";

    #[test]
    fn foreign_text_is_one_line_without_control_characters() {
        let safe = r"a\u{1b}[2Jb\r\nc\u{9b}31md\u{202e}e\u{2066}f\u{7f}g\u{2028}h\u{85}i\u{0}j é\tk";
        assert_eq!(one_line(HOSTILE), safe);
        assert!(matches!(one_line("plain é 日本"), Cow::Borrowed(_)));
        assert_eq!(lines("a\n\tb\r\x1b"), "a\n\tb\\r\\u{1b}");
    }

    #[test]
    fn json_keeps_its_values() {
        let value = serde_json::json!({ HOSTILE: [HOSTILE, "日本 é €"] });
        let plain = value.to_string();
        let safe = json(&plain);
        assert!(!safe.chars().any(steers), "{safe}");
        assert!(safe.contains("日本 é €"), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
        assert!(matches!(json("{\"a\":1}\n"), Cow::Borrowed(_)));
        let pretty = format!("{value:#}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json(&pretty)).unwrap(), value);
    }

    #[test]
    fn nouns_follow_their_count() {
        for (count, noun, expected) in
            [(1, "tick", "1 tick"), (0, "tick", "0 ticks"), (2, "batch", "2 batches")]
        {
            assert_eq!(counted(count, noun), expected);
        }
    }
}
