//! Events for the unit tests of several crates.

use std::collections::BTreeMap;

use tickstream_schema::events::*;

/// When the samples happened, Unix time, nanoseconds: a shard's tests begin half a second later.
pub(crate) const AT_NS: u64 = 1_000_000_000_000;

pub(crate) fn text_map<const N: usize>(entries: [(&str, &str); N]) -> BTreeMap<String, String> {
    entries.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

pub(crate) fn event_id(number: u64) -> Vec<u8> {
    let mut id = [0xE1; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    id.to_vec()
}

/// An event with this body, and an id that depends on `number`.
pub(crate) fn event(number: u64, body: Body) -> Event {
    Event {
        event_id: event_id(number),
        timestamp: AT_NS,
        platform: "android".into(),
        session_id: "session-1".into(),
        user_id: Some("user-1".into()),
        event_type: body.event_type().into(),
        event_name: "something happened".into(),
        context: text_map([("client_ip", "192.0.2.77"), ("campaign", "spring")]),
        properties: text_map([("email", "ada@example.org"), ("größe", "12 €")]),
        body: Some(body),
        ..Default::default()
    }
}

fn measurement(name: &str, value: f64) -> Measurement {
    Measurement { name: name.into(), value: Some(value), unit: "ms".into() }
}

/// One of each of the eight kinds that there were first.
pub(crate) fn bodies() -> [Body; 8] {
    [
        Body::UserInteraction(UserInteraction {
            device_info: Some(DeviceInfo {
                r#type: "phone".into(),
                os: "Android".into(),
                version: "16".into(),
                manufacturer: "Fairphone".into(),
                ..Default::default()
            }),
            properties: Some(InteractionProperties {
                screen_name: "cart".into(),
                element_id: "buy".into(),
                element_type: "button".into(),
                action: "click".into(),
                value: Some(String::new()),
            }),
            context: Some(InteractionContext {
                app_version: "4.2.0".into(),
                network_type: "wifi".into(),
                carrier: "A1".into(),
                locale: "de-AT".into(),
                timezone: "Europe/Vienna".into(),
            }),
        }),
        Body::Performance(Performance {
            category: PerformanceCategory::Rendering.into(),
            measurements: vec![measurement("frame_time", 16.6), measurement("jank", 0.0)],
            context: Some(PerformanceContext {
                session_id: "view-session".into(),
                view_name: "feed".into(),
                network_info: Some(NetworkInfo { r#type: "5g".into(), strength: Some(0.8) }),
            }),
        }),
        Body::Video(Video {
            video_id: "v-1".into(),
            player_type: "exoplayer".into(),
            event_name: VideoEventName::Buffer.into(),
            measurements: Some(VideoMeasurements {
                startup_time: Some(420.0),
                buffer_duration: Some(0.0),
                bitrate: Some(4_500_000),
                resolution: "1920x1080".into(),
                fps: Some(50.0),
                latency: Some(2_100.5),
                ..Default::default()
            }),
            quality_metrics: Some(VideoQualityMetrics {
                video_quality_score: Some(93.0),
                buffering_ratio: Some(0.01),
                startup_time_score: Some(88.0),
            }),
            context: Some(VideoContext {
                cdn_provider: "cdn-1".into(),
                player_version: "2.19".into(),
                drm_type: "widevine".into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        Body::ApplicationMetric(ApplicationMetric {
            service: "checkout".into(),
            environment: "production".into(),
            metric_type: MetricType::Counter.into(),
            name: "orders_total".into(),
            value: Some(3.0),
            labels: text_map([("method", "card")]),
            host_info: Some(HostInfo {
                hostname: "web-7".into(),
                ip: "2001:db8:1:2:3:4:5:6".into(),
                region: "eu-1".into(),
            }),
            ..Default::default()
        }),
        Body::TraceSpan(TraceSpan {
            trace_id: vec![7; 16],
            span_id: vec![8; 8],
            parent_span_id: Some(vec![9; 8]),
            service: "checkout".into(),
            operation: "POST /orders".into(),
            start_time: AT_NS - 5_000_000,
            end_time: AT_NS,
            duration_ms: Some(5.0),
            status: SpanStatus::Error.into(),
            attributes: Some(SpanAttributes {
                http_method: "POST".into(),
                http_url: "https://shop.example.org/orders?token=1".into(),
                http_status_code: Some(503),
                db_statement: "INSERT INTO orders VALUES (?)".into(),
                error_message: "out of stock".into(),
                other: text_map([("retry", "1")]),
                ..Default::default()
            }),
            resource: Some(SpanResource {
                service_name: "checkout".into(),
                service_version: "1.8".into(),
                host_name: "web-7".into(),
            }),
            ..Default::default()
        }),
        Body::Log(Log {
            service: "checkout".into(),
            level: LogLevel::Fatal.into(),
            message: "no stock for ada@example.org".into(),
            logger_name: "shop.orders".into(),
            thread_name: "main".into(),
            stack_trace: "at orders.rs:12".into(),
            context: Some(LogContext {
                request_id: "r-1".into(),
                user_id: Some("user-1".into()),
                trace_id: Some(vec![7; 16]),
                ..Default::default()
            }),
            metadata: text_map([("pid", "12")]),
            ..Default::default()
        }),
        Body::InfrastructureMetric(InfrastructureMetric {
            resource_type: ResourceType::Database.into(),
            resource_id: "db-1".into(),
            provider: "on-premises".into(),
            region: "eu-1".into(),
            measurements: Some(InfrastructureMeasurements {
                cpu_usage: Some(1.5),
                memory_usage: Some(0.0),
                disk_io: Some(1e9),
                network_io: Some(12.5),
                ..Default::default()
            }),
            cost_data: Some(CostData { cost_per_hour: Some(0.0), currency: "EUR".into() }),
        }),
        Body::Custom(CustomEvent {
            schema: "game.score/2".into(),
            attributes: text_map([("level", "9")]),
            measurements: vec![measurement("score", -4.0)],
            payload: vec![0, 255, 1],
            ..Default::default()
        }),
    ]
}

/// An event of each of those kinds.
pub(crate) fn events() -> Vec<Event> {
    bodies().into_iter().zip(1..).map(|(body, number)| event(number, body)).collect()
}

/// A small event of the commonest kind.
pub(crate) fn log(number: u64) -> Event {
    let log = Log {
        service: "checkout".into(),
        level: LogLevel::Info.into(),
        message: format!("line {number}"),
        ..Log::default()
    };
    event(number, Body::Log(log))
}

pub(crate) fn publish(producer: u8, sequence: u64, events: Vec<Event>) -> Publish {
    Publish { producer_id: vec![producer; 16], sequence, events, ..Publish::default() }
}
