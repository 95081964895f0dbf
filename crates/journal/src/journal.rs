//! The journal of one shard: takes records, gathers them into commit groups, and says when they are on stable storage.

mod in_flight;
mod open_group;
mod prepare;
mod removal;

use std::collections::VecDeque;

use crate::buffer::{BLOCK, Buffer, Pool};
use crate::clock::{Now, nanos};
use crate::config::Config;
use crate::consumers::{Position, loaded_by_all};
use crate::error::{Action, AppendError, Fatal};
use crate::progress::Progress;
use crate::record::{ProducerId, Record, Sequence, encoded_len};
use crate::segment::{FileName, JournalId};
use crate::stats::Stats;
use crate::storage::{Completion, Failure, Operation, OperationId, Storage};
use crate::synced::Synced;
use in_flight::InFlight;
use open_group::OpenGroup;
use prepare::Preparation;
use removal::Removal;

/// A durable event log, without I/O: it starts operations on a [`Storage`] and is told of their completions.
///
/// One pass of whoever drives it: [`Journal::completed`] for each completion, any number of [`Journal::append`],
/// then [`Journal::drive`]. What was appended in a pass is one commit group; while it is written, the next fills. Records
/// up to [`Journal::synced`] may be acknowledged.
///
/// [`recover`](crate::recover) makes one.
#[derive(Debug)]
pub struct Journal {
    config: Config,
    id: JournalId,
    now: Now,
    progress: Progress,
    /// The last record that readers were told of.
    published: Sequence,
    pool: Pool,
    tail: Tail,
    chain: Chain,
    /// The group that appends go to.
    open: Option<OpenGroup>,
    /// Commit groups that are full and wait for those before them.
    full: VecDeque<OpenGroup>,
    in_flight: Option<InFlight>,
    /// Segments with synced records, oldest first. The last is the one being written.
    segments: VecDeque<Segment>,
    preparation: Preparation,
    /// `Config::segment_age`.
    segment_age_ns: u64,
    /// Zeros for the next segment, unless they are on their way.
    zeros: Option<Buffer>,
    removal: Removal,
    /// Positions of consumers: of each that there is, and of all of them together.
    consumers: Vec<Option<Position>>,
    loaded: Option<Sequence>,
    /// Since when records that consumers haven't loaded keep the next segment from being made, Unix time.
    held_since_ns: Option<u64>,
    /// When the last group was written, Unix time.
    last_commit_ns: u64,
    /// Operations on the file handles of segments, in order.
    handles: VecDeque<Handle>,
    /// By [`OperationId`]: true while it is on its way.
    busy: [bool; OperationId::ALL.len()],
    /// When the last group was synced, if it carried records: a commit marker is due.
    unmarked_since: Option<u64>,
    full_since_ns: Option<u64>,
    failure: Option<Fatal>,
    ending: bool,
    counted: Counted,
}

/// Place of the next group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    /// Journal of the segment.
    pub journal: JournalId,
    /// First sequence of the segment; 0 if there is none yet.
    pub segment: Sequence,
    /// Offset in the segment, bytes.
    pub offset: u64,
    /// True once retention takes the segment, so that nothing is appended to it any more.
    pub is_retired: bool,
    /// Length of the segment, bytes: 0 if there is none.
    pub capacity: u64,
    /// The most that may be written beyond the last synced group, bytes, as the segment's header promises.
    pub reach: u64,
}

impl Tail {
    pub const NONE: Self =
        Self { journal: JournalId([0; 16]), segment: 0, offset: 0, is_retired: false, capacity: 0, reach: 0 };

    /// The longest group that fits here, bytes.
    fn room(&self) -> u64 {
        self.reach.min(self.capacity - self.offset)
    }
}

/// The last group that was sealed, which the next one refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub number: u64,
    pub crc: u32,
    /// Number of the last group on stable storage.
    pub synced: u64,
}

/// A segment with synced records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub journal: JournalId,
    pub first_sequence: Sequence,
    pub created_ns: u64,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug)]
