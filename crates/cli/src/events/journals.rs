//! Finds the journals of a directory.

use std::fs;
use std::path::{Path, PathBuf};

use super::EventsError;
use crate::journal_files::is_journal;

/// A journal's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the directory: `000` is the first shard's.
    pub name: String,
    /// Its path.
    pub path: PathBuf,
}

/// The journals in a directory, by number, or the one that it is itself.
///
/// # Errors
/// If there is none, or the directory can't be read.
pub fn find(directory: &Path) -> Result<Vec<Place>, EventsError> {
    let unreadable = |source| EventsError::Directory { path: directory.to_owned(), source };
    if is_journal(directory).map_err(unreadable)? {
        // "." has no name of its own.
        let named = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        return Ok(vec![Place { name: name_of(&named), path: directory.to_owned() }]);
    }
    let mut places = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = name_of(&path);
        if name.bytes().all(|byte| byte.is_ascii_digit())
            && path.is_dir()
            && is_journal(&path).unwrap_or(true)
        {
            places.push(Place { name, path });
        }
    }
    places.sort_unstable_by_key(|place| (place.name.len(), place.name.clone()));
    if places.is_empty() {
        return Err(EventsError::NoJournal(directory.to_owned()));
    }
    Ok(places)
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_journals_or_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let check = |directory: &Path, expected: Result<&[&str], &str>| match (find(directory), expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(found.iter().map(|place| place.name.as_str()).collect::<Vec<_>>(), expected);
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        };
        check(&folder.path().join("absent"), Err("absent: No such file"));
        check(folder.path(), Err("holds no journal"));
        for name in ["1000", "002", "000", "lost+found", "007"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for file in ["1000/lock", "002/lock", "000/00000000000000000001.journal", "lost+found/lock"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        check(folder.path(), Ok(&["000", "002", "1000"]));
        check(&folder.path().join("002"), Ok(&["002"]));
    }
}
