//! One message. Whatever it is, it becomes a log: what can't be parsed is the text.

use tickstream_client::events::{Body, Event, EventType, Kind, Log, LogLevel, Value};

use crate::sources::{
    fields::{SERVICE_BYTES_MAX, clipped_or, put_text, set_message},
    json::{days_since_1970, rfc3339},
};

/// RFC 5424, 6.2.1: a message without a priority is a user's notice.
const PRIORITY_DEFAULT: u8 = 13;

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];
pub(in crate::sources) const SEVERITIES: [&str; 8] =
    ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
/// The log level and OpenTelemetry's number of each severity.
pub(in crate::sources) const LEVELS: [(LogLevel, u32); 8] = [
    (LogLevel::Fatal, 21),
    (LogLevel::Fatal, 19),
    (LogLevel::Fatal, 18),
    (LogLevel::Error, 17),
    (LogLevel::Warn, 13),
    (LogLevel::Info, 10),
    (LogLevel::Info, 9),
    (LogLevel::Debug, 5),
];

/// Fields of a header; empty where it has none.
#[derive(Debug, Default, PartialEq)]
struct Header<'a> {
    timestamp: u64,
    hostname: &'a str,
    app: &'a str,
    process: &'a str,
    message_id: &'a str,
    data: Parameters,
}

/// The event of a message that came at `receive_time`, Unix time, nanoseconds.
pub(crate) fn event(message: &[u8], receive_time: u64) -> Event {
    // The end of a line that was counted as a part of the message, as rsyslog's templates have it.
    let message = message.strip_suffix(b"\n").unwrap_or(message);
    let (priority, rest) = priority(message);
    let (header, text) = match rest.strip_prefix(b"1 ").and_then(rfc5424) {
        Some(parsed) => parsed,
        None => rfc3164(rest, receive_time),
    };
    let severity = usize::from(priority & 7);
    let facility = FACILITIES.get(usize::from(priority >> 3)).copied().unwrap_or("unknown");
    let mut log = Log {
        service: clipped_or(header.app, SERVICE_BYTES_MAX, "syslog").to_owned(),
        level: LEVELS[severity].0.into(),
        severity_number: LEVELS[severity].1,
        severity_text: SEVERITIES[severity].to_owned(),
        observed_time: receive_time,
        ..Log::default()
    };
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            put_text(&mut log.metadata, &mut log.typed_metadata, key.to_owned(), value.to_owned());
        }
    };
    put("facility", facility);
    put("hostname", header.hostname);
    put("process", header.process);
    put("message_id", header.message_id);
    for (key, value) in header.data {
        put_text(&mut log.metadata, &mut log.typed_metadata, key, value);
    }
    set_text(&mut log, text);
    Event {
        timestamp: header.timestamp,
        platform: "syslog".to_owned(),
        event_type: EventType::Log.into(),
        event_name: "log".to_owned(),
        body: Some(Body::Log(log)),
        ..Event::default()
    }
}

fn set_text(log: &mut Log, text: &[u8]) {
    match std::str::from_utf8(text) {
        // Python's handler ends its texts as C does.
        Ok(text) => set_message(log, text.strip_suffix('\0').unwrap_or(text).to_owned()),
        // Stored as it is, since nobody knows what it should be.
        Err(_) => log.body = Some(Value { kind: Some(Kind::Bytes(text.to_vec())) }),
    }
}

fn priority(message: &[u8]) -> (u8, &[u8]) {
    let parsed = || {
        let rest = message.strip_prefix(b"<")?;
        let end = rest.iter().take(4).position(|byte| *byte == b'>')?;
        let digits = std::str::from_utf8(&rest[..end]).ok()?;
        let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        let number: u8 = digits.parse().ok().filter(|number| is_number && *number <= 191)?;
        Some((number, &rest[end + 1..]))
    };
    parsed().unwrap_or((PRIORITY_DEFAULT, message))
}

/// The header behind the version, and the text.
fn rfc5424(rest: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let mut rest = rest;
    let mut field = || {
        let end = rest.iter().position(|byte| *byte == b' ')?;
        let text = std::str::from_utf8(&rest[..end]).ok()?;
        rest = &rest[end + 1..];
        Some(if text == "-" { "" } else { text })
    };
    let (time, hostname, app, process, message_id) = (field()?, field()?, field()?, field()?, field()?);
    let timestamp = if time.is_empty() { 0 } else { rfc3339(time)? };
    let (data, rest) = structured_data(rest)?;
    let text = rest.strip_prefix(b" ").unwrap_or(rest);
    // rsyslog puts the space behind a BSD tag's colon in front of the text that it sends on.
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    Some((Header { timestamp, hostname, app, process, message_id, data }, text))
}

/// Names as "element.name", and values.
type Parameters = Vec<(String, String)>;

