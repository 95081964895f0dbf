//! The next segment is made ready while the current one fills: created, zeroed in pieces, synced. Writing into
//! blocks that were written before needs no metadata: docs/journal.md has the figures.

use super::{Journal, fatal, is_full};
use crate::buffer::{BLOCK, Buffer};
use crate::error::{Action, Fatal};
use crate::segment::FileName;
use crate::storage::{Failure, Operation, OperationId, Storage};

#[derive(Debug, Default)]
pub(super) struct Preparation {
    step: Step,
    /// After the disk was full: when to go on.
    pub retry_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Absent,
    Creating,
    /// Zeroed up to here, bytes.
    Filling(u64),
    Writing(u64),
    Syncing,
    Ready,
    /// A group is going to be its first, and gives it a name.
    Promised,
}

impl Preparation {
    pub fn is_ready(&self) -> bool {
        self.step == Step::Ready
    }

    pub fn is_refused(&self) -> bool {
        self.retry_at.is_some()
    }

    pub fn promise(&mut self) {
        assert_eq!(self.step, Step::Ready);
        self.step = Step::Promised;
    }

    pub fn named(&mut self) {
        assert_eq!(self.step, Step::Promised);
        self.step = Step::Absent;
    }

    /// Bytes on disk, or soon to be.
    pub fn bytes(&self, segment: u64) -> u64 {
        if self.step == Step::Absent { 0 } else { segment }
    }
}

impl Journal {
    pub(super) fn drive_preparation(&mut self, storage: &mut impl Storage) {
        let due = self.preparation.retry_at.is_none_or(|at| at <= self.now.mono_ns);
        if self.is_busy(OperationId::Prepare) || !due {
            return;
        }
        if self.preparation.step == Step::Absent && self.is_held() {
            self.held_since_ns.get_or_insert(self.now.unix_ns);
            return;
        }
        self.held_since_ns = None;
        let operation = match self.preparation.step {
            Step::Absent => {
                self.preparation.step = Step::Creating;
                Operation::Create { file: FileName::Next, bytes: self.config.segment_bytes }
            }
            Step::Filling(done) if done == self.config.segment_bytes => {
                self.preparation.step = Step::Syncing;
                Operation::Sync { file: FileName::Next }
            }
            Step::Filling(done) if done < self.zeroed_target() => {
                self.preparation.step = Step::Writing(done);
                let piece = (self.config.zero_bytes as u64).min(self.config.segment_bytes - done) as usize;
                let mut buffer = self.zeros.take().unwrap_or_else(|| Buffer::new(self.config.zero_bytes));
                buffer.set_to_write(0..piece);
                Operation::Write { file: FileName::Next, offset: done, buffer, sync: false }
            }
            _ => return,
        };
        self.start(storage, OperationId::Prepare, operation);
    }

    /// Bytes of the next segment that are to be zeroed by now: all of it by the time that half of the current one is used,
    /// so that each append pays a little of it, and none waits for it. At once where the current one doesn't hold the
    /// largest group any more: an append may need the next.
    fn zeroed_target(&self) -> u64 {
        let size = self.config.segment_bytes;
        if self.tail.room() < self.config.group_bytes as u64
            || self.segment_is_older_than(self.segment_age_ns / 8 * 7)
        {
            return size;
        }
        let share = 2 * u128::from(self.tail.offset) * u128::from(size) / u128::from(self.tail.capacity);
        u64::try_from(share).unwrap_or(size).min(size)
    }

    /// True if the segment that is appended to is older than this, nanoseconds.
    pub(super) fn segment_is_older_than(&self, age_ns: u64) -> bool {
        self.segments.back().is_some_and(|segment| {
            self.now.unix_ns.saturating_sub(segment.created_ns) >= age_ns
                && segment.first_sequence == self.tail.segment
        })
    }

    /// True if another segment would take more than the journal may, and all that is there must stay for its consumers.
    fn is_held(&self) -> bool {
        let Some(max) = self.config.retention.bytes.filter(|_| self.loaded.is_some()) else { return false };
        self.disk_bytes() + self.config.segment_bytes > max && !self.oldest_is_loaded()
    }

    pub(super) fn preparation_completed(
        &mut self,
        result: Result<usize, Failure>,
        buffer: Option<Buffer>,
    ) -> Result<(), Fatal> {
        self.zeros = buffer.or(self.zeros.take());
        let (action, offset, back) = match self.preparation.step {
            Step::Creating => (Action::Create, 0, Step::Absent),
            Step::Writing(done) => (Action::Write, done, Step::Filling(done)),
            Step::Syncing => (Action::Sync, 0, Step::Syncing),
            step => unreachable!("nothing was started in step {step:?}"),
        };
        let next = match (back, result) {
            (Step::Absent, Ok(_)) => Step::Filling(0),
            (Step::Filling(done), Ok(written)) if written >= BLOCK => {
                Step::Filling(done + (written - written % BLOCK) as u64)
            }
            (Step::Syncing, Ok(_)) => {
                // Not needed again for a while.
                self.zeros = None;
                Step::Ready
            }
            (Step::Absent | Step::Filling(_), Err(Failure::Operation(errno))) if is_full(errno) => {
                return self.preparation_refused(back);
            }
            (_, Ok(_)) => return self.preparation_refused(back),
            (_, Err(failure)) => return Err(fatal(action, Some(FileName::Next), offset, failure)),
        };
        if self.preparation.retry_at.take().is_some()
            && self.in_flight.as_ref().is_none_or(|f| f.retry_at().is_none())
        {
            self.full_since_ns = None;
        }
        self.preparation.step = next;
        Ok(())
    }

    fn preparation_refused(&mut self, back: Step) -> Result<(), Fatal> {
        self.preparation.step = back;
        self.preparation.retry_at = Some(self.retry_at());
        self.disk_is_full();
        Ok(())
    }
}
