//! Consumers of a shard's journal, as the retention's thread finds them: files that a shard doesn't read itself, since that
//! may wait for the disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tickstream_journal::{self as journal, Position};

/// Place of a shard's journal, and positions of its consumers.
#[derive(Debug, Default)]
pub struct ConsumerWatch {
    was_looked_at: AtomicBool,
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    journal: Option<PathBuf>,
    consumers: Vec<Option<Position>>,
    /// Problems with consumers that were last reported.
    said: Vec<String>,
}

impl ConsumerWatch {
    /// The shard has this journal: its consumers, read at once.
    pub(super) fn begin(&self, journal: &Path) -> Vec<Option<Position>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).journal = Some(journal.to_owned());
        self.look();
        self.newest().unwrap_or_default()
    }

    /// The consumers, if they were looked at since the last call.
    pub(super) fn newest(&self) -> Option<Vec<Option<Position>>> {
        // One load in each pass of the shard's loop; the lock is for when there is something.
        let was_looked_at = self.was_looked_at.load(Ordering::Acquire);
        was_looked_at.then(|| {
            self.was_looked_at.store(false, Ordering::Relaxed);
            self.content.lock().unwrap_or_else(PoisonError::into_inner).consumers.clone()
        })
    }

    /// Reads the consumers' files, for the shard to see. One that isn't valid counts as having loaded nothing.
    pub(crate) fn look(&self) {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = content.journal.clone() else { return };
        let mut wrong = Vec::new();
        match journal::consumers(&path) {
            Ok(found) => {
                let positions = found.into_iter().map(|consumer| match consumer.position {
                    Ok(position) => position,
                    Err(error) => {
                        wrong.push(error.to_string());
                        None
                    }
                });
                content.consumers = positions.collect();
            }
            // Those that were known stay.
            Err(error) => wrong.push(error.to_string()),
        }
        if content.said != wrong {
            for error in &wrong {
                tracing::error!(journal = %path.display(), %error, "a consumer of the journal can't be read");
            }
            content.said = wrong;
        }
        drop(content);
        self.was_looked_at.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_sees_consumers_and_one_that_is_invalid_has_loaded_nothing() {
        let journal = tempfile::tempdir().unwrap();
        let watch = ConsumerWatch::default();
        watch.look();
        assert_eq!(watch.newest(), None);
        assert_eq!(watch.begin(journal.path()), []);
        assert_eq!(watch.newest(), None);
        let position = Position { journal: journal::JournalId([1; 16]), sequence: 5, group_crc: 0 };
        journal::Consumer::open(journal.path(), "tables").unwrap().advance(position).unwrap();
        std::fs::write(journal.path().join("consumers/clickhouse"), "?").unwrap();
        watch.look();
        assert_eq!(watch.newest(), Some(vec![None, Some(position)]));
    }
}
