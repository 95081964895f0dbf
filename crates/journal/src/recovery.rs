//! From the files that a process left behind to a journal that can go on: checks them, gives their records, cuts a
//! torn tail. Wherever the power is cut meanwhile, doing it again gives the same records.

use std::collections::VecDeque;

use crate::buffer::BLOCK;
use crate::clock::Now;
use crate::config::Config;
use crate::directory::Directory;
use crate::error::{Damage, Error, Fault};
use crate::group::GroupHeader;
use crate::journal::{Chain, Journal, Segment, Start, Tail};
use crate::record::{Record, Sequence};
use crate::scan::{Found, Look, Scan, read_header};
use crate::segment::{FileName, JournalId, SegmentHeader};
use crate::synced::{Content, Synced};

/// Extent of a journal that recovery reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restore {
    /// All records are checked and given, and the unused rest of each segment is checked, too.
    All,
    /// At least those records that each bound asks for, as far as there are any: whole segments, from the back.
    /// Of older segments only the headers are checked.
    Window {
        /// The last so many records.
        records: u64,
        /// The last so many bytes, headers and padding included.
        bytes: u64,
        /// All since then, Unix time in nanoseconds; `u64::MAX` asks for none.
        since_ns: u64,
    },
}

/// Findings and changes of recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The oldest record in the journal; 0 if it is empty.
    pub first_sequence: Sequence,
    /// The last record in the journal, be it removed by now; 0 if it never had any.
    pub last_sequence: Sequence,
    /// Segments in the journal.
    pub segments: usize,
    /// Records that were checked and given.
    pub records: u64,
    /// Bytes of the groups that were checked.
    pub bytes: u64,
    /// Place of a torn tail that was cut: its segment and offset. No record in it was ever acknowledged.
    pub cut: Option<(FileName, u64)>,
    /// Why the journal goes on under a new id, if it does.
    pub new_id: Option<NewId>,
}

/// Why a journal goes on under a new id: sequences that were given before may be given again, to other records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NewId {
    /// Segments were removed at the new end, or a disk has lost what it said was on stable storage.
    #[error("records up to {synced} were on stable storage and aren't there any more")]
    Gone {
        /// The last record that was on stable storage.
        synced: Sequence,
    },
    /// The file `synced` is of another journal: the segments were put there, or a process before began that one and
    /// took no records.
    #[error("the file \"synced\" is of journal {journal}")]
    Other {
        /// The journal that it is of.
        journal: JournalId,
    },
    /// The file `synced` has changed, so that nothing is known of the records that were there.
    #[error("the file \"synced\" isn't valid")]
    Invalid,
}

/// A segment of the chain, by its header.
struct Link {
    header: SegmentHeader,
    crc: u32,
    /// Space on the disk, bytes.
    bytes: u64,
}

