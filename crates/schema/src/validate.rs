//! Validation of an event: a walk over its bytes by the plan, without allocation.
//!
//! Every protobuf reader decodes the events that are accepted here, and to the same values: a field that there is once may not
//! come twice, so that nothing depends on which of the two counts.

use std::net::IpAddr;

use crate::cursor::{Cursor, Malformed, Wire};
use crate::plan::{COUNTERS, Field, FieldId, INTERVAL_ENDS, Node, Note, Plan, ROOT};
use crate::rejection::{Rejection, RejectionCode};
use crate::table::{
    BODIES, EVENT, EVENT_BYTES_MAX, FIRST_BODY, MAP_ENTRIES_MAX, MAP_KEY_BYTES_MAX, MAP_VALUE_BYTES_MAX, Rule,
};
use crate::value;

/// METRIC_TYPE_COUNTER.
const COUNTER: u64 = 1;
/// The number of an event's session_id.
const SESSION_ID: u32 = 4;

/// Facts of a valid event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Valid {
    /// Its id.
    pub event_id: [u8; 16],
    /// A privacy rule may change it.
    pub is_private: bool,
}

/// The clock, and how far timestamps may be from it.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Now, Unix time, nanoseconds.
    pub now_ns: u64,
    /// Greatest age, nanoseconds.
    pub age_ns_max: u64,
    /// Greatest lead, nanoseconds.
    pub ahead_ns_max: u64,
}

/// Validates the bytes of one event.
///
/// # Errors
/// The first problem that is found.
pub fn validate(plan: &Plan, bytes: &[u8], clocks: Clocks) -> Result<Valid, Rejection> {
    if bytes.len() > EVENT_BYTES_MAX {
        return Err(Rejection { found: bytes.len() as u64, ..Rejection::new(RejectionCode::EventTooLarge) });
    }
    let mut walk = Walk { plan, event_id: [0; 16], noted: [0; Note::COUNT], is_private: false };
    let seen = walk.message(ROOT, None, bytes)?;
    walk.check_body(seen)?;
    walk.check_session(seen)?;
    walk.check_clock(clocks)?;
    walk.check_interval(seen)?;
    walk.check_counter()?;
    Ok(Valid { event_id: walk.event_id, is_private: walk.is_private })
}

/// True if every reader takes `bytes` as an event, so that privacy rules can be applied to it, valid or not.
pub fn is_readable(plan: &Plan, bytes: &[u8]) -> bool {
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
        if field.is_packed() {
            packed(&field.rule, &mut cursor, wire).map_err(|_| Malformed)?;
            continue;
        }
        if wire != field.wire {
            return Err(Malformed);
        }
        match field.rule {
            Rule::Text { .. } | Rule::Texts { .. } | Rule::Address | Rule::Currency => {
                if !is_utf8(cursor.bytes()?) {
                    return Err(Malformed);
                }
            }
            Rule::Message(_) | Rule::List { .. } => readable(plan, field.child, cursor.bytes()?)?,
            Rule::Map => {
                entry(cursor.bytes()?).map_err(|_| Malformed)?;
            }
            Rule::TypedMap if !value::entry_is_readable(cursor.bytes()?, 0) => return Err(Malformed),
            Rule::Value if !value::is_readable(cursor.bytes()?, 0) => return Err(Malformed),
            Rule::TypedMap | Rule::Value => {}
            _ => cursor.skip(number, wire)?,
        }
    }
    Ok(())
}

