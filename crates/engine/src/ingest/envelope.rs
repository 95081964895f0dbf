//! The envelope of a PUBLISH: its producer and sequence, and where its events lie.

use tickstream_schema::events::Codec;

use super::unpack::{UnpackError, Unpacker};
use super::{EVENTS, bad_frame};
use crate::close::Fault;
use tickstream_schema::cursor::{Cursor, Malformed, Wire};

/// Fields of a PUBLISH but for its events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope<'a> {
    pub producer: [u8; 16],
    pub sequence: u64,
    pub codec: Codec,
    pub packed: &'a [u8],
    pub has_events: bool,
}

impl<'a> Envelope<'a> {
    /// Reads a PUBLISH.
    ///
    /// # Errors
    /// If it is no message of its type, or lacks a producer or a sequence.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Fault> {
        let malformed = |Malformed| bad_frame("PUBLISH is no protobuf message of its type");
        let (mut producer, mut packed) = (&[][..], &[][..]);
        let (mut sequence, mut codec, mut has_events) = (0, 0, false);
        let mut cursor = Cursor::new(payload);
        while let Some((number, wire)) = cursor.key().map_err(malformed)? {
            match (number, wire) {
                (1, Wire::Bytes) => producer = cursor.bytes().map_err(malformed)?,
                (2, Wire::Varint) => sequence = cursor.varint().map_err(malformed)?,
                (EVENTS, Wire::Bytes) => {
                    has_events = true;
                    cursor.bytes().map_err(malformed)?;
                }
                (4, Wire::Varint) => codec = cursor.varint().map_err(malformed)?,
                (5, Wire::Bytes) => packed = cursor.bytes().map_err(malformed)?,
                (1..=5, _) => return Err(malformed(Malformed)),
                _ => cursor.skip(number, wire).map_err(malformed)?,
            }
        }
        let producer = <[u8; 16]>::try_from(producer).ok().filter(|producer| *producer != [0; 16]);
        let producer = producer
            .ok_or_else(|| bad_frame("PUBLISH: producer_id must be 16 bytes that aren't all zero"))?;
        if sequence == 0 {
            return Err(bad_frame("PUBLISH: sequence begins with 1"));
        }
        let codec = i32::try_from(codec).ok().and_then(|codec| Codec::try_from(codec).ok());
        let codec = codec.ok_or_else(|| bad_frame("PUBLISH: codec must be NONE (0), LZ4 (1) or ZSTD (2)"))?;
        Ok(Self { producer, sequence, codec, packed, has_events })
    }
}

/// The bytes whose fields are the events.
pub fn unpack<'a>(
    unpacker: &'a mut Unpacker,
    envelope: &Envelope<'_>,
    payload: &'a [u8],
) -> Result<&'a [u8], UnpackError> {
    match envelope.codec {
        Codec::None if envelope.packed.is_empty() => Ok(payload),
        Codec::None => Err(UnpackError::Broken("`compressed` needs a codec".to_owned())),
        _ if envelope.has_events => Err(UnpackError::Broken("`events` are for codec NONE alone".to_owned())),
        codec => unpacker.unpack(codec, envelope.packed),
    }
}

/// Counts the events; all other fields are passed over.
pub fn count_events(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let mut count = 0;
    while let Some((number, wire)) = cursor.key()? {
        if number == EVENTS && wire != Wire::Bytes {
            return Err(Malformed);
        }
        count += usize::from(number == EVENTS);
        cursor.skip(number, wire)?;
    }
    Ok(count)
}
