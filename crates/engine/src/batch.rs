//! Frames that many connections share, and the sealing of ticks into one.

use std::num::NonZeroU64;
use std::rc::Rc;

use tickstream_schema::events::PublishAck;
use tickstream_wire::frame::{self, OVERHEAD};
use tickstream_wire::messages::{DataBatch, Message, Mode, Payload, SCHEMA_VERSION, Tick};

use crate::clock::ActiveTime;
use crate::ids::Sequence;
use crate::schedule::Rate;

/// The bytes of a whole frame, encoded once; a clone shares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedFrame(Rc<[u8]>);

impl SealedFrame {
    pub(crate) fn new<M: Payload>(message: &M) -> Self {
        Self(frame::seal(message).into())
    }

    /// The frame of an answer to a PUBLISH.
    pub(crate) fn publish_ack(ack: &PublishAck) -> Self {
        Self(frame::seal_as(frame::FrameType::PublishAck, ack).into())
    }

    pub(crate) fn heartbeat() -> Self {
        Self(frame::heartbeat().into())
    }

    /// The frame's bytes, shared.
    pub fn into_shared(self) -> Rc<[u8]> {
        self.0
    }

    /// The frame's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its length, bytes.
    pub(crate) fn len(&self) -> u32 {
        self.0.len() as u32 // below Limits::payload_bytes + OVERHEAD
    }
}

/// Consecutive ticks of one stream in a sealed frame.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Sequence of the first tick.
    pub first: Sequence,
    /// Sequence after the last tick.
    pub end: Sequence,
    /// The DATA_BATCH.
    pub frame: SealedFrame,
    /// Time at which it was sealed: the age of its bytes counts from here.
    pub published: ActiveTime,
    /// Time at which its first tick was due, on the clock of [`Now::mono_ns`](crate::Now::mono_ns).
    pub due_ns: NonZeroU64,
}

/// Contents of a DATA_BATCH, to be counted when it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    pub mode: Mode,
    pub ticks: u32,
    /// Time at which its first tick was due, as [`Batch::due_ns`]; `None` for a replay, which says nothing about how late the
    /// shard is.
    pub due_ns: Option<NonZeroU64>,
}

/// Most bytes that one tick takes in a DataBatch: tag and length of the tick, mode, and label as a varint.
pub(crate) const TICK_BYTES_MAX: usize = 2 + 2 + 1 + 10;
/// Bytes of schema_version and first_sequence, and some to spare.
const BATCH_BYTES: usize = 32;

/// Seals the ticks of one stream.
#[derive(Debug)]
pub(crate) struct Sealer {
    mode: Mode,
    rate: Rate,
    ticks_max: u64,
    message: DataBatch,
    buffer: Vec<u8>,
}

impl Sealer {
    /// A sealer whose payloads stay within `payload_bytes`.
    pub fn new(mode: Mode, rate: Rate, payload_bytes: u32) -> Self {
        let ticks_max = (payload_bytes as usize - BATCH_BYTES) / TICK_BYTES_MAX;
        let message = DataBatch { schema_version: SCHEMA_VERSION, ..DataBatch::default() };
        Self { mode, rate, ticks_max: ticks_max as u64, message, buffer: Vec::new() }
    }

    /// Ticks that one frame holds.
    pub fn ticks_max(&self) -> u64 {
        self.ticks_max
    }

    /// The ticks `first..end`, at most [`Sealer::ticks_max`], for subscribers of this phase.
    pub fn seal(&mut self, first: Sequence, end: Sequence, phase_ms: u32) -> SealedFrame {
        debug_assert!(first < end && end - first <= self.ticks_max);
        let (mode, rate) = (self.mode.into(), self.rate);
        self.message.first_sequence = first.0;
        self.message.ticks.clear();
        self.message.ticks.extend((first.0..end.0).map(|sequence| Tick {
            mode,
            epoch_ms: rate.epoch_ms(Sequence(sequence)) + u64::from(phase_ms),
        }));
        self.buffer.clear();
        self.buffer.reserve(OVERHEAD + self.message.encoded_len());
        let message = &self.message;
        frame::seal_with(&mut self.buffer, DataBatch::TYPE as u8, |payload| {
            message.encode(payload).expect("a Vec grows as long as there is memory");
        });
        SealedFrame(self.buffer.as_slice().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    #[test]
    fn the_fullest_batch_stays_within_the_limit() {
        for mode in [Mode::Second, Mode::Minute] {
            let rate = Rate::new(mode, 10_000_000).unwrap();
            let mut sealer = Sealer::new(mode, rate, Limits::PAYLOAD_BYTES_MIN);
            let first = rate.sequence_at(crate::schedule::FAR_FUTURE_NS);
            let frame = sealer.seal(first, first + sealer.ticks_max(), 59_999);
            assert!(frame.as_bytes().len() <= Limits::PAYLOAD_BYTES_MIN as usize + OVERHEAD);
        }
    }

    #[test]
    fn labels_carry_the_phase() {
        let rate = Rate::new(Mode::Second, 2).unwrap();
        let frame = Sealer::new(Mode::Second, rate, 65_536).seal(Sequence(3_000), Sequence(3_003), 7);
        let payload = &frame.as_bytes()[frame::HEADER_LEN..frame.as_bytes().len() - frame::TRAILER_LEN];
        let batch = DataBatch::decode(payload).unwrap();
        let labels: Vec<_> = batch.ticks.iter().map(|tick| tick.epoch_ms).collect();
        assert_eq!((batch.schema_version, batch.first_sequence), (1, 3_000));
        assert_eq!(labels, [1_500_007, 1_500_507, 1_501_007]);
    }
}
