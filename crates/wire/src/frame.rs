//! One frame: `[magic 2][version 1][type 1][length 4][payload][crc32c 4]`, integers big-endian.

use crate::{
    ErrorCode,
    messages::{Message, Payload},
};

pub use crate::frame_type::FrameType;

/// The first two bytes of every frame, "TS".
pub const MAGIC: [u8; 2] = *b"TS";
/// The only protocol version there is.
pub const VERSION: u8 = 1;
/// Bytes before the payload.
pub const HEADER_LEN: usize = 8;
/// Bytes of CRC32C after the payload.
pub const TRAILER_LEN: usize = 4;
/// Bytes that a frame adds to its payload.
pub const OVERHEAD: usize = HEADER_LEN + TRAILER_LEN;
/// Frame types from here on are skipped where they aren't known; below, they are an error.
pub const SKIPPABLE_FROM: u8 = 0x80;

/// A frame whose CRC was right; the payload is still bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The header's Type byte; [`FrameType::from_byte`] names it.
    pub kind: u8,
    /// The payload, as long as the header's Length.
    pub payload: &'a [u8],
}

/// Bytes that are no valid frame. All but [`FrameError::Crc`] are found before the payload is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The stream is not, or no longer, made of frames.
    #[error("not a frame: it starts with 0x{found:02x}, not with the magic \"TS\"")]
    Magic {
        /// The first byte that isn't the magic's.
        found: u8,
    },
    /// A version that this side doesn't speak.
    #[error("version {found} is not supported; supported: {VERSION} to {VERSION}")]
    Version {
        /// The header's Version.
        found: u8,
    },
    /// Length is above the limit. The payload was not read.
    #[error("a payload of {length} bytes is above the limit of {max} bytes")]
    TooLarge {
        /// The header's Length, bytes.
        length: u32,
        /// The limit that held, bytes.
        max: u32,
    },
    /// The payload or its CRC was damaged.
    #[error("CRC32C of a frame of type 0x{kind:02x} is 0x{computed:08x}, the frame says 0x{found:08x}")]
    Crc {
        /// The header's Type.
        kind: u8,
        /// CRC32C of the payload that arrived.
        computed: u32,
        /// CRC32C that the frame carries.
        found: u32,
    },
}

impl FrameError {
    /// The code that the peer gets; `None` where it gets no answer, because it doesn't speak this protocol.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Magic { .. } => None,
            Self::Version { .. } => Some(ErrorCode::UnsupportedVersion),
            Self::TooLarge { .. } => Some(ErrorCode::MessageTooLarge),
            Self::Crc { .. } => Some(ErrorCode::BadCrc),
        }
    }
}

/// The largest payloads that are taken, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadMax {
    /// Of a PUBLISH.
    pub publish: u32,
    /// Of any other frame.
    pub other: u32,
}

impl PayloadMax {
    /// The limit of a frame of type `kind`.
    #[inline]
    fn of(self, kind: u8) -> u32 {
        if kind == FrameType::Publish as u8 { self.publish } else { self.other }
    }
}

/// The same for every type.
impl From<u32> for PayloadMax {
    fn from(max: u32) -> Self {
        Self { publish: max, other: max }
    }
}

