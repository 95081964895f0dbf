//! Analyses of events, and the pages that show them. `docs/insights.md` has their definitions.
//!
//! - `funnel`, `sessions`, `identity`, `retention`, `paths`, `attribution`, `experiment`, `anomaly`, `forecast`, `slo`, `video`, `cost`,
//!   `errors`, `statistics`: plain functions over slices, without input, output or a clock;
//! - `journeys`, `texts`: events of persons in columns, from SQL;
//! - `table`, `filters`: rows of an answer; the period and values that an address asks for, as SQL;
//! - `teams`: the questions of seven teams, one table of items;
//! - `ask`, `answers`: answers, by SQL in the warehouse; those that are kept for the pages;
//! - `alerts`: rules over the answers, at any time;
//! - `plan`: the tracking plan, compared with the tables;
//! - `transform`: sessions, groups of errors and costs shared out, as tables that are kept up to date;
//! - `focus`: costs for other programs;
//! - `pages`: the pages of teams, time lines and Explore, made on the server.
#![forbid(unsafe_code)]

pub mod alerts;
pub mod anomaly;
pub mod answers;
pub mod ask;
pub mod attribution;
pub mod cost;
pub mod errors;
pub mod experiment;
pub mod filters;
pub mod focus;
pub mod forecast;
pub mod funnel;
pub mod identity;
pub mod journeys;
mod memo;
pub mod pages;
pub mod paths;
pub mod plan;
pub mod retention;
pub mod sessions;
pub mod slo;
pub mod statistics;
pub mod table;
pub mod teams;
pub mod texts;
pub mod transform;
pub mod video;
