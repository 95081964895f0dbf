//! The way through a request: resource by resource, scope by scope, record by record, the same for all signals and formats.

use opentelemetry_proto::tonic::{common::v1::InstrumentationScope, resource::v1::Resource};
use prost::{DecodeError, Message};
use serde::de::DeserializeOwned;
use tickstream_client::events::{Event, EventType};

use super::{
    groups::{Group, Scope},
    json::by_record,
    plain,
    shared::{SharedResource, SharedScope},
    values::MappingError,
};
use crate::{
    outcome::Malformed,
    writer::{EventWriter, Extra},
};

/// A resource and a scope, as far as events can hold them.
pub(super) type Shared<'a> = Result<SharedScope<'a>, MappingError>;

/// A log record, a span or a metric.
pub(super) trait Record: Message + Default + DeserializeOwned {
    /// The export request.
    type Request: Message + Default + DeserializeOwned;

    /// The records of a request.
    fn groups(
        request: Self::Request,
    ) -> impl Iterator<Item = Group<impl Iterator<Item = Scope<impl Iterator<Item = Result<Self, String>>>>>>;

    /// Has the writer take the record's events.
    fn write(self, shared: &Shared<'_>, writer: &mut EventWriter<'_>);
}

/// A record that has a short way.
pub(super) trait PlainRecord: Record {
    /// The kind of its event.
    const KIND: EventType;

    /// Encodes a plain record's event: its name.
    fn encode_plain<'a>(
        encoder: &mut plain::Encoder<'a>,
        record: &'a [u8],
        resource: &SharedResource,
    ) -> Option<&'a str>;
}

/// Decodes a request in JSON; record by record if anything in it can't be read.
///
/// # Errors
/// [`Malformed`], if what holds the records can't be read.
pub(super) fn decode_json<T: Record>(body: &[u8], writer: &mut EventWriter<'_>) -> Result<(), Malformed> {
    match serde_json::from_slice(body) {
        Ok(request) => decode::<T>(request, writer),
        Err(_) => walk(by_record::<T>(body)?, writer),
    }
    Ok(())
}

/// Decodes a request in protobuf.
pub(super) fn decode_protobuf<T: Record>(
    body: &[u8],
    writer: &mut EventWriter<'_>,
) -> Result<(), DecodeError> {
    decode::<T>(T::Request::decode(body)?, writer);
    Ok(())
}

/// Decodes a request in protobuf: plain records by the short way, where the writer takes that.
pub(super) fn decode_plain<T: PlainRecord>(
    body: &[u8],
    writer: &mut EventWriter<'_>,
) -> Result<(), DecodeError> {
    let groups = writer.takes_encoded(T::KIND).then(|| plain::groups(body)).flatten();
    let Some(groups) = groups else { return decode_protobuf::<T>(body, writer) };
    let mut encoder = plain::Encoder::default();
    for group in groups {
        let resource = group.resource.map(Resource::decode).transpose()?;
        let resource = SharedResource::new(resource, group.schema_url.to_owned());
        for scope in group.scopes {
            let own = scope.scope.map(InstrumentationScope::decode).transpose()?;
            if scope.records.is_empty() || writer.is_overfull() {
                continue;
            }
            let shared = SharedScope::new(resource.as_ref(), own, scope.schema_url.to_owned());
            for record in scope.records {
                let plain = shared.as_ref().ok().and_then(|shared| {
                    let name = T::encode_plain(&mut encoder, record, shared.resource)?;
                    Some((name, &shared.fields))
                });
                match plain {
                    Some((name, fields)) => {
                        let [head, body] = encoder.parts();
                        writer.encoded_event(T::KIND, name, &[head, body, fields]);
                    }
                    None => write(T::decode(record), &shared, writer),
                }
            }
        }
    }
    Ok(())
}

pub(super) fn decode<T: Record>(request: T::Request, writer: &mut EventWriter<'_>) {
    walk(T::groups(request), writer);
}

fn walk<T, S, R>(groups: impl IntoIterator<Item = Group<S>>, writer: &mut EventWriter<'_>)
where
    T: Record,
    S: IntoIterator<Item = Scope<R>>,
    R: IntoIterator<Item = Result<T, String>>,
{
    for group in groups {
        let resource = SharedResource::new(group.resource, group.schema_url);
        for Scope { scope, schema_url, records } in group.scopes {
            // Each scope has a copy of what the resource brings: one without records needs none.
            let mut records = records.into_iter().peekable();
            if records.peek().is_none() || writer.is_overfull() {
                continue;
            }
            let shared = SharedScope::new(resource.as_ref(), scope, schema_url);
            records.for_each(|record| write(record, &shared, writer));
        }
    }
}

fn write<T: Record>(record: Result<T, impl ToString>, shared: &Shared<'_>, writer: &mut EventWriter<'_>) {
    match record {
        Ok(record) => record.write(shared, writer),
        Err(problem) => writer.reject("MALFORMED", problem.to_string()),
    }
}

/// Has the writer take a record's event, which `event` makes. `time` is that of an event without a timestamp.
pub(super) fn write_event(
    shared: &Shared<'_>,
    time: u64,
    event: impl FnOnce(&SharedResource) -> Result<Event, MappingError>,
    writer: &mut EventWriter<'_>,
) {
    if writer.is_overfull() {
        return;
    }
    let made = shared.as_ref().map_err(Clone::clone).and_then(|shared| Ok((event(shared.resource)?, shared)));
    match made {
        Ok((event, shared)) => writer.event_with(event, Extra { fields: &shared.fields, time }),
        Err((code, message)) => writer.reject(code, message),
    }
}
