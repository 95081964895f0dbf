//! The table of paths.

use hyper::Method;

use super::{Head, HttpSource, Refusal};
use crate::sources::{
    analytics::{PostHog, Segment},
    elasticsearch::{Bulk, Probe},
    otlp::Signal,
    own, prometheus,
};

/// A listener, by the option that opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// `--http`
    Http,
    /// `--otlp-http`
    OtlpHttp,
    /// `--otlp-grpc`
    OtlpGrpc,
}

/// A path, and the source that takes what comes there.
pub struct Route {
    /// The listeners that have it.
    pub listeners: &'static [Listener],
    /// The methods, as the header `Allow` has them.
    pub method: &'static str,
    /// The path; a segment `*` stands for any one.
    pub path: &'static str,
    /// The source.
    pub source: &'static dyn HttpSource,
}

const HTTP: &[Listener] = &[Listener::Http];
const OTLP_HTTP: &[Listener] = &[Listener::OtlpHttp];
const OTLP_GRPC: &[Listener] = &[Listener::OtlpGrpc];
const READ: &str = "GET, HEAD";
/// Methods by which shippers read and write setup.
const SETUP: &str = "GET, HEAD, PUT, POST";

/// All paths.
pub fn routes() -> &'static [Route] {
    ROUTES
}

const ROUTES: &[Route] = &[
    Route { listeners: HTTP, method: "POST", path: "/v1/events", source: &own::Events },
    Route { listeners: HTTP, method: "POST", path: "/api/v1/write", source: &prometheus::RemoteWrite },
    Route { listeners: HTTP, method: "POST", path: "/v1/track", source: &Segment::Call("track") },
    Route { listeners: HTTP, method: "POST", path: "/v1/identify", source: &Segment::Call("identify") },
    Route { listeners: HTTP, method: "POST", path: "/v1/page", source: &Segment::Call("page") },
    Route { listeners: HTTP, method: "POST", path: "/v1/screen", source: &Segment::Call("screen") },
    Route { listeners: HTTP, method: "POST", path: "/v1/group", source: &Segment::Call("group") },
    Route { listeners: HTTP, method: "POST", path: "/v1/alias", source: &Segment::Call("alias") },
    Route { listeners: HTTP, method: "POST", path: "/v1/t", source: &Segment::Call("track") },
    Route { listeners: HTTP, method: "POST", path: "/v1/i", source: &Segment::Call("identify") },
    Route { listeners: HTTP, method: "POST", path: "/v1/p", source: &Segment::Call("page") },
    Route { listeners: HTTP, method: "POST", path: "/v1/s", source: &Segment::Call("screen") },
    Route { listeners: HTTP, method: "POST", path: "/v1/g", source: &Segment::Call("group") },
    Route { listeners: HTTP, method: "POST", path: "/v1/a", source: &Segment::Call("alias") },
    Route { listeners: HTTP, method: "POST", path: "/v1/batch", source: &Segment::Batch },
    Route { listeners: HTTP, method: "POST", path: "/v1/import", source: &Segment::Batch },
    Route { listeners: HTTP, method: "POST", path: "/batch", source: &PostHog },
    Route { listeners: HTTP, method: "POST", path: "/i/v0/e", source: &PostHog },
    Route { listeners: HTTP, method: "POST", path: "/e", source: &PostHog },
    Route { listeners: HTTP, method: "POST", path: "/capture", source: &PostHog },
    Route { listeners: HTTP, method: "POST", path: "/track", source: &PostHog },
    Route { listeners: HTTP, method: "POST, PUT", path: "/_bulk", source: &Bulk },
    Route { listeners: HTTP, method: "POST, PUT", path: "/*/_bulk", source: &Bulk },
    Route { listeners: HTTP, method: READ, path: "/", source: &Probe::Root },
    Route { listeners: HTTP, method: READ, path: "/_license", source: &Probe::License },
    Route { listeners: HTTP, method: READ, path: "/_xpack", source: &Probe::Xpack },
    Route { listeners: HTTP, method: READ, path: "/_cluster/health", source: &Probe::Health },
    Route { listeners: HTTP, method: READ, path: "/_cat/health", source: &Probe::CatHealth },
    Route { listeners: HTTP, method: SETUP, path: "/_template/*", source: &Probe::Setup },
    Route { listeners: HTTP, method: SETUP, path: "/_index_template/*", source: &Probe::Setup },
    Route { listeners: HTTP, method: SETUP, path: "/_component_template/*", source: &Probe::Setup },
    Route { listeners: HTTP, method: SETUP, path: "/_ilm/policy/*", source: &Probe::Setup },
    Route { listeners: HTTP, method: SETUP, path: "/_data_stream/*", source: &Probe::Setup },
    Route { listeners: HTTP, method: SETUP, path: "/_ingest/pipeline/*", source: &Probe::Setup },
    Route { listeners: HTTP, method: SETUP, path: "/_alias/*", source: &Probe::Setup },
    Route { listeners: OTLP_HTTP, method: "POST", path: "/v1/logs", source: &Signal::Logs },
    Route { listeners: OTLP_HTTP, method: "POST", path: "/v1/traces", source: &Signal::Traces },
    Route { listeners: OTLP_HTTP, method: "POST", path: "/v1/metrics", source: &Signal::Metrics },
    Route {
        listeners: OTLP_GRPC,
        method: "POST",
        path: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        source: &Signal::Logs,
    },
    Route {
        listeners: OTLP_GRPC,
        method: "POST",
        path: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        source: &Signal::Traces,
    },
    Route {
        listeners: OTLP_GRPC,
        method: "POST",
        path: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        source: &Signal::Metrics,
    },
    Route { listeners: HTTP, method: READ, path: "/openapi.json", source: &own::Description },
];

