//! Any records.

use opentelemetry_proto::tonic::{
    common::v1::{
        AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
        any_value::Value as Any,
    },
    logs::v1::LogRecord,
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
        Metric, NumberDataPoint, Sum, Summary, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
    trace::v1::{
        Span, Status,
        span::{Event, Link},
    },
};
use proptest::{collection::vec, option, prelude::*};

pub fn any_value() -> impl Strategy<Value = Any> {
    let leaf = prop_oneof![
        "[a-zà]{0,12}".prop_map(Any::StringValue),
        "[a-z]{1020,1030}".prop_map(Any::StringValue),
        any::<bool>().prop_map(Any::BoolValue),
        any::<i64>().prop_map(Any::IntValue),
        (-1e300..1e300).prop_map(Any::DoubleValue),
        vec(any::<u8>(), 0..9).prop_map(Any::BytesValue),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let value = option::of(inner).prop_map(|value| AnyValue { value });
        let pair = |(key, value)| KeyValue { key, value: Some(value), ..KeyValue::default() };
        let unique = |mut values: Vec<KeyValue>| {
            values.sort_by(|a, b| a.key.cmp(&b.key));
            values.dedup_by(|a, b| a.key == b.key);
            Any::KvlistValue(KeyValueList { values })
        };
        prop_oneof![
            vec(value.clone(), 0..4).prop_map(|values| Any::ArrayValue(ArrayValue { values })),
            vec(("[a-z]{1,3}", value).prop_map(pair), 0..4).prop_map(unique),
        ]
    })
}

/// Keys that events know, and others.
pub fn key() -> impl Strategy<Value = String> {
    const KNOWN: [&str; 12] = [
        "http.method",
        "http.request.method",
        "url.full",
        "http.url",
        "http.status_code",
        "http.response.status_code",
        "db.statement",
        "db.query.text",
        "service.name",
        "session.id",
        "user.id",
        "os.type",
    ];
    prop_oneof![proptest::sample::select(&KNOWN[..]).prop_map(str::to_owned), "[a-z.]{1,80}"]
}

pub fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let value = prop_oneof![3 => any_value(), 1 => (100..600_i64).prop_map(Any::IntValue)];
    let pair = (key(), option::weighted(0.95, value)).prop_map(|(key, value)| KeyValue {
        key,
        value: Some(AnyValue { value }),
        ..KeyValue::default()
    });
    // Events keep no order, and no second value of a key.
    vec(pair, 0..8).prop_map(|mut pairs| {
        pairs.sort_by(|a, b| a.key.cmp(&b.key));
        pairs.dedup_by(|a, b| a.key == b.key);
        pairs
    })
}

/// Attributes of plain records.
pub fn plain_attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    const MORE: [&str; 6] =
        ["session.id", "session_id", "user.id", "enduser.id", "url.full", "http.response.status_code"];
    let value = prop_oneof![
        3 => "[a-zà]{0,140}".prop_map(Any::StringValue),
        1 => any::<bool>().prop_map(Any::BoolValue),
        1 => any::<i64>().prop_map(Any::IntValue),
        2 => (90..610_i64).prop_map(Any::IntValue),
        1 => any::<f64>().prop_filter("equal to itself", |number| !number.is_nan()).prop_map(Any::DoubleValue),
    ];
    let key = prop_oneof![
        key().prop_map(|key| key[..key.len().min(64)].to_owned()),
        proptest::sample::select(&MORE[..]).prop_map(str::to_owned)
    ];
    let pair = (key, value).prop_map(|(key, value)| KeyValue {
        key,
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    });
    vec(pair, 0..12).prop_map(|mut pairs| {
        pairs.sort_by(|a, b| a.key.cmp(&b.key));
        pairs.dedup_by(|a, b| a.key == b.key);
        pairs
    })
}

pub fn plain_log() -> impl Strategy<Value = LogRecord> {
    (log(), plain_attributes(), time(), 0..=24_i32, "[a-zà]{1,30}").prop_map(
        |(log, attributes, time_unix_nano, severity_number, body)| LogRecord {
            attributes,
            time_unix_nano,
            severity_number,
            body: Some(AnyValue { value: Some(Any::StringValue(body)) }),
            ..log
        },
    )
}

pub fn plain_span() -> impl Strategy<Value = Span> {
    (span(), plain_attributes()).prop_map(|(span, attributes)| Span {
        attributes,
        events: Vec::new(),
        links: Vec::new(),
        ..span
    })
}

