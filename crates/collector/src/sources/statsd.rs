//! StatsD and DogStatsD over UDP: <https://github.com/statsd/statsd/blob/master/docs/metric_types.md>,
//! <https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/>
//!
//! Each value is an event, so nothing is lost to a gauge's last value; the warehouse adds up.

use std::collections::BTreeMap;

use tickstream_client::events::{
    ApplicationMetric, Body, CustomEvent, Event, EventType, HostInfo, Log, LogLevel, MetricType,
};

use crate::{
    sources::fields::{EVENT_NAME_BYTES_MAX, clipped},
    stream::DatagramDecoder,
    writer::EventWriter,
};

/// StatsD over UDP.
pub struct StatsdDatagrams;

/// Longest name of a metric, bytes, by the schema.
const NAME_BYTES_MAX: usize = 128;

impl DatagramDecoder for StatsdDatagrams {
    fn name(&self) -> &'static str {
        "statsd"
    }

    fn decode(&self, datagram: &[u8], writer: &mut EventWriter<'_>) {
        for line in
            datagram.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
        {
            match std::str::from_utf8(line) {
                Ok(line) => take(line, writer),
                Err(error) => writer.reject("INVALID_UTF8", error.to_string()),
            }
        }
    }
}

fn take(line: &str, writer: &mut EventWriter<'_>) {
    let taken = if let Some(rest) = line.strip_prefix("_e{") {
        text_event(rest).map(|event| writer.event(event))
    } else if let Some(rest) = line.strip_prefix("_sc|") {
        service_check(rest).map(|event| writer.event(event))
    } else {
        metrics(line, writer)
    };
    if let Err(problem) = taken {
        writer.reject("MALFORMED", problem);
    }
}

/// Fields that may stand behind a value.
#[derive(Default)]
struct Options<'a> {
    sample_rate: Option<f64>,
    tags: BTreeMap<String, String>,
    /// Unix time, seconds.
    timestamp: u64,
    container: Option<&'a str>,
}

fn options<'a>(sections: impl Iterator<Item = &'a str>) -> Result<Options<'a>, String> {
    let mut options = Options::default();
    for section in sections {
        match section.split_at_checked(1) {
            Some(("@", rate)) => {
                let rate: f64 = rate.parse().map_err(|_| format!("@{rate} is no rate"))?;
                options.sample_rate = Some(rate).filter(|rate| *rate > 0.0 && *rate <= 1.0);
                options.sample_rate.ok_or_else(|| format!("@{rate} is no rate above 0, at most 1"))?;
            }
            Some(("#", tags)) => options.tags = self::tags(tags),
            Some(("T", time)) => {
                options.timestamp = time.parse().map_err(|_| format!("T{time} is no time"))?;
            }
            Some(("c", id)) => options.container = id.strip_prefix(':'),
            // Sections of later versions.
            _ => {}
        }
    }
    Ok(options)
}

fn tags(text: &str) -> BTreeMap<String, String> {
    let pair = |tag: &str| match tag.split_once(':') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (tag.to_owned(), "true".to_owned()),
    };
    text.split(',').filter(|tag| !tag.is_empty()).map(pair).collect()
}

/// `name:value:value|type|@rate|#tags`: an event of each value, or none where one is wrong.
fn metrics(line: &str, writer: &mut EventWriter<'_>) -> Result<(), String> {
    let mut sections = line.split('|');
    let (name, values) =
        sections.next().and_then(|head| head.split_once(':')).ok_or("it is no name:value|type")?;
    let kind = sections.next().ok_or("it has no type")?;
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
        return Err(format!("its name has {} bytes; 1 to {NAME_BYTES_MAX} are taken", name.len()));
    }
    let options = options(sections)?;
    if kind == "s" {
        writer.event(set_member(name, values, &options));
        return Ok(());
    }
    let number = |text: &str| text.parse::<f64>().map_err(|_| format!("{text} is no number"));
    values.split(':').try_for_each(|text| number(text).map(drop))?;
    let kind = match kind {
        "c" => (MetricType::Counter, ""),
        "g" => (MetricType::Gauge, ""),
        "ms" => (MetricType::Histogram, "ms"),
        "h" | "d" => (MetricType::Histogram, ""),
        other => return Err(format!("there is no type {other}")),
    };
    // One after the other: each has all the tags.
    for text in values.split(':') {
        if !writer.is_overfull() {
            writer.event(metric(name, (text, number(text)?), kind, &options));
        }
    }
    Ok(())
}