/// The source for a request.
pub(super) fn find(listener: Listener, head: &Head) -> Result<&'static dyn HttpSource, Refusal> {
    let mut method = None;
    for route in ROUTES.iter().filter(|route| route.listeners.contains(&listener)) {
        if !matches(route.path, &head.path) {
            continue;
        }
        let is_taken = route.method.split(", ").any(|method| head.method == *method);
        if is_taken || head.method == Method::OPTIONS {
            return Ok(route.source);
        }
        method = Some(route.method);
    }
    Err(method.map_or(Refusal::NotFound, Refusal::Method))
}

/// True if the path is the pattern's; a slash at the end makes no difference.
fn matches(pattern: &str, path: &str) -> bool {
    let segments = |path: &str| path.trim_end_matches('/').split('/').count();
    let pairs = pattern.trim_end_matches('/').split('/').zip(path.trim_end_matches('/').split('/'));
    let same = |(expected, found): (&str, &str)| expected == found || (expected == "*" && !found.is_empty());
    segments(pattern) == segments(path) && pairs.into_iter().all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::tests::head;

    #[test]
    fn patterns_match_whole_paths() {
        let cases = [
            ("/v1/events", "/v1/events", true),
            ("/v1/events", "/v1/events/", true),
            ("/v1/events", "/v1/eventsx", false),
            ("/v1/events", "/v1", false),
            ("/*/_bulk", "/logs/_bulk", true),
            ("/*/_bulk", "//_bulk", false),
            ("/*/_bulk", "/_bulk", false),
            ("/", "/", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_path_of_another_method_or_listener_is_told_apart() {
        let find = |listener, method, path| find(listener, &head(method, path, &[])).map(HttpSource::name);
        assert_eq!(find(Listener::Http, "POST", "/v1/events"), Ok("events"));
        assert_eq!(find(Listener::Http, "OPTIONS", "/v1/events"), Ok("events"));
        assert_eq!(find(Listener::Http, "PUT", "/v1/events"), Err(Refusal::Method("POST")));
        assert_eq!(find(Listener::OtlpHttp, "POST", "/v1/events"), Err(Refusal::NotFound));
    }
}