pub fn id(len: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(1..=255_u8, len)
}

pub fn time() -> impl Strategy<Value = u64> {
    1..u64::MAX / 2
}

pub fn resource() -> impl Strategy<Value = Option<Resource>> {
    let entity = ("[a-z]{1,5}", vec("[a-z]{1,5}", 0..3)).prop_map(|(r#type, id_keys)| EntityRef {
        schema_url: "https://example.net/1".into(),
        r#type,
        description_keys: id_keys.clone(),
        id_keys,
    });
    let resource = (attributes(), 0..3_u32, vec(entity, 0..2)).prop_map(
        |(attributes, dropped_attributes_count, entity_refs)| {
            let resource = Resource { attributes, dropped_attributes_count, entity_refs };
            Some(resource).filter(|resource| *resource != Resource::default())
        },
    );
    prop_oneof![4 => resource, 1 => Just(None)]
}

pub fn scope() -> impl Strategy<Value = Option<InstrumentationScope>> {
    let scope = ("[a-z]{0,9}", "[0-9.]{0,5}", attributes(), 0..3_u32).prop_map(
        |(name, version, attributes, dropped_attributes_count)| {
            let scope = InstrumentationScope { name, version, attributes, dropped_attributes_count };
            Some(scope).filter(|scope| *scope != InstrumentationScope::default())
        },
    );
    prop_oneof![4 => scope, 1 => Just(None)]
}

pub fn log() -> impl Strategy<Value = LogRecord> {
    let times = (prop_oneof![time(), Just(0)], prop_oneof![time(), Just(0)]);
    let ids = (option::of(id(16)), option::of(id(8)));
    let body = option::weighted(0.9, any_value().prop_map(|value| AnyValue { value: Some(value) }));
    (times, 0..=24_i32, "[A-Z]{0,9}", body, attributes(), (any::<u32>(), any::<u32>()), ids, "[a-z]{0,200}")
        .prop_map(|(times, severity_number, severity_text, body, attributes, counts, ids, event_name)| {
            LogRecord {
                time_unix_nano: times.0,
                observed_time_unix_nano: times.1,
                severity_number,
                severity_text,
                body,
                attributes,
                dropped_attributes_count: counts.0,
                flags: counts.1,
                trace_id: ids.0.unwrap_or_default(),
                span_id: ids.1.unwrap_or_default(),
                event_name,
            }
        })
}

pub fn span() -> impl Strategy<Value = Span> {
    let event =
        (time(), "[a-z]{0,9}", attributes(), 0..3_u32).prop_map(|(time_unix_nano, name, attributes, n)| {
            Event { time_unix_nano, name, attributes, dropped_attributes_count: n }
        });
    let link = (id(16), id(8), "[a-z=]{0,9}", attributes(), any::<(u32, u32)>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, (dropped_attributes_count, flags))| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    );
    let status = ("[a-z]{0,9}", 0..=2_i32).prop_map(|(message, code)| {
        Some(Status { message, code }).filter(|status| *status != Status::default())
    });
    let ids = (id(16), id(8), option::of(id(8)));
    let counts = any::<(u32, u32, u32, u32)>();
    let lists = (attributes(), vec(event, 0..3), vec(link, 0..3));
    (ids, "[a-z=]{0,9}", "[a-z]{0,200}", 0..=5_i32, (time(), time()), lists, counts, status).prop_map(
        |(ids, trace_state, name, kind, (start, more), (attributes, events, links), counts, status)| Span {
            trace_id: ids.0,
            span_id: ids.1,
            parent_span_id: ids.2.unwrap_or_default(),
            trace_state,
            flags: counts.0,
            name,
            kind,
            start_time_unix_nano: start,
            end_time_unix_nano: start + more,
            attributes,
            dropped_attributes_count: counts.1,
            events,
            dropped_events_count: counts.2,
            links,
            dropped_links_count: counts.3,
            status,
        },
    )
}

pub fn exemplars() -> impl Strategy<Value = Vec<Exemplar>> {
    let value = prop_oneof![
        any::<i64>().prop_map(exemplar::Value::AsInt),
        (-1e9..1e9).prop_map(exemplar::Value::AsDouble)
    ];
    let exemplar = (attributes(), time(), option::of(value), option::of(id(16)), option::of(id(8)));
    vec(exemplar, 0..3).prop_map(|exemplars| {
        let exemplar = |(filtered_attributes, time_unix_nano, value, trace_id, span_id): (
            _,
            _,
            _,
            Option<_>,
            Option<_>,
        )| Exemplar {
            filtered_attributes,
            time_unix_nano,
            value,
            trace_id: trace_id.unwrap_or_default(),
            span_id: span_id.unwrap_or_default(),
        };
        exemplars.into_iter().map(exemplar).collect()
    })
}

