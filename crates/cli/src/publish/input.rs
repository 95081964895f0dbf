//! The input of `publish`: a file or standard input, which can be told to end between two lines.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Interval at which a read that waits for data looks for a request to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Longest wait for the rest of a line that was begun, once the input is to end.
const LINE_END_WAIT: Duration = Duration::from_secs(1);

/// An input that is open, and not read yet.
pub struct Input {
    file: File,
    stop: Stop,
    /// The last byte that was read is within a line.
    is_in_line: bool,
}

/// Has an input end between two lines. What was read before is not lost.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends it.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Input {
    /// Opens a file; `None` is standard input.
    ///
    /// # Errors
    /// If it can't be opened.
    pub fn open(path: Option<&PathBuf>) -> io::Result<Self> {
        let file = match path {
            Some(path) => File::open(path)?,
            // Not through `Stdin`, which would read ahead into a buffer that poll() doesn't know.
            None => File::from(io::stdin().as_fd().try_clone_to_owned()?),
        };
        Ok(Self { file, stop: Stop::default(), is_in_line: false })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Length in bytes, where it is a regular file.
    pub fn length(&self) -> Option<u64> {
        self.file.metadata().ok().filter(|metadata| metadata.is_file()).map(|metadata| metadata.len())
    }

    /// Ends it, from another thread.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Waits for data, or for the end of the file. False if the input is to end here.
    fn wait(&self) -> io::Result<bool> {
        loop {
            let is_stopped = self.stop.0.load(Ordering::Relaxed);
            if is_stopped && !self.is_in_line {
                return Ok(false);
            }
            let wait = if is_stopped { LINE_END_WAIT } else { LOOK_INTERVAL };
            let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&wait)) {
                Ok(0) if is_stopped => return Ok(false),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.wait()? {
            return Ok(0);
        }
        // The end of a last line is looked for byte by byte: what is behind it stays in the pipe.
        let is_last_line = self.stop.0.load(Ordering::Relaxed);
        let most = if is_last_line { 1 } else { buffer.len() };
        let length = self.file.read(&mut buffer[..most])?;
        if let Some(last) = buffer[..length].last() {
            self.is_in_line = *last != b'\n';
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use super::*;

    fn piped() -> (Input, io::PipeWriter) {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from(OwnedFd::from(reader));
        (Input { file, stop: Stop::default(), is_in_line: false }, writer)
    }

    #[test]
    fn it_ends_between_two_lines() {
        let (mut input, mut writer) = piped();
        writer.write_all(b"one\ntw").unwrap();
        let mut read = [0; 6];
        input.read_exact(&mut read).unwrap();
        input.stop().set();
        writer.write_all(b"o\nthree\n").unwrap();
        let mut rest = String::new();
        input.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "o\n");
        let mut left = [0; 6];
        input.file.read_exact(&mut left).unwrap();
        assert_eq!(&left, b"three\n", "it stays in the pipe");
    }

    #[test]
    fn it_ends_while_it_waits() {
        let (mut input, _writer) = piped();
        let stop = input.stop();
        let waiting = std::thread::spawn(move || input.read(&mut [0; 8]).unwrap());
        stop.set();
        assert_eq!(waiting.join().unwrap(), 0);
    }

    #[test]
    fn a_line_that_never_ends_is_not_waited_for() {
        let (mut input, mut writer) = piped();
        writer.write_all(b"half").unwrap();
        let mut read = [0; 4];
        input.read_exact(&mut read).unwrap();
        input.stop().set();
        assert_eq!(input.read(&mut [0; 8]).unwrap(), 0);
    }
}
