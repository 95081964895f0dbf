//! TLS 1.3 for the load generator's connections: rustls without sockets and without buffers of its own, since the
//! bytes are the ring's.

mod options;
mod session;
mod sessions;
mod tickets;

pub use options::{TlsError, TlsOptions, TlsPlan};
pub use sessions::TlsSessions;
