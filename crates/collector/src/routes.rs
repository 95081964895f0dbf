//! The table of paths.

use crate::{
    http::{Listener, Route},
    sources::{
        analytics::{PostHog, PostHogSettings, Segment},
        elasticsearch::{Bulk, Probe},
        otlp::Signal,
        own, prometheus,
    },
};

const HTTP: &[Listener] = &[Listener::Http];
const OTLP_HTTP: &[Listener] = &[Listener::OtlpHttp];
const OTLP_GRPC: &[Listener] = &[Listener::OtlpGrpc];
const READ: &str = "GET, HEAD";
/// Methods by which shippers read and write setup.
const SETUP: &str = "GET, HEAD, PUT, POST";

/// All paths.
pub const ROUTES: &[Route] = &[
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
    Route { listeners: HTTP, method: "POST", path: "/v1/b", source: &Segment::Batch },
    Route { listeners: HTTP, method: "POST", path: "/v1/import", source: &Segment::Batch },
    Route { listeners: HTTP, method: "POST", path: "/batch", source: &PostHog },
    Route { listeners: HTTP, method: "POST", path: "/i/v0/e", source: &PostHog },
    Route { listeners: HTTP, method: "POST", path: "/e", source: &PostHog },
    Route { listeners: HTTP, method: "POST", path: "/capture", source: &PostHog },
    Route { listeners: HTTP, method: "POST", path: "/track", source: &PostHog },
    Route { listeners: HTTP, method: READ, path: "/array/*/config", source: &PostHogSettings },
    Route { listeners: HTTP, method: "POST", path: "/flags", source: &PostHogSettings },
    Route { listeners: HTTP, method: "POST", path: "/decide", source: &PostHogSettings },
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