/// The parameters of all elements, and what follows.
fn structured_data(bytes: &[u8]) -> Option<(Parameters, &[u8])> {
    if let Some(rest) = bytes.strip_prefix(b"-") {
        return (rest.is_empty() || rest[0] == b' ').then(|| (Vec::new(), rest));
    }
    let (mut data, mut rest) = (Vec::new(), bytes);
    while let Some(element) = rest.strip_prefix(b"[") {
        let end = element.iter().position(|byte| matches!(byte, b' ' | b']'))?;
        let id = std::str::from_utf8(&element[..end]).ok().filter(|id| !id.is_empty())?;
        rest = &element[end..];
        while let Some(parameter) = rest.strip_prefix(b" ") {
            let equals = parameter.iter().position(|byte| *byte == b'=')?;
            let name = std::str::from_utf8(&parameter[..equals]).ok()?;
            let (value, after) = quoted(parameter[equals + 1..].strip_prefix(b"\"")?)?;
            data.push((format!("{id}.{name}"), value));
            rest = after;
        }
        rest = rest.strip_prefix(b"]")?;
    }
    (rest.len() < bytes.len() && (rest.is_empty() || rest[0] == b' ')).then_some((data, rest))
}

/// The value up to its closing quote, and what follows.
fn quoted(bytes: &[u8]) -> Option<(String, &[u8])> {
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        match (*bytes.get(at)?, bytes.get(at + 1)) {
            (b'"', _) => return Some((String::from_utf8(value).ok()?, &bytes[at + 1..])),
            (b'\\', Some(escaped @ (b'"' | b'\\' | b']'))) => {
                value.push(*escaped);
                at += 2;
            }
            (byte, _) => {
                value.push(byte);
                at += 1;
            }
        }
    }
}

/// Reads BSD's syslog, more or less: a time, a host, a tag, a text.
fn rfc3164(rest: &[u8], receive_time: u64) -> (Header<'_>, &[u8]) {
    let Ok(text) = std::str::from_utf8(rest) else { return (Header::default(), rest) };
    let Some((timestamp, after)) = bsd_time(text, receive_time) else {
        // Without a time there may be a host and a tag all the same.
        return tagged(text, 0).unwrap_or((Header::default(), rest));
    };
    tagged(after, timestamp).unwrap_or_else(|| untagged(after, timestamp))
}

/// `host text`, as behind a time the host always stands (RFC 3164, 5.4, example 2).
fn untagged(text: &str, timestamp: u64) -> (Header<'_>, &[u8]) {
    match text.split_once(' ') {
        Some((hostname, message)) if is_hostname(hostname) => {
            (Header { timestamp, hostname, ..Header::default() }, message.as_bytes())
        }
        _ => (Header { timestamp, ..Header::default() }, text.as_bytes()),
    }
}

fn is_hostname(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    !text.is_empty() && !text.ends_with(':') && text.bytes().all(is_part)
}

/// `host tag[process]: text`
fn tagged(text: &str, timestamp: u64) -> Option<(Header<'_>, &[u8])> {
    let (hostname, after) = text.split_once(' ')?;
    // Without a host, the tag is first.
    let (hostname, after) = if hostname.ends_with(':') { ("", text) } else { (hostname, after) };
    let (tag, message) = after.split_once(':')?;
    let (app, process) = match tag.strip_suffix(']').and_then(|tag| tag.split_once('[')) {
        Some(parts) => parts,
        None => (tag, ""),
    };
    let is_tag = !app.is_empty() && app.len() <= 64 && !tag.contains(char::is_whitespace);
    let message = message.strip_prefix(' ').unwrap_or(message);
    is_tag.then(|| (Header { timestamp, hostname, app, process, ..Header::default() }, message.as_bytes()))
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const SECOND_NS: u64 = 1_000_000_000;
const DAY_S: u64 = 86_400;

/// A time without a year, `Oct 11 22:14:15`, or with all, as rsyslog writes it; and what follows.
fn bsd_time(text: &str, receive_time: u64) -> Option<(u64, &str)> {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        let (time, after) = text.split_once(' ')?;
        return Some((rfc3339(time)?, after));
    }
    let month = MONTHS.iter().position(|month| text.get(..3) == Some(*month))? as u64 + 1;
    let number = |at: std::ops::Range<usize>, max: u64| {
        let digits = text.get(at)?.trim_start();
        digits.parse::<u64>().ok().filter(|number| *number <= max && !digits.starts_with('+'))
    };
    let separators = text.as_bytes().get(..16)?;
    if [separators[3], separators[6], separators[9], separators[12], separators[15]] != *b"  :: " {
        return None;
    }
    let (day, hour) = (number(4..6, 31)?, number(7..9, 23)?);
    let (minute, second) = (number(10..12, 59)?, number(13..15, 60)?);
    let seconds = hour * 3600 + minute * 60 + second;
    let timestamp = with_year(month, day, seconds, receive_time)?;
    Some((timestamp, &text[16..]))
}

