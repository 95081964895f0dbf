//! Everything that is sampled, at one moment.

use tickstream_load::sample::{MachineSample, ProcessSample, ThreadSample};

/// Counters and samples.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub at_us: u64,
    pub messages: u64,
    pub bytes: u64,
    pub server: Option<ProcessSample>,
    pub own: ProcessSample,
    pub threads: Vec<Option<ThreadSample>>,
    pub machine: MachineSample,
}
