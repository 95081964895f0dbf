//! Faults of the warehouse, by their numbers: what fails is named or repeated, and no event is lost or doubled.
//!
//! The steps at which a process is killed are in `crash` (74), attacks by SQL in `sql` (80).

mod clickhouse;
mod files;
mod loading;
mod queries;
mod stores;
