//! Targets of fuzzers: each takes any bytes, and panics where something is wrong.
//!
//! `libfuzzer/` hands them to libFuzzer, which needs a nightly toolchain; the test here replays the corpora and tries
//! mutations of them on any. Each target counts what is allocated on its way and holds it against a cap.

#![forbid(unsafe_code)]

mod bytes;
#[cfg(feature = "collector")]
mod collector;
#[cfg(feature = "server")]
mod config;
mod decoder;
mod memory;
mod payloads;
mod proxy;
mod publish;
mod session;
#[cfg(feature = "server")]
mod tls;

#[cfg(feature = "collector")]
pub use collector::collector;
#[cfg(feature = "server")]
pub use config::config;
pub use decoder::decoder;
pub use payloads::payloads;
pub use proxy::proxy;
pub use publish::publish;
pub use session::session;
#[cfg(feature = "server")]
pub use tls::tls;

/// A target, as the corpora are called.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("decoder", decoder),
    ("payloads", payloads),
    ("proxy", proxy),
    ("publish", publish),
    ("session", session),
    #[cfg(feature = "collector")]
    ("collector", collector),
    #[cfg(feature = "server")]
    ("config", config),
    #[cfg(feature = "server")]
    ("tls", tls),
];
