//! tickstream's events: the messages, the rules of their fields, and what follows from them.
//!
//! `proto/events.proto` says all of it once, rules included; docs/events.md is the guide for people. From it the build
//! script generates:
//!
//! - [`events`]: the messages, and those that carry and store them;
//! - [`table`]: each message's fields with number, name, type and rules.
//!
//! By the table, without allocation and where the bytes lie:
//!
//! - [`plan`]: the table joined with privacy rules, in the form that bytes are walked by;
//! - [mod@validate]: validation of one event, and [`rejection`]: why one isn't accepted;
//! - [`privacy`]: what is taken out of an event before it is stored.
//!
//! With the feature `json`, [`json`] reads and writes events as lines of JSON.

#![forbid(unsafe_code)]

/// The samples of the tests are other crates', too.
#[cfg(test)]
extern crate self as tickstream_schema;

pub mod cursor;
pub mod events;
#[cfg(feature = "json")]
pub mod json;
pub mod plan;
pub mod privacy;
mod privacy_rule;
pub mod rejection;
pub mod table;
#[cfg(test)]
mod tests;
pub mod validate;
mod value;

pub use plan::Plan;
pub use privacy::{PrivacyConfig, Redactor};
pub use privacy_rule::{PrivacyAction, PrivacyError, PrivacyRule};
pub use rejection::{Rejection, RejectionCode};
pub use validate::validate;
