//! Series as most senders of 1.0 write them, from Prometheus' bytes to an event's, without structures between.
//!
//! A series that has anything else, such as a histogram or labels that aren't sorted, isn't plain: it goes by
//! [`series`](super::series), which also says what is wrong. Both ways give the same events.

use tickstream_client::events::{EventType, SeriesType, Temporality};
use tickstream_schema::cursor::{Cursor, Wire, put_bytes, put_number, put_varint, varint_len};

use super::{
    messages::v2::MetricType,
    series::{NAME, NO_VALUE, POINTS_MAX, STALE, ns, type_by_name},
};
use crate::{
    cardinality::TextSeries,
    sources::fields::{EVENT_NAME_BYTES_MAX, SERVICE_BYTES_MAX, TEXTS_MAX, clipped, fits_text_map},
    writer::EventWriter,
};

/// `Event.metric_series` in proto/events.proto.
const METRIC_SERIES: u32 = 18;
/// `MetricSeries.points`.
const POINTS: u8 = 10;
/// Keys of eight bytes: `Event.timestamp`, `MetricPoint.time` and `MetricPoint.value`.
const TIMESTAMP: u8 = 2 << 3 | 1;
const TIME: u8 = 1 << 3 | 1;
const VALUE: u8 = 2 << 3 | 1;

/// The series of a request where they lie. `None`: it is malformed.
pub(super) fn series(request: &[u8]) -> Option<Vec<&[u8]>> {
    let mut all = Vec::new();
    let mut cursor = Cursor::new(request);
    while let Some((number, wire)) = cursor.key().ok()? {
        match (number, wire) {
            (1, Wire::Bytes) => all.push(cursor.bytes().ok()?),
            (1, _) => return None,
            // Types and help of metrics, which come apart from their samples.
            _ => cursor.skip(number, wire).ok()?,
        }
    }
    Some(all)
}

/// Room for the series of a request, one after the other.
#[derive(Default)]
pub(super) struct Encoder<'a> {
    name: &'a str,
    service: &'a str,
    /// Without the name.
    labels: Vec<(&'a str, &'a str)>,
    /// `MetricSeries.points`, and how many they are.
    points: Vec<u8>,
    count: u32,
    /// Time of the newest one, Unix time, nanoseconds.
    newest: u64,
    /// Fields of the event, up to the length of its body.
    head: Vec<u8>,
    body: Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Writes the event of a series, if it is plain.
    pub fn write(&mut self, series: &'a [u8], writer: &mut EventWriter<'_>) -> Option<()> {
        self.read(series)?;
        self.encode();
        writer.weigh([self.count, 0, 0]);
        let series = TextSeries { name: self.name, service: self.service, labels: &self.labels };
        let name = clipped(self.name, EVENT_NAME_BYTES_MAX);
        writer.encoded_series(&series, name, &[&self.head, &self.body, &[]]);
        Some(())
    }

    fn read(&mut self, series: &'a [u8]) -> Option<()> {
        (self.name, self.service, self.count, self.newest) = ("", "", 0, 0);
        self.labels.clear();
        self.points.clear();
        let mut cursor = Cursor::new(series);
        while let Some(field) = cursor.key().ok()? {
            match field {
                (1, Wire::Bytes) => self.take_label(cursor.bytes().ok()?)?,
                (2, Wire::Bytes) => self.take_sample(cursor.bytes().ok()?)?,
                _ => return None,
            }
        }
        let are_sorted = self.labels.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let is_plain = are_sorted && !self.name.is_empty() && self.labels.len() <= TEXTS_MAX;
        (is_plain && (1..=POINTS_MAX).contains(&(self.count as usize))).then_some(())
    }

    fn take_label(&mut self, label: &'a [u8]) -> Option<()> {
        let (mut name, mut value) = ("", "");
        let mut cursor = Cursor::new(label);
        while let Some(field) = cursor.key().ok()? {
            let part = match field {
                (1, Wire::Bytes) => &mut name,
                (2, Wire::Bytes) => &mut value,
                _ => return None,
            };
            *part = std::str::from_utf8(cursor.bytes().ok()?).ok()?;
        }
        if !fits_text_map(name, value) {
            return None;
        }
        match name {
            NAME if !self.name.is_empty() => return None,
            NAME => self.name = value,
            _ => self.labels.push((name, value)),
        }
        if name == "job" {
            self.service = clipped(value, SERVICE_BYTES_MAX);
        }
        Some(())
    }

    fn take_sample(&mut self, sample: &[u8]) -> Option<()> {
        let (mut value, mut ms) = (0, 0);
        let mut cursor = Cursor::new(sample);
        while let Some(field) = cursor.key().ok()? {
            match field {
                (1, Wire::Fixed64) => value = cursor.fixed64().ok()?,
                (2, Wire::Varint) => ms = cursor.varint().ok()? as i64,
                _ => return None,
            }
        }
        let time = ns(ms).filter(|time| *time > 0)?;
        self.newest = self.newest.max(time);
        self.count += 1;
        let is_stale = value == STALE;
        self.points.extend([POINTS << 3 | 2, if is_stale { 11 } else { 18 }]);
        put_fixed64(&mut self.points, TIME, time);
        match is_stale {
            true => put_number(&mut self.points, 5, NO_VALUE.into()),
            false => put_fixed64(&mut self.points, VALUE, value),
        }
        Some(())
    }

    fn encode(&mut self) {
        let body = &mut self.body;
        body.clear();
        put_bytes(body, 1, self.name.as_bytes());
        let counts = type_by_name(self.name) == MetricType::Counter;
        put_number(body, 2, if counts { SeriesType::Sum } else { SeriesType::Gauge } as u64);
        if counts {
            put_number(body, 5, Temporality::Cumulative as u64);
            put_number(body, 6, 1);
        }
        if !self.service.is_empty() {
            put_bytes(body, 7, self.service.as_bytes());
        }
        let field_len = |text: &str| 1 + varint_len(text.len() as u64) + text.len();
        for (name, value) in &self.labels {
            put_varint(body, 8 << 3 | 2);
            put_varint(body, (field_len(name) + field_len(value)) as u64);
            put_bytes(body, 1, name.as_bytes());
            put_bytes(body, 2, value.as_bytes());
        }
        body.extend_from_slice(&self.points);
        let head = &mut self.head;
        head.clear();
        put_fixed64(head, TIMESTAMP, self.newest);
        put_bytes(head, 3, b"prometheus");
        put_number(head, 6, EventType::MetricSeries as u64);
        put_bytes(head, 7, clipped(self.name, EVENT_NAME_BYTES_MAX).as_bytes());
        put_varint(head, (METRIC_SERIES << 3 | 2).into());
        put_varint(head, body.len() as u64);
    }
}

fn put_fixed64(out: &mut Vec<u8>, key: u8, value: u64) {
    out.push(key);
    out.extend_from_slice(&value.to_le_bytes());
}
