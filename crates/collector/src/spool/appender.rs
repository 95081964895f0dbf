//! The thread that appends and syncs. Batches that wait while it syncs are written, and synced, together.

use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread,
};

use tokio::sync::mpsc;

use super::{Append, NotKept, SEGMENT_BYTES, Segment, Shared};

/// Most bytes of one write.
const WRITE_BYTES: usize = 4 << 20;

struct Appender {
    shared: Arc<Shared>,
    /// The segment that is appended to, once there is one.
    open: Option<(Segment, File)>,
    next: u64,
    _lock: File,
}

/// Starts the thread, which ends with the last sender.
pub(super) fn start(
    shared: Arc<Shared>,
    next: u64,
    mut appends: mpsc::Receiver<Append>,
    lock: File,
) -> io::Result<()> {
    let mut appender = Appender { shared, open: None, next, _lock: lock };
    let run = move || {
        while let Some(first) = appends.blocking_recv() {
            let mut group = vec![first];
            let mut bytes = group[0].frame.len();
            while bytes < WRITE_BYTES
                && let Ok(append) = appends.try_recv()
            {
                bytes += append.frame.len();
                group.push(append);
            }
            appender.append(group);
        }
    };
    thread::Builder::new().name("spool".to_owned()).spawn(run)?;
    Ok(())
}

impl Appender {
    fn append(&mut self, group: Vec<Append>) {
        let frames: Vec<u8> = group.iter().flat_map(|append| append.frame.iter().copied()).collect();
        let kept = self.write(&frames).map_err(|error| {
            tracing::error!(%error, "the disk queue can't be written to");
            NotKept::Disk
        });
        for append in group {
            // A sender that has gone needs no answer.
            _ = append.synced.send(kept);
        }
        self.shared.grown.notify_one();
    }

    fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        let is_full = self.open.as_ref().is_none_or(|(segment, _)| segment.length >= SEGMENT_BYTES);
        if is_full {
            self.open = Some(self.begin()?);
        }
        let Some((segment, file)) = &mut self.open else { unreachable!("one was begun") };
        if let Err(error) = file.write_all(frames).and_then(|()| file.sync_data()) {
            // What may have reached the disk must not be read: nobody was told that it is kept.
            if file.set_len(segment.length).and_then(|()| file.seek(SeekFrom::Start(segment.length))).is_err()
            {
                self.open = None;
            }
            return Err(error);
        }
        segment.length += frames.len() as u64;
        self.shared.bytes.fetch_add(frames.len() as u64, Ordering::Relaxed);
        let mut segments = self.shared.segments();
        match segments.last_mut() {
            Some(last) if last.number == segment.number => last.length = segment.length,
            _ => segments.push(*segment),
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<(Segment, File)> {
        let path = self.shared.path(self.next);
        let file = File::options().write(true).create_new(true).open(&path)?;
        sync_dir(&self.shared.dir)?;
        let segment = Segment { number: self.next, length: 0 };
        self.next += 1;
        Ok((segment, file))
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}
