//! Reads records in order, also while somebody writes them.

use crate::error::{Damage, Error, Fault};
use crate::group::GroupHeader;
use crate::record::{Record, Sequence};
use crate::recovery::check_joint;
use crate::scan::{Found, Look, Scan, read_header};
use crate::segment::FileName;
use crate::storage::Directory;

/// A place in a journal that is read forwards.
///
/// A record that is given may not be acknowledged yet, and after a power cut it may be gone: who follows a live journal
/// sees it a moment early. Damage in the very last group looks like a group that is just being written, and is taken for
/// the end: who must know asks [`verify`](crate::verify).
#[derive(Debug)]
pub struct Reader<D> {
    directory: D,
    scan: Option<Scan>,
    /// The group whose records are given now.
    group: Option<GroupHeader>,
    /// Bytes of its records that were given.
    given: usize,
    /// The next record to give.
    next: Sequence,
    /// The first segment that was read.
    entered: Option<Sequence>,
}

impl<D: Directory> Reader<D> {
    /// Starts at record `from`, or at the oldest that there is if that is later.
    pub fn new(directory: D, from: Sequence) -> Self {
        Self { directory, scan: None, group: None, given: 0, next: from.max(1), entered: None }
    }

    /// Sequence of the next record. It jumps ahead where retention has removed what comes before.
    pub fn position(&self) -> Sequence {
        self.next
    }

    /// Goes behind the last record that is there, reading no more than the last segment.
    pub fn skip_to_end(&mut self) -> Result<(), Error> {
        if let Some(&last) = segments(&mut self.directory)?.last() {
            self.scan = None;
            self.group = None;
            self.next = self.next.max(last);
        }
        while self.next_group()? {
            self.group = None;
            self.next = self.scan.as_ref().map_or(self.next, |scan| self.next.max(scan.at.sequence));
        }
        Ok(())
    }

    /// Brings all records that were given to stable storage, whatever becomes of their writer: for who answers for them.
    pub fn sync(&mut self) -> Result<(), Error> {
        let Some(entered) = self.entered else { return Ok(()) };
        for segment in segments(&mut self.directory)?.into_iter().filter(|&segment| segment >= entered) {
            let file = FileName::Segment(segment);
            match self.directory.sync(file).map_err(Error::io("fsync of", Some(file))) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
        self.directory.sync_directory().map_err(Error::io("fsync of", None))
    }

    /// The next record; `None` if there is none yet: ask again later.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, Error> {
        loop {
            match self.in_group() {
                Some(true) => break,
                Some(false) => {}
                None => {
                    if !self.next_group()? {
                        return Ok(None);
                    }
                }
            }
        }
        let (scan, group) =
            (self.scan.as_ref().expect("it is read"), self.group.as_ref().expect("it is read"));
        let rest = &scan.bytes(group)[self.given..group.length as usize];
        let record = Record::parse(rest).expect("it was checked");
        self.given += record.encoded_len();
        self.next = record.sequence + 1;
        Ok(Some(record))
    }

    /// Whether the next record of this group is wanted; `None` if there is none.
    fn in_group(&mut self) -> Option<bool> {
        let (scan, group) = (self.scan.as_ref()?, self.group.as_ref()?);
        let rest = &scan.bytes(group)[self.given..group.length as usize];
        if rest.is_empty() {
            self.group = None;
            return None;
        }
        let record = Record::parse(rest).expect("it was checked");
        if record.sequence < self.next {
            self.given += record.encoded_len();
            return Some(false);
        }
        Some(true)
    }

    /// Goes to the next group; whether there is one.
    fn next_group(&mut self) -> Result<bool, Error> {
        if self.scan.is_none() && !self.enter(None)? {
            return Ok(false);
        }
        let scan = self.scan.as_mut().expect("it was entered");
        // What is in memory may be older than the file: good enough for what it has.
        if let Ok(Found::Group(header)) = scan.next(&mut self.directory, Look::Reach) {
            return Ok(self.found(header));
        }
        // Asked before the end is looked at: a segment that has a successor is complete.
        let successor = successor(&mut self.directory, scan.header.first_sequence)?;
        match scan.next_live(&mut self.directory, successor.is_none()) {
            Ok(Found::Group(header)) => Ok(self.found(header)),
            Ok(Found::End | Found::Torn { .. }) => match successor {
                Some(next) => self.enter(Some(next)),
                None => Ok(false),
            },
            Err(error) if is_gone(&error) => {
                self.scan = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn found(&mut self, header: GroupHeader) -> bool {
        self.group = Some(header);
        self.given = crate::group::HEADER_LEN;
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
        let (header, crc) = match read_header(&mut self.directory, segment) {
            Ok(Some(found)) => found,
            // Named, and not written yet.
            Ok(None) => return Ok(false),
            Err(error) if is_gone(&error) => {
                self.scan = None;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        if let (Some(scan), Some(_), Some(previous)) = (&self.scan, next, header.previous) {
            let current = scan.header.first_sequence;
            if previous.first_sequence == current {
                check_joint(scan, None, &header)?;
            } else if segments(&mut self.directory)?.contains(&current) {
                // Retention would have taken the present segment before the one between.
                let what = Fault::Missing { previous: previous.first_sequence };
                return Err(Damage { file: FileName::Segment(segment), offset: 0, what }.into());
            }
        }
        self.next = self.next.max(segment);
        self.entered.get_or_insert(segment);
        self.scan = Some(Scan::new(header, crc));
        self.group = None;
        Ok(true)
    }

    /// The last segment that doesn't begin behind the next record, or the first there is.
    fn segment_of_next(&mut self) -> Result<Option<Sequence>, Error> {
        let segments = segments(&mut self.directory)?;
        let before = segments.iter().rev().find(|&&first| first <= self.next);
        Ok(before.or(segments.first()).copied())
    }
}

/// Whether retention took the file away while it was read.
pub(crate) fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
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
