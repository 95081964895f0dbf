//! Every decision of a tickstream shard, and no I/O.
//!
//! A [`Shard`] is told what happened (a connection was accepted, bytes came, a send completed, time passed) and
//! answers with [`Action`]s (send these bytes, close that connection) and with the time at which it wants to be
//! called again. It has no clock, socket, thread, file or random source; `clippy.toml` bans them. So the same
//! calls give the same answers, and a shard with its 100,000 connections runs in a unit test.
//!
//! One pass of whoever drives it:
//!
//! 1. [`Shard::advance`] with the time, then what happened: [`Shard::accept`], [`Shard::received`],
//!    [`Shard::sent`], …;
//! 2. [`Shard::handle_timeout`];
//! 3. carry out what [`Shard::poll_action`] answers, until `None` or until it's somebody else's turn;
//! 4. come back by [`Shard::poll_timeout`].
//!
//! With event collection, the driver also carries records to a journal: see [`Shard::poll_record`].
//!
//! A map: `admission` lets a connection in, `session` is one connection's state machine, `streams` holds a stream's log and subscribers,
//! `schedule` turns time into sequences, `outbox` has a connection's pending frames, `wheel` keeps deadlines,
//! `ingest` makes records of published events, and `shard` joins them.

#![forbid(unsafe_code)]

mod action;
mod admission;
mod auth;
mod auth_limiter;
mod batch;
mod bounds;
mod clock;
mod close;
mod config;
mod counters;
mod deliveries;
mod drain;
mod identity;
mod ids;
mod ingest;
mod latency;
mod limit;
mod memory;
mod network;
mod outbox;
mod proxy;
mod schedule;
mod session;
mod shard;
mod slots;
mod streams;
mod view;
mod wheel;

pub use action::{Action, Refused, Report, Secured, SendOutcome};
pub use auth::{Access, CredentialError, Credentials, User};
pub use batch::SealedFrame;
pub use clock::{ClockStep, Now};
pub use close::CloseReason;
pub use close::Severity;
pub use config::{Config, ConfigError, Limits, Phase, ProxyProtocol};
pub use counters::{ClockSteps, Counters, StreamCounters};
pub use ids::{ConnId, Slot};
pub use ingest::{
    IngestConfig, IngestCounters, IngestPressure, PrivacyAction, PrivacyConfig, PrivacyError, PrivacyRule,
    Record, RecordId, RejectionCode, RestoreError, StorageFault,
};
pub use latency::Latencies;
pub use limit::Limit;
pub use memory::MemoryTerm;
pub use network::{AddressKey, Network, NetworkError};
pub use schedule::{Rate, RateError};
pub use shard::Shard;
pub use tickstream_wire::messages::Mode;
pub use view::{Connection, Identified, Standing};