/// Opens the journal in `directory`: `on_record` is given its records, oldest first. An empty directory becomes a
/// journal called `new_id`.
///
/// Everything that was given is on stable storage when this returns.
pub fn recover(
    directory: &mut impl Directory,
    config: Config,
    new_id: JournalId,
    now: Now,
    restore: Restore,
    mut on_record: impl FnMut(Record<'_>),
) -> Result<(Journal, Recovered), Error> {
    config.check()?;
    let mut recovered = Recovered::default();
    let synced = Content::read(directory)?;
    let mut segments = chain(directory, &synced, &mut recovered)?;
    let look = if restore == Restore::All { Look::Everywhere } else { Look::Reach };
    let mut end = None;
    for index in first_to_read(&segments, restore)..segments.len() {
        let Link { header, crc, .. } = &segments[index];
        let mut scan = Scan::new(*header, *crc);
        let (last, torn) = read_segment(directory, &mut scan, look, &mut recovered, &mut on_record)?;
        match segments.get(index + 1) {
            Some(next) => check_joint(&scan, torn, &next.header)?,
            None => end = Some((scan, last, torn)),
        }
    }
    recovered.segments = segments.len();
    recovered.first_sequence = segments.first().map_or(0, |first| first.header.first_sequence);
    let start = match end {
        None => {
            // Retention may have taken all that was here: the sequences go on, so that none is of two records.
            let last = synced.sequence();
            recovered.last_sequence = last;
            let chain = Chain { number: 0, crc: 0, synced: 0 };
            Start {
                id: new_id,
                last_commit_ns: 0,
                last,
                tail: Tail::NONE,
                chain,
                segments: VecDeque::new(),
                is_marked: true,
            }
        }
        Some((mut scan, last, torn)) => {
            let last_commit_ns = last.as_ref().map_or(0, |last| last.time_ns);
            let is_marked = settle(directory, &mut scan, last, torn, &mut recovered)?;
            release_unused(directory, &mut segments);
            recovered.last_sequence = scan.at.sequence - 1;
            recovered.new_id = new_id_because(&synced, scan.header.journal, recovered.last_sequence);
            let id = if recovered.new_id.is_some() { new_id } else { scan.header.journal };
            let mut start = start_behind(id, &scan, &segments, is_marked);
            start.last_commit_ns = last_commit_ns;
            if recovered.new_id.is_some() {
                start.last = start.last.max(synced.sequence());
            }
            start
        }
    };
    record(directory, Synced { journal: start.id, sequence: start.last })?;
    Ok((Journal::new(config, start, now), recovered))
}

fn new_id_because(synced: &Content, journal: JournalId, last: Sequence) -> Option<NewId> {
    match *synced {
        Content::Absent => None,
        Content::Invalid => Some(NewId::Invalid),
        Content::Valid(Synced { journal: other, .. }) | Content::Torn { journal: other, .. }
            if other != journal =>
        {
            Some(NewId::Other { journal: other })
        }
        Content::Valid(synced) => (synced.sequence > last).then_some(NewId::Gone { synced: synced.sequence }),
        // Whichever of them is true, nothing is gone.
        Content::Torn { higher, .. } => (higher > last).then_some(NewId::Invalid),
    }
}

/// Writes the file `synced`, durably: all that was recovered is on stable storage by now.
pub(crate) fn record(directory: &mut impl Directory, synced: Synced) -> Result<(), Error> {
    let file = FileName::Synced;
    directory.write_at(file, 0, &synced.encode()).map_err(Error::io("writing to", Some(file)))?;
    directory.sync(file).map_err(Error::io("fsync of", Some(file)))?;
    directory.sync_directory().map_err(Error::io("fsync of", None))
}

fn start_behind(id: JournalId, scan: &Scan, segments: &[Link], is_marked: bool) -> Start {
    let number = scan.at.number - 1;
    // Another journal begins with a segment of its own.
    let capacity = if id == scan.header.journal { scan.header.capacity } else { scan.at.offset };
    Start {
        id,
        last: scan.at.sequence - 1,
        tail: Tail {
            journal: scan.header.journal,
            segment: scan.header.first_sequence,
            offset: scan.at.offset,
            is_retired: false,
            capacity,
            reach: scan.header.reach,
        },
        chain: Chain { number, crc: scan.at.previous, synced: number },
        segments: segments
            .iter()
            .map(|Link { header, bytes, .. }| Segment {
                journal: header.journal,
                first_sequence: header.first_sequence,
                created_ns: header.created_ns,
                bytes: *bytes,
            })
            .collect(),
        last_commit_ns: 0,
        is_marked,
    }
}

/// Gives back what was never used of segments that are complete: a process that ended may have left that for the one
/// before the last. Where the file system can't do it, all of them have kept it.
fn release_unused(directory: &mut impl Directory, segments: &mut [Link]) {
    let ends: Vec<_> = segments
        .iter()
        .skip(1)
        .filter_map(|next| next.header.previous.map(|previous| previous.end))
        .collect();
    let Some(&end) = ends.last() else { return };
    let complete = &mut segments[..ends.len()];
    let last = complete.last().expect("there is one for each end").header;
    if directory.release(FileName::Segment(last.first_sequence), end).is_ok() {
        complete.iter_mut().zip(ends).for_each(|(segment, end)| segment.bytes = end);
    }
}

/// Lists the segments, checks that they are one chain, and removes what was never part of it.
fn chain(
    directory: &mut impl Directory,
    synced: &Content,
    recovered: &mut Recovered,
) -> Result<Vec<Link>, Error> {
    let mut names = directory.list().map_err(Error::io("listing", None))?;
    names.sort_unstable();
    if names.contains(&FileName::Next) {
        directory.remove(FileName::Next).map_err(Error::io("removing", Some(FileName::Next)))?;
    }
    let mut sequences: Vec<_> = names
        .into_iter()
        .filter_map(|name| match name {
            FileName::Segment(first) => Some(first),
            FileName::Next | FileName::Synced => None,
        })
        .collect();
    if let Some(&last) = sequences.last()
        && never_synced(directory, last, sequences.len() == 1, synced)?
    {
        let file = FileName::Segment(last);
        directory.remove(file).map_err(Error::io("removing", Some(file)))?;
        directory.sync_directory().map_err(Error::io("fsync of", None))?;
        recovered.cut = Some((file, 0));
        sequences.pop();
    }
    let mut segments = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        let file = FileName::Segment(sequence);
        let damage = |what| Err(Error::from(Damage { file, offset: 0, what }));
        let Some((header, crc)) = read_header(directory, sequence)? else {
            return damage(Fault::SegmentHeader);
        };
        if let Some(before) = segments.last() {
            let Link { header: before, .. } = before;
            match header.previous {
                Some(previous) if previous.first_sequence == before.first_sequence => {
                    if previous.journal != before.journal {
                        return damage(Fault::Foreign);
                    }
                }
                _ if header.journal != before.journal => return damage(Fault::Foreign),
                Some(previous) => return damage(Fault::Missing { previous: previous.first_sequence }),
                None => return damage(Fault::Foreign),
            }
        }
        segments.push(Link { header, crc, bytes: header.capacity });
    }
    Ok(segments)
}

