//! The admin endpoint of the real binary: over HTTP as monitoring systems, operators and nuisances call it.

mod changes;
mod events;
mod health;
mod hostile;
mod metrics;
mod operator;
mod page;
#[path = "../commands/process.rs"]
mod process;
mod prometheus;
mod reload;
mod support;
mod tap;
mod top;
mod users;
