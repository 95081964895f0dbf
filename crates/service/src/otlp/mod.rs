//! Traces by OTLP over HTTP: a bounded queue that never waits, and a thread that exports it.
//!
//! A program hands plain data to [`Spans`]; the exporter's thread makes spans of it ([`IntoSpan`]) and posts them. A
//! span is the only one of its trace. While the endpoint is down the queue fills; beyond it, spans are lost and counted.

mod endpoint;
mod export;
mod post;
mod span;

pub use endpoint::{OtlpEndpoint, OtlpEndpointError, endpoint};
pub use export::{Exporter, Exporting};
pub use opentelemetry_proto::tonic::common::v1::KeyValue;
pub use opentelemetry_proto::tonic::common::v1::any_value::Value as AttributeValue;
pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
pub use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
pub use opentelemetry_proto::tonic::trace::v1::{Span, Status};
pub use span::{number, text};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Spans that wait for the exporter. Some 1 MiB.
const QUEUE_MAX: usize = 4_096;

/// Data that becomes a span on the exporter's thread.
pub trait IntoSpan: Send + 'static {
    /// The span, without ids: the exporter adds them.
    fn into_span(self) -> Span;
}

/// The service that spans come from.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name, such as "tickstream".
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// The way to the exporter. Never waits.
#[derive(Debug)]
pub struct Spans<T> {
    queue: SyncSender<T>,
    lost: Lost,
}

impl<T> Spans<T> {
    /// A queue of at most so many, and its other end: what an [`Exporter`] has.
    pub fn bounded(spans_max: usize) -> (Self, Receiver<T>) {
        let (queue, ended) = sync_channel(spans_max);
        (Self { queue, lost: Lost::default() }, ended)
    }

    /// Hands over; where the queue is full, the span is lost and counted.
    pub fn hand_over(&self, ended: T) {
        if self.queue.try_send(ended).is_err() {
            self.lost.add(1);
        }
    }
}

impl<T> Clone for Spans<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), lost: self.lost.clone() }
    }
}

/// Counts the spans that were lost. Clones count the same.
#[derive(Clone, Debug, Default)]
pub struct Lost(Arc<AtomicU64>);

impl Lost {
    /// Spans lost since the start.
    pub fn spans(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, spans: u64) {
        self.0.fetch_add(spans, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_loses_and_counts() {
        let (spans, ended) = Spans::bounded(2);
        (0..5).for_each(|number| spans.hand_over(number));
        assert_eq!((ended.try_iter().count(), spans.lost.spans()), (2, 3));
    }
}
