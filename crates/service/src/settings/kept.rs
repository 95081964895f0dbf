//! Files that settings name and that can be read only once, such as pipes. Each is kept in memory: read again, it would be
//! empty, and a limit, a user or a certificate would be gone; or the reader would wait for a writer for ever.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, memfd_create};

/// The variable that names the descriptor of the files which the process before this one has kept.
pub const KEPT_FD: &str = "TICKSTREAM_KEPT_FD";

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The process's, since they are read wherever a setting names a file, and a descriptor's path is the process's, too.
static KEPT: LazyLock<Mutex<Files>> = LazyLock::new(|| Mutex::new(taken_over()));

/// Reads a whole file of at most `bytes_max` bytes; a longer one, such as a device's, is an error.
///
/// # Errors
/// If it can't be read, or is longer.
pub fn read_bytes(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    if let Some(kept) = kept().get(path) {
        return Ok(kept.clone());
    }
    let file = File::open(path)?;
    let is_regular = file.metadata()?.is_file();
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {bytes_max} bytes")));
    }
    if !is_regular {
        kept().insert(path.to_owned(), bytes.clone());
    }
    Ok(bytes)
}

/// As [`read_bytes`], of a text.
///
/// # Errors
/// As [`read_bytes`], and if it isn't UTF-8.
pub fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read_bytes(path, bytes_max)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// A descriptor with the files that were kept, and the variable that names it to a new process. `None` if there are none.
///
/// # Errors
/// If there is no memory for it.
pub fn hand_over() -> io::Result<Option<(&'static str, OwnedFd)>> {
    let files = kept();
    if files.is_empty() {
        return Ok(None);
    }
    let mut file = File::from(memfd_create("tickstream-kept", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(&*files)?)?;
    Ok(Some((KEPT_FD, file.into())))
}

/// Takes over the files that the process before this one has kept, unless that was done before. Then the descriptor
/// isn't needed any more.
pub fn take_over() {
    drop(kept());
}

fn kept() -> MutexGuard<'static, Files> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn taken_over() -> Files {
    let Some(descriptor) = std::env::var_os(KEPT_FD) else { return Files::new() };
    // By its path: that begins at the first byte, whatever was read by others.
    let bytes = fs::read(Path::new("/proc/self/fd").join(descriptor)).unwrap_or_default();
    // A file that is missing then can't be read, which is said where it is needed.
    serde_json::from_slice(&bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Seek;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn files_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "abc").unwrap();
        assert_eq!(read_bounded(&path, 3).unwrap(), "abc");
        assert_eq!(read_bounded(&path, 2).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_bounded(&path, 2).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(read_bounded(Path::new("/dev/zero"), 100).is_err());
    }

    #[test]
    fn a_regular_file_is_read_anew_and_a_pipe_kept_for_reloads_and_for_a_new_process() {
        let dir = tempfile::tempdir().unwrap();
        let (regular, pipe) = (dir.path().join("regular"), dir.path().join("pipe"));
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"from a pipe").unwrap();
        drop(writer);
        // A path of its own: that of the descriptor is another test's in a moment.
        std::os::unix::fs::symlink(format!("/proc/self/fd/{}", reader.as_raw_fd()), &pipe).unwrap();
        for text in ["one", "two"] {
            fs::write(&regular, text).unwrap();
            assert_eq!(read_bounded(&regular, 100).unwrap(), text);
            assert_eq!(read_bounded(&pipe, 100).unwrap(), "from a pipe");
        }
        let (variable, descriptor) = hand_over().unwrap().unwrap();
        let mut file = File::from(descriptor);
        file.rewind().unwrap();
        let files: Files = serde_json::from_reader(file).unwrap();
        assert_eq!((variable, files[&pipe].as_slice()), (KEPT_FD, &b"from a pipe"[..]));
        assert!(!files.contains_key(&regular));
    }
}
