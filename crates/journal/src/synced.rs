//! The file `synced`: the last record on stable storage, for readers and for recovery. Layout: docs/journal.md,
//! "Synced".
//!
//! A writer changes [`Synced::word`] in place after each commit group, in the page cache, and makes the file durable
//! only when a segment begins. So what a power cut leaves is true, though it may be old.

use crate::buffer::{BLOCK, first_nonzero};
use crate::directory::Directory;
use crate::error::{Damage, Error, Fault};
use crate::record::{Sequence, crc32c, u32_at, u64_at};
use crate::segment::{FileName, JournalId};

/// Version of this file's format.
const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"TSSYNCED";
/// Bytes of the part that changes only with the journal's id.
const HEADER_LEN: usize = 32;
/// Reads of a file that seems to be invalid: it may have been written just then.
const READS: usize = 4;

/// All records of a directory up to `sequence` are on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The journal that the directory's next record belongs to.
    pub journal: JournalId,
    /// The last record on stable storage.
    pub sequence: Sequence,
}

/// Content of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// No file, or one that a power cut left short or empty when it was made. Journals of version 1 have none.
    Absent,
    Valid(Synced),
    /// Sequence and check don't fit each other: a power cut may leave that of a change that was on its way. What each of
    /// them says was on stable storage.
    Torn {
        journal: JournalId,
        lower: Sequence,
        higher: Sequence,
    },
    /// Something has changed it.
    Invalid,
}

impl Synced {
    /// Length of the file, bytes: one block.
    pub const FILE_LEN: usize = BLOCK;
    /// Offset of [`Synced::word`] in the file, bytes. It is aligned, and in the first sector.
    pub const WORD_AT: usize = 64;

    /// The part that changes with each commit group: the sequence, and a check of it, so that a reader that sees only
    /// one of the two change knows it. A sequence and a journal have one check each: any bit that changes is found.
    pub fn word(&self) -> [u64; 2] {
        [self.sequence, !self.sequence ^ u64_at(&self.journal.0, 0) ^ u64_at(&self.journal.0, 8)]
    }

    /// [`Synced::word`] as it is in the file.
    pub fn word_bytes(&self) -> [u8; 16] {
        let [sequence, check] = self.word();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&sequence.to_le_bytes());
        bytes[8..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// The whole file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut file = vec![0; Self::FILE_LEN];
        file[..8].copy_from_slice(&MAGIC);
        file[8..12].copy_from_slice(&VERSION.to_le_bytes());
        file[16..HEADER_LEN].copy_from_slice(&self.journal.0);
        let crc = header_crc(&file);
        file[12..16].copy_from_slice(&crc.to_le_bytes());
        file[Self::WORD_AT..Self::WORD_AT + 16].copy_from_slice(&self.word_bytes());
        file
    }
}

fn header_crc(file: &[u8]) -> u32 {
    let mut covered = [0; 28];
    covered[..12].copy_from_slice(&file[..12]);
    covered[12..].copy_from_slice(&file[16..HEADER_LEN]);
    crc32c(&covered)
}

impl Content {
    /// Decodes the file; `Err` with the version if another one wrote it.
    fn decode(file: &[u8]) -> Result<Self, u32> {
        if file.len() < Synced::FILE_LEN || first_nonzero(file).is_none() {
            return Ok(Self::Absent);
        }
        if file[..8] != MAGIC || u32_at(file, 12) != header_crc(file) {
            return Ok(Self::Invalid);
        }
        match u32_at(file, 8) {
            VERSION => {}
            other => return Err(other),
        }
        let journal = JournalId(file[16..HEADER_LEN].try_into().expect("sixteen bytes"));
        let word = Synced::WORD_AT;
        let sequence = u64_at(file, word);
        let synced = Synced { journal, sequence };
        let rest = [&file[HEADER_LEN..word], &file[word + 16..]];
        if rest.iter().any(|rest| first_nonzero(rest).is_some()) {
            return Ok(Self::Invalid);
        }
        let checked = sequence ^ synced.word()[1] ^ u64_at(file, word + 8);
        Ok(if checked == sequence {
            Self::Valid(synced)
        } else {
            Self::Torn { journal, lower: sequence.min(checked), higher: sequence.max(checked) }
        })
    }

