//! Analyses of events as plain functions over slices, without input, output or a clock. `docs/insights.md` has their
//! definitions.
#![forbid(unsafe_code)]

pub mod anomaly;
pub mod attribution;
pub mod cost;
pub mod errors;
pub mod experiment;
pub mod forecast;
pub mod funnel;
pub mod identity;
pub mod paths;
pub mod retention;
pub mod sessions;
pub mod slo;
pub mod statistics;
pub mod video;
