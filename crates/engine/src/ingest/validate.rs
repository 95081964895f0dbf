//! Whether an event is one: a walk over its bytes by the plan, without allocation.
//!
//! What is accepted here, every protobuf reader decodes, and to the same values: a field that there is once may not
//! come twice, so that nothing depends on which of the two counts.

use std::net::IpAddr;

use super::cursor::{Cursor, Malformed, Wire};
use super::plan::{Field, FieldId, Plan, ROOT};
use super::schema::{
    BODIES, BODIES_WITH_SESSION, COUNTER, EVENT_BYTES_MAX, FIRST_BODY, MAP_ENTRIES_MAX, MAP_KEY_BYTES_MAX,
    MAP_VALUE_BYTES_MAX, Note, Rule, SESSION_ID,
};
use super::verdict::{Finding, VerdictCode};

/// What is to know of a valid event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Valid {
    pub event_id: [u8; 16],
    /// A privacy rule may change it.
    pub is_private: bool,
}

/// Which timestamps are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// Now, Unix time, nanoseconds.
    pub now_ns: u64,
    pub age_ns_max: u64,
    pub ahead_ns_max: u64,
}

/// Judges the bytes of one event.
pub(crate) fn validate(plan: &Plan, bytes: &[u8], clocks: Clocks) -> Result<Valid, Finding> {
    if bytes.len() > EVENT_BYTES_MAX {
        return Err(Finding { found: bytes.len() as u64, ..Finding::new(VerdictCode::EventTooLarge) });
    }
    let mut walk = Walk { plan, event_id: [0; 16], noted: [0; Note::COUNT], is_private: false };
    let seen = walk.message(ROOT, None, bytes)?;
    walk.check_body(seen)?;
    walk.check_session(seen)?;
    walk.check_clock(clocks)?;
    walk.check_span()?;
    walk.check_counter()?;
    Ok(Valid { event_id: walk.event_id, is_private: walk.is_private })
}

/// Whether prost would decode `bytes` as an event.
pub(crate) fn is_readable(plan: &Plan, bytes: &[u8]) -> bool {
    readable(plan, ROOT, bytes).is_ok()
}

fn readable(plan: &Plan, node: u16, bytes: &[u8]) -> Result<(), Malformed> {
    let node = plan.node(node);
    let mut cursor = Cursor::new(bytes);
    while let Some((number, wire)) = cursor.key()? {
        let Some((_, field)) = plan.lookup(node, number) else {
            cursor.skip(number, wire)?;
            continue;
        };
        if wire != field.wire {
            return Err(Malformed);
        }
        match field.rule {
            Rule::Text { .. } | Rule::Address | Rule::Currency => {
                std::str::from_utf8(cursor.bytes()?).map_err(|_| Malformed)?;
            }
            Rule::Message(_) | Rule::List { .. } => readable(plan, field.child, cursor.bytes()?)?,
            Rule::Map => {
                entry(cursor.bytes()?).map_err(|_| Malformed)?;
            }
            _ => cursor.skip(number, wire)?,
        }
    }
    Ok(())
}

/// Key and value of a map's entry; of two the last, as every reader does.
///
/// # Errors
/// The code of what is wrong: `Malformed` or `InvalidUtf8`.
pub(crate) fn entry(bytes: &[u8]) -> Result<(&str, &str), VerdictCode> {
    let malformed = |Malformed| VerdictCode::Malformed;
    let mut pair = ["", ""];
    let mut cursor = Cursor::new(bytes);
    while let Some((number, wire)) = cursor.key().map_err(malformed)? {
        if let 1 | 2 = number {
            if wire != Wire::Bytes {
                return Err(VerdictCode::Malformed);
            }
            let text = cursor.bytes().map_err(malformed)?;
            pair[number as usize - 1] = std::str::from_utf8(text).map_err(|_| VerdictCode::InvalidUtf8)?;
        } else {
            cursor.skip(number, wire).map_err(malformed)?;
        }
    }
    Ok((pair[0], pair[1]))
}

struct Walk<'p> {
    plan: &'p Plan,
    event_id: [u8; 16],
    noted: [u64; Note::COUNT],
    is_private: bool,
}

