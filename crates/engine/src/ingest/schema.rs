//! The rules of `proto/events.proto` as tables: what each field is, how long or large it may be, whether it must be
//! there. Validation, paths of privacy rules and messages of verdicts all come from here; a test holds the numbers and
//! names to the schema.

/// The fields of one message, by rising number.
#[derive(Debug)]
pub(crate) struct MessageDef {
    pub fields: &'static [FieldDef],
}

/// One field.
#[derive(Debug)]
pub(crate) struct FieldDef {
    /// Below 32.
    pub number: u32,
    pub name: &'static str,
    pub rule: Rule,
    /// An event without it, or with its default value, is rejected.
    pub required: bool,
    /// What a rule that spans fields needs to know of it.
    pub noted: Option<Note>,
}

/// What a field is, with its bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    /// UTF-8 of so many bytes.
    Text { min: u32, max: u32 },
    /// At most so many bytes.
    Blob { max: u32 },
    /// Exactly so many bytes, not all zero.
    Id { len: u32 },
    /// fixed64: Unix time, nanoseconds.
    Time,
    /// A finite double.
    Number { min: f64, max: f64 },
    /// A varint.
    Unsigned { min: u64, max: u64 },
    /// An enum's number, from 1 to this.
    Choice { max: u32 },
    /// Text: an IPv4 or IPv6 address, or nothing.
    Address,
    /// Text: three capital letters.
    Currency,
    /// Text to text.
    Map,
    /// At most so many of a message.
    List { of: &'static MessageDef, max: u32 },
    /// One of a message.
    Message(&'static MessageDef),
}

/// Values that rules between fields look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Note {
    EventId,
    Timestamp,
    EventType,
    MetricType,
    MetricValue,
    SpanStart,
    SpanEnd,
}

impl Note {
    /// How many there are.
    pub const COUNT: usize = Self::SpanEnd as usize + 1;
}

/// Bytes of one event.
pub(crate) const EVENT_BYTES_MAX: usize = 131_072;
/// Entries of one map.
pub(crate) const MAP_ENTRIES_MAX: u32 = 64;
/// Bytes of a map's key, at least one.
pub(crate) const MAP_KEY_BYTES_MAX: u32 = 64;
/// Bytes of a map's value.
pub(crate) const MAP_VALUE_BYTES_MAX: u32 = 1_024;
/// The number of the first body in an event, whose type is 1; the others follow.
pub(crate) const FIRST_BODY: u32 = 10;
/// How many bodies there are.
pub(crate) const BODIES: u32 = 8;
/// The bodies with a session, as bits by their number: user interaction, performance, video.
pub(crate) const BODIES_WITH_SESSION: u32 = 0b111 << FIRST_BODY;
/// The number of an event's session_id.
pub(crate) const SESSION_ID: u32 = 4;
/// METRIC_TYPE_COUNTER.
pub(crate) const COUNTER: u64 = 1;

const fn field(number: u32, name: &'static str, rule: Rule) -> FieldDef {
    FieldDef { number, name, rule, required: false, noted: None }
}

const fn text(number: u32, name: &'static str, max: u32) -> FieldDef {
    field(number, name, Rule::Text { min: 0, max })
}

/// A text that is absent or has something in it.
const fn present(number: u32, name: &'static str, max: u32) -> FieldDef {
    field(number, name, Rule::Text { min: 1, max })
}

/// A number that isn't below 0.
const fn amount(number: u32, name: &'static str) -> FieldDef {
    field(number, name, Rule::Number { min: 0.0, max: f64::MAX })
}

const fn within(number: u32, name: &'static str, max: f64) -> FieldDef {
    field(number, name, Rule::Number { min: 0.0, max })
}

const fn number(at: u32, name: &'static str) -> FieldDef {
    field(at, name, Rule::Number { min: f64::MIN, max: f64::MAX })
}

const fn choice(number: u32, name: &'static str, max: u32) -> FieldDef {
    field(number, name, Rule::Choice { max })
}

const fn id(number: u32, name: &'static str, len: u32) -> FieldDef {
    field(number, name, Rule::Id { len })
}

const fn message(number: u32, name: &'static str, of: &'static MessageDef) -> FieldDef {
    field(number, name, Rule::Message(of))
}

const fn map(number: u32, name: &'static str) -> FieldDef {
    field(number, name, Rule::Map)
}

impl FieldDef {
    const fn required(mut self) -> Self {
        self.required = true;
        if let Rule::Text { max, .. } = self.rule {
            self.rule = Rule::Text { min: 1, max };
        }
        self
    }

    const fn noted(mut self, note: Note) -> Self {
        self.noted = Some(note);
        self
    }
}

macro_rules! messages {
    ($($name:ident: $($field:expr),+;)*) => {
        $(pub(crate) static $name: MessageDef = MessageDef { fields: &[$($field),+] };)*
    };
}

