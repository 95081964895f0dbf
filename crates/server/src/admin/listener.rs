//! The sockets that the admin endpoint listens on.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};

use super::AdminError;
use crate::config::AdminAddress;
use crate::upgrade;

/// Rights of a unix socket: its owner's alone. Whoever may connect may drain the server.
const SOCKET_MODE: u32 = 0o600;

/// One socket that is listened on, in non-blocking mode.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket, and its file until that is taken.
    Unix(UnixListener, Option<SocketFile>),
}

/// A unix socket's file, removed when this is dropped, unless another process has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Listener {
    pub fn bind(address: &AdminAddress) -> Result<Self, AdminError> {
        let listen = |source| AdminError::Listen { address: address.clone(), source };
        match address {
            AdminAddress::Tcp(address) => bind_tcp(*address).map(Self::Tcp).map_err(listen),
            AdminAddress::Unix(path) => {
                // What is left of a process that was killed refuses connections.
                if !upgrade::is_successor() && UnixStream::connect(path).is_ok() {
                    return Err(AdminError::InUse(path.clone()));
                }
                bind_unix(path).map_err(listen)
            }
        }
    }

    pub fn descriptor(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener, _) => listener.as_raw_fd(),
        }
    }

    pub fn address(&self) -> AdminAddress {
        match self {
            Self::Tcp(listener) => AdminAddress::Tcp(listener.local_addr().expect("it is bound")),
            Self::Unix(_, file) => {
                AdminAddress::Unix(file.as_ref().map(|file| file.path.clone()).unwrap_or_default())
            }
        }
    }

    /// Whether only this machine reaches it.
    pub fn is_local(&self) -> bool {
        match self.address() {
            AdminAddress::Tcp(address) => address.ip().is_loopback(),
            AdminAddress::Unix(_) => true,
        }
    }

    /// Takes a unix socket's file, so that it outlives the listener.
    pub fn take_file(&mut self) -> Option<SocketFile> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(_, file) => file.take(),
        }
    }
}

/// Listens on a TCP address: beside the process that this one takes over from, but beside no other.
fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    if !upgrade::is_successor() {
        // Fails if it is taken, which with SO_REUSEPORT it wouldn't.
        drop(TcpListener::bind(address)?);
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

/// Listens on a path that nobody else can reach before its rights are set: within a directory of our own, from which the
/// socket is then moved to where it belongs, in place of what was left there.
fn bind_unix(path: &Path) -> io::Result<Listener> {
    let directory = path.with_extension(std::process::id().to_string());
    DirBuilder::new().mode(0o700).create(&directory)?;
    let bound = bind_in(&directory, path);
    let _ = fs::remove_dir(&directory);
    bound
}

fn bind_in(directory: &Path, path: &Path) -> io::Result<Listener> {
    let place = directory.join("s");
    let listener = UnixListener::bind(&place)?;
    let moved = fs::set_permissions(&place, Permissions::from_mode(SOCKET_MODE))
        .and_then(|()| is_no_other_file(path))
        .and_then(|()| fs::rename(&place, path))
        .and_then(|()| listener.set_nonblocking(true))
        .and_then(|()| fs::symlink_metadata(path));
    match moved {
        Ok(metadata) => {
            let file = SocketFile { path: path.to_owned(), inode: metadata.ino() };
            Ok(Listener::Unix(listener, Some(file)))
        }
        Err(error) => {
            let _ = fs::remove_file(&place);
            Err(error)
        }
    }
}

/// A mistyped path must not cost anybody a file.
fn is_no_other_file(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"))
        }
        _ => Ok(()),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: &Path) -> Result<Listener, AdminError> {
        Listener::bind(&AdminAddress::Unix(path.to_owned()))
    }

    #[test]
    fn a_unix_socket_is_its_owners_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let listener = unix(&path).unwrap();
        assert_eq!(listener.address(), AdminAddress::Unix(path.clone()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, SOCKET_MODE);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        drop(listener);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file");
        let listener = unix(&path).unwrap();
        assert!(matches!(unix(&path), Err(AdminError::InUse(_))));
        drop(listener);
        fs::write(&path, "precious").unwrap();
        let error = unix(&path).unwrap_err().to_string();
        assert!(error.contains("no socket") && error.contains("admin.sock"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_file_that_was_replaced_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let listener = unix(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        // The inode may be the same one again; then the test shows nothing, but doesn't fail for it.
        let replaced = fs::metadata(&path).unwrap().ino();
        let Listener::Unix(_, Some(file)) = &listener else { panic!("{listener:?}") };
        let is_other = replaced != file.inode;
        drop(listener);
        assert_eq!(path.exists(), is_other);
    }
}
