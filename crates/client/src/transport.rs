//! A connected socket, plain or under TLS, that is read and written only when it is ready.

use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
    time,
};

use crate::{Error, tls::TlsStream};

/// Longest wait of an orderly close for the server's FIN: as long as a server discards bytes that still come.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// The way to a server.
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// Directions in which the transport may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub read: bool,
    pub write: bool,
}

impl Transport {
    /// Waits until one of those that are wanted may get on; at least one must be. Cancelled, it loses nothing.
    pub async fn ready(&self, wanted: Readiness) -> io::Result<Readiness> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) if wanted.read && stream.is_readable() => {
                return Ok(Readiness { read: true, write: wanted.write });
            }
            Self::Tls(stream) => stream.socket(),
        };
        let interest = match wanted {
            Readiness { read: true, write: true } => Interest::READABLE | Interest::WRITABLE,
            Readiness { write: true, .. } => Interest::WRITABLE,
            Readiness { .. } => Interest::READABLE,
        };
        let ready = socket.ready(interest).await?;
        Ok(Readiness {
            read: ready.is_readable() || ready.is_read_closed(),
            write: ready.is_writable() || ready.is_write_closed(),
        })
    }

    /// True if [`write`](Self::write) is to be called though there is nothing new to send.
    pub fn wants_write(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.wants_write(),
        }
    }

    /// Reads what is there: 0 at the end, `None` if there is nothing at present.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        match self {
            Self::Plain(socket) => passing(socket.try_read(buffer)).map_err(Error::Lost),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    /// Takes as many bytes as can be sent at present, and says how many.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        };
        passing(taken).map(Option::unwrap_or_default)
    }

    /// Closes in good order: says that no more comes, and takes what the server still sends, so that no reset
    /// overtakes anything.
    pub async fn close(mut self, buffer: &mut [u8]) {
        let farewell = async {
            let socket = match &mut self {
                Self::Plain(socket) => socket,
                Self::Tls(stream) => {
                    stream.send_close_notify().await?;
                    stream.socket_mut()
                }
            };
            socket.shutdown().await?;
            while socket.read(buffer).await? > 0 {}
            Ok::<(), io::Error>(())
        };
        // Nothing depends on how it ends.
        _ = time::timeout(CLOSE_PATIENCE, farewell).await;
    }
}

fn passing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
