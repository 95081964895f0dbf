//! Threads for what may wait: maintenance, and answers that are kept ready. New events and queries come first.

use std::future::Future;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};

/// Niceness of these threads: where others want the same CPU, those get 98 % of it.
const NICENESS: i32 = 19;

/// A runtime whose threads have low priority, one for two CPUs.
pub struct Background(Option<Runtime>);

impl Background {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn start() -> Result<Self> {
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
        Ok(Self(Some(runtime)))
    }

    /// Runs a task on these threads; its result.
    pub fn run<T>(&self, task: T) -> impl Future<Output = Result<()>> + Send + use<T>
    where
        T: Future<Output = Result<()>> + Send + 'static,
    {
        let running = self.0.as_ref().map(|runtime| runtime.spawn(task));
        async move {
            match running {
                Some(running) => running.await.context("a task in the background ended")?,
                None => Ok(()),
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A runtime that is dropped inside another one would wait for its threads, which isn't allowed there.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
