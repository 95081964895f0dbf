//! The admin endpoint of the real binary: over HTTP as monitoring systems, operators and nuisances call it.

mod changes;
mod events;
mod health;
mod hostile;
mod metrics;
mod operator;
mod page;
mod prometheus;
mod reload;
mod support;
mod tap;
mod top;
mod users;
