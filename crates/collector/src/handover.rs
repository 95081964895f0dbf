//! Handing over the listening sockets to a new process, so that no sender is refused.
//!
//! The old process starts the program again, with the same arguments, and sends it the sockets over a Unix socket, which
//! is the new one's standard input. Both take from the same queues until the new one says that it serves; then the old
//! one takes no more, and drains. What only one process may follow, the new one follows when the old one has ended. A new
//! one that fails, or doesn't say in time that it serves, changes nothing.

use std::{
    env,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, Command},
    thread,
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// The variable that says that the standard input brings sockets.
const VARIABLE: &str = "TICKSTREAM_COLLECTOR_SOCKETS";
const READY: &[u8] = b"ready";
/// Time that the new process has until it serves.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Most sockets; the kernel takes no more at once.
const SOCKETS_MAX: usize = 253;
/// Bytes of their names, at most.
const NAMES_BYTES_MAX: usize = 64 * SOCKETS_MAX;

/// Why the old process goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    /// The configuration has what two processes can't share.
    #[error("{0} can't be shared by two processes: end this one, then start the new one")]
    Exclusive(&'static str),
    /// The program can't be started, or not be given the sockets.
    #[error("the new process can't be started")]
    Start(#[source] io::Error),
    /// The new process ended, or didn't serve in time.
    #[error("the new process didn't serve within {} s; its log says why", READY_TIMEOUT.as_secs())]
    NotReady(#[source] io::Error),
}

/// A listening socket, by the option that opened it and its address.
#[derive(Debug)]
pub(crate) struct Socket {
    name: String,
    descriptor: OwnedFd,
}

impl Socket {
    /// Another descriptor of a socket.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn new(option: &str, address: SocketAddr, socket: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { name: format!("{option} {address}"), descriptor: socket.try_clone_to_owned()? })
    }
}

/// Starts the program again with these sockets, and waits until it serves. What is given has to live as long as this
/// process does something that the new one must not.
///
/// # Errors
/// [`HandoverError`]; the new process is gone then.
pub(crate) fn hand_over(sockets: &[Socket]) -> Result<UnixStream, HandoverError> {
    let (mut ours, theirs) = UnixStream::pair().map_err(HandoverError::Start)?;
    let mut arguments = env::args_os();
    let program = arguments.next().unwrap_or_else(|| "tickstream".into());
    let mut command = Command::new(program);
    command.args(arguments).env(VARIABLE, sockets.len().to_string()).stdin(OwnedFd::from(theirs));
    let mut child = command.spawn().map_err(HandoverError::Start)?;
    // The command has its own copy of the new process's end.
    drop(command);
    let is_ready = send(&ours, sockets).and_then(|()| {
        let mut said = [0; READY.len()];
        ours.set_read_timeout(Some(READY_TIMEOUT))?;
        ours.read_exact(&mut said)?;
        if said == READY { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    });
    if let Err(source) = is_ready {
        // It may have ended by itself.
        _ = child.kill();
        _ = child.wait();
        return Err(HandoverError::NotReady(source));
    }
    reap(child);
    Ok(ours)
}

fn send(channel: &UnixStream, sockets: &[Socket]) -> io::Result<()> {
    let names: Vec<&str> = sockets.iter().map(|socket| &socket.name[..]).collect();
    let descriptors: Vec<_> = sockets.iter().map(|socket| socket.descriptor.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other(format!("more than {SOCKETS_MAX} sockets can't be handed over")));
    }
    let names = names.join("\n");
    sendmsg(channel, &[IoSlice::new(names.as_bytes())], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Waits for a process that goes on, so that it leaves no zombie if it ends first.
fn reap(mut child: Child) {
    let wait = move || _ = child.wait();
    // Without a thread there may be a zombie, until this process ends.
    _ = thread::Builder::new().name("successor".to_owned()).spawn(wait);
}

/// Sockets of the process before this one; none where there was none.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    sockets: Vec<Socket>,
    predecessor: Option<UnixStream>,
}

impl Inherited {
    /// Receives the sockets that the environment names as handed over.
    ///
    /// # Errors
    /// If the sockets don't come.
    pub fn receive() -> io::Result<Self> {
        if env::var_os(VARIABLE).is_none() {
            return Ok(Self::default());
        }
        let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        Ok(Self { sockets: receive(&channel)?, predecessor: Some(channel) })
    }

    /// True if this process takes over from another.
    pub fn is_successor(&self) -> bool {
        self.predecessor.is_some()
    }

    /// The socket that this option had at this address.
    pub fn take(&mut self, option: &str, address: SocketAddr) -> Option<OwnedFd> {
        let name = format!("{option} {address}");
        let at = self.sockets.iter().position(|socket| socket.name == name)?;
        Some(self.sockets.swap_remove(at).descriptor)
    }

    /// Tells the process before that this one serves. Sockets that weren't taken are closed.
    pub fn tell_ready(&mut self) {
        self.sockets.clear();
        if let Some(Err(error)) = self.predecessor.as_mut().map(|channel| channel.write_all(READY)) {
            tracing::warn!(%error, "the process before this one can't be told that this one serves");
        }
    }

    /// Waits until the process before has ended.
    pub fn wait_for_end(self) {
        if let Some(mut channel) = self.predecessor {
            // It says nothing more; an error is an end as well.
            _ = channel.read(&mut [0]);
        }
    }
}

fn receive(channel: &UnixStream) -> io::Result<Vec<Socket>> {
    let mut names = vec![0; NAMES_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(channel, &mut [IoSliceMut::new(&mut names)], &mut ancillary, flags)?;
    let descriptors = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    let names = String::from_utf8_lossy(&names[..received.bytes]).into_owned();
    let sockets = names.lines().zip(descriptors);
    Ok(sockets.map(|(name, descriptor)| Socket { name: name.to_owned(), descriptor }).collect())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn sockets_arrive_under_their_names() {
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let address = |at: usize| listeners[at].local_addr().unwrap();
        let socket = |at: usize| Socket::new("http", address(at), listeners[at].as_fd()).unwrap();
        let sockets: Vec<_> = (0..3).map(socket).collect();
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(&ours, &sockets).unwrap();
        let mut inherited = Inherited { sockets: receive(&theirs).unwrap(), predecessor: Some(theirs) };
        assert!(inherited.take("relp", address(1)).is_none());
        let taken = TcpListener::from(inherited.take("http", address(1)).unwrap());
        assert!(inherited.take("http", address(1)).is_none());
        let sender = TcpStream::connect(address(1)).unwrap();
        assert_eq!(taken.accept().unwrap().1, sender.local_addr().unwrap());
        inherited.tell_ready();
        let mut said = [0; READY.len()];
        (&ours).read_exact(&mut said).unwrap();
        assert_eq!(said, READY);
        drop(ours);
        inherited.wait_for_end();
    }
}
