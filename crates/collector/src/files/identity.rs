//! Files, told from each other whatever their names are.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt},
};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// First bytes of a file by which one that took another's inode is known.
const FINGERPRINT_BYTES: usize = 1024;

/// A file, whatever its name is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// Length and SHA-256 of the first bytes, as many as there were.
    first: usize,
    sha256: String,
}

impl Identity {
    /// Of an open file.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn of(file: &File, metadata: &Metadata) -> io::Result<Self> {
        let first = read_first(file, FINGERPRINT_BYTES)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), first: first.len(), sha256: sha256(&first) })
    }

    /// True if this is the file, as it was then: more may stand at its end.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn is(&self, file: &File, metadata: &Metadata) -> io::Result<bool> {
        if !self.has_inode_of(metadata) {
            return Ok(false);
        }
        let first = read_first(file, self.first)?;
        Ok(first.len() == self.first && sha256(&first) == self.sha256)
    }

    /// True if the file has the device and inode of this one.
    pub fn has_inode_of(&self, metadata: &Metadata) -> bool {
        (self.device, self.inode) == (metadata.dev(), metadata.ino())
    }

    /// The same fingerprint on another file's inode.
    #[cfg(test)]
    pub(crate) fn with_inode_of(&self, metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino(), ..self.clone() }
    }

    /// True if the fingerprint could have more bytes by now.
    pub fn may_grow(&self, len: u64) -> bool {
        self.first < FINGERPRINT_BYTES && len > self.first as u64
    }
}

fn read_first(file: &File, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut first = vec![0; bytes_max];
    let mut len = 0;
    while len < bytes_max {
        match file.read_at(&mut first[len..], len as u64)? {
            0 => break,
            read => len += read,
        }
    }
    first.truncate(len);
    Ok(first)
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