fn metric(
    name: &str,
    (text, mut value): (&str, f64),
    (metric_type, unit): (MetricType, &str),
    options: &Options<'_>,
) -> Event {
    let mut properties = BTreeMap::new();
    match (metric_type, options.sample_rate) {
        // One of many was sent: it stands for all of them.
        (MetricType::Counter, Some(rate)) => value /= rate,
        (_, Some(rate)) => _ = properties.insert("sample_rate".to_owned(), rate.to_string()),
        (_, None) => {}
    }
    if metric_type == MetricType::Gauge && text.starts_with(['+', '-']) {
        properties.insert("is_change".to_owned(), "true".to_owned());
    }
    let mut labels = options.tags.clone();
    let mut label = |key| labels.remove(key).filter(|value: &String| !value.is_empty());
    let service = label("service").unwrap_or_else(|| "statsd".to_owned());
    let (hostname, environment) = (label("host").unwrap_or_default(), label("env").unwrap_or_default());
    let metric = ApplicationMetric {
        service,
        environment,
        metric_type: metric_type.into(),
        name: name.to_owned(),
        value: Some(value),
        host_info: Some(HostInfo { hostname, ..HostInfo::default() })
            .filter(|host| !host.hostname.is_empty()),
        labels,
        unit: unit.to_owned(),
        ..ApplicationMetric::default()
    };
    let event = envelope(EventType::ApplicationMetric, name, Body::ApplicationMetric(metric), options);
    Event { properties, ..event }
}

/// A member of a set; how many there are is counted when they are looked at.
fn set_member(name: &str, value: &str, options: &Options<'_>) -> Event {
    let mut attributes = options.tags.clone();
    attributes.insert("value".to_owned(), value.to_owned());
    let custom = CustomEvent { schema: "statsd/set".to_owned(), attributes, ..CustomEvent::default() };
    envelope(EventType::Custom, name, Body::Custom(custom), options)
}

fn envelope(event_type: EventType, name: &str, body: Body, options: &Options<'_>) -> Event {
    let context = options.container.map(|id| ("container_id".to_owned(), id.to_owned()));
    Event {
        timestamp: options.timestamp.saturating_mul(1_000_000_000),
        platform: "statsd".to_owned(),
        event_type: event_type.into(),
        event_name: name.to_owned(),
        context: context.into_iter().collect(),
        body: Some(body),
        ..Event::default()
    }
}

/// `_e{5,4}:title|text|d:time|h:host|t:error|#tags`
fn text_event(rest: &str) -> Result<Event, String> {
    let (lengths, rest) = rest.split_once("}:").ok_or("it is no _e{title,text}:")?;
    let lengths =
        lengths.split_once(',').and_then(|(title, text)| Some((title.parse().ok()?, text.parse().ok()?)));
    let (title_len, text_len): (usize, usize) = lengths.ok_or("its lengths are no numbers")?;
    let (title, rest) = counted(rest, title_len).ok_or("its title isn't as long as it says")?;
    let rest = rest.strip_prefix('|').ok_or("it has no text")?;
    let (text, rest) = counted(rest, text_len).ok_or("its text isn't as long as it says")?;
    let mut level = LogLevel::Info;
    let mut log = Log::default();
    let mut timestamp = 0;
    for section in rest.split('|') {
        match section.split_once(':') {
            Some(("d", time)) => timestamp = time.parse().map_err(|_| format!("d:{time} is no time"))?,
            Some(("t", "error")) => level = LogLevel::Error,
            Some(("t", "warning")) => level = LogLevel::Warn,
            Some(("h", host)) => _ = log.metadata.insert("host".to_owned(), host.to_owned()),
            Some(("k", key)) => _ = log.metadata.insert("aggregation_key".to_owned(), key.to_owned()),
            Some(("p", priority)) => _ = log.metadata.insert("priority".to_owned(), priority.to_owned()),
            Some(("s", source)) => _ = log.metadata.insert("source".to_owned(), source.to_owned()),
            _ => log.metadata.extend(section.strip_prefix('#').map(tags).unwrap_or_default()),
        }
    }
    log.message = text.replace("\\n", "\n");
    Ok(log_event(log, level, title, timestamp))
}

