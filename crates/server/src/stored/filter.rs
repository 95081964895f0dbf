//! Conditions on stored events.

use std::time::{SystemTime, UNIX_EPOCH};

use tickstream_schema::events::{Body, DeadLetter, Event, EventType, StoredBatch};
use tickstream_schema::json::parse_time;
use tickstream_service::pattern::Pattern;

use super::{StoredRecord, event_of};

/// The kinds of events, as the command line and JSON name them.
pub static KINDS: &[&str] = tickstream_schema::table::EVENT_TYPE.values;

/// Conditions on events: each that is there must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Received then or later.
    pub since: Option<Moment>,
    /// Received before.
    pub until: Option<Moment>,
    /// Taken by this shard.
    pub shard: Option<u32>,
    /// Of one of these kinds; none: of any.
    pub kinds: Vec<EventType>,
    /// Published by this producer.
    pub producer: Option<[u8; 16]>,
    /// About one of these users; none: about anyone.
    pub users: Vec<Pattern>,
    /// With one of these names; none: with any.
    pub names: Vec<Pattern>,
    /// Of one of these services; none: of any, and of none.
    pub services: Vec<Pattern>,
}

/// A time of the server's clock, Unix nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub u64);

impl Filter {
    /// Tells records that can have events that are meant.
    pub fn takes_record(&self, record: &StoredRecord<'_>) -> bool {
        let StoredBatch { receive_time_ns: time, shard, .. } = *record.stored;
        self.since.is_none_or(|since| time >= since.0)
            && self.until.is_none_or(|until| time < until.0)
            && self.shard.is_none_or(|number| number == shard)
            && self.producer.is_none_or(|producer| producer == record.producer)
    }

    /// Tells events of such a batch that are meant.
    pub fn takes(&self, event: &Event) -> bool {
        let matches = |patterns: &[Pattern], text: Option<&str>| {
            patterns.is_empty()
                || text.is_some_and(|text| patterns.iter().any(|pattern| pattern.matches(text)))
        };
        (self.kinds.is_empty() || self.kinds.contains(&event.event_type()))
            && matches(&self.users, event.user_id.as_deref())
            && matches(&self.names, Some(&event.event_name))
            && matches(&self.services, service(event))
    }

    /// Tells dead letters whose event is meant. One that can't be read is meant where every event is.
    pub fn takes_letter(&self, letter: &DeadLetter) -> bool {
        self.takes_any() || event_of(letter).is_some_and(|event| self.takes(&event))
    }

    /// True if every event of such a batch is meant.
    pub fn takes_any(&self) -> bool {
        let Self { kinds, users, names, services, .. } = self;
        kinds.is_empty() && users.is_empty() && names.is_empty() && services.is_empty()
    }
}

/// The service that an event is about, where its kind has one.
pub fn service(event: &Event) -> Option<&str> {
    match event.body.as_ref()? {
        Body::ApplicationMetric(metric) => Some(&metric.service),
        Body::TraceSpan(span) => Some(&span.service),
        Body::Log(log) => Some(&log.service),
        Body::MetricSeries(series) => Some(&series.service),
        Body::Incident(incident) => Some(&incident.service),
        Body::Deployment(deployment) => Some(&deployment.service),
        Body::Access(access) => Some(&access.service),
        _ => None,
    }
}

/// The name of an event's kind.
pub fn kind_name(event: &Event) -> &'static str {
    let place = usize::try_from(event.event_type).ok().and_then(|number| number.checked_sub(1));
    place.and_then(|place| KINDS.get(place)).copied().unwrap_or("unknown")
}

