//! Answers of queries: rows as they are found, within the limits; and why there is none.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use deltalake::parquet::errors::ParquetError;
use futures::{Stream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::guard::Refused;
use super::journal_place::JournalPlace;
use super::limits::Limits;
use crate::loader::LoadError;
use crate::store::StoreError;

/// A query that has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement isn't admitted.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Too many wait already.
    #[error("{waiting} queries are waiting; try again later")]
    Busy {
        /// Queries that wait.
        waiting: usize,
    },
    /// Tables can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tail of the journals can't be read.
    #[error(transparent)]
    Tail(#[from] LoadError),
    /// The query can't be planned or run.
    #[error("the query can't be answered")]
    Run(#[source] Box<DataFusionError>),
    /// A file of the tables isn't what was written.
    #[error("a file of the tables is damaged; `tickstream-warehouse verify` names it")]
    Damaged(#[source] Box<DataFusionError>),
    /// The query took too long.
    #[error("the query took longer than {}; ask for less, or raise query_time", humantime(*.0))]
    Time(Duration),
    /// The answer has too many rows.
    #[error("the answer has more than {0} rows; add a LIMIT, or raise query_rows")]
    Rows(u64),
}

fn humantime(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds == 1.0 { "1 second".to_owned() } else { format!("{seconds} seconds") }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        if is_damage(&error) { Self::Damaged(Box::new(error)) } else { Self::Run(Box::new(error)) }
    }
}

/// True if a file that isn't as it was written is the cause. A condition that can't be computed fails in the midst of a
/// file, too, and isn't.
fn is_damage(error: &DataFusionError) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    let causes = || std::iter::successors(Some(first), |error| error.source());
    let is_parquet = causes().any(|error| {
        error.is::<ParquetError>()
            || matches!(error.downcast_ref(), Some(ArrowError::ParquetError(_)))
            || matches!(error.downcast_ref(), Some(DataFusionError::ParquetError(_)))
    });
    let is_computed = |error: &(dyn std::error::Error + 'static)| {
        matches!(error.downcast_ref(), Some(ArrowError::ComputeError(_)))
    };
    // A store that doesn't answer says nothing about a file; one that hasn't the file does.
    let is_store = |error: &(dyn std::error::Error + 'static)| {
        let error = error.downcast_ref::<deltalake::ObjectStoreError>();
        error.is_some_and(|error| !matches!(error, deltalake::ObjectStoreError::NotFound { .. }))
    };
    is_parquet && !causes().any(|error| is_computed(error) || is_store(error))
}

/// Version and places of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// Version of the table.
    pub version: u64,
    /// Places of this host's journals; others' events are there up to their last commit.
    pub journals: Vec<JournalPlace>,
}

/// Rows of an answer, within the limits.
pub struct Answer {
    /// Columns.
    pub schema: SchemaRef,
    /// Version and places that it is of.
    pub as_of: AsOf,
    rows: SendableRecordBatchStream,
    rows_left: u64,
    limits: (Duration, u64),
    deadline: Pin<Box<Sleep>>,
    is_over: bool,
    failed: Arc<AtomicU64>,
    _permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("schema", &self.schema)
            .field("as_of", &self.as_of)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// Rows that end at `deadline`; a failure is counted.
    pub(super) fn new(
        rows: SendableRecordBatchStream,
        as_of: AsOf,
        limits: &Limits,
        deadline: Instant,
        failed: Arc<AtomicU64>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            schema: rows.schema(),
            as_of,
            rows,
            rows_left: limits.rows,
            limits: (limits.time, limits.rows),
            deadline: Box::pin(tokio::time::sleep_until(deadline)),
            is_over: false,
            failed,
            _permit: permit,
        }
    }

    /// The same answer with another limit of rows, for a caller that doesn't keep them.
    #[must_use]
    pub fn with_rows_max(self, rows_max: u64) -> Self {
        Self { rows_left: rows_max, limits: (self.limits.0, rows_max), ..self }
    }

    /// All rows at once.
    ///
    /// # Errors
    /// [`QueryError`] if a limit is reached or the query fails.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, QueryError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl Stream for Answer {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.deadline.as_mut().poll(context).is_ready() {
            self.is_over = true;
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Poll::Ready(Some(Err(QueryError::Time(self.limits.0))));
        }
        let next = futures::ready!(self.rows.poll_next_unpin(context));
        let item = match next {
            None => None,
            Some(Err(error)) => Some(Err(error.into())),
            Some(Ok(batch)) => match self.rows_left.checked_sub(batch.num_rows() as u64) {
                Some(left) => {
                    self.rows_left = left;
                    return Poll::Ready(Some(Ok(batch)));
                }
                None => Some(Err(QueryError::Rows(self.limits.1))),
            },
        };
        self.is_over = true;
        self.failed.fetch_add(u64::from(item.is_some()), Ordering::Relaxed);
        Poll::Ready(item)
    }
}

#[cfg(test)]
mod tests {
    use deltalake::ObjectStoreError;

    use super::*;

    #[test]
    fn a_store_that_does_not_answer_is_no_damage() {
        let of = |error: ParquetError| is_damage(&DataFusionError::from(error).context("a file"));
        let store = |error| ParquetError::External(Box::new(error));
        assert!(of(ParquetError::General("a page is cut off".to_owned())));
        assert!(of(store(ObjectStoreError::NotFound { path: String::new(), source: "gone".into() })));
        assert!(!of(store(ObjectStoreError::Generic { store: "S3", source: "no route".into() })));
    }
}
