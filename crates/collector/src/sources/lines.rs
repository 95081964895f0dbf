//! Lines of files, by their format, as logs.

mod access;

use serde_json::{Map, Value as Json};
use tickstream_client::events::{Body, Event, EventType, Kind, Log, Value};

use super::{
    elasticsearch,
    fields::{SERVICE_BYTES_MAX, clipped_or, set_message},
    json::rfc3339,
    syslog,
};

/// A format of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Any text.
    Text,
    /// A JSON object a line, by the names of the Elastic Common Schema and what others call them.
    Json,
    /// Format of containerd and CRI-O: time, stream, tag, text.
    Cri,
    /// Docker's `json-file`.
    Docker,
    /// Syslog, RFC 5424 and 3164.
    Syslog,
    /// nginx's and Apache's "combined" and "common".
    Nginx,
    /// HAProxy's `option httplog`.
    Haproxy,
    /// Access logs of AWS' application load balancers.
    AwsAlb,
}

const FORMATS: [(&str, Format); 8] = [
    ("text", Format::Text),
    ("json", Format::Json),
    ("cri", Format::Cri),
    ("docker", Format::Docker),
    ("syslog", Format::Syslog),
    ("nginx", Format::Nginx),
    ("haproxy", Format::Haproxy),
    ("aws_alb", Format::AwsAlb),
];

impl Format {
    /// By its name.
    ///
    /// # Errors
    /// The names that there are.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| *format);
        let names = || FORMATS.map(|(name, _)| name).join(", ");
        found.ok_or_else(|| format!("there is no format \"{name}\"; there are {}", names()))
    }

    /// The event of a line. One that isn't of the format is the text of a log all the same.
    pub fn event(self, line: &[u8], service: &str, receive_time: u64) -> Event {
        if self == Self::Syslog {
            return syslog::event(line, receive_time);
        }
        let Ok(text) = std::str::from_utf8(line) else {
            let mut event = log_event(0, service);
            set_body(&mut event, Kind::Bytes(line.to_vec()));
            return event;
        };
        let parsed = match self {
            Self::Text | Self::Syslog => None,
            Self::Json => json(text, service),
            Self::Cri => cri(text, service),
            Self::Docker => docker(text, service),
            Self::Nginx => access::nginx(text, service),
            Self::Haproxy => access::haproxy(text, service),
            Self::AwsAlb => access::aws_alb(text, service),
        };
        parsed.unwrap_or_else(|| text_event(text, 0, service))
    }
}

/// A log without a text.
fn log_event(timestamp: u64, service: &str) -> Event {
    let service = clipped_or(service, SERVICE_BYTES_MAX, "file").to_owned();
    Event {
        timestamp,
        platform: "file".to_owned(),
        event_type: EventType::Log.into(),
        event_name: "log".to_owned(),
        body: Some(Body::Log(Log { service, level: super::fields::level("").into(), ..Log::default() })),
        ..Event::default()
    }
}

fn text_event(text: &str, timestamp: u64, service: &str) -> Event {
    let mut event = log_event(timestamp, service);
    if let Some(Body::Log(log)) = &mut event.body {
        set_message(log, text.to_owned());
    }
    event
}

fn set_body(event: &mut Event, kind: Kind) {
    if let Some(Body::Log(log)) = &mut event.body {
        log.body = Some(Value { kind: Some(kind) });
    }
}

fn json(text: &str, service: &str) -> Option<Event> {
    let document: Map<String, Json> = serde_json::from_str(text).ok()?;
    let mut event = elasticsearch::document(document, service);
    "file".clone_into(&mut event.platform);
    Some(event)
}

/// `2016-10-06T00:17:09.669794202Z stdout F text`
fn cri(text: &str, service: &str) -> Option<Event> {
    let mut parts = text.splitn(4, ' ');
    let timestamp = rfc3339(parts.next()?)?;
    let stream = parts.next().filter(|stream| matches!(*stream, "stdout" | "stderr"))?;
    let tag = parts.next()?;
    let mut event = text_event(parts.next().unwrap_or_default(), timestamp, service);
    event.properties.insert("stream".to_owned(), stream.to_owned());
    if tag.split(':').any(|tag| tag == "P") {
        event.properties.insert("is_partial".to_owned(), "true".to_owned());
    }
    Some(event)
}

/// `{"log":"text\n","stream":"stdout","time":"…"}`
fn docker(text: &str, service: &str) -> Option<Event> {
    let document: Map<String, Json> = serde_json::from_str(text).ok()?;
    let of = |key: &str| document.get(key).and_then(Json::as_str);
    let log = of("log")?;
    let mut event = text_event(log.strip_suffix('\n').unwrap_or(log), rfc3339(of("time")?)?, service);
    let rest = document.iter().filter(|(key, _)| !matches!(&key[..], "log" | "time"));
    for (key, value) in rest {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        event.properties.insert(key.clone(), value);
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(format: Format, line: &str) -> (Event, Log) {
        let event = format.event(line.as_bytes(), "app", 1_792_000_000_000_000_000);
        match event.body.clone() {
            Some(Body::Log(log)) => (event, log),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn containers_formats_are_read() {
        let (event, found) = log(Format::Cri, "2026-10-14T17:46:40.250000001Z stderr F hello  world");
        assert_eq!((event.timestamp, &found.message[..]), (1_792_000_000_250_000_001, "hello  world"));
        assert_eq!(event.properties["stream"], "stderr");
        let (event, _) = log(Format::Cri, "2026-10-14T17:46:40Z stdout P half");
        assert_eq!(event.properties["is_partial"], "true");
        let (event, found) = log(
            Format::Docker,
            r#"{"log":"hi\n","stream":"stdout","time":"2026-10-14T17:46:40.25Z","attrs":{"tag":"x"}}"#,
        );
        assert_eq!((event.timestamp, &found.message[..]), (1_792_000_000_250_000_000, "hi"));
        assert_eq!(event.properties["attrs"], r#"{"tag":"x"}"#);
        let (event, found) =
            log(Format::Json, r#"{"@timestamp":"2026-10-14T17:46:40Z","message":"m","level":"error","n":1}"#);
        assert_eq!(
            (event.timestamp, &found.message[..], &found.service[..]),
            (1_792_000_000_000_000_000, "m", "app")
        );
        assert!(found.typed_metadata.contains_key("n"));
        let (_, found) = log(Format::Syslog, "<13>1 - h su - - - text");
        assert_eq!((&found.service[..], &found.message[..]), ("su", "text"));
    }

    #[test]
    fn lines_of_another_format_are_texts() {
        for (_, format) in FORMATS.iter().filter(|(_, format)| *format != Format::Syslog) {
            let (event, found) = log(*format, "just a text");
            assert_eq!((event.timestamp, &found.message[..], &found.service[..]), (0, "just a text", "app"));
            let event = format.event(b"\xFF\xFE", "app", 0);
            let Some(Body::Log(Log { body: Some(Value { kind: Some(Kind::Bytes(bytes)) }), .. })) =
                event.body
            else {
                panic!("{format:?}")
            };
            assert_eq!(bytes, b"\xFF\xFE");
        }
        assert!(Format::named("xml").unwrap_err().contains("haproxy"));
    }
}