/// Type and Length of a frame whose magic, version and length were acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: u8,
    pub length: u32,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` if it isn't there whole. What is there is checked at
    /// once, so that a peer that sends one wrong byte and then nothing is found out.
    #[inline]
    pub fn parse(bytes: &[u8], max_payload: PayloadMax) -> Result<Option<Self>, FrameError> {
        for (&found, expected) in bytes.iter().zip(MAGIC) {
            if found != expected {
                return Err(FrameError::Magic { found });
            }
        }
        match bytes.get(2) {
            Some(&found) if found != VERSION => return Err(FrameError::Version { found }),
            _ => {}
        }
        let Some(&[_, _, _, kind, a, b, c, d]) = bytes.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        let max = max_payload.of(kind);
        if length > max {
            return Err(FrameError::TooLarge { length, max });
        }
        Ok(Some(Self { kind, length }))
    }

    /// Bytes of the whole frame.
    #[inline]
    pub fn frame_len(self) -> usize {
        self.length as usize + OVERHEAD
    }
}

/// Checks the CRC of the whole frame in `bytes`, which `header` describes, and gives its payload.
#[inline(always)]
pub(crate) fn open(header: Header, bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let (payload, trailer) = bytes[HEADER_LEN..].split_at(header.length as usize);
    let found = u32::from_be_bytes(trailer.try_into().expect("frame_len() counts a trailer of four bytes"));
    let computed = crc32c(payload);
    if computed != found {
        return Err(FrameError::Crc { kind: header.kind, computed, found });
    }
    Ok(Frame { kind: header.kind, payload })
}

/// CRC32C (Castagnoli, RFC 3720 appendix B.4) of `payload`; 0 for an empty one.
#[inline]
pub fn crc32c(payload: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(payload)
}

/// The frame of one message: header, payload and CRC.
pub fn seal<M: Payload>(message: &M) -> Vec<u8> {
    seal_as(M::TYPE, message)
}

/// The frame of type `kind` with one message, for payloads that this crate doesn't know: those of PUBLISH and
/// PUBLISH_ACK.
#[inline]
pub fn seal_as<M: Message>(kind: FrameType, message: &M) -> Vec<u8> {
    let mut frame = Vec::with_capacity(OVERHEAD + message.encoded_len());
    seal_with(&mut frame, kind as u8, |payload| {
        message.encode(payload).expect("a Vec grows as long as there is memory");
    });
    frame
}

/// A HEARTBEAT, the only frame without a payload.
#[inline]
pub fn heartbeat() -> Vec<u8> {
    let mut frame = Vec::with_capacity(OVERHEAD);
    seal_with(&mut frame, FrameType::Heartbeat as u8, |_| {});
    frame
}

/// Appends to `out` the frame of type `kind` whose payload `write` appends.
///
/// # Panics
/// If the payload is longer than `u32::MAX` bytes: every limit of this protocol is far below.
pub fn seal_with(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[MAGIC[0], MAGIC[1], VERSION, kind, 0, 0, 0, 0]);
    write(out);
    let payload = start + HEADER_LEN;
    let length = u32::try_from(out.len() - payload).expect("a payload is below 4 GiB");
    out[start + 4..payload].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&out[payload..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_is_castagnoli() {
        // RFC 3720, appendix B.4
        assert_eq!(crc32c(&[0x00; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn a_wrong_prefix_is_refused_at_its_first_wrong_byte() {
        let check = |bytes: &[u8], expected| {
            let max = PayloadMax { publish: 1_000, other: 100 };
            assert_eq!(Header::parse(bytes, max), expected, "{bytes:02x?}");
        };
        check(b"", Ok(None));
        check(b"G", Err(FrameError::Magic { found: b'G' }));
        check(b"T", Ok(None));
        check(b"TX", Err(FrameError::Magic { found: b'X' }));
        check(b"TS\x02", Err(FrameError::Version { found: 2 }));
        check(b"TS\x01\x03\0\0\0", Ok(None));
        check(b"TS\x01\x03\0\0\0\x64", Ok(Some(Header { kind: 3, length: 100 })));
        check(b"TS\x01\x03\0\0\0\x65", Err(FrameError::TooLarge { length: 101, max: 100 }));
        check(b"TS\x01\x10\0\0\x03\xe8", Ok(Some(Header { kind: 0x10, length: 1_000 })));
        check(b"TS\x01\x10\0\0\x03\xe9", Err(FrameError::TooLarge { length: 1_001, max: 1_000 }));
        check(b"TS\x01\x03\xff\xff\xff\xff", Err(FrameError::TooLarge { length: u32::MAX, max: 100 }));
    }

    #[test]
    fn types_and_bytes_map_both_ways() {
        for byte in 0..=u8::MAX {
            let kind = FrameType::from_byte(byte);
            assert_eq!(kind.is_some(), matches!(byte, 1..=7 | 0x10 | 0x11));
            assert!(kind.is_none_or(|kind| kind as u8 == byte));
        }
    }
}
