//! Fields of events that rules look at and change.

use std::{borrow::Cow, collections::BTreeMap};

use tickstream_client::events::{Body, Event, Kind, LogLevel, Value};

type Texts = BTreeMap<String, String>;
type Values = BTreeMap<String, Value>;

/// The service; empty where an event has none.
pub(super) fn service(event: &Event) -> &str {
    match &event.body {
        Some(Body::Log(log)) => &log.service,
        Some(Body::TraceSpan(span)) => &span.service,
        Some(Body::MetricSeries(series)) => &series.service,
        Some(Body::ApplicationMetric(metric)) => &metric.service,
        _ => "",
    }
}

/// The level of a log.
pub(super) fn level(event: &Event) -> Option<LogLevel> {
    match &event.body {
        Some(Body::Log(log)) => Some(log.level()),
        _ => None,
    }
}

/// The text or number under a key of any of the event's maps.
pub(super) fn text<'a>(event: &'a Event, key: &str) -> Option<Cow<'a, str>> {
    let of = |texts: &'a Texts, values: Option<&'a Values>| {
        let text = texts.get(key).map(|text| Cow::Borrowed(&text[..]));
        text.or_else(|| match values?.get(key)?.kind.as_ref()? {
            Kind::Text(text) => Some(Cow::Borrowed(&text[..])),
            Kind::Integer(number) => Some(number.to_string().into()),
            Kind::Number(number) => Some(number.to_string().into()),
            Kind::Boolean(boolean) => Some(boolean.to_string().into()),
            _ => None,
        })
    };
    let own = match &event.body {
        Some(Body::Log(log)) => of(&log.metadata, Some(&log.typed_metadata)),
        Some(Body::TraceSpan(span)) => span
            .attributes
            .as_ref()
            .and_then(|attributes| of(&attributes.other, Some(&attributes.typed_other))),
        Some(Body::MetricSeries(series)) => of(&series.labels, Some(&series.typed_labels)),
        Some(Body::ApplicationMetric(metric)) => of(&metric.labels, None),
        _ => None,
    };
    own.or_else(|| of(&event.properties, Some(&event.typed_properties)))
        .or_else(|| of(&event.context, Some(&event.typed_context)))
}

/// Renames and removes keys in all maps of the event.
pub(super) fn change(event: &mut Event, rename: &[(String, String)], remove: &[String]) {
    let texts = |map: &mut Texts| change_map(map, rename, remove);
    let values = |map: &mut Values| change_map(map, rename, remove);
    match &mut event.body {
        Some(Body::Log(log)) => {
            texts(&mut log.metadata);
            values(&mut log.typed_metadata);
        }
        Some(Body::TraceSpan(span)) => {
            if let Some(attributes) = &mut span.attributes {
                texts(&mut attributes.other);
                values(&mut attributes.typed_other);
            }
        }
        Some(Body::MetricSeries(series)) => {
            texts(&mut series.labels);
            values(&mut series.typed_labels);
        }
        Some(Body::ApplicationMetric(metric)) => texts(&mut metric.labels),
        _ => {}
    }
    texts(&mut event.properties);
    values(&mut event.typed_properties);
    texts(&mut event.context);
    values(&mut event.typed_context);
}

/// A key that is there already keeps its value: a rename replaces nothing.
fn change_map<T>(map: &mut BTreeMap<String, T>, rename: &[(String, String)], remove: &[String]) {
    remove.iter().for_each(|key| _ = map.remove(key));
    for (old, new) in rename {
        if !map.contains_key(new)
            && let Some(value) = map.remove(old)
        {
            map.insert(new.clone(), value);
        }
    }
}
