//! The operations that are measured: `instructions` counts what they execute, `wall` times them.
//!
//! Each goes through the public interfaces of `tickstream-wire` and `tickstream-engine`, as the server's driver
//! does. None needs I/O, a clock, a thread or a random source, so that it executes the same instructions whenever
//! it is repeated.

mod engine;
mod wire;

use std::fmt;

/// Something to measure. It leaves everything as it was, so that it may be repeated without end.
pub type Operation = Box<dyn FnMut()>;

/// A named operation.
pub struct Case {
    /// Its name in the baseline.
    pub name: &'static str,
    /// Frames, connections or passes that one operation handles.
    pub items: u32,
    /// Makes the operation and what it works on.
    pub prepare: fn() -> Operation,
}

/// Every case, by growing part of the system.
pub fn all() -> impl Iterator<Item = &'static Case> {
    wire::CASES.iter().chain(engine::CASES)
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
