//! The task that follows the files of one `[[source.file]]`.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinHandle, time};

use super::{
    checkpoints::{Checkpoint, Store},
    config::Files,
    follower::{Follower, generation},
    identity::Identity,
};
use crate::{
    clock::now_ns,
    delivery::Delivery,
    drain,
    event_id::key_namespace,
    intake::{Intake, SharedIntake},
    keys::Key,
    patterns::matching,
    writer::{Ids, Origin},
};

/// Name of the source, and of the key under which its events are stored.
pub const NAME: &str = "file";
/// Time between looks at files that didn't grow.
const PAUSE: Duration = Duration::from_millis(200);
/// Time between looks for new files.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// Time between writings of checkpoints: after a crash, what was taken since is known by its ids.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// Most files of a source.
const FILES_MAX: usize = 4096;
const RECORDS_MAX: u32 = 65_536;

/// Files that are followed.
#[derive(Debug)]
pub struct Following {
    drain: watch::Sender<bool>,
    sources: Vec<JoinHandle<()>>,
}

impl Following {
    /// Follows the files of each source; their checkpoints stand in `state_dir`.
    ///
    /// # Errors
    /// If the checkpoints can't be read or written.
    pub fn start(sources: Vec<Files>, state_dir: &Path, intake: &SharedIntake) -> io::Result<Self> {
        let (drain, drained) = watch::channel(false);
        let key = Arc::new(Key::unrestricted(NAME));
        let source = |files: Files| {
            let store = Store::open(state_dir, &store_name(&files.paths))?;
            Ok(Source {
                known: store.load()?,
                files,
                store,
                followers: Vec::new(),
                intake: intake.clone(),
                key: key.clone(),
                drain: drained.clone(),
                is_first_scan: true,
                is_dirty: false,
            })
        };
        let sources: Vec<Source> = sources.into_iter().map(source).collect::<io::Result<_>>()?;
        Ok(Self { drain, sources: sources.into_iter().map(|source| tokio::spawn(source.run())).collect() })
    }

    /// Reads no more, and keeps the places.
    pub async fn drain(self, patience: Duration) {
        self.drain.send_replace(true);
        let all = async {
            for source in self.sources {
                // A panic of the task has been told by the runtime.
                _ = source.await;
            }
        };
        _ = time::timeout(patience, all).await;
    }
}

/// The same name for the same paths.
fn store_name(paths: &[String]) -> String {
    let id = key_namespace(&paths.join("\n"));
    id.iter().take(8).map(|byte| format!("{byte:02x}")).fold("files-".to_owned(), |name, byte| name + &byte)
}

struct Source {
    files: Files,
    store: Store,
    /// Checkpoints whose files weren't found yet.
    known: Vec<Checkpoint>,
    followers: Vec<Follower>,
    intake: SharedIntake,
    key: Arc<Key>,
    drain: watch::Receiver<bool>,
    is_first_scan: bool,
    /// The stored checkpoints are behind.
    is_dirty: bool,
}

impl Source {
    async fn run(mut self) {
        let (mut scanned, mut saved) = (None::<Instant>, Instant::now());
        while !*self.drain.borrow() {
            if scanned.is_none_or(|at| at.elapsed() >= SCAN_INTERVAL) {
                self.scan();
                scanned = Some(Instant::now());
            }
            let mut has_more = false;
            for index in 0..self.followers.len() {
                has_more |= self.step(index).await;
            }
            let now = Instant::now();
            let before = self.followers.len();
            self.followers.retain(|follower| !follower.is_done(now));
            self.is_dirty |= self.followers.len() != before;
            if self.is_dirty && saved.elapsed() >= SAVE_INTERVAL {
                self.save();
                saved = Instant::now();
            }
            if !has_more {
                tokio::select! {
                    () = time::sleep(PAUSE) => {}
                    () = drain::begins(&mut self.drain) => {}
                }
            }
        }
        self.save();
    }

    /// Finds new files, and those that have another name by now.
    fn scan(&mut self) {
        let excluded: BTreeSet<PathBuf> =
            self.files.exclude.iter().flat_map(|pattern| matching(pattern)).collect();
        let paths = self.files.paths.iter().flat_map(|pattern| matching(pattern));
        let paths: Vec<PathBuf> = paths.filter(|path| !excluded.contains(path)).collect();
        let now = Instant::now();
        let mut named = vec![false; self.followers.len()];
        for path in paths {
            match self.find(&path, &mut named, now) {
                Ok(()) => {}
                // It went between the look and the opening, or may not be read.
                Err(error) => tracing::debug!(path = %path.display(), %error, "a file can't be followed"),
            }
        }
        for (follower, is_named) in self.followers.iter_mut().zip(&named) {
            if !is_named {
                follower.set_path(None, now);
            }
        }
        if self.is_first_scan {
            self.find_renamed(now);
            self.is_first_scan = false;
            self.is_dirty = true;
        }
        // Before anything of a new file is sent, its generation has to be known to the next start.
        if self.is_dirty {
            self.save();
        }
    }