/// A text of so many bytes up to a separator or the end, and what follows. hot-shots counts JavaScript's units.
fn counted(text: &str, len: usize) -> Option<(&str, &str)> {
    let ends = |at: &usize| text.get(*at..).is_some_and(|rest| rest.is_empty() || rest.starts_with('|'));
    let by_units = || {
        let mut units = 0;
        let mut ends_of_chars = text.char_indices().map(|(at, char)| {
            units += char.len_utf16();
            (units, at + char.len_utf8())
        });
        ends_of_chars.find(|(units, _)| *units >= len).filter(|(units, _)| *units == len).map(|(_, at)| at)
    };
    let at = Some(len).filter(ends).or_else(by_units).filter(ends)?;
    text.split_at_checked(at)
}

/// `_sc|name|status|d:time|h:host|#tags|m:message`
fn service_check(rest: &str) -> Result<Event, String> {
    let mut sections = rest.split('|');
    let name = sections.next().filter(|name| !name.is_empty()).ok_or("it has no name")?;
    let (level, status) = match sections.next() {
        Some("0") => (LogLevel::Info, "ok"),
        Some("1") => (LogLevel::Warn, "warning"),
        Some("2") => (LogLevel::Error, "critical"),
        Some("3") => (LogLevel::Info, "unknown"),
        other => return Err(format!("there is no status {}", other.unwrap_or_default())),
    };
    let mut log = Log { message: status.to_owned(), ..Log::default() };
    let mut timestamp = 0;
    for section in sections {
        match section.split_once(':') {
            Some(("d", time)) => timestamp = time.parse().map_err(|_| format!("d:{time} is no time"))?,
            Some(("m", message)) => log.message = message.replace("\\n", "\n"),
            Some(("h", host)) => _ = log.metadata.insert("host".to_owned(), host.to_owned()),
            _ => log.metadata.extend(section.strip_prefix('#').map(tags).unwrap_or_default()),
        }
    }
    log.metadata.insert("status".to_owned(), status.to_owned());
    Ok(log_event(log, level, name, timestamp))
}

