//! One module for each protocol: a decoder, without I/O.

pub mod analytics;
pub mod elasticsearch;
pub(crate) mod entries;
mod fields;
pub mod fluent;
mod json;
pub mod lines;
pub mod otlp;
pub mod own;
pub mod prometheus;
pub mod statsd;
pub mod syslog;
