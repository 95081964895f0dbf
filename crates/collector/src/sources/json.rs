//! JSON's values as those of events, for sources that bring free-form objects.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use tickstream_client::events::{Kind, Value, ValueList, ValueMap};

use super::fields::put_text;

/// A value of JSON.
///
/// # Errors
/// A sentence that names the member: `attributes[0].value: lone leading surrogate in hex escape at line 1 column 70`.
pub(super) fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        let mut json = serde_json::Deserializer::from_str(text);
        let path = match serde_path_to_error::deserialize::<_, T>(&mut json) {
            Err(error) => error.path().to_string(),
            // Something follows the value.
            Ok(_) => String::new(),
        };
        // "." is the whole, "?" a key that hasn't been read.
        match path.trim_end_matches(['.', '?']) {
            "" => error.to_string(),
            path => format!("{path}: {error}"),
        }
    })
}

/// Longest text of a record, bytes: no event that it could be is taken, and its values have many times as much.
pub(super) const RECORD_BYTES_MAX: usize = 1 << 20;

/// The two maps of an event that complete each other.
pub(super) type Maps = (BTreeMap<String, String>, BTreeMap<String, Value>);

/// The members of an object: texts, and the rest. Members that are null are absent.
pub(super) fn maps(object: Map<String, Json>) -> Maps {
    let (mut texts, mut typed) = (BTreeMap::new(), BTreeMap::new());
    for (key, value) in object {
        match value {
            Json::Null => {}
            Json::String(text) => put_text(&mut texts, &mut typed, key, text),
            value => _ = typed.insert(key, to_value(value)),
        }
    }
    (texts, typed)
}

/// A value. serde_json's own limit bounds its depth; the server has a stricter one.
pub(super) fn to_value(json: Json) -> Value {
    let kind = match json {
        Json::Null => None,
        Json::Bool(boolean) => Some(Kind::Boolean(boolean)),
        Json::Number(number) => Some(match number.as_i64() {
            Some(integer) => Kind::Integer(integer),
            None => Kind::Number(number.as_f64().unwrap_or(f64::NAN)),
        }),
        Json::String(text) => Some(Kind::Text(text)),
        Json::Array(array) => {
            Some(Kind::List(ValueList { values: array.into_iter().map(to_value).collect() }))
        }
        Json::Object(object) => Some(Kind::Map(ValueMap {
            entries: object.into_iter().map(|(key, value)| (key, to_value(value))).collect(),
        })),
    };
    Value { kind }
}

/// A member that is a text, or a number as text; taken out.
pub(super) fn take_text(object: &mut Map<String, Json>, key: &str) -> Option<String> {
    match object.get(key)? {
        Json::String(_) | Json::Number(_) => {}
        _ => return None,
    }
    match object.remove(key)? {
        Json::String(text) => Some(text),
        number => Some(number.to_string()),
    }
}

/// A member that is an object; taken out.
pub(super) fn take_object(object: &mut Map<String, Json>, key: &str) -> Map<String, Json> {
    match object.get(key) {
        Some(Json::Object(_)) => match object.remove(key) {
            Some(Json::Object(inner)) => inner,
            _ => Map::new(),
        },
        _ => Map::new(),
    }
}

/// A time, Unix time, nanoseconds: RFC 3339, or a number of milliseconds.
pub(super) fn time(json: &Json) -> Option<u64> {
    match json {
        Json::String(text) => rfc3339(text),
        Json::Number(number) => {
            let ms = number.as_f64().filter(|ms| *ms >= 0.0 && *ms < 1e16)?;
            Some((ms * 1e6) as u64)
        }
        _ => None,
    }
}

