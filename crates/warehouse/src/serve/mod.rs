//! Wires that queries come over.

pub mod http;
pub mod users;

pub use users::{Users, UsersError};
