//! Prometheus' remote write, 1.0 and 2.0: `POST /api/v1/write`.
//!
//! A series of a request is one event with all its points. 2.0 tells the type of a metric; of 1.0, which sends types
//! apart from samples, it is taken from the name.

pub mod exposition;
mod messages;
mod plain;
pub(crate) mod series;
#[cfg(test)]
mod tests;
mod texts;

use hyper::{
    StatusCode,
    header::{HeaderName, HeaderValue},
};
use prost::Message;
use tickstream_client::events::EventType;

use self::messages::{v1, v2};
use crate::{
    http::{Encoding, Head, HttpSource, Refusal, Reply},
    outcome::{Malformed, Outcome},
    writer::EventWriter,
};

/// `POST /api/v1/write`
pub struct RemoteWrite;

const V1: &str = "prometheus.WriteRequest";
const V2: &str = "io.prometheus.write.v2.Request";

/// Headers in which 2.0 is told of stored items, in the order of [`Outcome::stored`].
const WRITTEN: [HeaderName; 3] = [
    HeaderName::from_static("x-prometheus-remote-write-samples-written"),
    HeaderName::from_static("x-prometheus-remote-write-histograms-written"),
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written"),
];

impl HttpSource for RemoteWrite {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    /// As Prometheus itself takes it: senders of 1.0 may leave both headers out.
    fn accepts(&self, head: &Head) -> Result<(), String> {
        let (media_type, encoding) = (head.media_type(), head.header("content-encoding"));
        if !media_type.is_empty() && media_type != "application/x-protobuf" {
            return Err(format!("Content-Type is \"{media_type}\"; application/x-protobuf is taken"));
        }
        match proto(head) {
            None | Some(V1 | V2) => {}
            Some(other) => return Err(format!("there is no message {other}; {V1} and {V2} are taken")),
        }
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("snappy") {
            return Err(format!("Content-Encoding is \"{encoding}\"; snappy is taken"));
        }
        Ok(())
    }

    fn encoding(&self, _: &Head, _: &[u8]) -> Option<Encoding> {
        Some(Encoding::Snappy)
    }

    fn decode(&self, head: &Head, body: &[u8], writer: &mut EventWriter<'_>) -> Result<(), Malformed> {
        let malformed = |error| Malformed(format!("the body is no remote write request: {error}"));
        if proto(head) == Some(V2) {
            series::decode_v2(v2::Request::decode(body).map_err(malformed)?, writer);
            return Ok(());
        }
        let plain = writer.takes_encoded(EventType::MetricSeries).then(|| plain::series(body)).flatten();
        let Some(all) = plain else {
            series::decode_v1(v1::WriteRequest::decode(body).map_err(malformed)?, writer);
            return Ok(());
        };
        let mut encoder = plain::Encoder::default();
        for series in all {
            if encoder.write(series, writer).is_none() {
                series::take_v1(v1::TimeSeries::decode(series).map_err(malformed)?, writer);
            }
        }
        Ok(())
    }

    /// Prometheus drops a request with a 400, and tells its operator: those of its series that can be stored are.
    fn success(&self, _: &Head, outcome: &Outcome) -> Reply {
        let reply = if outcome.rejected.is_empty() {
            Reply::empty(StatusCode::NO_CONTENT)
        } else {
            Reply::new(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", outcome.summary())
        };
        with_written(reply, outcome.stored)
    }

    fn refusal(&self, _: &Head, refusal: &Refusal) -> Reply {
        let stored = if let Refusal::Partly(outcome) = refusal { outcome.stored } else { [0; 3] };
        let reply = Reply::new(refusal.status_to_repeat(), "text/plain; charset=utf-8", refusal.to_string());
        with_written(reply, stored)
    }
}

/// The message that the Content-Type names.
fn proto(head: &Head) -> Option<&str> {
    let parameters = head.header("content-type").split(';').skip(1);
    let mut pairs = parameters.filter_map(|parameter| parameter.trim().split_once('='));
    let (_, name) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("proto"))?;
    Some(name.trim_matches('"'))
}

fn with_written(reply: Reply, stored: [u64; 3]) -> Reply {
    WRITTEN
        .into_iter()
        .zip(stored)
        .fold(reply, |reply, (name, count)| reply.header(name, HeaderValue::from(count)))
}
