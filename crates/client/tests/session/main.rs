//! The client against servers that the tests play by hand: no real server is that rude.

mod auth;
mod batches;
mod hostile;
mod liveness;
mod publish;
mod reconnect;
mod support;
mod tls;
mod tls_support;
