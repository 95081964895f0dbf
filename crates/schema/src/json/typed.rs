//! Values of any type, and the maps of texts that maps of Values complete.
//!
//! A Value is what JSON has for it. What JSON can't tell apart is an object with one of the keys in [`MARKS`]: bytes in
//! Base64, a number that isn't finite, null where null means absent, a short text in a map of Values, and a map that has
//! such a key itself. Two of them make events readable that no server accepts: a long text in a map of texts, alone or
//! beside a value under the same key in the map of Values.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};

use super::{
    message::{Codec, FieldSeed, FieldValue},
    value::{Base64, Number, Plain},
};
use crate::{
    events::{Kind, Value, ValueList, ValueMap},
    table::{MAP_KEY_BYTES_MAX, MAP_VALUE_BYTES_MAX},
};

const BYTES: &str = "$bytes";
const NUMBER: &str = "$number";
const TEXT: &str = "$text";
const NULL: &str = "$null";
const MAP: &str = "$map";
const STRING: &str = "$string";
/// Behind [`STRING`]: the value under the same key in the map of Values.
const VALUE: &str = "$value";
const MARKS: [&str; 6] = [BYTES, NUMBER, TEXT, NULL, MAP, STRING];

type Texts = BTreeMap<String, String>;
type Values = BTreeMap<String, Value>;

/// Reads an object into a map of texts and the map of Values that completes it.
pub(super) fn read_pair<'de, A: MapAccess<'de>>(
    texts: &mut Texts,
    values: &mut Values,
    map: &mut A,
) -> Result<(), A::Error> {
    (*texts, *values) = map.next_value_seed(FieldSeed::<(Texts, Values), Plain>::new())?;
    Ok(())
}

/// Writes a map of texts and the map of Values that completes it as one object.
pub(super) fn write_pair<M: SerializeMap>(
    map: &mut M,
    name: &'static str,
    texts: &Texts,
    values: &Values,
) -> Result<(), M::Error> {
    if texts.is_empty() && values.is_empty() {
        return Ok(());
    }
    map.serialize_entry(name, &Pair(texts, values))
}

struct Pair<'a>(&'a Texts, &'a Values);

impl Serialize for Pair<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let mut map = json.serialize_map(Some(self.0.len() + self.1.len()))?;
        for (key, text) in self.0 {
            match self.1.get(key) {
                Some(value) => map.serialize_entry(key, &Both(text, value))?,
                None if is_short(key, text) => map.serialize_entry(key, text)?,
                None => map.serialize_entry(key, &Marked(STRING, text))?,
            }
        }
        for (key, value) in self.1.iter().filter(|(key, _)| !self.0.contains_key(*key)) {
            match &value.kind {
                Some(Kind::Text(text)) if is_short(key, text) => {
                    map.serialize_entry(key, &Marked(TEXT, text))?;
                }
                _ => map.serialize_entry(key, &Written(value))?,
            }
        }
        map.end()
    }
}

/// Texts that belong in a map of texts.
fn is_short(key: &str, text: &str) -> bool {
    key.len() <= MAP_KEY_BYTES_MAX as usize && text.len() <= MAP_VALUE_BYTES_MAX as usize
}

impl Codec<(Texts, Values)> for Plain {
    fn read<'de, D: Deserializer<'de>>(json: D) -> Result<(Texts, Values), D::Error> {
        let mut pair = (Texts::new(), Values::new());
        for (key, read) in json.deserialize_map(Entries)? {
            if let Some(string) = read.string {
                pair.0.insert(key.clone(), string);
            }
            match read.value {
                Some(Value { kind: Some(Kind::Text(text)) }) if read.is_plain && is_short(&key, &text) => {
                    pair.0.insert(key, text);
                }
                Some(value) => _ = pair.1.insert(key, value),
                None => {}
            }
        }
        Ok(pair)
    }

    fn is_absent(value: &(Texts, Values)) -> bool {
        value.0.is_empty() && value.1.is_empty()
    }

    fn write<S: Serializer>(value: &(Texts, Values), json: S) -> Result<S::Ok, S::Error> {
        Pair(&value.0, &value.1).serialize(json)
    }
}

impl Codec<Values> for Plain {
    fn read<'de, D: Deserializer<'de>>(json: D) -> Result<Values, D::Error> {
        Ok(values(json.deserialize_map(Entries)?))
    }

    fn is_absent(value: &Values) -> bool {
        value.is_empty()
    }

    fn write<S: Serializer>(value: &Values, json: S) -> Result<S::Ok, S::Error> {
        entries(value, json)
    }
}

impl Codec<Option<Value>> for Plain {
    fn read<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Value>, D::Error> {
        json.deserialize_any(AnyValue).map(|read| Some(read.into_value()))
    }

    fn is_absent(value: &Option<Value>) -> bool {
        value.is_none()
    }

    fn write<S: Serializer>(value: &Option<Value>, json: S) -> Result<S::Ok, S::Error> {
        match value {
            None => json.serialize_unit(),
            Some(Value { kind: None }) => Marked(NULL, &true).serialize(json),
            Some(value) => Written(value).serialize(json),
        }
    }
}

fn values(entries: BTreeMap<String, Read>) -> Values {
    entries.into_iter().map(|(key, read)| (key, read.into_value())).collect()
}

fn entries<S: Serializer>(values: &Values, json: S) -> Result<S::Ok, S::Error> {
    let mut map = json.serialize_map(Some(values.len()))?;
    values.iter().try_for_each(|(key, value)| map.serialize_entry(key, &Written(value)))?;
    map.end()
}

/// An object with one of the marks.
struct Marked<'a, T>(&'static str, &'a T);

