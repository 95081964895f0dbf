//! Events of tickstream's journals as Delta tables: loading, maintenance, erasure, SQL.
//!
//! - `events`: from the bytes of a stored batch to Arrow columns;
//! - `store`: where tables lie, files and commits that survive a power cut;
//! - `aggregates`: counts, uniques and quantiles by minute that are kept up to date;
//! - `derived`: tables that other crates compute from events: sessions, groups of errors, costs shared out;
//! - `dedup`: ids of the newest events;
//! - `loader`: journals into the table of events, each event once;
//! - `hash`: hash tables for keys that clients choose;
//! - `import`: events from elsewhere;
//! - `maintenance`: compaction, vacuum, retention, verification, erasure;
//! - `mirror`: the same rows in ClickHouse;
//! - `rules`, `jobs`: how long rows are kept, scheduled queries;
//! - `query`, `functions`: SQL over one version and the journals' tail;
//! - `sample`: generated events whose truth is known;
//! - `serve`: the wires that queries come over;
//! - `tasks`: results of tasks.

#![forbid(unsafe_code)]

pub mod aggregates;
pub mod dedup;
pub mod derived;
pub mod events;
pub mod functions;
pub mod hash;
pub mod import;
pub mod jobs;
pub mod loader;
pub mod maintenance;
pub mod mirror;
pub mod query;
pub mod rules;
pub mod sample;
pub mod serve;
pub mod store;
pub mod tasks;
