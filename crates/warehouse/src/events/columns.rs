//! Columns of the table `events`.

use std::sync::{Arc, LazyLock};

use deltalake::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::enrichment;

/// Partition columns, in the order of the directories.
pub const PARTITIONS: [&str; 2] = ["load_date", "event_type"];

/// Value of `event_type` in rows that are dead letters and no events.
pub const DEAD_LETTER: &str = "dead_letter";

/// Field of an event's body that has a column of its own, because it is asked often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Promoted {
    /// Service that a log, span or metric is about.
    Service,
    /// Trace of a span or log, hexadecimal digits.
    TraceId,
    /// Span, hexadecimal digits.
    SpanId,
    /// Parent of the span.
    ParentSpanId,
    /// Operation of a span.
    Operation,
    /// Status of a span.
    Status,
    /// Level of a log.
    Level,
    /// Name of a metric.
    MetricName,
    /// Video that was played.
    VideoId,
    /// Name of a video event.
    VideoEvent,
    /// Screen of an interaction.
    ScreenName,
    /// Action of an interaction.
    Action,
    /// Version of the application.
    AppVersion,
    /// Resource of an infrastructure metric.
    ResourceId,
    /// Campaign that led to an event.
    Campaign,
    /// Kind of a span: server, client and others.
    SpanKind,
    /// Currency of a revenue or a cost.
    Currency,
    /// Value of a metric.
    Value,
    /// Duration of a span, milliseconds.
    DurationMs,
    /// Revenue of an event, in its currency.
    Revenue,
}

/// Promoted columns, in the order of [`Promoted`]: name, message and field. Texts come first, then numbers.
const PROMOTED: [(&str, &[(&str, &str)]); Promoted::COUNT] = [
    (
        "service",
        &[
            ("ApplicationMetric", "service"),
            ("TraceSpan", "service"),
            ("Log", "service"),
            ("MetricSeries", "service"),
            ("Incident", "service"),
            ("Deployment", "service"),
            ("Access", "service"),
        ],
    ),
    ("trace_id", &[("TraceSpan", "trace_id"), ("LogContext", "trace_id")]),
    ("span_id", &[("TraceSpan", "span_id")]),
    ("parent_span_id", &[("TraceSpan", "parent_span_id")]),
    ("operation", &[("TraceSpan", "operation")]),
    ("status", &[("TraceSpan", "status")]),
    ("level", &[("Log", "level")]),
    ("metric_name", &[("ApplicationMetric", "name"), ("MetricSeries", "name")]),
    ("video_id", &[("Video", "video_id")]),
    ("video_event", &[("Video", "event_name")]),
    ("screen_name", &[("InteractionProperties", "screen_name")]),
    ("action", &[("InteractionProperties", "action")]),
    ("app_version", &[("InteractionContext", "app_version"), ("App", "version")]),
    ("resource_id", &[("InfrastructureMetric", "resource_id")]),
    ("campaign", &[("Campaign", "name")]),
    ("span_kind", &[("TraceSpan", "kind")]),
    ("currency", &[("Revenue", "currency"), ("Cost", "billing_currency"), ("CostData", "currency")]),
    ("value", &[("ApplicationMetric", "value")]),
    ("duration_ms", &[("TraceSpan", "duration_ms")]),
    ("revenue", &[("Revenue", "amount")]),
];

impl Promoted {
    /// Number of promoted columns.
    pub const COUNT: usize = 20;
    /// Number of those that are texts.
    pub const TEXTS: usize = 17;

