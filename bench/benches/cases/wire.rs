//! Bytes and frames: checksum, decoding, sealing.

use std::hint::black_box;

use tickstream_wire::frame::{self, FrameType, HEADER_LEN, OVERHEAD, TRAILER_LEN};
use tickstream_wire::messages::{DataBatch, Message, Mode, SCHEMA_VERSION, Tick};
use tickstream_wire::{Decoder, Frame};

use super::{Case, Operation};

/// 2026-11-21 20:00:00 UTC, in seconds and, at 10,000 ticks a second, as a sequence.
const NOW_S: u64 = 1_795_291_200;
const FIRST_SEQUENCE: u64 = NOW_S * 10_000;
/// The server's default `max_msg_size`.
const PAYLOAD_BYTES_MAX: u32 = 65_536;

pub const CASES: &[Case] = &[
    Case { name: "crc32c 16 B", items: 1, prepare: || crc32c(16) },
    Case { name: "crc32c 64 B", items: 1, prepare: || crc32c(64) },
    Case { name: "crc32c 600 B", items: 1, prepare: || crc32c(600) },
    Case { name: "decode HEARTBEAT", items: 1, prepare: || decode_whole(frame::heartbeat()) },
    Case { name: "decode 40 B", items: 1, prepare: || decode_whole(opaque_frame(40)) },
    Case { name: "decode 40 B split", items: 1, prepare: || decode_split(opaque_frame(40)) },
    Case { name: "decode 598 B", items: 1, prepare: || decode_whole(frame::seal(&batch(64))) },
    Case { name: "decode 598 B split", items: 1, prepare: || decode_split(frame::seal(&batch(64))) },
    Case { name: "read DATA_BATCH of 64", items: 1, prepare: || read(64) },
    Case { name: "seal DATA_BATCH of 1", items: 1, prepare: || seal(1) },
    Case { name: "seal DATA_BATCH of 50", items: 1, prepare: || seal(50) },
];

fn crc32c(bytes: usize) -> Operation {
    let payload = vec![0xA5; bytes];
    Box::new(move || {
        black_box(frame::crc32c(black_box(&payload)));
    })
}

/// A frame that comes in one piece, which the decoder borrows.
fn decode_whole(bytes: Vec<u8>) -> Operation {
    let mut decoder = Decoder::new();
    assert!(feed(&mut decoder, &bytes), "a valid frame");
    Box::new(move || {
        black_box(feed(&mut decoder, black_box(&bytes)));
    })
}

/// A frame of which first one half comes, then the other: the decoder copies it.
fn decode_split(bytes: Vec<u8>) -> Operation {
    let mut decoder = Decoder::new();
    let middle = bytes.len() / 2;
    assert!(!feed(&mut decoder, &bytes[..middle]) && feed(&mut decoder, &bytes[middle..]), "a valid frame");
    Box::new(move || {
        let (front, back) = black_box(&bytes[..]).split_at(middle);
        black_box(feed(&mut decoder, front));
        black_box(feed(&mut decoder, back));
    })
}

/// Gives `input` to the decoder as a shard does. True if that completed a frame.
fn feed(decoder: &mut Decoder, mut input: &[u8]) -> bool {
    let mut decoded = false;
    while let Some(Frame { kind, payload }) =
        decoder.next(&mut input, PAYLOAD_BYTES_MAX).expect("a valid frame")
    {
        black_box((kind, payload));
        decoded = true;
    }
    decoder.release();
    decoded
}

/// The message in a DATA_BATCH: what a client does beyond decoding the frame.
fn read(ticks: u64) -> Operation {
    let sealed = frame::seal(&batch(ticks));
    Box::new(move || {
        let payload = &black_box(&sealed[..])[HEADER_LEN..sealed.len() - TRAILER_LEN];
        black_box(DataBatch::decode(payload).expect("a valid batch"));
    })
}

fn seal(ticks: u64) -> Operation {
    let batch = batch(ticks);
    Box::new(move || {
        black_box(frame::seal(black_box(&batch)));
    })
}

/// Consecutive ticks of 10,000 a second.
fn batch(ticks: u64) -> DataBatch {
    let tick = |sequence: u64| Tick { mode: Mode::Second.into(), epoch_ms: sequence / 10 };
    DataBatch {
        schema_version: SCHEMA_VERSION,
        ticks: (FIRST_SEQUENCE..FIRST_SEQUENCE + ticks).map(tick).collect(),
        first_sequence: FIRST_SEQUENCE,
    }
}

/// A frame of `bytes` in all, such as an AUTH; the decoder doesn't look into the payload.
fn opaque_frame(bytes: usize) -> Vec<u8> {
    let mut sealed = Vec::new();
    frame::seal_with(&mut sealed, FrameType::Auth as u8, |out| out.resize(bytes - TRAILER_LEN, 0xA5));
    assert_eq!(sealed.len(), bytes.max(OVERHEAD));
    sealed
}
