//! Decompression of bodies, within a bound.

use std::{borrow::Cow, io::Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use ruzstd::decoding::{
    FrameDecoder, StreamingDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

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
    /// Snappy's block format, or its frames.
    Snappy,
}

impl Encoding {
    /// By its name in a header; an empty one is none. Several in a row aren't taken.
    pub fn from_header(value: &str) -> Option<Self> {
        match &value.trim().to_ascii_lowercase()[..] {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            // OpenTelemetry's Collector calls it so.
            "deflate" | "zlib" => Some(Self::Deflate),
            "zstd" => Some(Self::Zstd),
            "snappy" | "x-snappy-framed" => Some(Self::Snappy),
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

/// First bytes of Snappy's frames, which OpenTelemetry's Collector has sent under either name.
const SNAPPY_FRAMED: &[u8] = b"\xFF\x06\0\0sNaPpY";

/// The content of a body, of at most `bytes_max` bytes.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(encoding: Encoding, body: &[u8], bytes_max: usize) -> Result<Cow<'_, [u8]>, DecodeError> {
    let mut content = Content { bytes: Vec::new(), bytes_max };
    match encoding {
        Encoding::Identity if body.len() <= bytes_max => return Ok(Cow::Borrowed(body)),
        Encoding::Identity => return Err(DecodeError::TooLarge(bytes_max)),
        Encoding::Gzip => content.append(MultiGzDecoder::new(body), body.len())?,
        Encoding::Deflate if is_zlib(body) => {
            let mut decoder = ZlibDecoder::new(body);
            content.append(&mut decoder, body.len())?;
            whole(decoder.get_ref())?;
        }
        Encoding::Deflate => {
            let mut decoder = DeflateDecoder::new(body);
            content.append(&mut decoder, body.len())?;
            whole(decoder.get_ref())?;
        }
        Encoding::Zstd => zstd(body, &mut content)?,
        Encoding::Snappy if body.starts_with(SNAPPY_FRAMED) => {
            content.append(snap::read::FrameDecoder::new(body), body.len())?;
        }
        Encoding::Snappy => return snappy(body, bytes_max),
    }
    Ok(Cow::Owned(content.bytes))
}

/// Bytes that are unpacked so far.
struct Content {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Content {
    /// Unpacks so many bytes.
    fn append(&mut self, decoder: impl Read, packed: usize) -> Result<(), DecodeError> {
        let room = self.bytes_max - self.bytes.len();
        self.bytes.reserve(packed.saturating_mul(4).min(room));
        let mut bounded = decoder.take(room as u64 + 1);
        bounded.read_to_end(&mut self.bytes).map_err(|error| broken(&error))?;
        if self.bytes.len() > self.bytes_max { Err(DecodeError::TooLarge(self.bytes_max)) } else { Ok(()) }
    }
}

fn broken(error: &dyn std::fmt::Display) -> DecodeError {
    DecodeError::Broken(error.to_string())
}

/// Checks that nothing is left: what nobody has unpacked isn't stored.
fn whole(rest: &[u8]) -> Result<(), DecodeError> {
    if rest.is_empty() { Ok(()) } else { Err(broken(&format!("{} bytes follow its end", rest.len()))) }
}

fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [cmf, flags, ..] if cmf & 0x0F == 8 && (u16::from(*cmf) << 8 | u16::from(*flags)) % 31 == 0)
}

/// Frames one behind the other, of which some hold no content (RFC 8878, 3.1).
fn zstd(body: &[u8], content: &mut Content) -> Result<(), DecodeError> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
    let mut rest = body;
    loop {
        let before = rest.len();
        match StreamingDecoder::new_with_decoder(&mut rest, &mut decoder) {
            Ok(frame) => content.append(frame, before)?,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => rest = rest.get(length as usize..).ok_or_else(|| broken(&"a frame is cut"))?,
            Err(error) => return Err(broken(&error)),
        }
        if rest.is_empty() {
            return Ok(());
        }
    }
}

fn snappy(body: &[u8], bytes_max: usize) -> Result<Cow<'_, [u8]>, DecodeError> {
    let broken = |error: snap::Error| broken(&error);
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

    #[test]
    fn every_frame_of_zstandard_is_content_and_others_are_passed_over() {
        let (first, second) = (packed(Encoding::Zstd, b"first "), packed(Encoding::Zstd, b"second"));
        let skipped = [&[0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0], &b"any"[..]].concat();
        let body = [&skipped[..], &first, &skipped, &second, &skipped].concat();
        assert_eq!(decode(Encoding::Zstd, &body, 12).unwrap(), &b"first second"[..]);
        assert_eq!(decode(Encoding::Zstd, &body, 11), Err(DecodeError::TooLarge(11)));
        assert!(decode(Encoding::Zstd, &body[..body.len() - 1], 100).is_err(), "the last frame is cut");
        assert!(decode(Encoding::Zstd, &[&first[..], b"more"].concat(), 100).is_err());
        assert!(decode(Encoding::Zstd, b"", 100).is_err());
    }

    #[test]
    fn what_follows_the_end_is_not_passed_over() {
        for encoding in ALL {
            let followed = [&packed(encoding, b"content")[..], b"more"].concat();
            let content = decode(encoding, &followed, 100);
            let is_right = match encoding {
                Encoding::Identity => content.as_deref() == Ok(&b"contentmore"[..]),
                _ => matches!(content, Err(DecodeError::Broken(_))),
            };
            assert!(is_right, "{encoding:?} {content:?}");
        }
    }

    #[test]
    fn snappy_is_taken_in_frames_too() {
        let mut frames = snap::write::FrameEncoder::new(Vec::new());
        frames.write_all(b"hello").unwrap();
        let body = frames.into_inner().unwrap();
        assert_eq!(decode(Encoding::Snappy, &body, 5).unwrap(), &b"hello"[..]);
        assert_eq!(decode(Encoding::Snappy, &body, 4), Err(DecodeError::TooLarge(4)));
        assert!(decode(Encoding::Snappy, &body[..body.len() - 1], 100).is_err());
    }
}
