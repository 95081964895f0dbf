//! Commits against exactly one version of the table.

use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake::kernel::{Action, Add, Remove, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableError};

use crate::events::PARTITIONS;

/// Changes of one commit.
#[derive(Debug, Default)]
pub struct Changes {
    /// Files that come.
    pub adds: Vec<Add>,
    /// Files that go.
    pub removes: Vec<Remove>,
    /// Numbers by name that the table keeps, such as watermarks.
    pub numbers: Vec<(String, i64)>,
}

/// A commit that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Version that it made.
    pub version: u64,
}

/// A commit that wasn't made, or of which it isn't known.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else committed first.
    #[error("the table has a newer version than {read}")]
    Conflict {
        /// Version that the commit built on.
        read: u64,
    },
    /// The store failed. The commit may have been made all the same: read the table again.
    #[error("committing to the table of events")]
    Delta(#[source] Box<DeltaTableError>),
}

/// Commits `changes` on top of exactly the version that `table` has, and moves `table` to the new one.
///
/// # Errors
/// [`CommitError::Conflict`] if there is a newer version.
pub async fn commit(
    table: &mut DeltaTable,
    changes: Changes,
    action: &'static str,
) -> Result<Committed, CommitError> {
    let failed = |error| CommitError::Delta(Box::new(error));
    let state = table.snapshot().map_err(failed)?;
    let read = state.version();
    let operation = DeltaOperation::Write {
        mode: SaveMode::Append,
        partition_by: Some(PARTITIONS.iter().map(|&name| name.to_owned()).collect()),
        predicate: None,
    };
    let adds = changes.adds.into_iter().map(Action::Add);
    let actions = adds.chain(changes.removes.into_iter().map(Action::Remove)).collect();
    let transactions =
        changes.numbers.into_iter().map(|(name, number)| Transaction::new(name, number)).collect();
    let properties = CommitProperties::default()
        .with_max_retries(0)
        .with_application_transactions(transactions)
        .with_metadata([("tickstream".to_owned(), action.into())]);
    let prepared = CommitBuilder::from(properties)
        .with_actions(actions)
        .build(Some(state), table.log_store(), operation)
        .into_prepared_commit_future()
        .await
        .map_err(failed)?;
    let made = match prepared.await {
        Ok(made) => made,
        Err(error) if is_conflict(&error) => return Err(CommitError::Conflict { read }),
        Err(error) => return Err(failed(error)),
    };
    let version = made.version;
    // From here on the commit is made. A checkpoint that fails is made by a later commit.
    match made.await {
        Ok(finished) => table.state = Some(finished.snapshot()),
        Err(error) => {
            tracing::warn!(%error, version, "version is committed; its checkpoint or log clean-up failed");
            table.update_incremental(Some(version)).await.map_err(failed)?;
        }
    }
    Ok(Committed { version })
}

fn is_conflict(error: &DeltaTableError) -> bool {
    use TransactionError::{CommitConflict, MaxCommitAttempts, VersionAlreadyExists};
    match error {
        DeltaTableError::VersionAlreadyExists(_) => true,
        DeltaTableError::Transaction { source } => {
            matches!(source, CommitConflict(_) | MaxCommitAttempts(_) | VersionAlreadyExists(_))
        }
        _ => false,
    }
}
