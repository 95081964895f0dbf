//! Results of tasks.

use tokio::task::{JoinError, JoinSet};

/// The result of the next task that ends; `None` if there is no task. A panic of a task goes on here.
pub async fn next<T: 'static>(tasks: &mut JoinSet<T>) -> Option<T> {
    match tasks.join_next().await?.map_err(JoinError::try_into_panic) {
        Ok(done) => Some(done),
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime has ended, and the process with it.
        Err(Err(_)) => std::future::pending().await,
    }
}
