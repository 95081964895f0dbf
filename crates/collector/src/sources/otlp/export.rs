//! Events as OTLP again: `tickstream events export --otlp`.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, LogsData, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Exemplar as OtlpExemplar, ExponentialHistogram as OtlpExponential, ExponentialHistogramDataPoint,
        Gauge, Histogram as OtlpHistogram, HistogramDataPoint, Metric, MetricsData, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, Summary as OtlpSummary, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status, TracesData,
        span::{Event as OtlpEvent, Link},
        status::StatusCode,
    },
};
use tickstream_client::events::{
    Body, Event, Exemplar, ExponentialBuckets, Kind, Log, MetricPoint, MetricSeries, Resource, Scope,
    SeriesType, SpanAttributes, SpanEvent, SpanLink, SpanStatus, TraceSpan, Value,
};

use super::{
    semantics::{METHOD, STATEMENT, STATUS_CODE, URL},
    shared::{from_resource, from_scope},
    values::{from_map, from_maps, from_value},
};

/// Telemetry of one event, as a message of OTLP's file format.
#[derive(Clone, Debug, PartialEq)]
pub enum Telemetry {
    /// Of a log event.
    Logs(LogsData),
    /// Of a span.
    Traces(TracesData),
    /// Of a series.
    Metrics(MetricsData),
}

impl Telemetry {
    /// Appends the message in JSON: a line of OTLP's file format, without its end.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let written = match self {
            Self::Logs(logs) => serde_json::to_writer(out, logs),
            Self::Traces(traces) => serde_json::to_writer(out, traces),
            Self::Metrics(metrics) => serde_json::to_writer(out, metrics),
        };
        written.expect("a Vec grows as long as there is memory, and keys are texts");
    }
}

/// The telemetry of an event; `None` for other kinds of events.
pub fn telemetry(event: Event) -> Option<Telemetry> {
    let Event { timestamp, body, sender, resource, scope, .. } = event;
    // The timestamp as it came: the collector may have corrected it, or set one that wasn't there.
    let timestamp = sender.and_then(|sender| sender.original_timestamp).unwrap_or(timestamp);
    match body? {
        Body::Log(log) => Some(Telemetry::Logs(logs(from_log(log, timestamp), resource, scope))),
        Body::TraceSpan(span) => Some(Telemetry::Traces(traces(from_span(span), resource, scope))),
        Body::MetricSeries(series) => Some(Telemetry::Metrics(metrics(from_series(series), resource, scope))),
        _ => None,
    }
}

fn logs(record: LogRecord, resource: Option<Resource>, scope: Option<Scope>) -> LogsData {
    let ((resource, resource_schema), (scope, schema_url)) = (from_resource(resource), from_scope(scope));
    let scope = ScopeLogs { scope, log_records: vec![record], schema_url };
    LogsData {
        resource_logs: vec![ResourceLogs { resource, scope_logs: vec![scope], schema_url: resource_schema }],
    }
}

fn traces(span: Span, resource: Option<Resource>, scope: Option<Scope>) -> TracesData {
    let ((resource, resource_schema), (scope, schema_url)) = (from_resource(resource), from_scope(scope));
    let scope = ScopeSpans { scope, spans: vec![span], schema_url };
    TracesData {
        resource_spans: vec![ResourceSpans {
            resource,
            scope_spans: vec![scope],
            schema_url: resource_schema,
        }],
    }
}

fn metrics(metric: Metric, resource: Option<Resource>, scope: Option<Scope>) -> MetricsData {
    let ((resource, resource_schema), (scope, schema_url)) = (from_resource(resource), from_scope(scope));
    let scope = ScopeMetrics { scope, metrics: vec![metric], schema_url };
    MetricsData {
        resource_metrics: vec![ResourceMetrics {
            resource,
            scope_metrics: vec![scope],
            schema_url: resource_schema,
        }],
    }
}

fn from_log(log: Log, timestamp: u64) -> LogRecord {
    let context = log.context.unwrap_or_default();
    let message = || AnyValue { value: Some(Any::StringValue(log.message)) };
    LogRecord {
        time_unix_nano: timestamp,
        observed_time_unix_nano: log.observed_time,
        severity_number: log.severity_number as i32,
        severity_text: log.severity_text,
        body: match log.body {
            // The schema wants a message or a body: a record without either has one without a value.
            Some(Value { kind: None }) => None,
            Some(body) => Some(from_value(body)),
            None => Some(message()),
        },
        attributes: from_maps(log.metadata, log.typed_metadata),
        dropped_attributes_count: log.dropped_attributes_count,
        flags: log.flags,
        trace_id: context.trace_id.unwrap_or_default(),
        span_id: context.span_id.unwrap_or_default(),
        event_name: log.event_name,
    }
}

fn from_span(span: TraceSpan) -> Span {
    let code = match SpanStatus::try_from(span.status) {
        Ok(SpanStatus::Success) => StatusCode::Ok,
        Ok(SpanStatus::Error) => StatusCode::Error,
        _ => StatusCode::Unset,
    };
    let status = Status { message: span.status_message, code: code.into() };
    Span {
        trace_id: span.trace_id,
        span_id: span.span_id,
        trace_state: span.trace_state,
        parent_span_id: span.parent_span_id.unwrap_or_default(),
        flags: span.flags,
        name: span.operation,
        kind: span.kind,
        start_time_unix_nano: span.start_time,
        end_time_unix_nano: span.end_time,
        attributes: from_attributes(span.attributes.unwrap_or_default()),
        dropped_attributes_count: span.dropped_attributes_count,
        events: span.events.into_iter().map(from_event).collect(),
        dropped_events_count: span.dropped_events_count,
        links: span.links.into_iter().map(from_link).collect(),
        dropped_links_count: span.dropped_links_count,
        status: Some(status).filter(|status| *status != Status::default()),
    }
}

