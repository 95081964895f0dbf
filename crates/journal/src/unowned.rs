//! Retention of journals that no process writes: those of shards that there were once, and of processes that were
//! replaced. They have nobody who would do it, and personal data is in them as well.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::clock::nanos;
use crate::config::Retention;
use crate::consumers::{consumers, loaded_by_all};
use crate::directory::Directory;
use crate::error::Error;
use crate::files::FileDirectory;
use crate::follow::journals;
use crate::reader::segments;
use crate::record::Sequence;
use crate::recovery::record;
use crate::scan::{Found, Look, Scan, read_header};
use crate::segment::{FileName, SegmentHeader};
use crate::synced::Synced;

/// A journal of which something was removed, or should have been.
#[derive(Debug)]
pub struct Removed {
    /// Directory of the journal.
    pub path: PathBuf,
    /// Segments that were removed.
    pub segments: u64,
    /// Why not all that was due could be removed.
    pub error: Option<Error>,
}

/// A journal as its segments' headers show it.
struct Survey {
    segments: Vec<(SegmentHeader, u64)>,
    /// The last record that all consumers have loaded.
    loaded: Option<Sequence>,
    /// Bytes of all files.
    bytes: u64,
    has_next: bool,
}

/// Removes what `retention` doesn't keep from the journals in `root` that no process writes; its size is for all journals
/// of the directory together. Each journal is locked meanwhile; one that is in use is left to its owner.
///
/// # Errors
/// If the directory can't be read.
pub fn remove_unowned(root: &Path, retention: &Retention, now_ns: u64) -> io::Result<Vec<Removed>> {
    let paths = journals(root)?;
    let bytes = paths.iter().filter_map(|path| survey(path).ok()).map(|survey| survey.bytes).sum();
    let mut bound = Bound { retention, now_ns, bytes };
    let mut all = Vec::new();
    for path in paths {
        let mut segments = 0;
        let result = bound.maintain(&path, &mut segments);
        let error = result.err().filter(|error| !matches!(error, Error::Locked));
        if segments > 0 || error.is_some() {
            all.push(Removed { path, segments, error });
        }
    }
    Ok(all)
}

struct Bound<'a> {
    retention: &'a Retention,
    now_ns: u64,
    /// Bytes of all journals.
    bytes: u64,
}

impl Bound<'_> {
    fn maintain(&mut self, path: &Path, removed: &mut u64) -> Result<(), Error> {
        // Locked only where something is due: a process that begins meanwhile would have to take another journal.
        let before = survey(path)?;
        if !before.has_next && !self.oldest_is_due(path, &before)? {
            return Ok(());
        }
        let mut directory = FileDirectory::open_exclusive(path)?;
        if before.has_next {
            let next = directory.length(FileName::Next).unwrap_or(0);
            remove(&mut directory, FileName::Next)?;
            self.bytes = self.bytes.saturating_sub(next);
        }
        loop {
            let survey = survey(path)?;
            if !self.oldest_is_due(path, &survey)? {
                return Ok(());
            }
            let (oldest, bytes) = &survey.segments[0];
            if survey.segments.len() == 1 {
                let last = end_of(&mut directory, oldest)?.0;
                record(&mut directory, Synced { journal: oldest.journal, sequence: last })?;
            }
            remove(&mut directory, FileName::Segment(oldest.first_sequence))?;
            self.bytes = self.bytes.saturating_sub(*bytes);
            *removed += 1;
        }
    }

    fn oldest_is_due(&self, path: &Path, survey: &Survey) -> Result<bool, Error> {
        let Some((oldest, _)) = survey.segments.first() else { return Ok(false) };
        let next = survey.segments.get(1).map(|(next, _)| next);
        let is_too_large = self.retention.bytes.is_some_and(|max| self.bytes > max);
        // Reading all of the last segment is for when it may be due.
        let may_be_due =
            is_too_large || self.is_too_old(next.map_or(oldest.created_ns, |next| next.created_ns));
        if !may_be_due {
            return Ok(false);
        }
        let (last, ended_ns) = match next {
            Some(next) => (next.first_sequence - 1, next.created_ns),
            None if !is_too_large && !self.is_too_old(changed_ns(path, oldest)) => return Ok(false),
            None => end_of(&mut FileDirectory::open(path), oldest)?,
        };
        let is_loaded = survey.loaded.is_none_or(|loaded| loaded >= last);
        let may_go = is_loaded || self.retention.age_removes_unloaded;
        Ok(is_too_large && is_loaded || may_go && self.is_too_old(ended_ns))
    }

    fn is_too_old(&self, written_ns: u64) -> bool {
        self.retention.age.is_some_and(|max| written_ns.saturating_add(nanos(max)) < self.now_ns)
    }
}

fn survey(path: &Path) -> Result<Survey, Error> {
    let mut directory = FileDirectory::open(path);
    let has_next = directory.list().map_err(Error::io("listing", None))?.contains(&FileName::Next);
    let mut headers = Vec::new();
    for segment in segments(&mut directory)? {
        // One without a header was never begun: recovery removes it.
        headers.extend(read_header(&mut directory, segment)?.map(|(header, _)| header));
    }
    let bytes = |index: usize, header: &SegmentHeader| {
        let next: Option<&SegmentHeader> = headers.get(index + 1);
        next.and_then(|next| next.previous).map_or(header.capacity, |previous| previous.end)
    };
    let held: Vec<_> =
        headers.iter().enumerate().map(|(index, header)| (*header, bytes(index, header))).collect();
    let positions: Vec<_> = consumers(path)
        .map_err(Error::io("listing consumers of", None))?
        .into_iter()
        .map(|consumer| consumer.position.unwrap_or(None))
        .collect();
    let loaded = headers.last().and_then(|last| {
        let ids = headers.iter().map(|header| (header.journal, header.first_sequence));
        loaded_by_all(&positions, &ids, last.journal, Sequence::MAX)
    });
    let next = if has_next { directory.length(FileName::Next).unwrap_or(0) } else { 0 };
    Ok(Survey {
        bytes: held.iter().map(|(_, bytes)| bytes).sum::<u64>() + next,
        segments: held,
        loaded,
        has_next,
    })
}

/// The last record of a segment that is the last, and when its last group was written.
fn end_of(directory: &mut FileDirectory, header: &SegmentHeader) -> Result<(Sequence, u64), Error> {
    let Some((header, crc)) = read_header(directory, header.first_sequence)? else {
        return Ok((header.first_sequence - 1, header.created_ns));
    };
    let mut scan = Scan::new(header, crc);
    let mut time_ns = header.created_ns;
    while let Found::Group(group) = scan.next(directory, Look::Reach)? {
        time_ns = group.time_ns;
    }
    Ok((scan.at.sequence - 1, time_ns))
}

/// When a segment's file was changed the last time, as the file system says: not before its last group was written.
fn changed_ns(path: &Path, header: &SegmentHeader) -> u64 {
    let file = path.join(FileName::Segment(header.first_sequence).to_string());
    let changed = fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
    changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, nanos)
}

fn remove(directory: &mut FileDirectory, file: FileName) -> Result<(), Error> {
    directory.remove(file).map_err(Error::io("removing", Some(file)))?;
    directory.sync_directory().map_err(Error::io("fsync of", None))
}
