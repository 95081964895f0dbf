//! Frames out of a byte stream, however it was split or coalesced on its way.

use crate::frame::{self, Frame, FrameError, FrameType, HEADER_LEN, Header, OVERHEAD, PayloadMax};

/// The decoder of one connection: 8 bytes while the stream stands between two frames.
///
/// A frame that arrived whole is borrowed from the input; only a split one is copied, into a buffer that grows
/// with the bytes that came and never beyond that frame.
///
/// After an error the stream has lost its frames: the connection must end.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

#[derive(Debug)]
struct Partial {
    /// From the first byte of a frame; at most the whole frame.
    bytes: Vec<u8>,
    /// The frame was handed out, or is none; its bytes go at the next call.
    taken: bool,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub const fn new() -> Self {
        Self { partial: None }
    }

    /// The next frame, or `None` when `input` is used up.
    ///
    /// Takes what it uses from the front of `input`. Call it with the same `input` until it answers `None`;
    /// `max_payload`, bytes, holds for frames whose header completes in this call.
    ///
    /// # Errors
    /// See [`FrameError`].
    #[inline]
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        max_payload: impl Into<PayloadMax>,
    ) -> Result<Option<Frame<'a>>, FrameError> {
        let max_payload = max_payload.into();
        if self.partial.as_ref().is_some_and(|partial| partial.taken) {
            self.partial = None;
        }
        if self.partial.is_none() {
            match Header::parse(input, max_payload)? {
                Some(header) if input.len() >= header.frame_len() => {
                    return frame::open(header, take(input, header.frame_len())).map(Some);
                }
                _ if input.is_empty() => {}
                // All that is there belongs to one frame.
                _ => {
                    let bytes = take(input, input.len()).to_vec();
                    self.partial = Some(Box::new(Partial { bytes, taken: false }));
                }
            }
            return Ok(None);
        }
        let Some(partial) = &mut self.partial else { return Ok(None) };
        partial.fill(HEADER_LEN, input);
        let parsed = Header::parse(&partial.bytes, max_payload).inspect_err(|_| partial.taken = true)?;
        let Some(header) = parsed else { return Ok(None) };
        partial.fill(header.frame_len(), input);
        if partial.bytes.len() < header.frame_len() {
            return Ok(None);
        }
        partial.taken = true;
        frame::open(header, &partial.bytes).map(Some)
    }

    /// Bytes that the decoder holds of an unfinished frame.
    #[inline]
    pub fn buffered(&self) -> usize {
        self.partial.as_ref().filter(|partial| !partial.taken).map_or(0, |partial| partial.bytes.len())
    }

    /// The same, if the frame is a PUBLISH; 0 otherwise.
    #[inline]
    pub fn publish_buffered(&self) -> usize {
        let kind = self.partial.as_ref().and_then(|partial| partial.bytes.get(3));
        if kind == Some(&(FrameType::Publish as u8)) { self.buffered() } else { 0 }
    }

    /// Gives back the memory of a frame that was handed out.
    #[inline]
    pub fn release(&mut self) {
        if self.partial.as_ref().is_some_and(|partial| partial.taken) {
            self.partial = None;
        }
    }
}

impl Partial {
    /// Moves bytes from the front of `input` until there are `goal`, or as many as there are.
    #[inline]
    fn fill(&mut self, goal: usize, input: &mut &[u8]) {
        let missing = goal.saturating_sub(self.bytes.len()).min(input.len());
        let room = self.bytes.capacity();
        if room - self.bytes.len() < missing {
            // Twice as much as there was, as Vec would take, but no more than the frame needs.
            let grown = (2 * room).clamp(self.bytes.len() + missing, goal);
            self.bytes.reserve_exact(grown - self.bytes.len());
        }
        self.bytes.extend_from_slice(take(input, missing));
    }
}

/// Splits `len` bytes off the front of `input`.
#[inline]
fn take<'i>(input: &mut &'i [u8], len: usize) -> &'i [u8] {
    let (front, rest) = input.split_at(len);
    *input = rest;
    front
}

// The largest frame fits the address space even where usize is 32 bits wide and a limit is set to u32::MAX.
const _: () = assert!(usize::BITS >= 64 || OVERHEAD < usize::MAX);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u32 = 300;

    fn frame_bytes(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::seal_with(&mut bytes, kind, |out| out.extend_from_slice(payload));
        bytes
    }

    /// Everything that a decoder says of `pieces`, up to and including an error.
    fn decode(pieces: &[&[u8]]) -> Vec<Result<(u8, Vec<u8>), FrameError>> {
        let mut decoder = Decoder::new();
        let mut said = Vec::new();
        for mut input in pieces.iter().copied() {
            loop {
                match decoder.next(&mut input, MAX) {
                    Ok(Some(frame)) => said.push(Ok((frame.kind, frame.payload.to_vec()))),
                    Ok(None) => break,
                    Err(error) => {
                        said.push(Err(error));
                        return said;
                    }
                }
            }
            assert!(input.is_empty(), "None means that the input is used up");
            assert!(decoder.buffered() < MAX as usize + OVERHEAD);
        }
        said
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same_frames(
            frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..MAX as usize)), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame_bytes(*kind, payload)).collect();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            let expected: Vec<_> = frames.into_iter().map(Ok).collect();
            prop_assert_eq!(decode(&pieces), expected);
        }

        #[test]
        fn a_flipped_bit_in_payload_or_crc_is_never_delivered(
            payload in prop::collection::vec(any::<u8>(), 0..64),
            bit in any::<prop::sample::Index>(),
        ) {
            let mut bytes = frame_bytes(1, &payload);
            let bit = HEADER_LEN * 8 + bit.index((bytes.len() - HEADER_LEN) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let refused = matches!(decode(&[&bytes])[..], [Err(FrameError::Crc { kind: 1, .. })]);
            prop_assert!(refused);
        }

        #[test]
        fn noise_is_refused_or_waited_for_but_never_a_panic(
            noise in prop::collection::vec(any::<u8>(), 0..200), magic in any::<bool>(), cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = if magic { b"TS\x01".to_vec() } else { Vec::new() };
            bytes.extend(noise);
            let (a, b) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(decode(&[&bytes]), decode(&[a, b]));
        }
    }

    #[test]
    fn a_whole_frame_is_borrowed_and_a_split_one_held_only_until_the_next_call() {
        let bytes = frame_bytes(4, b"ticks");
        let mut decoder = Decoder::new();
        let mut input = &bytes[..];
        let frame = decoder.next(&mut input, MAX).unwrap().unwrap();
        assert_eq!(frame.payload.as_ptr(), bytes[HEADER_LEN..].as_ptr());

        assert_eq!(decoder.next(&mut &bytes[..7], MAX), Ok(None));
        assert_eq!(decoder.buffered(), 7);
        assert!(decoder.next(&mut &bytes[7..], MAX).unwrap().is_some());
        decoder.release();
        assert!(decoder.partial.is_none());
    }

    #[test]
    fn a_huge_length_allocates_nothing() {
        let mut decoder = Decoder::new();
        let mut header: &[u8] = b"TS\x01\x01\xff\xff\xff\xf3";
        let refused = decoder.next(&mut header, MAX);
        assert_eq!(refused, Err(FrameError::TooLarge { length: 0xffff_fff3, max: MAX }));
        assert!(decoder.partial.is_none());
    }
}