pub fn number() -> impl Strategy<Value = NumberDataPoint> {
    let value = prop_oneof![
        any::<i64>().prop_map(number_data_point::Value::AsInt),
        (-1e300..1e300).prop_map(number_data_point::Value::AsDouble)
    ];
    (attributes(), any::<u64>(), time(), exemplars(), 0..2_u32, option::of(value)).prop_map(
        |(attributes, start_time_unix_nano, time_unix_nano, exemplars, flags, value)| NumberDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            exemplars,
            flags,
            value,
        },
    )
}

pub fn histogram() -> impl Strategy<Value = HistogramDataPoint> {
    let numbers = (option::of(-1e9..1e9), option::of(-1e9..1e9), option::of(-1e9..1e9));
    (attributes(), any::<u64>(), time(), vec(any::<u64>(), 0..5), numbers, exemplars()).prop_map(
        |(attributes, count, time_unix_nano, bucket_counts, (sum, min, max), exemplars)| HistogramDataPoint {
            attributes,
            start_time_unix_nano: count / 2,
            time_unix_nano,
            count,
            sum,
            explicit_bounds: (1..bucket_counts.len()).map(|bound| bound as f64).collect(),
            bucket_counts,
            exemplars,
            flags: 0,
            min,
            max,
        },
    )
}

pub fn exponential() -> impl Strategy<Value = ExponentialHistogramDataPoint> {
    let buckets = || {
        let buckets = (any::<i32>(), vec(any::<u64>(), 0..5));
        option::of(buckets.prop_map(|(offset, bucket_counts)| Buckets { offset, bucket_counts }))
    };
    (attributes(), any::<u64>(), time(), (buckets(), buckets()), (-10..20_i32, 0.0..1.0), exemplars())
        .prop_map(
            |(
                attributes,
                count,
                time_unix_nano,
                (positive, negative),
                (scale, zero_threshold),
                exemplars,
            )| {
                ExponentialHistogramDataPoint {
                    attributes,
                    start_time_unix_nano: count / 3,
                    time_unix_nano,
                    count,
                    sum: Some(zero_threshold * 2.0),
                    scale,
                    zero_count: count / 2,
                    positive,
                    negative,
                    flags: 1,
                    exemplars,
                    min: None,
                    max: Some(1.0),
                    zero_threshold,
                }
            },
        )
}

pub fn summary() -> impl Strategy<Value = SummaryDataPoint> {
    let at = (0.0..1.0, -1e9..1e9).prop_map(|(quantile, value)| ValueAtQuantile { quantile, value });
    (attributes(), any::<u64>(), time(), vec(at, 0..4)).prop_map(
        |(attributes, count, time_unix_nano, quantile_values)| SummaryDataPoint {
            attributes,
            start_time_unix_nano: 0,
            time_unix_nano,
            count,
            sum: 2.5,
            quantile_values,
            flags: 0,
        },
    )
}

/// Each point in a metric of its own, as events give them back.
pub fn metric() -> impl Strategy<Value = Metric> {
    let data = prop_oneof![
        number().prop_map(|point| Data::Gauge(Gauge { data_points: vec![point] })),
        (number(), 0..=2, any::<bool>()).prop_map(|(point, aggregation_temporality, is_monotonic)| {
            Data::Sum(Sum { data_points: vec![point], aggregation_temporality, is_monotonic })
        }),
        (histogram(), 0..=2).prop_map(|(point, aggregation_temporality)| {
            Data::Histogram(Histogram { data_points: vec![point], aggregation_temporality })
        }),
        (exponential(), 0..=2).prop_map(|(point, aggregation_temporality)| {
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![point],
                aggregation_temporality,
            })
        }),
        summary().prop_map(|point| Data::Summary(Summary { data_points: vec![point] })),
    ];
    ("[a-z_]{1,200}", "[a-z ]{0,9}", "[a-z]{0,3}", attributes(), data).prop_map(
        |(name, description, unit, metadata, data)| Metric {
            name,
            description,
            unit,
            metadata,
            data: Some(data),
        },
    )
}
