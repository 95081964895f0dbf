//! A segment's name and its first block. Layout: docs/journal.md, "Segment".

use std::fmt;

use crate::buffer::BLOCK;
use crate::record::{Sequence, crc32c, u32_at, u64_at};

/// Version of the format that this code writes. It reads version 1, too.
pub const VERSION: u32 = 2;
/// The version before: its CRC doesn't cover the version, and its segments don't name the journal before.
const VERSION_1: u32 = 1;

const MAGIC: [u8; 8] = *b"TSJOURNL";
/// Meaningful bytes of the header: less than a sector, so that a power cut leaves all of them or none.
const USED: usize = 112;
const USED_1: usize = 96;

/// Tells journals apart: 16 random bytes, the same in all of one journal's files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalId(pub [u8; 16]);

impl fmt::Debug for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A file of a journal, by its name in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// The segment whose first record has this sequence.
    Segment(Sequence),
    /// The next segment while it is made ready. It holds no records; recovery removes it.
    Next,
    /// The last record on stable storage: [`Synced`](crate::Synced).
    Synced,
}

impl FileName {
    /// The file of a journal that is called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "next" {
            return Some(Self::Next);
        }
        if name == "synced" {
            return Some(Self::Synced);
        }
        let digits = name.strip_suffix(".journal")?;
        let canonical = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        canonical.then(|| digits.parse().ok().map(Self::Segment)).flatten()
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(first) => write!(f, "{first:020}.journal"),
            Self::Next => f.write_str("next"),
            Self::Synced => f.write_str("synced"),
        }
    }
}

/// A segment's header: facts of itself, and of the segment before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub journal: JournalId,
    pub first_sequence: Sequence,
    /// Number of the first group here.
    pub first_group: u64,
    /// When it was begun, nanoseconds since the Unix epoch.
    pub created_ns: u64,
    /// Length of the file, bytes; all of it is there before the first record is.
    pub capacity: u64,
    /// Most bytes beyond the last synced group that may have been written.
    pub reach: u64,
    pub previous: Option<Previous>,
}

/// The end of the segment before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Previous {
    /// Its journal: another one if segments behind it were removed, so that their sequences are given again.
    pub journal: JournalId,
    pub first_sequence: Sequence,
    /// End of its last group, bytes.
    pub end: u64,
    /// CRC of its last group's header.
    pub crc: u32,
}

/// The first block of a file that isn't a header of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Nothing was written there.
    Blank,
    /// Another version of the format.
    Version(u32),
    /// Something else, or a header that has changed.
    Invalid,
}

