use prost::Message;
use tickstream_client::events::{Body, Event, MetricSeries, SeriesType};

use super::{
    RemoteWrite, V2,
    messages::{
        BucketSpan, Count, Histogram, Sample, ZeroCount,
        v1::{Exemplar, Label, TimeSeries, WriteRequest},
        v2,
    },
};
use crate::{
    http::{HttpSource, test_head},
    keys::Key,
    outcome::Malformed,
    upstream::BatchLimits,
    writer::{
        EventWriter, Ids, Request,
        tests::{decoded, origin},
    },
};

const LIMITS: BatchLimits = BatchLimits { events: 2048, bytes: 400_000 };
const MS: u64 = 1_000_000;

fn decode(content_type: &str, body: &[u8]) -> Result<Request, Malformed> {
    let head = test_head("POST", "/api/v1/write", &[("content-type", content_type)]);
    let origin = origin(Key::unrestricted("k"));
    let mut writer = EventWriter::new(&origin, Ids::OfBody(body), LIMITS, 10_000);
    RemoteWrite.decode(&head, body, &mut writer)?;
    Ok(writer.finish().unwrap())
}

fn decode_v1(timeseries: Vec<TimeSeries>) -> Request {
    decode("application/x-protobuf", &WriteRequest { timeseries }.encode_to_vec()).unwrap()
}

fn decode_v2(request: &v2::Request) -> Request {
    decode(&format!("application/x-protobuf;proto={V2}"), &request.encode_to_vec()).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    pairs.iter().map(|(name, value)| Label { name: (*name).into(), value: (*value).into() }).collect()
}

fn series(request: &Request) -> Vec<(Event, MetricSeries)> {
    let series = |event: Event| match event.body.clone() {
        Some(Body::MetricSeries(series)) => (event, series),
        other => panic!("{other:?}"),
    };
    decoded(request).into_iter().map(series).collect()
}