impl Walk<'_> {
    /// Walks a message at `at`. Answers with the fields that it has, as bits by their number.
    fn message(&mut self, node: u16, at: Option<FieldId>, bytes: &[u8]) -> Result<u32, Finding> {
        let plan = self.plan;
        let node = plan.node(node);
        let malformed = |Malformed| Finding { field: at, ..Finding::new(VerdictCode::Malformed) };
        let (mut seen, mut defaults) = (0_u32, 0);
        // Of maps and lists, of which no message has more than two.
        let mut items = [(NOWHERE, 0_u32); 2];
        let mut cursor = Cursor::new(bytes);
        while let Some((number, wire)) = cursor.key().map_err(malformed)? {
            let Some((id, field)) = plan.lookup(node, number) else {
                cursor.skip(number, wire).map_err(malformed)?;
                continue;
            };
            if wire != field.wire {
                return Err(Finding::at(VerdictCode::Malformed, id, 0));
            }
            let bit = 1 << number;
            if let Rule::Map | Rule::List { .. } = field.rule {
                let count = count(&mut items, id);
                let max = if let Rule::List { max, .. } = field.rule { max } else { MAP_ENTRIES_MAX };
                if count > max {
                    return Err(Finding::at(VerdictCode::TooManyItems, id, u64::from(count)));
                }
            } else if seen & bit != 0 {
                return Err(Finding::at(VerdictCode::FieldRepeated, id, 0));
            }
            seen |= bit;
            self.is_private |= field.is_private;
            let broken = |Malformed| Finding::at(VerdictCode::Malformed, id, 0);
            match field.wire {
                Wire::Bytes => {
                    let bytes = cursor.bytes().map_err(broken)?;
                    if !self.bytes_field(id, field, bytes)? {
                        defaults |= bit;
                    }
                }
                Wire::Fixed64 => {
                    let bits = cursor.fixed64().map_err(broken)?;
                    if !self.fixed_field(id, field, bits)? {
                        defaults |= bit;
                    }
                }
                _ => {
                    let value = cursor.varint().map_err(broken)?;
                    if !self.varint_field(id, field, value)? {
                        defaults |= bit;
                    }
                }
            }
        }
        let seen = seen & !defaults;
        let missing = node.required & !seen;
        if missing != 0
            && let Some((id, _)) = plan.lookup(node, missing.trailing_zeros())
        {
            return Err(Finding::at(VerdictCode::FieldMissing, id, 0));
        }
        Ok(seen)
    }

    /// False: the field is there, but has its default value, which is the same as being absent.
    #[inline]
    fn bytes_field(&mut self, id: FieldId, field: &Field, bytes: &[u8]) -> Result<bool, Finding> {
        let found = bytes.len() as u64;
        match field.rule {
            Rule::Text { min, max } => {
                if found > u64::from(max) {
                    return Err(Finding::at(VerdictCode::FieldTooLong, id, found));
                }
                // An optional text that is there and empty is as good as absent.
                if field.is_required && found < u64::from(min) {
                    return Err(Finding::at(VerdictCode::FieldMissing, id, found));
                }
                text(id, bytes)?;
                return Ok(!bytes.is_empty());
            }
            Rule::Map => self.map_entry(id, bytes)?,
            Rule::Message(_) | Rule::List { .. } => {
                self.message(field.child, Some(id), bytes)?;
            }
            Rule::Id { len } => {
                if bytes.is_empty() {
                    return Ok(false);
                }
                if found != u64::from(len) || bytes.iter().all(|&byte| byte == 0) {
                    return Err(Finding::at(VerdictCode::InvalidValue, id, found));
                }
                if field.noted == Some(Note::EventId) {
                    self.event_id.copy_from_slice(bytes);
                }
            }
            Rule::Blob { max } => {
                if found > u64::from(max) {
                    return Err(Finding::at(VerdictCode::FieldTooLong, id, found));
                }
            }
            Rule::Address => {
                let address = text(id, bytes)?;
                if !address.is_empty() && address.parse::<IpAddr>().is_err() {
                    return Err(Finding::at(VerdictCode::InvalidValue, id, found));
                }
            }
            Rule::Currency => {
                if bytes.is_empty() {
                    return Ok(false);
                }
                text(id, bytes)?;
                if bytes.len() != 3 || !bytes.iter().all(u8::is_ascii_uppercase) {
                    return Err(Finding::at(VerdictCode::InvalidValue, id, found));
                }
            }
            Rule::Time | Rule::Number { .. } | Rule::Unsigned { .. } | Rule::Choice { .. } => {}
        }
        Ok(true)
    }

    #[inline]
    fn map_entry(&mut self, id: FieldId, bytes: &[u8]) -> Result<(), Finding> {
        let (key, value) = entry(bytes).map_err(|code| Finding::at(code, id, 0))?;
        let (key, value) = (key.len() as u64, value.len() as u64);
        if key == 0 || key > u64::from(MAP_KEY_BYTES_MAX) {
            return Err(Finding::at(VerdictCode::FieldTooLong, id, key));
        }
        if value > u64::from(MAP_VALUE_BYTES_MAX) {
            return Err(Finding::at(VerdictCode::FieldTooLong, id, value));
        }
        Ok(())
    }

    #[inline]
    fn fixed_field(&mut self, id: FieldId, field: &Field, bits: u64) -> Result<bool, Finding> {
        self.note(field, bits);
        if let Rule::Number { min, max } = field.rule {
            let value = f64::from_bits(bits);
            if !value.is_finite() {
                return Err(Finding::at(VerdictCode::NotFinite, id, bits));
            }
            if value < min || value > max {
                return Err(Finding::at(VerdictCode::OutOfRange, id, bits));
            }
            return Ok(true);
        }
        Ok(bits != 0)
    }

    #[inline]
    fn varint_field(&mut self, id: FieldId, field: &Field, value: u64) -> Result<bool, Finding> {
        self.note(field, value);
        match field.rule {
            Rule::Choice { max } if value > u64::from(max) => {
                Err(Finding::at(VerdictCode::InvalidValue, id, value))
            }
            Rule::Choice { .. } => Ok(value != 0),
            Rule::Unsigned { min, max } if value < min || value > max => {
                Err(Finding::at(VerdictCode::OutOfRange, id, value))
            }
            _ => Ok(true),
        }
    }

    #[inline]
    fn note(&mut self, field: &Field, value: u64) {
        if let Some(note) = field.noted {
            self.noted[note as usize] = value;
        }
    }

    fn noted(&self, note: Note) -> u64 {
        self.noted[note as usize]
    }

    fn check_body(&self, seen: u32) -> Result<(), Finding> {
        let bodies = seen & (((1 << BODIES) - 1) << FIRST_BODY);
        let named = 1 << (FIRST_BODY - 1) << self.noted(Note::EventType);
        if bodies == named { Ok(()) } else { Err(Finding::new(VerdictCode::BodyMismatch)) }
    }

    fn check_session(&self, seen: u32) -> Result<(), Finding> {
        if seen & BODIES_WITH_SESSION != 0 && seen & 1 << SESSION_ID == 0 {
            return Err(Finding::at(VerdictCode::FieldMissing, self.plan.session_id, 0));
        }
        Ok(())
    }

    fn check_clock(&self, clocks: Clocks) -> Result<(), Finding> {
        let timestamp = self.noted(Note::Timestamp);
        let (ahead, age) = (timestamp.saturating_sub(clocks.now_ns), clocks.now_ns.saturating_sub(timestamp));
        if ahead > clocks.ahead_ns_max {
            return Err(Finding::at(VerdictCode::ClockAhead, self.plan.timestamp, ahead / 1_000_000));
        }
        if age > clocks.age_ns_max {
            return Err(Finding::at(VerdictCode::TooOld, self.plan.timestamp, age / 1_000_000));
        }
        Ok(())
    }

    fn check_span(&self) -> Result<(), Finding> {
        if self.noted(Note::SpanEnd) < self.noted(Note::SpanStart) {
            return Err(Finding::at(VerdictCode::OutOfRange, self.plan.span_end, 0));
        }
        Ok(())
    }

    fn check_counter(&self) -> Result<(), Finding> {
        let value = self.noted(Note::MetricValue);
        if self.noted(Note::MetricType) == COUNTER && f64::from_bits(value) < 0.0 {
            return Err(Finding::at(VerdictCode::OutOfRange, self.plan.metric_value, value));
        }
        Ok(())
    }
}

/// No field's number.
const NOWHERE: FieldId = FieldId::MAX;

/// Counts an entry of the map or list `id`.
#[inline]
fn count(items: &mut [(FieldId, u32); 2], id: FieldId) -> u32 {
    let place = if items[0].0 == id || items[0].0 == NOWHERE { &mut items[0] } else { &mut items[1] };
    place.0 = id;
    place.1 += 1;
    place.1
}

#[inline]
fn text(id: FieldId, bytes: &[u8]) -> Result<&str, Finding> {
    std::str::from_utf8(bytes).map_err(|_| Finding::at(VerdictCode::InvalidUtf8, id, 0))
}
