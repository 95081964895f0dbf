//! Spans in OTLP's messages. Attributes have the names of OpenTelemetry's semantic conventions where there are such, and
//! `tickstream.` before them elsewhere.

use tickstream_engine::{Report, Severity};
use tickstream_service::otlp::{IntoSpan, Span, SpanKind, Status, StatusCode, number, text};

use super::{Traced, Work};

impl IntoSpan for Traced {
    fn into_span(self) -> Span {
        match self {
            Self::Connection { shard, report, bytes_sent, ended_unix_ns } => {
                connection(shard, report, bytes_sent, ended_unix_ns)
            }
            Self::Pass { shard, began_unix_ns, took_ns, work } => pass(shard, began_unix_ns, took_ns, work),
        }
    }
}

fn connection(shard: usize, report: Report, bytes_sent: Option<u64>, ended_unix_ns: u64) -> Span {
    let is_error = matches!(report.reason.severity(), Severity::Warn | Severity::Error);
    let reason = report.reason.as_str();
    let mut attributes = vec![
        text("network.peer.address", report.peer.ip().to_canonical().to_string()),
        number("network.peer.port", report.peer.port()),
        number("tickstream.shard", shard),
        text("tickstream.connection", format!("{shard}-{}", report.number)),
        text("tickstream.close.reason", reason),
        number("tickstream.unsent_ms", report.unsent_ms),
    ];
    attributes.extend(report.mode.map(|mode| text("tickstream.mode", mode.as_str_name())));
    attributes.extend(bytes_sent.map(|bytes| number("tickstream.bytes_sent", bytes)));
    if !report.detail.is_empty() {
        attributes.push(text("tickstream.close.detail", &*report.detail));
    }
    if is_error {
        attributes.push(text("error.type", reason));
    }
    Span {
        name: "connection".to_owned(),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: ended_unix_ns.saturating_sub(report.open_ms * 1_000_000),
        end_time_unix_nano: ended_unix_ns,
        attributes,
        status: is_error
            .then(|| Status { code: StatusCode::Error.into(), message: report.detail.into_owned() }),
        ..Span::default()
    }
}

fn pass(shard: usize, began_unix_ns: u64, took_ns: u64, work: Work) -> Span {
    let Work { completions, actions, handshakes } = work;
    Span {
        name: "slow pass".to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: began_unix_ns,
        end_time_unix_nano: began_unix_ns + took_ns,
        attributes: vec![
            number("tickstream.shard", shard),
            number("tickstream.pass.completions", completions),
            number("tickstream.pass.actions", actions),
            number("tickstream.pass.handshakes", handshakes),
        ],
        ..Span::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickstream_engine::{CloseReason, ConnId, Mode};
    use tickstream_service::otlp::{AttributeValue as Value, KeyValue};

    fn ended(reason: CloseReason, detail: &'static str, mode: Option<Mode>, bytes_sent: Option<u64>) -> Span {
        let report = Report {
            conn: ConnId { slot: tickstream_engine::Slot(0), generation: 0 },
            number: 17,
            peer: "[::ffff:192.0.2.1]:4000".parse().unwrap(),
            reason,
            detail: detail.into(),
            mode,
            open_ms: 1_500,
            unsent_ms: 20,
        };
        let traced = Traced::Connection { shard: 2, report, bytes_sent, ended_unix_ns: 5_000_000_000 };
        traced.into_span()
    }

    fn check(span: &Span, expected: &[(&str, &str)]) {
        let shown =
            |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(Value::StringValue(text)) => text.clone(),
                Some(Value::IntValue(number)) => number.to_string(),
                other => panic!("{other:?}"),
            };
        let found: Vec<_> =
            span.attributes.iter().map(|attribute| (attribute.key.as_str(), shown(attribute))).collect();
        let found: Vec<_> = found.iter().map(|(key, value)| (*key, value.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_subscriber_that_was_slow_is_an_error_with_all_that_is_known() {
        let span = ended(CloseReason::SlowConsumer, "6 s behind", Some(Mode::Second), Some(9));
        check(
            &span,
            &[
                ("network.peer.address", "192.0.2.1"),
                ("network.peer.port", "4000"),
                ("tickstream.shard", "2"),
                ("tickstream.connection", "2-17"),
                ("tickstream.close.reason", "slow_consumer"),
                ("tickstream.unsent_ms", "20"),
                ("tickstream.mode", "SECOND"),
                ("tickstream.bytes_sent", "9"),
                ("tickstream.close.detail", "6 s behind"),
                ("error.type", "slow_consumer"),
            ],
        );
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (3_500_000_000, 5_000_000_000));
        let status = span.status.unwrap();
        assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "6 s behind"));
    }

    #[test]
    fn a_client_that_left_is_no_error() {
        let span = ended(CloseReason::PeerClosed, "", None, None);
        assert_eq!((span.status, span.kind, span.attributes.len()), (None, SpanKind::Server.into(), 6));
    }

    #[test]
    fn a_slow_pass_says_what_it_did() {
        let work = Work { completions: 1, actions: 2, handshakes: 3 };
        let span = Traced::Pass { shard: 0, began_unix_ns: 10, took_ns: 5, work }.into_span();
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (10, 15));
        check(
            &span,
            &[
                ("tickstream.shard", "0"),
                ("tickstream.pass.completions", "1"),
                ("tickstream.pass.actions", "2"),
                ("tickstream.pass.handshakes", "3"),
            ],
        );
    }
}
