//! Protocols that are a stream of bytes or datagrams: syslog, RELP, Fluent Forward, StatsD.
//!
//! A connection is read no further while its events have no answer: back-pressure reaches the sender by TCP. Events that
//! the servers can't take at present are held, and tried again for as long as the connection lasts. Datagrams have no
//! back-pressure: what finds no room is dropped and counted.

mod config;
mod connection;
mod datagrams;
mod listener;

pub use config::StreamConfig;
pub use datagrams::UdpServer;
pub use listener::{NewDecoder, StreamServer};

use crate::{
    outcome::{Malformed, Rejection},
    writer::EventWriter,
};

/// A decoder of one connection's bytes. No I/O.
pub trait StreamDecoder: Send {
    /// Name of the source in metrics, logs and with each event.
    fn name(&self) -> &'static str;

    /// Decodes messages from the front of `bytes`, as many as the writer has room for, and tells how many bytes they
    /// had. Where nothing is left but a part of a message, that stays.
    ///
    /// # Errors
    /// [`Malformed`], where no later byte can be understood any more: the connection is closed.
    fn decode(&mut self, bytes: &[u8], writer: &mut EventWriter<'_>) -> Result<usize, Malformed>;

    /// The connection has ended, and these bytes are left of it.
    fn end(&mut self, _bytes: &[u8], _writer: &mut EventWriter<'_>) {}

    /// Appends what the sender is told now that all events of the last [`decode`](Self::decode) have their final answer:
    /// those that can't be stored are `rejected`, by rising index, the others are stored.
    fn acknowledge(&mut self, _rejected: &[Rejection], _out: &mut Vec<u8>) {}

    /// True where the sender is told what is stored, and sends the rest again.
    fn has_acknowledgements(&self) -> bool {
        true
    }

    /// Appends what the sender is told first, which it answers within the time of a message.
    fn greet(&mut self, _out: &mut Vec<u8>) {}

    /// Name of the key that the sender has proven to have; `None`: it has that of the listener.
    fn key(&self) -> Option<&str> {
        None
    }

    /// Appends what the sender is told before the connection is closed for what it sent. Gives the code of this, for metrics.
    fn refuse(&mut self, _out: &mut Vec<u8>) -> &'static str {
        "malformed"
    }

    /// Largest message, bytes.
    fn message_bytes_max(&self) -> usize;
}

/// A decoder of datagrams. No I/O.
pub trait DatagramDecoder: Send + Sync {
    /// Name of the source.
    fn name(&self) -> &'static str;

    /// Decodes one datagram.
    fn decode(&self, datagram: &[u8], writer: &mut EventWriter<'_>);
}
