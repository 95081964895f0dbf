//! Unpacking compressed batches, within a bound.

use std::io::Read;

use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use tickstream_schema::events::Codec;

/// The largest window of a Zstandard frame: what RFC 8878 (3.1.1.1.2) wants every decoder to support.
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 << 20;

/// A batch that can't be unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UnpackError {
    /// Larger than the limit.
    TooLarge,
    /// Not made by its codec.
    Broken(String),
}

/// Unpacks for a whole shard: into the same buffer, one batch after the other.
pub(crate) struct Unpacker {
    /// All of the limit, from the first compressed batch on.
    buffer: Vec<u8>,
    zstd: Option<Box<FrameDecoder>>,
    bytes_max: usize,
}

impl Unpacker {
    /// Bytes that an unpacker of batches of `bytes_max` takes, the window of a Zstandard frame included.
    pub const fn memory_bytes(bytes_max: u32) -> u64 {
        bytes_max as u64 + ZSTD_WINDOW_BYTES_MAX
    }

    /// An unpacker of batches of at most `bytes_max`.
    pub fn new(bytes_max: u32) -> Self {
        Self { buffer: Vec::new(), zstd: None, bytes_max: bytes_max as usize }
    }

    /// Unpacks `packed`.
    pub fn unpack(&mut self, codec: Codec, packed: &[u8]) -> Result<&[u8], UnpackError> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; self.bytes_max];
        }
        let length = match codec {
            Codec::None => return Err(UnpackError::Broken("nothing is packed".to_owned())),
            Codec::Lz4 => self.lz4(packed)?,
            Codec::Zstd => self.zstd(packed)?,
        };
        Ok(&self.buffer[..length])
    }

    fn lz4(&mut self, packed: &[u8]) -> Result<usize, UnpackError> {
        let broken =
            |detail: String| UnpackError::Broken(format!("no LZ4 block behind its length: {detail}"));
        let (length, block) =
            packed.split_first_chunk::<4>().ok_or_else(|| broken("it has less than 4 bytes".to_owned()))?;
        let length = u32::from_le_bytes(*length) as usize;
        let room = self.buffer.get_mut(..length).ok_or(UnpackError::TooLarge)?;
        let unpacked =
            lz4_flex::block::decompress_into(block, room).map_err(|error| broken(error.to_string()))?;
        if unpacked == length {
            Ok(length)
        } else {
            Err(broken(format!("it unpacks to {unpacked} bytes, not to {length}")))
        }
    }

    fn zstd(&mut self, packed: &[u8]) -> Result<usize, UnpackError> {
        let broken = |error: FrameDecoderError| match error {
            FrameDecoderError::WindowSizeTooBig { .. } => UnpackError::TooLarge,
            error => UnpackError::Broken(format!("no Zstandard frame: {error}")),
        };
        let decoder = self.zstd.get_or_insert_with(|| {
            let mut decoder = Box::new(FrameDecoder::new());
            // A window is memory that the decoder takes at once, whatever comes.
            decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
            decoder
        });
        let mut rest = packed;
        decoder.init(&mut rest).map_err(broken)?;
        // Not decode_all: it would go on until the window is full, too, before it finds out.
        let stop = BlockDecodingStrategy::UptoBytes(self.bytes_max + 1);
        let is_whole = decoder.decode_blocks(&mut rest, stop).map_err(broken)?;
        if !is_whole || decoder.can_collect() > self.bytes_max {
            return Err(UnpackError::TooLarge);
        }
        if !rest.is_empty() {
            return Err(UnpackError::Broken("there is more than one Zstandard frame".to_owned()));
        }
        let read = decoder.read(&mut self.buffer);
        read.map_err(|error| UnpackError::Broken(format!("no Zstandard frame: {error}")))
    }
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    const MAX: usize = 100_000;

    fn lz4(bytes: &[u8]) -> Vec<u8> {
        lz4_flex::block::compress_prepend_size(bytes)
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    #[test]
    fn a_batch_up_to_the_limit_is_unpacked_and_a_bomb_is_refused() {
        let mut unpacker = Unpacker::new(MAX as u32);
        for length in [1, 1_000, MAX] {
            let bytes = vec![7; length];
            assert_eq!(unpacker.unpack(Codec::Lz4, &lz4(&bytes)), Ok(&bytes[..]));
            assert_eq!(unpacker.unpack(Codec::Zstd, &zstd(&bytes)), Ok(&bytes[..]));
        }
        for length in [MAX + 1, 10 * MAX, 300 * MAX] {
            let bytes = vec![7; length];
            let (lz4, zstd) = (lz4(&bytes), zstd(&bytes));
            assert_eq!(unpacker.unpack(Codec::Lz4, &lz4), Err(UnpackError::TooLarge), "{length}");
            assert_eq!(unpacker.unpack(Codec::Zstd, &zstd), Err(UnpackError::TooLarge), "{length}");
        }
    }

    #[test]
    fn a_length_that_lies_is_found_out() {
        let mut unpacker = Unpacker::new(MAX as u32);
        for claimed in [0_u32, 9, 11, 99_999, u32::MAX] {
            let mut packed = lz4(&[7; 10]);
            packed[..4].copy_from_slice(&claimed.to_le_bytes());
            assert!(unpacker.unpack(Codec::Lz4, &packed).is_err(), "{claimed}");
        }
    }

    #[test]
    fn a_window_beyond_the_limit_is_refused_before_it_is_allocated() {
        // A frame of RFC 8878 whose window descriptor says 2^31 bytes, and an empty last block.
        let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        assert_eq!(Unpacker::new(MAX as u32).unpack(Codec::Zstd, &frame), Err(UnpackError::TooLarge));
    }

    proptest! {
        #[test]
        fn noise_and_flipped_bytes_never_panic(
            noise in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            flip in 1..=u8::MAX,
        ) {
            let mut unpacker = Unpacker::new(MAX as u32);
            for mut packed in [lz4(&noise), zstd(&noise)] {
                let index = at.index(packed.len());
                packed[index] ^= flip;
                let _ = unpacker.unpack(Codec::Lz4, &packed).map(<[u8]>::len);
                let _ = unpacker.unpack(Codec::Zstd, &packed).map(<[u8]>::len);
            }
            let _ = unpacker.unpack(Codec::Lz4, &noise).map(<[u8]>::len);
            let _ = unpacker.unpack(Codec::Zstd, &[&[0x28, 0xB5, 0x2F, 0xFD][..], &noise].concat()).map(<[u8]>::len);
        }
    }
}