messages! {
    EVENT:
        id(1, "event_id", 16).required().noted(Note::EventId),
        field(2, "timestamp", Rule::Time).required().noted(Note::Timestamp),
        text(3, "platform", 64).required(),
        text(4, "session_id", 128),
        present(5, "user_id", 128),
        choice(6, "event_type", BODIES).required().noted(Note::EventType),
        text(7, "event_name", 128).required(),
        map(8, "context"),
        map(9, "properties"),
        message(10, "user_interaction", &USER_INTERACTION),
        message(11, "performance", &PERFORMANCE),
        message(12, "video", &VIDEO),
        message(13, "application_metric", &APPLICATION_METRIC),
        message(14, "trace_span", &TRACE_SPAN),
        message(15, "log", &LOG),
        message(16, "infrastructure_metric", &INFRASTRUCTURE_METRIC),
        message(17, "custom", &CUSTOM);
    MEASUREMENT:
        text(1, "name", 128).required(),
        number(2, "value").required(),
        text(3, "unit", 32);
    USER_INTERACTION:
        message(1, "device_info", &DEVICE_INFO),
        message(2, "properties", &INTERACTION_PROPERTIES).required(),
        message(3, "context", &INTERACTION_CONTEXT);
    DEVICE_INFO:
        text(1, "type", 64),
        text(2, "os", 64),
        text(3, "version", 64),
        text(4, "manufacturer", 128);
    INTERACTION_PROPERTIES:
        text(1, "screen_name", 256),
        text(2, "element_id", 256),
        text(3, "element_type", 128),
        text(4, "action", 128).required(),
        text(5, "value", 1_024);
    INTERACTION_CONTEXT:
        text(1, "app_version", 64),
        text(2, "network_type", 64),
        text(3, "carrier", 128),
        text(4, "locale", 64),
        text(5, "timezone", 64);
    PERFORMANCE:
        choice(1, "category", 4).required(),
        field(2, "measurements", Rule::List { of: &MEASUREMENT, max: 64 }).required(),
        message(3, "context", &PERFORMANCE_CONTEXT);
    PERFORMANCE_CONTEXT:
        text(1, "session_id", 128),
        text(2, "view_name", 256),
        message(3, "network_info", &NETWORK_INFO);
    NETWORK_INFO:
        text(1, "type", 64),
        within(2, "strength", 1.0);
    VIDEO:
        text(1, "video_id", 256).required(),
        text(2, "player_type", 128),
        choice(3, "event_name", 5).required(),
        message(4, "measurements", &VIDEO_MEASUREMENTS),
        message(5, "quality_metrics", &VIDEO_QUALITY_METRICS),
        message(6, "context", &VIDEO_CONTEXT);
    VIDEO_MEASUREMENTS:
        amount(1, "startup_time"),
        amount(2, "buffer_duration"),
        field(3, "bitrate", Rule::Unsigned { min: 0, max: u64::MAX }),
        text(4, "resolution", 32),
        amount(5, "fps"),
        amount(6, "latency");
    VIDEO_QUALITY_METRICS:
        within(1, "video_quality_score", 100.0),
        within(2, "buffering_ratio", 1.0),
        within(3, "startup_time_score", 100.0);
    VIDEO_CONTEXT:
        text(1, "cdn_provider", 128),
        text(2, "player_version", 64),
        text(3, "drm_type", 64);
    APPLICATION_METRIC:
        text(1, "service", 128).required(),
        text(2, "environment", 64),
        choice(3, "metric_type", 3).required().noted(Note::MetricType),
        text(4, "name", 128).required(),
        number(5, "value").required().noted(Note::MetricValue),
        map(6, "labels"),
        message(7, "host_info", &HOST_INFO);
    HOST_INFO:
        text(1, "hostname", 253),
        field(2, "ip", Rule::Address),
        text(3, "region", 64);
    TRACE_SPAN:
        id(1, "trace_id", 16).required(),
        id(2, "span_id", 8).required(),
        id(3, "parent_span_id", 8),
        text(4, "service", 128).required(),
        text(5, "operation", 256).required(),
        field(6, "start_time", Rule::Time).required().noted(Note::SpanStart),
        field(7, "end_time", Rule::Time).required().noted(Note::SpanEnd),
        amount(8, "duration_ms"),
        choice(9, "status", 2).required(),
        message(10, "attributes", &SPAN_ATTRIBUTES),
        message(11, "resource", &SPAN_RESOURCE);
    SPAN_ATTRIBUTES:
        text(1, "http_method", 32),
        text(2, "http_url", 4_096),
        field(3, "http_status_code", Rule::Unsigned { min: 100, max: 599 }),
        text(4, "db_statement", 8_192),
        text(5, "error_message", 4_096),
        map(15, "other");
    SPAN_RESOURCE:
        text(1, "service_name", 128),
        text(2, "service_version", 64),
        text(3, "host_name", 253);
    LOG:
        text(1, "service", 128).required(),
        choice(2, "level", 5).required(),
        text(3, "message", 16_384).required(),
        text(4, "logger_name", 256),
        text(5, "thread_name", 128),
        text(6, "stack_trace", 32_768),
        message(7, "context", &LOG_CONTEXT),
        map(8, "metadata");
    LOG_CONTEXT:
        text(1, "request_id", 128),
        present(2, "user_id", 128),
        id(3, "trace_id", 16);
    INFRASTRUCTURE_METRIC:
        choice(1, "resource_type", 4).required(),
        text(2, "resource_id", 256).required(),
        text(3, "provider", 64),
        text(4, "region", 64),
        message(5, "measurements", &INFRASTRUCTURE_MEASUREMENTS),
        message(6, "cost_data", &COST_DATA);
    INFRASTRUCTURE_MEASUREMENTS:
        amount(1, "cpu_usage"),
        amount(2, "memory_usage"),
        amount(3, "disk_io"),
        amount(4, "network_io");
    COST_DATA:
        amount(1, "cost_per_hour").required(),
        field(2, "currency", Rule::Currency).required();
    CUSTOM:
        text(1, "schema", 256),
        map(2, "attributes"),
        field(3, "measurements", Rule::List { of: &MEASUREMENT, max: 64 }),
        field(4, "payload", Rule::Blob { max: 65_536 });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Each message of `proto/events.proto` with its fields: number and name.
    fn declared() -> BTreeMap<String, Vec<(u32, String)>> {
        let text = include_str!("../../../../proto/events.proto");
        let mut messages = BTreeMap::new();
        let mut current: Option<(String, Vec<(u32, String)>)> = None;
        for line in text.lines().map(|line| line.split("//").next().unwrap_or_default().trim()) {
            if let Some(name) = line.strip_prefix("message ") {
                current = Some((name.trim_end_matches(" {").to_owned(), Vec::new()));
            } else if line == "}" && current.is_some() {
                let ended = current.take().unwrap();
                messages.entry(ended.0).or_insert(ended.1);
            } else if let (Some((_, fields)), Some((left, right))) = (&mut current, line.split_once(" = ")) {
                let name = left.split(' ').next_back().unwrap();
                let number = right.split([' ', ';']).next().unwrap();
                fields.push((number.parse().unwrap(), name.to_owned()));
            }
            // What follows until the end of Event is its bodies.
            if line == "oneof body {" {
                let (name, mut fields) = current.take().unwrap();
                fields.extend((FIRST_BODY..).zip(BODY_NAMES.map(str::to_owned)));
                messages.insert(name, fields);
                current = None;
            }
        }
        messages
    }

    const BODY_NAMES: [&str; BODIES as usize] = [
        "user_interaction",
        "performance",
        "video",
        "application_metric",
        "trace_span",
        "log",
        "infrastructure_metric",
        "custom",
    ];

    #[test]
    fn the_tables_have_the_numbers_and_names_of_the_schema() {
        let declared = declared();
        for (name, table) in [
            ("Event", &EVENT),
            ("Measurement", &MEASUREMENT),
            ("UserInteraction", &USER_INTERACTION),
            ("DeviceInfo", &DEVICE_INFO),
            ("InteractionProperties", &INTERACTION_PROPERTIES),
            ("InteractionContext", &INTERACTION_CONTEXT),
            ("Performance", &PERFORMANCE),
            ("PerformanceContext", &PERFORMANCE_CONTEXT),
            ("NetworkInfo", &NETWORK_INFO),
            ("Video", &VIDEO),
            ("VideoMeasurements", &VIDEO_MEASUREMENTS),
            ("VideoQualityMetrics", &VIDEO_QUALITY_METRICS),
            ("VideoContext", &VIDEO_CONTEXT),
            ("ApplicationMetric", &APPLICATION_METRIC),
            ("HostInfo", &HOST_INFO),
            ("TraceSpan", &TRACE_SPAN),
            ("SpanAttributes", &SPAN_ATTRIBUTES),
            ("SpanResource", &SPAN_RESOURCE),
            ("Log", &LOG),
            ("LogContext", &LOG_CONTEXT),
            ("InfrastructureMetric", &INFRASTRUCTURE_METRIC),
            ("InfrastructureMeasurements", &INFRASTRUCTURE_MEASUREMENTS),
            ("CostData", &COST_DATA),
            ("CustomEvent", &CUSTOM),
        ] {
            let fields: Vec<_> =
                table.fields.iter().map(|field| (field.number, field.name.to_owned())).collect();
            assert_eq!(fields, declared[name][..fields.len()], "{name}");
            assert!(
                fields.windows(2).all(|pair| pair[0].0 < pair[1].0)
                    && fields.iter().all(|field| field.0 < 32)
            );
        }
    }
}