fn log_event(mut log: Log, level: LogLevel, name: &str, timestamp: u64) -> Event {
    log.service =
        log.metadata.remove("service").filter(|name| !name.is_empty()).unwrap_or_else(|| "statsd".to_owned());
    log.level = level.into();
    if log.message.is_empty() {
        name.clone_into(&mut log.message);
    }
    let event_name = clipped(name, EVENT_NAME_BYTES_MAX);
    if event_name.len() < name.len() {
        log.metadata.insert("title".to_owned(), name.to_owned());
    }
    envelope(EventType::Log, event_name, Body::Log(log), &Options { timestamp, ..Options::default() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        keys::Key,
        upstream::BatchLimits,
        writer::{
            Ids, Request,
            tests::{decoded, origin},
        },
    };

    fn decode(datagram: &[u8]) -> Request {
        let origin = origin(Key::unrestricted("k"));
        let mut writer =
            EventWriter::new(&origin, Ids::New, BatchLimits { events: 100, bytes: 100_000 }, 1000);
        StatsdDatagrams.decode(datagram, &mut writer);
        writer.finish().unwrap()
    }

    fn metrics_of(datagram: &str) -> Vec<(Event, ApplicationMetric)> {
        let metric = |event: Event| match event.body.clone() {
            Some(Body::ApplicationMetric(metric)) => (event, metric),
            other => panic!("{other:?}"),
        };
        decoded(&decode(datagram.as_bytes())).into_iter().map(metric).collect()
    }

    #[test]
    fn values_keep_type_rate_and_tags() {
        let found = metrics_of(
            "hits:3|c|@0.1|#env:prod,service:web,fast\nload:1.5|g\nload:-2|g\nt:320|ms|@0.5|T7\nd:1:2:3|d|c:abc",
        );
        let (_, hits) = &found[0];
        assert_eq!((hits.metric_type(), hits.value.unwrap().round()), (MetricType::Counter, 30.0));
        assert_eq!(
            (&hits.service[..], &hits.environment[..], &hits.labels["fast"][..]),
            ("web", "prod", "true")
        );
        assert_eq!((found[1].1.metric_type(), found[1].1.value), (MetricType::Gauge, Some(1.5)));
        assert_eq!(found[2].0.properties["is_change"], "true");
        let (event, timer) = &found[3];
        assert_eq!((event.timestamp, &timer.unit[..], timer.value), (7_000_000_000, "ms", Some(320.0)));
        assert_eq!(event.properties["sample_rate"], "0.5");
        assert_eq!(
            found[4..].iter().map(|(_, metric)| metric.value.unwrap()).collect::<Vec<_>>(),
            [1.0, 2.0, 3.0]
        );
        assert_eq!(found[4].0.context["container_id"], "abc");
    }

    #[test]
    fn a_line_with_a_wrong_value_is_no_event_at_all() {
        let request = decode(b"a:1:2:x|c\nb:1:2|c");
        assert_eq!((request.rejected.len(), request.events()), (1, 2));
    }

    #[test]
    fn sets_events_and_checks_are_taken() {
        let request = decode(b"users:u1|s\n_e{5,8}:title|te|xt\\nx|t:error|h:web1|#a:b\n_sc|db|2|m:down|#c");
        assert_eq!(request.rejected, []);
        let events = decoded(&request);
        let Some(Body::Custom(set)) = &events[0].body else { panic!() };
        assert_eq!((&events[0].event_name[..], &set.attributes["value"][..]), ("users", "u1"));
        let Some(Body::Log(log)) = &events[1].body else { panic!() };
        assert_eq!(
            (&log.message[..], log.level(), &log.metadata["a"][..]),
            ("te|xt\nx", LogLevel::Error, "b")
        );
        let Some(Body::Log(check)) = &events[2].body else { panic!() };
        assert_eq!((&check.message[..], &check.metadata["status"][..]), ("down", "critical"));
    }

    #[test]
    fn lengths_of_an_event_count_bytes_or_javascripts_units() {
        for (line, expected) in [
            ("_e{7,8}:gr\u{fc}ne|x\u{1F600}yz", None),
            ("_e{6,7}:gr\u{fc}ne|x\u{1F600}yz", Some(("gr\u{fc}ne", "x\u{1F600}yz"))),
            ("_e{5,5}:gr\u{fc}ne|x\u{1F600}yz|#a", Some(("gr\u{fc}ne", "x\u{1F600}yz"))),
            ("_e{5,4}:gr\u{fc}ne|x\u{1F600}yz|#a", None),
            ("_e{3,0}:abc|", Some(("abc", "abc"))),
        ] {
            let request = decode(line.as_bytes());
            let found = decoded(&request).into_iter().next().map(|event| match event.body {
                Some(Body::Log(log)) => (event.event_name, log.message),
                other => panic!("{other:?}"),
            });
            let expected = expected.map(|(title, text)| (title.to_owned(), text.to_owned()));
            assert_eq!(found, expected, "{line} {:?}", request.rejected);
        }
    }

    #[test]
    fn a_title_longer_than_a_name_is_kept_whole() {
        let title = "é".repeat(100);
        let request = decode(format!("_e{{200,1}}:{title}|x").as_bytes());
        let event = decoded(&request).remove(0);
        let Some(Body::Log(log)) = &event.body else { panic!() };
        assert_eq!((event.event_name, &log.metadata["title"]), ("é".repeat(64), &title));
    }

    #[test]
    fn lines_that_are_none_are_told_and_others_pass() {
        let request =
            decode(b"nonsense\na:b|c\nok:1|c\nx:1|q\nx:1|c|@0\n_e{9,9}:a|b\n_sc|a|9\n:1|c\n\xFF:1|c");
        assert_eq!(request.rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [0, 1, 3, 4, 5, 6, 7, 8]);
        assert_eq!(decoded(&request).len(), 1);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "(_e\\{|_sc\\||)[a-z0-9:|@#,{}é.-]{0,60}") {
            decode(line.as_bytes());
        }
    }
}
