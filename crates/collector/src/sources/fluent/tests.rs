use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tickstream_client::events::{Kind, LogLevel, Value};

use super::*;
use crate::{
    keys::Key,
    upstream::BatchLimits,
    writer::{
        Ids,
        tests::{decoded, origin},
    },
};

fn text(text: &str) -> Vec<u8> {
    assert!(text.len() < 32);
    [&[0xA0 | text.len() as u8], text.as_bytes()].concat()
}

fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let pairs_bytes = pairs.iter().flat_map(|(key, value)| [text(key), value.clone()].concat());
    [vec![0x80 | pairs.len() as u8], pairs_bytes.collect()].concat()
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [vec![0x90 | items.len() as u8], items.concat()].concat()
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&[0xC5], &(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// 5 s and 7 ns as EventTime.
fn time() -> Vec<u8> {
    vec![0xD7, 0, 0, 0, 0, 5, 0, 0, 0, 7]
}

fn entry(message: &str) -> Vec<u8> {
    list(&[time(), map(&[("message", text(message)), ("n", vec![0x2A])])])
}

/// Events of a stream that comes in pieces of this size, and what the sender is told.
fn receive(stream: &[u8], piece: usize) -> Result<(Vec<Event>, Vec<u8>), Malformed> {
    let origin = origin(Key::unrestricted("k"));
    let limits = BatchLimits { events: 2048, bytes: 400_000 };
    let (mut decoder, mut buffer, mut events, mut out) =
        (FluentStream::default(), Vec::new(), Vec::new(), Vec::new());
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            let mut writer = EventWriter::new(&origin, Ids::New, limits, 1000);
            let consumed = decoder.decode(&buffer, &mut writer)?;
            events.extend(decoded(&writer.finish().unwrap()));
            decoder.acknowledge(&[], &mut out);
            buffer.drain(..consumed);
            if consumed == 0 {
                break;
            }
        }
    }
    Ok((events, out))
}

fn messages(events: &[Event]) -> Vec<&str> {
    let message = |event| match event {
        &Event { body: Some(Body::Log(ref log)), .. } => &log.message[..],
        other => panic!("{other:?}"),
    };
    events.iter().map(message).collect()
}

#[test]
fn all_four_modes_are_taken_and_chunks_answered() {
    let options = |chunk: &str| map(&[("chunk", text(chunk))]);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&[entry("e"), entry("f")].concat()).unwrap();
    let gzip = gzip.finish().unwrap();
    let compressed = |name, chunk| map(&[("compressed", text(name)), ("chunk", text(chunk))]);
    let zstd = compress_to_vec(&entry("g")[..], CompressionLevel::Fastest);
    let stream = [
        list(&[
            text("app.web"),
            time(),
            map(&[("message", text("a")), ("level", text("warn"))]),
            options("c1"),
        ]),
        list(&[text("app"), list(&[entry("b"), entry("c")]), options("c2")]),
        list(&[text("app"), bytes(&entry("d"))]),
        list(&[text("app"), bytes(&gzip), compressed("gzip", "c4")]),
        list(&[text("app"), bytes(&zstd), compressed("zstd", "c5")]),
    ]
    .concat();
    for piece in [1, 3, 10_000] {
        let (events, out) = receive(&stream, piece).unwrap();
        assert_eq!(messages(&events), ["a", "b", "c", "d", "e", "f", "g"]);
        let acks: Vec<u8> =
            ["c1", "c2", "c4", "c5"].iter().flat_map(|chunk| map(&[("ack", text(chunk))])).collect();
        assert_eq!(out, acks);
        assert_eq!(events[0].timestamp, 5_000_000_007);
        let Some(Body::Log(log)) = &events[0].body else { panic!() };
        assert_eq!((&log.service[..], log.level()), ("app.web", LogLevel::Warn));
        let (again, _) = receive(&stream, 5).unwrap();
        assert_eq!(again[1].event_id, events[1].event_id, "by chunk and index");
        assert_ne!(again[3].event_id, events[3].event_id, "without a chunk");
    }
}

#[test]
fn records_without_a_text_are_their_own_body_and_broken_ones_are_told() {
    let stream =
        list(&[text("t"), list(&[list(&[vec![0x05], map(&[("a", vec![0xC3])])]), vec![0x07], entry("x")])]);
    let origin = origin(Key::unrestricted("k"));
    let mut writer = EventWriter::new(&origin, Ids::New, BatchLimits { events: 10, bytes: 10_000 }, 1000);
    assert_eq!(FluentStream::default().decode(&stream, &mut writer).unwrap(), stream.len());
    let request = writer.finish().unwrap();
    assert_eq!(request.rejected[0].index, 1);
    let events = decoded(&request);
    assert_eq!(events[0].timestamp, 5_000_000_000);
    let Some(Body::Log(Log { body: Some(Value { kind: Some(Kind::Map(map)) }), .. })) = &events[0].body
    else {
        panic!()
    };
    assert_eq!(map.entries["a"].kind, Some(Kind::Boolean(true)));
}

#[test]
fn fault_66_bombs_and_nonsense_end_the_connection() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&vec![0; UNPACKED_BYTES_MAX + 1]).unwrap();
    let bomb = list(&[text("t"), bytes(&gzip.finish().unwrap()), map(&[("compressed", text("gzip"))])]);
    let deep = [vec![0x91; 10_000], vec![0xC0]].concat();
    let huge_list = vec![0xDD, 0xFF, 0xFF, 0xFF, 0xFF];
    let unknown = list(&[text("t"), bytes(&entry("a")), map(&[("compressed", text("lzma"))])]);
    let none = [vec![0xC1], vec![0x05], list(&[text("t")]), list(&[vec![5], vec![5], vec![5]])];
    for broken in [bomb, deep, unknown].into_iter().chain(none) {
        assert!(receive(&broken, 10_000).is_err());
    }
    assert_eq!(receive(&huge_list, 1).unwrap().0, []);
}

#[test]
fn heartbeats_old_raw_texts_and_times_with_metadata_are_taken() {
    let raw = entry("old");
    // fixstr, str 8 and str 16 of the old format hold any bytes.
    let packed = [&[0xD9, raw.len() as u8][..], &raw].concat();
    let binary = list(&[time(), map(&[("message", vec![0xA2, 0xFF, 0xFE])])]);
    let with_metadata = list(&[list(&[time(), map(&[])]), map(&[("message", text("new"))])]);
    let stream =
        [vec![0xC0], list(&[text("t"), packed]), list(&[text("t"), list(&[binary, with_metadata])])].concat();
    let (events, _) = receive(&stream, 10_000).unwrap();
    assert_eq!((events.len(), messages(&events)[0], messages(&events)[2]), (3, "old", "new"));
    assert_eq!(events[2].timestamp, 5_000_000_007);
    let Some(Body::Log(Log { body: Some(Value { kind: Some(Kind::Map(map)) }), .. })) = &events[1].body
    else {
        panic!("{:?}", events[1])
    };
    assert_eq!(map.entries["message"].kind, Some(Kind::Bytes(vec![0xFF, 0xFE])));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(stream in proptest::collection::vec(any::<u8>(), 0..200), piece in 1..50_usize) {
        _ = receive(&stream, piece);
    }
}
