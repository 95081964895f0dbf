//! The in-flight group, the one that is being written. Its write begins when the one before is on stable storage, so records gather
//! meanwhile and there is no timer.

use super::open_group::OpenGroup;
use super::{Handle, Journal, Segment, fatal, is_full};
use crate::buffer::{BLOCK, Buffer};
use crate::error::{Action, Fatal};
use crate::segment::FileName;
use crate::storage::{Failure, Operation, OperationId, Storage};

#[derive(Debug)]
pub(super) struct InFlight {
    pub group: OpenGroup,
    step: Step,
    /// Offset of the rest, bytes.
    offset: u64,
    /// Bytes that are to be written, padding and a segment's header included.
    bytes: usize,
    /// True once the name of the file is durable.
    named: bool,
    /// True once the file `synced` says durably that the segment holds records. Then a segment that was removed is missed.
    recorded: bool,
    /// After the disk was full for that: when to try again.
    record_at: Option<u64>,
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

impl InFlight {
    pub fn retry_at(&self) -> Option<u64> {
        match self.step {
            Step::Refused { retry_at, .. } => Some(retry_at),
            _ => self.record_at,
        }
    }

    fn file(&self) -> FileName {
        FileName::Segment(self.group.place().segment)
    }

    /// True if its segment has its name, and isn't among those with synced records yet.
    pub fn has_named_segment(&self) -> bool {
        self.opens_segment()
            && !matches!(self.step, Step::Unnamed | Step::Naming | Step::Refused { named: false, .. })
    }

    fn opens_segment(&self) -> bool {
        self.group.left().is_some()
    }
}

impl Journal {
    pub(super) fn drive_commit(&mut self, storage: &mut impl Storage) {
        if self.in_flight.is_none() && self.is_open() {
            self.begin_commit();
        }
        let Some(in_flight) = &mut self.in_flight else { return };
        let file = in_flight.file();
        if let Step::Refused { named, retry_at } = in_flight.step
            && retry_at <= self.now.mono_ns
        {
            in_flight.step = if named { Step::Unwritten } else { Step::Unnamed };
        }
        match in_flight.step {
            Step::Unnamed => {
                in_flight.step = Step::Naming;
                self.start(
                    storage,
                    OperationId::Commit,
                    Operation::Rename { from: FileName::Next, to: file },
                );
            }
            Step::Unwritten => {
                in_flight.step = Step::Writing;
                let (offset, buffer) = (in_flight.offset, in_flight.group.take_buffer());
                let named = in_flight.named;
                self.start(
                    storage,
                    OperationId::Commit,
                    Operation::Write { file, offset, buffer, sync: true },
                );
                if !named && !self.is_busy(OperationId::Directory) {
                    self.start(storage, OperationId::Directory, Operation::SyncDirectory);
                }
            }
            Step::Synced if in_flight.named && !in_flight.recorded => self.record(storage),
            Step::Naming | Step::Writing | Step::Synced | Step::Refused { .. } => {}
        }
    }

    /// Has the file `synced` say durably that the new segment holds records, before any of them counts as synced.
    fn record(&mut self, storage: &mut impl Storage) {
        let in_flight = self.in_flight.as_mut().expect("it is on stable storage");
        let is_due = in_flight.record_at.is_none_or(|at| at <= self.now.mono_ns);
        let last = in_flight.group.last_sequence();
        if is_due && !self.is_busy(OperationId::Directory) {
            self.publish(last, storage);
            self.start(storage, OperationId::Directory, Operation::Sync { file: FileName::Synced });
        }
    }

    fn begin_commit(&mut self) {
        if self.full.is_empty() && self.open.is_none() && self.marker_is_due() {
            self.open_marker();
        }
        if self.full.is_empty() {
            self.close_group();
        }
        let Some(mut group) = self.full.pop_front() else { return };
        self.unmarked_since = None;
        group.seal(
            self.id,
            &mut self.chain,
            self.now.unix_ns,
            self.config.segment_bytes,
            self.config.group_bytes as u64,
        );
        let opens_segment = group.left().is_some();
        let place = group.place();
        self.in_flight = Some(InFlight {
            step: if opens_segment { Step::Unnamed } else { Step::Unwritten },
            offset: if opens_segment { 0 } else { place.offset },
            bytes: group.padded_len() + if opens_segment { BLOCK } else { 0 },
            named: !opens_segment,
            recorded: !opens_segment,
            record_at: None,
            group,
        });
    }

