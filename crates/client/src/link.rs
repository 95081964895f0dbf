//! One connection: a socket and the session that it carries.

use std::{
    io,
    ops::Range,
    time::{Duration, SystemTime},
};

use tickstream_wire::Decoder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest, Ready},
    net::TcpStream,
    time::{self, Instant},
};

use crate::{
    Error,
    config::Config,
    dial::dial,
    session::{Message, Session},
};

/// Read at a time, bytes. A larger frame takes several reads, a smaller one comes with others.
const READ_LEN: usize = 8 * 1024;
/// How long an orderly close waits for the server's FIN: as long as a server discards what still comes.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// An authenticated connection.
pub(crate) struct Link {
    pub session: Session,
    stream: TcpStream,
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
        let stream = dial(server, config.connect_timeout).await?;
        let now = Instant::now();
        let mut link = Self {
            session: Session::start(config, now),
            stream,
            decoder: Decoder::new(),
            buffer: vec![0; READ_LEN].into(),
            undecoded: 0..0,
            read_at: SystemTime::now(),
            since: now,
            can_write: true,
        };
        loop {
            match link.next_message()? {
                Some(Message::Authenticated) => return Ok(link),
                // Only a GOAWAY may come before, and says no more than the ERROR that follows it.
                Some(_) => {}
                None => link.progress(true).await?,
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

    /// How long the connection has lasted.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Waits until something was read or written, or time has passed: a step of whoever loops over it. Without
    /// `read` it only writes. Cancelled, it loses nothing.
    ///
    /// # Errors
    /// If the connection is lost, or the server silent for too long.
    pub async fn progress(&mut self, read: bool) -> Result<(), Error> {
        self.session.beat(Instant::now());
        let interest = self.interest(read);
        let deadline = self.session.deadline(read);
        // Reading first: who was kept from running for long must not blame the server for it.
        tokio::select! {
            biased;
            ready = self.stream.ready(interest.unwrap_or(Interest::READABLE)), if interest.is_some() => {
                self.transfer(ready.map_err(Error::Lost)?, read)
            }
            () = time::sleep_until(deadline) => self.session.check(Instant::now(), read),
        }
    }

    fn interest(&mut self, read: bool) -> Option<Interest> {
        let write = self.can_write && !self.session.out().is_empty();
        match (read, write) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        }
    }

    fn transfer(&mut self, ready: Ready, read: bool) -> Result<(), Error> {
        if ready.is_writable() || ready.is_write_closed() {
            self.write();
        }
        if read && (ready.is_readable() || ready.is_read_closed()) { self.read() } else { Ok(()) }
    }

    /// A connection that can't be written to may still hold the server's reason: reading tells how it ended.
    fn write(&mut self) {
        let out = self.session.out();
        match self.stream.try_write(out) {
            Ok(sent) => drop(out.drain(..sent)),
            Err(error) if is_passing(&error) => {}
            Err(_) => {
                self.can_write = false;
                out.clear();
            }
        }
    }

    fn read(&mut self) -> Result<(), Error> {
        debug_assert!(self.undecoded.is_empty(), "what was read is decoded before more is");
        match self.stream.try_read(&mut self.buffer) {
            Ok(0) => Err(Error::Ended),
            Ok(len) => {
                self.undecoded = 0..len;
                self.read_at = SystemTime::now();
                Ok(())
            }
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(Error::Lost(error)),
        }
    }

    /// Closes in good order: says that no more comes, and takes what the server still sends, so that no reset
    /// overtakes anything.
    pub async fn close(mut self) {
        let farewell = async {
            self.stream.shutdown().await?;
            while self.stream.read(&mut self.buffer).await? > 0 {}
            Ok::<(), io::Error>(())
        };
        // Nothing depends on how it ends.
        _ = time::timeout(CLOSE_PATIENCE, farewell).await;
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
