//! The server's own `published.rs` and `mailbox.rs`, compiled against loom's locks and atomics instead of the standard
//! library's: each test in `tests/` runs under every order of the threads' steps that the memory model allows.
//!
//! `control.rs` isn't here: its words are read and written alone, and say nothing about other memory.

#![allow(missing_docs, reason = "the server's own modules")]
#![expect(dead_code, reason = "parts of the server's modules that no test here needs")]

#[path = "../../../crates/server/src/shard/mailbox.rs"]
pub mod mailbox;
#[path = "../../../crates/server/src/published.rs"]
pub mod published;

/// What the server's modules take from the standard library there.
pub mod sync {
    pub use loom::sync::{Arc, Mutex, MutexGuard, atomic};
    pub use std::sync::PoisonError;
}

pub mod ring {
    /// A stand-in for the ring's counters, which mailboxes only carry.
    #[derive(Clone, Copy, Debug)]
    pub struct RingStats;
}

/// The connections that were asked to be closed, as a shard takes them.
pub fn numbers(mailbox: &mailbox::Mailbox) -> Vec<u64> {
    let requests = mailbox.take().into_iter();
    requests
        .filter_map(
            |request| if let mailbox::Request::Close(number, _) = request { Some(number) } else { None },
        )
        .collect()
}
