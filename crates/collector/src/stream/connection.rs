//! One connection.

use std::{net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::{self, Instant},
};

use super::{StreamConfig, StreamDecoder};
use crate::{
    budget::Reservation,
    clock::now_ns,
    delivery::Delivery,
    drain,
    intake::SharedIntake,
    keys::StreamKeys,
    outcome::Rejection,
    writer::{Ids, Origin, Request},
};

/// First room of a connection's buffer, bytes: idle connections have no more.
const BUFFER_BYTES_FIRST: usize = 4096;
/// Largest read, bytes: so much is on its way to the servers at a time.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Most events of a read: more than a chunk of Fluentd's has records.
const EVENTS_MAX: u32 = 262_144;

pub(super) struct Connection {
    pub decoder: Box<dyn StreamDecoder>,
    pub intake: SharedIntake,
    pub keys: StreamKeys,
    pub address: Option<IpAddr>,
    pub config: StreamConfig,
    pub drain: watch::Receiver<bool>,
    /// Time since which a part of a message waits for its rest.
    pub partial_since: Option<Instant>,
    /// Time at which the connection is over, once the collector ends.
    pub ends_at: Option<Instant>,
    /// The sender was told that no more is taken.
    pub is_half_closed: bool,
}

/// Why a connection is over.
enum End {
    /// The sender has closed it, or it broke.
    Closed,
    /// Nothing came for too long.
    Idle,
    /// The collector ends.
    Drained,
}

impl Connection {
    /// Serves a connection to its end.
    pub async fn serve(mut self, mut io: impl AsyncRead + AsyncWrite + Unpin) {
        let mut reservation = self.intake.budget.reservation();
        let mut buffer = Vec::new();
        let mut out = Vec::new();
        self.decoder.greet(&mut out);
        if !out.is_empty() {
            self.partial_since = Some(Instant::now());
        }
        if self.tell(&mut io, &out).await.is_err() {
            return;
        }
        loop {
            match self.read(&mut io, &mut buffer, &mut reservation).await {
                Ok(()) => {}
                Err(End::Closed) => {
                    self.finish(&buffer).await;
                    break;
                }
                // The sender sees that no more is taken, and what it has sent until then is still read.
                Err(End::Drained) if !self.decoder.has_acknowledgements() && !self.is_half_closed => {
                    self.is_half_closed = true;
                    self.ends_at = Some(Instant::now() + GOODBYE);
                    _ = time::timeout(GOODBYE, io.shutdown()).await;
                    continue;
                }
                Err(End::Idle | End::Drained) => break,
            }
            if self.take(&mut io, &mut buffer).await.is_err() {
                break;
            }
            release(&mut buffer, &mut reservation);
        }
        _ = time::timeout(GOODBYE, io.shutdown()).await;
    }

    /// Waits for bytes, and appends them.
    async fn read(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        buffer: &mut Vec<u8>,
        reservation: &mut Reservation,
    ) -> Result<(), End> {
        // A message has its time from its first byte on: one byte a second would otherwise keep it for ever.
        let deadline = match self.partial_since {
            Some(since) => since + self.config.message_timeout,
            None => Instant::now() + self.config.idle_timeout,
        };
        if buffer.capacity() == buffer.len() {
            let more = buffer.len().clamp(BUFFER_BYTES_FIRST, READ_BYTES_MAX);
            while !reservation.grow(more) {
                time::sleep(FULL_PAUSE).await;
            }
            buffer.reserve_exact(more);
        }
        // What lies in the kernel of a half-closed connection is read however long it takes.
        if *self.drain.borrow() && !self.is_half_closed {
            let ends_at = *self.ends_at.get_or_insert_with(|| Instant::now() + GOODBYE);
            if Instant::now() >= ends_at {
                return Err(End::Drained);
            }
        }
        let ends = async {
            drain::begins(&mut self.drain).await;
            let ends_at = *self.ends_at.get_or_insert_with(|| Instant::now() + GOODBYE);
            time::sleep_until(ends_at).await;
        };
        tokio::select! {
            // What has come is taken first.
            biased;
            read = time::timeout_at(deadline, io.read_buf(buffer)) => match read {
                Ok(Ok(1..)) => Ok(()),
                Ok(Ok(0) | Err(_)) => Err(End::Closed),
                Err(_) => Err(End::Idle),
            },
            () = ends => Err(End::Drained),
        }
    }

