//! Limits of queries: memory, disk, time, rows, concurrency.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

/// Largest consumers of memory that an error names.
const NAMED_CONSUMERS: NonZeroUsize = NonZeroUsize::new(3).expect("not zero");

/// Limits of all queries of a process.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Memory of one query, bytes. Sorts, joins and aggregates that need more go to disk.
    pub memory_bytes: usize,
    /// Disk of one query, bytes.
    pub spill_bytes: u64,
    /// Directory for what goes to disk.
    pub spill_directory: PathBuf,
    /// Time of one query.
    pub time: Duration,
    /// Rows of one answer.
    pub rows: u64,
    /// Queries at the same time; more of them wait.
    pub concurrent: usize,
    /// Queries that wait; more of them are refused.
    pub waiting: usize,
    /// Threads of one query.
    pub threads: usize,
}

impl Limits {
    /// Limits for a small machine. Spills go below `state`.
    pub fn new(state: &Path) -> Self {
        Self {
            memory_bytes: 512 << 20,
            spill_bytes: 10 << 30,
            spill_directory: state.join("spill"),
            time: Duration::from_secs(60),
            rows: 10_000_000,
            concurrent: 4,
            waiting: 64,
            threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        }
    }

    /// Memory and disk of one query, which are given back when it is dropped.
    ///
    /// # Errors
    /// If the directory for spills can't be used.
    pub fn runtime(&self) -> Result<Arc<RuntimeEnv>, DataFusionError> {
        std::fs::create_dir_all(&self.spill_directory)?;
        let pool = TrackConsumersPool::new(FairSpillPool::new(self.memory_bytes), NAMED_CONSUMERS);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_temp_file_path(&self.spill_directory)
            .with_max_temp_directory_size(self.spill_bytes)
            .build()?;
        Ok(Arc::new(runtime))
    }
}
