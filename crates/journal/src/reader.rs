//! Reads records in order, also while somebody writes them.

use crate::error::Error;
use crate::flush::FlushHeader;
use crate::record::{Record, Sequence};
use crate::recovery::check_joint;
use crate::scan::{Found, Look, Scan, read_header};
use crate::segment::FileName;
use crate::storage::Directory;

/// A place in a journal that is read forwards.
///
/// A record that is given may not be acknowledged yet, and after a power cut it may be gone: who follows a live journal
/// sees it a moment early.
#[derive(Debug)]
pub struct Reader<D> {
    directory: D,
    scan: Option<Scan>,
    /// The flush whose records are given now.
    flush: Option<FlushHeader>,
    /// Bytes of its records that were given.
    given: usize,
    /// The next record to give.
    next: Sequence,
}

impl<D: Directory> Reader<D> {
    /// Starts at record `from`, or at the oldest that there is if that is later.
    pub fn new(directory: D, from: Sequence) -> Self {
        Self { directory, scan: None, flush: None, given: 0, next: from.max(1) }
    }

    /// Sequence of the next record. It jumps ahead where retention has removed what comes before.
    pub fn position(&self) -> Sequence {
        self.next
    }

    /// The next record; `None` if there is none yet: ask again later.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, Error> {
        loop {
            match self.in_flush() {
                Some(true) => break,
                Some(false) => {}
                None => {
                    if !self.next_flush()? {
                        return Ok(None);
                    }
                }
            }
        }
        let (scan, flush) =
            (self.scan.as_ref().expect("it is read"), self.flush.as_ref().expect("it is read"));
        let rest = &scan.bytes(flush)[self.given..flush.length as usize];
        let record = Record::parse(rest).expect("it was checked");
        self.given += record.encoded_len();
        self.next = record.sequence + 1;
        Ok(Some(record))
    }

    /// Whether the next record of this flush is wanted; `None` if there is none.
    fn in_flush(&mut self) -> Option<bool> {
        let (scan, flush) = (self.scan.as_ref()?, self.flush.as_ref()?);
        let rest = &scan.bytes(flush)[self.given..flush.length as usize];
        if rest.is_empty() {
            self.flush = None;
            return None;
        }
        let record = Record::parse(rest).expect("it was checked");
        if record.sequence < self.next {
            self.given += record.encoded_len();
            return Some(false);
        }
        Some(true)
    }

    /// Goes to the next flush; whether there is one.
    fn next_flush(&mut self) -> Result<bool, Error> {
        if self.scan.is_none() && !self.enter(None)? {
            return Ok(false);
        }
        let scan = self.scan.as_mut().expect("it was entered");
        // What is in memory may be older than the file: good enough for what it has.
        if let Ok(Found::Flush(header)) = scan.next(&mut self.directory, Look::Reach) {
            return Ok(self.found(header));
        }
        // Asked before the end is looked at: a segment that has a successor is complete.
        let successor = successor(&mut self.directory, scan.header.first_sequence)?;
        match scan.next_live(&mut self.directory, successor.is_none()) {
            Ok(Found::Flush(header)) => Ok(self.found(header)),
            Ok(Found::End | Found::Torn { .. }) => match successor {
                Some(next) => self.enter(Some(next)),
                None => Ok(false),
            },
            // Retention took the segment away while it was read.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                self.scan = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn found(&mut self, header: FlushHeader) -> bool {
        self.flush = Some(header);
        self.given = crate::flush::HEADER_LEN;
        true
    }

    /// Goes to the segment after the present one, or to the one that has the next record; whether that can be read.
    fn enter(&mut self, next: Option<Sequence>) -> Result<bool, Error> {
        let segment = match next {
            Some(next) => next,
            None => match self.segment_of_next()? {
                Some(segment) => segment,
                None => return Ok(false),
            },
        };
        let Some((header, crc)) = read_header(&mut self.directory, segment)? else {
            // Named, and not written yet.
            return Ok(false);
        };
        if let (Some(scan), Some(_)) = (&self.scan, next)
            && header.previous.is_some_and(|previous| previous.first_sequence == scan.header.first_sequence)
        {
            check_joint(scan, None, &header)?;
        }
        self.next = self.next.max(segment);
        self.scan = Some(Scan::new(header, crc));
        self.flush = None;
        Ok(true)
    }

    /// The last segment that doesn't begin behind the next record, or the first there is.
    fn segment_of_next(&mut self) -> Result<Option<Sequence>, Error> {
        let segments = segments(&mut self.directory)?;
        let before = segments.iter().rev().find(|&&first| first <= self.next);
        Ok(before.or(segments.first()).copied())
    }
}

/// First sequences of all segments, in order.
pub(crate) fn segments(directory: &mut impl Directory) -> Result<Vec<Sequence>, Error> {
    let mut names = directory.list().map_err(Error::io("listing", None))?;
    names.sort_unstable();
    let first = |name| match name {
        FileName::Segment(first) => Some(first),
        FileName::Next => None,
    };
    Ok(names.into_iter().filter_map(first).collect())
}

fn successor(directory: &mut impl Directory, segment: Sequence) -> Result<Option<Sequence>, Error> {
    Ok(segments(directory)?.into_iter().find(|&first| first > segment))
}
