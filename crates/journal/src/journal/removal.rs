//! Retention: whole segments are removed, the oldest first, unless a consumer hasn't loaded all of one. The directory is
//! synced before the next one goes, so that a power cut can't leave a hole in the chain.

use super::{Handle, Journal, fatal, is_full};
use crate::clock::nanos;
use crate::error::{Action, Fatal};
use crate::segment::FileName;
use crate::storage::{Failure, Operation, OperationId, Storage};

#[derive(Debug, Default)]
pub(super) struct Removal {
    step: Step,
    /// True if a consumer hadn't loaded all of the segment that is being removed.
    is_unloaded: bool,
    /// After a removal that failed: when to try again.
    pub retry_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Idle,
    /// The last segment goes: the file `synced` is to say durably which sequences were given.
    Recording,
    Recorded,
    Removing,
    /// Gone, but maybe not durably.
    Removed,
    Syncing,
}

impl Removal {
    pub fn is_under_way(&self) -> bool {
        matches!(self.step, Step::Removing | Step::Removed | Step::Syncing)
    }
}

impl Journal {
    pub(super) fn drive_removal(&mut self, storage: &mut impl Storage) {
        let retention = &self.config.retention;
        let is_bounded = retention.bytes.is_some() || retention.age.is_some();
        if !is_bounded && self.removal.step == Step::Idle {
            return;
        }
        self.retire();
        let due = self.removal.retry_at.is_none_or(|at| at <= self.now.mono_ns);
        if self.is_busy(OperationId::Remove) || !due {
            return;
        }
        let operation = match self.removal.step {
            Step::Idle if self.segments.len() == 1 && self.oldest_is_due() => {
                self.removal.step = Step::Recording;
                Operation::Sync { file: FileName::Synced }
            }
            Step::Idle | Step::Recorded if self.oldest_is_due() => {
                self.removal.step = Step::Removing;
                self.removal.is_unloaded = !self.oldest_is_loaded();
                Operation::Remove { file: FileName::Segment(self.segments[0].first_sequence) }
            }
            Step::Removed => {
                self.removal.step = Step::Syncing;
                Operation::SyncDirectory
            }
            // A removal that failed is due no more: the clock was set back, or there are consumers now.
            Step::Recorded => {
                self.removal.step = Step::Idle;
                return self.removal.retry_at = None;
            }
            _ => return self.removal.retry_at = None,
        };
        self.start(storage, OperationId::Remove, operation);
    }

    fn oldest_is_due(&self) -> bool {
        // The segment being written is the last in the list, and a new one comes into it when its first group is on
        // stable storage.
        let Some(oldest) = self.segments.front() else { return false };
        let next = self.segments.get(1);
        if next.is_none() && !(self.tail.is_retired && self.tail.segment == oldest.first_sequence) {
            return false;
        }
        let file = FileName::Segment(oldest.first_sequence);
        if self
            .handles
            .iter()
            .any(|handle| matches!(handle, Handle::Open(name) | Handle::Close(name) if *name == file))
        {
            return false;
        }
        let retention = &self.config.retention;
        let is_too_large = retention.bytes.is_some_and(|max| self.disk_bytes() > max);
        let ended_ns = next.map_or(self.last_commit_ns, |next| next.created_ns);
        if self.oldest_is_loaded() {
            is_too_large && next.is_some() || self.is_too_old(ended_ns)
        } else {
            retention.age_removes_unloaded && self.is_too_old(ended_ns)
        }
    }

    fn is_too_old(&self, written_ns: u64) -> bool {
        let max = self.config.retention.age;
        max.is_some_and(|max| written_ns.saturating_add(nanos(max)) < self.now.unix_ns)
    }

    /// True if all consumers have loaded the oldest segment; so it is without consumers.
    pub(super) fn oldest_is_loaded(&self) -> bool {
        let next = self.segments.get(1).map(|next| next.first_sequence - 1);
        self.loaded.is_none_or(|loaded| loaded >= next.unwrap_or(self.progress.synced()))
    }

    /// Leaves the segment being written when all of it is too old: otherwise a journal to which nothing is appended would
    /// keep its last records for ever.
    fn retire(&mut self) {
        let is_last = self.segments.len() == 1 && self.segments[0].first_sequence == self.tail.segment;
        let is_idle = self.open.is_none() && self.full.is_empty() && self.in_flight.is_none();
        let may_go = self.oldest_is_loaded() || self.config.retention.age_removes_unloaded;
        if is_last && is_idle && may_go && !self.tail.is_retired && self.is_too_old(self.last_commit_ns) {
            self.tail.is_retired = true;
            self.tail.capacity = self.tail.offset;
            self.unmarked_since = None;
            self.handles.push_back(Handle::Close(FileName::Segment(self.tail.segment)));
        }
    }

    pub(super) fn removal_completed(&mut self, result: Result<usize, Failure>) -> Result<(), Fatal> {
        match (self.removal.step, result) {
            (Step::Recording, Ok(_)) => self.removal.step = Step::Recorded,
            (Step::Recording, Err(Failure::Operation(errno))) if is_full(errno) => {
                self.removal.step = Step::Idle;
                self.removal.retry_at = Some(self.retry_at());
                self.counted.removals_failed += 1;
            }
            (Step::Recording, Err(failure)) => {
                return Err(fatal(Action::Sync, Some(FileName::Synced), 0, failure));
            }
            (Step::Removing, Err(failure)) if !is_missing(failure) => {
                // Nothing that was promised depends on it.
                self.removal.step = Step::Idle;
                self.removal.retry_at = Some(self.retry_at());
                self.counted.removals_failed += 1;
            }
            (Step::Removing, _) => {
                self.removal.step = Step::Removed;
                self.removal.retry_at = None;
            }
            (Step::Syncing, Ok(_)) => {
                self.removal.step = Step::Idle;
                self.counted.removed_unloaded += u64::from(self.removal.is_unloaded);
                self.counted.removed += 1;
                self.segments.pop_front();
                self.find_loaded();
            }
            (Step::Syncing, Err(failure)) => return Err(fatal(Action::Sync, None, 0, failure)),
            (step, _) => unreachable!("nothing was started in step {step:?}"),
        }
        Ok(())
    }
}

/// True if the file wasn't there any more, as wanted.
fn is_missing(failure: Failure) -> bool {
    let (Failure::Operation(errno) | Failure::Sync(errno)) = failure;
    std::io::Error::from_raw_os_error(errno).kind() == std::io::ErrorKind::NotFound
}
