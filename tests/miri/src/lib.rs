//! The server's own `ring/buffers.rs` and its tests, apart from the server, so that Miri builds it in seconds:
//! `cargo +nightly miri test -p tickstream-miri`. The rest of the ring is calls of the kernel, which Miri doesn't know.

#![cfg(test)]
#![expect(dead_code, reason = "what only a ring calls")]

#[path = "../../../crates/server/src/ring/buffers.rs"]
mod buffers;
