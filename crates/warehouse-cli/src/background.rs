//! Threads for what may wait: maintenance, and answers that are kept ready. New events and queries come first.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, Result};
use tickstream_warehouse_core::loader::shared::Shared;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};

/// Niceness of these threads: where others want the same CPU, those get 98 % of it.
const NICENESS: i32 = 19;

/// A runtime whose threads have low priority, one for two CPUs: also a thread that yields at once has slowed down the other
/// hyperthread of its core, and emptied its caches.
pub struct Background {
    runtime: Option<Runtime>,
    /// Rows of the loader that queries wait for, if there is one.
    rows: Option<Shared>,
}

impl Background {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn start(rows: Option<Shared>) -> Result<Self> {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cpus.div_ceil(2))
            .enable_all()
            .thread_name("background")
            .thread_stack_size(crate::STACK_BYTES)
            .on_thread_start(|| {
                // On Linux the priority is that of the calling thread alone.
                if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                    tracing::warn!(%error, "maintenance runs at the priority of everything else");
                }
            })
            .build()
            .context("starting threads for maintenance")?;
        Ok(Self { runtime: Some(runtime), rows })
    }

    /// Runs a task on these threads; its result.
    pub fn run<T>(&self, task: T) -> impl Future<Output = Result<()>> + Send + use<T>
    where
        T: Future<Output = Result<()>> + Send + 'static,
    {
        let running = self.runtime.as_ref().map(|runtime| runtime.spawn(task));
        async move {
            match running {
                Some(running) => running.await.context("a task in the background ended")?,
                None => Ok(()),
            }
        }
    }

    /// Runs a task on these threads, while no query waits for the loader.
    pub fn run_behind<T>(&self, task: T) -> impl Future<Output = Result<()>> + Send + use<T>
    where
        T: Future<Output = Result<()>> + Send + 'static,
    {
        let rows = self.rows.clone();
        self.run(give_way(task, move || rows.as_ref().is_some_and(Shared::is_asked)))
    }
}

/// Time between two looks whether others still come first.
const LOOK: Duration = Duration::from_millis(5);
/// Longest time that a task gives way, and time that it runs then, whoever waits.
const WAIT_MAX: Duration = Duration::from_secs(1);
const RUN: Duration = Duration::from_millis(250);

/// Runs a task only while `others` don't come first; a fifth of the time at least. It stops where it yields: between two batches
/// of rows.
async fn give_way<F: Future>(task: F, others: impl Fn() -> bool) -> F::Output {
    let (mut task, mut look) = (pin!(task), pin!(sleep(Duration::ZERO)));
    let (mut waiting_since, mut runs_until) = (None, Instant::now());
    poll_fn(move |context| {
        let now = Instant::now();
        if now >= runs_until && others() {
            if now < *waiting_since.get_or_insert(now) + WAIT_MAX {
                look.as_mut().reset(now + LOOK);
                if look.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
            runs_until = now + RUN;
        }
        waiting_since = None;
        task.as_mut().poll(context)
    })
    .await
}

impl Drop for Background {
    fn drop(&mut self) {
        // A runtime that is dropped inside another one would wait for its threads, which isn't allowed there.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_task_runs_when_others_do_not_wait_and_at_last_although_they_do() {
        let (waits, has_run) = (Cell::new(true), Cell::new(false));
        let mut task = pin!(give_way(async { has_run.set(true) }, || waits.get()));
        assert!(futures::poll!(&mut task).is_pending() && !has_run.get());
        waits.set(false);
        task.await;
        assert!(has_run.get());

        let begun = Instant::now();
        give_way(async {}, || true).await;
        assert!(begun.elapsed() >= WAIT_MAX);
    }
}
