//! Walks the groups of one segment, and tells a torn tail from damage. docs/journal.md, "Torn or damaged", has the
//! argument.

use crate::buffer::{BLOCK, SECTOR, first_nonzero};
use crate::directory::Directory;
use crate::error::{Damage, Error, Fault};
use crate::group::{self, Digest, GroupHeader, HEADER_LEN, Place};
use crate::record::{Record, Sequence};
use crate::segment::{FileName, HeaderError, SegmentHeader};

/// Bytes that are read at once; a longer group is read whole.
const CHUNK: usize = 256 << 10;

/// Distance within which a proof that groups are on stable storage is looked for, groups.
const GROUPS_AHEAD: usize = 1_024;

/// A segment that is being read.
#[derive(Debug)]
pub(crate) struct Scan {
    pub header: SegmentHeader,
    pub at: Position,
    window: Window,
    digest: Digest,
}

/// Expected place and content of the next group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub offset: u64,
    pub number: u64,
    pub sequence: Sequence,
    /// CRC of the header before.
    pub previous: u32,
}

/// Content at a position.
#[derive(Debug)]
pub(crate) enum Found {
    /// A whole group; [`Scan::records`] has what is in it. The position is behind it.
    Group(GroupHeader),
    /// None, and as far as was looked, nothing behind it.
    End,
    /// The remains of a group that was never known to be on stable storage. Nothing is there from `end` on, as far as
    /// was looked.
    Torn { end: u64 },
}

/// Distance to look behind the last group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// As far as something can have been written that wasn't synced.
    Reach,
    /// To the end of the file.
    Everywhere,
}

/// Reads and checks the header of a segment; `None` if it is blank.
pub(crate) fn read_header(
    directory: &mut impl Directory,
    segment: Sequence,
) -> Result<Option<(SegmentHeader, u32)>, Error> {
    let file = FileName::Segment(segment);
    let mut block = vec![0; BLOCK];
    let read = directory.read_at(file, 0, &mut block).map_err(Error::io("reading", Some(file)))?;
    let damage = |what| Err(Damage { file, offset: 0, what }.into());
    let (header, crc) = match SegmentHeader::decode(&block) {
        Ok(found) => found,
        Err(HeaderError::Blank) => return Ok(None),
        Err(HeaderError::Version(found)) => return Err(Error::Version { file, found }),
        Err(HeaderError::Invalid) => return damage(Fault::SegmentHeader),
    };
    if header.first_sequence != segment || read < BLOCK {
        return damage(Fault::Foreign);
    }
    let found = directory.length(file).map_err(Error::io("reading", Some(file)))?;
    if found != header.capacity {
        return damage(Fault::Length { expected: header.capacity, found });
    }
    Ok(Some((header, crc)))
}

impl Scan {
    /// Starts at the first group of the segment with this header, whose CRC is `crc`.
    pub fn new(header: SegmentHeader, crc: u32) -> Self {
        let at = Position {
            offset: BLOCK as u64,
            number: header.first_group,
            sequence: header.first_sequence,
            previous: crc,
        };
        Self { header, at, window: Window::of(header.capacity), digest: Digest::default() }
    }

    pub fn file(&self) -> FileName {
        FileName::Segment(self.header.first_sequence)
    }

    fn place(&self, offset: u64) -> Place {
        Place { segment: self.header.first_sequence, offset }
    }

    /// The next group, or what is there instead.
    pub fn next(&mut self, directory: &mut impl Directory, look: Look) -> Result<Found, Error> {
        let Position { offset, number, .. } = self.at;
        let file = self.file();
        let damage = |what| Error::from(Damage { file, offset, what });
        if offset + BLOCK as u64 > self.header.capacity {
            return Ok(Found::End);
        }
        let place = self.place(offset);
        let first = self.window.get(directory, file, offset, BLOCK)?;
        let Some((header, crc)) = GroupHeader::decode(first, place) else {
            if first_nonzero(&first[..SECTOR]).is_some() {
                // A sector is written whole or not at all: this is neither.
                return Err(damage(Fault::GroupHeader));
            }
            return self.unwritten(directory, look);
        };
        if header.journal != self.header.journal {
            return Err(damage(Fault::Foreign));
        }
        if header.number != number {
            return Err(damage(Fault::Order { expected: number, found: header.number }));
        }
        let fits = header.length as usize >= HEADER_LEN
            && offset + header.padded_len() as u64 <= self.header.capacity
            && header.padded_len() as u64 <= self.header.reach;
        if !fits || header.previous != self.at.previous || header.first_sequence != self.at.sequence {
            return Err(damage(Fault::Chain));
        }
        let bytes = self.window.get(directory, file, offset, header.padded_len())?;
        match group::check(&header, bytes, &mut self.digest) {
            Ok(()) => {}
            Err(_) if group::may_be_torn(&header, bytes) => return self.unwritten(directory, look),
            Err(what) => return Err(damage(Fault::Body { number, what })),
        }
        self.at = Position {
            offset: offset + header.padded_len() as u64,
            number: number + 1,
            sequence: header.first_sequence + u64::from(header.records),
            previous: crc,
        };
        Ok(Found::Group(header))
    }

