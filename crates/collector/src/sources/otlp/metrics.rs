//! Metrics: each data point is an event, so that each has its own verdict.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        Exemplar as OtlpExemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, SummaryDataPoint, exemplar, exponential_histogram_data_point::Buckets,
        metric::Data, number_data_point,
    },
};
use tickstream_client::events::{
    Body, Event, EventType, Exemplar, ExponentialBuckets, ExponentialHistogram, Histogram, MetricPoint,
    MetricSeries, SeriesType, Summary, SummaryQuantile,
};

use super::{
    groups::{Group, Scope},
    logs::envelope,
    shared::SharedResource,
    values::{Attributes, MappingError, id, to_map},
    walk::{Record, Shared, write_event},
};
use crate::{
    sources::fields::{EVENT_NAME_BYTES_MAX, clipped_or},
    writer::EventWriter,
};

impl Record for Metric {
    type Request = ExportMetricsServiceRequest;

    fn groups(
        request: Self::Request,
    ) -> impl Iterator<Item = Group<impl Iterator<Item = Scope<impl Iterator<Item = Result<Self, String>>>>>>
    {
        let scope = |ScopeMetrics { scope, metrics, schema_url }| Scope {
            scope,
            schema_url,
            records: metrics.into_iter().map(Ok),
        };
        request.resource_metrics.into_iter().map(
            move |ResourceMetrics { resource, scope_metrics, schema_url }| Group {
                resource,
                schema_url,
                scopes: scope_metrics.into_iter().map(scope),
            },
        )
    }

    fn write(self, shared: &Shared<'_>, writer: &mut EventWriter<'_>) {
        let Metric { name, description, unit, metadata, data } = self;
        let Some((series, points)) = data.map(points) else {
            // A type that is newer than this program, or one that its JSON spells otherwise.
            return writer.reject("MALFORMED", format!("the metric {name} has no data that can be read"));
        };
        let series =
            to_map(metadata).map(|metadata| MetricSeries { name, description, unit, metadata, ..series });
        for point in points {
            let event = |resource: &_| event(resource, series.as_ref().map_err(Clone::clone)?, point?);
            write_event(shared, 0, event, writer);
        }
    }
}

/// A point, and the attributes that make it one of a series.
type Point = (Vec<KeyValue>, MetricPoint);

/// A series without its names, and its points.
fn points(data: Data) -> (MetricSeries, Vec<Result<Point, MappingError>>) {
    let series = |series_type: SeriesType, temporality| MetricSeries {
        r#type: series_type.into(),
        temporality,
        ..MetricSeries::default()
    };
    match data {
        Data::Gauge(gauge) => {
            (series(SeriesType::Gauge, 0), gauge.data_points.into_iter().map(number).collect())
        }
        Data::Sum(sum) => {
            let is_monotonic = sum.is_monotonic;
            let series =
                MetricSeries { is_monotonic, ..series(SeriesType::Sum, sum.aggregation_temporality) };
            (series, sum.data_points.into_iter().map(number).collect())
        }
        Data::Histogram(histogram) => {
            let series = series(SeriesType::Histogram, histogram.aggregation_temporality);
            (series, histogram.data_points.into_iter().map(buckets).collect())
        }
        Data::ExponentialHistogram(histogram) => {
            let series = series(SeriesType::ExponentialHistogram, histogram.aggregation_temporality);
            (series, histogram.data_points.into_iter().map(exponential).collect())
        }
        Data::Summary(summary) => (
            series(SeriesType::Summary, 0),
            summary.data_points.into_iter().map(|point| Ok(quantiles(point))).collect(),
        ),
    }
}

