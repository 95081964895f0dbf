//! Frames out of any stream of bytes, cut anywhere (faults 1, 4, 5, 6).

use tickstream_wire::{Decoder, FrameError};

use crate::memory::allocated;

const PAYLOAD_MAX: u32 = 4_096;

/// The first byte says how the rest is cut; the frames must not depend on it.
///
/// # Panics
/// If they do, or if a decoder allocates more than twice the bytes that came and one frame's table entry.
pub fn decoder(input: &[u8]) {
    let Some((&seed, stream)) = input.split_first() else { return };
    let (whole, _) = allocated(|| decode(std::iter::once(stream)));
    let length = usize::from(seed % 31) + 1;
    let (cut, bytes) = allocated(|| decode(stream.chunks(length)));
    assert_eq!(whole, cut, "cut into pieces of {length}");
    // What was decoded is kept here, too: twice, since vectors double.
    let most = 8 * stream.len() + 8_192;
    assert!(bytes <= most, "{bytes} bytes allocated for {} that came", stream.len());
}

type Decoded = Vec<Result<(u8, Vec<u8>), FrameError>>;

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Decoded {
    let (mut decoder, mut decoded) = (Decoder::new(), Vec::new());
    for mut piece in pieces {
        loop {
            match decoder.next(&mut piece, PAYLOAD_MAX) {
                Ok(Some(frame)) => decoded.push(Ok((frame.kind, frame.payload.to_vec()))),
                Ok(None) => break,
                Err(error) => {
                    decoded.push(Err(error));
                    return decoded;
                }
            }
        }
        assert!(decoder.buffered() < PAYLOAD_MAX as usize + 12, "more than a frame is held");
        decoder.release();
    }
    decoded
}
