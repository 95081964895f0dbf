//! Messages as objects, whose keys are the names of their fields.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
    ser::SerializeMap,
};

/// A message of the schema, by its fields. The build script implements it.
pub(super) trait Fields: Default {
    /// The fields' names.
    const NAMES: &'static [&'static str];

    /// Reads the value of the field with the name at `key` in `NAMES`.
    fn read<'de, A: MapAccess<'de>>(&mut self, key: usize, map: &mut A) -> Result<(), A::Error>;

    /// Writes all fields that aren't absent.
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

/// Writer of a field's value of type `T`.
pub(super) trait Codec<T> {
    fn read<'de, D: Deserializer<'de>>(json: D) -> Result<T, D::Error>;

    fn is_absent(value: &T) -> bool;

    fn write<S: Serializer>(value: &T, json: S) -> Result<S::Ok, S::Error>;
}

/// A message to write.
pub(super) struct Message<'a, M>(pub &'a M);

impl<M: Fields> Serialize for Message<'_, M> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let mut map = json.serialize_map(None)?;
        self.0.write(&mut map)?;
        map.end()
    }
}

/// Reads a message.
pub(super) struct MessageSeed<M>(PhantomData<M>);

impl<M> MessageSeed<M> {
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, M: Fields> DeserializeSeed<'de> for MessageSeed<M> {
    type Value = M;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<M, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, M: Fields> Visitor<'de> for MessageSeed<M> {
    type Value = M;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with some of the keys {}", M::NAMES.join(", "))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<M, A::Error> {
        let mut message = M::default();
        let mut seen = 0_u64;
        while let Some(key) = map.next_key_seed(Key::<M>(PhantomData))? {
            if seen & 1_u64 << key != 0 {
                return Err(A::Error::custom(format_args!("the key `{}` comes twice", M::NAMES[key])));
            }
            seen |= 1 << key;
            message.read(key, &mut map)?;
        }
        Ok(message)
    }
}

/// Reads a key, as its place in `NAMES`.
struct Key<M>(PhantomData<M>);

impl<'de, M: Fields> DeserializeSeed<'de> for Key<M> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<usize, D::Error> {
        json.deserialize_identifier(self)
    }
}

impl<M: Fields> Visitor<'_> for Key<M> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<usize, E> {
        const { assert!(M::NAMES.len() <= u64::BITS as usize) };
        let unknown = || E::custom(format_args!("no such key; there are {}", M::NAMES.join(", ")));
        M::NAMES.iter().position(|name| *name == key).ok_or_else(unknown)
    }
}

/// Reads a field's value; null is the same as absent.
pub(super) struct FieldSeed<T, C>(PhantomData<(T, C)>);

impl<T, C> FieldSeed<T, C> {
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T: Default, C: Codec<T>> DeserializeSeed<'de> for FieldSeed<T, C> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<T, D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de, T: Default, C: Codec<T>> Visitor<'de> for FieldSeed<T, C> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_none<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<T, D::Error> {
        C::read(json)
    }
}

/// Reads one field.
pub(super) fn read_field<'de, T: Default, C: Codec<T>, A: MapAccess<'de>>(
    value: &mut T,
    map: &mut A,
) -> Result<(), A::Error> {
    *value = map.next_value_seed(FieldSeed::<T, C>::new())?;
    Ok(())
}

/// A field's value to write.
pub(super) struct FieldValue<'a, T, C>(pub &'a T, pub PhantomData<C>);

impl<T, C: Codec<T>> Serialize for FieldValue<'_, T, C> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        C::write(self.0, json)
    }
}

/// Writes one field, if it isn't absent.
pub(super) fn write_field<T, C: Codec<T>, M: SerializeMap>(
    map: &mut M,
    name: &'static str,
    value: &T,
) -> Result<(), M::Error> {
    if C::is_absent(value) {
        return Ok(());
    }
    map.serialize_entry(name, &FieldValue::<T, C>(value, PhantomData))
}
