//! The collector's decoders: the first byte chooses the protocol, the others are what came.

use std::{sync::Arc, time::Duration};

use hyper::Request;
use tickstream_collector::{
    files::{config::RecordConfig, records::records},
    http::{Encoding, Head, Route, decode},
    keys::Key,
    routes::ROUTES,
    sources::{
        fluent::FluentStream,
        lines::Format,
        prometheus::exposition,
        statsd::StatsdDatagrams,
        syslog::{RelpStream, SyslogDatagrams, SyslogStream},
    },
    stream::{DatagramDecoder, StreamDecoder},
    upstream::BatchLimits,
    writer::{EventWriter, Ids, Origin},
};

use crate::memory::allocated;

/// Decoders beside those of HTTP.
const OTHERS: usize = 8;
/// Content types that sources tell apart.
const TYPES: [&str; 4] = [
    "application/json",
    "application/x-protobuf",
    "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "application/grpc",
];
const ENCODINGS: [Encoding; 4] = [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::Snappy];
const LIMITS: BatchLimits = BatchLimits { events: 2048, bytes: 256 * 1024 };
/// Most bytes that a compressed body unpacks to.
const CONTENT_BYTES_MAX: usize = 64 * 1024;
/// More than an input of a fuzzer's length may take: decoded values and events, and what is added to each.
const ALLOCATED_BYTES_MAX: usize = 256 << 20;

/// Decodes the rest by the decoder that the first bytes choose.
///
/// # Panics
/// If a decoder does, takes memory without bound, or loses its place.
pub fn collector(data: &[u8]) {
    let [which, how, body @ ..] = data else { return };
    let ((), allocated) = allocated(|| {
        let origin = origin();
        let mut writer = EventWriter::new(&origin, Ids::OfBody(body), LIMITS, 10_000);
        match usize::from(*which) % (ROUTES.len() + OTHERS) {
            index if index < ROUTES.len() => http(&ROUTES[index], *how, body, &mut writer),
            index => other(index - ROUTES.len(), *how, body, &mut writer),
        }
        if let Ok(request) = writer.finish() {
            assert!(request.batches.iter().all(|batch| batch.batch.byte_len() <= LIMITS.bytes));
            assert!(request.rejected.is_sorted_by_key(|rejection| rejection.index));
        }
    });
    assert!(allocated <= ALLOCATED_BYTES_MAX, "{allocated} bytes for {} of input", data.len());
}

fn http(route: &Route, how: u8, body: &[u8], writer: &mut EventWriter<'_>) {
    let content_type = TYPES[usize::from(how) % TYPES.len()];
    let path = route.path.replace('*', "x");
    let request = Request::builder().method("POST").uri(path).header("content-type", content_type).body(());
    let Ok(request) = request else { return };
    let head = Head::new(&request.into_parts().0, None);
    if route.source.accepts(&head).is_ok() {
        _ = route.source.secret_in_body(&head, body);
        _ = route.source.decode(&head, body, writer);
    }
}

fn other(which: usize, how: u8, body: &[u8], writer: &mut EventWriter<'_>) {
    let mut streams: [Box<dyn StreamDecoder>; 3] =
        [Box::new(SyslogStream), Box::new(RelpStream::default()), Box::new(FluentStream::default())];
    match which {
        0..=2 => pieces(streams[which].as_mut(), how, body, writer),
        3 => SyslogDatagrams.decode(body, writer),
        4 => StatsdDatagrams.decode(body, writer),
        5 => {
            let encoding = ENCODINGS[usize::from(how) % ENCODINGS.len()];
            let unpacked = decode(encoding, body, CONTENT_BYTES_MAX);
            assert!(unpacked.is_err() || unpacked.is_ok_and(|content| content.len() <= CONTENT_BYTES_MAX));
        }
        6 => exposition(how, body),
        _ => lines(how, body),
    }
}

/// A stream in pieces, as a network may cut it.
fn pieces(decoder: &mut dyn StreamDecoder, how: u8, body: &[u8], writer: &mut EventWriter<'_>) {
    let mut buffer = Vec::new();
    for piece in body.chunks(usize::from(how) + 1) {
        buffer.extend_from_slice(piece);
        let Ok(consumed) = decoder.decode(&buffer, writer) else { return };
        assert!(consumed <= buffer.len());
        buffer.drain(..consumed);
        decoder.acknowledge(&[], &mut Vec::new());
    }
    decoder.end(&buffer, writer);
}

fn exposition(how: u8, body: &[u8]) {
    let format = if how & 1 == 0 { exposition::Format::Text } else { exposition::Format::OpenMetrics };
    if let Ok(text) = std::str::from_utf8(body) {
        _ = exposition::parse(text, format);
    }
}

fn lines(how: u8, body: &[u8]) {
    const FORMATS: [&str; 8] = ["text", "json", "cri", "docker", "syslog", "nginx", "haproxy", "aws_alb"];
    let format = Format::named(FORMATS[usize::from(how) % FORMATS.len()]).expect("it is one of them");
    let config = RecordConfig { start: None, timeout: Duration::from_secs(1), bytes_max: 1024 };
    let mut at = 0;
    for record in records(body, &config, true, true) {
        assert_eq!(record.start, at, "no byte is lost");
        at = record.end;
        _ = format.event(record.text, "service", 1);
    }
    assert_eq!(at, body.len());
}

fn origin() -> Origin {
    Origin {
        key: Arc::new(Key::unrestricted("fuzz")),
        source: "fuzz",
        address: None,
        user_agent: String::new(),
        headers: Vec::new(),
        receive_time: 1_800_000_000_000_000_000,
        send_time: 0,
    }
}