fn event(
    resource: &SharedResource,
    series: &MetricSeries,
    (attributes, point): Point,
) -> Result<Event, MappingError> {
    if point.time == 0 {
        return Err(("FIELD_MISSING", "time_unix_nano: a data point needs one".to_owned()));
    }
    let attributes = Attributes::new(attributes)?;
    let mut event = envelope(EventType::MetricSeries, point.time, &attributes, resource);
    event.event_name = clipped_or(&series.name, EVENT_NAME_BYTES_MAX, "metric").to_owned();
    event.body = Some(Body::MetricSeries(MetricSeries {
        service: resource.service.clone(),
        labels: attributes.texts,
        typed_labels: attributes.typed,
        points: vec![point],
        ..series.clone()
    }));
    Ok(event)
}

fn number(point: NumberDataPoint) -> Result<Point, MappingError> {
    let (value, integer) = match point.value {
        Some(number_data_point::Value::AsDouble(value)) => (Some(value), None),
        Some(number_data_point::Value::AsInt(integer)) => (None, Some(integer)),
        None => (None, None),
    };
    let metric_point = MetricPoint {
        time: point.time_unix_nano,
        value,
        integer,
        start_time: point.start_time_unix_nano,
        flags: point.flags,
        exemplars: exemplars(point.exemplars)?,
        ..MetricPoint::default()
    };
    Ok((point.attributes, metric_point))
}

fn buckets(point: HistogramDataPoint) -> Result<Point, MappingError> {
    let histogram = Histogram {
        count: point.count,
        sum: point.sum,
        min: point.min,
        max: point.max,
        bucket_counts: point.bucket_counts,
        bounds: point.explicit_bounds,
    };
    let metric_point = MetricPoint {
        time: point.time_unix_nano,
        start_time: point.start_time_unix_nano,
        flags: point.flags,
        histogram: Some(histogram),
        exemplars: exemplars(point.exemplars)?,
        ..MetricPoint::default()
    };
    Ok((point.attributes, metric_point))
}

fn exponential(point: ExponentialHistogramDataPoint) -> Result<Point, MappingError> {
    let buckets = |buckets: Buckets| ExponentialBuckets {
        offset: buckets.offset,
        counts: buckets.bucket_counts,
        float_counts: Vec::new(),
    };
    let histogram = ExponentialHistogram {
        count: point.count,
        sum: point.sum,
        min: point.min,
        max: point.max,
        scale: point.scale,
        zero_count: point.zero_count,
        zero_threshold: point.zero_threshold,
        positive: point.positive.map(buckets),
        negative: point.negative.map(buckets),
        ..ExponentialHistogram::default()
    };
    let metric_point = MetricPoint {
        time: point.time_unix_nano,
        start_time: point.start_time_unix_nano,
        flags: point.flags,
        exponential_histogram: Some(histogram),
        exemplars: exemplars(point.exemplars)?,
        ..MetricPoint::default()
    };
    Ok((point.attributes, metric_point))
}

fn quantiles(point: SummaryDataPoint) -> Point {
    let quantiles = point
        .quantile_values
        .into_iter()
        .map(|at| SummaryQuantile { quantile: at.quantile, value: at.value })
        .collect();
    let metric_point = MetricPoint {
        time: point.time_unix_nano,
        start_time: point.start_time_unix_nano,
        flags: point.flags,
        summary: Some(Summary { count: point.count, sum: point.sum, quantiles }),
        ..MetricPoint::default()
    };
    (point.attributes, metric_point)
}

fn exemplars(exemplars: Vec<OtlpExemplar>) -> Result<Vec<Exemplar>, MappingError> {
    exemplars.into_iter().map(to_exemplar).collect()
}

fn to_exemplar(exemplar: OtlpExemplar) -> Result<Exemplar, MappingError> {
    let (value, integer) = match exemplar.value {
        Some(exemplar::Value::AsDouble(value)) => (Some(value), None),
        Some(exemplar::Value::AsInt(integer)) => (None, Some(integer)),
        None => (None, None),
    };
    Ok(Exemplar {
        time: exemplar.time_unix_nano,
        value,
        integer,
        trace_id: id(exemplar.trace_id, 16),
        span_id: id(exemplar.span_id, 8),
        attributes: to_map(exemplar.filtered_attributes)?,
    })
}
