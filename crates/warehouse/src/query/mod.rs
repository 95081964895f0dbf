//! SQL over one version of the tables and the journals' tail.

pub mod answer;
pub mod catalog;
mod distinct;
pub mod engine;
pub mod facts;
pub mod format;
mod growth;
pub mod guard;
pub mod journal_place;
mod kept_rows;
mod lag_lead;
pub mod limits;
mod plan_rule;
mod read_once;
mod refused;
mod scan;
mod scan_filters;
pub mod session;
pub mod tail;
pub mod views;
mod yielding;

pub use answer::{Answer, AsOf, QueryError};
pub use engine::{Engine, Role};
pub use format::{Format, Writer};
pub use limits::Limits;
pub use scan::Scan;