/// All attributes, those that have a field of their own under today's key, unless they are there already.
fn from_attributes(attributes: SpanAttributes) -> Vec<KeyValue> {
    let SpanAttributes {
        http_method, http_url, http_status_code, db_statement, other, mut typed_other, ..
    } = attributes;
    let mut add = |keys: [&str; 2], kind: Option<Kind>| {
        if kind.is_some()
            && !keys.iter().any(|key| other.contains_key(*key) || typed_other.contains_key(*key))
        {
            typed_other.insert(keys[0].to_owned(), Value { kind });
        }
    };
    let text = |text: String| Some(text).filter(|text| !text.is_empty()).map(Kind::Text);
    add(METHOD, text(http_method));
    add(URL, text(http_url));
    add(STATEMENT, text(db_statement));
    add(STATUS_CODE, http_status_code.map(|code| Kind::Integer(code.into())));
    from_maps(other, typed_other)
}

fn from_event(event: SpanEvent) -> OtlpEvent {
    let SpanEvent { time, name, attributes, dropped_attributes_count } = event;
    OtlpEvent { time_unix_nano: time, name, attributes: from_map(attributes), dropped_attributes_count }
}

fn from_link(link: SpanLink) -> Link {
    let SpanLink { trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags } = link;
    Link { trace_id, span_id, trace_state, attributes: from_map(attributes), dropped_attributes_count, flags }
}

fn from_series(series: MetricSeries) -> Metric {
    let attributes = from_maps(series.labels, series.typed_labels);
    let points = series.points.into_iter().map(|point| (attributes.clone(), point));
    let aggregation_temporality = series.temporality;
    let data = match SeriesType::try_from(series.r#type).unwrap_or_default() {
        SeriesType::Unspecified => None,
        SeriesType::Gauge => Some(Data::Gauge(Gauge { data_points: points.map(number).collect() })),
        SeriesType::Sum => Some(Data::Sum(Sum {
            data_points: points.map(number).collect(),
            aggregation_temporality,
            is_monotonic: series.is_monotonic,
        })),
        SeriesType::Histogram => Some(Data::Histogram(OtlpHistogram {
            data_points: points.map(buckets).collect(),
            aggregation_temporality,
        })),
        SeriesType::ExponentialHistogram => Some(Data::ExponentialHistogram(OtlpExponential {
            data_points: points.map(exponential).collect(),
            aggregation_temporality,
        })),
        SeriesType::Summary => {
            Some(Data::Summary(OtlpSummary { data_points: points.map(quantiles).collect() }))
        }
    };
    let metadata = from_map(series.metadata);
    Metric { name: series.name, description: series.description, unit: series.unit, metadata, data }
}

type Point = (Vec<KeyValue>, MetricPoint);

fn number((attributes, point): Point) -> NumberDataPoint {
    let integer = point.integer.map(number_data_point::Value::AsInt);
    NumberDataPoint {
        attributes,
        start_time_unix_nano: point.start_time,
        time_unix_nano: point.time,
        exemplars: point.exemplars.into_iter().map(from_exemplar).collect(),
        flags: point.flags,
        value: integer.or(point.value.map(number_data_point::Value::AsDouble)),
    }
}

fn buckets((attributes, point): Point) -> HistogramDataPoint {
    let histogram = point.histogram.unwrap_or_default();
    HistogramDataPoint {
        attributes,
        start_time_unix_nano: point.start_time,
        time_unix_nano: point.time,
        count: histogram.count,
        sum: histogram.sum,
        bucket_counts: histogram.bucket_counts,
        explicit_bounds: histogram.bounds,
        exemplars: point.exemplars.into_iter().map(from_exemplar).collect(),
        flags: point.flags,
        min: histogram.min,
        max: histogram.max,
    }
}

fn exponential((attributes, point): Point) -> ExponentialHistogramDataPoint {
    let buckets =
        |buckets: ExponentialBuckets| Buckets { offset: buckets.offset, bucket_counts: buckets.counts };
    let histogram = point.exponential_histogram.unwrap_or_default();
    ExponentialHistogramDataPoint {
        attributes,
        start_time_unix_nano: point.start_time,
        time_unix_nano: point.time,
        count: histogram.count,
        sum: histogram.sum,
        scale: histogram.scale,
        zero_count: histogram.zero_count,
        positive: histogram.positive.map(buckets),
        negative: histogram.negative.map(buckets),
        flags: point.flags,
        exemplars: point.exemplars.into_iter().map(from_exemplar).collect(),
        min: histogram.min,
        max: histogram.max,
        zero_threshold: histogram.zero_threshold,
    }
}

fn quantiles((attributes, point): Point) -> SummaryDataPoint {
    let summary = point.summary.unwrap_or_default();
    SummaryDataPoint {
        attributes,
        start_time_unix_nano: point.start_time,
        time_unix_nano: point.time,
        count: summary.count,
        sum: summary.sum,
        quantile_values: summary
            .quantiles
            .into_iter()
            .map(|at| ValueAtQuantile { quantile: at.quantile, value: at.value })
            .collect(),
        flags: point.flags,
    }
}

fn from_exemplar(exemplar: Exemplar) -> OtlpExemplar {
    let integer = exemplar.integer.map(exemplar::Value::AsInt);
    OtlpExemplar {
        filtered_attributes: from_map(exemplar.attributes),
        time_unix_nano: exemplar.time,
        span_id: exemplar.span_id.unwrap_or_default(),
        trace_id: exemplar.trace_id.unwrap_or_default(),
        value: integer.or(exemplar.value.map(exemplar::Value::AsDouble)),
    }
}