/// True if not even the first group of the last segment was on stable storage. Header and first group are one write.
pub(crate) fn never_synced(
    directory: &mut impl Directory,
    last: Sequence,
    is_only: bool,
    synced: &Content,
) -> Result<bool, Error> {
    let file = FileName::Segment(last);
    let damage = |offset, what| Err(Error::from(Damage { file, offset, what }));
    let torn = match read_header(directory, last)? {
        None => {
            // Without its header, which has its length and reach, all of the file is looked at: nothing may follow
            // the first group before that is on stable storage.
            if let Some((at, later)) = second_group(directory, last)? {
                return damage(0, Fault::Synced { number: later.synced, later: later.number, at });
            }
            true
        }
        Some((header, crc)) => {
            !matches!(Scan::new(header, crc).next(directory, Look::Everywhere)?, Found::Group(_))
        }
    };
    // The file `synced` says durably that a segment holds records before any of them counts. Without that file, retention
    // has removed the segment before only when this one had a synced group, so there is one before, unless it's the first.
    let held_records = match synced {
        Content::Valid(Synced { sequence, .. }) | Content::Torn { lower: sequence, .. } => *sequence >= last,
        Content::Absent | Content::Invalid => is_only && last != 1,
    };
    if torn && held_records {
        return damage(0, Fault::Lost);
    }
    Ok(torn)
}

/// A group that can't be a segment's first: it says that its predecessor here was synced.
fn second_group(
    directory: &mut impl Directory,
    segment: Sequence,
) -> Result<Option<(u64, GroupHeader)>, Error> {
    let file = FileName::Segment(segment);
    let length = directory.length(file).map_err(Error::io("reading", Some(file)))?;
    let mut block = vec![0; BLOCK];
    for offset in (2 * BLOCK as u64..length).step_by(BLOCK) {
        directory.read_at(file, offset, &mut block).map_err(Error::io("reading", Some(file)))?;
        if let Some((header, _)) = GroupHeader::decode(&block, crate::group::Place { segment, offset }) {
            return Ok(Some((offset, header)));
        }
    }
    Ok(None)
}

/// The first segment to read for what `restore` asks for.
fn first_to_read(segments: &[Link], restore: Restore) -> usize {
    let Restore::Window { records, bytes, since_ns } = restore else { return 0 };
    let mut index = segments.len().saturating_sub(1);
    let (mut have_records, mut have_bytes) = (0, 0);
    // What the last segment holds isn't known before it is read, so it doesn't count.
    while index > 0 {
        let current = &segments[index].header;
        if have_records >= records && have_bytes >= bytes && current.created_ns < since_ns {
            break;
        }
        have_records += current.first_sequence - segments[index - 1].header.first_sequence;
        have_bytes += current.previous.map_or(0, |previous| previous.end);
        index -= 1;
    }
    index
}

