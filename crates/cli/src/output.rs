//! Files that commands write. None may be a file that the command reads, under whatever name, and none loses what it
//! held before there is something to take its place.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::journal_files::is_beside_a_journal;

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 1 << 16;

/// The files that a command reads, by device and inode: links and other names are the same file.
#[derive(Clone, Debug, Default)]
pub struct Inputs(Vec<(FileId, String)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// `None` for devices, which can be read and written at once: a terminal, /dev/null.
    fn of(metadata: &Metadata) -> Option<Self> {
        let kind = metadata.file_type();
        (kind.is_file() || kind.is_fifo()).then(|| Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Inputs {
    /// Adds a file. One that isn't there can't be overwritten.
    pub fn add(&mut self, path: &Path) {
        if let Ok(metadata) = fs::metadata(path) {
            self.add_metadata(&metadata, path.display().to_string());
        }
    }

    /// Adds what is open.
    pub fn add_open(&mut self, file: &File, name: &str) {
        if let Ok(metadata) = file.metadata() {
            self.add_metadata(&metadata, name.to_owned());
        }
    }

    fn add_metadata(&mut self, metadata: &Metadata, name: String) {
        self.0.extend(FileId::of(metadata).map(|id| (id, name)));
    }

    /// Refuses an output that is one of these.
    fn check(&self, output: &Metadata) -> io::Result<()> {
        let same = FileId::of(output).and_then(|id| self.0.iter().find(|(input, _)| *input == id));
        match same {
            Some((_, name)) => {
                let problem = format!("it is the same file as {name}, which is read; name another one");
                Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
            }
            None => Ok(()),
        }
    }

    /// Refuses a standard output that is one of these: `command file >> file`.
    ///
    /// # Errors
    /// If it is one of them; the error names it.
    pub fn check_stdout(&self) -> io::Result<()> {
        self.check(&opened(&io::stdout())?.metadata()?)
    }
}

/// A file to write.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    inputs: Inputs,
    /// Opened where there is such a file already; its content is left alone until the first write.
    existing: Option<File>,
    writer: Option<BufWriter<File>>,
    has_unsynced: bool,
}

impl OutputFile {
    /// Finds out whether the file can be written, without making or changing it.
    ///
    /// # Errors
    /// If it is one of `inputs`, is among the files of a journal, or can't be written.
    pub fn prepare(path: &Path, inputs: Inputs) -> io::Result<Self> {
        if is_beside_a_journal(path) {
            let problem = "it would be in a journal's directory; name another one";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let existing = match OpenOptions::new().write(true).open(path) {
            Ok(file) => {
                inputs.check(&file.metadata()?)?;
                Some(file)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                rustix::fs::access(folder.unwrap_or(Path::new(".")), rustix::fs::Access::WRITE_OK)?;
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), inputs, existing, writer: None, has_unsynced: false })
    }

    /// Makes the file, or empties the one that is there, unless that was done before.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn begin(&mut self) -> io::Result<&mut BufWriter<File>> {
        if self.writer.is_none() {
            let file = match self.existing.take() {
                Some(file) => file,
                None => OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?,
            };
            // Also one that was made in the meantime.
            self.inputs.check(&file.metadata()?)?;
            self.writer = Some(BufWriter::with_capacity(BUFFER_BYTES, emptied(file)?));
        }
        Ok(self.writer.as_mut().expect("it was just made"))
    }

    /// Has what was written on stable storage, as far as the file is on any.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn sync(&mut self) -> io::Result<()> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.has_unsynced) else { return Ok(()) };
        writer.flush()?;
        if writer.get_ref().metadata()?.is_file() {
            writer.get_ref().sync_data()?;
        }
        self.has_unsynced = false;
        Ok(())
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.has_unsynced = true;
        self.begin()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

/// The file without content. Standard output and standard error by another name, such as /dev/stdout, are shared
/// instead: what they were given by others stays.
fn emptied(file: File) -> io::Result<File> {
    let metadata = file.metadata()?;
    let id = FileId::of(&metadata);
    for shared in [opened(&io::stdout()), opened(&io::stderr())].into_iter().flatten() {
        if id.is_some() && FileId::of(&shared.metadata()?) == id {
            return Ok(shared);
        }
    }
    if metadata.is_file() {
        file.set_len(0)?;
    }
    Ok(file)
}

fn opened(stream: &impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(path: &Path) -> Inputs {
        let mut inputs = Inputs::default();
        inputs.add(path);
        inputs
    }

    #[test]
    fn no_name_of_an_input_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("in"), "precious").unwrap();
        fs::hard_link(at("in"), at("hard")).unwrap();
        std::os::unix::fs::symlink(at("in"), at("soft")).unwrap();
        fs::create_dir(at("sub")).unwrap();
        for name in ["in", "hard", "soft", "sub/../in"] {
            let error = OutputFile::prepare(&at(name), inputs(&at("in"))).unwrap_err();
            assert!(error.to_string().contains("the same file as"), "{name}: {error}");
        }
        // Linked after the first look.
        let mut late = OutputFile::prepare(&at("late"), inputs(&at("in"))).unwrap();
        fs::hard_link(at("in"), at("late")).unwrap();
        late.write_all(b"lost").unwrap_err();
        assert_eq!(fs::read_to_string(at("in")).unwrap(), "precious");
    }

    #[test]
    fn no_file_of_a_journal_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("000")).unwrap();
        fs::write(at("000/lock"), "").unwrap();
        fs::write(at("000/next"), "the next segment").unwrap();
        std::os::unix::fs::symlink(at("000/next"), at("soft")).unwrap();
        for name in ["000/next", "000/new", "000/../000/new", "soft"] {
            let error = OutputFile::prepare(&at(name), Inputs::default()).unwrap_err();
            assert!(error.to_string().contains("in a journal's directory"), "{name}: {error}");
        }
        OutputFile::prepare(&at("beside"), Inputs::default()).unwrap();
        assert_eq!(fs::read_to_string(at("000/next")).unwrap(), "the next segment");
    }

    #[test]
    fn nothing_is_made_or_emptied_before_it_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        fs::write(&old, "earlier").unwrap();
        for path in [&old, &new] {
            drop(OutputFile::prepare(path, Inputs::default()).unwrap());
        }
        assert_eq!(fs::read_to_string(&old).unwrap(), "earlier");
        assert!(!new.exists());
        for path in [&old, &new] {
            let mut file = OutputFile::prepare(path, Inputs::default()).unwrap();
            file.write_all(b"now").unwrap();
            file.sync().unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), "now");
        }
        let nowhere = OutputFile::prepare(&folder.path().join("no/such"), Inputs::default());
        assert_eq!(nowhere.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
