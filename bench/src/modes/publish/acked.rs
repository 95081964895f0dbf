//! `--acked`: which batches were acknowledged, for those who look into the journal afterwards.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

/// A line for each acknowledged batch: producer in hexadecimal digits, sequence, events that are stored.
#[derive(Debug)]
pub struct AckedFile {
    file: File,
    lines: Vec<u8>,
}

impl AckedFile {
    /// Goes on with a file, or begins one.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, lines: Vec::new() })
    }

    /// A batch was acknowledged.
    pub fn note(&mut self, producer: &[u8; 16], sequence: u64, events: u64) {
        if events > 0 {
            let producer = u128::from_be_bytes(*producer);
            writeln!(self.lines, "{producer:032x} {sequence} {events}").expect("a Vec grows");
        }
    }

    /// Writes what was noted, whole lines at once: other threads write to the same file.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            self.file.write_all(&self.lines)?;
            self.lines.clear();
        }
        Ok(())
    }
}
