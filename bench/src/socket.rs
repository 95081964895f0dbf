//! Sockets of connections to be, and the names of what may be wrong with them.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use socket2::{Domain, SockRef, Socket, Type};
use tickstream_uring::system::bind_source;

use crate::{plan::Plan, stats::Class};

/// A socket for the connection with this index, bound to its source address.
///
/// # Errors
/// Without descriptors or ports.
pub fn open_socket(plan: &Plan, class: Class, index: u64) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(plan.options.addr), Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    if matches!(class, Class::Slow | Class::Stalled) {
        socket.set_recv_buffer_size(plan.options.slow_receive_buffer as usize)?;
    }
    if !plan.sources.is_empty() {
        let source = plan.sources[(index % plan.sources.len() as u64) as usize];
        bind_source(socket.as_fd(), source)?;
    }
    Ok(socket.into())
}

/// A SEND must not hold up the thread, and a closed peer is no signal.
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Sends at once and whole: a socket that was just connected, or that carries a few bytes now and then, takes them. A
/// peer that is gone is no error here, since its last words are still to be read.
///
/// # Errors
/// If the socket takes less.
pub fn send_whole(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    match SockRef::from(socket).send_with_flags(bytes, SEND_FLAGS) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// ECONNREFUSED rather than 111.
pub fn errno_name(errno: i32) -> String {
    let name = match errno {
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::ECONNRESET => "ECONNRESET",
        libc::ETIMEDOUT => "ETIMEDOUT",
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
        libc::EADDRINUSE => "EADDRINUSE",
        libc::EMFILE => "EMFILE",
        libc::ENFILE => "ENFILE",
        libc::ENOBUFS => "ENOBUFS",
        libc::ENOMEM => "ENOMEM",
        libc::EPIPE => "EPIPE",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::EHOSTUNREACH => "EHOSTUNREACH",
        libc::ECANCELED => "ECANCELED",
        other => return format!("errno {other}"),
    };
    name.to_owned()
}
