//! Counts the bytes that a call allocates.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static MEMORY: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Bytes that `call` asks the allocator for, whether or not it gives them back; its caller must be the only thread.
pub fn allocated<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let region = Region::new(MEMORY);
    let answer = call();
    (answer, region.change().bytes_allocated)
}
