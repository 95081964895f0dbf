//! The socket ring in the engine's terms: its names of connections, and its clocks.

pub use tickstream_uring::sockets::{Completion, SLOTS, SocketId, probe};
pub use tickstream_uring::system::{
    allocated_memory, be_nice, block_signals, clock_discipline, keep_descriptors, limit, once_released,
    own_descriptor_table, peer, raise_limit, release_memory, run_on, take_descriptor, thread_id,
};
pub use tickstream_uring::{Received, RingStats, SocketRing};

use tickstream_engine::{ConnId, Now, Slot};
use tickstream_uring::system;

/// Both clocks now: CLOCK_MONOTONIC, which the ring's timer runs on, and CLOCK_REALTIME.
pub fn now() -> Now {
    let system::Clocks { mono_ns, unix_ns } = system::clocks();
    Now { mono_ns, unix_ns }
}

/// The ring's name of a connection.
pub fn socket_id(conn: ConnId) -> SocketId {
    SocketId { slot: conn.slot.0, generation: conn.generation }
}

/// The engine's name of a connection.
pub fn conn_id(socket: SocketId) -> ConnId {
    ConnId { slot: Slot(socket.slot), generation: socket.generation }
}
