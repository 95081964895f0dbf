//! Anomalies: of counts against the same weekday and hour, of any series as it streams, and change points of a level.

pub mod change;
pub mod seasonal;
pub mod streaming;
