//! DATA_BATCH by hand: the same few bytes arrive on thousands of connections, so they are decoded once, into
//! memory that stays.

use tickstream_wire::messages::{DataBatch, Message, Mode, SCHEMA_VERSION};

use crate::schedule::Schedule;

/// A payload that is no DATA_BATCH which a client may accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// No protobuf message of that type.
    #[error("a DATA_BATCH that can't be decoded")]
    Malformed,
    /// A schema version that isn't known.
    #[error("a DATA_BATCH of schema version {0}")]
    Schema(u32),
    /// A batch must have a tick.
    #[error("a DATA_BATCH without ticks")]
    Empty,
}

/// The batch that was read last, checked as far as it can be without knowing the connection.
#[derive(Debug)]
pub struct Batch {
    payload: Vec<u8>,
    first_sequence: u64,
    labels_ms: Vec<u64>,
    /// When each tick was due by its sequence and the batch's phase, µs; empty without a phase.
    due_us: Vec<u64>,
    phase_ms: Option<u32>,
}

impl Batch {
    /// Sequence of the first tick.
    pub fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    /// Number of ticks, at least one.
    pub fn len(&self) -> usize {
        self.labels_ms.len()
    }

    /// `epoch_ms` of each tick.
    pub fn labels_ms(&self) -> &[u64] {
        &self.labels_ms
    }

    /// When each tick was due, µs; empty if the labels don't fit the sequences.
    pub fn due_us(&self) -> &[u64] {
        &self.due_us
    }

    /// Distance of all labels above the due time of their sequence, if that is the same for all, not below 0 and
    /// below the interval, and if all ticks are of the right stream.
    pub fn phase_ms(&self) -> Option<u32> {
        self.phase_ms
    }
}

/// Reads batches of one stream, and remembers the last.
#[derive(Debug)]
pub struct BatchReader {
    schedule: Schedule,
    batch: Batch,
}

impl BatchReader {
    /// A reader for the ticks of `schedule`.
    pub fn new(schedule: Schedule) -> Self {
        let batch = Batch {
            payload: Vec::new(),
            first_sequence: 0,
            labels_ms: Vec::new(),
            due_us: Vec::new(),
            phase_ms: None,
        };
        Self { schedule, batch }
    }

    /// The batch that was read last.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// `payload` is the one that was read last.
    pub fn holds(&self, payload: &[u8]) -> bool {
        !payload.is_empty() && self.batch.payload == payload
    }

    /// Decodes `payload` and makes it the last one.
    ///
    /// # Errors
    /// See [`BatchError`]; there is no last batch then.
    pub fn read(&mut self, payload: &[u8]) -> Result<(), BatchError> {
        let batch = &mut self.batch;
        batch.payload.clear();
        batch.labels_ms.clear();
        batch.due_us.clear();
        batch.phase_ms = None;
        let mode = self.schedule.mode();
        let raw = match decode(payload, mode, &mut batch.labels_ms) {
            Some(raw) => raw,
            None => decode_slowly(payload, mode, &mut batch.labels_ms)?,
        };
        if raw.schema_version != SCHEMA_VERSION {
            return Err(BatchError::Schema(raw.schema_version));
        }
        let &first_label = batch.labels_ms.first().ok_or(BatchError::Empty)?;
        batch.payload.extend_from_slice(payload);
        batch.first_sequence = raw.first_sequence;

        let schedule = self.schedule;
        let phase = first_label
            .checked_sub(schedule.label_ms(raw.first_sequence))
            .filter(|&phase| raw.one_mode && phase < schedule.interval_ms());
        let Some(phase) = phase else { return Ok(()) };
        let sequence = |at: usize| raw.first_sequence.saturating_add(at as u64);
        let label = |at| schedule.label_ms(sequence(at)).saturating_add(phase);
        let fits = batch.labels_ms.iter().enumerate().all(|(at, &found)| found == label(at));
        if fits {
            let phase = u32::try_from(phase).expect("an interval is at most a minute");
            batch.phase_ms = Some(phase);
            let ticks = 0..batch.labels_ms.len();
            batch.due_us.extend(ticks.map(|at| schedule.due_us(sequence(at), phase)));
        }
        Ok(())
    }
}

struct Raw {
    schema_version: u32,
    first_sequence: u64,
    /// All ticks are of the stream that was asked for.
    one_mode: bool,
}

/// The encoding that servers write; `None` for anything unusual, which may still be valid protobuf.
fn decode(mut input: &[u8], mode: Mode, labels_ms: &mut Vec<u64>) -> Option<Raw> {
    let mut raw = Raw { schema_version: 0, first_sequence: 0, one_mode: true };
    while let Some((&tag, rest)) = input.split_first() {
        input = rest;
        match tag {
            0x08 => raw.schema_version = u32::try_from(varint(&mut input)?).ok()?,
            0x12 => {
                let len = usize::try_from(varint(&mut input)?).ok()?;
                let (tick, rest) = input.split_at_checked(len)?;
                input = rest;
                let (tick_mode, label) = decode_tick(tick)?;
                raw.one_mode &= tick_mode == mode as u64;
                labels_ms.push(label);
            }
            0x18 => raw.first_sequence = varint(&mut input)?,
            _ => return None,
        }
    }
    Some(raw)
}

