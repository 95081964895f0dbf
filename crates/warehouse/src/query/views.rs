//! Tables by kind: flat and typed views over `events`.

use crate::events::DEAD_LETTER;

/// Source of a view's column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A column of `events`.
    Column(&'static str),
    /// A text at a path of the stored event.
    Text(&'static str),
    /// A number at a path.
    Number(&'static str),
    /// A whole number at a path.
    Integer(&'static str),
    /// A truth value at a path.
    Boolean(&'static str),
    /// JSON of an object or list at a path.
    Json(&'static str),
    /// A time at a path.
    Time(&'static str),
    /// A text at a path of one measurement, where rows are measurements.
    ItemText(&'static str),
    /// A number at a path of one measurement.
    ItemNumber(&'static str),
    /// A time at a path of one measurement.
    ItemTime(&'static str),
    /// JSON at a path of one measurement.
    ItemJson(&'static str),
    /// A text at the first of two paths that has one.
    FirstText(&'static str, &'static str),
    /// JSON at the first of two paths that has some.
    FirstJson(&'static str, &'static str),
    /// A column, or where it is null a number at one of two paths of one measurement.
    ColumnOrItem(&'static str, &'static str, &'static str),
}

/// A table by kind.
#[derive(Debug)]
pub struct View {
    /// Its name.
    pub name: &'static str,
    /// Kinds of events that are in it.
    pub kinds: &'static [&'static str],
    /// Path of a list, if each of its items is a row.
    pub items: Option<&'static str>,
    /// Columns after those that all views have.
    pub columns: &'static [(&'static str, Source)],
}

/// Columns that every view begins with.
pub const COMMON: [&str; 8] = [
    "event_id",
    "timestamp",
    "timestamp_ns",
    "platform",
    "event_type",
    "event_name",
    "session_id",
    "user_id",
];

/// Columns that every view ends with: where an event came from.
pub const PLACE: [&str; 4] = ["received_at", "journal", "sequence", "batch_index"];

use Source::{
    Boolean, Column, ColumnOrItem, FirstJson, FirstText, Integer, ItemJson, ItemNumber, ItemText, ItemTime,
    Json, Number, Text, Time,
};

/// All tables by kind.
pub const VIEWS: [View; 10] = [
    View {
        name: "video_analytics",
        kinds: &["video"],
        items: None,
        columns: &[
            ("video_id", Column("video_id")),
            ("video_event", Column("video_event")),
            ("view_id", Text("video.view_id")),
            ("player_type", Text("video.player_type")),
            ("startup_time_ms", Number("video.measurements.startup_time")),
            ("buffer_duration_ms", Number("video.measurements.buffer_duration")),
            ("bitrate", Integer("video.measurements.bitrate")),
            ("resolution", Text("video.measurements.resolution")),
            ("fps", Number("video.measurements.fps")),
            ("latency_ms", Number("video.measurements.latency")),
            ("watched_time_ms", Number("video.measurements.watched_time")),
            ("stalled_time_ms", Number("video.measurements.stalled_time")),
            ("stall_count", Integer("video.measurements.stall_count")),
            ("dropped_frames", Integer("video.measurements.dropped_frames")),
            ("license_time_ms", Number("video.measurements.license_time")),
            ("video_quality_score", Number("video.quality_metrics.video_quality_score")),
            ("buffering_ratio", Number("video.quality_metrics.buffering_ratio")),
            ("startup_time_score", Number("video.quality_metrics.startup_time_score")),
            ("cdn_provider", Text("video.context.cdn_provider")),
            ("player_version", Text("video.context.player_version")),
            ("drm_type", Text("video.context.drm_type")),
            ("codec", Text("video.context.codec")),
            ("position_ms", Number("video.position")),
            ("duration_ms", Number("video.duration")),
            ("stream_type", Text("video.stream_type")),
            ("title", Text("video.title")),
            ("error_code", Text("video.error.code")),
            ("error_message", Text("video.error.message")),
            ("error_is_fatal", Boolean("video.error.is_fatal")),
            ("error_source", Text("video.error.source")),
            ("app_version", Column("app_version")),
            ("country", Column("country")),
        ],
    },
    View {
        name: "performance_metrics",
        kinds: &["performance"],
        items: Some("performance.measurements"),
        columns: &[
            ("category", Text("performance.category")),
            ("metric_name", ItemText("name")),
            ("value", ItemNumber("value")),
            ("unit", ItemText("unit")),
            ("view_name", Text("performance.context.view_name")),
            ("network_type", Text("performance.context.network_info.type")),
            ("network_strength", Number("performance.context.network_info.strength")),
        ],
    },
    View {
        name: "spans",
        kinds: &["trace_span"],
        items: None,
        columns: &[
            ("trace_id", Column("trace_id")),
            ("span_id", Column("span_id")),
            ("parent_span_id", Column("parent_span_id")),
            ("service", Column("service")),
            ("operation", Column("operation")),
            ("start_time", Time("trace_span.start_time")),
            ("end_time", Time("trace_span.end_time")),
            ("duration_ms", Column("duration_ms")),
            ("status", Column("status")),
            ("status_message", Text("trace_span.status_message")),
            ("kind", Column("span_kind")),
            ("http_method", Text("trace_span.attributes.http_method")),
            ("http_url", Text("trace_span.attributes.http_url")),
            ("http_status_code", Integer("trace_span.attributes.http_status_code")),
            ("db_statement", Text("trace_span.attributes.db_statement")),
            ("error_message", Text("trace_span.attributes.error_message")),
            ("attributes", Json("trace_span.attributes.other")),
            ("service_version", Text("trace_span.resource.service_version")),
            ("host_name", Text("trace_span.resource.host_name")),
            ("key_id", Text("sender.key_id")),
            ("events", Json("trace_span.events")),
            ("links", Json("trace_span.links")),
        ],
    },
    View {
        name: "logs",
        kinds: &["log"],
        items: None,
        columns: &[
            ("service", Column("service")),
            ("level", Column("level")),
            ("message", Text("log.message")),
            ("body", Json("log.body")),
            ("logger_name", Text("log.logger_name")),
            ("thread_name", Text("log.thread_name")),
            ("stack_trace", Text("log.stack_trace")),
            ("request_id", Text("log.context.request_id")),
            ("trace_id", Column("trace_id")),
            ("span_id", Text("log.context.span_id")),
            ("severity_number", Integer("log.severity_number")),
            ("severity_text", Text("log.severity_text")),
            ("metadata", Json("log.metadata")),
        ],
    },
    View {
        name: "metrics",
        kinds: &["application_metric", "metric_series"],
        // A metric without a list is one row.
        items: Some("metric_series.points"),
        columns: &[
            ("service", Column("service")),
            ("metric_name", Column("metric_name")),
            ("metric_type", FirstText("application_metric.metric_type", "metric_series.type")),
            ("value", ColumnOrItem("value", "value", "integer")),
            ("unit", FirstText("application_metric.unit", "metric_series.unit")),
            ("description", FirstText("application_metric.description", "metric_series.description")),
            ("environment", Text("application_metric.environment")),
            ("labels", FirstJson("application_metric.labels", "metric_series.labels")),
            ("hostname", Text("application_metric.host_info.hostname")),
            ("region", Text("application_metric.host_info.region")),
            ("temporality", Text("metric_series.temporality")),
            ("point_time", ItemTime("time")),
            ("count", ItemNumber("histogram.count")),
            ("sum", ItemNumber("histogram.sum")),
            ("histogram", ItemJson("histogram")),
            ("exponential_histogram", ItemJson("exponential_histogram")),
            ("summary", ItemJson("summary")),
        ],
    },
    View {
        name: "infrastructure",
        kinds: &["infrastructure_metric"],
        items: None,
        columns: &[
            ("resource_type", Text("infrastructure_metric.resource_type")),
            ("resource_id", Column("resource_id")),
            ("provider", Text("infrastructure_metric.provider")),
            ("region", Text("infrastructure_metric.region")),
            ("cpu_usage", Number("infrastructure_metric.measurements.cpu_usage")),
            ("memory_usage", Number("infrastructure_metric.measurements.memory_usage")),
            ("disk_io", Number("infrastructure_metric.measurements.disk_io")),
            ("network_io", Number("infrastructure_metric.measurements.network_io")),
            ("disk_used", Number("infrastructure_metric.measurements.disk_used")),
            ("disk_capacity", Number("infrastructure_metric.measurements.disk_capacity")),
            ("cost_per_hour", Number("infrastructure_metric.cost_data.cost_per_hour")),
            ("currency", Column("currency")),
        ],
    },
    View {
        name: "feedback",
        kinds: &["feedback"],
        items: None,
        columns: &[
            ("survey_id", Text("feedback.survey_id")),
            ("question_id", Text("feedback.question_id")),
            ("type", Text("feedback.type")),
            ("score", Number("feedback.score")),
            ("score_max", Number("feedback.score_max")),
            ("text", Text("feedback.text")),
        ],
    },
    View {
        name: "replays",
        kinds: &["replay_chunk"],
        items: None,
        columns: &[
            ("replay_id", Text("replay_chunk.replay_id")),
            ("chunk_sequence", Integer("replay_chunk.sequence")),
            ("start_time", Time("replay_chunk.start_time")),
            ("end_time", Time("replay_chunk.end_time")),
            ("has_snapshot", Boolean("replay_chunk.has_snapshot")),
            ("format", Text("replay_chunk.format")),
            ("compression", Text("replay_chunk.compression")),
            ("payload", Text("replay_chunk.payload")),
        ],
    },
    View {
        name: "identities",
        kinds: &["identify", "alias"],
        items: None,
        columns: &[
            ("anonymous_id", Text("anonymous_id")),
            ("traits", Json("identify.traits")),
            ("alias_previous_id", Text("alias.previous_id")),
            ("alias_user_id", Text("alias.user_id")),
        ],
    },
    View {
        name: "dead_letters",
        kinds: &[DEAD_LETTER],
        items: None,
        columns: &[
            ("code", Text("code")),
            ("message", Text("message")),
            ("rejected_event", Json("event")),
            ("rejected_bytes", Text("bytes")),
            ("received_at", Column("received_at")),
            ("sender", Column("sender")),
            ("peer", Column("peer")),
        ],
    },
];

/// True if a source may hold what identifies or describes a person.
pub fn is_personal(source: Source) -> bool {
    match source {
        Column(name) => PERSONAL.contains(&name),
        Text(path) | Json(path) => !IMPERSONAL_PATHS.contains(&path),
        FirstText(one, other) | FirstJson(one, other) => {
            !IMPERSONAL_PATHS.contains(&one) || !IMPERSONAL_PATHS.contains(&other)
        }
        Number(_) | Integer(_) | Boolean(_) | Time(_) => false,
        ColumnOrItem(..) | ItemNumber(_) | ItemText(_) | ItemTime(_) | ItemJson(_) => false,
    }
}

/// Columns of `events` that identify or describe a person.
pub const PERSONAL: [&str; 8] =
    ["session_id", "user_id", "anonymous_id", "properties", "context", "raw_data", "peer", "city"];

/// Texts that describe no person: names that programs give.
const IMPERSONAL_PATHS: [&str; 38] = [
    "video.view_id",
    "video.player_type",
    "video.measurements.resolution",
    "video.context.cdn_provider",
    "video.context.player_version",
    "video.context.drm_type",
    "video.context.codec",
    "video.stream_type",
    "video.title",
    "video.error.code",
    "performance.category",
    "performance.context.view_name",
    "performance.context.network_info.type",
    "trace_span.attributes.http_method",
    "trace_span.resource.service_version",
    "trace_span.resource.host_name",
    "log.logger_name",
    "log.thread_name",
    "log.severity_text",
    "application_metric.metric_type",
    "application_metric.environment",
    "application_metric.unit",
    "application_metric.labels",
    "application_metric.host_info.hostname",
    "application_metric.host_info.region",
    "metric_series.type",
    "metric_series.labels",
    "metric_series.unit",
    "metric_series.description",
    "metric_series.temporality",
    "application_metric.description",
    "infrastructure_metric.resource_type",
    "infrastructure_metric.provider",
    "infrastructure_metric.region",
    "feedback.survey_id",
    "feedback.question_id",
    "feedback.type",
    "code",
];
