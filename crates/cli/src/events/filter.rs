//! Which events are meant.

use std::time::{SystemTime, UNIX_EPOCH};

use tickstream_schema::events::{Event, EventType, StoredBatch};

use super::feed::Batch;

/// The kinds of events, as the command line and JSON name them.
pub static KINDS: &[&str] = tickstream_schema::table::EVENT_TYPE.values;

/// Which events are meant: each condition that is there must hold.
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
}

/// A time of the server's clock, Unix nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub u64);

impl Filter {
    /// Whether events of a batch can be meant.
    pub fn takes_batch(&self, batch: &Batch) -> bool {
        let StoredBatch { receive_time_ns: time, shard, .. } = batch.stored;
        self.since.is_none_or(|since| time >= since.0)
            && self.until.is_none_or(|until| time < until.0)
            && self.shard.is_none_or(|number| number == shard)
            && self.producer.is_none_or(|producer| producer == batch.producer)
    }

    /// Whether an event of such a batch is.
    pub fn takes(&self, event: &Event) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&event.event_type())
    }
}

impl Moment {
    /// `2026-01-31T12:00:00Z`, a prefix of that down to the day, or how long ago: `15min`.
    ///
    /// # Errors
    /// A sentence that says what is accepted.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const ACCEPTED: &str = "write a time as RFC 3339 has it, such as 2026-01-31T12:00:00Z, or how long ago, such as 15min or 2h";
        let time = match humantime::parse_duration(text) {
            Ok(ago) => SystemTime::now().checked_sub(ago),
            Err(_) => {
                let whole = if text.len() == "2026-01-31".len() {
                    format!("{text}T00:00:00Z")
                } else {
                    text.to_owned()
                };
                humantime::parse_rfc3339_weak(&whole).ok()
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
