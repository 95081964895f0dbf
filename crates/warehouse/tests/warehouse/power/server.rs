//! A server's journal, one call after the other: appends, syncs, and removes what its consumers have loaded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tickstream_journal::{
    AppendError, BLOCK, Config, FileDirectory, FileStorage, Journal, JournalId, Restore, Retention,
    consumers, recover,
};
use tickstream_schema::events::{Event, Message, StoredBatch};

use super::Failed;
use crate::common::{NOW, Writer};

/// A journal of few small segments.
fn config() -> Config {
    let segment_bytes = 8 * BLOCK as u64;
    Config {
        segment_bytes,
        group_bytes: 2 * BLOCK,
        zero_bytes: 4 * BLOCK,
        buffers: 2,
        retention: Retention { bytes: Some(3 * segment_bytes), ..Retention::default() },
        ..Config::default()
    }
}

pub struct Server {
    path: PathBuf,
    _directory: FileDirectory,
    storage: FileStorage,
    journal: Journal,
}

impl Server {
    pub fn open(path: &Path, id: u64) -> Result<Self, Failed> {
        let mut directory = FileDirectory::open_exclusive(path)?;
        let mut bytes = [7; 16];
        bytes[..8].copy_from_slice(&id.to_le_bytes());
        let (journal, recovered) =
            recover(&mut directory, config(), JournalId(bytes), NOW, Restore::All, |_| {})?;
        if let Some(new_id) = recovered.new_id {
            let files: Vec<_> = std::fs::read_dir(path)?.flatten().map(|file| file.file_name()).collect();
            return Err(format!(
                "a power cut looks like records that were removed: {new_id:?}, files {files:?}"
            )
            .into());
        }
        let storage = FileStorage::new(&directory);
        let mut server = Self { path: path.to_owned(), _directory: directory, storage, journal };
        // Before anything is removed, as a server does.
        server.retain()?;
        Ok(server)
    }

    /// Stores events, and acknowledges them; false if there is no room.
    pub fn publish(
        &mut self,
        events: &[Event],
        acknowledged: &mut BTreeSet<Vec<u8>>,
    ) -> Result<bool, Failed> {
        let payload = StoredBatch { events: events.to_vec(), ..Writer::batch() }.encode_to_vec();
        let sequence = loop {
            match self.journal.append([3; 16], 1, events.len() as u32, &payload) {
                Ok(sequence) => break sequence,
                Err(AppendError::Busy) => self.settle()?,
                Err(AppendError::Full) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        };
        self.settle()?;
        if self.journal.synced() < sequence {
            return Err(format!("record {sequence} isn't synced").into());
        }
        acknowledged.extend(events.iter().map(|event| event.event_id.clone()));
        Ok(true)
    }

    /// Removes the segments that aren't needed any more.
    pub fn retain(&mut self) -> Result<(), Failed> {
        let found = consumers(&self.path)?;
        // One that can't be read has loaded nothing, as far as anybody knows.
        self.journal.set_consumers(found.into_iter().map(|one| one.position.ok().flatten()).collect());
        self.settle()
    }

    fn settle(&mut self) -> Result<(), Failed> {
        loop {
            self.journal.drive(NOW, &mut self.storage)?;
            let Some(completion) = self.storage.next_completion() else { return Ok(()) };
            self.journal.completed(NOW, completion)?;
        }
    }
}
