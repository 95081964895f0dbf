//! The disk queue of an agent: events are synced to it before their sender is answered, and go to the servers in their
//! order when they can.
//!
//! The spool is a directory of segments, each a file of frames (`frame`). One thread appends and syncs (`appender`), one task
//! sends and removes what the servers have (`forwarder`). A segment goes when all of it is stored; after a crash the
//! oldest one is sent from its beginning, and the servers know by their ids what they have.

mod appender;
mod forwarder;
mod frame;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tickstream_client::EncodedBatch;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{directory, upstream::Upstream};

/// Bytes after which a new segment begins.
const SEGMENT_BYTES: u64 = 4 << 20;
/// File that keeps the last segment that was damaged.
const DAMAGED: &str = "queue.damaged";
/// Batches that wait for the thread.
const APPENDS_MAX: usize = 1024;

/// A disk queue.
#[derive(Debug)]
pub struct Spool {
    appends: mpsc::Sender<Append>,
    shared: Arc<Shared>,
}

/// A batch on its way to the disk.
struct Append {
    frame: Vec<u8>,
    synced: oneshot::Sender<Result<(), NotKept>>,
}

/// A batch couldn't be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// The queue has as many bytes as it may.
    #[error("the disk queue is full")]
    Full,
    /// The disk can't be written to.
    #[error("the disk queue can't be written to")]
    Disk,
}

/// State that thread and task share.
#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    bytes_max: u64,
    /// Of all segments.
    bytes: AtomicU64,
    /// Segments by rising number, and their synced lengths. The last one is appended to.
    segments: Mutex<Vec<Segment>>,
    /// Something was synced.
    grown: Notify,
    /// Events that the servers rejected for good.
    rejected: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    number: u64,
    length: u64,
}

impl Spool {
    /// Opens the queue in a directory, which is one collector's at a time, and begins to send what it has.
    ///
    /// # Errors
    /// If the directory can't be read or written, or another process has it.
    pub fn open(dir: &Path, bytes_max: u64, upstream: Arc<Upstream>) -> io::Result<Self> {
        let lock = directory::lock(dir, "lock")?;
        let segments = found(dir)?;
        let next = segments.last().map_or(1, |segment| segment.number + 1);
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            bytes_max,
            bytes: AtomicU64::new(segments.iter().map(|segment| segment.length).sum()),
            segments: Mutex::new(segments),
            grown: Notify::new(),
            rejected: AtomicU64::new(0),
        });
        let (appends, receiver) = mpsc::channel(APPENDS_MAX);
        appender::start(shared.clone(), next, receiver, lock)?;
        tokio::spawn(forwarder::run(shared.clone(), upstream));
        Ok(Self { appends, shared })
    }

    /// Keeps a batch: it is on stable storage then.
    ///
    /// # Errors
    /// [`NotKept`].
    pub async fn keep(&self, batch: &EncodedBatch) -> Result<(), NotKept> {
        let frame = frame::encoded(batch);
        let bytes = self.shared.bytes.load(Ordering::Relaxed);
        if bytes + frame.len() as u64 > self.shared.bytes_max {
            return Err(NotKept::Full);
        }
        let (synced, answer) = oneshot::channel();
        self.appends.send(Append { frame, synced }).await.map_err(|_| NotKept::Disk)?;
        answer.await.unwrap_or(Err(NotKept::Disk))
    }

    /// True if there is room.
    pub fn has_room(&self) -> bool {
        self.bytes() < self.shared.bytes_max
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Events that the servers rejected for good, after their senders had success.
    pub fn rejected(&self) -> u64 {
        self.shared.rejected.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn segments(&self) -> std::sync::MutexGuard<'_, Vec<Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, number: u64) -> PathBuf {
        path(&self.dir, number)
    }
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.spool"))
}

/// Length of the whole frames at a segment's front. Damaged frames with whole ones behind them are cut out.
fn repaired(dir: &Path, number: u64) -> io::Result<u64> {
    let mut bytes = fs::read(path(dir, number))?;
    let mut damaged = 0;
    loop {
        let length = frame::whole(&bytes);
        match frame::resumed(&bytes[length..]) {
            Some(skipped) => {
                bytes.drain(length..length + skipped);
                damaged += skipped;
            }
            None => {
                if length < bytes.len() {
                    // A crash within a write: nobody was told that it is kept.
                    let bytes = bytes.len() - length;
                    tracing::warn!(segment = number, bytes, "the end of a segment isn't whole");
                }
                if damaged > 0 {
                    replace(dir, number, &bytes)?;
                    let kept = dir.join(DAMAGED);
                    let kept = kept.display();
                    tracing::error!(
                        segment = number,
                        bytes = damaged,
                        %kept,
                        "events in the disk queue are damaged; those behind them are sent"
                    );
                }
                return Ok(length as u64);
            }
        }
    }
}

/// Replaces a damaged segment, and keeps a copy of it in the place of an earlier one.
fn replace(dir: &Path, number: u64, bytes: &[u8]) -> io::Result<()> {
    let (segment, new) = (path(dir, number), dir.join("repaired.new"));
    fs::copy(&segment, dir.join(DAMAGED))?;
    let mut file = fs::File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // The place up to which it was sent is one of the damaged file: all of it goes again, and the servers know what they have.
    forwarder::Place::forget(dir)?;
    fs::rename(&new, &segment)?;
    fs::File::open(dir)?.sync_all()
}

/// The segments of a directory, each as far as it is whole.
fn found(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".spool")?.parse::<u64>().ok());
        if let Some(number) = number {
            segments.push(Segment { number, length: repaired(dir, number)? });
        }
    }
    segments.sort_by_key(|segment| segment.number);
    Ok(segments)
}

#[cfg(test)]
mod tests;
