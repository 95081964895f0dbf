//! OpenTelemetry's protocol: logs, spans and metrics, over gRPC and HTTP, as protobuf and JSON.
//!
//! Everything that OTLP has goes into the event, so that [`export`] gives the same request again; docs/collector.md names
//! the bounds. A record beyond them is told as `partial_success`, nothing is cut.

pub mod export;
mod groups;
mod json;
mod logs;
mod metrics;
mod plain;
mod semantics;
mod shared;
mod spans;
#[cfg(test)]
mod tests;
mod values;
mod walk;

use hyper::StatusCode;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse},
        metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse},
        trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse},
    },
    logs::v1::LogRecord,
    metrics::v1::Metric,
    trace::v1::Span,
};
use prost::{DecodeError, Message};
use serde_json::json;

use crate::{
    http::{Head, HttpSource, Refusal, Reply, is_call},
    outcome::{Malformed, Outcome},
    writer::EventWriter,
};

/// One of the three kinds of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `/v1/logs`
    Logs,
    /// `/v1/traces`
    Traces,
    /// `/v1/metrics`
    Metrics,
}

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

impl HttpSource for Signal {
    fn name(&self) -> &'static str {
        "otlp"
    }

    fn accepts(&self, head: &Head) -> Result<(), String> {
        let media_type = head.media_type();
        if media_type == PROTOBUF || media_type == JSON || is_call(head) {
            return Ok(());
        }
        Err(format!("Content-Type is \"{media_type}\"; {PROTOBUF} and {JSON} are taken"))
    }

    fn decode(&self, head: &Head, body: &[u8], writer: &mut EventWriter<'_>) -> Result<(), Malformed> {
        let malformed = |error: DecodeError| Malformed(format!("the body is no OTLP in protobuf: {error}"));
        match (self, is_json(head)) {
            (Self::Logs, true) => walk::decode_json::<LogRecord>(body, writer),
            (Self::Logs, false) => walk::decode_plain::<LogRecord>(body, writer).map_err(malformed),
            (Self::Traces, true) => walk::decode_json::<Span>(body, writer),
            (Self::Traces, false) => walk::decode_plain::<Span>(body, writer).map_err(malformed),
            (Self::Metrics, true) => walk::decode_json::<Metric>(body, writer),
            (Self::Metrics, false) => walk::decode_protobuf::<Metric>(body, writer).map_err(malformed),
        }
    }

    fn success(&self, head: &Head, outcome: &Outcome) -> Reply {
        let (rejected, message) = (outcome.rejected.len() as i64, outcome.summary());
        if !is_json(head) {
            return Reply::new(StatusCode::OK, PROTOBUF, self.response(rejected, message));
        }
        let name = match self {
            Self::Logs => "rejectedLogRecords",
            Self::Traces => "rejectedSpans",
            Self::Metrics => "rejectedDataPoints",
        };
        // Protobuf's JSON writes 64 bits as a text.
        let partial = json!({ name: rejected.to_string(), "errorMessage": message });
        let body = if rejected == 0 { json!({}) } else { json!({ "partialSuccess": partial }) };
        Reply::json(StatusCode::OK, &body)
    }

    fn refusal(&self, head: &Head, refusal: &Refusal) -> Reply {
        let (status, message) = (refusal.status_to_repeat(), refusal.to_string());
        // google.rpc.Status, whose code HTTP's status says better.
        if is_json(head) {
            return Reply::json(status, &json!({ "message": message }));
        }
        let mut body = Vec::new();
        prost::encoding::string::encode(2, &message, &mut body);
        Reply::new(status, PROTOBUF, body)
    }
}

impl Signal {
    fn response(self, rejected: i64, error_message: String) -> Vec<u8> {
        let is_partial = rejected > 0;
        match self {
            Self::Logs => {
                let partial = ExportLogsPartialSuccess { rejected_log_records: rejected, error_message };
                ExportLogsServiceResponse { partial_success: is_partial.then_some(partial) }.encode_to_vec()
            }
            Self::Traces => {
                let partial = ExportTracePartialSuccess { rejected_spans: rejected, error_message };
                ExportTraceServiceResponse { partial_success: is_partial.then_some(partial) }.encode_to_vec()
            }
            Self::Metrics => {
                let partial = ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message };
                ExportMetricsServiceResponse { partial_success: is_partial.then_some(partial) }
                    .encode_to_vec()
            }
        }
    }
}

fn is_json(head: &Head) -> bool {
    head.media_type() == JSON
}
