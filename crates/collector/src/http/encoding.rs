//! Decompression of bodies, within a bound.

use std::{borrow::Cow, io::Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use ruzstd::decoding::StreamingDecoder;

/// HTTP's Content-Encoding, and gRPC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951 without its frame, as some send it.
    Deflate,
    /// RFC 8878, with a window of at most 8 MiB.
    Zstd,
    /// Snappy's block format.
    Snappy,
}

impl Encoding {
    /// By its name in a header; an empty one is none. Several in a row aren't taken.
    pub fn from_header(value: &str) -> Option<Self> {
        match &value.trim().to_ascii_lowercase()[..] {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "zstd" => Some(Self::Zstd),
            "snappy" => Some(Self::Snappy),
            _ => None,
        }
    }
}

/// A body that can't be decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Unpacked, the body would have more bytes than it may.
    #[error("it unpacks to more than {0} bytes")]
    TooLarge(usize),
    /// The body isn't in the encoding that its header names.
    #[error("it is broken: {0}")]
    Broken(String),
}

/// A window is memory that the decoder takes at once: what RFC 8878 wants every decoder to support.
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 << 20;

/// The content of a body, of at most `bytes_max` bytes.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(encoding: Encoding, body: &[u8], bytes_max: usize) -> Result<Cow<'_, [u8]>, DecodeError> {
    let broken = |error: &dyn std::fmt::Display| DecodeError::Broken(error.to_string());
    match encoding {
        Encoding::Identity if body.len() <= bytes_max => Ok(Cow::Borrowed(body)),
        Encoding::Identity => Err(DecodeError::TooLarge(bytes_max)),
        Encoding::Gzip => read(MultiGzDecoder::new(body), body.len(), bytes_max),
        Encoding::Deflate if is_zlib(body) => read(ZlibDecoder::new(body), body.len(), bytes_max),
        Encoding::Deflate => read(DeflateDecoder::new(body), body.len(), bytes_max),
        Encoding::Zstd => {
            let decoder = StreamingDecoder::new_with_max_window_size(body, ZSTD_WINDOW_BYTES_MAX);
            read(decoder.map_err(|error| broken(&error))?, body.len(), bytes_max)
        }
        Encoding::Snappy => snappy(body, bytes_max),
    }
}

fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [cmf, flags, ..] if cmf & 0x0F == 8 && (u16::from(*cmf) << 8 | u16::from(*flags)) % 31 == 0)
}

fn read(decoder: impl Read, packed: usize, bytes_max: usize) -> Result<Cow<'static, [u8]>, DecodeError> {
    let mut out = Vec::with_capacity(packed.saturating_mul(4).min(bytes_max));
    let mut bounded = decoder.take(bytes_max as u64 + 1);
    bounded.read_to_end(&mut out).map_err(|error| DecodeError::Broken(error.to_string()))?;
    if out.len() > bytes_max { Err(DecodeError::TooLarge(bytes_max)) } else { Ok(Cow::Owned(out)) }
}

fn snappy(body: &[u8], bytes_max: usize) -> Result<Cow<'_, [u8]>, DecodeError> {
    let broken = |error: snap::Error| DecodeError::Broken(error.to_string());
    // The length stands in front, and is believed by nobody.
    if snap::raw::decompress_len(body).map_err(broken)? > bytes_max {
        return Err(DecodeError::TooLarge(bytes_max));
    }
    snap::raw::Decoder::new().decompress_vec(body).map(Cow::Owned).map_err(broken)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write};

    use super::*;

    fn packed(encoding: Encoding, content: &[u8]) -> Vec<u8> {
        let level = Compression::fast();
        match encoding {
            Encoding::Identity => content.to_vec(),
            Encoding::Gzip => {
                let mut encoder = write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut encoder = write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => {
                ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest)
            }
            Encoding::Snappy => snap::raw::Encoder::new().compress_vec(content).unwrap(),
        }
    }

    const ALL: [Encoding; 5] =
        [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::Snappy];

    #[test]
    fn what_is_packed_is_unpacked_and_what_is_cut_is_refused() {
        let content: Vec<u8> = (0..10_000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for encoding in ALL {
            let body = packed(encoding, &content);
            assert_eq!(decode(encoding, &body, content.len()).unwrap(), content, "{encoding:?}");
            assert_eq!(
                decode(encoding, &body, content.len() - 1),
                Err(DecodeError::TooLarge(content.len() - 1)),
                "{encoding:?}"
            );
            if encoding != Encoding::Identity {
                let cut = decode(encoding, &body[..body.len() / 2], 1 << 20);
                assert!(matches!(cut, Err(DecodeError::Broken(_))), "{encoding:?} {cut:?}");
            }
        }
    }

    #[test]
    fn fault_66_bombs_are_refused_within_the_bound() {
        let zeros = vec![0; 64 << 20];
        for encoding in &ALL[1..] {
            let bomb = packed(*encoding, &zeros);
            assert_eq!(
                decode(*encoding, &bomb, 1 << 20),
                Err(DecodeError::TooLarge(1 << 20)),
                "{encoding:?}"
            );
        }
        // A length of 4 GiB, and nothing behind it.
        let liar = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F];
        assert_eq!(decode(Encoding::Snappy, &liar, 1 << 20), Err(DecodeError::TooLarge(1 << 20)));
        // A Zstandard frame that wants a window of 2 GiB.
        let window = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xA8];
        assert!(decode(Encoding::Zstd, &window, 1 << 20).is_err());
    }

    #[test]
    fn deflate_is_taken_with_and_without_its_frame() {
        let mut raw = write::DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(b"hello").unwrap();
        assert_eq!(decode(Encoding::Deflate, &raw.finish().unwrap(), 100).unwrap(), &b"hello"[..]);
    }
}
