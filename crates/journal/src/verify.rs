//! Checks every byte of a journal, and says what is in it.

use crate::directory::Directory;
use crate::error::{Damage, Error, Fault};
use crate::reader::{is_gone, segments};
use crate::record::Sequence;
use crate::recovery::{check_joint, never_synced};
use crate::scan::{Found, Look, Scan, read_header};
use crate::segment::{FileName, JournalId, SegmentHeader};
use crate::synced::Content;

/// Content of a journal, up to its first damage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The journal's identity.
    pub journal: Option<JournalId>,
    /// Segments that were checked.
    pub segments: u64,
    /// Whole commit groups, markers included.
    pub groups: u64,
    /// Commit markers: groups without a record.
    pub markers: u64,
    /// Records in them.
    pub records: u64,
    /// Events in the records, as their producers counted them.
    pub events: u64,
    /// Bytes of the groups, padding included.
    pub bytes: u64,
    /// The first record: 0 if there is none.
    pub first_sequence: Sequence,
    /// The last record: 0 if there is none.
    pub last_sequence: Sequence,
    /// When the last group was written, Unix time in nanoseconds.
    pub last_time_ns: u64,
    /// Bytes behind the last whole group.
    pub tail: Tail,
    /// The first damage. What comes behind it isn't counted.
    pub damage: Option<Damage>,
}

/// Bytes behind the last whole group of a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// Nothing: all up to here was written whole.
    #[default]
    Clean,
    /// Bytes that are no whole group: the remains of one that was never acknowledged, one that is just being
    /// written, or bytes that changed where nothing was ever written. Recovery cuts them.
    Torn {
        /// The file.
        file: FileName,
        /// Their offset, bytes.
        offset: u64,
    },
}

impl Report {
    /// True if every byte is as a journal that ended in order leaves it.
    pub fn is_clean(&self) -> bool {
        self.damage.is_none() && self.tail == Tail::Clean
    }
}

/// Checks all segments. A journal that is being written may be checked, too; then damage in its last segment should
/// be looked for again before it is believed.
pub fn verify(directory: &mut impl Directory) -> Result<Report, Error> {
    let mut report = Report::default();
    match check_all(directory, &mut report) {
        Ok(()) => {}
        Err(Error::Damage(damage)) => report.damage = Some(damage),
        Err(error) => return Err(error),
    }
    Ok(report)
}

fn check_all(directory: &mut impl Directory, report: &mut Report) -> Result<(), Error> {
    // First: it must not say more than what is looked at afterwards.
    let synced = Content::read(directory)?;
    check_segments(directory, &synced, report)?;
    let Some(journal) = report.journal else { return Ok(()) };
    Ok(synced.check(journal, report.last_sequence)?)
}

fn check_segments(
    directory: &mut impl Directory,
    synced: &Content,
    report: &mut Report,
) -> Result<(), Error> {
    let all = segments(directory)?;
    let mut before: Option<(Scan, Option<u64>)> = None;
    for (index, &segment) in all.iter().enumerate() {
        let file = FileName::Segment(segment);
        let is_last = index + 1 == all.len();
        if is_last && never_synced(directory, segment, index == 0, synced)? {
            report.tail = Tail::Torn { file, offset: 0 };
            return Ok(());
        }
        let (header, crc) = match read_header(directory, segment) {
            Ok(Some(found)) => found,
            Ok(None) => return Err(Damage { file, offset: 0, what: Fault::SegmentHeader }.into()),
            // Since the directory was listed, retention took it away, and all before it.
            Err(error) if is_gone(&error) && is_before_all(directory, segment)? => {
                before = None;
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some((scan, torn)) = &before {
            check_chain(scan, *torn, &header)?;
        }
        report.journal = Some(header.journal);
        report.segments += 1;
        let mut scan = Scan::new(header, crc);
        let torn = check_segment(directory, &mut scan, report)?;
        if is_last && torn.is_some() {
            report.tail = Tail::Torn { file, offset: scan.at.offset };
        }
        before = Some((scan, torn));
    }
    Ok(())
}

/// True if all segments that there are come behind this one.
fn is_before_all(directory: &mut impl Directory, segment: Sequence) -> Result<bool, Error> {
    Ok(segments(directory)?.first().is_none_or(|&first| first > segment))
}

fn check_chain(before: &Scan, torn: Option<u64>, header: &SegmentHeader) -> Result<(), Error> {
    let damage =
        |what| Err(Damage { file: FileName::Segment(header.first_sequence), offset: 0, what }.into());
    match header.previous {
        Some(previous) if previous.first_sequence != before.header.first_sequence => {
            if header.journal != before.header.journal {
                return damage(Fault::Foreign);
            }
            damage(Fault::Missing { previous: previous.first_sequence })
        }
        Some(previous) if previous.journal != before.header.journal => damage(Fault::Foreign),
        _ => check_joint(before, torn, header),
    }
}

/// Counts a segment's groups; where a torn tail ends, if it has one.
fn check_segment(
    directory: &mut impl Directory,
    scan: &mut Scan,
    report: &mut Report,
) -> Result<Option<u64>, Error> {
    loop {
        match scan.next(directory, Look::Everywhere)? {
            Found::Group(header) => {
                report.groups += 1;
                report.markers += u64::from(header.records == 0);
                report.records += u64::from(header.records);
                report.events += header.events;
                report.bytes += header.padded_len() as u64;
                report.last_time_ns = header.time_ns;
                report.last_sequence = scan.at.sequence - 1;
                if report.first_sequence == 0 {
                    report.first_sequence = header.first_sequence;
                }
            }
            Found::End => return Ok(None),
            Found::Torn { end } => return Ok(Some(end)),
        }
    }
}
