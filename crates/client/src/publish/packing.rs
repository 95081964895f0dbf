//! The payload of a PUBLISH out of encoded events. It is written field by field, since the events are bytes already.

use prost::encode_length_delimiter;
use tickstream_schema::events::Codec;

use crate::Compression;

/// More than the fields beside `events` take: producer_id 18 bytes, sequence 11, codec 2, the frame around `compressed` 11.
pub(crate) const PAYLOAD_OVERHEAD: usize = 48;

/// `(field << 3) | wire type`, as in `message Publish`; `events` has the same number in `message EventBatch`.
const PRODUCER_ID: u8 = 1 << 3 | 2;
const SEQUENCE: u8 = 2 << 3;
const EVENTS: u8 = 3 << 3 | 2;
const CODEC: u8 = 4 << 3;
const COMPRESSED: u8 = 5 << 3 | 2;

/// Bytes that an event of `len` bytes takes in a batch, or a few more.
pub(crate) const fn packed_len(len: usize) -> usize {
    // A length below 2^28 has at most four bytes.
    1 + 4 + len
}

/// Appends the payload to `out`.
pub(crate) fn pack<'a>(
    out: &mut Vec<u8>,
    producer: &[u8; 16],
    sequence: u64,
    events: impl Iterator<Item = &'a [u8]>,
    compression: Compression,
) {
    pack_head(out, producer, sequence);
    let start = out.len();
    events.for_each(|event| bytes(out, EVENTS, event));
    if let Some((codec, packed)) = compressed(&out[start..], compression)
        && packed.len() + COMPRESSED_OVERHEAD < out.len() - start
    {
        out.truncate(start);
        out.push(CODEC);
        varint(out, codec as u64);
        bytes(out, COMPRESSED, &packed);
    }
}

/// Appends the payload of events that are fields already, uncompressed.
pub(crate) fn pack_fields(out: &mut Vec<u8>, producer: &[u8; 16], sequence: u64, fields: &[u8]) {
    pack_head(out, producer, sequence);
    out.extend_from_slice(fields);
}

/// Appends what stands before the bytes of an event of `len` bytes.
pub(crate) fn append_event_head(out: &mut Vec<u8>, len: usize) {
    out.push(EVENTS);
    varint(out, len as u64);
}

fn pack_head(out: &mut Vec<u8>, producer: &[u8; 16], sequence: u64) {
    bytes(out, PRODUCER_ID, producer);
    out.push(SEQUENCE);
    varint(out, sequence);
}

/// The codec's field, and key and length of `compressed`.
const COMPRESSED_OVERHEAD: usize = 2 + 1 + 5;

#[cfg_attr(
    not(any(feature = "lz4", feature = "zstd")),
    expect(unused_variables, reason = "there is nothing to compress by")
)]
fn compressed(batch: &[u8], compression: Compression) -> Option<(Codec, Vec<u8>)> {
    match compression {
        Compression::None => None,
        #[cfg(feature = "lz4")]
        Compression::Lz4 => Some((Codec::Lz4, lz4_flex::block::compress_prepend_size(batch))),
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            use ruzstd::encoding::{CompressionLevel, compress_to_vec};
            Some((Codec::Zstd, compress_to_vec(batch, CompressionLevel::Fastest)))
        }
    }
}

fn bytes(out: &mut Vec<u8>, key: u8, value: &[u8]) {
    out.push(key);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, value: u64) {
    encode_length_delimiter(value as usize, out).expect("a Vec grows as long as there is memory");
}

// Sequences are 64 bits wide, and go through a usize.
const _: () = assert!(usize::BITS >= 64, "varint() takes a u64 for a usize");

#[cfg(test)]
mod tests {
    use tickstream_schema::events::{Event, Message, Publish};

    use super::*;

    fn events(count: u8) -> Vec<Event> {
        let name = |i| format!("checkout_clicked_{i}");
        (0..count).map(|i| Event { event_id: vec![i; 16], event_name: name(i), ..Event::default() }).collect()
    }

    fn packed(events: &[Event], sequence: u64, compression: Compression) -> (Publish, usize) {
        let encoded: Vec<_> = events.iter().map(Message::encode_to_vec).collect();
        let mut out = Vec::new();
        pack(&mut out, &[7; 16], sequence, encoded.iter().map(|event| &event[..]), compression);
        let bound = PAYLOAD_OVERHEAD + encoded.iter().map(|event| packed_len(event.len())).sum::<usize>();
        assert!(out.len() <= bound, "{} {bound}", out.len());
        (Publish::decode(&out[..]).unwrap(), out.len())
    }

    #[test]
    fn it_is_what_the_schema_says() {
        for sequence in [1, 127, 128, u64::MAX] {
            let (publish, len) = packed(&events(3), sequence, Compression::None);
            let expected = Publish {
                producer_id: vec![7; 16],
                sequence,
                events: events(3),
                codec: Codec::None as i32,
                compressed: Vec::new(),
            };
            assert_eq!((expected.encoded_len(), publish), (len, expected));
        }
    }

    #[cfg(feature = "lz4")]
    #[test]
    fn lz4_has_its_length_in_front() {
        use tickstream_schema::events::EventBatch;
        let (publish, _) = packed(&events(100), 1, Compression::Lz4);
        assert_eq!(publish.codec(), Codec::Lz4);
        let batch = lz4_flex::block::decompress_size_prepended(&publish.compressed).unwrap();
        assert_eq!(EventBatch::decode(&batch[..]).unwrap().events, events(100));
        assert!(publish.events.is_empty());
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn zstd_is_one_frame() {
        use tickstream_schema::events::EventBatch;
        let (publish, _) = packed(&events(100), 1, Compression::Zstd);
        assert_eq!(publish.codec(), Codec::Zstd);
        let mut batch = vec![0; 1 << 20];
        let len = ruzstd::decoding::FrameDecoder::new().decode_all(&publish.compressed, &mut batch).unwrap();
        assert_eq!(EventBatch::decode(&batch[..len]).unwrap().events, events(100));
    }

    #[cfg(feature = "lz4")]
    #[test]
    fn what_does_not_shrink_goes_as_it_is() {
        let (publish, _) = packed(&events(1), 1, Compression::Lz4);
        assert_eq!((publish.codec(), publish.events), (Codec::None, events(1)));
    }
}
