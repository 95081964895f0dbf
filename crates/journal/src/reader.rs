//! Reads records in order, also while somebody writes them.

use crate::directory::Directory;
use crate::error::{Damage, Error, Fault};
use crate::group::GroupHeader;
use crate::record::{Record, Sequence};
use crate::recovery::check_joint;
use crate::scan::{Found, Look, Position, Scan, read_header};
use crate::segment::{FileName, JournalId};
use crate::synced::Content;

/// A place in a journal that is read forwards.
///
/// Gives records that are on stable storage, and no others, unless made by [`Reader::of_written`]. The file `synced` says
/// which are; where that is old or absent, as after a power cut, a later commit group or segment proves it. Damage in the
/// very last group looks like a group that is just being written, and is taken for the end: who must know asks
/// [`verify`](crate::verify).
#[derive(Debug)]
pub struct Reader<D> {
    directory: D,
    scan: Option<Scan>,
    /// The group whose records are given now.
    group: Option<GroupHeader>,
    /// The last group with records that was found.
    commit_group: Option<CommitGroup>,
    limit: Limit,
    /// Content of the file `synced` when nothing was left to give: while it stays, nothing new is there.
    idle_at: Option<Content>,
    /// Bytes of its records that were given.
    given: usize,
    /// The next record to give.
    next: Sequence,
    /// The first segment that was read.
    entered: Option<Sequence>,
}

/// Groups that a reader may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    /// All that were written.
    Written,
    /// Those that are known to be on stable storage: up to a record and, in the present segment, up to a group.
    Synced { sequence: Sequence, group: u64 },
}

impl Limit {
    const NOTHING: Self = Self::Synced { sequence: 0, group: 0 };

    fn is_written(&self) -> bool {
        *self == Self::Written
    }

    fn covers(&self, header: &GroupHeader) -> bool {
        match *self {
            Self::Written => true,
            Self::Synced { sequence, group, .. } => {
                header.last_sequence() <= sequence || header.number <= group
            }
        }
    }

    /// True if a group at this position may be covered.
    fn reaches(&self, at: &Position) -> bool {
        match *self {
            Self::Written => true,
            Self::Synced { sequence, group } => at.sequence <= sequence || at.number <= group,
        }
    }

    /// The file `synced` was read.
    fn raise(&mut self, content: &Content) {
        if let Self::Synced { sequence, .. } = self {
            *sequence = (*sequence).max(content.sequence());
        }
    }

    /// Groups of the present segment were found to be on stable storage, up to this number.
    fn raise_to_group(&mut self, number: u64) {
        if let Self::Synced { group, .. } = self {
            *group = number;
        }
    }
}

/// The commit group of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitGroup {
    /// The journal that its records belong to.
    pub journal: JournalId,
    /// Consecutive over all groups of the directory.
    pub number: u64,
    /// CRC of its header, which covers its records and its place.
    pub crc: u32,
    /// Its first record.
    pub first_sequence: Sequence,
    /// Its last record.
    pub last_sequence: Sequence,
    /// When it was written, Unix time in nanoseconds.
    pub time_ns: u64,
}

impl CommitGroup {
    fn new(header: &GroupHeader, crc: u32) -> Self {
        Self {
            journal: header.journal,
            number: header.number,
            crc,
            first_sequence: header.first_sequence,
            last_sequence: header.last_sequence(),
            time_ns: header.time_ns,
        }
    }
}

impl<D: Directory> Reader<D> {
    /// Starts at record `from`, or at the oldest that there is if that is later.
    pub fn new(directory: D, from: Sequence) -> Self {
        Self {
            directory,
            scan: None,
            group: None,
            commit_group: None,
            limit: Limit::NOTHING,
            idle_at: None,
            given: 0,
            next: from.max(1),
            entered: None,
        }
    }

    /// Like [`Reader::new`], and gives records that are written and may not be on stable storage: after a power cut such a
    /// record may be gone, and its sequence be given to another. [`Reader::sync`] brings them there.
    pub fn of_written(directory: D, from: Sequence) -> Self {
        Self { limit: Limit::Written, ..Self::new(directory, from) }
    }

    /// The commit group of the last record that was given.
    pub fn commit_group(&self) -> Option<CommitGroup> {
        self.commit_group
    }

