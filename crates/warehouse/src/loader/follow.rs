//! Loading that goes on: what has come is committed again and again, and read in between for queries that ask.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::error::is_transient;
use super::{LoadError, Loader, log_error, with_sources};

/// Time after which ids are written into files, so that queries of other processes find them there. The log keeps the
/// versions since for longer.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// Time after which the whole log is listed for versions that have come; in between, only the next one is asked for. (Of
/// versions that came while this process was stopped for long, the next one may be gone from the log.)
const LIST_INTERVAL: Duration = Duration::from_secs(30);

impl Loader {
    /// Loads until `stop` says so: reads every `interval`, and commits what has come. Where that takes longer, the next one
    /// begins after a short pause.
    ///
    /// # Errors
    /// If it can't go on. Failures of the store are repeated without end, with pauses.
    pub async fn follow(
        &mut self,
        interval: Duration,
        mut stop: watch::Receiver<bool>,
        mut done: impl FnMut(&Self, Result<(), &LoadError>),
    ) -> Result<(), LoadError> {
        self.shared.set_following(true);
        let followed = self.follow_until(interval, &mut stop, &mut done).await;
        self.shared.set_following(false);
        followed?;
        self.load_all().await?;
        self.save()
    }

    async fn follow_until(
        &mut self,
        interval: Duration,
        stop: &mut watch::Receiver<bool>,
        done: &mut impl FnMut(&Self, Result<(), &LoadError>),
    ) -> Result<(), LoadError> {
        let mut pause = interval;
        while !*stop.borrow() {
            let begun = Instant::now();
            let result = self.load_and_refresh().await;
            done(self, result.as_ref().copied());
            match result {
                Ok(()) => pause = interval.saturating_sub(begun.elapsed()).max(interval / 10),
                Err(error) if is_transient(&error) => {
                    pause = (pause * 2).min(Duration::from_secs(30));
                    let reason = with_sources(&error);
                    tracing::warn!(reason, ?pause, "loading failed and is tried again");
                }
                Err(error) => return Err(error),
            }
            // After a failure there is nothing to show until the table was read again: queries needn't wait for it.
            self.shared.set_following(self.is_sound);
            let due = tokio::time::Instant::now() + pause;
            while !self.is_batch_full() {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => break,
                    changed = stop.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return Ok(()),
                    },
                    // What is read now is committed when it is due. A journal that can't be read is told then.
                    () = self.shared.question(), if self.is_sound => {
                        if tokio::task::block_in_place(|| self.read()).is_err() {
                            break;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    async fn load_and_refresh(&mut self) -> Result<(), LoadError> {
        let commits = self.counts.commits;
        self.load_all().await?;
        if self.saved.elapsed() >= SAVE_INTERVAL {
            self.save()?;
            self.saved = Instant::now();
        }
        if self.counts.commits == commits {
            // Compactions and other hosts commit, too: queries follow this loader's version.
            self.refresh().await?;
        }
        Ok(())
    }

    /// Goes to the newest version, when no rows wait.
    async fn refresh(&mut self) -> Result<(), LoadError> {
        self.is_sound = false;
        if self.has_newer_version().await? {
            self.table.update_state().await.map_err(log_error)?;
        }
        self.journals.rescan()?;
        let known = self.shared.ids().version();
        if self.version() != known {
            self.take_ids().await?;
            self.read_watermarks().await?;
            // An erasure is a version, too: nothing is committed on top of it before its list is known.
            self.respect_erasures().await?;
        }
        self.is_sound = true;
        Ok(())
    }

    /// True if the log may have a newer version.
    async fn has_newer_version(&mut self) -> Result<bool, LoadError> {
        if self.listed.elapsed() >= LIST_INTERVAL {
            self.listed = Instant::now();
            return Ok(true);
        }
        let next = self.table.log_store().read_commit_entry(self.version() + 1).await;
        Ok(next.map_err(log_error)?.is_some())
    }
}
