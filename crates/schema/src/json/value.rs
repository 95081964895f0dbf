//! Values: how each kind of field is written.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
    ser::SerializeSeq,
};

use super::{
    message::{Codec, FieldSeed, FieldValue, Fields, Message, MessageSeed},
    time,
};
use crate::table::EnumDef;

/// As JSON has it: texts, numbers, maps of texts, messages and lists of them.
pub(super) struct Plain;
/// An event's id: a UUID in its text form, or, where it isn't 16 bytes, hexadecimal digits.
pub(super) struct Uuid;
/// Bytes as lower-case hexadecimal digits.
pub(super) struct Hex;
/// Bytes in Base64 (RFC 4648, section 4), padded.
pub(super) struct Base64;
/// Nanoseconds of Unix time, as RFC 3339 with nine digits of a second, in UTC. Read also as a number.
pub(super) struct Time;
/// An enum by its short name in lower case; a number that has no name as it is.
pub(super) struct Name<E>(PhantomData<E>);

/// Fields that are absent when they have the default of their type.
macro_rules! plain {
    ($($value:ty, $read:expr, $write:expr;)*) => {$(
        impl Codec<$value> for Plain {
            fn read<'de, D: Deserializer<'de>>(json: D) -> Result<$value, D::Error> {
                $read(json)
            }

            fn is_absent(value: &$value) -> bool {
                *value == <$value>::default()
            }

            fn write<S: Serializer>(value: &$value, json: S) -> Result<S::Ok, S::Error> {
                $write(value, json)
            }
        }
    )*};
}

plain! {
    String, String::deserialize, String::serialize;
    u32, u32::deserialize, u32::serialize;
    u64, u64::deserialize, u64::serialize;
    i32, i32::deserialize, i32::serialize;
    bool, bool::deserialize, bool::serialize;
    f64, Number::read, Number::write;
    Vec<String>, Vec::deserialize, Vec::serialize;
    Vec<u64>, Vec::deserialize, Vec::serialize;
    Vec<f64>, Number::read_list, Number::write_list;
}

/// `optional` fields: an empty text or 0 is not the same as absent.
macro_rules! optional {
    ($($codec:ty: $value:ty, $read:expr, $write:expr;)*) => {$(
        impl Codec<Option<$value>> for $codec {
            fn read<'de, D: Deserializer<'de>>(json: D) -> Result<Option<$value>, D::Error> {
                $read(json).map(Some)
            }

            fn is_absent(value: &Option<$value>) -> bool {
                value.is_none()
            }

            fn write<S: Serializer>(value: &Option<$value>, json: S) -> Result<S::Ok, S::Error> {
                match value {
                    Some(value) => $write(value, json),
                    None => json.serialize_unit(),
                }
            }
        }
    )*};
}

optional! {
    Plain: String, String::deserialize, String::serialize;
    Plain: u32, u32::deserialize, u32::serialize;
    Plain: u64, u64::deserialize, u64::serialize;
    Plain: i64, i64::deserialize, i64::serialize;
    Time: u64, read_any_time, <Time as Codec<u64>>::write;
    Plain: f64, Number::read, Number::write;
    Hex: Vec<u8>, <Hex as Codec<Vec<u8>>>::read, <Hex as Codec<Vec<u8>>>::write;
}

impl<M: Fields> Codec<Option<M>> for Plain {
    fn read<'de, D: Deserializer<'de>>(json: D) -> Result<Option<M>, D::Error> {
        de::DeserializeSeed::deserialize(MessageSeed::<M>::new(), json).map(Some)
    }

    fn is_absent(value: &Option<M>) -> bool {
        value.is_none()
    }

    fn write<S: Serializer>(value: &Option<M>, json: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Message).serialize(json)
    }
}

impl<M: Fields> Codec<Vec<M>> for Plain {
    fn read<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<M>, D::Error> {
        json.deserialize_seq(Messages(PhantomData))
    }

    fn is_absent(value: &Vec<M>) -> bool {
        value.is_empty()
    }

    fn write<S: Serializer>(value: &Vec<M>, json: S) -> Result<S::Ok, S::Error> {
        let mut list = json.serialize_seq(Some(value.len()))?;
        value.iter().try_for_each(|message| list.serialize_element(&Message(message)))?;
        list.end()
    }
}

struct Messages<M>(PhantomData<M>);

impl<'de, M: Fields> Visitor<'de> for Messages<M> {
    type Value = Vec<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<M>, A::Error> {
        let mut messages = Vec::new();
        while let Some(message) = list.next_element_seed(MessageSeed::new())? {
            messages.push(message);
        }
        Ok(messages)
    }
}

impl Codec<BTreeMap<String, String>> for Plain {
    fn read<'de, D: Deserializer<'de>>(json: D) -> Result<BTreeMap<String, String>, D::Error> {
        json.deserialize_map(Texts)
    }

    fn is_absent(value: &BTreeMap<String, String>) -> bool {
        value.is_empty()
    }

    fn write<S: Serializer>(value: &BTreeMap<String, String>, json: S) -> Result<S::Ok, S::Error> {
        value.serialize(json)
    }
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BTreeMap<String, String>, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if let Some((key, _)) = texts.get_key_value(&key) {
                return Err(de::Error::custom(format_args!("the key `{key}` comes twice")));
            }
            texts.insert(key, value);
        }
        Ok(texts)
    }
}

/// JSON has no number for those that aren't finite; they are written as proto3 JSON does.
pub(super) struct Number;

