//! One record: what was appended, with the sequence that it got. Layout: docs/journal.md, "Record".
//!
//! The codec knows nothing of segments and groups, so that other files can hold records, too.

/// Bytes before a record's payload.
pub const HEADER_LEN: usize = 48;

/// Number of a record in its journal: the first is 1, the next one more. 0 stands for "none yet".
pub type Sequence = u64;

/// Producer of a record; the journal doesn't interpret it.
pub type ProducerId = [u8; 16];

/// A record, whose payload is somewhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the journal.
    pub sequence: Sequence,
    /// Its producer.
    pub producer: ProducerId,
    /// The producer's own number for it.
    pub producer_sequence: u64,
    /// Events that the payload holds.
    pub events: u32,
    /// The bytes that were appended.
    pub payload: &'a [u8],
}

/// Bytes that are no valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The record goes on beyond the bytes.
    #[error("a record of {needed} bytes is cut off after {found}")]
    Incomplete {
        /// Bytes of the record, as far as known.
        needed: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// The record or its CRC was damaged.
    #[error("CRC32C of a record is 0x{computed:08x}, the record says 0x{found:08x}")]
    Crc {
        /// CRC32C of what is there.
        computed: u32,
        /// CRC32C that the record carries.
        found: u32,
    },
    /// Its CRC is right, but it has flags of a later version.
    #[error("a record has the flags 0x{flags:08x}, which this version doesn't know")]
    Flags {
        /// The flags.
        flags: u32,
    },
}

/// Bytes of a record with a payload of `payload` bytes.
pub const fn encoded_len(payload: usize) -> usize {
    HEADER_LEN + payload
}

impl<'a> Record<'a> {
    /// Writes the record to the front of `out`, and gives its CRC.
    ///
    /// # Panics
    /// If `out` is shorter than [`encoded_len`], or the payload is longer than `u32::MAX`.
    pub fn encode(&self, out: &mut [u8]) -> u32 {
        let out = &mut out[..encoded_len(self.payload.len())];
        let length = u32::try_from(self.payload.len()).expect("a payload is below 4 GiB");
        out[4..8].copy_from_slice(&length.to_le_bytes());
        out[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        out[16..32].copy_from_slice(&self.producer);
        out[32..40].copy_from_slice(&self.producer_sequence.to_le_bytes());
        out[40..44].copy_from_slice(&self.events.to_le_bytes());
        out[44..48].fill(0);
        out[HEADER_LEN..].copy_from_slice(self.payload);
        let crc = crc32c(&out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Appends the record to `out`.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + encoded_len(self.payload.len()), 0);
        self.encode(&mut out[start..]);
    }

    /// The record at the front of `bytes`, and its CRC. [`Record::encoded_len`] says where the next one starts.
    pub fn decode(bytes: &'a [u8]) -> Result<(Self, u32), RecordError> {
        let record = Self::parse(bytes)?;
        let whole = &bytes[..record.encoded_len()];
        let (computed, found) = (crc32c(&whole[4..]), u32_at(whole, 0));
        if computed != found {
            return Err(RecordError::Crc { computed, found });
        }
        match u32_at(whole, 44) {
            0 => Ok((record, found)),
            flags => Err(RecordError::Flags { flags }),
        }
    }

    /// Like [`Record::decode`], of bytes that were checked before.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let found = bytes.len();
        if found < HEADER_LEN {
            return Err(RecordError::Incomplete { needed: HEADER_LEN, found });
        }
        let needed = encoded_len(u32_at(bytes, 4) as usize);
        let payload = bytes.get(HEADER_LEN..needed).ok_or(RecordError::Incomplete { needed, found })?;
        Ok(Self {
            sequence: u64_at(bytes, 8),
            producer: bytes[16..32].try_into().expect("sixteen bytes"),
            producer_sequence: u64_at(bytes, 32),
            events: u32_at(bytes, 40),
            payload,
        })
    }

    /// Bytes that the record takes.
    pub fn encoded_len(&self) -> usize {
        encoded_len(self.payload.len())
    }
}

/// CRC32C (Castagnoli, RFC 3720 appendix B.4).
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Record<'_> =
        Record { sequence: 7, producer: [0xAB; 16], producer_sequence: 3, events: 2, payload: b"hello" };

    #[test]
    fn crc32c_is_castagnoli() {
        // RFC 3720, appendix B.4
        assert_eq!(crc32c(&[0x00; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let mut bytes = Vec::new();
        RECORD.encode_to(&mut bytes);
        Record { sequence: 8, payload: b"", ..RECORD }.encode_to(&mut bytes);
        let (first, crc) = Record::decode(&bytes).unwrap();
        assert_eq!(first, RECORD);
        assert_eq!(crc, u32_at(&bytes, 0));
        let (second, _) = Record::decode(&bytes[first.encoded_len()..]).unwrap();
        assert_eq!((second.sequence, second.payload.len(), second.encoded_len()), (8, 0, HEADER_LEN));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let mut bytes = Vec::new();
        RECORD.encode_to(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(matches!(Record::decode(&bytes[..cut]), Err(RecordError::Incomplete { .. })), "{cut}");
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
