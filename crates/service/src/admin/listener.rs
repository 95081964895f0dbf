//! The sockets that the admin endpoint listens on.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{AdminAddress, AdminError};

/// Rights of a unix socket: its owner's alone. Whoever may connect may drain the server.
const SOCKET_MODE: u32 = 0o600;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

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
    /// The file at the path; `None` before it is there.
    id: Option<FileId>,
    /// The directory that it is in until it is moved to its path.
    made_in: Option<PathBuf>,
}

/// A file's inode, and the time of its last change: a file that takes its place may have the same inode.
type FileId = (u64, i64, i64);

fn file_id(path: &Path) -> io::Result<FileId> {
    fs::symlink_metadata(path).map(|metadata| (metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

impl Listener {
    /// Takes an address. A process that `takes_over` from another doesn't listen there before [`Listener::begin`]: it
    /// may fail until then, and the other goes on.
    pub fn bind(address: &AdminAddress, takes_over: bool) -> Result<Self, AdminError> {
        if takes_over {
            return Self::open(address, takes_over);
        }
        // What is left of a process that was killed refuses connections.
        if let AdminAddress::Unix(path) = address
            && UnixStream::connect(path).is_ok()
        {
            return Err(AdminError::InUse(path.clone()));
        }
        let mut listener = Self::open(address, takes_over)?;
        listener.begin()?;
        Ok(listener)
    }

    fn open(address: &AdminAddress, takes_over: bool) -> Result<Self, AdminError> {
        let opened = match address {
            AdminAddress::Tcp(address) => bind_tcp(*address, takes_over).map(Self::Tcp),
            AdminAddress::Unix(path) => bind_unix(path),
        };
        opened.map_err(|source| AdminError::Listen { address: address.clone(), source })
    }

    /// Listens at the address, unless it does already.
    pub fn begin(&mut self) -> Result<(), AdminError> {
        let begun = match self {
            Self::Tcp(listener) => SockRef::from(&*listener).listen(BACKLOG),
            Self::Unix(_, file) => file.as_mut().map_or(Ok(()), SocketFile::put_in_place),
        };
        begun.map_err(|source| AdminError::Listen { address: self.address(), source })
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

    /// Reached by this machine alone.
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

/// Takes a TCP address: beside the process that this one takes over from, but beside no other.
fn bind_tcp(address: SocketAddr, takes_over: bool) -> io::Result<TcpListener> {
    if !takes_over {
        // Fails if it is taken, which with SO_REUSEPORT it wouldn't.
        drop(TcpListener::bind(address)?);
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Listens on a path that nobody else can reach before its rights are set: within a directory of our own, from which the
/// socket is then moved to where it belongs, in place of what was left there.
fn bind_unix(path: &Path) -> io::Result<Listener> {
    let directory = path.with_extension(std::process::id().to_string());
    // In a container a process that was killed had the same number.
    remove_made(&directory);
    DirBuilder::new().mode(0o700).create(&directory)?;
    let file = SocketFile { path: path.to_owned(), id: None, made_in: Some(directory.clone()) };
    let place = place_in(&directory);
    let listener = UnixListener::bind(&place)?;
    fs::set_permissions(&place, Permissions::from_mode(SOCKET_MODE))?;
    is_no_other_file(path)?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(listener, Some(file)))
}

fn place_in(directory: &Path) -> PathBuf {
    directory.join("s")
}

/// Removes a directory that [`bind_unix`] made, and nothing else.
fn remove_made(directory: &Path) {
    let _ = fs::remove_file(place_in(directory));
    let _ = fs::remove_dir(directory);
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

impl SocketFile {
    fn put_in_place(&mut self) -> io::Result<()> {
        if let Some(directory) = &self.made_in {
            fs::rename(place_in(directory), &self.path)?;
            let _ = fs::remove_dir(directory);
            self.made_in = None;
            self.id = Some(file_id(&self.path)?);
        }
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some(directory) = &self.made_in {
            remove_made(directory);
        } else if file_id(&self.path).is_ok_and(|id| self.id == Some(id)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: &Path) -> Result<Listener, AdminError> {
        Listener::bind(&AdminAddress::Unix(path.to_owned()), false)
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
    fn who_takes_over_leaves_the_other_s_socket_alone_until_it_begins() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let address = AdminAddress::Unix(path.clone());
        let count = || fs::read_dir(directory.path()).unwrap().count();
        let old = unix(&path).unwrap();
        let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
        let before = inode(&path);
        let failed = Listener::open(&address, true).unwrap();
        assert_eq!((inode(&path), count()), (before, 2));
        drop(failed);
        assert_eq!((inode(&path), count()), (before, 1));
        let mut new = Listener::open(&address, true).unwrap();
        new.begin().unwrap();
        new.begin().unwrap();
        assert_eq!(count(), 1);
        assert_ne!(inode(&path), before);
        drop(old);
        assert!(UnixStream::connect(&path).is_ok(), "the old one's end doesn't remove it");
    }

    #[test]
    fn a_tcp_address_that_was_only_taken_refuses() {
        let taken = Listener::open(&AdminAddress::Tcp("127.0.0.1:0".parse().unwrap()), true).unwrap();
        let AdminAddress::Tcp(address) = taken.address() else { panic!("{taken:?}") };
        let connect = || std::net::TcpStream::connect(address);
        assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let mut taken = taken;
        taken.begin().unwrap();
        assert!(connect().is_ok());
    }

    #[test]
    fn a_file_that_was_replaced_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let listener = unix(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        drop(listener);
        assert!(path.exists(), "also where the inode is the same one again");
    }
}
