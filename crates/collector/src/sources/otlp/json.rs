//! Requests in JSON, in which a record that can't be read spoils no other.

use opentelemetry_proto::tonic::{common::v1::InstrumentationScope, resource::v1::Resource};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::groups::{Group, Scope};
use crate::{outcome::Malformed, sources::json::parse};

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

/// Each record, or the reason why it can't be read.
type Groups<T> = Vec<Group<Vec<Scope<Vec<Result<T, String>>>>>>;

/// A request, record by record.
///
/// # Errors
/// [`Malformed`], if what holds the records can't be read.
pub(super) fn by_record<T: DeserializeOwned>(body: &[u8]) -> Result<Groups<T>, Malformed> {
    let malformed = |problem: String| Malformed(format!("the body is no OTLP in JSON: {problem}"));
    let text = std::str::from_utf8(body).map_err(|error| malformed(error.to_string()))?;
    let request: RawRequest<'_> = parse(text).map_err(malformed)?;
    let scope = |RawScope { scope, schema_url, records }: RawScope<'_>| Scope {
        scope,
        schema_url,
        records: records.into_iter().map(|record| parse(record.get())).collect(),
    };
    let group = |RawGroup { resource, schema_url, scopes }: RawGroup<'_>| Group {
        resource,
        schema_url,
        scopes: scopes.into_iter().map(scope).collect(),
    };
    Ok(request.groups.into_iter().map(group).collect())
}