/// RFC 3339 and what ISO 8601 allows beside it: no offset is UTC, and hours are enough of one.
pub(super) fn rfc3339(text: &str) -> Option<u64> {
    let text = text.trim();
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let number = |digits: &str, max: u64| {
        let all = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|number| all && *number <= max)
    };
    let mut date = date.split('-');
    let (year, month, day) =
        (number(date.next()?, 9999)?, number(date.next()?, 12)?, number(date.next()?, 31)?);
    let days = days_since_1970(year, month, day)?;
    let rest = match rest.strip_prefix(['T', 't', ' ']) {
        Some(rest) => rest,
        None => return rest.is_empty().then_some(days * DAY_NS),
    };
    let (hour, minute) =
        (number(rest.get(..2)?, 23)?, number(rest.get(2..)?.strip_prefix(':')?.get(..2)?, 59)?);
    let mut rest = rest.get(5..)?;
    let mut ns = days * DAY_NS + (hour * 60 + minute) * MINUTE_NS;
    if let Some(seconds) = rest.strip_prefix(':') {
        ns += number(seconds.get(..2)?, 60)? * SECOND_NS;
        rest = seconds.get(2..)?;
        if let Some(fraction) = rest.strip_prefix(['.', ',']) {
            let len = fraction.bytes().take_while(u8::is_ascii_digit).count();
            let digits = &fraction[..len.min(9)];
            ns += number(digits, u64::MAX)? * 10_u64.pow(9 - digits.len() as u32);
            rest = &fraction[len..];
        }
    }
    let (sign, offset) = match rest.as_bytes() {
        [] | [b'Z' | b'z'] => return Some(ns),
        [sign @ (b'+' | b'-'), ..] => (*sign, rest[1..].replace(':', "")),
        _ => return None,
    };
    let (hours, minutes) =
        (number(offset.get(..2)?, 23)?, offset.get(2..).filter(|minutes| !minutes.is_empty()));
    let offset = (hours * 60 + minutes.map_or(Some(0), |minutes| number(minutes, 59))?) * MINUTE_NS;
    if sign == b'+' { ns.checked_sub(offset) } else { ns.checked_add(offset) }
}

const SECOND_NS: u64 = 1_000_000_000;
const MINUTE_NS: u64 = 60 * SECOND_NS;
const DAY_NS: u64 = 24 * 60 * MINUTE_NS;

/// Days from 1970 to a date of the Gregorian calendar that nanoseconds reach.
pub(super) fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=2500).contains(&year) || month == 0 || day == 0 {
        return None;
    }
    // Howard Hinnant's algorithm: years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let at = 1_792_000_000_u64 * SECOND_NS + 250_000_000;
        for text in [
            "2026-10-14T17:46:40.250Z",
            "2026-10-14 17:46:40,250",
            "2026-10-14t19:46:40.25+02:00",
            "2026-10-14T12:46:40.250000000999-0500",
            "2026-10-14T19:46:40.25+02",
        ] {
            assert_eq!(rfc3339(text), Some(at), "{text}");
        }
        assert_eq!(rfc3339("1970-01-01"), Some(0));
        assert_eq!(rfc3339("2024-02-29T00:00Z"), Some(1_709_164_800 * SECOND_NS));
        for text in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-10-14T25:00:00Z",
            "2026-10-14T17:46:40.Z",
            "2026-10-14Tab",
            "1969-12-31",
            "2026-10-14T17:46:40+x",
            "é026-10-14",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
        assert_eq!(time(&json!(1500.5)), Some(1_500_500_000));
        assert_eq!(time(&json!(-1)), None);
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_member() {
        let problem = |text| parse::<Map<String, Json>>(text).unwrap_err();
        for (text, path) in [
            (r#"{"a":{"b":["x","\ud800"]}}"#, "a.b[1]: "),
            (r#"{"a":1e309}"#, "a: "),
            (r#"{"a":NaN}"#, "a: "),
            (r#"{"a":1} x"#, "trailing"),
            (r#"["a"]"#, "invalid type"),
        ] {
            assert!(problem(text).starts_with(path), "{text}: {}", problem(text));
        }
        assert_eq!(parse::<f64>("-0.0").unwrap().to_bits(), (-0.0_f64).to_bits());
    }

    #[test]
    fn values_keep_their_types() {
        let json = json!({"t": "x", "i": -5, "u": u64::MAX, "f": 1.5, "b": true, "n": null, "l": [null, {"k": "v"}]});
        let Json::Object(object) = json else { unreachable!() };
        let (texts, typed) = maps(object);
        assert_eq!(texts["t"], "x");
        let kind = |key: &str| typed[key].kind.clone().unwrap();
        assert_eq!(kind("i"), Kind::Integer(-5));
        assert_eq!(kind("u"), Kind::Number(u64::MAX as f64));
        assert_eq!(kind("f"), Kind::Number(1.5));
        assert_eq!(kind("b"), Kind::Boolean(true));
        assert!(!typed.contains_key("n"));
        let Kind::List(list) = kind("l") else { panic!() };
        assert_eq!(list.values.len(), 2);
    }
}