fn decode_tick(mut input: &[u8]) -> Option<(u64, u64)> {
    let (mut mode, mut epoch_ms) = (0, 0);
    while let Some((&tag, rest)) = input.split_first() {
        input = rest;
        match tag {
            0x08 => mode = varint(&mut input)?,
            0x10 => epoch_ms = varint(&mut input)?,
            _ => return None,
        }
    }
    Some((mode, epoch_ms))
}

fn varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, &byte) in input.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7F) << (7 * at);
        if byte < 0x80 {
            *input = &input[at + 1..];
            return Some(value);
        }
    }
    None
}

fn decode_slowly(payload: &[u8], mode: Mode, labels_ms: &mut Vec<u64>) -> Result<Raw, BatchError> {
    let message = DataBatch::decode(payload).map_err(|_| BatchError::Malformed)?;
    labels_ms.clear();
    labels_ms.extend(message.ticks.iter().map(|tick| tick.epoch_ms));
    Ok(Raw {
        schema_version: message.schema_version,
        first_sequence: message.first_sequence,
        one_mode: message.ticks.iter().all(|tick| tick.mode == mode as i32),
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;
    use tickstream_wire::messages::Tick;

    use super::*;

    fn reader(mode: Mode, rate: u32) -> BatchReader {
        BatchReader::new(Schedule::new(mode, NonZeroU32::new(rate).unwrap()))
    }

    fn payload(mode: Mode, first_sequence: u64, labels_ms: &[u64]) -> Vec<u8> {
        let ticks = labels_ms.iter().map(|&epoch_ms| Tick { mode: mode as i32, epoch_ms }).collect();
        DataBatch { schema_version: 1, ticks, first_sequence }.encode_to_vec()
    }

    #[test]
    fn the_phase_is_what_all_labels_have_in_common() {
        let check = |rate, first, labels: &[u64], phase| {
            let mut reader = reader(Mode::Second, rate);
            reader.read(&payload(Mode::Second, first, labels)).unwrap();
            assert_eq!(reader.batch().phase_ms(), phase, "{rate} {first} {labels:?}");
            assert_eq!(reader.batch().due_us().len(), if phase.is_some() { labels.len() } else { 0 });
        };
        check(1, 5, &[5_000], Some(0));
        check(1, 5, &[5_999], Some(999));
        check(1, 5, &[6_000], None);
        check(1, 5, &[4_999], None);
        check(1, 5, &[5_007, 6_007], Some(7));
        check(1, 5, &[5_007, 6_008], None);
        check(3, 4, &[1_333, 1_666, 2_000], Some(0));
        check(10_000, 70_001, &[7_000, 7_000, 7_000], Some(0));
        check(1, u64::MAX, &[3], None);
    }

    #[test]
    fn a_tick_of_another_stream_has_the_wrong_label() {
        let mut reader = reader(Mode::Second, 1);
        reader.read(&payload(Mode::Minute, 5, &[5_000])).unwrap();
        assert_eq!(reader.batch().phase_ms(), None);
    }

    #[test]
    fn unknown_fields_are_ignored_and_broken_bytes_refused() {
        let mut reader = reader(Mode::Second, 1);
        let mut bytes = payload(Mode::Second, 5, &[5_000]);
        bytes.extend([0x7A, 2, 1, 1]); // field 15, two bytes
        reader.read(&bytes).unwrap();
        assert_eq!(reader.batch().phase_ms(), Some(0));
        assert!(reader.holds(&bytes));
        assert_eq!(reader.read(&[0x12, 0x7F]), Err(BatchError::Malformed));
        assert!(!reader.holds(&bytes));
        assert_eq!(reader.read(&[]), Err(BatchError::Schema(0)));
        assert_eq!(reader.read(&[8, 1]), Err(BatchError::Empty));
        assert_eq!(reader.read(&[8, 2]), Err(BatchError::Schema(2)));
    }

    proptest! {
        #[test]
        fn reads_what_prost_reads(
            first_sequence: u64, labels in prop::collection::vec(any::<u64>(), 1..20), minute: bool,
        ) {
            let mode = if minute { Mode::Minute } else { Mode::Second };
            let mut reader = reader(mode, 7);
            let bytes = payload(mode, first_sequence, &labels);
            prop_assert_eq!(reader.read(&bytes), Ok(()));
            prop_assert_eq!(reader.batch().first_sequence(), first_sequence);
            prop_assert_eq!(reader.batch().labels_ms(), labels);
        }

        #[test]
        fn noise_is_judged_as_prost_judges_it(noise in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = reader(Mode::Second, 1);
            let expected = DataBatch::decode(&noise[..]);
            match reader.read(&noise) {
                Ok(()) => prop_assert_eq!(reader.batch().len(), expected.unwrap().ticks.len()),
                Err(BatchError::Malformed) => prop_assert!(expected.is_err()),
                Err(BatchError::Schema(version)) => prop_assert_eq!(version, expected.unwrap().schema_version),
                Err(BatchError::Empty) => prop_assert!(expected.unwrap().ticks.is_empty()),
            }
        }
    }
}
