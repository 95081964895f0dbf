//! The tickstream server: sockets, shards and configuration.
//!
//! To look at first: [`serve`] starts the shards, `shard/driver.rs` is the loop of one, [`ring`] its sockets.
//! Every decision about a connection is made in `tickstream-engine`.

#![forbid(unsafe_code)]

pub mod admin;
pub mod config;
pub mod engine_config;
pub mod handle;
pub mod journal_lock;
pub mod listeners;
pub mod maintenance;
pub mod otlp;
pub mod placement;
pub mod preflight;
pub mod reload;
mod retention;
pub mod ring;
pub mod serve;
pub mod shard;
pub mod stored;
pub mod sync;
mod threads;
pub mod tls;
pub mod upgrade;
pub mod versioned;
