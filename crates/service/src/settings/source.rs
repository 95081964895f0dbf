//! The sources of a program's settings, to be read again on a reload.

use super::{
    ConfigError, Environment, File, Flags, Table, Values,
    file::{FILE_BYTES_MAX, text},
    read_bounded,
};
use rustix::fs::{MemfdFlags, memfd_create};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The variable that names the descriptor of a configuration which the process before this one has kept.
pub const KEPT_FD: &str = "TICKSTREAM_CONFIG_FD";

/// The flags, the environment and the file of a process.
///
/// A file that can be read only once, such as a pipe, is kept in memory: read again, it would be empty, and every limit
/// that it sets would be gone.
#[derive(Clone)]
pub struct Source {
    table: &'static Table,
    /// Tables of the file that the program reads itself.
    own_tables: &'static [&'static str],
    flags: Flags,
    file: Option<SourceFile>,
}

#[derive(Clone)]
struct SourceFile {
    path: PathBuf,
    /// The text of a file that can't be read again.
    kept: Option<String>,
}

impl Source {
    /// Opens the sources: the flags, and the file if there is one.
    ///
    /// # Errors
    /// [`ConfigError::File`] if the file can't be read.
    pub fn open(
        table: &'static Table,
        flags: Flags,
        path: Option<PathBuf>,
        env: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let file = path.map(|path| {
            let kept = kept(&path, env);
            kept.map(|kept| SourceFile { path: path.clone(), kept })
                .map_err(|reason| ConfigError::File { path, reason })
        });
        Ok(Self { table, own_tables: &[], flags, file: file.transpose()? })
    }

    /// Leaves tables of the file with these names to the program.
    #[must_use]
    pub fn with_own_tables(self, own_tables: &'static [&'static str]) -> Self {
        Self { own_tables, ..self }
    }

    /// The text of the file, if there is one.
    ///
    /// # Errors
    /// [`ConfigError::File`].
    pub fn text(&self) -> Result<Option<String>, ConfigError> {
        let text = |SourceFile { path, kept }: &SourceFile| kept.clone().map_or_else(|| text(path), Ok);
        self.file.as_ref().map(text).transpose()
    }

    /// Reads every setting.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(&self, env: Environment<'_>) -> Result<Values, ConfigError> {
        let file = self.file.as_ref().zip(self.text()?).map(|(SourceFile { path, .. }, text)| {
            File::parse_beside(self.table, self.own_tables, path, &text)
        });
        Values::merge(self.table, &self.flags, env, file.transpose()?.as_ref())
    }

    /// The file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// A descriptor with the text of a file that a new process couldn't read, and the variable that names it there.
    /// `None` where the new process can read the file itself.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn hand_over(&self) -> io::Result<Option<(&'static str, OwnedFd)>> {
        let Some(text) = self.file.as_ref().and_then(|file| file.kept.as_ref()) else { return Ok(None) };
        let descriptor = memfd_create("tickstream-config", MemfdFlags::CLOEXEC)?;
        let mut file = fs::File::from(descriptor);
        file.write_all(text.as_bytes())?;
        Ok(Some((KEPT_FD, file.into())))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A flag or the file may hold the password.
        f.debug_struct("Source").field("file", &self.file()).finish_non_exhaustive()
    }
}

/// The text of a file that can't be read again: one that the process before this one has kept, or a pipe's.
fn kept(path: &Path, env: Environment<'_>) -> io::Result<Option<String>> {
    if let Some(descriptor) = env(KEPT_FD) {
        // By its path: that begins at the first byte, whatever was read by others.
        let kept = [OsString::from("/proc/self/fd/"), descriptor].into_iter().collect::<OsString>();
        return read_bounded(Path::new(&kept), FILE_BYTES_MAX).map(Some);
    }
    let is_regular = fs::metadata(path)?.is_file();
    if is_regular { Ok(None) } else { read_bounded(path, FILE_BYTES_MAX).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::{TABLE, setting};
    use std::os::fd::AsRawFd;

    fn nothing(_: &str) -> Option<OsString> {
        None
    }

    fn shards(source: &Source) -> Option<u32> {
        let values = source.read(&nothing).unwrap();
        values.read(&setting::shards).unwrap().map(std::num::NonZeroU32::get)
    }

    #[test]
    fn a_pipe_is_read_once_and_kept_for_reloads_and_for_a_new_process() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"shards = 3").unwrap();
        drop(writer);
        let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        let source = Source::open(&TABLE, Flags::new(), Some(path.clone()), &nothing).unwrap();
        assert_eq!([shards(&source), shards(&source)], [Some(3); 2]);

        let (variable, descriptor) = source.hand_over().unwrap().unwrap();
        let env = |name: &str| (name == variable).then(|| descriptor.as_raw_fd().to_string().into());
        let successor = Source::open(&TABLE, Flags::new(), Some(path), &env).unwrap();
        assert_eq!(shards(&successor), Some(3));
        assert!(successor.hand_over().unwrap().is_some(), "it hands it over in turn");
    }

    #[test]
    fn a_regular_file_is_read_anew() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "shards = 3").unwrap();
        let source = Source::open(&TABLE, Flags::new(), Some(file.path().into()), &nothing).unwrap();
        fs::write(file.path(), "shards = 4").unwrap();
        assert_eq!((shards(&source), source.hand_over().unwrap().is_none()), (Some(4), true));
        assert!(Source::open(&TABLE, Flags::new(), Some("/absent".into()), &nothing).is_err());
    }
}
