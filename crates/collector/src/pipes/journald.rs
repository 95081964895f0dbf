//! One entry of systemd's journal: <https://systemd.io/JOURNAL_EXPORT_FORMATS/#journal-json-format>

use serde_json::{Map, Value as Json};
use tickstream_client::events::{Body, Event, EventType, Kind, Log, Value};

use crate::sources::entries::{level_of_priority, put_text, set_message};

/// The event of a line, and the entry's cursor. `None`: it is no entry.
pub(super) fn event(line: &[u8], _: u64) -> Option<(Event, Vec<u8>)> {
    let mut entry: Map<String, Json> = serde_json::from_slice(line).ok()?;
    let mut take = |key: &str| match entry.remove(key)? {
        Json::String(text) => Some(text),
        Json::Number(number) => Some(number.to_string()),
        // Several values of one field: the last one counts.
        Json::Array(values) => values.last()?.as_str().map(str::to_owned),
        _ => None,
    };
    let cursor = take("__CURSOR")?;
    let received = take("__REALTIME_TIMESTAMP").and_then(|us| us.parse::<u64>().ok()).unwrap_or_default();
    let own = take("_SOURCE_REALTIME_TIMESTAMP").and_then(|us| us.parse::<u64>().ok());
    let service =
        take("SYSLOG_IDENTIFIER").or_else(|| take("_COMM")).unwrap_or_else(|| "journald".to_owned());
    let priority = take("PRIORITY").and_then(|text| text.parse().ok()).unwrap_or(6);
    let (level, severity_number, severity_text) = level_of_priority(priority);
    let mut log = Log {
        service,
        level: level.into(),
        severity_number,
        severity_text: severity_text.to_owned(),
        observed_time: received.saturating_mul(1000),
        ..Log::default()
    };
    match entry.remove("MESSAGE") {
        Some(Json::String(text)) => set_message(&mut log, text),
        // A text that isn't UTF-8 is a list of its bytes.
        Some(Json::Array(bytes)) => {
            let bytes = bytes.iter().map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()));
            log.body = Some(Value { kind: bytes.collect::<Option<Vec<u8>>>().map(Kind::Bytes) });
        }
        _ => set_message(&mut log, String::new()),
    }
    for (key, value) in entry {
        let is_address = key.starts_with("__");
        if let (Json::String(text), false) = (value, is_address) {
            put_text(&mut log.metadata, &mut log.typed_metadata, key, text);
        }
    }
    let event = Event {
        timestamp: own.unwrap_or(received).saturating_mul(1000),
        platform: "journald".to_owned(),
        event_type: EventType::Log.into(),
        event_name: "log".to_owned(),
        body: Some(Body::Log(log)),
        ..Event::default()
    };
    Some((event, cursor.into_bytes()))
}

#[cfg(test)]
mod tests {
    use tickstream_client::events::LogLevel;

    use super::*;

    #[test]
    fn entries_are_logs_with_their_fields() {
        let line = br#"{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1792000000250000","_SOURCE_REALTIME_TIMESTAMP":"1792000000249000","PRIORITY":"3","SYSLOG_IDENTIFIER":"shop","MESSAGE":"boom","_PID":"7","_HOSTNAME":["a","b"]}"#;
        let (event, cursor) = event(line, 0).unwrap();
        let Some(Body::Log(log)) = &event.body else { panic!() };
        assert_eq!((&cursor[..], event.timestamp), (&b"s=1;i=2"[..], 1_792_000_000_249_000_000));
        assert_eq!((&log.service[..], &log.message[..], log.level()), ("shop", "boom", LogLevel::Error));
        assert_eq!(log.metadata["_PID"], "7");
        let bytes = br#"{"__CURSOR":"c","MESSAGE":[255,10]}"#;
        let (event, _) = self::event(bytes, 0).unwrap();
        let Some(Body::Log(log)) = &event.body else { panic!() };
        assert_eq!(log.body.as_ref().unwrap().kind, Some(Kind::Bytes(vec![255, 10])));
        assert!(self::event(b"nonsense", 0).is_none() && self::event(b"{}", 0).is_none());
    }
}
