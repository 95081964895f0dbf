//! Retention: whole segments are removed, the oldest first. The directory is synced before the next one goes, so
//! that a power cut can't leave a hole in the chain.

use super::{Handle, Journal, fatal};
use crate::clock::nanos;
use crate::error::{Action, Fatal};
use crate::segment::FileName;
use crate::storage::{Failure, Operation, OperationId, Storage};

#[derive(Debug, Default)]
pub(super) struct Removal {
    step: Step,
    /// After a removal that failed: when to try again.
    pub retry_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Idle,
    Removing,
    /// Gone, but maybe not durably.
    Removed,
    Syncing,
}

impl Removal {
    pub fn is_under_way(&self) -> bool {
        self.step != Step::Idle
    }
}

impl Journal {
    pub(super) fn drive_removal(&mut self, storage: &mut impl Storage) {
        let due = self.removal.retry_at.is_none_or(|at| at <= self.now.mono_ns);
        if self.is_busy(OperationId::Remove) || !due {
            return;
        }
        let operation = match self.removal.step {
            Step::Idle if self.oldest_is_due() => {
                self.removal.step = Step::Removing;
                Operation::Remove { file: FileName::Segment(self.segments[0].first_sequence) }
            }
            Step::Removed => {
                self.removal.step = Step::Syncing;
                Operation::SyncDirectory
            }
            // A removal that failed is due no more: the clock was set back.
            _ => return self.removal.retry_at = None,
        };
        self.start(storage, OperationId::Remove, operation);
    }

    fn oldest_is_due(&self) -> bool {
        // The segment being written is the last in the list, and a new one comes into it when its first group is on
        // stable storage.
        let (Some(oldest), Some(next)) = (self.segments.front(), self.segments.get(1)) else { return false };
        let file = FileName::Segment(oldest.first_sequence);
        if self
            .handles
            .iter()
            .any(|handle| matches!(handle, Handle::Open(name) | Handle::Close(name) if *name == file))
        {
            return false;
        }
        let retention = &self.config.retention;
        let too_large = retention.bytes.is_some_and(|max| self.disk_bytes() > max);
        let too_old =
            retention.age.is_some_and(|max| next.created_ns.saturating_add(nanos(max)) < self.now.unix_ns);
        too_large || too_old
    }

    pub(super) fn removal_completed(&mut self, result: Result<usize, Failure>) -> Result<(), Fatal> {
        match (self.removal.step, result) {
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
                self.segments.pop_front();
                self.counted.removed += 1;
            }
            (Step::Syncing, Err(failure)) => return Err(fatal(Action::Sync, None, 0, failure)),
            (step, _) => unreachable!("nothing was started in step {step:?}"),
        }
        Ok(())
    }
}

/// Whether the file wasn't there any more, which is what was wanted.
fn is_missing(failure: Failure) -> bool {
    let (Failure::Operation(errno) | Failure::Sync(errno)) = failure;
    std::io::Error::from_raw_os_error(errno).kind() == std::io::ErrorKind::NotFound
}
