//! A commit group: what one write puts into a segment. Records behind a header, padded to whole blocks, never rewritten.
//! Layout: docs/journal.md, "Group".

use crate::buffer::{SECTOR, first_nonzero, padded};
use crate::record::{Record, RecordError, Sequence, crc32c, u32_at, u64_at};
use crate::segment::JournalId;

/// Bytes before a group's records.
pub const HEADER_LEN: usize = 96;

const MAGIC: [u8; 4] = *b"TSJF";

/// The header of a commit group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub journal: JournalId,
    /// Consecutive in the journal, from 1.
    pub number: u64,
    /// The last group that was on stable storage when this one was written: 0 for none.
    pub synced: u64,
    /// Sequence of the first record here, or of the next one if there is none.
    pub first_sequence: Sequence,
    /// When it was written, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// Header and records, bytes, without the padding.
    pub length: u32,
    pub records: u32,
    /// CRC32C over the records' CRCs.
    pub digest: u32,
    /// CRC of the group before, or of the segment's header if this is the first here.
    pub previous: u32,
    pub events: u64,
}

/// Place of a group. The CRC covers it, so that bytes from elsewhere are no group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// First sequence of the segment.
    pub segment: Sequence,
    /// Bytes from the start of the segment.
    pub offset: u64,
}

impl GroupHeader {
    /// Writes the header to the front of `out`, and gives its CRC.
    pub fn encode(&self, place: Place, out: &mut [u8]) -> u32 {
        let out = &mut out[..HEADER_LEN];
        out[..4].copy_from_slice(&MAGIC);
        out[8..24].copy_from_slice(&self.journal.0);
        out[24..32].copy_from_slice(&self.number.to_le_bytes());
        out[32..40].copy_from_slice(&self.synced.to_le_bytes());
        out[40..48].copy_from_slice(&self.first_sequence.to_le_bytes());
        out[48..56].copy_from_slice(&self.time_ns.to_le_bytes());
        out[56..60].copy_from_slice(&self.length.to_le_bytes());
        out[60..64].copy_from_slice(&self.records.to_le_bytes());
        out[64..68].copy_from_slice(&self.digest.to_le_bytes());
        out[68..72].copy_from_slice(&self.previous.to_le_bytes());
        out[72..80].copy_from_slice(&self.events.to_le_bytes());
        out[80..HEADER_LEN].fill(0);
        let crc = header_crc(place, out);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// The header at the front of `bytes`, and its CRC; `None` if there is no valid one that belongs here.
    pub fn decode(bytes: &[u8], place: Place) -> Option<(Self, u32)> {
        let bytes = bytes.get(..HEADER_LEN)?;
        let crc = u32_at(bytes, 4);
        let valid = bytes[..4] == MAGIC
            && bytes[80..].iter().all(|&byte| byte == 0)
            && header_crc(place, bytes) == crc;
        valid.then(|| {
            let header = Self {
                journal: JournalId(bytes[8..24].try_into().expect("sixteen bytes")),
                number: u64_at(bytes, 24),
                synced: u64_at(bytes, 32),
                first_sequence: u64_at(bytes, 40),
                time_ns: u64_at(bytes, 48),
                length: u32_at(bytes, 56),
                records: u32_at(bytes, 60),
                digest: u32_at(bytes, 64),
                previous: u32_at(bytes, 68),
                events: u64_at(bytes, 72),
            };
            (header, crc)
        })
    }

    /// The last record in it, or the one before if there is none.
    pub fn last_sequence(&self) -> Sequence {
        self.first_sequence + u64::from(self.records) - 1
    }

    /// Bytes of the group with its padding.
    pub fn padded_len(&self) -> usize {
        padded(self.length as usize)
    }
}

fn header_crc(place: Place, header: &[u8]) -> u32 {
    let mut covered = [0; 16 + HEADER_LEN - 8];
    covered[..8].copy_from_slice(&place.segment.to_le_bytes());
    covered[8..16].copy_from_slice(&place.offset.to_le_bytes());
    covered[16..].copy_from_slice(&header[8..HEADER_LEN]);
    crc32c(&covered)
}

/// CRC32C over the CRCs of records, as they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digest(Vec<u8>);

impl Digest {
    pub fn push(&mut self, record_crc: u32) {
        self.0.extend_from_slice(&record_crc.to_le_bytes());
    }