    /// Column of a message's field, if it has one.
    pub fn of(message: &str, field: &str) -> Option<Self> {
        const ALL: [Promoted; Promoted::COUNT] = [
            Promoted::Service,
            Promoted::TraceId,
            Promoted::SpanId,
            Promoted::ParentSpanId,
            Promoted::Operation,
            Promoted::Status,
            Promoted::Level,
            Promoted::MetricName,
            Promoted::VideoId,
            Promoted::VideoEvent,
            Promoted::ScreenName,
            Promoted::Action,
            Promoted::AppVersion,
            Promoted::ResourceId,
            Promoted::Campaign,
            Promoted::SpanKind,
            Promoted::Currency,
            Promoted::Value,
            Promoted::DurationMs,
            Promoted::Revenue,
        ];
        ALL.into_iter().find(|column| PROMOTED[*column as usize].1.contains(&(message, field)))
    }
}

/// All columns as they are in Delta: those of the requirement, where an event came from, enrichment, promoted ones.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut fields = stored_fields();
        fields.extend(PARTITIONS.iter().map(|name| Field::new(*name, DataType::Utf8, false)));
        Arc::new(Schema::new(fields))
    });
    SCHEMA.clone()
}

/// Columns that are in the files: all but the partition columns.
pub fn file_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(Schema::new(stored_fields())));
    SCHEMA.clone()
}

/// Columns of rows before they are in a file: as [`file_schema`], with texts as bytes. They are UTF-8 as they are made, and
/// aren't checked once more.
pub fn row_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let fields = stored_fields().into_iter().map(|field| match field.data_type() {
            DataType::Utf8 => field.with_data_type(DataType::Binary),
            _ => field,
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    });
    SCHEMA.clone()
}

fn stored_fields() -> Vec<Field> {
    let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let text = || DataType::Utf8;
    let mut fields = vec![
        Field::new("event_id", text(), false),
        Field::new("timestamp", time(), false),
        Field::new("timestamp_ns", DataType::Int64, false),
        Field::new("platform", text(), false),
        Field::new("event_name", text(), false),
        Field::new("session_id", text(), true),
        Field::new("user_id", text(), true),
        Field::new("properties", text(), false),
        Field::new("context", text(), false),
        Field::new("raw_data", text(), false),
        Field::new("processed_at", time(), false),
        Field::new("_partition_key", text(), false),
        Field::new("received_at", time(), false),
        Field::new("received_ns", DataType::Int64, false),
        Field::new("sender", text(), true),
        Field::new("peer", text(), true),
        Field::new("server", text(), true),
        Field::new("shard", DataType::Int32, false),
        Field::new("journal", text(), false),
        Field::new("sequence", DataType::Int64, false),
        Field::new("batch_index", DataType::Int32, false),
        Field::new("anonymous_id", text(), true),
    ];
    fields.extend(enrichment::COLUMNS.iter().map(|name| Field::new(*name, text(), true)));
    fields.push(Field::new("enrichment", DataType::Int32, false));
    let promoted = PROMOTED.iter().enumerate().map(|(index, (name, _))| {
        let kind = if index < Promoted::TEXTS { DataType::Utf8 } else { DataType::Float64 };
        Field::new(*name, kind, true)
    });
    fields.extend(promoted);
    fields
}

/// Promoted columns that rows before version 3 of the enrichment lack, and the places of their values in the stored event.
pub const PROMOTED_LATER: [(&str, &[&str]); 2] = [
    ("span_kind", &["trace_span.kind"]),
    ("currency", &["revenue.currency", "cost.billing_currency", "infrastructure_metric.cost_data.currency"]),
];

/// Columns with statistics in the Delta log. Never one that identifies a person: statistics hold values in clear.
pub const STATISTICS: [&str; 5] = ["timestamp", "timestamp_ns", "received_ns", "sequence", "journal"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promoted_columns_are_fields_of_the_schema_and_none_is_lost() {
        use crate::events::descriptor::Schema;
        let text = format!("{:?}", Schema::get());
        for (name, fields) in PROMOTED {
            assert!(!fields.is_empty(), "{name}");
        }
        // Each is found in the table that reads events.
        let found = text.matches("promoted: Some(").count();
        assert_eq!(found, PROMOTED.iter().map(|(_, fields)| fields.len()).sum::<usize>());
    }
}
