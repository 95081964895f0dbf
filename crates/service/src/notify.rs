//! Tells the service manager how the server is doing, as sd_notify(3) has it: datagrams of `KEY=value` lines to the
//! socket that `NOTIFY_SOCKET` names. Without that variable nothing happens.

use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

/// The way to the service manager, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Notify(Option<SocketAddr>);

impl Notify {
    /// Address that this process's environment names.
    pub fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self(None);
        };
        let address = address(&name);
        if let Err(error) = &address {
            tracing::warn!(?name, %error, "NOTIFY_SOCKET can't be used: the service manager will be told nothing");
        }
        Self(address.ok())
    }

    /// Serving, also after a reload. It names the process, too: after an upgrade this is a new one.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nMAINPID={}\nSTATUS={status}", process::id()));
    }

    /// Reading its settings again; [`Notify::ready`] ends that.
    pub fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_usec()));
    }

    /// Ending within this time. Not for a process that another takes over from: the service goes on.
    pub fn stopping(&self, within: Duration) {
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros()));
    }

    /// Alive: for `WatchdogSec=`.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, state: &str) {
        let Some(address) = &self.0 else { return };
        // Never waits: a service manager that doesn't read is no reason to stand still.
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(state.as_bytes(), address)
        });
        if let Err(error) = sent {
            tracing::warn!(%error, state, "the service manager can't be told");
        }
    }
}

/// CLOCK_MONOTONIC, microseconds.
fn monotonic_usec() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0)).as_micros() as u64
}

/// A path, or a name in the abstract namespace after an `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a path nor an abstract name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &OsStr, socket: &UnixDatagram) {
        let notify = Notify(Some(address(name).unwrap()));
        let mut buffer = [0; 256];
        let mut heard = || {
            let bytes = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..bytes].to_vec()).unwrap()
        };
        notify.ready("serving on 127.0.0.1:7400");
        assert_eq!(heard(), format!("READY=1\nMAINPID={}\nSTATUS=serving on 127.0.0.1:7400", process::id()));
        notify.reloading();
        assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        notify.stopping(Duration::from_secs(15));
        assert_eq!(heard(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=15000000");
        notify.alive();
        assert_eq!(heard(), "WATCHDOG=1");
    }

    #[test]
    fn both_kinds_of_sockets_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        check(path.as_os_str(), &UnixDatagram::bind(&path).unwrap());

        let name = format!("tickstream-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        check(OsStr::new(&format!("@{name}")), &UnixDatagram::bind_addr(&address).unwrap());
    }

    #[test]
    fn nobody_is_told_where_there_is_nobody() {
        Notify::default().ready("");
        let gone = Notify(Some(address(OsStr::new("/nonexistent/notify")).unwrap()));
        gone.ready("");
        assert!(address(OsStr::new("vsock:2:1234")).is_err());
    }
}
