//! Series as events.

use std::collections::BTreeMap;

use tickstream_client::events::{
    Body, Event, EventType, Exemplar, ExponentialBuckets, ExponentialHistogram, Histogram, MetricPoint,
    MetricSeries, SeriesType, Temporality,
};

use super::{
    exposition::{self, Family},
    messages::{self, BucketSpan, Count, Sample, ZeroCount, v1, v2},
    texts::{MappingError, Texts},
};
use crate::{
    sources::fields::{EVENT_NAME_BYTES_MAX, SERVICE_BYTES_MAX, clipped, hex_id, put_text, text_value},
    writer::EventWriter,
};

/// Label of a metric's name.
pub(super) const NAME: &str = "__name__";
/// The NaN by which Prometheus says that a series has ended.
pub(super) const STALE: u64 = 0x7FF0_0000_0000_0002;
/// `MetricPoint.flags`: there is no value.
pub(super) const NO_VALUE: u32 = 1;
/// Schema of histograms with bounds of their own.
const CUSTOM_BUCKETS: i32 = -53;
/// Most buckets that spans may unfold to: the schema's bound on a list.
const BUCKETS_MAX: usize = 1024;
/// Most buckets of all histograms of a series: a gap of a few bytes unfolds to as many as there may be.
const SERIES_BUCKETS_MAX: usize = 1 << 20;
/// The schema's bound on the points of an event.
pub(super) const POINTS_MAX: usize = 4096;

/// The schema's bound on the exemplars of a point.
const EXEMPLARS_MAX: usize = 64;

pub(super) fn decode_v1(request: v1::WriteRequest, writer: &mut EventWriter<'_>) {
    request.timeseries.into_iter().for_each(|series| take_v1(series, writer));
}

/// Writes the events of a series of 1.0.
pub(super) fn take_v1(series: v1::TimeSeries, writer: &mut EventWriter<'_>) {
    let v1::TimeSeries { labels, samples, exemplars, histograms } = series;
    let exemplars = exemplars.into_iter().map(|exemplar| {
        let labels = exemplar.labels.into_iter().map(|label| (label.name, label.value));
        to_exemplar(labels, exemplar.value, exemplar.timestamp)
    });
    let metric = metric(labels.into_iter().map(|label| (label.name, label.value)));
    take(metric, samples, &histograms, exemplars.collect(), writer);
}

pub(super) fn decode_v2(request: v2::Request, writer: &mut EventWriter<'_>) {
    let v2::Request { symbols, timeseries } = request;
    for series in timeseries {
        if writer.is_overfull() {
            return;
        }
        let v2::TimeSeries { labels_refs, samples, histograms, exemplars, metadata, created_timestamp } =
            series;
        let mut texts = Texts::of(&symbols);
        let exemplars = exemplars
            .into_iter()
            .map(|exemplar| {
                let labels = texts.pairs(&exemplar.labels_refs)?;
                to_exemplar(labels.into_iter(), exemplar.value, exemplar.timestamp)
            })
            .collect();
        let metric = texts
            .pairs(&labels_refs)
            .and_then(|labels| metric(labels.into_iter()))
            .and_then(|metric| with_metadata(metric, metadata.as_ref(), created_timestamp, &mut texts));
        take(metric, samples, &histograms, exemplars, writer);
    }
}

/// Writes the event of a sample that was scraped.
pub(crate) fn take_scraped(scraped: &Scraped<'_>, writer: &mut EventWriter<'_>) {
    let Scraped { labels, value, timestamp, exemplar, family } = *scraped;
    let metric =
        metric(labels.iter().map(|(name, value)| (name.clone(), value.clone()))).map(|mut metric| {
            if let Some(Family { metric_type, help, unit }) = family {
                metric.series.description.clone_from(help);
                metric.series.unit.clone_from(unit);
                set_declared(&mut metric.series, type_of(metric_type));
            }
            metric
        });
    let exemplars = exemplar.into_iter().map(|exemplar| {
        let labels = exemplar.labels.iter().cloned();
        to_exemplar(labels, exemplar.value, exemplar.timestamp.unwrap_or(timestamp))
    });
    let sample = Sample { value, timestamp, start_timestamp: 0 };
    take(metric, vec![sample], &[], exemplars.collect(), writer);
}