enum Handle {
    Open(FileName),
    /// Gives back what was never used of a segment, from an offset on.
    Release {
        segment: Sequence,
        offset: u64,
        capacity: u64,
    },
    Close(FileName),
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    groups: u64,
    markers: u64,
    written_bytes: u64,
    record_bytes: u64,
    removed: u64,
    removed_unloaded: u64,
    removals_failed: u64,
}

/// Findings of recovery.
#[derive(Debug)]
pub(crate) struct Start {
    pub id: JournalId,
    pub last: Sequence,
    pub tail: Tail,
    pub chain: Chain,
    pub segments: VecDeque<Segment>,
    /// When the last group was written, Unix time in nanoseconds.
    pub last_commit_ns: u64,
    /// True if the last group is a marker.
    pub is_marked: bool,
}

impl Journal {
    pub(crate) fn new(config: Config, start: Start, now: Now) -> Self {
        let handles = match start.tail.segment {
            0 => VecDeque::new(),
            segment => VecDeque::from([Handle::Open(FileName::Segment(segment))]),
        };
        Self {
            id: start.id,
            now,
            progress: Progress::recovered(start.last),
            published: start.last,
            pool: Pool::new(config.buffers, BLOCK + config.group_bytes),
            tail: start.tail,
            chain: start.chain,
            open: None,
            full: VecDeque::new(),
            in_flight: None,
            unmarked_since: (!start.is_marked).then_some(now.mono_ns),
            segments: start.segments,
            preparation: Preparation::default(),
            segment_age_ns: config.segment_age.map_or(u64::MAX, nanos),
            zeros: None,
            removal: Removal::default(),
            consumers: Vec::new(),
            loaded: None,
            held_since_ns: None,
            last_commit_ns: start.last_commit_ns,
            handles,
            busy: [false; OperationId::ALL.len()],
            full_since_ns: None,
            failure: None,
            ending: false,
            counted: Counted::default(),
            config,
        }
    }

    /// Takes a record into memory and gives its sequence. It is written by the next [`Journal::drive`].
    ///
    /// A record that was taken has its place on the disk: a disk that fills up later refuses later records only.
    pub fn append(
        &mut self,
        producer: ProducerId,
        producer_sequence: u64,
        events: u32,
        payload: &[u8],
    ) -> Result<Sequence, AppendError> {
        if self.failure.is_some() || self.ending {
            return Err(AppendError::Ended);
        }
        let (length, max) = (payload.len(), self.config.payload_max());
        if length > max {
            return Err(AppendError::TooLarge { length, max });
        }
        let bytes = encoded_len(length);
        if !self.open.as_ref().is_some_and(|open| open.fits(bytes)) {
            self.open_group(bytes)?;
        }
        let sequence = self.progress.appended() + 1;
        let open = self.open.as_mut().expect("there is one with room");
        open.push(&Record { sequence, producer, producer_sequence, events, payload });
        self.progress.append(sequence);
        Ok(sequence)
    }

    /// Starts what there is to do: the next group, and the work in the background. To be called after appends, after
    /// completions and at [`Journal::next_timeout`].
    pub fn drive(&mut self, now: Now, storage: &mut impl Storage) -> Result<(), Fatal> {
        self.now = now;
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        self.publish(self.progress.synced(), storage);
        self.drive_handles(storage);
        self.drive_commit(storage);
        if !self.ending {
            self.drive_preparation(storage);
            self.drive_removal(storage);
        }
        Ok(())
    }

    /// Tells what became of an operation. An error says that the process must end: [`Fatal`].
    pub fn completed(&mut self, now: Now, completion: Completion) -> Result<(), Fatal> {
        self.now = now;
        let Completion { id, result, buffer } = completion;
        assert!(std::mem::take(&mut self.busy[id as usize]), "{id:?} completes and wasn't started");
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let result = match id {
            OperationId::Commit => self.commit_completed(result, buffer),
            OperationId::Directory => self.directory_completed(result),
            OperationId::Prepare => self.preparation_completed(result, buffer),
            OperationId::Remove => self.removal_completed(result),
            OperationId::Handle => self.handle_completed(result),
        };
        if let Err(failure) = result {
            self.failure = Some(failure);
        }
        result
    }