impl<T: Serialize> Serialize for Marked<'_, T> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let mut map = json.serialize_map(Some(1))?;
        map.serialize_entry(self.0, self.1)?;
        map.end()
    }
}

/// A text and a Value under one key.
struct Both<'a>(&'a str, &'a Value);

impl Serialize for Both<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let mut map = json.serialize_map(Some(2))?;
        map.serialize_entry(STRING, self.0)?;
        map.serialize_entry(VALUE, &Written(self.1))?;
        map.end()
    }
}

/// A Value to write.
struct Written<'a>(&'a Value);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        match &self.0.kind {
            None => json.serialize_unit(),
            Some(Kind::Text(text)) => json.serialize_str(text),
            Some(Kind::Number(number)) if number.is_finite() => json.serialize_f64(*number),
            Some(Kind::Number(number)) => {
                Marked(NUMBER, &FieldValue::<f64, Plain>(number, PhantomData)).serialize(json)
            }
            Some(Kind::Integer(integer)) => json.serialize_i64(*integer),
            Some(Kind::Boolean(boolean)) => json.serialize_bool(*boolean),
            Some(Kind::List(ValueList { values })) => {
                let mut list = json.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|value| list.serialize_element(&Written(value)))?;
                list.end()
            }
            Some(Kind::Map(ValueMap { entries: map })) => {
                if map.keys().any(|key| MARKS.contains(&key.as_str())) {
                    Marked(MAP, &Entry(map)).serialize(json)
                } else {
                    entries(map, json)
                }
            }
            Some(Kind::Bytes(bytes)) => Marked(BYTES, &STANDARD.encode(bytes)).serialize(json),
        }
    }
}

struct Entry<'a>(&'a Values);

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        entries(self.0, json)
    }
}

/// A value of an object that was read.
struct Read {
    /// For the map of texts, whatever its length.
    string: Option<String>,
    value: Option<Value>,
    /// The value has no mark.
    is_plain: bool,
}

impl Read {
    fn plain(kind: Option<Kind>) -> Self {
        Self { string: None, value: Some(Value { kind }), is_plain: true }
    }

    /// The value, where there is no map of texts.
    fn into_value(self) -> Value {
        self.value.unwrap_or_else(|| Value { kind: self.string.map(Kind::Text) })
    }
}

impl From<Kind> for Read {
    fn from(kind: Kind) -> Self {
        Self::plain(Some(kind))
    }
}

struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Read;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Read, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Read, E> {
        Ok(Read::plain(None))
    }

    fn visit_str<E>(self, text: &str) -> Result<Read, E> {
        Ok(Kind::Text(text.to_owned()).into())
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<Read, E> {
        Ok(Kind::Boolean(boolean).into())
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Read, E> {
        Ok(Kind::Integer(integer).into())
    }

    /// Above the range of an integer, it is a number.
    fn visit_u64<E>(self, number: u64) -> Result<Read, E> {
        Ok(i64::try_from(number).map_or(Kind::Number(number as f64), Kind::Integer).into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Read, E> {
        Ok(Kind::Number(number).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Read, A::Error> {
        let mut values = Vec::new();
        while let Some(read) = list.next_element_seed(AnyValue)? {
            values.push(read.into_value());
        }
        Ok(Kind::List(ValueList { values }).into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let Some(first) = map.next_key::<String>()? else {
            return Ok(Kind::Map(ValueMap::default()).into());
        };
        let Some(mark) = MARKS.into_iter().find(|mark| *mark == first) else {
            let entries = values(read_entries(Some(first), &mut map)?);
            return Ok(Kind::Map(ValueMap { entries }).into());
        };
        let (mut string, mut value) = (None, None);
        match mark {
            BYTES => value = Some(Kind::Bytes(map.next_value_seed(FieldSeed::<Vec<u8>, Base64>::new())?)),
            NUMBER => value = Some(Kind::Number(map.next_value_seed(NumberSeed)?)),
            TEXT => value = Some(Kind::Text(map.next_value()?)),
            MAP => {
                let entries = map.next_value_seed(FieldSeed::<Values, Plain>::new())?;
                value = Some(Kind::Map(ValueMap { entries }));
            }
            STRING => string = Some(map.next_value()?),
            _ => _ = map.next_value::<de::IgnoredAny>()?,
        }
        let mut value = if mark == STRING { None } else { Some(Value { kind: value }) };
        let mut next = map.next_key::<String>()?;
        if mark == STRING && next.as_deref() == Some(VALUE) {
            value = Some(map.next_value_seed(AnyValue)?.into_value());
            next = map.next_key()?;
        }
        if let Some(key) = next {
            return Err(de::Error::custom(format_args!("`{mark}` stands alone, there is `{key}` beside it")));
        }
        Ok(Read { string, value, is_plain: false })
    }
}

struct NumberSeed;

impl<'de> DeserializeSeed<'de> for NumberSeed {
    type Value = f64;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<f64, D::Error> {
        Number::read(json)
    }
}

/// Entries of an object, whose keys aren't marks.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = BTreeMap<String, Read>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let first = map.next_key()?;
        read_entries(first, &mut map)
    }
}

/// Reads the entries of an object of which the first key was read.
fn read_entries<'de, A: MapAccess<'de>>(
    first: Option<String>,
    map: &mut A,
) -> Result<BTreeMap<String, Read>, A::Error> {
    let mut entries = BTreeMap::new();
    let mut next = first;
    while let Some(key) = next {
        let value = map.next_value_seed(AnyValue)?;
        if entries.contains_key(&key) {
            return Err(de::Error::custom(format_args!("the key `{key}` comes twice")));
        }
        entries.insert(key, value);
        next = map.next_key()?;
    }
    Ok(entries)
}