/// A sample that was scraped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scraped<'a> {
    /// With the metric's name.
    pub labels: &'a BTreeMap<String, String>,
    /// [`stale`] where the series has ended.
    pub value: f64,
    /// Unix time, milliseconds.
    pub timestamp: i64,
    /// OpenMetrics' exemplar.
    pub exemplar: Option<&'a exposition::Exemplar>,
    /// The exporter's comments about the metric.
    pub family: Option<&'a Family>,
}

/// The value that says that a series has ended.
pub(crate) fn stale() -> f64 {
    f64::from_bits(STALE)
}

/// A series without its points, and the time since which it counts.
struct Metric {
    series: MetricSeries,
    start_time: u64,
}

fn metric(labels: impl Iterator<Item = (String, String)>) -> Result<Metric, MappingError> {
    let mut series = MetricSeries::default();
    for (name, value) in labels {
        if name == NAME {
            series.name = value;
            continue;
        }
        if name == "job" {
            series.service = clipped(&value, SERVICE_BYTES_MAX).to_owned();
        }
        if series.labels.contains_key(&name) || series.typed_labels.contains_key(&name) {
            return Err(("INVALID_VALUE", format!("the label {name} is there twice")));
        }
        put_text(&mut series.labels, &mut series.typed_labels, name, value);
    }
    if series.name.is_empty() {
        return Err(("FIELD_MISSING", format!("a series needs the label {NAME}")));
    }
    let by_name = type_by_name(&series.name);
    set_type(&mut series, by_name);
    Ok(Metric { series, start_time: 0 })
}

/// The type of a 1.0 metric: the ecosystem's names tell counters.
pub(super) fn type_by_name(name: &str) -> v2::MetricType {
    let is_counter = ["_total", "_count", "_sum", "_bucket"].iter().any(|suffix| name.ends_with(suffix));
    if is_counter { v2::MetricType::Counter } else { v2::MetricType::Gauge }
}

/// A counter, and each series of a classic histogram or summary that counts, is a monotonic sum.
fn set_type(series: &mut MetricSeries, metric_type: v2::MetricType) {
    let counts = match metric_type {
        v2::MetricType::Counter => true,
        v2::MetricType::Histogram | v2::MetricType::Summary => {
            type_by_name(&series.name) == v2::MetricType::Counter
        }
        _ => false,
    };
    let (series_type, temporality) = match counts {
        true => (SeriesType::Sum, Temporality::Cumulative),
        false => (SeriesType::Gauge, Temporality::Unspecified),
    };
    series.r#type = series_type.into();
    series.temporality = temporality.into();
    series.is_monotonic = counts;
}

