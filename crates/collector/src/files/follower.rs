//! One file that grows. It is read only as far as the servers have taken what was before.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    checkpoints::Checkpoint,
    config::RecordConfig,
    identity::Identity,
    records::{Record, records},
};

/// Bytes that are read, and on their way to the servers, at a time.
const READ_BYTES: usize = 256 * 1024;
/// Time for which a file that lost its name is read on: whoever writes to it may not know yet.
const GONE_TIMEOUT: Duration = Duration::from_secs(5);

/// A file that is followed.
#[derive(Debug)]
pub struct Follower {
    file: File,
    checkpoint: Checkpoint,
    /// Bytes behind the checkpoint.
    buffer: Vec<u8>,
    grown_at: Instant,
    gone_since: Option<Instant>,
}

impl Follower {
    /// Goes on behind a checkpoint.
    pub fn new(file: File, checkpoint: Checkpoint, now: Instant) -> Self {
        Self { file, checkpoint, buffer: Vec::new(), grown_at: now, gone_since: None }
    }

    /// The place up to which it was taken.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether it is the file with this metadata.
    pub fn has_inode_of(&self, metadata: &std::fs::Metadata) -> bool {
        self.checkpoint.identity.has_inode_of(metadata)
    }

    /// Sets the path under which it is found; `None`: it has lost its name.
    pub fn set_path(&mut self, path: Option<&Path>, now: Instant) {
        match path {
            Some(path) => {
                path.clone_into(&mut self.checkpoint.path);
                self.gone_since = None;
            }
            None => _ = self.gone_since.get_or_insert(now),
        }
    }

    /// Reads on, and begins anew where the file was truncated. Tells whether there is more than before.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read(&mut self, now: Instant) -> io::Result<bool> {
        let metadata = self.file.metadata()?;
        let place = self.checkpoint.offset + self.buffer.len() as u64;
        let has_changed = metadata.len() != place;
        if metadata.len() < place || (has_changed && !self.checkpoint.identity.is(&self.file, &metadata)?) {
            tracing::info!(path = %self.checkpoint.path.display(), "the file was truncated: it is read from its beginning");
            self.checkpoint = Checkpoint {
                identity: Identity::of(&self.file, &metadata)?,
                generation: generation(),
                offset: 0,
                path: std::mem::take(&mut self.checkpoint.path),
            };
            self.buffer.clear();
        } else if has_changed && self.checkpoint.identity.may_grow(metadata.len()) {
            self.checkpoint.identity = Identity::of(&self.file, &metadata)?;
        }
        let before = self.buffer.len();
        if before >= READ_BYTES {
            return Ok(false);
        }
        self.buffer.resize(READ_BYTES, 0);
        let read = self.file.read_at(&mut self.buffer[before..], self.checkpoint.offset + before as u64);
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        let has_grown = read? > 0;
        if has_grown {
            self.grown_at = now;
        }
        Ok(has_grown)
    }

    /// The records that are whole.
    pub fn records(&self, config: &RecordConfig, now: Instant) -> Vec<Record<'_>> {
        let is_quiet = now.duration_since(self.grown_at) >= config.timeout;
        records(&self.buffer, config, is_quiet, self.has_ended(now))
    }

    /// Moves behind what was taken.
    pub fn take(&mut self, bytes: usize) {
        self.buffer.drain(..bytes);
        self.checkpoint.offset += bytes as u64;
        if self.buffer.is_empty() {
            self.buffer.shrink_to(0);
        }
    }

    /// Whether nothing more will come: it has lost its name, and nobody has written since.
    pub fn has_ended(&self, now: Instant) -> bool {
        let is_old = |since: Instant| now.duration_since(since) >= GONE_TIMEOUT;
        self.gone_since.is_some_and(|gone| is_old(gone) && is_old(self.grown_at))
    }

    /// Whether all of it is taken, and nothing more will come.
    pub fn is_done(&self, now: Instant) -> bool {
        self.has_ended(now) && self.buffer.is_empty()
    }
}

/// A name for the content of a file from now on.
pub fn generation() -> String {
    tickstream_client::new_event_id().iter().map(|byte| format!("{byte:02x}")).collect()
}
