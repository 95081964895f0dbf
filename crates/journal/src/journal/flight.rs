//! The one flush that is being written. It begins when the one before is on stable storage, so records gather
//! meanwhile and there is no timer.

use super::draft::Draft;
use super::{Handle, Journal, Segment, fatal, is_full};
use crate::buffer::{BLOCK, Buffer};
use crate::error::{Action, Fatal};
use crate::segment::FileName;
use crate::storage::{Failure, Operation, OperationId, Storage};

#[derive(Debug)]
pub(super) struct Flight {
    pub draft: Draft,
    step: Step,
    /// Where the rest is to be written, bytes.
    offset: u64,
    /// Bytes that are to be written, padding and a segment's header included.
    bytes: usize,
    /// Whether the name of the file is durable.
    named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The next segment has no name yet.
    Unnamed,
    Naming,
    /// Written whole or not at all, or in part.
    Unwritten,
    Writing,
    /// On stable storage, but maybe not yet under a durable name.
    Synced,
    /// There was no space; the step to go back to, and when.
    Refused {
        named: bool,
        retry_at: u64,
    },
}

impl Flight {
    pub fn retry_at(&self) -> Option<u64> {
        match self.step {
            Step::Refused { retry_at, .. } => Some(retry_at),
            _ => None,
        }
    }

    fn file(&self) -> FileName {
        FileName::Segment(self.draft.place().segment)
    }

    fn opens_segment(&self) -> bool {
        self.draft.left().is_some()
    }
}

impl Journal {
    pub(super) fn drive_flight(&mut self, storage: &mut impl Storage) {
        if self.flight.is_none() && self.is_open() {
            self.begin_flight();
        }
        let Some(flight) = &mut self.flight else { return };
        let file = flight.file();
        if let Step::Refused { named, retry_at } = flight.step
            && retry_at <= self.now.mono_ns
        {
            flight.step = if named { Step::Unwritten } else { Step::Unnamed };
        }
        match flight.step {
            Step::Unnamed => {
                flight.step = Step::Naming;
                self.start(storage, OperationId::Flush, Operation::Rename { from: FileName::Next, to: file });
            }
            Step::Unwritten => {
                flight.step = Step::Writing;
                let (offset, buffer) = (flight.offset, flight.draft.take_buffer());
                let named = flight.named;
                self.start(
                    storage,
                    OperationId::Flush,
                    Operation::Write { file, offset, buffer, sync: true },
                );
                if !named && !self.is_busy(OperationId::Directory) {
                    self.start(storage, OperationId::Directory, Operation::SyncDirectory);
                }
            }
            Step::Naming | Step::Writing | Step::Synced | Step::Refused { .. } => {}
        }
    }

    fn begin_flight(&mut self) {
        if self.full.is_empty() && self.open.is_none() && self.mark_is_due() {
            self.open_mark();
        }
        if self.full.is_empty() {
            self.close_draft();
        }
        let Some(mut draft) = self.full.pop_front() else { return };
        self.unmarked_since = None;
        draft.seal(
            self.id,
            &mut self.chain,
            self.now.unix_ns,
            self.config.segment_bytes,
            self.config.flush_bytes as u64,
        );
        let opens_segment = draft.left().is_some();
        let place = draft.place();
        self.flight = Some(Flight {
            step: if opens_segment { Step::Unnamed } else { Step::Unwritten },
            offset: if opens_segment { 0 } else { place.offset },
            bytes: draft.padded_len() + if opens_segment { BLOCK } else { 0 },
            named: !opens_segment,
            draft,
        });
    }

    pub(super) fn flight_completed(
        &mut self,
        result: Result<usize, Failure>,
        buffer: Option<Buffer>,
    ) -> Result<(), Fatal> {
        let retry_at = self.retry_at();
        let flight = self.flight.as_mut().expect("one is on its way");
        let file = flight.file();
        if let Some(buffer) = buffer {
            flight.draft.put_buffer(buffer);
        }
        let refused = match (flight.step, result) {
            (Step::Naming, Ok(_)) => {
                flight.step = Step::Unwritten;
                self.preparation.named();
                false
            }
            (Step::Naming, Err(Failure::Operation(errno))) if is_full(errno) => {
                flight.step = Step::Refused { named: false, retry_at };
                true
            }
            (Step::Naming, Err(failure)) => return Err(fatal(Action::Rename, Some(file), 0, failure)),
            (Step::Writing, Ok(written)) if written >= flight.bytes => {
                self.progress.write(flight.draft.last_sequence());
                flight.step = Step::Synced;
                false
            }
            (Step::Writing, Ok(written)) => {
                // A part of a block is written again with the rest: the same bytes at the same place.
                let whole = written - written % BLOCK;
                flight.draft_advance(whole);
                // Nothing at all, without an error: not for a loop.
                flight.step =
                    if whole > 0 { Step::Unwritten } else { Step::Refused { named: true, retry_at } };
                whole == 0
            }
            (Step::Writing, Err(Failure::Operation(errno))) if is_full(errno) => {
                flight.step = Step::Refused { named: true, retry_at };
                true
            }
            (Step::Writing, Err(failure)) => {
                if let Failure::Sync(_) = failure {
                    self.progress.write(flight.draft.last_sequence());
                }
                return Err(fatal(Action::Write, Some(file), flight.offset, failure));
            }
            (step, _) => unreachable!("nothing was started in step {step:?}"),
        };
        if refused {
            self.disk_is_full();
        }
        self.land();
        Ok(())
    }

    pub(super) fn directory_completed(&mut self, result: Result<usize, Failure>) -> Result<(), Fatal> {
        if let Err(failure) = result {
            return Err(fatal(Action::Sync, None, 0, failure));
        }
        self.flight.as_mut().expect("its file's name was made durable").named = true;
        self.land();
        Ok(())
    }

    /// Ends the flight if all of it is on stable storage, under a name that is.
    fn land(&mut self) {
        let Some(flight) = self.flight.take_if(|flight| flight.step == Step::Synced && flight.named) else {
            return;
        };
        self.progress.sync(flight.draft.last_sequence());
        // One at a time: what is sealed last is what was written.
        self.chain.synced = self.chain.number;
        self.counted.flushes += 1;
        self.counted.flushed_bytes += flight.draft.padded_len() as u64;
        if flight.draft.is_mark() {
            self.counted.marks += 1;
        } else {
            self.counted.record_bytes += (flight.draft.length() - crate::flush::HEADER_LEN) as u64;
            self.unmarked_since = Some(self.now.mono_ns);
        }
        if !self.preparation.is_refused() {
            self.full_since_ns = None;
        }
        if flight.opens_segment() {
            self.segments.push_back(Segment {
                first_sequence: flight.draft.place().segment,
                created_ns: self.now.unix_ns,
                bytes: self.config.segment_bytes,
            });
            if let Some(left) = flight.draft.left().filter(|left| left.segment != 0) {
                self.handles.push_back(Handle::Close(FileName::Segment(left.segment)));
            }
        }
        self.pool.give(flight.draft.into_buffer());
    }
}

impl Flight {
    fn draft_advance(&mut self, written: usize) {
        let mut buffer = self.draft.take_buffer();
        buffer.advance(written);
        self.draft.put_buffer(buffer);
        self.offset += written as u64;
        self.bytes -= written;
    }
}