    /// Reads the file, again if it seems to be torn or invalid.
    pub fn read(directory: &mut impl Directory) -> Result<Self, Error> {
        let name = FileName::Synced;
        let mut file = [0; Synced::FILE_LEN];
        let mut content = Self::Absent;
        for _ in 0..READS {
            let length = match directory.read_at(name, 0, &mut file) {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::Absent),
                Err(error) => return Err(Error::io("reading", Some(name))(error)),
            };
            content = Self::decode(&file[..length]).map_err(|found| Error::Version { file: name, found })?;
            if matches!(content, Self::Absent | Self::Valid(_)) {
                break;
            }
        }
        Ok(content)
    }

    /// The last record that is known to be on stable storage: 0 if nothing is known.
    pub fn sequence(&self) -> Sequence {
        match self {
            Self::Valid(synced) => synced.sequence,
            Self::Torn { lower, .. } => *lower,
            Self::Absent | Self::Invalid => 0,
        }
    }

    /// Checks the file against what a journal holds, of which the newest segment is of `journal` and the last record
    /// is `last`.
    pub fn check(&self, journal: JournalId, last: Sequence) -> Result<(), Damage> {
        let damage = |what| Err(Damage { file: FileName::Synced, offset: 0, what });
        match *self {
            Self::Torn { .. } | Self::Invalid => damage(Fault::SyncedFile),
            Self::Valid(synced) if synced.journal == journal && synced.sequence > last => {
                damage(Fault::Gone { synced: synced.sequence, last })
            }
            Self::Valid(_) | Self::Absent => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNCED: Synced = Synced { journal: JournalId([5; 16]), sequence: 0x0102_0304_0506 };

    #[test]
    fn every_flipped_bit_of_the_file_is_found() {
        let mut file = SYNCED.encode();
        assert_eq!(Content::decode(&file), Ok(Content::Valid(SYNCED)));
        for bit in 0..file.len() * 8 {
            file[bit / 8] ^= 1 << (bit % 8);
            let content = Content::decode(&file).unwrap();
            assert!(matches!(content, Content::Torn { .. } | Content::Invalid), "bit {bit}: {content:?}");
            assert!(content.check(SYNCED.journal, Sequence::MAX).is_err(), "bit {bit}");
            file[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_file_that_a_power_cut_left_short_is_absent() {
        let file = SYNCED.encode();
        for length in 0..file.len() {
            assert_eq!(Content::decode(&file[..length]), Ok(Content::Absent), "{length} bytes");
        }
        assert_eq!(Content::decode(&[0; Synced::FILE_LEN]), Ok(Content::Absent));
    }

    #[test]
    fn a_change_that_a_power_cut_left_in_part_says_no_more_than_the_whole_one() {
        for (before, after) in [(0x00ff, 0x0100), (0x0102_0304_0506, 0x0102_0304_0507), (0, u64::MAX)] {
            let [before, after] = [before, after].map(|sequence| Synced { sequence, ..SYNCED });
            for written in 0..=16 {
                let mut file = before.encode();
                file[Synced::WORD_AT..Synced::WORD_AT + written]
                    .copy_from_slice(&after.word_bytes()[..written]);
                let most = match Content::decode(&file).unwrap() {
                    Content::Valid(synced) => synced.sequence,
                    Content::Torn { higher, .. } => higher,
                    other => panic!("{written} bytes: {other:?}"),
                };
                assert!(most <= after.sequence, "{written} bytes: {most:x}");
            }
        }
    }

    #[test]
    fn a_file_of_a_later_version_is_named() {
        let mut file = SYNCED.encode();
        file[8] = 9;
        let crc = header_crc(&file);
        file[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Content::decode(&file), Err(9));
    }
}
