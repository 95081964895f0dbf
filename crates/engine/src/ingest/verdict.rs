//! Why an event was not accepted.

use super::plan::{FieldId, Plan};
use super::schema::{EVENT_BYTES_MAX, MAP_ENTRIES_MAX, MAP_KEY_BYTES_MAX, MAP_VALUE_BYTES_MAX, Rule};

/// Why an event was not accepted, as `Rejected.code` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VerdictCode {
    /// The event's bytes are no protobuf message of its type.
    Malformed,
    /// A text isn't UTF-8.
    InvalidUtf8,
    /// The event has too many bytes.
    EventTooLarge,
    /// A required field is absent or has its default value, or a text that may not be empty is.
    FieldMissing,
    /// A text, a key or a value of a map, or bytes are too long.
    FieldTooLong,
    /// A field that there is once is there twice.
    FieldRepeated,
    /// A map or a list has too many entries.
    TooManyItems,
    /// A number is out of its range.
    OutOfRange,
    /// A number is infinite or none.
    NotFinite,
    /// An id has the wrong length or is zero; an enum, an address or a currency isn't one.
    InvalidValue,
    /// There is no body, there are two, or it isn't the one that the type names.
    BodyMismatch,
    /// The timestamp is too far ahead of the server's clock.
    ClockAhead,
    /// The timestamp is too long ago.
    TooOld,
    /// The client's quota of events is used up. Retryable.
    RateLimited,
    /// The server can't store events as fast as they come. Retryable.
    ServerBusy,
    /// The batch's record is full. Retryable, in another batch.
    BatchFull,
    /// The disk is full. Retryable.
    StorageFull,
    /// The disk takes no writes. Retryable.
    StorageFailed,
}

impl VerdictCode {
    /// Every code.
    pub const ALL: [Self; 18] = [
        Self::Malformed,
        Self::InvalidUtf8,
        Self::EventTooLarge,
        Self::FieldMissing,
        Self::FieldTooLong,
        Self::FieldRepeated,
        Self::TooManyItems,
        Self::OutOfRange,
        Self::NotFinite,
        Self::InvalidValue,
        Self::BodyMismatch,
        Self::ClockAhead,
        Self::TooOld,
        Self::RateLimited,
        Self::ServerBusy,
        Self::BatchFull,
        Self::StorageFull,
        Self::StorageFailed,
    ];
    /// Bytes of the longest code.
    pub(crate) const BYTES_MAX: usize = 16;

    /// The code as it stands in a verdict.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "MALFORMED",
            Self::InvalidUtf8 => "INVALID_UTF8",
            Self::EventTooLarge => "EVENT_TOO_LARGE",
            Self::FieldMissing => "FIELD_MISSING",
            Self::FieldTooLong => "FIELD_TOO_LONG",
            Self::FieldRepeated => "FIELD_REPEATED",
            Self::TooManyItems => "TOO_MANY_ITEMS",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::NotFinite => "NOT_FINITE",
            Self::InvalidValue => "INVALID_VALUE",
            Self::BodyMismatch => "BODY_MISMATCH",
            Self::ClockAhead => "CLOCK_AHEAD",
            Self::TooOld => "TOO_OLD",
            Self::RateLimited => "RATE_LIMITED",
            Self::ServerBusy => "SERVER_BUSY",
            Self::BatchFull => "BATCH_FULL",
            Self::StorageFull => "STORAGE_FULL",
            Self::StorageFailed => "STORAGE_FAILED",
        }
    }

    /// Whether the same event, sent again as it is, may get another answer because time has passed. Nobody is told to
    /// try, but who has missed the answer does.
    pub(crate) const fn depends_on_time(self) -> bool {
        matches!(self, Self::ClockAhead | Self::TooOld)
    }

    /// Whether the same event may be accepted later.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::ServerBusy | Self::BatchFull | Self::StorageFull | Self::StorageFailed
        )
    }
}

/// What is wrong with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub code: VerdictCode,
    /// Where; `None`: in the event as a whole.
    pub field: Option<FieldId>,
    /// What was found: bytes, entries, milliseconds, an enum's number, the bits of a double.
    pub found: u64,
}

impl Finding {
    pub fn new(code: VerdictCode) -> Self {
        Self { code, field: None, found: 0 }
    }

