//! The open group: records gather in it, then a header seals it.

use super::{Chain, InFlight, Journal, Tail};
use crate::buffer::{BLOCK, Buffer, padded};
use crate::clock::nanos;
use crate::error::AppendError;
use crate::group::{Digest, GroupHeader, HEADER_LEN, Place};
use crate::record::{Record, Sequence};
use crate::segment::{JournalId, Previous, SegmentHeader};

/// The buffer has one block for a segment's header, should this be the segment's first group, and the group behind it.
#[derive(Debug)]
pub(super) struct OpenGroup {
    buffer: Buffer,
    place: Place,
    /// The segment that was left for a new one, if this is the first group of a new one.
    left: Option<Tail>,
    first_sequence: Sequence,
    /// Bytes so far, header included.
    length: usize,
    /// The most that fits, bytes: the disk has room for it.
    capacity: usize,
    records: u32,
    events: u64,
    digest: Digest,
}

impl OpenGroup {
    pub fn new(
        buffer: Buffer,
        place: Place,
        left: Option<Tail>,
        first_sequence: Sequence,
        capacity: usize,
    ) -> Self {
        let digest = Digest::default();
        Self {
            buffer,
            place,
            left,
            first_sequence,
            length: HEADER_LEN,
            capacity,
            records: 0,
            events: 0,
            digest,
        }
    }

    pub fn fits(&self, bytes: usize) -> bool {
        self.length + bytes <= self.capacity
    }

    pub fn push(&mut self, record: &Record<'_>) {
        let start = BLOCK + self.length;
        self.digest.push(record.encode(&mut self.buffer.bytes_mut()[start..]));
        self.length += record.encoded_len();
        self.records += 1;
        self.events += u64::from(record.events);
    }

    /// Writes the headers, and gives what is to be written where. The group keeps the rest.
    pub fn seal(&mut self, id: JournalId, chain: &mut Chain, time_ns: u64, segment_bytes: u64, reach: u64) {
        let number = chain.number + 1;
        let (first_block, group) = self.buffer.bytes_mut().split_at_mut(BLOCK);
        let mut previous = chain.crc;
        if let Some(left) = self.left {
            let header = SegmentHeader {
                journal: id,
                first_sequence: self.place.segment,
                first_group: number,
                created_ns: time_ns,
                capacity: segment_bytes,
                reach,
                previous: (left.segment != 0).then_some(Previous {
                    journal: left.journal,
                    first_sequence: left.segment,
                    end: left.offset,
                    crc: chain.crc,
                }),
            };
            previous = header.encode(first_block);
        }
        let header = GroupHeader {
            journal: id,
            number,
            synced: chain.synced,
            first_sequence: self.first_sequence,
            time_ns,
            length: self.length as u32,
            records: self.records,
            digest: self.digest.value(),
            previous,
            events: self.events,
        };
        let end = padded(self.length);
        group[self.length..end].fill(0);
        chain.crc = header.encode(self.place, group);
        chain.number = number;
        let start = if self.left.is_some() { 0 } else { BLOCK };
        self.buffer.set_to_write(start..BLOCK + end);
    }

    pub fn place(&self) -> Place {
        self.place
    }

    pub fn left(&self) -> Option<Tail> {
        self.left
    }

    /// The last record in it, or the one before if there is none.
    pub fn last_sequence(&self) -> Sequence {
        self.first_sequence + u64::from(self.records) - 1
    }

    pub fn is_marker(&self) -> bool {
        self.records == 0
    }

    /// Bytes without padding.
    pub fn length(&self) -> usize {
        self.length
    }

    pub fn padded_len(&self) -> usize {
        padded(self.length)
    }

    /// The buffer moves into a write, and comes back by [`OpenGroup::put_buffer`].
    pub fn take_buffer(&mut self) -> Buffer {
        std::mem::replace(&mut self.buffer, Buffer::absent())
    }

    pub fn put_buffer(&mut self, buffer: Buffer) {
        self.buffer = buffer;
    }

    pub fn into_buffer(self) -> Buffer {
        self.buffer
    }
}

impl Journal {
    /// Opens a group with room for a record of `bytes`, in this segment or, if that is full, in the next.
    pub(super) fn open_group(&mut self, bytes: usize) -> Result<(), AppendError> {
        self.close_group();
        if self.in_flight.as_ref().and_then(InFlight::retry_at).is_some() {
            return Err(AppendError::Full);
        }
        let needed = padded(HEADER_LEN + bytes) as u64;
        let must_go = needed > self.tail.room();
        let in_next =
            must_go || (self.segment_is_older_than(self.segment_age_ns) && self.preparation.is_ready());
        if must_go && !self.preparation.is_ready() {
            let is_full = self.full_since_ns.is_some() || self.held_since_ns.is_some();
            return Err(if is_full { AppendError::Full } else { AppendError::Busy });
        }
        let buffer = self.pool.take().ok_or(AppendError::Busy)?;
        let first_sequence = self.progress.appended() + 1;
        let mut left = None;
        if in_next {
            self.preparation.promise();
            left = Some(self.tail);
            self.tail = Tail {
                journal: self.id,
                segment: first_sequence,
                offset: BLOCK as u64,
                is_retired: false,
                capacity: self.config.segment_bytes,
                reach: self.config.group_bytes as u64,
            };
        }
        let place = Place { segment: self.tail.segment, offset: self.tail.offset };
        let capacity = self.tail.room().min(self.config.group_bytes as u64) as usize;
        self.open = Some(OpenGroup::new(buffer, place, left, first_sequence, capacity));
        Ok(())
    }

    /// Takes the open group out of reach of appends: its length, and so the place of the next, is known now.
    pub(super) fn close_group(&mut self) {
        if let Some(open) = self.open.take() {
            self.tail.offset += open.padded_len() as u64;
            self.full.push_back(open);
        }
    }

    /// True if a marker is to be written: the last group carried records, and nothing has followed it for a while.
    pub(super) fn marker_is_due(&self) -> bool {
        let due = self.unmarked_since.is_some_and(|since| {
            self.ending || since.saturating_add(nanos(self.config.marker_after)) <= self.now.mono_ns
        });
        due && self.tail.room() >= BLOCK as u64 && self.failure.is_none()
    }

    /// Opens a commit marker, a group without records, whose header says that all before it is on stable storage.
    pub(super) fn open_marker(&mut self) {
        if let Some(buffer) = self.pool.take() {
            let place = Place { segment: self.tail.segment, offset: self.tail.offset };
            self.open = Some(OpenGroup::new(buffer, place, None, self.progress.appended() + 1, BLOCK));
        }
        self.unmarked_since = None;
    }
}
