//! Rejections: the closed list of reasons for which an event isn't accepted.

use crate::plan::{FieldId, Plan};
use crate::table::{
    EVENT_BYTES_MAX, MAP_ENTRIES_MAX, MAP_KEY_BYTES_MAX, MAP_VALUE_BYTES_MAX, Rule, TYPED_ENTRIES_MAX,
    TYPED_KEY_BYTES_MAX, VALUE_BYTES_MAX, VALUE_DEPTH_MAX, VALUE_LIST_MAX,
};

/// The reason for which an event isn't accepted, as `Rejected.code` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectionCode {
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

impl RejectionCode {
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
    pub const BYTES_MAX: usize = 16;

    /// The code as it stands in `Rejected.code`.
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

    /// True if the same event, sent again as it is, may get another answer because time has passed. No client is told
    /// to try, but one that missed the answer does.
    pub const fn depends_on_time(self) -> bool {
        matches!(self, Self::ClockAhead | Self::TooOld)
    }

    /// True if the same event may be accepted later.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::ServerBusy | Self::BatchFull | Self::StorageFull | Self::StorageFailed
        )
    }
}

/// The problem of an event that isn't accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The kind of problem.
    pub code: RejectionCode,
    /// The field with the problem; `None`: the event as a whole.
    pub field: Option<FieldId>,
    /// The size or value that was found: bytes, entries, milliseconds, an enum's number, the bits of a double.
    pub found: u64,
}

impl Rejection {
    /// A problem of the event as a whole.
    pub fn new(code: RejectionCode) -> Self {
        Self { code, field: None, found: 0 }
    }

    /// A problem of a field.
    pub fn at(code: RejectionCode, field: FieldId, found: u64) -> Self {
        Self { code, field: Some(field), found }
    }

    /// The message for people: the field, what was found there, and the rule.
    pub fn message(&self, plan: &Plan, age_ms_max: u64, ahead_ms_max: u64) -> String {
        let path = self.field.map_or("the event", |field| plan.path(field));
        let found = self.found;
        match self.code {
            RejectionCode::Malformed => format!("{path}: no protobuf message of its type"),
            RejectionCode::InvalidUtf8 => format!("{path}: not UTF-8"),
            RejectionCode::EventTooLarge => {
                format!("the event has {found} bytes, at most {EVENT_BYTES_MAX} are allowed")
            }
            RejectionCode::FieldMissing => format!("{path}: required"),
            RejectionCode::FieldTooLong => match self.field.map(|field| plan.rule(field)) {
                Some(Rule::Map) => format!(
                    "{path}: a key or value of {found} bytes; keys have 1 to {MAP_KEY_BYTES_MAX} and values at most \
                     {MAP_VALUE_BYTES_MAX}"
                ),
                Some(Rule::TypedMap | Rule::Value) => format!(
                    "{path}: a key, text or bytes of {found} bytes; keys have 1 to {TYPED_KEY_BYTES_MAX}, texts and bytes at \
                     most {VALUE_BYTES_MAX}"
                ),
                Some(Rule::Text { max, .. } | Rule::Texts { max, .. } | Rule::Blob { max }) => {
                    format!("{path}: {found} bytes, at most {max} are allowed")
                }
                _ => format!("{path}: {found} bytes"),
            },
            RejectionCode::FieldRepeated => match self.field.map(|field| plan.rule(field)) {
                Some(Rule::TypedMap) => format!("{path}: a key or a value comes twice"),
                _ => format!("{path}: there may be one, there are more"),
            },
            RejectionCode::TooManyItems => match self.field.map(|field| plan.rule(field)) {
                Some(
                    Rule::List { max, .. }
                    | Rule::Texts { items: max, .. }
                    | Rule::Numbers { items: max, .. }
                    | Rule::Counts { items: max },
                ) => format!("{path}: more than {max}"),
                Some(Rule::TypedMap | Rule::Value) => format!(
                    "{path}: {found} entries; maps have at most {TYPED_ENTRIES_MAX}, lists in them {VALUE_LIST_MAX}"
                ),
                _ => format!("{path}: more than {MAP_ENTRIES_MAX} entries"),
            },
            RejectionCode::OutOfRange => match self.field.map(|field| plan.rule(field)) {
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
                Some(Rule::Signed { min, max }) => {
                    format!("{path}: {} isn't within {min} and {max}", found as i64)
                }
                _ => format!("{path}: before the start"),
            },
            RejectionCode::NotFinite => format!("{path}: not a finite number"),
            RejectionCode::InvalidValue => match self.field.map(|field| plan.rule(field)) {
                Some(Rule::Id { len, .. }) => {
                    format!("{path}: {len} bytes that aren't all zero are required")
                }
                Some(Rule::Choice(of)) => {
                    let max = of.values.len();
                    format!("{path}: {} is no value of this enum, which has 1 to {max}", found as i64)
                }
                Some(Rule::Address) => format!("{path}: not an IPv4 or IPv6 address"),
                Some(Rule::Currency) => format!("{path}: not three capital letters (ISO 4217)"),
                Some(Rule::TypedMap | Rule::Value) => {
                    format!("{path}: lists and maps {found} deep, at most {VALUE_DEPTH_MAX} are allowed")
                }
                _ => format!("{path}: invalid"),
            },
            RejectionCode::BodyMismatch => {
                "body: there must be one, and the one that event_type names".to_owned()
            }
            RejectionCode::ClockAhead => {
                format!("{path}: {found} ms ahead of the server's clock, at most {ahead_ms_max} are allowed")
            }
            RejectionCode::TooOld => format!("{path}: {found} ms ago, at most {age_ms_max} are allowed"),
            RejectionCode::RateLimited => "the quota of events is used up".to_owned(),
            RejectionCode::ServerBusy => "the server can't store events as fast as they come".to_owned(),
            RejectionCode::BatchFull => {
                "the batch takes too much room in storage; send a smaller one".to_owned()
            }
            RejectionCode::StorageFull => "the server's disk is full".to_owned(),
            RejectionCode::StorageFailed => "the server's disk takes no writes".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_short_and_each_is_its_own() {
        let mut names = RejectionCode::ALL.map(RejectionCode::as_str);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(names.iter().all(|name| name.len() <= RejectionCode::BYTES_MAX));
        assert!(RejectionCode::ALL.iter().enumerate().all(|(index, code)| *code as usize == index));
    }
}
