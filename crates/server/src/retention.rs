//! Retention beside the shards: reads how far consumers of their journals are, and removes what is too old or too much of
//! journals that no process writes.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, thread};

use tickstream_journal::{self as journal, Retention};

use crate::config::Events;
use crate::shard::{Control, with_cause};

/// Interval at which consumers are read.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Number of those intervals between two looks at journals without an owner.
const UNOWNED_LOOKS: u32 = 60;

/// Starts the thread, which ends with the process.
///
/// # Errors
/// If it can't be started.
pub fn spawn(events: Events, control: Arc<Control>) -> io::Result<()> {
    let run = move || {
        let shards = control.shards() as u64;
        let retention =
            Retention { bytes: events.journal_bytes_max.map(|share| share * shards), ..events.retention() };
        for look in 0_u32.. {
            thread::sleep(LOOK_INTERVAL);
            (0..control.shards()).for_each(|shard| control.consumers(shard).look());
            if look.is_multiple_of(UNOWNED_LOOKS) {
                remove_unowned(&events, &retention);
            }
        }
    };
    thread::Builder::new().name("retention".to_owned()).spawn(run)?;
    Ok(())
}

fn remove_unowned(events: &Events, retention: &Retention) {
    if retention.age.is_none() && retention.bytes.is_none() {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    match journal::remove_unowned(&events.journal, retention, now_ns) {
        Ok(all) => {
            for journal::Removed { path, segments, error } in all {
                match error {
                    Some(error) => tracing::error!(
                        journal = %path.display(),
                        segments,
                        error = with_cause(&error),
                        "segments of a journal that no process writes can't be removed"
                    ),
                    None => tracing::info!(
                        journal = %path.display(),
                        segments,
                        "segments of a journal that no process writes were removed"
                    ),
                }
            }
        }
        Err(error) => {
            tracing::error!(journals = %events.journal.display(), %error, "journals that no process writes can't be found");
        }
    }
}
