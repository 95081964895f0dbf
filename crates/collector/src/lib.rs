#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod budget;
pub mod cardinality;
pub mod clock;
mod collector;
mod delivery;
mod directory;
mod drain;
mod durations;
pub mod event_id;
pub mod files;
pub mod free_memory;
mod handover;
pub mod host;
pub mod http;
pub mod intake;
pub mod kernel_drops;
pub mod keys;
pub mod metrics;
pub mod networks;
pub mod outcome;
mod patterns;
pub mod pipes;
pub mod process;
pub mod quota;
mod retime;
pub mod routes;
pub mod rules;
pub mod scrape;
pub mod settings;
pub mod snapshot;
pub mod source_config;
pub mod sources;
pub mod spool;
pub mod stream;
pub mod tls;
pub mod upstream;
pub mod writer;

pub use collector::{Addresses, Collector, CollectorConfig, StartError};
