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

    /// True if it is the file with this metadata.
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
        if metadata.len() == place {
            return Ok(false);
        }
        if metadata.len() < place || !self.checkpoint.identity.is(&self.file, &metadata)? {
            tracing::info!(path = %self.checkpoint.path.display(), "the file was truncated: it is read from its beginning");
            self.checkpoint = Checkpoint {
                identity: Identity::of(&self.file, &metadata)?,
                generation: generation(),
                offset: 0,
                path: std::mem::take(&mut self.checkpoint.path),
            };
            self.buffer.clear();
        } else if self.checkpoint.identity.may_grow(metadata.len()) {
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

    /// True if nothing more will come: it has lost its name, and nobody has written since.
    pub fn has_ended(&self, now: Instant) -> bool {
        let is_old = |since: Instant| now.duration_since(since) >= GONE_TIMEOUT;
        self.gone_since.is_some_and(|gone| is_old(gone) && is_old(self.grown_at))
    }

    /// True if all of it is taken, and nothing more will come.
    pub fn is_done(&self, now: Instant) -> bool {
        self.has_ended(now) && self.buffer.is_empty()
    }
}

/// A name for the content of a file from now on.
pub fn generation() -> String {
    tickstream_client::new_event_id().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, path::PathBuf};

    use super::*;

    struct World {
        dir: tempfile::TempDir,
        config: RecordConfig,
        start: Instant,
    }

    impl World {
        fn new() -> Self {
            let config = RecordConfig { start: None, timeout: Duration::from_secs(2), bytes_max: 1000 };
            Self { dir: tempfile::tempdir().unwrap(), config, start: Instant::now() }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("app.log")
        }

        fn append(&self, text: &str) {
            let file = fs::File::options().create(true).append(true).open(self.path());
            file.unwrap().write_all(text.as_bytes()).unwrap();
        }

        fn follow(&self) -> Follower {
            let file = File::open(self.path()).unwrap();
            let identity = Identity::of(&file, &file.metadata().unwrap()).unwrap();
            let checkpoint = Checkpoint { path: self.path(), identity, generation: generation(), offset: 0 };
            Follower::new(file, checkpoint, self.start)
        }

        /// Takes the new lines.
        fn lines(&self, follower: &mut Follower, after_s: u64) -> Vec<String> {
            let now = self.start + Duration::from_secs(after_s);
            follower.read(now).unwrap();
            let records = follower.records(&self.config, now);
            let lines =
                records.iter().map(|record| String::from_utf8(record.text.to_vec()).unwrap()).collect();
            let end = records.last().map_or(0, |record| record.end);
            follower.take(end);
            lines
        }
    }

    #[test]
    fn fault_72_a_renamed_file_is_read_to_its_end_and_then_done() {
        let world = World::new();
        world.append("a\nb\nhal");
        let mut follower = world.follow();
        assert_eq!(world.lines(&mut follower, 0), ["a", "b"]);
        let renamed = world.dir.path().join("app.log.1");
        fs::rename(world.path(), &renamed).unwrap();
        follower.set_path(None, world.start);
        fs::File::options().append(true).open(renamed).unwrap().write_all(b"f\nlast").unwrap();
        assert_eq!(world.lines(&mut follower, 1), ["half"]);
        let late = world.start + Duration::from_secs(10);
        assert!(!follower.is_done(late), "a line without its end is left");
        assert_eq!(world.lines(&mut follower, 10), ["last"]);
        assert!(follower.is_done(late));
    }

    #[test]
    fn fault_72_a_truncated_file_is_read_from_its_beginning_under_new_ids() {
        let world = World::new();
        world.append("first line\nsecond line\n");
        let mut follower = world.follow();
        assert_eq!(world.lines(&mut follower, 0).len(), 2);
        let generation = follower.checkpoint().generation.clone();
        fs::File::options().write(true).open(world.path()).unwrap().set_len(0).unwrap();
        world.append("new\n");
        assert_eq!(world.lines(&mut follower, 1), ["new"]);
        assert_ne!(follower.checkpoint().generation, generation);
        // Truncated, and longer than before by the next look.
        fs::File::options().write(true).open(world.path()).unwrap().set_len(0).unwrap();
        world.append("longer than what was there before\n");
        assert_eq!(world.lines(&mut follower, 2), ["longer than what was there before"]);
    }

    #[test]
    fn fault_72_a_file_goes_on_where_it_was_whatever_its_name_is() {
        let world = World::new();
        world.append("a\n");
        let mut follower = world.follow();
        assert_eq!(world.lines(&mut follower, 0), ["a"]);
        let checkpoint = follower.checkpoint().clone();
        world.append("b\n");
        let renamed = world.dir.path().join("app.log.1");
        fs::rename(world.path(), &renamed).unwrap();
        world.append("another file\n");
        let is = |path: &Path| {
            let file = File::open(path).unwrap();
            checkpoint.identity.is(&file, &file.metadata().unwrap()).unwrap()
        };
        assert!(is(&renamed) && !is(&world.path()));
        let mut follower = Follower::new(File::open(&renamed).unwrap(), checkpoint.clone(), world.start);
        assert_eq!(world.lines(&mut follower, 0), ["b"]);
    }

    #[test]
    fn fault_72_a_deleted_file_is_read_to_its_end_and_another_with_its_inode_is_another() {
        let world = World::new();
        world.append("a\n");
        let mut follower = world.follow();
        assert_eq!(world.lines(&mut follower, 0), ["a"]);
        world.append("b\n");
        fs::remove_file(world.path()).unwrap();
        follower.set_path(None, world.start);
        assert_eq!(world.lines(&mut follower, 1), ["b"]);
        assert!(follower.is_done(world.start + Duration::from_secs(10)));
        // Another file, as if the system had given it the inode.
        let identity = follower.checkpoint().identity.clone();
        world.append("another\n");
        let file = File::open(world.path()).unwrap();
        let metadata = file.metadata().unwrap();
        let with_inode = identity.with_inode_of(&metadata);
        assert!(with_inode.has_inode_of(&metadata) && !with_inode.is(&file, &metadata).unwrap());
    }
}
