//! `tickstream-load`: a load generator for tickstream servers that verifies every tick.
//!
//! A run is led by the main thread ([`Options`] → plan → [`run`]): it starts the workers, tells them what to do
//! next, samples CPU and memory, and sums up. Each worker holds its share of the connections on a ring and a
//! descriptor table of its own, and shares nothing but a few gauges with the others.
//!
//! What bytes mean and whether they are right is decided without I/O in `connection`, `batch`, `verify` and
//! `schedule`; `worker` does what comes out; `kernel` has all the `unsafe`.

mod batch;
mod connection;
pub mod kernel;
mod options;
mod pace;
mod progress;
mod report;
mod run;
mod sample;
mod schedule;
mod stats;
mod summary;
mod verify;
mod worker;

pub use options::{Options, Plan, PlanError};
pub use run::run;
pub use schedule::Schedule;
pub use summary::Summary;
