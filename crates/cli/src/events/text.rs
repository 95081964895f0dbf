//! Lines for people: the time, the kind, the name, and then fields as `key=value`.

use std::fmt::Write;

use serde_json::Value;
use tickstream_schema::events::{DeadLetter, Event};
use tickstream_schema::json::write_event;
use tickstream_service::text::{json, one_line};

use tickstream_server::stored::{event_of, time};

/// Characters of one value; of a longer one, its beginning is shown.
const VALUE_CHARS_MAX: usize = 200;
/// Members that have a place of their own in a line, or aren't for people.
const NOT_LISTED: [&str; 4] = ["event_id", "timestamp", "event_type", "event_name"];

/// ANSI colours; see ECMA-48, SGR.
const RED: &str = "31";
const YELLOW: &str = "33";
const CYAN: &str = "36";
const DIM: &str = "2";

/// Appends the event's line.
pub fn event(out: &mut Vec<u8>, event: &Event, colours: bool) {
    let mut line = Line { text: String::new(), colours };
    line.painted(DIM, &milliseconds(event.timestamp));
    line.event(event);
    line.end(out);
}

/// Appends the line of a dead letter, which begins with the time of receipt and the code of its rejection.
pub fn dead_letter(out: &mut Vec<u8>, receive_time_ns: u64, letter: &DeadLetter, colours: bool) {
    let mut line = Line { text: String::new(), colours };
    line.painted(DIM, &milliseconds(receive_time_ns));
    line.text.push(' ');
    line.painted(RED, &one_line(&letter.code));
    write!(line.text, " {}", value(&Value::from(&letter.message[..])))
        .expect("writing to a String can't fail");
    match event_of(letter) {
        Some(event) => line.event(&event),
        None => line.text.push_str(" (can't be read)"),
    }
    line.end(out);
}

struct Line {
    text: String,
    colours: bool,
}

impl Line {
    fn event(&mut self, event: &Event) {
        let mut bytes = Vec::new();
        write_event(event, &mut bytes);
        let Ok(Value::Object(members)) = serde_json::from_slice(&bytes) else { return };
        let name = |key: &str| members.get(key).map_or("?".into(), value);
        self.text.push(' ');
        let (kind, colour) = (name("event_type"), colour(&members));
        self.painted(colour, &kind);
        write!(self.text, " {}", name("event_name")).expect("writing to a String can't fail");
        for (key, member) in members.iter().filter(|(key, _)| !NOT_LISTED.contains(&&key[..])) {
            // The body is the only member that the kind names: its own members need no prefix.
            let prefix = if *key == kind { "" } else { key };
            self.fields(prefix, member);
        }
    }

    fn fields(&mut self, key: &str, member: &Value) {
        if let Value::Object(members) = member {
            for (name, member) in members {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                self.fields(&key, member);
            }
            return;
        }
        self.text.push(' ');
        self.painted(DIM, &format!("{}=", one_line(key)));
        self.text.push_str(&value(member));
    }

    fn painted(&mut self, colour: &str, text: &str) {
        if self.colours {
            write!(self.text, "\x1b[{colour}m{text}\x1b[0m").expect("writing to a String can't fail");
        } else {
            self.text.push_str(text);
        }
    }

    fn end(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'\n');
    }
}

/// A value as it is, or as JSON where it wouldn't be one word.
fn value(value: &Value) -> String {
    let text = match value {
        Value::String(text) if is_word(text) => text.clone(),
        other => json(&other.to_string()).into_owned(),
    };
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text
            .chars()
            .any(|c| c.is_whitespace() || tickstream_service::text::steers(c) || matches!(c, '"' | '='))
}

/// Red for errors, yellow for warnings.
fn colour(members: &serde_json::Map<String, Value>) -> &'static str {
    let mut words =
        members.values().filter_map(|body| body.get("level").or_else(|| body.get("status"))?.as_str());
    match words.next() {
        Some("error" | "fatal") => RED,
        Some("warn") => YELLOW,
        _ => CYAN,
    }
}

fn milliseconds(unix_ns: u64) -> String {
    let time = time(unix_ns - unix_ns % 1_000_000);
    time.replace("000000Z", "Z")
}

#[cfg(test)]
mod tests {
    use tickstream_schema::json::parse_event;

    use super::*;

    fn check(json: &str, colours: bool, expected: &str) {
        let mut out = Vec::new();
        event(&mut out, &parse_event(json).unwrap(), colours);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\n"));
    }

    #[test]
    fn a_line_has_the_fields_as_words() {
        let log = r#"{"timestamp":"2026-11-21T20:00:05.000000001Z","platform":"linux","user_id":"ada","event_type":"log",
            "event_name":"payment failed","log":{"service":"pay","level":"error","message":"no \"money\"\n\u001b[2J","context":{"request_id":"r1"}}}"#;
        check(
            log,
            false,
            r#"2026-11-21T20:00:05.000Z log "payment failed" context.request_id=r1 level=error message="no \"money\"\n\u001b[2J" service=pay platform=linux user_id=ada"#,
        );
        check(
            r#"{"timestamp":7,"event_type":"custom","event_name":"a","custom":{"schema":"x/1","measurements":[{"name":"m","value":1.5}]}}"#,
            true,
            "\x1b[2m1970-01-01T00:00:00.000Z\x1b[0m \x1b[36mcustom\x1b[0m a \x1b[2mmeasurements=\x1b[0m[{\"name\":\"m\",\"value\":1.5}] \
             \x1b[2mschema=\x1b[0mx/1",
        );
        check(
            r#"{"log":{"level":"warn"}}"#,
            true,
            "\x1b[2m1970-01-01T00:00:00.000Z\x1b[0m \x1b[33m?\x1b[0m ? \x1b[2mlog.level=\x1b[0mwarn",
        );
    }

    #[test]
    fn a_dead_letter_begins_with_its_code() {
        let letter = DeadLetter {
            code: "FIELD_MISSING".into(),
            message: "platform: required".into(),
            ..DeadLetter::default()
        };
        let mut out = Vec::new();
        dead_letter(&mut out, 1_000_000, &letter, false);
        let expected = "1970-01-01T00:00:00.001Z FIELD_MISSING \"platform: required\" (can't be read)\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
