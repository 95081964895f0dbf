//! Resource and scope: what many records of a request have in common.

use opentelemetry_proto::tonic::{
    common::v1::{EntityRef, InstrumentationScope},
    resource::v1::Resource as OtlpResource,
};
use tickstream_client::events::{Entity, Kind, Resource, Scope, Value};

use super::values::{MappingError, from_map, to_map};
use crate::sources::fields::{SERVICE_BYTES_MAX, clipped};

/// Numbers of the fields in `message Event`.
const RESOURCE_FIELD: u32 = 50;
const SCOPE_FIELD: u32 = 51;

/// Longest `Event.platform`, bytes.
const PLATFORM_BYTES_MAX: usize = 64;

/// The resource of records, encoded once for all of them.
pub(super) struct SharedResource {
    pub service: String,
    pub platform: String,
    fields: Vec<u8>,
}

impl SharedResource {
    pub fn new(resource: Option<OtlpResource>, schema_url: String) -> Result<Self, MappingError> {
        let resource = to_resource(resource, schema_url)?;
        let text = |key: &str| match resource.as_ref()?.attributes.get(key)? {
            Value { kind: Some(Kind::Text(text)) } if !text.is_empty() => Some(text.clone()),
            _ => None,
        };
        let service = text("service.name").unwrap_or_else(|| "unknown_service".to_owned());
        let platform = text("os.type").unwrap_or_else(|| "unknown".to_owned());
        let mut fields = Vec::new();
        if let Some(resource) = &resource {
            prost::encoding::message::encode(RESOURCE_FIELD, resource, &mut fields);
        }
        Ok(Self {
            service: clipped(&service, SERVICE_BYTES_MAX).to_owned(),
            platform: clipped(&platform, PLATFORM_BYTES_MAX).to_owned(),
            fields,
        })
    }

    /// Fields of an event: the resource's and the scope's.
    pub fn with_scope(
        &self,
        scope: Option<InstrumentationScope>,
        schema_url: String,
    ) -> Result<Vec<u8>, MappingError> {
        let mut fields = self.fields.clone();
        if let Some(scope) = to_scope(scope, schema_url)? {
            prost::encoding::message::encode(SCOPE_FIELD, &scope, &mut fields);
        }
        Ok(fields)
    }
}

/// A resource, and the fields that records of one of its scopes have in common.
pub(super) struct SharedScope<'a> {
    pub resource: &'a SharedResource,
    /// Encoded, of `message Event`.
    pub fields: Vec<u8>,
}

impl<'a> SharedScope<'a> {
    pub fn new(
        resource: Result<&'a SharedResource, &MappingError>,
        scope: Option<InstrumentationScope>,
        schema_url: String,
    ) -> Result<Self, MappingError> {
        let resource = resource.map_err(Clone::clone)?;
        Ok(Self { resource, fields: resource.with_scope(scope, schema_url)? })
    }
}

fn to_resource(resource: Option<OtlpResource>, schema_url: String) -> Result<Option<Resource>, MappingError> {
    if resource.is_none() && schema_url.is_empty() {
        return Ok(None);
    }
    let OtlpResource { attributes, dropped_attributes_count, entity_refs } = resource.unwrap_or_default();
    let entities = entity_refs.into_iter().map(|entity| {
        let EntityRef { schema_url, r#type, id_keys, description_keys } = entity;
        Entity { schema_url, r#type, id_keys, description_keys }
    });
    Ok(Some(Resource {
        attributes: to_map(attributes)?,
        dropped_attributes_count,
        schema_url,
        entities: entities.collect(),
    }))
}

fn to_scope(scope: Option<InstrumentationScope>, schema_url: String) -> Result<Option<Scope>, MappingError> {
    if scope.is_none() && schema_url.is_empty() {
        return Ok(None);
    }
    let InstrumentationScope { name, version, attributes, dropped_attributes_count } =
        scope.unwrap_or_default();
    Ok(Some(Scope { name, version, attributes: to_map(attributes)?, dropped_attributes_count, schema_url }))
}

/// OpenTelemetry's resource, and its schema.
pub(super) fn from_resource(resource: Option<Resource>) -> (Option<OtlpResource>, String) {
    let Some(Resource { attributes, dropped_attributes_count, schema_url, entities }) = resource else {
        return (None, String::new());
    };
    let entities = entities.into_iter().map(|entity| {
        let Entity { schema_url, r#type, id_keys, description_keys } = entity;
        EntityRef { schema_url, r#type, id_keys, description_keys }
    });
    let attributes = from_map(attributes);
    let resource = OtlpResource { attributes, dropped_attributes_count, entity_refs: entities.collect() };
    (Some(resource).filter(|resource| *resource != OtlpResource::default()), schema_url)
}

/// OpenTelemetry's scope, and its schema.
pub(super) fn from_scope(scope: Option<Scope>) -> (Option<InstrumentationScope>, String) {
    let Some(Scope { name, version, attributes, dropped_attributes_count, schema_url }) = scope else {
        return (None, String::new());
    };
    let attributes = from_map(attributes);
    let scope = InstrumentationScope { name, version, attributes, dropped_attributes_count };
    (Some(scope).filter(|scope| *scope != InstrumentationScope::default()), schema_url)
}
