//! The collector's decoders: the first byte chooses the protocol, the others are what came.

use std::{sync::Arc, time::Duration};

use hyper::Request;
use tickstream_collector::{
    files::{config::RecordConfig, records::records},
    http::{Encoding, Framing, FramingProblem, Head, Part, Route, decode},
    keys::Key,
    routes::ROUTES,
    sources::{
        fluent::{AuthenticatedFluent, FluentStream},
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

/// Decoders beside the sources of HTTP.
const OTHERS: usize = 9;
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
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 1024;
/// More than an input of a fuzzer's length may take: decoded values and events, and what is added to each.
const ALLOCATED_BYTES_MAX: usize = 256 << 20;

/// Decodes the rest by the decoder that the first bytes choose.
///
/// # Panics
/// If a decoder does, takes memory without bound, or loses its place.
pub fn collector(data: &[u8]) {
    decodes(data);
}

/// As [`collector`]: true if anything could be decoded.
fn decodes(data: &[u8]) -> bool {
    let [which, how, body @ ..] = data else { return false };
    let (is_sound, allocated) = allocated(|| {
        let origin = origin();
        let mut writer = EventWriter::new(&origin, Ids::OfBody(body), LIMITS, 10_000);
        let is_sound = match usize::from(*which) % (OTHERS + ROUTES.len()) {
            index if index < OTHERS => other(index, *how, body, &mut writer),
            index => http(&ROUTES[index - OTHERS], *how, body, &mut writer),
        };
        let Ok(request) = writer.finish() else { return false };
        assert!(request.batches.iter().all(|batch| batch.batch.byte_len() <= LIMITS.bytes));
        assert!(request.rejected.is_sorted_by_key(|rejection| rejection.index));
        is_sound || request.events() > 0
    });
    assert!(allocated <= ALLOCATED_BYTES_MAX, "{allocated} bytes for {} of input", data.len());
    is_sound
}

fn http(route: &Route, how: u8, body: &[u8], writer: &mut EventWriter<'_>) -> bool {
    let content_type = TYPES[usize::from(how) % TYPES.len()];
    let path = route.path.replace('*', "x");
    let request = Request::builder().method("POST").uri(path).header("content-type", content_type).body(());
    let Ok(request) = request else { return false };
    let head = Head::new(&request.into_parts().0, None);
    if route.source.accepts(&head).is_ok() {
        _ = route.source.secret_in_body(&head, body);
        _ = route.source.decode(&head, body, writer);
    }
    false
}

/// True if what is no event could be decoded.
fn other(which: usize, how: u8, body: &[u8], writer: &mut EventWriter<'_>) -> bool {
    let mut streams: [Box<dyn StreamDecoder>; 3] =
        [Box::new(SyslogStream), Box::new(RelpStream::default()), Box::new(FluentStream::default())];
    match which {
        // Larger pieces are those of a sender that has to prove that it has a key, and has none.
        2 if how >= 0x80 => pieces(&mut AuthenticatedFluent::new(Arc::default()), how, body, writer),
        0..=2 => pieces(streams[which].as_mut(), how, body, writer),
        3 => SyslogDatagrams.decode(body, writer),
        4 => StatsdDatagrams.decode(body, writer),
        5 => return unpacks(how, body),
        6 => return exposition(how, body),
        7 => return lines(how, body),
        _ => return framing(how, body),
    }
    false
}

fn unpacks(how: u8, body: &[u8]) -> bool {
    let encoding = ENCODINGS[usize::from(how) % ENCODINGS.len()];
    let unpacked = decode(encoding, body, CONTENT_BYTES_MAX);
    unpacked.is_ok_and(|content| {
        assert!(content.len() <= CONTENT_BYTES_MAX);
        !content.is_empty()
    })
}

/// Requests of HTTP/1.1 end at the same byte, whatever the pieces in which they come.
fn framing(how: u8, body: &[u8]) -> bool {
    let in_pieces = sound_bytes(usize::from(how) + 1, body);
    assert_eq!(in_pieces, sound_bytes(body.len().max(1), body));
    in_pieces == Ok(body.len())
}

fn sound_bytes(piece: usize, body: &[u8]) -> Result<usize, (usize, FramingProblem)> {
    let (mut framing, mut sound, mut come) = (Framing::new(HEAD_BYTES_MAX), 0, 0);
    loop {
        match framing.check(&body[sound..come]) {
            Ok(Part::Sound(count)) => {
                assert!(count > 0 && sound + count <= come);
                sound += count;
            }
            Ok(Part::Unfinished) if come == body.len() => return Ok(sound),
            Ok(Part::Unfinished) => come = body.len().min(come + piece),
            Err(problem) => return Err((sound, problem)),
        }
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

fn exposition(how: u8, body: &[u8]) -> bool {
    let format = if how & 1 == 0 { exposition::Format::Text } else { exposition::Format::OpenMetrics };
    std::str::from_utf8(body).is_ok_and(|text| exposition::parse(text, format).is_ok())
}

fn lines(how: u8, body: &[u8]) -> bool {
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
    at > 0
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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// A decoder that came or went would lead the inputs to others.
    #[test]
    fn inputs_reach_the_decoders_that_they_are_for() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/collector");
        for file in fs::read_dir(corpus).unwrap() {
            let path = file.unwrap().path();
            assert!(super::decodes(&fs::read(&path).unwrap()), "{}", path.display());
        }
    }
}
