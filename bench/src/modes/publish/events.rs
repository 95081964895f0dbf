//! Events such as applications send them, of all seven kinds in turn.

use std::collections::BTreeMap;

use tickstream_schema::events::{
    ApplicationMetric, Body, CostData, DeviceInfo, Event, EventType, HostInfo, InfrastructureMeasurements,
    InfrastructureMetric, InteractionContext, InteractionProperties, Log, LogContext, LogLevel, Measurement,
    Message, MetricType, NetworkInfo, Performance, PerformanceCategory, PerformanceContext, ResourceType,
    SpanAttributes, SpanResource, SpanStatus, TraceSpan, UserInteraction, Video, VideoContext,
    VideoEventName, VideoMeasurements, VideoQualityMetrics,
};

/// The longest value of a map (`proto/events.proto`).
const VALUE_MAX: usize = 1_024;
/// Entries of a map, at most.
const ENTRIES_MAX: usize = 64;
/// Bytes of an entry of `properties` beside its value.
const ENTRY_BYTES: usize = 12;
const KINDS: [fn(u64) -> Event; 7] = [interaction, performance, video, metric, span, log, infrastructure];

/// The event with this number: kinds take turns, and what it says depends on the number. It is padded to about `bytes`
/// or, where that is too little for all that it could say, says less.
pub fn event(number: u64, bytes: usize, time_ns: u64) -> Event {
    let kind = KINDS[(number % KINDS.len() as u64) as usize];
    let mut event = kind(number);
    event.event_id = vec![0xFF; 16];
    event.timestamp = time_ns;
    if let Some(Body::TraceSpan(span)) = &mut event.body {
        span.start_time = time_ns;
        span.end_time = time_ns + 1_000_000 * (3 + number % 200);
    }
    if event.encoded_len() > bytes {
        event.context.clear();
    }
    if event.encoded_len() > bytes {
        shorten(&mut event);
    }
    pad(&mut event, bytes);
    event
}

fn envelope(number: u64, platform: &str, kind: EventType, name: &str, body: Body) -> Event {
    Event {
        platform: platform.to_owned(),
        session_id: format!("s-{:016x}", mixed(number / 20)),
        user_id: Some(format!("u-{:08}", mixed(number / 50) % 100_000_000)),
        event_type: kind as i32,
        event_name: name.to_owned(),
        context: map(&[("release", "2026.11.3"), ("experiment", "checkout-b")]),
        body: Some(body),
        ..Event::default()
    }
}

fn interaction(number: u64) -> Event {
    let body = UserInteraction {
        device_info: Some(DeviceInfo {
            r#type: "phone".into(),
            os: "Android".into(),
            version: "16".into(),
            manufacturer: "Samsung".into(),
            ..Default::default()
        }),
        properties: Some(InteractionProperties {
            screen_name: "checkout".into(),
            element_id: format!("pay-button-{}", number % 9),
            element_type: "button".into(),
            action: "click".into(),
            value: Some(format!("{}.90", 10 + number % 90)),
        }),
        context: Some(InteractionContext {
            app_version: "8.14.2".into(),
            network_type: "5g".into(),
            carrier: "A1".into(),
            locale: "de-AT".into(),
            timezone: "Europe/Vienna".into(),
        }),
    };
    envelope(number, "android", EventType::UserInteraction, "checkout_clicked", Body::UserInteraction(body))
}

