//! Names of events that Explore's fields suggest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tickstream_warehouse_core::query::{Engine, Role};
use tokio::sync::Mutex;

use crate::ask::{AskError, Asker};
use crate::filters::DAY;
use crate::table::Table;

/// Time for which names are kept: they are a suggestion, and asking for them reads all events of a month.
const KEPT: Duration = Duration::from_secs(60);
const DAYS: i64 = 30;

/// The most frequent names of people's events, kept for a minute.
#[derive(Debug, Default)]
pub struct Names(Mutex<Option<(Instant, Arc<Table>)>>);

impl Names {
    /// The names of the 30 days before `now`, nanoseconds since 1970.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn get(&self, engine: &Engine, now: i64) -> Result<Arc<Table>, AskError> {
        let mut kept = self.0.lock().await;
        if let Some((_, names)) = kept.as_ref().filter(|(at, _)| at.elapsed() < KEPT) {
            return Ok(names.clone());
        }
        let sql = format!(
            "SELECT event_name, count(*) AS n FROM client_events WHERE timestamp_ns >= {} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 50",
            now - DAYS * DAY
        );
        // Names describe nobody: they are the same for all users.
        let role = Role::masked();
        let names = Arc::new(Asker::new(engine, &role).page(&sql).await?);
        *kept = Some((Instant::now(), names.clone()));
        Ok(names)
    }
}