    /// The last record that the file `synced` says is on stable storage; `None` if it can't be read or isn't there.
    pub fn synced(&mut self) -> Option<Sequence> {
        match Content::read(&mut self.directory) {
            Ok(content @ Content::Valid(_)) => Some(content.sequence()),
            _ => None,
        }
    }

    /// Has the next call look at the files even if the file `synced` says that nothing has come: for a directory whose
    /// writer may be of an older version, which doesn't write that file.
    pub fn look_again(&mut self) {
        self.idle_at = None;
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
        let encoded = self.next_encoded()?;
        Ok(encoded.map(|bytes| Record::parse(bytes).expect("it was checked")))
    }

    /// Like [`Reader::next_record`]: the record as it is in the file.
    pub(crate) fn next_encoded(&mut self) -> Result<Option<&[u8]>, Error> {
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
        Ok(Some(&rest[..record.encoded_len()]))
    }

    /// True if the next record of this group is wanted; `None` if there is none.
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

    /// Goes to the next group that may be given; whether there is one.
    fn next_group(&mut self) -> Result<bool, Error> {
        if self.idle_at.is_none() && self.next_in_memory() {
            return Ok(true);
        }
        if self.limit.is_written() {
            return self.look_for_group();
        }
        let synced = Content::read(&mut self.directory)?;
        if self.idle_at == Some(synced) {
            return Ok(false);
        }
        self.limit.raise(&synced);
        let found = self.look_for_group()?;
        // Without the file, only the segments say whether something has come.
        self.idle_at = (!found && matches!(synced, Content::Valid(_))).then_some(synced);
        Ok(found)
    }

    /// Goes to the next group if it is known to be final. What is in memory may be older than the file: good enough then.
    fn next_in_memory(&mut self) -> bool {
        let Some(scan) = self.scan.as_mut().filter(|scan| self.limit.reaches(&scan.at)) else { return false };
        let before = scan.at;
        match scan.next(&mut self.directory, Look::Reach) {
            Ok(Found::Group(header)) if self.limit.covers(&header) => self.found(header),
            _ => {
                scan.go_back(before);
                false
            }
        }
    }

    /// Looks for the next group in the files as they are now.
    fn look_for_group(&mut self) -> Result<bool, Error> {
        if self.scan.is_none() && !self.enter(None)? {
            return Ok(false);
        }
        let scan = self.scan.as_mut().expect("it was entered");
        let before = scan.at;
        // Asked before the end is looked at: a segment that has a successor is complete.
        let successor = successor(&mut self.directory, scan.header.first_sequence)?;
        if !self.limit.is_written() {
            let proven = if successor.is_some() { u64::MAX } else { scan.proven(&mut self.directory)? };
            self.limit.raise_to_group(proven);
        }
        match scan.next_live(&mut self.directory, successor.is_none()) {
            Ok(Found::Group(header)) if self.limit.covers(&header) => Ok(self.found(header)),
            Ok(Found::Group(_)) => {
                scan.go_back(before);
                Ok(false)
            }
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
        if header.records > 0 {
            let crc = self.scan.as_ref().expect("it was read").at.previous;
            self.commit_group = Some(CommitGroup::new(&header, crc));
        }
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
        self.limit.raise_to_group(0);
        Ok(true)
    }

    /// The last segment that doesn't begin behind the next record, or the first there is.
    fn segment_of_next(&mut self) -> Result<Option<Sequence>, Error> {
        let segments = segments(&mut self.directory)?;
        let before = segments.iter().rev().find(|&&first| first <= self.next);
        Ok(before.or(segments.first()).copied())
    }
}

/// True if retention took the file away while it was read.
pub(crate) fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// First sequences of all segments, in order.
pub(crate) fn segments(directory: &mut impl Directory) -> Result<Vec<Sequence>, Error> {
    let mut names = directory.list().map_err(Error::io("listing", None))?;
    names.sort_unstable();
    let first = |name| match name {
        FileName::Segment(first) => Some(first),
        FileName::Next | FileName::Synced => None,
    };
    Ok(names.into_iter().filter_map(first).collect())
}

fn successor(directory: &mut impl Directory, segment: Sequence) -> Result<Option<Sequence>, Error> {
    Ok(segments(directory)?.into_iter().find(|&first| first > segment))
}
