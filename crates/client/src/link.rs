//! One connection: a socket and the session that it carries.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use tickstream_wire::{Decoder, FrameError};
use tokio::time::{self, Instant};

use crate::{
    Error, TlsError,
    config::Config,
    dial::dial,
    session::{Message, Session},
    transport::{Readiness, Transport},
};

/// Read at a time, bytes. A larger frame takes several reads, a smaller one comes with others.
const READ_LEN: usize = 8 * 1024;
/// The first byte of a TLS record with an alert: what a server that speaks TLS answers to a client that doesn't.
const TLS_ALERT: u8 = 0x15;

/// An authenticated connection.
pub(crate) struct Link {
    pub session: Session,
    transport: Transport,
    decoder: Decoder,
    buffer: Box<[u8]>,
    /// The part of `buffer` that was read and not yet decoded.
    undecoded: Range<usize>,
    read_at: SystemTime,
    since: Instant,
    can_write: bool,
}

impl Link {
    /// Connects to `server` and authenticates.
    pub async fn open(config: &Config, server: &str) -> Result<Self, Error> {
        let transport = dial(server, config.tls.as_ref(), config.connect_timeout).await?;
        let now = Instant::now();
        let mut link = Self {
            session: Session::start(config, now),
            transport,
            decoder: Decoder::new(),
            buffer: vec![0; READ_LEN].into(),
            undecoded: 0..0,
            read_at: SystemTime::now(),
            since: now,
            can_write: true,
        };
        loop {
            match link.next_message() {
                Ok(Some(Message::Authenticated)) => return Ok(link),
                // Only a GOAWAY may come before, and says no more than the ERROR that follows it.
                Ok(Some(_)) => {}
                Ok(None) => link.progress(true).await?,
                Err(Error::Frame(FrameError::Magic { found: TLS_ALERT })) if config.tls.is_none() => {
                    return Err(Error::Tls { server: server.to_owned(), problem: TlsError::Expected });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next message of what was read; `None` when that is used up.
    pub fn next_message(&mut self) -> Result<Option<Message>, Error> {
        loop {
            let mut input = &self.buffer[self.undecoded.clone()];
            let frame = self.decoder.next(&mut input, self.session.payload_max())?;
            self.undecoded.start = self.undecoded.end - input.len();
            let Some(frame) = frame else { return Ok(None) };
            if let Some(message) = self.session.handle_frame(frame, Instant::now())? {
                return Ok(Some(message));
            }
        }
    }

    /// When the bytes of the last message were read.
    pub fn read_at(&self) -> SystemTime {
        self.read_at
    }

    /// Age of the connection.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Waits until something was read or written, or time has passed: a step of whoever loops over it. Without
    /// `read` it only writes. Cancelled, it loses nothing.
    ///
    /// # Errors
    /// If the connection is lost, or the server silent for too long.
    pub async fn progress(&mut self, read: bool) -> Result<(), Error> {
        self.session.heartbeat_if_due(Instant::now());
        let wanted = self.wanted(read);
        let deadline = self.session.deadline(read);
        // Reading first: who was kept from running for long must not blame the server for it.
        tokio::select! {
            biased;
            ready = self.transport.ready(wanted), if wanted.read || wanted.write => {
                self.transfer(ready.map_err(Error::Lost)?, read)
            }
            () = time::sleep_until(deadline) => self.session.check(Instant::now(), read),
        }
    }

    fn wanted(&mut self, read: bool) -> Readiness {
        let write = self.can_write && (!self.session.out().is_empty() || self.transport.wants_write());
        Readiness { read, write }
    }

    fn transfer(&mut self, ready: Readiness, read: bool) -> Result<(), Error> {
        if ready.write {
            self.write();
        }
        if read && ready.read { self.read() } else { Ok(()) }
    }

    /// A connection that can't be written to may still hold the server's reason: reading tells how it ended.
    fn write(&mut self) {
        match self.transport.write(self.session.out()) {
            Ok(sent) => self.session.sent(sent),
            Err(_) => {
                self.can_write = false;
                self.session.out().clear();
            }
        }
    }

    fn read(&mut self) -> Result<(), Error> {
        debug_assert!(self.undecoded.is_empty(), "what was read is decoded before more is");
        match self.transport.read(&mut self.buffer)? {
            Some(0) => Err(Error::Ended),
            Some(len) => {
                self.undecoded = 0..len;
                self.read_at = SystemTime::now();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Closes in good order.
    pub async fn close(mut self) {
        self.transport.close(&mut self.buffer).await;
    }
}
