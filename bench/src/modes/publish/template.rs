//! Batches that are encoded once: afterwards only ids, times and the sequence change, in place.
//!
//! A batch is a function of its producer and its sequence alone, so that nothing of it has to be kept until it is
//! acknowledged: whenever it is made again, it has the same bytes.

use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tickstream_schema::events::{Codec, Message};
use tickstream_wire::{
    FrameType,
    frame::{HEADER_LEN, MAGIC, TRAILER_LEN, VERSION, crc32c},
};

use super::events::{event, mixed};
use crate::options::CodecOption;

/// Events that are made; longer batches repeat them, with other ids and times.
const VARIETY: u64 = 700;
/// Header, producer, and a sequence as long as one can be.
const HEAD_ROOM: usize = HEADER_LEN + 18 + 1 + 10;
/// The key of `events`, in Publish and EventBatch, and of Publish's other fields.
const EVENTS: u8 = 3 << 3 | 2;
const PRODUCER: u8 = 1 << 3 | 2;
const SEQUENCE: u8 = 2 << 3;
const CODEC: u8 = 4 << 3;
const COMPRESSED: u8 = 5 << 3 | 2;
/// Places of an event's id and time, behind its length: they come first, and have a fixed width.
const ID_AT: usize = 2;
const TIME_AT: usize = ID_AT + 16 + 1;
/// Versions and variant of a UUID of version 7 (RFC 9562).
const UUID_VERSION: u64 = 0x7000;
const UUID_VARIANT: u64 = 1 << 63;

/// The sender of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: [u8; 16],
    seed: u64,
}

impl Producer {
    /// The producer with this number in a run.
    pub fn new(run: u64, number: u64) -> Self {
        let seed = mixed(run ^ mixed(number));
        let mut id = [0; 16];
        id[..8].copy_from_slice(&mixed(seed).to_be_bytes());
        id[8..].copy_from_slice(&(number + 1).to_be_bytes());
        Self { id, seed }
    }
}

/// The shape of all batches of a run.
#[derive(Clone, Debug)]
pub struct Template {
    codec: CodecOption,
    /// The fields with the events.
    fields: Vec<u8>,
    /// Offsets of the events in `fields`.
    events: Vec<usize>,
    /// A frame without its head and trailer filled in; with codec none.
    frame: Vec<u8>,
    /// When the run began, Unix time, nanoseconds.
    began_ns: u64,
}

impl Template {
    /// Batches of so many events of about so many bytes.
    pub fn new(codec: CodecOption, events: u32, event_bytes: u32, began_ns: u64) -> Self {
        let mut fields = Vec::new();
        let mut starts = Vec::new();
        for number in 0..u64::from(events) {
            let event = event(number % VARIETY, event_bytes as usize, began_ns).encode_to_vec();
            fields.push(EVENTS);
            put_varint(&mut fields, event.len() as u64);
            starts.push(fields.len());
            fields.extend_from_slice(&event);
        }
        let frame = [&[0; HEAD_ROOM][..], &fields, &[0; TRAILER_LEN]].concat();
        Self { codec, fields, events: starts, frame, began_ns }
    }

    /// Events in a batch.
    pub fn events(&self) -> u32 {
        self.events.len() as u32
    }

    /// Bytes of a batch's events, unpacked.
    pub fn event_bytes(&self) -> usize {
        self.fields.len()
    }

    /// Makes the frame of a batch in `buffer`, preferably one that held such a frame before. Answers where in it the
    /// frame begins; it ends with the buffer.
    pub fn fill(&mut self, buffer: &mut Vec<u8>, producer: Producer, sequence: u64) -> usize {
        let first_id = producer.seed.wrapping_add(sequence.wrapping_mul(self.events.len() as u64));
        let time_ns = self.began_ns + sequence * 1_000;
        if self.codec == CodecOption::None {
            if buffer.len() != self.frame.len() {
                buffer.clear();
                buffer.extend_from_slice(&self.frame);
            }
            patch(&mut buffer[HEAD_ROOM..], &self.events, first_id, time_ns);
        } else {
            patch(&mut self.fields, &self.events, first_id, time_ns);
            let packed = pack(self.codec, &self.fields);
            let codec = if self.codec == CodecOption::Lz4 { Codec::Lz4 } else { Codec::Zstd };
            buffer.clear();
            buffer.resize(HEAD_ROOM, 0);
            buffer.extend_from_slice(&[CODEC, codec as u8, COMPRESSED]);
            put_varint(buffer, packed.len() as u64);
            buffer.extend_from_slice(&packed);
            buffer.extend_from_slice(&[0; TRAILER_LEN]);
        }
        seal(buffer, producer, sequence)
    }
}

/// Bytes of the payload of a frame that begins at `start` of `buffer`.
pub fn payload_bytes(buffer: &[u8], start: usize) -> u32 {
    (buffer.len() - start - HEADER_LEN - TRAILER_LEN) as u32
}