/// The time of a date without its year: the one nearest to the time of receipt.
fn with_year(month: u64, day: u64, seconds: u64, receive_time: u64) -> Option<u64> {
    let receive_s = receive_time / SECOND_NS;
    let year = 1970 + receive_s / (365 * DAY_S + DAY_S / 4);
    let at = |year| days_since_1970(year, month, day).map(|days| days * DAY_S + seconds);
    let nearest = (year.saturating_sub(1)..=year + 1).filter_map(at).min_by_key(|at| at.abs_diff(receive_s));
    nearest?.checked_mul(SECOND_NS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-10-14T17:46:40Z
    const NOW: u64 = 1_792_000_000 * SECOND_NS;

    fn log(message: &[u8]) -> (u64, Log) {
        let event = event(message, NOW);
        match event.body {
            Some(Body::Log(log)) => (event.timestamp, log),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rfc_5424_is_read_to_its_last_parameter() {
        let message = "<165>1 2026-10-14T17:46:40.250Z mymachine.example.com evntslog 7 ID47 [exampleSDID@32473 iut=\"3\" eventSource=\"App\\\"lication\" x=\"a\\]b\"][other y=\"\"] \u{FEFF}An application event";
        let (timestamp, log) = log(message.as_bytes());
        assert_eq!(timestamp, NOW + 250_000_000);
        assert_eq!((&log.service[..], &log.message[..]), ("evntslog", "An application event"));
        assert_eq!(
            (log.level(), &log.severity_text[..], log.severity_number),
            (LogLevel::Info, "notice", 10)
        );
        let of = |key: &str| &log.metadata[key][..];
        assert_eq!(of("facility"), "local4");
        assert_eq!((of("hostname"), of("process"), of("message_id")), ("mymachine.example.com", "7", "ID47"));
        assert_eq!(of("exampleSDID@32473.eventSource"), "App\"lication");
        assert_eq!((of("exampleSDID@32473.x"), of("other.y")), ("a]b", ""));
    }

    #[test]
    fn what_pythons_handler_adds_to_a_text_is_left_out() {
        assert_eq!(log(b"<11>declined\0").1.message, "declined");
        assert_eq!(log(b"<11>a\0b").1.message, "a\0b");
    }

    #[test]
    fn what_rsyslog_adds_to_a_text_is_left_out() {
        let (_, log) = log(b"<29>1 2026-10-14T17:46:40Z vm app 7 - -  line 0\n");
        assert_eq!((&log.message[..], &log.metadata["process"][..]), ("line 0", "7"));
    }

    #[test]
    fn rfc_3164_and_its_relatives_are_read_as_far_as_they_go() {
        let check = |message: &str, timestamp: u64, host: &str, app: &str, process: &str, text: &str| {
            let (found, log) = log(message.as_bytes());
            let of = |key: &str| log.metadata.get(key).map(String::as_str).unwrap_or_default();
            let all = (found, of("hostname"), &log.service[..], of("process"), &log.message[..]);
            assert_eq!(all, (timestamp, host, app, process, text), "{message}");
        };
        let day = NOW - 17 * 3600 * SECOND_NS - 46 * 60 * SECOND_NS - 40 * SECOND_NS;
        let oct_11 = day - 3 * DAY_S * SECOND_NS + (22 * 3600 + 14 * 60 + 15) * SECOND_NS;
        check(
            "<34>Oct 11 22:14:15 mymachine su[42]: 'su root' failed",
            oct_11,
            "mymachine",
            "su",
            "42",
            "'su root' failed",
        );
        check(
            "<34>Oct 11 22:14:15 10.0.0.99 Use the BFG!",
            oct_11,
            "10.0.0.99",
            "syslog",
            "",
            "Use the BFG!",
        );
        check("<13>2026-10-14T19:46:40+02:00 h app: t", NOW, "h", "app", "", "t");
        check("<13>app: without a time", 0, "", "app", "", "without a time");
        check("no priority", 0, "", "syslog", "", "no priority");
        check("<999>odd", 0, "", "syslog", "", "<999>odd");
        check("<13>1 nonsense", 0, "", "syslog", "", "1 nonsense");
        // In October, December was last year's.
        let dec_31 = with_year(12, 31, 0, NOW).unwrap();
        assert!(dec_31 > NOW && with_year(1, 1, 0, dec_31).unwrap() > dec_31);
    }

    #[test]
    fn fault_68_what_is_no_text_is_stored_as_it_is() {
        let (_, log) = log(b"<13>h a: \xFF\x00");
        assert_eq!(log.body.unwrap().kind, Some(Kind::Bytes(b"h a: \xFF\x00".to_vec())));
        let (_, log) = self::log(b"<13>h a: nul\0inside");
        assert_eq!(log.message, "nul\0inside");
        let (_, log) = self::log("<13>h a: ".as_bytes());
        assert_eq!(log.body.unwrap().kind, Some(Kind::Text(String::new())));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            event(&bytes, NOW);
        }

        #[test]
        fn no_text_makes_it_panic(text in "<[0-9]{0,4}>1?[ -\\]A-Za-z0-9\\[\"=\\\\:é]{0,60}", time in any::<u64>()) {
            event(text.as_bytes(), time);
        }
    }
}