/// Reads one segment to its end: the last group, and where a torn tail ends if there is one.
fn read_segment(
    directory: &mut impl Directory,
    scan: &mut Scan,
    look: Look,
    recovered: &mut Recovered,
    on_record: &mut impl FnMut(Record<'_>),
) -> Result<(Option<GroupHeader>, Option<u64>), Error> {
    let mut last = None;
    loop {
        match scan.next(directory, look)? {
            Found::Group(header) => {
                recovered.records += u64::from(header.records);
                recovered.bytes += header.padded_len() as u64;
                scan.records(&header).for_each(&mut *on_record);
                last = Some(header);
            }
            Found::End => return Ok((last, None)),
            Found::Torn { end } => return Ok((last, Some(end))),
        }
    }
}

/// Checks that a segment that isn't the last ends where and how the next one says.
pub(crate) fn check_joint(scan: &Scan, torn: Option<u64>, next: &SegmentHeader) -> Result<(), Error> {
    let offset = scan.at.offset;
    let damage = |what| Err(Error::from(Damage { file: scan.file(), offset, what }));
    let Some(previous) = next.previous else { return damage(Fault::Chain) };
    if previous.end > offset {
        // The next segment was begun when all of this one was on stable storage.
        let number = scan.at.number;
        return damage(Fault::Synced { number, later: next.first_group, at: 0 });
    }
    if torn.is_some() {
        return damage(Fault::NotBlank);
    }
    // Another journal leaves out the sequences of records that are gone.
    let is_next = if next.journal == scan.header.journal {
        next.first_sequence == scan.at.sequence
    } else {
        next.first_sequence >= scan.at.sequence
    };
    let fits = previous.end == offset
        && previous.journal == scan.header.journal
        && previous.crc == scan.at.previous
        && next.first_group == scan.at.number
        && is_next;
    if fits { Ok(()) } else { damage(Fault::Chain) }
}

/// Makes the end of the last segment what it should be, durably. Says whether it ends with a marker.
///
/// The last group is written once more, because it alone may not be on stable storage: a process that was killed left
/// it in the page cache, maybe after a failed fsync, which makes Linux forget that the pages are dirty. For the same
/// reason all that may hold remains behind it is overwritten with zeros, whether they show or not: they would be inside
/// the journal at the next start.
fn settle(
    directory: &mut impl Directory,
    scan: &mut Scan,
    last: Option<GroupHeader>,
    torn: Option<u64>,
    recovered: &mut Recovered,
) -> Result<bool, Error> {
    let file = scan.file();
    let write_failed = || Error::io("writing to", Some(file));
    let last = last.expect("a segment without a whole group was removed");
    let start = scan.at.offset - last.padded_len() as u64;
    // What the scan holds of the file is of the tail by now.
    let mut bytes = vec![0; last.padded_len()];
    directory.read_at(file, start, &mut bytes).map_err(Error::io("reading", Some(file)))?;
    directory.write_at(file, start, &bytes).map_err(write_failed())?;
    if last.number == scan.header.first_group {
        let mut block = vec![0; BLOCK];
        directory.read_at(file, 0, &mut block).map_err(Error::io("reading", Some(file)))?;
        directory.write_at(file, 0, &block).map_err(write_failed())?;
    }
    if torn.is_some() {
        recovered.cut = Some((file, scan.at.offset));
    }
    let end = (scan.at.offset + scan.header.reach).min(scan.header.capacity).max(torn.unwrap_or(0));
    let zeros = vec![0; 64 * BLOCK];
    let mut at = scan.at.offset;
    while at < end {
        let piece = (end - at).min(zeros.len() as u64);
        directory.write_at(file, at, &zeros[..piece as usize]).map_err(write_failed())?;
        at += piece;
    }
    directory.sync(file).map_err(Error::io("fsync of", Some(file)))?;
    directory.sync_directory().map_err(Error::io("fsync of", None))?;
    Ok(last.records == 0)
}