fn with_metadata(
    mut metric: Metric,
    metadata: Option<&v2::Metadata>,
    created_timestamp: i64,
    texts: &mut Texts<'_>,
) -> Result<Metric, MappingError> {
    metric.start_time = ns(created_timestamp).unwrap_or_default();
    let Some(&v2::Metadata { r#type, help_ref, unit_ref }) = metadata else { return Ok(metric) };
    // Symbol 0 is the empty text, whatever the request says it is.
    let mut text = |index: u32| if index == 0 { Ok(String::new()) } else { texts.take(index) };
    metric.series.description = text(help_ref)?;
    metric.series.unit = text(unit_ref)?;
    set_declared(&mut metric.series, v2::MetricType::try_from(r#type).ok());
    Ok(metric)
}

/// Types by their names in the text format.
const TYPES: [(&str, v2::MetricType); 7] = [
    ("counter", v2::MetricType::Counter),
    ("gauge", v2::MetricType::Gauge),
    ("histogram", v2::MetricType::Histogram),
    ("gaugehistogram", v2::MetricType::GaugeHistogram),
    ("summary", v2::MetricType::Summary),
    ("info", v2::MetricType::Info),
    ("stateset", v2::MetricType::StateSet),
];

fn type_of(name: &str) -> Option<v2::MetricType> {
    TYPES.iter().find(|(known, _)| *known == name).map(|(_, metric_type)| *metric_type)
}

/// Sets the type that the sender says, and keeps its name.
fn set_declared(series: &mut MetricSeries, metric_type: Option<v2::MetricType>) {
    let known = TYPES.iter().find(|(_, known)| Some(*known) == metric_type);
    if let Some((name, metric_type)) = known {
        set_type(series, *metric_type);
        series.metadata.insert("prometheus.type".to_owned(), text_value((*name).to_owned()));
    }
}

/// Points of one type.
type Group = (Option<SeriesType>, Vec<MetricPoint>);

/// Writes the events of a series: one of its samples, one of each type of histogram. Exemplars go with the last point;
/// Prometheus sends them in series of their own, where they make points without a value.
fn take(
    metric: Result<Metric, MappingError>,
    samples: Vec<Sample>,
    histograms: &[messages::Histogram],
    exemplars: Result<Vec<Exemplar>, MappingError>,
    writer: &mut EventWriter<'_>,
) {
    let grouped = metric.and_then(|metric| {
        let mut groups = groups(samples, histograms, metric.start_time)?;
        put_exemplars(&mut groups, exemplars?);
        Ok((metric, groups))
    });
    let (metric, groups) = match grouped {
        Ok(grouped) => grouped,
        Err((code, message)) => return writer.reject(code, message),
    };
    let pieces: Vec<Group> = groups.into_iter().flat_map(pieces).collect();
    let (mut series, mut left) = (metric.series, pieces.len());
    for (series_type, points) in pieces {
        left -= 1;
        // The last one needs no copy of names and labels; most series have one.
        let own = if left == 0 { std::mem::take(&mut series) } else { series.clone() };
        let exemplars: usize = points.iter().map(|point| point.exemplars.len()).sum();
        let mut weight = [0, 0, exemplars as u32];
        let values = points.iter().filter(|point| has_value(point)).count();
        weight[usize::from(series_type.is_some())] = values as u32;
        writer.weigh(weight);
        writer.event(event(own, series_type, points));
    }
}

/// The points of a group in as many groups as events need.
fn pieces((series_type, mut points): Group) -> impl Iterator<Item = Group> {
    std::iter::from_fn(move || {
        let rest = points.split_off(points.len().min(POINTS_MAX));
        let piece = std::mem::replace(&mut points, rest);
        (!piece.is_empty()).then_some((series_type, piece))
    })
}

/// True if a point was a sample or a histogram, which may have said that there is no value.
fn has_value(point: &MetricPoint) -> bool {
    let has_histogram = point.histogram.is_some() || point.exponential_histogram.is_some();
    point.value.is_some() || has_histogram || point.flags == NO_VALUE
}

fn put_exemplars(groups: &mut Vec<Group>, mut exemplars: Vec<Exemplar>) {
    if let Some(last) = groups.last_mut().and_then(|(_, points)| points.last_mut()) {
        let beyond = exemplars.split_off(exemplars.len().min(EXEMPLARS_MAX));
        last.exemplars = std::mem::replace(&mut exemplars, beyond);
    }
    let points: Vec<_> = exemplars
        .chunks(EXEMPLARS_MAX)
        .map(|chunk| MetricPoint {
            time: chunk.iter().map(|exemplar| exemplar.time).max().unwrap_or_default(),
            exemplars: chunk.to_vec(),
            ..MetricPoint::default()
        })
        .collect();
    match groups.last_mut() {
        Some((_, last)) => last.extend(points),
        None if points.is_empty() => {}
        None => groups.push((None, points)),
    }
}

fn groups(
    samples: Vec<Sample>,
    histograms: &[messages::Histogram],
    start_time: u64,
) -> Result<Vec<Group>, MappingError> {
    if histograms.iter().map(messages::Histogram::buckets).sum::<usize>() > SERIES_BUCKETS_MAX {
        return Err(("EVENT_TOO_LARGE", format!("a series has more than {SERIES_BUCKETS_MAX} buckets")));
    }
    let points = samples.into_iter().map(|sample| to_point(sample, start_time)).collect::<Result<_, _>>()?;
    let mut groups: Vec<Group> = vec![(None, points)];
    for (series_type, is_custom) in [(SeriesType::ExponentialHistogram, false), (SeriesType::Histogram, true)]
    {
        let of_type = histograms.iter().filter(|histogram| (histogram.schema == CUSTOM_BUCKETS) == is_custom);
        let points =
            of_type.map(|histogram| to_histogram(histogram, start_time)).collect::<Result<_, _>>()?;
        groups.push((Some(series_type), points));
    }
    groups.retain(|(_, points)| !points.is_empty());
    Ok(groups)
}

fn event(series: MetricSeries, histograms: Option<SeriesType>, points: Vec<MetricPoint>) -> Event {
    let mut series = MetricSeries { points, ..series };
    if let Some(series_type) = histograms {
        series.r#type = series_type.into();
        series.temporality = Temporality::Cumulative.into();
        series.is_monotonic = false;
    }
    Event {
        timestamp: series.points.iter().map(|point| point.time).max().unwrap_or_default(),
        platform: "prometheus".to_owned(),
        event_type: EventType::MetricSeries.into(),
        event_name: clipped(&series.name, EVENT_NAME_BYTES_MAX).to_owned(),
        body: Some(Body::MetricSeries(series)),
        ..Event::default()
    }
}

fn to_point(sample: Sample, start_time: u64) -> Result<MetricPoint, MappingError> {
    let Sample { value, timestamp, start_timestamp } = sample;
    let is_stale = value.to_bits() == STALE;
    Ok(MetricPoint {
        time: required_ns(timestamp)?,
        value: (!is_stale).then_some(value),
        start_time: start_time_of(start_timestamp, start_time),
        flags: if is_stale { NO_VALUE } else { 0 },
        ..MetricPoint::default()
    })
}

/// The point's own start, else that of its series.
fn start_time_of(start_timestamp: i64, of_series: u64) -> u64 {
    ns(start_timestamp).filter(|start| *start > 0).unwrap_or(of_series)
}

fn to_exemplar(
    labels: impl Iterator<Item = (String, String)>,
    value: f64,
    timestamp: i64,
) -> Result<Exemplar, MappingError> {
    let mut exemplar =
        Exemplar { time: ns(timestamp).unwrap_or_default(), value: Some(value), ..Exemplar::default() };
    for (name, value) in labels {
        let id = match &name[..] {
            "trace_id" => hex_id(&value, 16),
            "span_id" => hex_id(&value, 8),
            _ => None,
        };
        match (id, &name[..]) {
            (Some(id), "trace_id") => exemplar.trace_id = Some(id),
            (Some(id), _) => exemplar.span_id = Some(id),
            (None, _) => _ = exemplar.attributes.insert(name, text_value(value)),
        }
    }
    Ok(exemplar)
}

fn to_histogram(histogram: &messages::Histogram, start_time: u64) -> Result<MetricPoint, MappingError> {
    let mut point = MetricPoint {
        time: required_ns(histogram.timestamp)?,
        start_time: start_time_of(histogram.start_timestamp, start_time),
        ..MetricPoint::default()
    };
    if histogram.sum.to_bits() == STALE {
        point.flags = NO_VALUE;
    } else if histogram.schema == CUSTOM_BUCKETS {
        point.histogram = Some(to_custom(histogram)?);
    } else {
        point.exponential_histogram = Some(to_exponential(histogram)?);
    }
    Ok(point)
}

fn to_exponential(histogram: &messages::Histogram) -> Result<ExponentialHistogram, MappingError> {
    let (count, float_count) = match histogram.count {
        Some(Count::Int(count)) => (count, None),
        Some(Count::Float(count)) => (0, Some(count)),
        None => (0, None),
    };
    let (zero_count, float_zero_count) = match histogram.zero_count {
        Some(ZeroCount::Int(count)) => (count, None),
        Some(ZeroCount::Float(count)) => (0, Some(count)),
        None => (0, None),
    };
    Ok(ExponentialHistogram {
        count,
        sum: Some(histogram.sum),
        scale: histogram.schema,
        zero_count,
        zero_threshold: histogram.zero_threshold,
        positive: buckets(&histogram.positive_spans, &histogram.positive_deltas, &histogram.positive_counts)?,
        negative: buckets(&histogram.negative_spans, &histogram.negative_deltas, &histogram.negative_counts)?,
        float_count,
        float_zero_count,
        ..ExponentialHistogram::default()
    })
}

/// Buckets of one sign. Prometheus numbers a bucket by its upper bound, OpenTelemetry, and the event, by its lower one.
fn buckets(
    spans: &[BucketSpan],
    deltas: &[i64],
    floats: &[f64],
) -> Result<Option<ExponentialBuckets>, MappingError> {
    let Some(first) = spans.first() else { return Ok(None) };
    let mut buckets = ExponentialBuckets {
        offset: first.offset.checked_sub(1).ok_or_else(too_many)?,
        ..ExponentialBuckets::default()
    };
    if floats.is_empty() {
        buckets.counts = unfolded(spans, absolute(deltas), 0)?;
    } else {
        buckets.float_counts = unfolded(spans, floats.iter().map(|count| Some(*count)), 0.0)?;
    }
    Ok(Some(buckets))
}

/// Counts out of differences; `None` for one below 0.
fn absolute(deltas: &[i64]) -> impl Iterator<Item = Option<u64>> {
    deltas.iter().scan(0_i64, |count, delta| {
        *count = count.wrapping_add(*delta);
        Some(u64::try_from(*count).ok())
    })
}

/// A count for each bucket. Those that the spans leave out are empty.
fn unfolded<T: Clone>(
    spans: &[BucketSpan],
    mut counts: impl Iterator<Item = Option<T>>,
    empty: T,
) -> Result<Vec<T>, MappingError> {
    let mut out = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        let gap = if index == 0 { 0 } else { usize::try_from(span.offset).map_err(|_| too_many())? };
        let length = span.length as usize;
        if out.len() + gap + length > BUCKETS_MAX {
            return Err(too_many());
        }
        out.resize(out.len() + gap, empty.clone());
        for _ in 0..length {
            out.push(counts.next().flatten().ok_or_else(bad_counts)?);
        }
    }
    if counts.next().is_some() { Err(bad_counts()) } else { Ok(out) }
}

fn to_custom(histogram: &messages::Histogram) -> Result<Histogram, MappingError> {
    let whole =
        |count: f64| (count >= 0.0 && count.fract() == 0.0).then_some(count as u64).ok_or_else(bad_counts);
    let count = match histogram.count {
        Some(Count::Int(count)) => count,
        Some(Count::Float(count)) => whole(count)?,
        None => 0,
    };
    let bounds = histogram.custom_values.clone();
    let spans = &histogram.positive_spans;
    let counts = if histogram.positive_counts.is_empty() {
        unfolded(spans, absolute(&histogram.positive_deltas), 0)?
    } else {
        let counts = histogram.positive_counts.iter().map(|count| whole(*count).ok());
        unfolded(spans, counts, 0)?
    };
    let first = spans.first().map_or(Ok(0), |span| usize::try_from(span.offset).map_err(|_| too_many()))?;
    let mut bucket_counts = vec![0; bounds.len() + 1];
    bucket_counts.get_mut(first..first + counts.len()).ok_or_else(too_many)?.copy_from_slice(&counts);
    Ok(Histogram { count, sum: Some(histogram.sum), bucket_counts, bounds, ..Histogram::default() })
}

fn too_many() -> MappingError {
    (
        "TOO_MANY_ITEMS",
        format!("a histogram's spans are out of order, or have more than {BUCKETS_MAX} buckets"),
    )
}

fn bad_counts() -> MappingError {
    (
        "INVALID_VALUE",
        "a histogram's counts aren't as many as its spans say, or aren't whole numbers from 0".to_owned(),
    )
}

/// Nanoseconds of Unix time; `None` before 1970 and beyond the year 2554.
pub(super) fn ns(ms: i64) -> Option<u64> {
    u64::try_from(ms).ok()?.checked_mul(1_000_000)
}

fn required_ns(ms: i64) -> Result<u64, MappingError> {
    ns(ms).filter(|ns| *ns > 0).ok_or_else(|| ("INVALID_VALUE", format!("timestamp {ms} ms is out of range")))
}