/// Key and value of a map's entry, both UTF-8; of two the last, as every reader does.
///
/// # Errors
/// The code of what is wrong: `Malformed` or `InvalidUtf8`.
pub(crate) fn entry(bytes: &[u8]) -> Result<(&[u8], &[u8]), RejectionCode> {
    let malformed = |Malformed| RejectionCode::Malformed;
    let mut pair = [&[][..]; 2];
    let mut cursor = Cursor::new(bytes);
    while let Some((number, wire)) = cursor.key().map_err(malformed)? {
        if let 1 | 2 = number {
            if wire != Wire::Bytes {
                return Err(RejectionCode::Malformed);
            }
            let text = cursor.bytes().map_err(malformed)?;
            if !is_utf8(text) {
                return Err(RejectionCode::InvalidUtf8);
            }
            pair[number as usize - 1] = text;
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
    fn message(&mut self, node: u16, at: Option<FieldId>, bytes: &[u8]) -> Result<u64, Rejection> {
        let plan = self.plan;
        let node = plan.node(node);
        let malformed = |Malformed| Rejection { field: at, ..Rejection::new(RejectionCode::Malformed) };
        let (mut seen, mut defaults) = (0_u64, 0);
        // Entries of each map and list.
        let mut items = [0_u32; COUNTERS];
        let mut cursor = Cursor::new(bytes);
        while let Some((number, wire)) = cursor.key().map_err(malformed)? {
            let Some((id, field)) = plan.lookup(node, number) else {
                cursor.skip(number, wire).map_err(malformed)?;
                continue;
            };
            if wire != field.wire {
                self.packed_field(id, field, &mut cursor, wire, &mut items)?;
                seen |= 1 << number;
                continue;
            }
            let bit = 1 << number;
            if field.entries_max != 0 {
                let count = &mut items[usize::from(field.counter)];
                *count += 1;
                let count = *count;
                if count > field.entries_max {
                    return Err(Rejection::at(RejectionCode::TooManyItems, id, u64::from(count)));
                }
            } else if seen & bit != 0 {
                return Err(Rejection::at(RejectionCode::FieldRepeated, id, 0));
            }
            seen |= bit;
            self.is_private |= field.is_private;
            let broken = |Malformed| Rejection::at(RejectionCode::Malformed, id, 0);
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
        if missing != 0 {
            self.check_missing(node, missing, seen)?;
        }
        if seen & node.twins != 0 {
            self.check_twins(node, seen & node.twins, bytes)?;
        }
        Ok(seen)
    }

    /// Takes entries of a list of numbers, which may come packed or one by one. No other field has a layout but its own.
    #[inline(never)]
    fn packed_field(
        &mut self,
        id: FieldId,
        field: &Field,
        cursor: &mut Cursor<'_>,
        wire: Wire,
        items: &mut [u32; COUNTERS],
    ) -> Result<(), Rejection> {
        let broken = |(code, found)| Rejection::at(code, id, found);
        let (Rule::Numbers { items: max, .. } | Rule::Counts { items: max }) = field.rule else {
            return Err(broken((RejectionCode::Malformed, 0)));
        };
        self.is_private |= field.is_private;
        let count = &mut items[usize::from(field.counter)];
        *count = count.saturating_add(packed(&field.rule, cursor, wire).map_err(broken)?);
        if *count > max {
            return Err(broken((RejectionCode::TooManyItems, u64::from(*count))));
        }
        Ok(())
    }

    /// A key is in a map of texts or in the map of Values that completes it, not in both.
    #[inline(never)]
    fn check_twins(&self, node: &Node, mut twins: u64, bytes: &[u8]) -> Result<(), Rejection> {
        while twins != 0 {
            let number = twins.trailing_zeros();
            let Some((id, field)) = self.plan.lookup(node, number) else { break };
            let mut texts = [&[][..]; MAP_ENTRIES_MAX as usize];
            let mut count = 0;
            keys(bytes, field.rest.typed_of.unwrap_or_default(), |key| {
                texts[count] = key;
                count += 1;
                false
            });
            texts[..count].sort_unstable();
            if keys(bytes, number, |key| texts[..count].binary_search(&key).is_ok()) {
                return Err(Rejection::at(RejectionCode::FieldRepeated, id, 0));
            }
            twins &= twins - 1;
        }
        Ok(())
    }

    /// Of the required fields that are missing, each has another in its stead.
    fn check_missing(&self, node: &Node, mut missing: u64, seen: u64) -> Result<(), Rejection> {
        while missing != 0 {
            let number = missing.trailing_zeros();
            let Some((id, field)) = self.plan.lookup(node, number) else { break };
            if field.rest.required_unless.is_none_or(|other| seen & 1 << other == 0) {
                return Err(Rejection::at(RejectionCode::FieldMissing, id, 0));
            }
            missing &= missing - 1;
        }
        Ok(())
    }

    /// False: the field is there, but has its default value, which is the same as being absent.
    #[inline]
    fn bytes_field(&mut self, id: FieldId, field: &Field, bytes: &[u8]) -> Result<bool, Rejection> {
        let found = bytes.len() as u64;
        match field.rule {
            Rule::Text { min, max } => {
                if found > u64::from(max) {
                    return Err(Rejection::at(RejectionCode::FieldTooLong, id, found));
                }
                // An optional text that is there and empty is as good as absent.
                if field.is_required && found < u64::from(min) {
                    return Err(Rejection::at(RejectionCode::FieldMissing, id, found));
                }
                check_text(id, bytes)?;
                return Ok(!bytes.is_empty());
            }
            Rule::Map => map_entry(id, bytes)?,
            Rule::Message(_) | Rule::List { .. } => {
                self.message(field.child, Some(id), bytes)?;
            }
            Rule::Id { len, .. } => {
                if bytes.is_empty() {
                    return Ok(false);
                }
                if found != u64::from(len) || bytes.iter().all(|&byte| byte == 0) {
                    return Err(Rejection::at(RejectionCode::InvalidValue, id, found));
                }
                if field.noted == Some(Note::EventId) {
                    self.event_id.copy_from_slice(bytes);
                }
            }
            Rule::Blob { max } => {
                if found > u64::from(max) {
                    return Err(Rejection::at(RejectionCode::FieldTooLong, id, found));
                }
            }
            Rule::Address => {
                let address = text(id, bytes)?;
                if !address.is_empty() && address.parse::<IpAddr>().is_err() {
                    return Err(Rejection::at(RejectionCode::InvalidValue, id, found));
                }
            }
            Rule::Currency => {
                if bytes.is_empty() {
                    return Ok(false);
                }
                check_text(id, bytes)?;
                if bytes.len() != 3 || !bytes.iter().all(u8::is_ascii_uppercase) {
                    return Err(Rejection::at(RejectionCode::InvalidValue, id, found));
                }
            }
            Rule::Texts { max, .. } => {
                if found > u64::from(max) {
                    return Err(Rejection::at(RejectionCode::FieldTooLong, id, found));
                }
                check_text(id, bytes)?;
            }
            Rule::TypedMap => {
                value::check_entry(bytes, 0).map_err(|(code, found)| Rejection::at(code, id, found))?;
            }
            Rule::Value => {
                value::check(bytes, 0).map_err(|(code, found)| Rejection::at(code, id, found))?;
            }
            Rule::Time
            | Rule::Number { .. }
            | Rule::AnyNumber
            | Rule::Unsigned { .. }
            | Rule::Signed { .. }
            | Rule::Flag
            | Rule::Numbers { .. }
            | Rule::Counts { .. }
            | Rule::Choice(_) => {}
        }
        Ok(true)
    }

    #[inline]
    fn fixed_field(&mut self, id: FieldId, field: &Field, bits: u64) -> Result<bool, Rejection> {
        self.note(field, bits);
        if let Rule::Number { min, max } = field.rule {
            let value = f64::from_bits(bits);
            if !value.is_finite() {
                return Err(Rejection::at(RejectionCode::NotFinite, id, bits));
            }
            if value < min || value > max {
                return Err(Rejection::at(RejectionCode::OutOfRange, id, bits));
            }
            return Ok(true);
        }
        // A number that may be anything is there; a time that is 0 is absent.
        Ok(bits != 0 || matches!(field.rule, Rule::AnyNumber))
    }

    #[inline]
    fn varint_field(&mut self, id: FieldId, field: &Field, value: u64) -> Result<bool, Rejection> {
        self.note(field, value);
        match field.rule {
            Rule::Choice(of) if value > of.values.len() as u64 => {
                Err(Rejection::at(RejectionCode::InvalidValue, id, value))
            }
            Rule::Choice(_) => Ok(value != 0),
            Rule::Unsigned { min, max } if value < min || value > max => {
                Err(Rejection::at(RejectionCode::OutOfRange, id, value))
            }
            Rule::Signed { min, max } if !(min..=max).contains(&zigzag(value)) => {
                Err(Rejection::at(RejectionCode::OutOfRange, id, zigzag(value) as u64))
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

    fn check_body(&self, seen: u64) -> Result<(), Rejection> {
        let bodies = seen & (((1 << BODIES) - 1) << FIRST_BODY);
        let named = 1_u64 << (FIRST_BODY - 1) << self.noted(Note::EventType);
        if bodies == named { Ok(()) } else { Err(Rejection::new(RejectionCode::BodyMismatch)) }
    }

    fn check_session(&self, seen: u64) -> Result<(), Rejection> {
        if seen & self.plan.bodies_with_session != 0 && seen & 1 << SESSION_ID == 0 {
            return Err(Rejection::at(RejectionCode::FieldMissing, self.plan.session_id, 0));
        }
        Ok(())
    }

    fn check_clock(&self, clocks: Clocks) -> Result<(), Rejection> {
        let timestamp = self.noted(Note::Timestamp);
        let (ahead, age) = (timestamp.saturating_sub(clocks.now_ns), clocks.now_ns.saturating_sub(timestamp));
        if ahead > clocks.ahead_ns_max {
            return Err(Rejection::at(RejectionCode::ClockAhead, self.plan.timestamp, ahead / 1_000_000));
        }
        if age > clocks.age_ns_max {
            return Err(Rejection::at(RejectionCode::TooOld, self.plan.timestamp, age / 1_000_000));
        }
        Ok(())
    }

    fn check_interval(&self, seen: u64) -> Result<(), Rejection> {
        if self.noted(Note::IntervalEnd) < self.noted(Note::IntervalStart) {
            return Err(self.bad_interval(seen));
        }
        Ok(())
    }

    #[cold]
    fn bad_interval(&self, seen: u64) -> Rejection {
        let body =
            EVENT.fields.iter().find(|field| field.number >= FIRST_BODY && seen & 1 << field.number != 0);
        let is_in_body = |path: &&&str| body.is_some_and(|body| path.starts_with(body.name));
        let end = INTERVAL_ENDS.iter().find(is_in_body).and_then(|path| self.plan.find(path));
        Rejection { field: end, ..Rejection::new(RejectionCode::OutOfRange) }
    }

    fn check_counter(&self) -> Result<(), Rejection> {
        let value = self.noted(Note::MetricValue);
        if self.noted(Note::MetricType) == COUNTER && f64::from_bits(value) < 0.0 {
            return Err(Rejection::at(RejectionCode::OutOfRange, self.plan.metric_value, value));
        }
        Ok(())
    }
}

#[inline]
fn map_entry(id: FieldId, bytes: &[u8]) -> Result<(), Rejection> {
    let (key, value) = entry(bytes).map_err(|code| Rejection::at(code, id, 0))?;
    let (key, value) = (key.len() as u64, value.len() as u64);
    if key == 0 || key > u64::from(MAP_KEY_BYTES_MAX) {
        return Err(Rejection::at(RejectionCode::FieldTooLong, id, key));
    }
    if value > u64::from(MAP_VALUE_BYTES_MAX) {
        return Err(Rejection::at(RejectionCode::FieldTooLong, id, value));
    }
    Ok(())
}

/// True if `found` says so of the key of an entry of the map `map`, in a message that was walked over.
fn keys<'a>(message: &'a [u8], map: u32, mut found: impl FnMut(&'a [u8]) -> bool) -> bool {
    let mut cursor = Cursor::new(message);
    while let Ok(Some((number, wire))) = cursor.key() {
        if number != map {
            let _ = cursor.skip(number, wire);
        } else if found(cursor.bytes().map_or(&[], value::key)) {
            return true;
        }
    }
    false
}

/// Reads the next entries of a list of numbers, packed or one. Answers with how many there were.
fn packed(rule: &Rule, cursor: &mut Cursor<'_>, wire: Wire) -> Result<u32, value::Problem> {
    let malformed = |Malformed| (RejectionCode::Malformed, 0);
    match (rule, wire) {
        (Rule::Numbers { is_finite, .. }, Wire::Bytes) => {
            let (numbers, rest) = cursor.bytes().map_err(malformed)?.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(malformed(Malformed));
            }
            numbers.iter().try_for_each(|bytes| number(u64::from_le_bytes(*bytes), *is_finite))?;
            Ok(numbers.len() as u32)
        }
        (Rule::Numbers { is_finite, .. }, Wire::Fixed64) => {
            number(cursor.fixed64().map_err(malformed)?, *is_finite)?;
            Ok(1)
        }
        (Rule::Counts { .. }, Wire::Bytes) => {
            let bytes = cursor.bytes().map_err(malformed)?;
            let mut inner = Cursor::new(bytes);
            let mut count = 0;
            while inner.at() < bytes.len() {
                inner.varint().map_err(malformed)?;
                count += 1;
            }
            Ok(count)
        }
        (Rule::Counts { .. }, Wire::Varint) => cursor.varint().map(|_| 1).map_err(malformed),
        _ => Err(malformed(Malformed)),
    }
}

fn number(bits: u64, is_finite: bool) -> Result<(), value::Problem> {
    if is_finite && !f64::from_bits(bits).is_finite() {
        return Err((RejectionCode::NotFinite, bits));
    }
    Ok(())
}

const fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[inline]
fn text(id: FieldId, bytes: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(bytes).map_err(|_| Rejection::at(RejectionCode::InvalidUtf8, id, 0))
}

#[inline]
fn check_text(id: FieldId, bytes: &[u8]) -> Result<(), Rejection> {
    if is_utf8(bytes) { Ok(()) } else { Err(Rejection::at(RejectionCode::InvalidUtf8, id, 0)) }
}

/// True for UTF-8. Most texts are short and ASCII, for which the general check takes several times as long.
#[inline]
pub(crate) fn is_utf8(bytes: &[u8]) -> bool {
    bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
}