    /// The last record on stable storage: it and all before may be acknowledged.
    pub fn synced(&self) -> Sequence {
        self.progress.synced()
    }

    /// Says that all up to `to` has been acknowledged.
    ///
    /// # Panics
    /// If that is beyond [`Journal::synced`]: the promise would be broken already.
    pub fn acknowledge(&mut self, to: Sequence) {
        self.progress.acknowledge(to);
    }

    /// True if there is a segment to append to: right after the start of a new journal it is still made ready.
    pub fn is_ready(&self) -> bool {
        self.failure.is_none() && !self.ending && (self.tail.segment != 0 || self.preparation.is_ready())
    }

    /// When [`Journal::drive`] has something to do although nothing else happens; on the monotonic clock. Retention by
    /// age doesn't count: it is looked at in each call.
    pub fn next_timeout(&self) -> Option<u64> {
        if self.failure.is_some() {
            return None;
        }
        let marker_after = nanos(self.config.marker_after);
        let has_room = self.tail.room() >= BLOCK as u64;
        let marker = self.unmarked_since.filter(|_| has_room).map(|since| since.saturating_add(marker_after));
        let in_flight = self.in_flight.as_ref().and_then(InFlight::retry_at);
        let idle = |id| !self.is_busy(id) && !self.ending;
        let prepare = self.preparation.retry_at.filter(|_| idle(OperationId::Prepare));
        let remove = self.removal.retry_at.filter(|_| idle(OperationId::Remove));
        [marker, in_flight, prepare, remove].into_iter().flatten().min()
    }

    /// Takes no more records, and brings what there is to stable storage with a marker behind it. Goes on in
    /// [`Journal::drive`] until [`Journal::has_ended`].
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// True once all that [`Journal::end`] began is done and no operation is on the way.
    pub fn has_ended(&self) -> bool {
        let waiting =
            self.open.is_some() || !self.full.is_empty() || self.in_flight.is_some() || self.marker_is_due();
        self.ending && !waiting && !self.busy.contains(&true)
    }

    /// Says how far the journal's consumers are: one entry for each, `None` for one that has loaded nothing. Without this,
    /// and with no entry, retention goes by size and age alone.
    pub fn set_consumers(&mut self, consumers: Vec<Option<Position>>) {
        self.consumers = consumers;
        self.find_loaded();
    }

    fn find_loaded(&mut self) {
        let segments = self.segments.iter().map(|segment| (segment.journal, segment.first_sequence));
        self.loaded = loaded_by_all(&self.consumers, &segments, self.id, self.progress.synced());
    }

    /// Why the journal has failed, if it has.
    pub fn failure(&self) -> Option<Fatal> {
        self.failure
    }

    /// The journal's identity, as in all of its files.
    pub fn id(&self) -> JournalId {
        self.id
    }

    /// The oldest record that is kept, whatever is being removed; 0 if there is no segment.
    pub fn first_sequence(&self) -> Sequence {
        let kept = if self.removal.is_under_way() { 1 } else { 0 };
        self.segments.get(kept).map_or(0, |segment| segment.first_sequence)
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        let in_flight = self.in_flight.iter().map(|in_flight| in_flight.group.length());
        let waiting = self.open.iter().chain(&self.full).map(OpenGroup::length).chain(in_flight);
        Stats {
            progress: self.progress,
            first_sequence: self.first_sequence(),
            groups: self.counted.groups,
            markers: self.counted.markers,
            written_bytes: self.counted.written_bytes,
            record_bytes: self.counted.record_bytes,
            segments: self.segments.len(),
            removed: self.counted.removed,
            removed_unloaded: self.counted.removed_unloaded,
            loaded: self.loaded,
            unloaded_bytes: self.unloaded().map(|segment| segment.bytes).sum(),
            unloaded_since_ns: self.unloaded().next().map(|segment| segment.created_ns),
            held_since_ns: self.held_since_ns,
            removals_failed: self.counted.removals_failed,
            disk_bytes: self.disk_bytes(),
            waiting_bytes: waiting.sum(),
            waiting_bytes_max: self.config.buffers * self.config.group_bytes,
            full_since_ns: self.full_since_ns,
        }
    }

