use std::{
    io::Write,
    sync::{Arc, RwLock},
};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use ring::digest::{SHA512, digest};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tickstream_client::events::{Kind, LogLevel, Value};

use super::*;
use crate::{
    keys::{Key, Keys, SharedKeys},
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
    // 8 MB of nothing, which would take 200 MB.
    let many = [&[0x92, 0xA1, b't', 0xDD][..], &4_000_000_u32.to_be_bytes(), &vec![0xC0; 4_000_000]].concat();
    assert!(receive(&many, 1 << 20).is_err());
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

#[test]
fn a_sender_proves_that_it_knows_a_secret_and_gets_a_proof() {
    let keys =
        Keys::parse("[key.app]\nsecret = \"sk_12345\"\n[key.b]\nsecret = \"sk_67890\"", "keys.toml").unwrap();
    let keys: SharedKeys = Arc::new(RwLock::new(Some(Arc::new(keys))));
    let sha512 = |parts: &[&[u8]]| -> String {
        let digest = digest(&SHA512, &parts.concat());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let long = |text: &str| [&[0xD9, text.len() as u8], text.as_bytes()].concat();
    // As Fluent Bit has it: any bytes as a text.
    let salt = [0xFF; 16];
    for (secret, is_known) in [("sk_12345", true), ("sk_1234", false)] {
        let mut decoder = AuthenticatedFluent::new(keys.clone());
        let mut helo = Vec::new();
        decoder.greet(&mut helo);
        let (head, nonce, tail) = (&helo[..15], &helo[15..31], &helo[31..]);
        assert_eq!(head, b"\x92\xA4HELO\x83\xA5nonce\xC4\x10");
        assert_eq!(tail, b"\xA4auth\xA0\xA9keepalive\xC3");
        let proof = sha512(&[&salt, b"host", nonce, secret.as_bytes()]);
        let salt_text = [&[0xB0], &salt[..]].concat();
        let ping = list(&[text("PING"), text("host"), salt_text, long(&proof), text(""), text("")]);
        let stream = [ping.clone(), list(&[text("t"), list(&[entry("a")])])].concat();
        let origin = origin(Key::unrestricted("k"));
        let mut writer = EventWriter::new(&origin, Ids::New, BatchLimits { events: 10, bytes: 10_000 }, 10);
        assert_eq!(decoder.decode(&stream[..9], &mut writer), Ok(0));
        let decoded = decoder.decode(&stream, &mut writer);
        let mut answer = Vec::new();
        let proof = sha512(&[&salt, b"tickstream-collector", nonce, secret.as_bytes()]);
        if is_known {
            assert_eq!(decoded, Ok(ping.len()), "what follows comes under the key");
            assert_eq!(decoder.key(), Some("app"));
            decoder.acknowledge(&[], &mut answer);
            let pong = [text("PONG"), vec![0xC3], text(""), text("tickstream-collector"), long(&proof)];
            assert_eq!(answer, list(&pong));
            assert_eq!(decoder.decode(&stream[ping.len()..], &mut writer), Ok(stream.len() - ping.len()));
            assert_eq!(writer.finish().unwrap().events(), 1);
        } else {
            assert!(decoded.is_err() && decoder.key().is_none());
            assert_eq!(decoder.refuse(&mut answer), "unauthorized");
            let reason = text("no key has this shared_key");
            let pong = [text("PONG"), vec![0xC2], reason, text("tickstream-collector"), text("")];
            assert_eq!(answer, list(&pong));
        }
    }
}

#[test]
fn a_sender_that_proves_nothing_is_refused() {
    let broken = [
        list(&[text("t"), list(&[entry("a")])]),
        list(&[text("PING"), text("host"), text("salt")]),
        list(&[text("PING"), text("host"), text("salt"), vec![0x05]]),
        vec![0xC0],
        vec![0xC1],
    ];
    for message in broken {
        let mut decoder = AuthenticatedFluent::new(Arc::default());
        let origin = origin(Key::unrestricted("k"));
        let mut writer = EventWriter::new(&origin, Ids::New, BatchLimits { events: 10, bytes: 10_000 }, 10);
        assert!(decoder.decode(&message, &mut writer).is_err(), "{message:?}");
        assert!(writer.is_untouched());
        assert_eq!(decoder.refuse(&mut Vec::new()), "unauthorized");
    }
}

/// A fuzzer's input of 349 bytes took 1.5 GB: the text of a map was a key of a map, whose text was a key.
#[test]
fn maps_as_keys_are_refused() {
    let maps = |depth: usize| [vec![0x81; depth], vec![0x01; depth + 1]].concat();
    let message = |key: Vec<u8>| {
        let record = [&[0x81][..], &key, &text("value")].concat();
        list(&[text("t"), list(&[list(&[vec![0x05], record])])])
    };
    let decoded = |message: Vec<u8>| {
        let origin = origin(Key::unrestricted("k"));
        let mut writer = EventWriter::new(&origin, Ids::New, BatchLimits { events: 10, bytes: 10_000 }, 10);
        let decoded = FluentStream::default().decode(&message, &mut writer);
        decoded.map(|_| writer.finish().unwrap().events())
    };
    for key in [text("a"), vec![0x07], vec![0xC0], vec![0xC3], [&[0xCB][..], &1.5_f64.to_be_bytes()].concat()]
    {
        assert_eq!(decoded(message(key)), Ok(1));
    }
    for key in [vec![0x90], maps(1), maps(20)] {
        assert!(decoded(message(key)).unwrap_err().0.contains("a key is a list or a map"));
    }
}