    fn find(&mut self, path: &Path, named: &mut Vec<bool>, now: Instant) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        if let Some(at) = self.followers.iter().position(|follower| follower.has_inode_of(&metadata)) {
            self.followers[at].set_path(Some(path), now);
            if let Some(is_named) = named.get_mut(at) {
                *is_named = true;
            }
            return Ok(());
        }
        if self.followers.len() >= FILES_MAX {
            return Err(io::Error::other(format!("{FILES_MAX} files are followed already")));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let checkpoint = match self.checkpoint_of(&file, &metadata)? {
            Some(checkpoint) => Checkpoint { path: path.to_owned(), ..checkpoint },
            None => {
                let from_end = self.is_first_scan && !self.files.from_beginning;
                Checkpoint {
                    path: path.to_owned(),
                    identity: Identity::of(&file, &metadata)?,
                    generation: generation(),
                    offset: if from_end { metadata.len() } else { 0 },
                }
            }
        };
        self.followers.push(Follower::new(file, checkpoint, now));
        named.push(true);
        self.is_dirty = true;
        Ok(())
    }

    fn checkpoint_of(&mut self, file: &File, metadata: &fs::Metadata) -> io::Result<Option<Checkpoint>> {
        for at in 0..self.known.len() {
            if self.known[at].identity.is(file, metadata)? {
                return Ok(Some(self.known.swap_remove(at)));
            }
        }
        Ok(None)
    }

    /// Files that were renamed while nobody followed them, to a name that no pattern has: what is left of them is taken.
    fn find_renamed(&mut self, now: Instant) {
        for checkpoint in std::mem::take(&mut self.known) {
            let dir = checkpoint.path.parent().unwrap_or(Path::new("."));
            let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
            let is_it = |path: &PathBuf| -> io::Result<bool> {
                let metadata = fs::metadata(path)?;
                // Opening a pipe would wait for its writer.
                Ok(checkpoint.identity.has_inode_of(&metadata)
                    && metadata.is_file()
                    && checkpoint.identity.is(&File::open(path)?, &metadata)?)
            };
            let found = entries.into_iter().find(|path| is_it(path).unwrap_or(false));
            if let Some(file) = found.and_then(|path| File::open(path).ok()) {
                let mut follower = Follower::new(file, checkpoint, now);
                follower.set_path(None, now);
                self.followers.push(follower);
            }
        }
    }

    /// Takes what is new of a file. Tells whether there was anything.
    async fn step(&mut self, index: usize) -> bool {
        let now = Instant::now();
        let has_grown = match self.followers[index].read(now) {
            Ok(has_grown) => has_grown,
            Err(error) => {
                tracing::warn!(path = %self.followers[index].checkpoint().path.display(), %error, "a file can't be read");
                return false;
            }
        };
        let follower = &self.followers[index];
        let origin = origin(&self.key);
        let Checkpoint { path, generation, offset, .. } = follower.checkpoint();
        let mut writer = self.intake.writer(&origin, Ids::New, RECORDS_MAX);
        let mut taken = 0;
        let service = self.files.service.clone().unwrap_or_else(|| service_of(path));
        for record in follower.records(&self.files.records, now) {
            if !writer.has_room() {
                break;
            }
            if !record.text.is_empty() {
                let mut event = self.files.format.event(record.text, &service, writer.receive_time());
                let place = (offset + record.start as u64).to_be_bytes();
                event.event_id = writer.id_of_parts(&[b"file", generation.as_bytes(), &place]);
                event.context.insert("file".to_owned(), path.display().to_string());
                writer.event(event);
            }
            taken = record.end;
        }
        let request = writer.finish().unwrap_or_default();
        let intake: &Intake = &self.intake;
        let delivery = Delivery { intake, origin: &origin, until: None, drain: Some(self.drain.clone()) };
        if taken > 0 && delivery.deliver(&request).await.is_ok() {
            self.followers[index].take(taken);
            self.is_dirty = true;
        }
        has_grown
    }

    fn save(&mut self) {
        let checkpoints: Vec<_> =
            self.followers.iter().map(|follower| follower.checkpoint().clone()).collect();
        match self.store.save(&checkpoints) {
            Ok(()) => self.is_dirty = false,
            Err(error) => {
                tracing::error!(%error, "the places in files can't be kept: a restart sends some lines again");
            }
        }
    }
}

fn origin(key: &Arc<Key>) -> Origin {
    Origin {
        key: key.clone(),
        source: NAME,
        address: None,
        user_agent: String::new(),
        headers: Vec::new(),
        receive_time: now_ns(),
        send_time: 0,
    }
}

/// The file's name up to its first dot.
fn service_of(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.split('.').find(|part| !part.is_empty()).unwrap_or(NAME).to_owned()
}