    /// Decodes what is whole, has it stored, and tells the sender.
    async fn take(&mut self, io: &mut (impl AsyncWrite + Unpin), buffer: &mut Vec<u8>) -> Result<(), ()> {
        loop {
            let origin = self.origin()?;
            let mut writer = self.intake.writer(&origin, Ids::New, EVENTS_MAX);
            let decoded = self.decoder.decode(buffer, &mut writer);
            // What was decoded before the stream broke is stored all the same, and not acknowledged.
            let request = writer.finish().map_err(|problem| self.complain("malformed", &problem))?;
            let rejected = self.store(&origin, request).await?;
            let mut out = Vec::new();
            let consumed = match decoded {
                Ok(consumed) => consumed,
                Err(problem) => {
                    let code = self.decoder.refuse(&mut out);
                    self.complain(code, &problem);
                    self.tell(io, &out).await?;
                    return Err(());
                }
            };
            buffer.drain(..consumed);
            self.partial_since = match buffer.is_empty() {
                true => None,
                false if consumed > 0 => Some(Instant::now()),
                false => self.partial_since.or_else(|| Some(Instant::now())),
            };
            self.decoder.acknowledge(&rejected, &mut out);
            self.tell(io, &out).await?;
            if consumed == 0 || buffer.is_empty() {
                break;
            }
        }
        if buffer.len() > self.decoder.message_bytes_max() {
            self.complain(
                "malformed",
                &format!("a message has more than {} bytes", self.decoder.message_bytes_max()),
            );
            return Err(());
        }
        Ok(())
    }

    /// Writes what the sender is told.
    async fn tell(&mut self, io: &mut (impl AsyncWrite + Unpin), out: &[u8]) -> Result<(), ()> {
        if out.is_empty() {
            return Ok(());
        }
        let written = time::timeout(self.config.message_timeout, io.write_all(out)).await;
        written.map_err(drop)?.map_err(drop)
    }

    fn complain(&self, code: &'static str, problem: &dyn std::fmt::Display) {
        self.intake.metrics.refused(self.decoder.name(), code);
        tracing::info!(source = self.decoder.name(), peer = ?self.address, %problem, "closing a connection");
    }

    async fn finish(&mut self, rest: &[u8]) {
        let Ok(origin) = self.origin() else { return };
        let mut writer = self.intake.writer(&origin, Ids::New, EVENTS_MAX);
        self.decoder.end(rest, &mut writer);
        let request = writer.finish().unwrap_or_default();
        _ = self.store(&origin, request).await;
    }

    /// Until every event has its final answer; where the sender would send it again, also until the collector ends. Gives the
    /// events that can't be stored.
    async fn store(&mut self, origin: &Origin, request: Request) -> Result<Vec<Rejection>, ()> {
        let drain = self.decoder.has_acknowledgements().then(|| self.drain.clone());
        let delivery = Delivery { intake: &self.intake, origin, until: None, drain };
        delivery.deliver(&request).await.map_err(drop)
    }

    fn origin(&self) -> Result<Origin, ()> {
        let key = self.keys.key(self.decoder.key()).ok_or_else(|| {
            self.complain(
                "unauthorized",
                &"the key that the sender has proven to have is no longer in the file",
            );
        })?;
        Ok(Origin {
            key,
            source: self.decoder.name(),
            address: self.address,
            user_agent: String::new(),
            headers: Vec::new(),
            receive_time: now_ns(),
            send_time: 0,
        })
    }
}

/// Gives back the room that a busy moment took.
fn release(buffer: &mut Vec<u8>, reservation: &mut Reservation) {
    if buffer.len() < BUFFER_BYTES_FIRST && buffer.capacity() > 2 * READ_BYTES_MAX {
        let before = buffer.capacity();
        buffer.shrink_to(BUFFER_BYTES_FIRST);
        reservation.shrink(before - buffer.capacity());
    }
}

/// Pause of a connection that finds no memory.
const FULL_PAUSE: Duration = Duration::from_millis(50);
const GOODBYE: Duration = Duration::from_secs(2);