    /// Segments with a record that a consumer hasn't loaded, oldest first.
    fn unloaded(&self) -> impl Iterator<Item = &Segment> {
        let loaded = self.loaded.unwrap_or(Sequence::MAX);
        let ends = self.segments.iter().skip(1).map(|next| next.first_sequence - 1);
        let ends = ends.chain([self.progress.synced()]);
        self.segments.iter().zip(ends).filter(move |(_, last)| *last > loaded).map(|(segment, _)| segment)
    }

    fn disk_bytes(&self) -> u64 {
        let segments: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        let begins = self.in_flight.as_ref().is_some_and(InFlight::has_named_segment);
        let begun = if begins { self.config.segment_bytes } else { 0 };
        segments + begun + self.preparation.bytes(self.config.segment_bytes)
    }

    /// Shows readers that all up to `synced` is on stable storage.
    fn publish(&mut self, synced: Sequence, storage: &mut impl Storage) {
        if synced > self.published {
            storage.publish(Synced { journal: self.id, sequence: synced });
            self.published = synced;
        }
    }

    fn start(&mut self, storage: &mut impl Storage, id: OperationId, operation: Operation) {
        assert!(!std::mem::replace(&mut self.busy[id as usize], true), "{id:?} is on its way already");
        storage.start(id, operation);
    }

    fn is_busy(&self, id: OperationId) -> bool {
        self.busy[id as usize]
    }

    fn retry_at(&self) -> u64 {
        self.now.mono_ns.saturating_add(nanos(self.config.retry_after))
    }

    fn disk_is_full(&mut self) {
        self.full_since_ns.get_or_insert(self.now.unix_ns);
    }

    fn drive_handles(&mut self, storage: &mut impl Storage) {
        if self.is_busy(OperationId::Handle) {
            return;
        }
        let operation = match self.handles.front() {
            Some(&Handle::Open(file)) => Operation::Open { file },
            Some(&Handle::Release { segment, offset, capacity }) => {
                Operation::Release { file: FileName::Segment(segment), offset, bytes: capacity - offset }
            }
            Some(&Handle::Close(file)) => Operation::Close { file },
            None => return,
        };
        self.start(storage, OperationId::Handle, operation);
    }

    fn handle_completed(&mut self, result: Result<usize, Failure>) -> Result<(), Fatal> {
        match (self.handles.pop_front().expect("the one that was started"), result) {
            (Handle::Open(file), Err(failure)) => Err(fatal(Action::Open, Some(file), 0, failure)),
            (Handle::Release { segment, offset, .. }, Ok(_)) => {
                let of_file = |one: &&mut Segment| one.first_sequence == segment;
                if let Some(segment) = self.segments.iter_mut().find(of_file) {
                    segment.bytes = offset;
                }
                Ok(())
            }
            // A file system that can't do it keeps the space. Whatever closing says: all of a full segment is on stable
            // storage.
            (Handle::Open(_) | Handle::Release { .. } | Handle::Close(_), _) => Ok(()),
        }
    }

    /// True while the segment being written is open.
    fn is_open(&self) -> bool {
        !self.handles.iter().any(|handle| matches!(handle, Handle::Open(_)))
    }
}

/// The failure that ends the journal.
fn fatal(action: Action, file: Option<FileName>, offset: u64, failure: Failure) -> Fatal {
    match failure {
        Failure::Operation(errno) => Fatal { action, file, offset, errno },
        Failure::Sync(errno) => Fatal { action: Action::Sync, file, offset, errno },
    }
}

/// True for an errno that says that there is no space.
fn is_full(errno: i32) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(std::io::Error::from_raw_os_error(errno).kind(), StorageFull | QuotaExceeded)
}
