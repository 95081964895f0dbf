use proptest::{collection::vec, prelude::*};
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
    http::{HttpSource, Refusal, test_head},
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
    assert_eq!(check(&format!("Application/X-Protobuf; charset=utf-8; Proto={V2}"), "Snappy"), Ok(()));
    assert!(check("application/x-protobuf;Proto=other", "snappy").is_err());
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

#[test]
fn a_body_that_came_too_slowly_is_sent_again() {
    let head = test_head("POST", "/api/v1/write", &[]);
    let slow = Refusal::Slow(std::time::Duration::from_secs(15));
    assert_eq!(slow.status(), 408);
    assert_eq!(
        RemoteWrite.refusal(&head, &slow).status(),
        503,
        "Prometheus drops what gets any status 4xx but 429"
    );
}

#[test]
fn a_series_with_more_points_than_an_event_has_room_for_is_several_events() {
    let sample = |at| Sample { value: at as f64, timestamp: at, start_timestamp: 0 };
    let long = TimeSeries {
        labels: labels(&[("__name__", "up"), ("job", "api")]),
        samples: (1..=5000).map(sample).collect(),
        ..TimeSeries::default()
    };
    let request = decode_v1(vec![long]);
    let found: Vec<_> = series(&request)
        .into_iter()
        .map(|(_, series)| (series.name, series.service, series.labels.len(), series.points.len()))
        .collect();
    let event = |points| ("up".to_owned(), "api".to_owned(), 1, points);
    assert_eq!(found, [event(4096), event(904)]);
    assert_eq!(request.weights, [(0, [4096, 0, 0]), (1, [904, 0, 0])]);
}

/// Texts of which some are long, empty or not in ASCII.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_]{1,8}", "[a-zé]{0,3}", Just("job".to_owned()), Just("x".repeat(1025))]
}

fn any_series() -> impl Strategy<Value = TimeSeries> {
    let label = (text(), text()).prop_map(|(name, value)| Label { name, value });
    let value = prop_oneof![any::<f64>(), Just(0.0), Just(super::series::stale())];
    let sample = (value, prop_oneof![0..5_i64, -1..1_i64, Just(i64::MAX)], 0..4_i64);
    let sample =
        sample.prop_map(|(value, timestamp, start)| Sample { value, timestamp, start_timestamp: start / 2 });
    let name = prop_oneof!["[a-z]{0,2}_total", "[a-z]{1,9}", Just("n".repeat(200))];
    (name, vec(label, 0..5), vec(sample, 0..4), any::<bool>()).prop_map(
        |(name, mut labels, samples, is_sorted)| {
            labels.push(Label { name: "__name__".into(), value: name });
            if is_sorted {
                labels.sort_by(|a, b| a.name.cmp(&b.name));
            }
            TimeSeries { labels, samples, ..TimeSeries::default() }
        },
    )
}

proptest! {
    #[test]
    fn plain_series_are_the_same_either_way(timeseries in vec(any_series(), 1..5)) {
        let body = WriteRequest { timeseries }.encode_to_vec();
        let found = decode("application/x-protobuf", &body).unwrap();
        let origin = origin(Key::unrestricted("k"));
        let mut writer = EventWriter::new(&origin, Ids::OfBody(&body), LIMITS, 10_000);
        super::series::decode_v1(WriteRequest::decode(&body[..]).unwrap(), &mut writer);
        let expected = writer.finish().unwrap();
        // Not a number is no other number, either.
        prop_assert_eq!(format!("{:?}", decoded(&found)), format!("{:?}", decoded(&expected)));
        prop_assert_eq!((&found.rejected, &found.weights), (&expected.rejected, &expected.weights));
        prop_assert_eq!((found.events(), &found.sample), (expected.events(), &expected.sample));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200)) {
        let by_prost = WriteRequest::decode(&bytes[..]).is_ok();
        prop_assert_eq!(decode("application/x-protobuf", &bytes).is_ok(), by_prost);
    }
}

#[test]
fn usual_series_go_the_short_way() {
    let sample = Sample { value: 1.5, timestamp: 1000, start_timestamp: 0 };
    let labels = labels(&[("__name__", "up"), ("instance", "a:9100"), ("job", "api")]);
    let usual = TimeSeries { labels, samples: vec![sample], ..TimeSeries::default() }.encode_to_vec();
    let origin = origin(Key::unrestricted("k"));
    let mut writer = EventWriter::new(&origin, Ids::New, LIMITS, 10);
    assert_eq!(super::plain::Encoder::default().write(&usual, &mut writer), Some(()));
}

#[test]
fn a_text_that_many_labels_name_is_not_taken_for_each() {
    let symbols = vec![String::new(), "__name__".into(), "up".into(), "x".repeat(1 << 20), "a".into()];
    let small = v2::TimeSeries { labels_refs: vec![1, 2], ..v2::TimeSeries::default() };
    let large = v2::TimeSeries { labels_refs: vec![1, 2, 4, 3], ..v2::TimeSeries::default() };
    let metadata = v2::Metadata { help_ref: 3, ..v2::Metadata::default() };
    let helped = v2::TimeSeries { metadata: Some(metadata), ..small };
    let rejected = decode_v2(&v2::Request { symbols, timeseries: vec![large, helped] }).rejected;
    let codes: Vec<_> = rejected.iter().map(|rejection| &rejection.code[..]).collect();
    assert_eq!(codes, ["EVENT_TOO_LARGE"; 2]);
}

#[test]
fn gaps_of_many_histograms_are_not_unfolded_together() {
    let spans = vec![BucketSpan { offset: 0, length: 1 }, BucketSpan { offset: 1000, length: 1 }];
    let histogram = Histogram {
        positive_spans: spans,
        positive_deltas: vec![1, 0],
        timestamp: 1,
        ..Histogram::default()
    };
    let series = |count: usize| TimeSeries {
        labels: labels(&[("__name__", "h")]),
        histograms: vec![histogram.clone(); count],
        ..TimeSeries::default()
    };
    assert_eq!(decode_v1(vec![series(100)]).rejected, []);
    let rejected = decode_v1(vec![series(2000)]).rejected;
    assert_eq!(&rejected[0].code[..], "EVENT_TOO_LARGE");
}
