//! The task that sends what is kept, in its order, and removes what the servers have.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tickstream_client::EncodedBatch;
use tokio::{task::JoinHandle, time};

use super::{Segment, Shared, frame};
use crate::upstream::Upstream;

/// Batches that are on their way at a time.
const IN_FLIGHT_MAX: usize = 8;
const RETRY_LEAST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// File of the place up to which batches were sent.
const NAME: &str = "sent";
/// Pause where the disk can't be read.
const DISK_PAUSE: Duration = Duration::from_secs(5);

pub(super) async fn run(shared: Arc<Shared>, upstream: Arc<Upstream>) {
    let mut place = Place::load(&shared);
    loop {
        let grown = shared.grown.notified();
        match place.next(&shared) {
            Ok(Some(batches)) => send(&shared, &upstream, batches).await,
            Ok(None) if place.remove_sent(&shared) => {}
            Ok(None) => {
                place.save(&shared);
                grown.await;
            }
            Err(error) => {
                tracing::error!(%error, "the disk queue can't be read");
                time::sleep(DISK_PAUSE).await;
            }
        }
    }
}

/// The place up to which batches were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    segment: u64,
    offset: u64,
}

impl Place {
    /// As it was when a process before had sent everything. Where it crashed since, some goes twice, which the servers
    /// know by the ids.
    pub(super) fn load(shared: &Shared) -> Self {
        let text = std::fs::read_to_string(shared.dir.join(NAME)).unwrap_or_default();
        let mut numbers = text.split(' ').map(|word| word.trim().parse().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(segment), Some(offset)) => Self { segment, offset },
            _ => Self::default(),
        }
    }

    /// Has everything in a directory sent from its beginning.
    pub(super) fn forget(dir: &Path) -> io::Result<()> {
        match std::fs::remove_file(dir.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn save(&self, shared: &Shared) {
        let new = shared.dir.join("sent.new");
        let Self { segment, offset } = self;
        let saved = std::fs::write(&new, format!("{segment} {offset}\n"))
            .and_then(|()| std::fs::rename(&new, shared.dir.join(NAME)));
        if let Err(error) = saved {
            tracing::debug!(%error, "the place in the disk queue isn't kept");
        }
    }

    /// The next batches of the oldest segment; `None`: all of it was sent.
    fn next(&mut self, shared: &Shared) -> io::Result<Option<Vec<EncodedBatch>>> {
        let Some(Segment { number, length }) = shared.segments().first().copied() else { return Ok(None) };
        if number != self.segment {
            *self = Self { segment: number, offset: 0 };
        }
        if self.offset >= length {
            return Ok(None);
        }
        let mut bytes = vec![0; (length - self.offset) as usize];
        File::open(shared.path(number))?.read_exact_at(&mut bytes, self.offset)?;
        let (mut batches, mut at) = (Vec::new(), 0);
        while let Some((batch, len)) = frame::decoded(&bytes[at..]) {
            batches.push(batch);
            at += len;
        }
        if at == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("segment {number} is damaged at {}", self.offset),
            ));
        }
        self.offset += at as u64;
        Ok(Some(batches))
    }

    /// Removes the oldest segment, which was sent, unless it is appended to. Tells whether it has.
    fn remove_sent(&self, shared: &Shared) -> bool {
        let mut segments = shared.segments();
        // The last one may grow; it goes when there is another one behind it.
        let is_over = segments.len() > 1 && segments[0].number == self.segment;
        if !is_over {
            return false;
        }
        let Segment { number, length } = segments.remove(0);
        shared.bytes.fetch_sub(length, Ordering::Relaxed);
        if let Err(error) = std::fs::remove_file(shared.path(number)) {
            tracing::warn!(%error, segment = number, "a segment that was sent can't be removed: a restart sends it again");
        }
        true
    }
}

/// Sends batches until the servers have all of them.
async fn send(shared: &Arc<Shared>, upstream: &Arc<Upstream>, batches: Vec<EncodedBatch>) {
    let mut in_flight: VecDeque<JoinHandle<()>> = VecDeque::new();
    for batch in batches {
        if in_flight.len() >= IN_FLIGHT_MAX
            && let Some(first) = in_flight.pop_front()
        {
            // A panic of the task has been told by the runtime.
            _ = first.await;
        }
        in_flight.push_back(tokio::spawn(deliver(shared.clone(), upstream.clone(), batch)));
    }
    for task in in_flight {
        _ = task.await;
    }
}

async fn deliver(shared: Arc<Shared>, upstream: Arc<Upstream>, batch: EncodedBatch) {
    loop {
        let retry_after = match upstream.submit(batch.clone()).await {
            Ok(answer) => {
                let last = answer.rejected.iter().filter(|rejection| !rejection.retryable).count();
                if let Some(first) = answer.rejected.iter().find(|rejection| !rejection.retryable)
                    && answer.rejected.len() == last
                {
                    let (code, message) = (&first.code, &first.message);
                    tracing::warn!(count = last, code, message, "events that were kept were rejected");
                    shared.rejected.fetch_add(last as u64, Ordering::Relaxed);
                }
                if answer.rejected.len() == last {
                    return;
                }
                answer.retry_after
            }
            Err(unavailable) => unavailable.retry_after,
        };
        time::sleep(retry_after.clamp(RETRY_LEAST, RETRY_MOST)).await;
    }
}
