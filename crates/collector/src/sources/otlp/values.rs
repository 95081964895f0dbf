//! Attributes: OpenTelemetry's values and those of events.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Any,
};
use tickstream_client::events::{Kind, Value, ValueList, ValueMap};

use crate::sources::fields::{clipped, takes_text};

/// A record that an event can't hold: the verdict's code, and words for people.
pub(super) type MappingError = (&'static str, String);

/// Longest part of a key that a message shows, bytes.
const KEY_BYTES_SHOWN: usize = 256;
/// As deep as lists and maps may lie in each other.
const DEPTH_MAX: usize = 8;

/// Attributes in the two maps of an event that complete each other.
#[derive(Default)]
pub(super) struct Attributes {
    pub texts: BTreeMap<String, String>,
    pub typed: BTreeMap<String, Value>,
}

impl Attributes {
    /// Of a list of pairs.
    pub fn new(pairs: Vec<KeyValue>) -> Result<Self, MappingError> {
        let mut attributes = Self::default();
        for KeyValue { key, value, .. } in pairs {
            if attributes.texts.contains_key(&key) || attributes.typed.contains_key(&key) {
                return Err(twice(&key));
            }
            match value.and_then(|value| value.value) {
                Some(Any::StringValue(text)) if takes_text(&attributes.texts, &key, &text) => {
                    attributes.texts.insert(key, text);
                }
                value => _ = attributes.typed.insert(key, to_value(value, 0)?),
            }
        }
        Ok(attributes)
    }

    /// The text under a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        let typed = || match self.typed.get(key)?.kind.as_ref()? {
            Kind::Text(text) => Some(&text[..]),
            _ => None,
        };
        self.texts.get(key).map(String::as_str).or_else(typed)
    }
}

fn twice(key: &str) -> MappingError {
    // A resource's problem is told of each of its records.
    ("INVALID_VALUE", format!("the attribute {} is there twice", clipped(key, KEY_BYTES_SHOWN)))
}

/// A map of values.
pub(super) fn to_map(pairs: Vec<KeyValue>) -> Result<BTreeMap<String, Value>, MappingError> {
    map_at(pairs, 0)
}

fn map_at(pairs: Vec<KeyValue>, depth: usize) -> Result<BTreeMap<String, Value>, MappingError> {
    let mut map = BTreeMap::new();
    for KeyValue { key, value, .. } in pairs {
        let value = to_value(value.and_then(|value| value.value), depth)?;
        if let Some(key) = map.insert(key.clone(), value).map(|_| key) {
            return Err(twice(&key));
        }
    }
    Ok(map)
}

/// An event's value.
pub(super) fn to_value(value: Option<Any>, depth: usize) -> Result<Value, MappingError> {
    if depth > DEPTH_MAX {
        return Err((
            "OUT_OF_RANGE",
            format!("an attribute's lists and maps are more than {DEPTH_MAX} deep"),
        ));
    }
    let kind = match value {
        None => None,
        Some(Any::StringValue(text)) => Some(Kind::Text(text)),
        Some(Any::BoolValue(boolean)) => Some(Kind::Boolean(boolean)),
        Some(Any::IntValue(integer)) => Some(Kind::Integer(integer)),
        Some(Any::DoubleValue(number)) => Some(Kind::Number(number)),
        Some(Any::BytesValue(bytes)) => Some(Kind::Bytes(bytes)),
        Some(Any::ArrayValue(array)) => {
            let values = array.values.into_iter().map(|value| to_value(value.value, depth + 1));
            Some(Kind::List(ValueList { values: values.collect::<Result<_, _>>()? }))
        }
        Some(Any::KvlistValue(list)) => {
            Some(Kind::Map(ValueMap { entries: map_at(list.values, depth + 1)? }))
        }
        Some(Any::StringValueStrindex(_)) => {
            return Err((
                "INVALID_VALUE",
                "an attribute refers to a table of texts, which only profiles have".into(),
            ));
        }
    };
    Ok(Value { kind })
}

/// OpenTelemetry's value.
pub(super) fn from_value(value: Value) -> AnyValue {
    let value = value.kind.map(|kind| match kind {
        Kind::Text(text) => Any::StringValue(text),
        Kind::Boolean(boolean) => Any::BoolValue(boolean),
        Kind::Integer(integer) => Any::IntValue(integer),
        Kind::Number(number) => Any::DoubleValue(number),
        Kind::Bytes(bytes) => Any::BytesValue(bytes),
        Kind::List(list) => {
            Any::ArrayValue(ArrayValue { values: list.values.into_iter().map(from_value).collect() })
        }
        Kind::Map(map) => Any::KvlistValue(KeyValueList { values: from_map(map.entries) }),
    });
    AnyValue { value }
}

/// Pairs, sorted by key: events keep no order.
pub(super) fn from_map(map: BTreeMap<String, Value>) -> Vec<KeyValue> {
    from_maps(BTreeMap::new(), map)
}

/// Pairs of both maps, sorted by key.
pub(super) fn from_maps(texts: BTreeMap<String, String>, typed: BTreeMap<String, Value>) -> Vec<KeyValue> {
    let texts = texts.into_iter().map(|(key, text)| (key, AnyValue { value: Some(Any::StringValue(text)) }));
    let typed = typed.into_iter().map(|(key, value)| (key, from_value(value)));
    let pair = |(key, value)| KeyValue { key, value: Some(value), ..KeyValue::default() };
    let mut pairs: Vec<_> = texts.chain(typed).map(pair).collect();
    pairs.sort_by(|a, b| a.key.cmp(&b.key));
    pairs
}

/// An id of so many bytes that says something.
pub(super) fn id(bytes: Vec<u8>, len: usize) -> Option<Vec<u8>> {
    (bytes.len() == len && bytes.iter().any(|byte| *byte != 0)).then_some(bytes)
}
