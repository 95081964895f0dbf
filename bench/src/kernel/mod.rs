//! What the standard library doesn't offer of Linux: the socket ring and a few calls on threads and sockets.
//! The only module of this package with `unsafe`.

mod ring;
mod system;

pub use ring::{Completion, Receipt, Returned, Ring, RingSetup};
pub use system::{
    local_socket_options, pin_to_cpu, raise_descriptor_limit, thread_cpu_ns, thread_id, unshare_descriptors,
};