    pub fn at(code: VerdictCode, field: FieldId, found: u64) -> Self {
        Self { code, field: Some(field), found }
    }

    /// For people: the field, what was found there, and the rule.
    pub fn message(&self, plan: &Plan, age_ms_max: u64, ahead_ms_max: u64) -> String {
        let path = self.field.map_or("the event", |field| plan.path(field));
        let found = self.found;
        match self.code {
            VerdictCode::Malformed => format!("{path}: no protobuf message of its type"),
            VerdictCode::InvalidUtf8 => format!("{path}: not UTF-8"),
            VerdictCode::EventTooLarge => {
                format!("the event has {found} bytes, at most {EVENT_BYTES_MAX} are allowed")
            }
            VerdictCode::FieldMissing => format!("{path}: required"),
            VerdictCode::FieldTooLong => match self.field.map(|field| plan.rule(field)) {
                Some(Rule::Map) => format!(
                    "{path}: a key or value of {found} bytes; keys have 1 to {MAP_KEY_BYTES_MAX} and values at most \
                     {MAP_VALUE_BYTES_MAX}"
                ),
                Some(Rule::Text { max, .. } | Rule::Blob { max }) => {
                    format!("{path}: {found} bytes, at most {max} are allowed")
                }
                _ => format!("{path}: {found} bytes"),
            },
            VerdictCode::FieldRepeated => format!("{path}: there may be one, there are more"),
            VerdictCode::TooManyItems => match self.field.map(|field| plan.rule(field)) {
                Some(Rule::List { max, .. }) => format!("{path}: more than {max}"),
                _ => format!("{path}: more than {MAP_ENTRIES_MAX} entries"),
            },
            VerdictCode::OutOfRange => match self.field.map(|field| plan.rule(field)) {
                Some(Rule::Number { min: f64::MIN, .. }) => {
                    format!("{path}: {} is below 0, which nobody adds to a counter", f64::from_bits(found))
                }
                Some(Rule::Number { min, max }) if max == f64::MAX => {
                    format!("{path}: {} is below {min}", f64::from_bits(found))
                }
                Some(Rule::Number { min, max }) => {
                    format!("{path}: {} isn't within {min} and {max}", f64::from_bits(found))
                }
                Some(Rule::Unsigned { min, max }) => format!("{path}: {found} isn't within {min} and {max}"),
                _ => format!("{path}: before the start of the span"),
            },
            VerdictCode::NotFinite => format!("{path}: not a finite number"),
            VerdictCode::InvalidValue => match self.field.map(|field| plan.rule(field)) {
                Some(Rule::Id { len }) => format!("{path}: {len} bytes that aren't all zero are required"),
                Some(Rule::Choice { max }) => {
                    format!("{path}: {} is no value of this enum, which has 1 to {max}", found as i64)
                }
                Some(Rule::Address) => format!("{path}: not an IPv4 or IPv6 address"),
                Some(Rule::Currency) => format!("{path}: not three capital dead_letters (ISO 4217)"),
                _ => format!("{path}: invalid"),
            },
            VerdictCode::BodyMismatch => {
                "body: there must be one, and the one that event_type names".to_owned()
            }
            VerdictCode::ClockAhead => {
                format!("{path}: {found} ms ahead of the server's clock, at most {ahead_ms_max} are allowed")
            }
            VerdictCode::TooOld => format!("{path}: {found} ms ago, at most {age_ms_max} are allowed"),
            VerdictCode::RateLimited => "the quota of events is used up".to_owned(),
            VerdictCode::ServerBusy => "the server can't store events as fast as they come".to_owned(),
            VerdictCode::BatchFull => {
                "the batch takes too much room in storage; send a smaller one".to_owned()
            }
            VerdictCode::StorageFull => "the server's disk is full".to_owned(),
            VerdictCode::StorageFailed => "the server's disk takes no writes".to_owned(),
        }
    }
}

/// The verdict on one event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub index: u32,
    pub finding: Finding,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_short_and_each_is_its_own() {
        let mut names = VerdictCode::ALL.map(VerdictCode::as_str);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(names.iter().all(|name| name.len() <= VerdictCode::BYTES_MAX));
        assert!(VerdictCode::ALL.iter().enumerate().all(|(index, code)| *code as usize == index));
    }
}