impl Moment {
    /// RFC 3339 with any offset and up to nine digits of a second, `2026-01-31T12:00:00+01:00`; without a zone, UTC; a day
    /// alone, its begin; or how long ago: `15min`.
    ///
    /// # Errors
    /// A sentence that says what is accepted.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const ACCEPTED: &str = "write a time as RFC 3339 has it, such as 2026-01-31T12:00:00Z or 2026-01-31T13:00:00.5+01:00, \
                                between 1970 and 2554, or how long ago, such as 15min or 2h";
        let time = match humantime::parse_duration(text) {
            Ok(ago) => SystemTime::now().checked_sub(ago),
            Err(_) => {
                let is_day = text.len() == "2026-01-31".len();
                let whole = if is_day { format!("{text}T00:00:00Z") } else { text.to_owned() };
                let time = parse_time(&whole).or_else(|| parse_time(&format!("{whole}Z")));
                return time.map(Self).ok_or(ACCEPTED);
            }
        };
        let since_epoch = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).ok_or(ACCEPTED)?;
        u64::try_from(since_epoch.as_nanos()).map(Self).map_err(|_| ACCEPTED)
    }
}

/// One of [`KINDS`] by its name.
///
/// # Errors
/// The names.
pub fn kind(text: &str) -> Result<EventType, String> {
    let number = KINDS.iter().position(|name| *name == text).map(|place| place as i32 + 1);
    let found = number.and_then(|number| EventType::try_from(number).ok());
    found.ok_or_else(|| format!("accepted: {}", KINDS.join(", ")))
}

/// A producer's id by its 32 hexadecimal digits; hyphens, as in a UUID, are passed over.
///
/// # Errors
/// A sentence that says so.
pub fn producer(text: &str) -> Result<[u8; 16], &'static str> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|&char| char != '-')
        .map(|char| char.to_digit(16))
        .collect::<Option<_>>()
        .unwrap_or_default();
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect();
    match digits.len() {
        32 => Ok(bytes.try_into().expect("32 digits are 16 bytes")),
        _ => Err("a producer's id has 32 hexadecimal digits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_how_long_ago() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(Moment::parse(text).ok().map(|moment| moment.0), expected, "{text}");
        };
        check("1970-01-01T00:00:01Z", Some(1_000_000_000));
        check("1970-01-01T00:00:01.000000002Z", Some(1_000_000_002));
        check("1970-01-02", Some(86_400_000_000_000));
        check("1970-01-01T01:00:01+01:00", Some(1_000_000_000));
        check("1969-12-31T19:00:01.5-05:00", Some(1_500_000_000));
        check("1970-01-01t00:00:01.000000002z", Some(1_000_000_002));
        check("1970-01-01 00:00:01Z", Some(1_000_000_000));
        check("1970-01-01T00:00:01", Some(1_000_000_000));
        check("1970-01-01 00:00:01.25", Some(1_250_000_000));
        check("1970-01-01T00:00:01-00:00", Some(1_000_000_000));
        check("2016-12-31T23:59:60Z", Some(1_483_228_800_000_000_000));
        check("1970-01-01T00:00:00+00:01", None);
        check("2026-02-30T00:00:00Z", None);
        check("9999-12-31", None);
        check("yesterday", None);
        check("", None);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let ago = now - Moment::parse("2h").unwrap().0;
        assert!((7_190_000_000_000..=7_200_000_000_000).contains(&ago), "{ago}");
    }

    #[test]
    fn producers_are_32_digits() {
        let id: [u8; 16] = std::array::from_fn(|at| at as u8 * 17);
        assert_eq!(producer("00112233445566778899aabbccddeeff"), Ok(id));
        assert_eq!(producer("00112233-4455-6677-8899-AABBCCDDEEFF"), Ok(id));
        for text in ["", "0011", "zz112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff0"] {
            assert!(producer(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_kind_has_a_name() {
        for name in KINDS {
            let found = kind(name).unwrap();
            assert_eq!(found.as_str_name(), format!("EVENT_TYPE_{}", name.to_uppercase()));
        }
        assert_eq!(KINDS.len(), 22);
        assert!(kind("EVENT_TYPE_LOG").unwrap_err().contains("user_interaction, "));
    }
}
