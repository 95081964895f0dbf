//! TLS over a socket: rustls keeps the session, this moves its bytes whenever the socket is ready.

use std::{
    io::{self, ErrorKind, Read, Write},
    sync::Arc,
};

use rustls::{ClientConnection, pki_types::ServerName};
use tokio::net::TcpStream;

use super::TlsConfig;
use crate::{Error, TlsError};

/// A connection whose handshake is done. None of its calls blocks, and none waits but
/// [`handshake`](Self::handshake): readiness is the [`Transport`](crate::transport::Transport)'s.
pub(crate) struct TlsStream {
    socket: TcpStream,
    session: ClientConnection,
    /// As errors name it.
    server: Box<str>,
    /// Bytes that were received and decrypted, and not yet read.
    readable: usize,
}

impl TlsStream {
    /// Agrees on TLS with the server at the other end of `socket`. A client's certificate is checked later: the
    /// server's alert comes instead of its first bytes.
    pub async fn handshake(
        socket: TcpStream,
        config: &TlsConfig,
        name: ServerName<'static>,
        server: &str,
    ) -> Result<Self, Error> {
        let fail = |problem| Error::Tls { server: server.to_owned(), problem };
        let session =
            ClientConnection::new(Arc::clone(&config.client), name).map_err(|error| fail(error.into()))?;
        let mut this = Self { socket, session, server: server.into(), readable: 0 };
        let mut can_write = true;
        loop {
            while can_write && this.session.wants_write() {
                this.socket.writable().await.map_err(Error::Lost)?;
                match this.flush() {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // What the server said before it went tells more.
                    Err(_) => can_write = false,
                }
            }
            if !this.session.is_handshaking() {
                return Ok(this);
            }
            this.socket.readable().await.map_err(Error::Lost)?;
            match this.receive() {
                Ok(0) => return Err(fail(TlsError::Ended)),
                Ok(_) => {}
                Err(Failure::Socket(error)) if error.kind() == ErrorKind::WouldBlock => {}
                Err(Failure::Socket(error)) if error.kind() == ErrorKind::ConnectionReset => {
                    return Err(fail(TlsError::Ended));
                }
                Err(Failure::Socket(error)) => return Err(Error::Lost(error)),
                Err(Failure::Tls(problem)) => return Err(fail(problem)),
            }
        }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// True if there is something to read, whatever the socket has.
    pub fn is_readable(&self) -> bool {
        self.readable > 0
    }

    /// True if sealed bytes wait for the socket.
    pub fn wants_write(&self) -> bool {
        self.session.wants_write()
    }

    /// Reads what was decrypted; 0 after the server's close_notify, `None` if there is nothing at present.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        loop {
            match self.session.reader().read(buffer) {
                Ok(len) => {
                    self.readable = self.readable.saturating_sub(len);
                    return Ok(Some(len));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The end without a close_notify: somebody on the way may have cut it off.
                Err(error) => return Err(Error::Lost(error)),
            }
            match self.receive() {
                Ok(_) => {}
                Err(Failure::Socket(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(Failure::Socket(error)) => return Err(Error::Lost(error)),
                Err(Failure::Tls(problem)) => {
                    return Err(Error::Tls { server: self.server.clone().into(), problem });
                }
            }
        }
    }

    /// Seals as many of `bytes` as may wait, and sends what the socket takes. Nothing is sealed before what was
    /// sealed earlier is gone, so that a socket that is full holds up the session's own buffer.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let sealed = self.session.writer().write(bytes)?;
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(sealed),
        }
    }

    /// Says that no more comes, and sends it.
    pub async fn send_close_notify(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        while self.session.wants_write() {
            self.socket.writable().await?;
            match self.flush() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut Socket(&self.socket))?;
        }
        Ok(())
    }

    /// Takes what the socket has, and handles it: bytes received, 0 at the end.
    fn receive(&mut self) -> Result<usize, Failure> {
        let len = self.session.read_tls(&mut Socket(&self.socket)).map_err(Failure::Socket)?;
        match self.session.process_new_packets() {
            Ok(state) => {
                self.readable = state.plaintext_bytes_to_read();
                Ok(len)
            }
            Err(error) => {
                // The server gets an alert, if it takes it at once.
                _ = self.flush();
                Err(Failure::Tls(error.into()))
            }
        }
    }
}

/// A connection that is given up ends with a close_notify as well, if the socket takes it at once. (rustls sends it
/// once, and not after an alert.)
impl Drop for TlsStream {
    fn drop(&mut self) {
        self.session.send_close_notify();
        _ = self.flush();
    }
}

/// Error of the socket, or of TLS.
enum Failure {
    Socket(io::Error),
    Tls(TlsError),
}

/// The socket as rustls wants it.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
