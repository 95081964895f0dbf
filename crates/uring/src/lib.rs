//! Sockets and files on io_uring, and the system calls that std lacks. All `unsafe` code of tickstream is in this crate.
//!
//! - [`Ring`]: operations on sockets, named by a number that the caller chooses, and the memory that they use. The load
//!   generator and the bare loop use it as it is.
//! - [`SocketRing`]: all sockets of one shard by slot and generation, its timer and the files of its journal, on a
//!   [`Ring`].
//! - [`system`]: descriptors, signals, CPUs, clocks and limits.
//!
//! The shard's ring lives inside a glommio executor; docs/decisions/0002-socket-ring.md says why and how the two meet.
//! Of all this Miri can run `buffers`, which has the pointers: `cargo +nightly miri test -p tickstream-uring --lib buffers::`.

mod buffers;
mod completion;
mod files;
pub mod ring;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
pub mod sockets;
mod stats;
mod synced;
pub mod system;

pub use buffers::Received;
pub use ring::Ring;
pub use sockets::SocketRing;
pub use stats::RingStats;
