//! Files of one commit, a partition each, which a thread of their own encodes part by part while the next rows are made.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use deltalake::arrow::array::RecordBatch;

use super::LoadError;
use crate::events::rows::PartitionKey;
use crate::store::parquet::{EncodedFile, FileBuilder, WriteError};

/// Rows of a part, by partition.
pub type Part = Vec<(PartitionKey, RecordBatch)>;

/// Parts that wait for the encoder.
const WAITING: usize = 2;

/// Files of a commit while its rows come.
#[derive(Debug, Default)]
pub struct Files {
    encoder: Option<Encoder>,
    /// Rows that were given.
    pub rows: usize,
    /// Text of these rows, bytes.
    pub text_bytes: usize,
}

#[derive(Debug)]
struct Encoder {
    parts: SyncSender<Part>,
    thread: JoinHandle<Result<Vec<EncodedFile>, WriteError>>,
}

impl Files {
    /// Gives rows, so many with so much text, to be encoded in the files of their partitions.
    ///
    /// # Errors
    /// If rows that were given before can't be encoded, or there is no thread.
    pub fn push(&mut self, part: Part, rows: usize, text_bytes: usize) -> Result<(), LoadError> {
        let encoder = match &self.encoder {
            Some(encoder) => encoder,
            None => self.encoder.insert(Encoder::start().map_err(LoadError::Thread)?),
        };
        if encoder.parts.send(part).is_err() {
            // It has ended by itself: with an error.
            std::mem::take(self).finish()?;
        }
        self.rows += rows;
        self.text_bytes += text_bytes;
        Ok(())
    }

    /// The files, complete.
    ///
    /// # Errors
    /// If rows can't be encoded.
    pub fn finish(self) -> Result<Vec<EncodedFile>, WriteError> {
        let Some(Encoder { parts, thread }) = self.encoder else { return Ok(Vec::new()) };
        drop(parts);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Encoder {
    fn start() -> std::io::Result<Self> {
        let (parts, given) = sync_channel(WAITING);
        let thread = thread::Builder::new().name("encoder".to_owned()).spawn(move || encode(&given))?;
        Ok(Self { parts, thread })
    }
}

/// Encodes all parts that come, each row in the file of its partition.
fn encode(parts: &Receiver<Part>) -> Result<Vec<EncodedFile>, WriteError> {
    let mut files: BTreeMap<PartitionKey, FileBuilder> = BTreeMap::new();
    for (key, rows) in parts.iter().flatten() {
        let file = match files.entry(key) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(new) => {
                let file = FileBuilder::of_new_rows(new.key().clone())?;
                new.insert(file)
            }
        };
        file.push(&rows)?;
    }
    files.into_values().map(FileBuilder::finish).collect()
}
