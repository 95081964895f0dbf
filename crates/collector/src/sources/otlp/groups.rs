//! Records of a request, by resource and scope.

use opentelemetry_proto::tonic::{common::v1::InstrumentationScope, resource::v1::Resource};

/// Records of one resource.
pub(super) struct Group<S> {
    pub resource: Option<Resource>,
    pub schema_url: String,
    pub scopes: S,
}

/// Records of one scope; in the place of one that can't be read, why.
pub(super) struct Scope<R> {
    pub scope: Option<InstrumentationScope>,
    pub schema_url: String,
    pub records: R,
}