impl Number {
    fn read_list<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<f64>, D::Error> {
        json.deserialize_seq(Numbers)
    }

    fn write_list<S: Serializer>(value: &[f64], json: S) -> Result<S::Ok, S::Error> {
        let mut list = json.serialize_seq(Some(value.len()))?;
        value
            .iter()
            .try_for_each(|number| list.serialize_element(&FieldValue::<f64, Plain>(number, PhantomData)))?;
        list.end()
    }

    pub fn read<'de, D: Deserializer<'de>>(json: D) -> Result<f64, D::Error> {
        json.deserialize_any(Self)
    }

    pub fn write<S: Serializer>(value: &f64, json: S) -> Result<S::Ok, S::Error> {
        match *value {
            value if value.is_finite() => json.serialize_f64(value),
            value if value.is_nan() => json.serialize_str("NaN"),
            value if value > 0.0 => json.serialize_str("Infinity"),
            _ => json.serialize_str("-Infinity"),
        }
    }
}

struct Numbers;

impl<'de> Visitor<'de> for Numbers {
    type Value = Vec<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<f64>, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = list.next_element_seed(FieldSeed::<f64, Plain>::new())? {
            numbers.push(number);
        }
        Ok(numbers)
    }
}

impl Visitor<'_> for Number {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_f64<E>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_i64<E>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<f64, E> {
        match value {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Err(E::invalid_type(de::Unexpected::Str(value), &self)),
        }
    }
}

/// A value that a function reads from a text; the function names what it accepts.
struct FromText<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// Bytes, which are absent when there are none, as a text.
macro_rules! bytes {
    ($($codec:ty, $expected:literal, $parse:expr, $write:expr;)*) => {$(
        impl Codec<Vec<u8>> for $codec {
            fn read<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<u8>, D::Error> {
                json.deserialize_str(FromText { expected: $expected, parse: $parse })
            }

            fn is_absent(value: &Vec<u8>) -> bool {
                value.is_empty()
            }

            fn write<S: Serializer>(value: &Vec<u8>, json: S) -> Result<S::Ok, S::Error> {
                json.serialize_str(&$write(value))
            }
        }
    )*};
}

bytes! {
    Uuid, "a UUID such as \"017f22e2-79b0-7cc3-98c4-dc0c0c07398f\"", parse_uuid, uuid;
    Hex, "pairs of hexadecimal digits", parse_hex, hex;
    Base64, "Base64 with padding", |text| STANDARD.decode(text).ok(), |value: &Vec<u8>| STANDARD.encode(value);
}

/// Places of hyphens in a UUID's text.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

fn uuid(bytes: &[u8]) -> String {
    let mut text = hex(bytes);
    if bytes.len() == 16 {
        HYPHENS.into_iter().for_each(|place| text.insert(place, '-'));
    }
    text
}

/// An empty id would be the same as an absent one, which is replaced by a new one.
fn parse_uuid(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() {
        return None;
    }
    let hyphens = text.match_indices('-').map(|(place, _)| place);
    let is_uuid = text.len() == 36 && hyphens.eq(HYPHENS);
    if is_uuid { parse_hex(&text.replace('-', "")) } else { parse_hex(text) }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pair = |pair: &[u8]| match *pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

impl Codec<u64> for Time {
    fn read<'de, D: Deserializer<'de>>(json: D) -> Result<u64, D::Error> {
        let time = read_any_time(json)?;
        // The same as an absent one, which would be replaced without a word.
        if time == 0 {
            return Err(de::Error::custom("the first moment of 1970 stands for no time; leave the key out"));
        }
        Ok(time)
    }

    fn is_absent(value: &u64) -> bool {
        *value == 0
    }

    fn write<S: Serializer>(value: &u64, json: S) -> Result<S::Ok, S::Error> {
        json.collect_str(&time::Rfc3339(*value))
    }
}

/// Reads a time; 0, too, which isn't the same as an absent one where the field is optional.
fn read_any_time<'de, D: Deserializer<'de>>(json: D) -> Result<u64, D::Error> {
    json.deserialize_any(TimeVisitor)
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a time such as \"2026-11-21T20:00:00.123456789Z\", or whole nanoseconds of Unix time, between 1970 and 2554",
        )
    }

    fn visit_u64<E>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        time::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// An enum of the schema.
pub(super) trait Named {
    /// Its names.
    const DEF: &'static EnumDef;
}

impl<E: Named> Codec<i32> for Name<E> {
    fn read<'de, D: Deserializer<'de>>(json: D) -> Result<i32, D::Error> {
        json.deserialize_any(NameVisitor::<E>(PhantomData))
    }

    fn is_absent(value: &i32) -> bool {
        *value == 0
    }

    fn write<S: Serializer>(value: &i32, json: S) -> Result<S::Ok, S::Error> {
        let place = usize::try_from(*value).ok().and_then(|number| number.checked_sub(1));
        match place.and_then(|place| E::DEF.values.get(place)) {
            Some(name) => json.serialize_str(name),
            None => json.serialize_i32(*value),
        }
    }
}

struct NameVisitor<E>(PhantomData<E>);

impl<N: Named> Visitor<'_> for NameVisitor<N> {
    type Value = i32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {}", N::DEF.values.join(", "))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<i32, E> {
        let place = N::DEF.values.iter().position(|name| *name == text);
        let place = place.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))?;
        Ok(place as i32 + 1)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<i32, E> {
        i32::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<i32, E> {
        i32::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
    }
}
