//! Requests in JSON, in which a record that can't be read spoils no other.

use opentelemetry_proto::tonic::{common::v1::InstrumentationScope, resource::v1::Resource};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{outcome::Malformed, sources::json::parse};

/// Records of one resource.
pub(super) struct Group<T> {
    pub resource: Option<Resource>,
    pub schema_url: String,
    pub scopes: Vec<Scope<T>>,
}

/// Records of one scope; in the place of one that can't be read, why.
pub(super) struct Scope<T> {
    pub scope: Option<InstrumentationScope>,
    pub schema_url: String,
    pub records: Vec<Result<T, String>>,
}

#[derive(Deserialize)]
struct RawRequest<'a> {
    #[serde(borrow, default, alias = "resourceLogs", alias = "resourceSpans", alias = "resourceMetrics")]
    groups: Vec<RawGroup<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawGroup<'a> {
    resource: Option<Resource>,
    #[serde(default)]
    schema_url: String,
    #[serde(borrow, default, alias = "scopeLogs", alias = "scopeSpans", alias = "scopeMetrics")]
    scopes: Vec<RawScope<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawScope<'a> {
    scope: Option<InstrumentationScope>,
    #[serde(default)]
    schema_url: String,
    #[serde(borrow, default, alias = "logRecords", alias = "spans", alias = "metrics")]
    records: Vec<&'a RawValue>,
}

/// A whole request, or `None`, if anything in it can't be read.
pub(super) fn whole<M: DeserializeOwned>(body: &[u8]) -> Option<M> {
    serde_json::from_slice(body).ok()
}

/// A request, record by record.
///
/// # Errors
/// [`Malformed`], if what holds the records can't be read.
pub(super) fn by_record<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<Group<T>>, Malformed> {
    let malformed = |problem: String| Malformed(format!("the body is no OTLP in JSON: {problem}"));
    let text = std::str::from_utf8(body).map_err(|error| malformed(error.to_string()))?;
    let request: RawRequest<'_> = parse(text).map_err(malformed)?;
    let scope = |RawScope { scope, schema_url, records }: RawScope<'_>| {
        let records = records.into_iter().map(|record| parse(record.get())).collect();
        Scope { scope, schema_url, records }
    };
    let group = |RawGroup { resource, schema_url, scopes }: RawGroup<'_>| {
        let scopes = scopes.into_iter().map(scope).collect();
        Group { resource, schema_url, scopes }
    };
    Ok(request.groups.into_iter().map(group).collect())
}
