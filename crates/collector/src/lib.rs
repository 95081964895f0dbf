#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod budget;
pub mod clock;
mod collector;
mod drain;
pub mod event_id;
pub mod http;
pub mod intake;
pub mod keys;
pub mod metrics;
pub mod outcome;
pub mod process;
pub mod quota;
pub mod settings;
pub mod sources;
pub mod stream;
pub mod tls;
pub mod upstream;
pub mod writer;

pub use collector::{Addresses, Collector, CollectorConfig, StartError};