fn performance(number: u64) -> Event {
    let body = Performance {
        category: PerformanceCategory::Rendering as i32,
        measurements: vec![
            measurement("time_to_first_frame", 180.0 + (number % 400) as f64, "ms"),
            measurement("dropped_frames", (number % 7) as f64, ""),
        ],
        context: Some(PerformanceContext {
            session_id: String::new(),
            view_name: "ProductList".into(),
            network_info: Some(NetworkInfo { r#type: "wifi".into(), strength: Some(0.75) }),
        }),
    };
    envelope(number, "ios", EventType::Performance, "view_rendered", Body::Performance(body))
}

fn video(number: u64) -> Event {
    let body = Video {
        video_id: format!("vod-{:07}", mixed(number) % 10_000_000),
        player_type: "exoplayer".into(),
        event_name: VideoEventName::Buffer as i32,
        measurements: Some(VideoMeasurements {
            startup_time: Some(740.0),
            buffer_duration: Some((number % 3_000) as f64),
            bitrate: Some(4_800_000),
            resolution: "1920x1080".into(),
            fps: Some(50.0),
            latency: None,
            ..Default::default()
        }),
        quality_metrics: Some(VideoQualityMetrics {
            video_quality_score: Some(87.5),
            buffering_ratio: Some(0.015),
            startup_time_score: Some(92.0),
        }),
        context: Some(VideoContext {
            cdn_provider: "edge-west".into(),
            player_version: "1.4.1".into(),
            drm_type: "widevine".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    envelope(number, "tv", EventType::Video, "rebuffering", Body::Video(body))
}

fn metric(number: u64) -> Event {
    let body = ApplicationMetric {
        service: "orders".into(),
        environment: "production".into(),
        metric_type: MetricType::Histogram as i32,
        name: "http_request_duration_seconds".into(),
        value: Some(0.001 * (number % 900) as f64),
        labels: map(&[("method", "GET"), ("route", "/orders/{id}"), ("status", "200")]),
        host_info: Some(HostInfo {
            hostname: format!("orders-{}", number % 40),
            ip: format!("10.0.{}.{}", number % 8, number % 250),
            region: "eu-central-1".into(),
        }),
        ..Default::default()
    };
    envelope(number, "linux", EventType::ApplicationMetric, "metric", Body::ApplicationMetric(body))
}

fn span(number: u64) -> Event {
    let body = TraceSpan {
        trace_id: [mixed(number / 5).to_be_bytes(), mixed(!number / 5).to_be_bytes()].concat(),
        span_id: (mixed(number) | 1).to_be_bytes().to_vec(),
        parent_span_id: Some((mixed(number + 1) | 1).to_be_bytes().to_vec()),
        service: "orders".into(),
        operation: "GET /orders/{id}".into(),
        start_time: 0,
        end_time: 0,
        duration_ms: Some(3.0 + (number % 200) as f64),
        status: SpanStatus::Success as i32,
        attributes: Some(SpanAttributes {
            http_method: "GET".into(),
            http_url: format!("https://shop.example/orders/{}", number % 100_000),
            http_status_code: Some(200),
            db_statement: "SELECT * FROM orders WHERE id = $1".into(),
            ..SpanAttributes::default()
        }),
        resource: Some(SpanResource {
            service_name: "orders".into(),
            service_version: "5.2.0".into(),
            host_name: format!("orders-{}", number % 40),
        }),
        ..Default::default()
    };
    envelope(number, "linux", EventType::TraceSpan, "span", Body::TraceSpan(body))
}

fn log(number: u64) -> Event {
    let body = Log {
        service: "payments".into(),
        level: LogLevel::Warn as i32,
        message: format!("card was declined by the issuer, attempt {} of 3", 1 + number % 3),
        logger_name: "payments.gateway".into(),
        thread_name: format!("worker-{}", number % 16),
        stack_trace: String::new(),
        context: Some(LogContext {
            request_id: format!("r-{:016x}", mixed(number)),
            user_id: None,
            trace_id: None,
            ..Default::default()
        }),
        metadata: map(&[("issuer", "4111"), ("reason", "insufficient_funds")]),
        ..Default::default()
    };
    envelope(number, "linux", EventType::Log, "log", Body::Log(body))
}

fn infrastructure(number: u64) -> Event {
    let body = InfrastructureMetric {
        resource_type: ResourceType::Container as i32,
        resource_id: format!("payments-{:010x}", mixed(number) >> 24),
        provider: "aws".into(),
        region: "eu-central-1".into(),
        measurements: Some(InfrastructureMeasurements {
            cpu_usage: Some(0.01 * (number % 100) as f64),
            memory_usage: Some(0.62),
            disk_io: Some(120_000.0),
            network_io: Some(2_400_000.0),
            ..Default::default()
        }),
        cost_data: Some(CostData { cost_per_hour: Some(0.0416), currency: "EUR".into() }),
    };
    envelope(number, "linux", EventType::InfrastructureMetric, "usage", Body::InfrastructureMetric(body))
}

/// Leaves out what a body needn't have.
fn shorten(event: &mut Event) {
    event.user_id = None;
    match event.body.as_mut() {
        Some(Body::UserInteraction(body)) => (body.device_info, body.context) = (None, None),
        Some(Body::Performance(body)) => body.context = None,
        Some(Body::Video(body)) => (body.quality_metrics, body.context) = (None, None),
        Some(Body::ApplicationMetric(body)) => {
            body.labels.clear();
            body.host_info = None;
        }
        Some(Body::TraceSpan(body)) => (body.attributes, body.resource) = (None, None),
        Some(Body::Log(body)) => {
            body.context = None;
            body.metadata.clear();
        }
        Some(Body::InfrastructureMetric(body)) => body.cost_data = None,
        // Those that aren't made here.
        _ => {}
    }
}

/// Adds to `properties` what is missing.
fn pad(event: &mut Event, bytes: usize) {
    while event.properties.len() < ENTRIES_MAX {
        let missing = bytes.saturating_sub(event.encoded_len());
        if missing <= ENTRY_BYTES {
            return;
        }
        let value = "x".repeat((missing - ENTRY_BYTES).min(VALUE_MAX));
        event.properties.insert(format!("pad_{:02}", event.properties.len()), value);
    }
}

fn measurement(name: &str, value: f64, unit: &str) -> Measurement {
    Measurement { name: name.to_owned(), value: Some(value), unit: unit.to_owned() }
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The finaliser of splitmix64: a number that looks like any other, another one for each.
pub fn mixed(number: u64) -> u64 {
    let mut hash = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_size_that_was_asked_for_and_all_kinds_come() {
        let check = |bytes: usize, tolerance: usize| {
            let mut kinds = std::collections::BTreeSet::new();
            for number in 0..200 {
                let event = event(number, bytes, 1);
                kinds.insert(event.event_type);
                let found = event.encoded_len();
                assert!(
                    found.abs_diff(bytes) <= tolerance,
                    "{number}: {found} instead of {bytes}: {event:?}"
                );
            }
            assert_eq!(kinds.len(), 7);
        };
        check(300, 20);
        check(1_000, 20);
        check(20_000, 200);
    }
}