/// Gives each event its own id and time: UUIDs of version 7, whose 62 last bits no other event of the run shares but by
/// chance.
fn patch(fields: &mut [u8], events: &[usize], first_id: u64, time_ns: u64) {
    let ms = time_ns / 1_000_000;
    for (index, &at) in (0_u64..).zip(events) {
        let high = ms << 16 | UUID_VERSION | (index & 0xFFF);
        let low = UUID_VARIANT | mixed(first_id.wrapping_add(index)) >> 2;
        let event = &mut fields[at..at + TIME_AT + 8];
        event[ID_AT..ID_AT + 8].copy_from_slice(&high.to_be_bytes());
        event[ID_AT + 8..ID_AT + 16].copy_from_slice(&low.to_be_bytes());
        event[TIME_AT..].copy_from_slice(&(time_ns + index).to_le_bytes());
    }
}

fn pack(codec: CodecOption, fields: &[u8]) -> Vec<u8> {
    match codec {
        CodecOption::None => fields.to_vec(),
        CodecOption::Lz4 => lz4_flex::block::compress_prepend_size(fields),
        CodecOption::Zstd => compress_to_vec(fields, CompressionLevel::Fastest),
    }
}

/// Writes head and trailer around the payload's end, which `buffer` has from [`HEAD_ROOM`] on.
fn seal(buffer: &mut [u8], producer: Producer, sequence: u64) -> usize {
    let mut head = [0; HEAD_ROOM];
    head[..4].copy_from_slice(&[MAGIC[0], MAGIC[1], VERSION, FrameType::Publish as u8]);
    head[HEADER_LEN..HEADER_LEN + 2].copy_from_slice(&[PRODUCER, 16]);
    head[HEADER_LEN + 2..HEADER_LEN + 18].copy_from_slice(&producer.id);
    head[HEADER_LEN + 18] = SEQUENCE;
    let mut len = HEADER_LEN + 19;
    let mut rest = sequence;
    while rest >= 0x80 {
        head[len] = rest as u8 | 0x80;
        rest >>= 7;
        len += 1;
    }
    head[len] = rest as u8;
    len += 1;

    let start = HEAD_ROOM - len;
    let length = payload_bytes(buffer, start);
    head[4..HEADER_LEN].copy_from_slice(&length.to_be_bytes());
    buffer[start..HEAD_ROOM].copy_from_slice(&head[..len]);
    let end = buffer.len() - TRAILER_LEN;
    let crc = crc32c(&buffer[start + HEADER_LEN..end]);
    buffer[end..].copy_from_slice(&crc.to_be_bytes());
    start
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io::Read};

    use tickstream_schema::events::{EventBatch, Publish};
    use tickstream_wire::Decoder;

    use super::*;

    const BEGAN_NS: u64 = 1_763_000_000_000_000_000;

    fn decode(frame: &[u8]) -> Publish {
        let mut decoder = Decoder::new();
        let mut input = frame;
        let found = decoder.next(&mut input, 1 << 20).unwrap().expect("it is whole");
        assert_eq!(found.kind, FrameType::Publish as u8);
        let publish = Publish::decode(found.payload).unwrap();
        assert!(input.is_empty());
        publish
    }

    #[test]
    fn a_patched_frame_is_a_publish_with_events_of_its_own() {
        let mut template = Template::new(CodecOption::None, 100, 300, BEGAN_NS);
        let mut buffer = Vec::new();
        let mut ids = BTreeSet::new();
        for number in 0..3 {
            let producer = Producer::new(7, number);
            for sequence in [1, 127, 128, 129, 1 << 40, u64::MAX >> 20] {
                let start = template.fill(&mut buffer, producer, sequence);
                let publish = decode(&buffer[start..]);
                assert_eq!((&publish.producer_id[..], publish.sequence), (&producer.id[..], sequence));
                assert_eq!(publish.events.len(), 100);
                assert_eq!(publish.encode_to_vec(), buffer[start + HEADER_LEN..buffer.len() - TRAILER_LEN]);
                for event in publish.events {
                    assert!(event.timestamp >= BEGAN_NS && event.body.is_some());
                    assert_eq!((event.event_id[6] >> 4, event.event_id[8] >> 6), (7, 2));
                    assert!(ids.insert(event.event_id));
                }
            }
        }
        let start = template.fill(&mut buffer, Producer::new(7, 0), 1);
        assert!(decode(&buffer[start..]).events.iter().all(|event| ids.contains(&event.event_id)));
    }

    #[test]
    fn a_packed_frame_has_the_same_events() {
        let mut plain = Vec::new();
        let producer = Producer::new(7, 0);
        let start = Template::new(CodecOption::None, 20, 300, BEGAN_NS).fill(&mut plain, producer, 9);
        let expected = decode(&plain[start..]).events;
        for codec in [CodecOption::Lz4, CodecOption::Zstd] {
            let mut buffer = plain.clone();
            let start = Template::new(codec, 20, 300, BEGAN_NS).fill(&mut buffer, producer, 9);
            let publish = decode(&buffer[start..]);
            assert_eq!((publish.sequence, publish.events.len()), (9, 0));
            let packed = &publish.compressed[..];
            let unpacked = if codec == CodecOption::Lz4 {
                assert_eq!(publish.codec, Codec::Lz4 as i32);
                lz4_flex::block::decompress_size_prepended(packed).unwrap()
            } else {
                assert_eq!(publish.codec, Codec::Zstd as i32);
                let mut unpacked = Vec::new();
                ruzstd::decoding::StreamingDecoder::new(packed).unwrap().read_to_end(&mut unpacked).unwrap();
                unpacked
            };
            assert_eq!(EventBatch::decode(&unpacked[..]).unwrap().events, expected);
        }
    }
}
