//! A flush while it is made: records gather, then a header seals it.

use super::{Chain, Tail};
use crate::buffer::{BLOCK, Buffer, padded};
use crate::flush::{Digest, FlushHeader, HEADER_LEN, Place};
use crate::record::{Record, Sequence};
use crate::segment::{JournalId, Previous, SegmentHeader};

/// The buffer has one block for a segment's header, should this be the segment's first flush, and the flush behind it.
#[derive(Debug)]
pub(super) struct Draft {
    buffer: Buffer,
    place: Place,
    /// The segment that was left for a new one, if this is the first flush of a new one.
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

impl Draft {
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

    /// Writes the headers, and gives what is to be written where. The draft keeps the rest.
    pub fn seal(&mut self, id: JournalId, chain: &mut Chain, time_ns: u64, segment_bytes: u64, reach: u64) {
        let number = chain.number + 1;
        let (first_block, flush) = self.buffer.bytes_mut().split_at_mut(BLOCK);
        let mut previous = chain.crc;
        if let Some(left) = self.left {
            let header = SegmentHeader {
                journal: id,
                first_sequence: self.place.segment,
                first_flush: number,
                created_ns: time_ns,
                capacity: segment_bytes,
                reach,
                previous: (left.segment != 0).then_some(Previous {
                    first_sequence: left.segment,
                    end: left.offset,
                    crc: chain.crc,
                }),
            };
            previous = header.encode(first_block);
        }
        let header = FlushHeader {
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
        flush[self.length..end].fill(0);
        chain.crc = header.encode(self.place, flush);
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

    pub fn is_mark(&self) -> bool {
        self.records == 0
    }

    /// Bytes without padding.
    pub fn length(&self) -> usize {
        self.length
    }

    pub fn padded_len(&self) -> usize {
        padded(self.length)
    }

    /// The buffer moves into a write, and comes back by [`Draft::put_buffer`].
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