impl SegmentHeader {
    /// Writes the header to the front of `out`, a whole block, and gives its CRC.
    pub fn encode(&self, out: &mut [u8]) -> u32 {
        let out = &mut out[..BLOCK];
        out.fill(0);
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&self.journal.0);
        out[32..40].copy_from_slice(&self.first_sequence.to_le_bytes());
        out[40..48].copy_from_slice(&self.first_group.to_le_bytes());
        out[48..56].copy_from_slice(&self.created_ns.to_le_bytes());
        out[56..64].copy_from_slice(&self.capacity.to_le_bytes());
        out[64..72].copy_from_slice(&self.reach.to_le_bytes());
        if let Some(previous) = self.previous {
            out[72..80].copy_from_slice(&previous.first_sequence.to_le_bytes());
            out[80..88].copy_from_slice(&previous.end.to_le_bytes());
            out[88..92].copy_from_slice(&previous.crc.to_le_bytes());
            out[96..USED].copy_from_slice(&previous.journal.0);
        }
        let crc = header_crc(out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// The header in `block`, and its CRC.
    pub fn decode(block: &[u8]) -> Result<(Self, u32), HeaderError> {
        let block = &block[..BLOCK];
        if crate::buffer::first_nonzero(block).is_none() {
            return Err(HeaderError::Blank);
        }
        if block[..8] != MAGIC {
            return Err(HeaderError::Invalid);
        }
        let (crc, version) = (u32_at(block, 12), u32_at(block, 8));
        let is_blank_from = |at: usize| crate::buffer::first_nonzero(&block[at..]).is_none();
        let is_whole_1 = crc32c(&block[16..]) == crc && is_blank_from(USED_1);
        let is_whole = header_crc(block) == crc && is_blank_from(USED);
        match version {
            VERSION if is_whole => {}
            VERSION_1 if is_whole_1 => {}
            // Version 1 doesn't cover the field by its CRC: a header whose version alone has changed is damaged.
            VERSION | VERSION_1 => return Err(HeaderError::Invalid),
            _ if is_whole_1 || is_whole_but_for_version(block, crc) => return Err(HeaderError::Invalid),
            version => return Err(HeaderError::Version(version)),
        }
        let journal = JournalId(block[16..32].try_into().expect("sixteen bytes"));
        let before = JournalId(block[96..USED].try_into().expect("sixteen bytes"));
        let previous = Previous {
            journal: if version == VERSION_1 { journal } else { before },
            first_sequence: u64_at(block, 72),
            end: u64_at(block, 80),
            crc: u32_at(block, 88),
        };
        let header = Self {
            journal,
            first_sequence: u64_at(block, 32),
            first_group: u64_at(block, 40),
            created_ns: u64_at(block, 48),
            capacity: u64_at(block, 56),
            reach: u64_at(block, 64),
            previous: (previous.first_sequence != 0).then_some(previous),
        };
        Ok((header, crc))
    }
}

/// CRC of the version and of all behind the CRC.
fn header_crc(block: &[u8]) -> u32 {
    let mut covered = [0; 4 + BLOCK - 16];
    covered[..4].copy_from_slice(&block[8..12]);
    covered[4..].copy_from_slice(&block[16..BLOCK]);
    crc32c(&covered)
}

/// True for a header of this version, apart from the field that says so.
fn is_whole_but_for_version(block: &[u8], crc: u32) -> bool {
    let mut block = block.to_vec();
    block[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header_crc(&block) == crc
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader {
        journal: JournalId([9; 16]),
        first_sequence: 17,
        first_group: 4,
        created_ns: 5,
        capacity: 1 << 20,
        reach: 8192,
        previous: Some(Previous { journal: JournalId([8; 16]), first_sequence: 1, end: 40960, crc: 77 }),
    };

    #[test]
    fn every_flipped_bit_of_a_header_is_found() {
        let mut block = vec![0; BLOCK];
        assert_eq!(SegmentHeader::decode(&block), Err(HeaderError::Blank));
        let crc = HEADER.encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Ok((HEADER, crc)));
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&block), Err(HeaderError::Invalid), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    /// Makes a header of version 1 of one that names no other journal before it.
    fn as_version_1(block: &mut [u8]) {
        block[8..12].copy_from_slice(&VERSION_1.to_le_bytes());
        block[USED_1..USED].fill(0);
        let crc = crc32c(&block[16..]);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn version_1_is_read_and_a_later_one_is_named() {
        let mut block = vec![0; BLOCK];
        HEADER.encode(&mut block);
        as_version_1(&mut block);
        let (header, _) = SegmentHeader::decode(&block).unwrap();
        let previous = Previous { journal: HEADER.journal, ..HEADER.previous.unwrap() };
        assert_eq!(header, SegmentHeader { previous: Some(previous), ..HEADER });
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&block), Err(HeaderError::Invalid), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        HEADER.encode(&mut block);
        block[8] = 3;
        let crc = header_crc(&block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), Err(HeaderError::Version(3)));
    }

    #[test]
    fn names_sort_like_sequences_and_read_back() {
        let check = |name: &str, expected| assert_eq!(FileName::parse(name), expected, "{name}");
        check("00000000000000000001.journal", Some(FileName::Segment(1)));
        check("18446744073709551615.journal", Some(FileName::Segment(u64::MAX)));
        check("18446744073709551616.journal", None);
        check("1.journal", None);
        check("+0000000000000000001.journal", None);
        check("next", Some(FileName::Next));
        check("synced", Some(FileName::Synced));
        check("lock", None);
        assert_eq!(FileName::Segment(42).to_string(), "00000000000000000042.journal");
    }
}
