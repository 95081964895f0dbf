//! The table of fields: each message's, in the order in which they are written. A test holds it against the schema.

use serde::{
    de::{Error, MapAccess},
    ser::SerializeMap,
};
use tickstream_wire::messages::events::{
    ApplicationMetric, Body, CostData, CustomEvent, DeviceInfo, Event, EventType, HostInfo,
    InfrastructureMeasurements, InfrastructureMetric, InteractionContext, InteractionProperties, Log,
    LogContext, LogLevel, Measurement, MetricType, NetworkInfo, Performance, PerformanceCategory,
    PerformanceContext, ResourceType, SpanAttributes, SpanResource, SpanStatus, TraceSpan, UserInteraction,
    Video, VideoContext, VideoEventName, VideoMeasurements, VideoQualityMetrics,
};

use super::{
    message::{FieldSeed, Fields, Message, write_field},
    value::{Base64, Hex, Name, Named, Plain, Time, Uuid},
};

/// `Message { field, field as Codec, … }`, and `{ body: kind of Kind, … }` for the one field of which there is one kind.
macro_rules! fields {
    ($($message:ident {
        $($field:ident $(as $codec:ty)?),* $(,)?
        $({ $oneof:ident: $($name:ident of $kind:ident($body:ident)),* $(,)? })?
    })*) => {$(
        impl Fields for $message {
            const NAMES: &'static [&'static str] = &[$(key(stringify!($field)),)* $($(stringify!($name),)*)?];

            fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
                match name {
                    $(name if name == key(stringify!($field)) => {
                        self.$field = map.next_value_seed(FieldSeed::<_, fields!(@codec $($codec)?)>::new())?;
                    })*
                    $($(stringify!($name) => {
                        let read = map.next_value_seed(FieldSeed::<Option<$body>, Plain>::new())?;
                        if let (Some(first), Some(_)) = (&self.$oneof, &read) {
                            return Err(second_body::<A::Error>(first, name));
                        }
                        self.$oneof = read.map(Body::$kind).or(self.$oneof.take());
                    })*)?
                    _ => unreachable!("{name} is no field"),
                }
                Ok(())
            }

            fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $(write_field::<_, fields!(@codec $($codec)?), _>(map, key(stringify!($field)), &self.$field)?;)*
                $(match &self.$oneof {
                    None => {}
                    $(Some(Body::$kind(body)) => {
                        map.serialize_entry(stringify!($name), &Message(body))?;
                    })*
                    Some(_) => {}
                })?
                Ok(())
            }
        }
    )*};
    (@codec) => { Plain };
    (@codec $codec:ty) => { $codec };
}

fields! {
    Event {
        event_id as Uuid, timestamp as Time, platform, session_id, user_id, event_type as Name<EventType>, event_name,
        context, properties,
        { body:
            user_interaction of UserInteraction(UserInteraction), performance of Performance(Performance), video of Video(Video),
            application_metric of ApplicationMetric(ApplicationMetric), trace_span of TraceSpan(TraceSpan), log of Log(Log),
            infrastructure_metric of InfrastructureMetric(InfrastructureMetric), custom of Custom(CustomEvent),
        }
    }
    Measurement { name, value, unit }

    UserInteraction { device_info, properties, context }
    DeviceInfo { r#type, os, version, manufacturer }
    InteractionProperties { screen_name, element_id, element_type, action, value }
    InteractionContext { app_version, network_type, carrier, locale, timezone }

    Performance { category as Name<PerformanceCategory>, measurements, context }
    PerformanceContext { session_id, view_name, network_info }
    NetworkInfo { r#type, strength }

    Video { video_id, player_type, event_name as Name<VideoEventName>, measurements, quality_metrics, context }
    VideoMeasurements { startup_time, buffer_duration, bitrate, resolution, fps, latency }
    VideoQualityMetrics { video_quality_score, buffering_ratio, startup_time_score }
    VideoContext { cdn_provider, player_version, drm_type }

    ApplicationMetric { service, environment, metric_type as Name<MetricType>, name, value, labels, host_info }
    HostInfo { hostname, ip, region }

    TraceSpan {
        trace_id as Hex, span_id as Hex, parent_span_id as Hex, service, operation, start_time as Time, end_time as Time,
        duration_ms, status as Name<SpanStatus>, attributes, resource
    }
    SpanAttributes { http_method, http_url, http_status_code, db_statement, error_message, other }
    SpanResource { service_name, service_version, host_name }

    Log {
        service, level as Name<LogLevel>, message, logger_name, thread_name, stack_trace, context, metadata
    }
    LogContext { request_id, user_id, trace_id as Hex }

    InfrastructureMetric {
        resource_type as Name<ResourceType>, resource_id, provider, region, measurements, cost_data
    }
    InfrastructureMeasurements { cpu_usage, memory_usage, disk_io, network_io }
    CostData { cost_per_hour, currency }

    CustomEvent { schema, attributes, measurements, payload as Base64 }
}

/// The key of a field whose name is a keyword of Rust.
const fn key(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

fn second_body<E: Error>(first: &Body, second: &str) -> E {
    let first = body_name(first);
    E::custom(format_args!("an event has one body, this one has `{first}` and `{second}`"))
}

/// The key of a body.
pub(super) fn body_name(body: &Body) -> &'static str {
    match body {
        Body::UserInteraction(_) => "user_interaction",
        Body::Performance(_) => "performance",
        Body::Video(_) => "video",
        Body::ApplicationMetric(_) => "application_metric",
        Body::TraceSpan(_) => "trace_span",
        Body::Log(_) => "log",
        Body::InfrastructureMetric(_) => "infrastructure_metric",
        Body::Custom(_) => "custom",
        Body::MetricSeries(_) => "metric_series",
        Body::Exposure(_) => "exposure",
        Body::Identify(_) => "identify",
        Body::Alias(_) => "alias",
        Body::Group(_) => "group",
        Body::Consent(_) => "consent",
        Body::Feedback(_) => "feedback",
        Body::Crash(_) => "crash",
        Body::ReplayChunk(_) => "replay_chunk",
        Body::Incident(_) => "incident",
        Body::Finding(_) => "finding",
        Body::Deployment(_) => "deployment",
        Body::Access(_) => "access",
        Body::Cost(_) => "cost",
    }
}

macro_rules! named {
    ($($name:ident: $prefix:literal),* $(,)?) => {$(
        impl Named for $name {
            const PREFIX: &'static str = $prefix;

            fn full_name(self) -> &'static str {
                self.as_str_name()
            }
        }
    )*};
}

named! {
    EventType: "EVENT_TYPE_",
    PerformanceCategory: "PERFORMANCE_CATEGORY_",
    VideoEventName: "VIDEO_EVENT_NAME_",
    MetricType: "METRIC_TYPE_",
    SpanStatus: "SPAN_STATUS_",
    LogLevel: "LOG_LEVEL_",
    ResourceType: "RESOURCE_TYPE_",
}
