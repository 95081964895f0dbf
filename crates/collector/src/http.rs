//! HTTP: one server for all sources that speak it, HTTP/1.1 and 2, with and without TLS.
//!
//! `route` finds the source of a path, `source` is what a source has to bring; `exchange` takes one request from its head to
//! its answer, `connection` and `server` carry them; `framing` and `guard` see to it that HTTP/1.1 can't be read in two ways.

mod body;
mod connection;
mod cors;
mod encoding;
mod exchange;
mod framing;
mod grpc;
mod guard;
mod head;
mod plain;
mod refusal;
mod reply;
mod route;
mod server;
mod source;

pub use connection::ConnectionLimits;
pub use encoding::{DecodeError, Encoding, decode};
pub use exchange::RequestLimits;
pub use framing::{Framing, Part, Problem as FramingProblem};
pub(crate) use grpc::is_call;
pub use head::{Head, form_parameter, secrets};
pub use refusal::Refusal;
pub use reply::{Reply, ReplyBody};
pub use route::{Listener, Route};
pub use server::{HttpConfig, HttpServer};
pub use source::HttpSource;

#[cfg(test)]
pub(crate) use head::tests::head as test_head;