#[test]
fn a_series_is_one_event_with_all_its_points() {
    let samples =
        (1..=3).map(|i| Sample { value: i as f64, timestamp: 1000 * i, ..Sample::default() }).collect();
    let name = [("__name__", "http_requests_total"), ("job", "api"), ("code", "200")];
    let exemplar = Exemplar {
        labels: labels(&[("trace_id", "0102030405060708090a0b0c0d0e0f10"), ("user", "u")]),
        value: 2.0,
        timestamp: 1500,
    };
    let counter =
        TimeSeries { labels: labels(&name), samples, exemplars: vec![exemplar], histograms: vec![] };
    let stale = Sample { value: f64::from_bits(0x7FF0_0000_0000_0002), timestamp: 9, ..Sample::default() };
    let nan = Sample { value: f64::NAN, timestamp: 8, ..Sample::default() };
    let gauge = TimeSeries {
        labels: labels(&[("__name__", "up")]),
        samples: vec![nan, stale],
        ..TimeSeries::default()
    };
    let request = decode_v1(vec![counter, gauge]);
    let series = series(&request);
    let (event, counter) = &series[0];
    assert_eq!(
        (event.timestamp, &event.event_name[..], &event.platform[..]),
        (3000 * MS, "http_requests_total", "prometheus")
    );
    assert_eq!(
        (&counter.service[..], counter.is_monotonic, counter.r#type()),
        ("api", true, SeriesType::Sum)
    );
    assert_eq!(counter.labels.len(), 2);
    assert_eq!(counter.points.iter().map(|point| point.value.unwrap()).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
    let exemplar = &counter.points[2].exemplars[0];
    assert_eq!((exemplar.trace_id.as_ref().unwrap()[15], exemplar.attributes.len()), (16, 1));
    let (_, gauge) = &series[1];
    assert_eq!(gauge.r#type(), SeriesType::Gauge);
    assert!(gauge.points[0].value.unwrap().is_nan());
    assert_eq!((gauge.points[1].value, gauge.points[1].flags), (None, 1), "stale");
    assert_eq!(request.weights, [(0, [3, 0, 1]), (1, [2, 0, 0])]);
}

#[test]
fn a_series_that_is_none_is_told_and_others_pass() {
    let sample = vec![Sample { value: 1.0, timestamp: 1, ..Sample::default() }];
    let with = |pairs: &[(&str, &str)], samples: &[Sample]| TimeSeries {
        labels: labels(pairs),
        samples: samples.to_vec(),
        ..TimeSeries::default()
    };
    let request = decode_v1(vec![
        with(&[("job", "nameless")], &sample),
        with(&[("__name__", "twice"), ("a", "1"), ("a", "2")], &sample),
        with(&[("__name__", "fine")], &sample),
        with(&[("__name__", "before_1970")], &[Sample { value: 1.0, timestamp: -5, ..Sample::default() }]),
    ]);
    let rejections: Vec<_> =
        request.rejected.iter().map(|rejection| (rejection.index, &rejection.code[..])).collect();
    assert_eq!(rejections, [(0, "FIELD_MISSING"), (1, "INVALID_VALUE"), (3, "INVALID_VALUE")]);
    assert_eq!(series(&request).len(), 1);
    assert!(decode("application/x-protobuf", b"\x0A\xFF").is_err());
}

#[test]
fn version_2_brings_types_units_and_native_histograms() {
    let symbols = ["", "__name__", "latency", "job", "api", "How long.", "s"].map(str::to_owned).to_vec();
    let spans = vec![BucketSpan { offset: 1, length: 2 }, BucketSpan { offset: 2, length: 1 }];
    let histogram = Histogram {
        count: Some(Count::Int(9)),
        sum: 4.5,
        schema: 3,
        zero_threshold: 0.001,
        zero_count: Some(ZeroCount::Int(1)),
        positive_spans: spans,
        positive_deltas: vec![2, 1, -1],
        timestamp: 77,
        ..Histogram::default()
    };
    let custom = Histogram {
        count: Some(Count::Int(6)),
        schema: -53,
        positive_spans: vec![BucketSpan { offset: 1, length: 2 }],
        positive_deltas: vec![4, -2],
        custom_values: vec![0.1, 1.0],
        timestamp: 78,
        ..Histogram::default()
    };
    let timeseries = v2::TimeSeries {
        labels_refs: vec![1, 2, 3, 4],
        histograms: vec![histogram, custom],
        metadata: Some(v2::Metadata { r#type: v2::MetricType::Histogram.into(), help_ref: 5, unit_ref: 6 }),
        created_timestamp: 5,
        ..v2::TimeSeries::default()
    };
    let bad = v2::TimeSeries { labels_refs: vec![1, 99], ..v2::TimeSeries::default() };
    let request = decode_v2(&v2::Request { symbols, timeseries: vec![timeseries, bad] });
    let series = series(&request);
    let (_, exponential) = &series[0];
    assert_eq!((&exponential.description[..], &exponential.unit[..]), ("How long.", "s"));
    assert_eq!(exponential.r#type(), SeriesType::ExponentialHistogram);
    let point = &exponential.points[0];
    let buckets = point.exponential_histogram.clone().unwrap();
    let positive = buckets.positive.unwrap();
    assert_eq!((positive.offset, positive.counts), (0, vec![2, 3, 0, 0, 2]));
    assert_eq!((buckets.count, buckets.scale, buckets.zero_count, point.start_time), (9, 3, 1, 5 * MS));
    let (_, custom) = &series[1];
    let histogram = custom.points[0].histogram.clone().unwrap();
    assert_eq!((histogram.bucket_counts, histogram.bounds), (vec![0, 4, 2], vec![0.1, 1.0]));
    assert_eq!(request.rejected[0].index, 2);
    assert_eq!(request.weights, [(0, [0, 1, 0]), (1, [0, 1, 0])]);
}

#[test]
fn exemplars_in_a_series_of_their_own_are_kept() {
    let exemplar = |timestamp| Exemplar { labels: labels(&[("trace_id", "abc")]), value: 2.0, timestamp };
    let alone = TimeSeries {
        labels: labels(&[("__name__", "hits_total")]),
        exemplars: (1..=70).map(exemplar).collect(),
        ..TimeSeries::default()
    };
    let request = decode_v1(vec![alone]);
    let (event, series) = series(&request).remove(0);
    assert_eq!(event.timestamp, 70 * MS);
    let counts: Vec<_> = series.points.iter().map(|point| (point.value, point.exemplars.len())).collect();
    assert_eq!(counts, [(None, 64), (None, 6)]);
    assert_eq!(request.weights, [(0, [0, 0, 70])]);
}

#[test]
fn headers_are_taken_as_prometheus_takes_them() {
    let check = |content_type: &str, encoding: &str| {
        let headers = [("content-type", content_type), ("content-encoding", encoding)];
        let given: Vec<_> = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        RemoteWrite.accepts(&test_head("POST", "/api/v1/write", &given))
    };
    assert_eq!(check("", ""), Ok(()));
    assert_eq!(check("application/x-protobuf;proto=prometheus.WriteRequest", "snappy"), Ok(()));
    assert_eq!(check(&format!("application/x-protobuf; proto=\"{V2}\""), "snappy"), Ok(()));
    assert!(check("application/json", "snappy").is_err());
    assert!(check("application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy").is_err());
    assert!(check("application/x-protobuf", "gzip").is_err());
}

#[test]
fn histograms_that_cannot_be_are_refused() {
    let check = |spans: &[(i32, u32)], deltas: Vec<i64>| {
        let positive_spans = spans.iter().map(|&(offset, length)| BucketSpan { offset, length }).collect();
        let histogram =
            Histogram { positive_spans, positive_deltas: deltas, timestamp: 1, ..Histogram::default() };
        let series = TimeSeries {
            labels: labels(&[("__name__", "h")]),
            histograms: vec![histogram],
            ..TimeSeries::default()
        };
        decode_v1(vec![series]).rejected.len()
    };
    assert_eq!(check(&[(0, 2)], vec![1, 1]), 0);
    assert_eq!(check(&[(0, u32::MAX)], vec![1]), 1);
    assert_eq!(check(&[(0, 1), (i32::MAX, 1)], vec![1, 1]), 1);
    assert_eq!(check(&[(0, 1), (-1, 1)], vec![1, 1]), 1);
    assert_eq!(check(&[(i32::MIN, 1)], vec![1]), 1);
    assert_eq!(check(&[(0, 2)], vec![1]), 1);
    assert_eq!(check(&[(0, 1)], vec![1, 1]), 1);
    assert_eq!(check(&[(0, 2)], vec![1, -2]), 1);
    assert_eq!(check(&[(0, 2)], vec![i64::MAX, i64::MAX]), 1);
}

#[test]
fn the_answer_counts_what_was_written() {
    use crate::outcome::{Outcome, Rejection};
    let head = test_head("POST", "/api/v1/write", &[]);
    let outcome = Outcome { stored: [7, 2, 1], ..Outcome::default() };
    let mut reply = RemoteWrite.success(&head, &outcome);
    assert_eq!(reply.status(), 204);
    let headers = reply.headers_mut();
    assert_eq!(headers["x-prometheus-remote-write-samples-written"], "7");
    assert_eq!(headers["x-prometheus-remote-write-histograms-written"], "2");
    assert_eq!(headers["x-prometheus-remote-write-exemplars-written"], "1");
    let outcome = Outcome { rejected: vec![Rejection::last(0, "TOO_OLD", "")], ..outcome };
    assert_eq!(RemoteWrite.success(&head, &outcome).status(), 400);
}
