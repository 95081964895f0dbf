//! Sockets that this process was started with: handed over by the process before, or passed by the service manager.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::{env, io, process};

use socket2::SockRef;

use super::ListenError;
use super::socket::{Listener, address_of};
use crate::config::{Config, ListenAddress};
use crate::ring;

/// The first descriptor that a service manager passes (sd_listen_fds(3)).
const MANAGER_FD_FIRST: RawFd = 3;
/// Most descriptors that are taken over: two for each of the most shards.
const INHERITED_MAX: usize = 16_384;
/// The variable by which a process hands its sockets to the next: `fd=tls` or `fd=plain`, with commas between.
pub const HANDED_OVER: &str = "TICKSTREAM_LISTENERS";
/// The variable that names those of them that the service manager passed: descriptors, with commas between.
pub const PASSED: &str = "TICKSTREAM_LISTENERS_PASSED";

/// The sockets that this process was started with: from the process before it, or from the service manager.
///
/// # Errors
/// If a variable names descriptors that aren't listening sockets.
pub fn inherited(config: &Config) -> Result<Vec<Listener>, ListenError> {
    match env::var(HANDED_OVER) {
        Ok(value) if !value.is_empty() => from_predecessor(&value, &env::var(PASSED).unwrap_or_default()),
        _ => from_manager(config),
    }
}

pub(super) fn from_predecessor(value: &str, passed: &str) -> Result<Vec<Listener>, ListenError> {
    let wrong = || ListenError::Variable { variable: HANDED_OVER, value: value.to_owned() };
    let passed: Vec<RawFd> = passed.split(',').filter_map(|fd| fd.parse().ok()).collect();
    let words = value.split(',').map(|word| {
        let (fd, kind) = word.split_once('=').ok_or_else(wrong)?;
        let tls = match kind {
            "tls" => true,
            "plain" => false,
            _ => return Err(wrong()),
        };
        let number = fd.parse().map_err(|_| wrong())?;
        let (fd, address) = take(number, HANDED_OVER)?;
        let is_passed = passed.contains(&number);
        Ok(Listener { fd, address, tls, is_passed })
    });
    words.collect()
}

/// Socket activation, sd_listen_fds(3). A socket is for TLS if it is named so (FileDescriptorName=tls), or if it is
/// at `listen_tls`; its address counts, not that of `listen`.
fn from_manager(config: &Config) -> Result<Vec<Listener>, ListenError> {
    let variable = "LISTEN_FDS";
    let for_us = env::var("LISTEN_PID").is_ok_and(|pid| pid == process::id().to_string());
    let Ok(value) =
        env::var(variable).map_err(drop).and_then(|value| if for_us { Ok(value) } else { Err(()) })
    else {
        return Ok(Vec::new());
    };
    let count: usize = value
        .parse()
        .ok()
        .filter(|&count| count <= INHERITED_MAX)
        .ok_or(ListenError::Variable { variable, value: value.clone() })?;
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut listeners = Vec::with_capacity(count);
    for fd in MANAGER_FD_FIRST..MANAGER_FD_FIRST + count as RawFd {
        let named_tls = names.next() == Some("tls");
        let (fd, address) = take(fd, variable)?;
        let roles = config.listeners();
        let tls = named_tls
            || roles.contains(&ListenAddress { address, is_tls: true })
            || roles.iter().all(|role| role.is_tls);
        listeners.push(Listener { fd, address, tls, is_passed: true });
    }
    Ok(listeners)
}

/// Takes over a descriptor that the process was started with.
fn take(fd: RawFd, variable: &'static str) -> Result<(OwnedFd, SocketAddr), ListenError> {
    let taken = ring::take_descriptor(fd).and_then(|fd| {
        let socket = SockRef::from(&fd);
        if !socket.is_listener()? {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        socket.set_cloexec(true)?;
        let address = address_of(fd.as_fd())?;
        Ok((fd, address))
    });
    taken.map_err(|reason| ListenError::Inherited { fd, variable, reason })
}
