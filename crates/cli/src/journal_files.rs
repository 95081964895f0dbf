//! The files of a journal, by their names.

use std::path::Path;
use std::{fs, io};

use tickstream_journal::FileName;

/// True if the file is, or would be, beside a journal's own files, under whatever name.
pub fn is_beside_a_journal(file: &Path) -> bool {
    let real = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let folder = real.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    is_journal(folder).unwrap_or(false)
}

/// True if the directory has any of a journal's files, be it only its lock.
///
/// # Errors
/// If it can't be read.
pub fn is_journal(directory: &Path) -> io::Result<bool> {
    let is_ours = |name: &str| name == "lock" || FileName::parse(name).is_some();
    for entry in fs::read_dir(directory)? {
        if entry?.file_name().to_str().is_some_and(is_ours) {
            return Ok(true);
        }
    }
    Ok(false)
}
