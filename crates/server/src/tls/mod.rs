//! TLS 1.3, without sockets.
//!
//! - [`material`]: certificates and keys out of files, into what rustls needs;
//! - [`session`]: one connection, bytes in and bytes out;
//! - `aead`: record protection that spends little memory on an idle connection;
//! - [`watch`]: certificates that change while the server runs.
//!
//! `shard/transport.rs` puts sessions between the socket ring and the engine. Why rustls's unbuffered interface:
//! docs/decisions/0008-tls.md.

mod aead;
pub mod material;
pub mod session;
pub mod watch;

pub use material::{Acceptor, MaterialError};
pub use session::{Progress, RECORD_BYTES_MAX, TlsError, TlsSession, alert_too_large};
