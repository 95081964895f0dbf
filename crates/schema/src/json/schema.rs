//! The fields of each message, in the order in which they are written: generated from `proto/events.proto`.

use serde::de::{Error, MapAccess};
use serde::ser::SerializeMap;

use super::{
    message::{Codec, FieldSeed, Fields, Message, read_field, write_field},
    typed::{read_pair, write_pair},
    value::{Base64, Hex, Name, Named, Plain, Time, Uuid},
};
use crate::events;
use crate::table::{self, EnumDef};

include!(concat!(env!("OUT_DIR"), "/json.rs"));

/// Reads the body `name`, of which an event has one; null is none.
fn read_body<'de, T, A: MapAccess<'de>>(
    body: &mut Option<events::Body>,
    of: impl Fn(T) -> events::Body,
    name: &str,
    map: &mut A,
) -> Result<(), A::Error>
where
    Plain: Codec<Option<T>>,
{
    let read = map.next_value_seed(FieldSeed::<Option<T>, Plain>::new())?;
    if let (Some(first), Some(_)) = (&*body, &read) {
        let first = first.name();
        return Err(A::Error::custom(format_args!(
            "an event has one body, this one has `{first}` and `{name}`"
        )));
    }
    if let Some(read) = read {
        *body = Some(of(read));
    }
    Ok(())
}