    pub fn value(&self) -> u32 {
        crc32c(&self.0)
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Why the bytes behind a valid header aren't those that it describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A record is damaged.
    #[error("record {sequence} is damaged: {source}")]
    Record {
        /// Its sequence.
        sequence: Sequence,
        /// The problem with it.
        source: RecordError,
    },
    /// The record is valid but belongs elsewhere.
    #[error("record {expected} is expected, record {found} is there")]
    Sequence {
        /// The sequence that belongs here.
        expected: Sequence,
        /// The sequence that was found.
        found: Sequence,
    },
    /// Records are valid, but they aren't those that the header describes.
    #[error("the records don't add up to what the group says of them")]
    Digest,
    /// The padding isn't zero.
    #[error("the padding of the group isn't zero at its byte {at}")]
    Padding {
        /// Bytes from the start of the group.
        at: usize,
    },
}

/// Checks a whole group with its padding: after this, every bit of it is as it was written.
pub(crate) fn check(header: &GroupHeader, group: &[u8], digest: &mut Digest) -> Result<(), BodyError> {
    digest.clear();
    let (used, padding) = group.split_at(header.length as usize);
    let mut rest = &used[HEADER_LEN..];
    let (mut sequence, mut events) = (header.first_sequence, 0);
    for _ in 0..header.records {
        let (record, crc) = Record::decode(rest).map_err(|source| BodyError::Record { sequence, source })?;
        if record.sequence != sequence {
            return Err(BodyError::Sequence { expected: sequence, found: record.sequence });
        }
        digest.push(crc);
        events += u64::from(record.events);
        sequence += 1;
        rest = &rest[record.encoded_len()..];
    }
    if !rest.is_empty() || digest.value() != header.digest || events != header.events {
        return Err(BodyError::Digest);
    }
    match first_nonzero(padding) {
        Some(at) => Err(BodyError::Padding { at: used.len() + at }),
        None => Ok(()),
    }
}

/// The records of a group that [`check`] found whole.
pub(crate) fn records(group: &[u8], count: u32) -> impl Iterator<Item = Record<'_>> {
    let mut rest = &group[HEADER_LEN..];
    (0..count).map(move |_| {
        let record = Record::parse(rest).expect("the group was checked");
        rest = &rest[record.encoded_len()..];
        record
    })
}

/// True if a power cut may have left these bytes of a group that isn't whole: a sector that should hold something
/// is as it was before, zero. If every sector was written, something else changed them.
pub(crate) fn may_be_torn(header: &GroupHeader, group: &[u8]) -> bool {
    group[..header.length as usize].chunks(SECTOR).skip(1).any(|sector| first_nonzero(sector).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::BLOCK;

    const PLACE: Place = Place { segment: 1, offset: 4096 };

    fn group(payloads: &[&[u8]]) -> (GroupHeader, Vec<u8>) {
        let mut bytes = vec![0; HEADER_LEN];
        let mut digest = Digest::default();
        for (sequence, payload) in (5..).zip(payloads) {
            let record = Record { sequence, producer: [1; 16], producer_sequence: 9, events: 2, payload };
            let start = bytes.len();
            record.encode_to(&mut bytes);
            digest.push(u32_at(&bytes, start));
        }
        let header = GroupHeader {
            journal: JournalId([3; 16]),
            number: 4,
            synced: 3,
            first_sequence: 5,
            time_ns: 6,
            length: bytes.len() as u32,
            records: payloads.len() as u32,
            digest: digest.value(),
            previous: 8,
            events: 2 * payloads.len() as u64,
        };
        header.encode(PLACE, &mut bytes);
        bytes.resize(header.padded_len(), 0);
        (header, bytes)
    }

    #[test]
    fn every_flipped_bit_of_a_group_is_found() {
        let (header, mut bytes) = group(&[b"one", b"", b"three"]);
        assert_eq!(bytes.len(), BLOCK);
        let whole = |bytes: &[u8]| match GroupHeader::decode(bytes, PLACE) {
            Some((header, _)) => check(&header, bytes, &mut Digest::default()).is_ok(),
            None => false,
        };
        assert!(whole(&bytes));
        assert_eq!(GroupHeader::decode(&bytes, PLACE).unwrap().0, header);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!whole(&bytes), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(
            records(&bytes, 3).map(|record| record.payload).collect::<Vec<_>>(),
            [&b"one"[..], b"", b"three"]
        );
    }

    #[test]
    fn a_group_from_elsewhere_is_none() {
        let (_, bytes) = group(&[b"one"]);
        assert!(GroupHeader::decode(&bytes, PLACE).is_some());
        assert!(GroupHeader::decode(&bytes, Place { offset: 8192, ..PLACE }).is_none());
        assert!(GroupHeader::decode(&bytes, Place { segment: 2, ..PLACE }).is_none());
    }

    #[test]
    fn only_missing_sectors_count_as_torn() {
        let (header, whole) = group(&[&[7; 2000]]);
        let check = |change: fn(&mut Vec<u8>), expected: bool| {
            let mut bytes = whole.clone();
            change(&mut bytes);
            assert!(super::check(&header, &bytes, &mut Digest::default()).is_err());
            assert_eq!(may_be_torn(&header, &bytes), expected);
        };
        check(|bytes| bytes[512..1024].fill(0), true);
        check(|bytes| bytes[1536..2048].fill(0), true);
        check(|bytes| bytes[600] ^= 1, false);
        check(|bytes| bytes[600..1000].fill(0), false);
        check(|bytes| bytes[4000] = 1, false);
    }
}