    /// The records of the group that was just found.
    pub fn records(&self, header: &GroupHeader) -> impl Iterator<Item = Record<'_>> {
        let start = self.at.offset - header.padded_len() as u64;
        group::records(self.window.held(start, header.padded_len()), header.records)
    }

    /// The bytes of the group that was just found, with its padding.
    pub fn bytes(&self, header: &GroupHeader) -> &[u8] {
        self.window.held(self.at.offset - header.padded_len() as u64, header.padded_len())
    }

    /// Goes to where it was before, and reads the file again from there.
    pub fn go_back(&mut self, at: Position) {
        self.at = at;
        self.window.bytes.clear();
    }

    /// Number of the last group here that a later one says was on stable storage; some groups ahead at most.
    pub fn proven(&self, directory: &mut impl Directory) -> Result<u64, Error> {
        let mut ahead = Self {
            header: self.header,
            at: self.at,
            window: Window::of(self.header.capacity),
            digest: Digest::default(),
        };
        let mut proven = 0;
        for _ in 0..GROUPS_AHEAD {
            match ahead.next(directory, Look::Reach) {
                Ok(Found::Group(header)) => proven = header.synced,
                // A header says it even if the rest of its group isn't whole. What is wrong is for who reads up to there.
                Ok(_) | Err(Error::Damage(_)) => {
                    return Ok(ahead.synced_here(directory)?.map_or(proven, |synced| proven.max(synced)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(proven)
    }

    /// The last synced group, as the header of the next group says.
    fn synced_here(&self, directory: &mut impl Directory) -> Result<Option<u64>, Error> {
        let mut block = [0; HEADER_LEN];
        let (file, offset) = (self.file(), self.at.offset);
        directory.read_at(file, offset, &mut block).map_err(Error::io("reading", Some(file)))?;
        let header = GroupHeader::decode(&block, self.place(offset)).map(|(header, _)| header);
        let belongs =
            |header: &GroupHeader| header.journal == self.header.journal && header.number == self.at.number;
        Ok(header.filter(belongs).map(|header| header.synced))
    }

    /// Like [`Scan::next`], from the file as it is now and while it is being written. If it `is_last`, bytes at its end
    /// that are no group, nor part of one, may be one that is just being written.
    pub fn next_live(&mut self, directory: &mut impl Directory, is_last: bool) -> Result<Found, Error> {
        self.window.bytes.clear();
        let first = match self.next(directory, Look::Reach) {
            Err(Error::Damage(damage)) => damage,
            found => return found,
        };
        if !matches!(first.what, Fault::GroupHeader | Fault::Body { .. } | Fault::Synced { .. }) {
            return Err(first.into());
        }
        // A later group proves that this one was whole before that was seen: then it is so now, or damaged.
        self.window.bytes.clear();
        let proof = self.unwritten(directory, Look::Everywhere);
        self.window.bytes.clear();
        match (proof, self.next(directory, Look::Reach)) {
            (Ok(found), Err(Error::Damage(_))) if is_last => Ok(found),
            (_, found) => found,
        }
    }

    /// There is no whole group here: looks behind for one that says that there was, and for remains.
    fn unwritten(&mut self, directory: &mut impl Directory, look: Look) -> Result<Found, Error> {
        let Position { offset, number, .. } = self.at;
        let limit = match look {
            // A group within reach, and the header of the one behind it.
            Look::Reach => (offset + self.header.reach + BLOCK as u64).min(self.header.capacity),
            Look::Everywhere => self.header.capacity,
        };
        let file = self.file();
        let mut end = None;
        for at in (offset..limit).step_by(BLOCK) {
            let place = self.place(at);
            let block = self.window.get(directory, file, at, BLOCK)?;
            if first_nonzero(block).is_none() {
                continue;
            }
            end = Some(at + BLOCK as u64);
            if let Some((later, _)) = GroupHeader::decode(block, place)
                && later.journal == self.header.journal
                && later.synced >= number
            {
                let what = Fault::Synced { number, later: later.number, at };
                return Err(Damage { file, offset, what }.into());
            }
        }
        Ok(end.map_or(Found::End, |end| Found::Torn { end }))
    }
}

/// A part of a file in memory.
#[derive(Debug)]
struct Window {
    bytes: Vec<u8>,
    start: u64,
    /// Length of the file, bytes.
    limit: u64,
}

impl Window {
    fn of(limit: u64) -> Self {
        Self { bytes: Vec::new(), start: 0, limit }
    }

    /// `length` bytes of the file from `offset` on; zeros where it has none.
    fn get(
        &mut self,
        directory: &mut impl Directory,
        file: FileName,
        offset: u64,
        length: usize,
    ) -> Result<&[u8], Error> {
        let held = self.start..self.start + self.bytes.len() as u64;
        if offset < held.start || offset + length as u64 > held.end {
            let rest = usize::try_from(self.limit - offset).unwrap_or(CHUNK).min(CHUNK);
            self.bytes.clear();
            self.bytes.resize(length.max(rest), 0);
            self.start = offset;
            let read = directory.read_at(file, offset, &mut self.bytes);
            if read.is_err() {
                self.bytes.clear();
            }
            read.map_err(Error::io("reading", Some(file)))?;
        }
        Ok(self.held(offset, length))
    }

    fn held(&self, offset: u64, length: usize) -> &[u8] {
        &self.bytes[(offset - self.start) as usize..][..length]
    }
}