    pub(super) fn commit_completed(
        &mut self,
        result: Result<usize, Failure>,
        buffer: Option<Buffer>,
    ) -> Result<(), Fatal> {
        let retry_at = self.retry_at();
        let in_flight = self.in_flight.as_mut().expect("one is on its way");
        let file = in_flight.file();
        if let Some(buffer) = buffer {
            in_flight.group.put_buffer(buffer);
        }
        let refused = match (in_flight.step, result) {
            (Step::Naming, Ok(_)) => {
                in_flight.step = Step::Unwritten;
                self.preparation.named();
                false
            }
            (Step::Naming, Err(Failure::Operation(errno))) if is_full(errno) => {
                in_flight.step = Step::Refused { named: false, retry_at };
                true
            }
            (Step::Naming, Err(failure)) => return Err(fatal(Action::Rename, Some(file), 0, failure)),
            (Step::Writing, Ok(written)) if written >= in_flight.bytes => {
                self.progress.write(in_flight.group.last_sequence());
                in_flight.step = Step::Synced;
                false
            }
            (Step::Writing, Ok(written)) => {
                // A part of a block is written again with the rest: the same bytes at the same place.
                let whole = written - written % BLOCK;
                in_flight.advance(whole);
                // Nothing at all, without an error: not for a loop.
                in_flight.step =
                    if whole > 0 { Step::Unwritten } else { Step::Refused { named: true, retry_at } };
                whole == 0
            }
            (Step::Writing, Err(Failure::Operation(errno))) if is_full(errno) => {
                in_flight.step = Step::Refused { named: true, retry_at };
                true
            }
            (Step::Writing, Err(failure)) => {
                if let Failure::Sync(_) = failure {
                    self.progress.write(in_flight.group.last_sequence());
                }
                return Err(fatal(Action::Write, Some(file), in_flight.offset, failure));
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
        let retry_at = self.retry_at();
        let in_flight = self.in_flight.as_mut().expect("it began a segment");
        match result {
            Err(failure) if !in_flight.named => return Err(fatal(Action::Sync, None, 0, failure)),
            Err(Failure::Operation(errno)) if is_full(errno) => {
                in_flight.record_at = Some(retry_at);
                self.disk_is_full();
            }
            Err(failure) => return Err(fatal(Action::Sync, Some(FileName::Synced), 0, failure)),
            Ok(_) if !in_flight.named => in_flight.named = true,
            Ok(_) => in_flight.recorded = true,
        }
        self.land();
        Ok(())
    }

    /// Ends the flight of the group if all of it is on stable storage, under a name that is.
    fn land(&mut self) {
        let Some(in_flight) = self
            .in_flight
            .take_if(|in_flight| in_flight.step == Step::Synced && in_flight.named && in_flight.recorded)
        else {
            return;
        };
        self.progress.sync(in_flight.group.last_sequence());
        // One at a time: what is sealed last is what was written.
        self.chain.synced = self.chain.number;
        self.last_commit_ns = self.now.unix_ns;
        self.counted.groups += 1;
        self.counted.written_bytes += in_flight.group.padded_len() as u64;
        if in_flight.group.is_marker() {
            self.counted.markers += 1;
        } else {
            self.counted.record_bytes += (in_flight.group.length() - crate::group::HEADER_LEN) as u64;
            self.unmarked_since = Some(self.now.mono_ns);
        }
        if !self.preparation.is_refused() {
            self.full_since_ns = None;
        }
        if in_flight.opens_segment() {
            self.segments.push_back(Segment {
                journal: self.id,
                first_sequence: in_flight.group.place().segment,
                created_ns: self.now.unix_ns,
                bytes: self.config.segment_bytes,
            });
            if let Some(left) = in_flight.group.left().filter(|left| left.segment != 0 && !left.is_retired) {
                if left.capacity > left.offset {
                    self.handles.push_back(Handle::Release {
                        segment: left.segment,
                        offset: left.offset,
                        capacity: left.capacity,
                    });
                }
                self.handles.push_back(Handle::Close(FileName::Segment(left.segment)));
            }
        }
        self.pool.give(in_flight.group.into_buffer());
    }
}

impl InFlight {
    fn advance(&mut self, written: usize) {
        let mut buffer = self.group.take_buffer();
        buffer.advance(written);
        self.group.put_buffer(buffer);
        self.offset += written as u64;
        self.bytes -= written;
    }
}
