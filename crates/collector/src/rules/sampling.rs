//! Head sampling: each trace, or session, is kept as a whole or not at all, here and in every other collector.

use ring::digest::{SHA256, digest};
use tickstream_client::events::{Body, Event};

/// Bits of a trace's id that are random (W3C Trace Context, level 2), and OpenTelemetry samples by.
const RANDOM_BITS: u32 = 56;

/// True if an event is among the share that is kept.
pub(super) fn keeps(event: &Event, ratio: f64) -> bool {
    let all = (1_u64 << RANDOM_BITS) as f64;
    let threshold = ((1.0 - ratio) * all) as u64;
    randomness(event) >= threshold
}

/// By the trace, else the session, else the event itself.
fn randomness(event: &Event) -> u64 {
    let trace_id = match &event.body {
        Some(Body::TraceSpan(span)) => Some(&span.trace_id[..]),
        Some(Body::Log(log)) => log.context.as_ref().and_then(|context| context.trace_id.as_deref()),
        _ => None,
    };
    match trace_id.filter(|id| id.len() == 16) {
        Some(id) => low_bits(id),
        None if event.session_id.is_empty() => low_bits(digest(&SHA256, &event.event_id).as_ref()),
        None => low_bits(digest(&SHA256, event.session_id.as_bytes()).as_ref()),
    }
}

fn low_bits(bytes: &[u8]) -> u64 {
    let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    number & ((1 << RANDOM_BITS) - 1)
}
