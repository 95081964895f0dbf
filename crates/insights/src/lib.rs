//! Analyses of events as plain functions over slices, without input, output or a clock. `docs/insights.md` has their
//! definitions.
#![forbid(unsafe_code)]

pub mod funnel;
pub mod statistics;
