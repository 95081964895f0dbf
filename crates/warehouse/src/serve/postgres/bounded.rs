//! A stream that ends when a client announces a message that is too long. `pgwire` itself takes a gigabyte.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest message of a client, bytes: a query and its parameters.
pub const MESSAGE_BYTES_MAX: u32 = 1 << 20;

/// A client's stream.
pub struct Bounded<S> {
    stream: S,
    place: Place,
}

/// Place in the client's messages.
enum Place {
    /// In a header, of which these bytes came. The first message has no type, the others have one byte.
    Header { type_bytes: usize, came: usize, length: u32 },
    /// In a body, of which so many bytes are to come.
    Body { left: u32 },
}

impl<S> Bounded<S> {
    /// A stream at the beginning of the first message.
    pub fn new(stream: S) -> Self {
        Self { stream, place: Place::Header { type_bytes: 0, came: 0, length: 0 } }
    }

    /// Follows the lengths of the messages in `bytes`.
    fn follow(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some((&first, rest)) = bytes.split_first() {
            match &mut self.place {
                Place::Header { type_bytes, came, length } => {
                    if came >= type_bytes {
                        *length = *length << 8 | u32::from(first);
                    }
                    *came += 1;
                    bytes = rest;
                    if *came == *type_bytes + 4 {
                        let length = *length;
                        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
                            let reason =
                                format!("a message of {length} bytes, at most {MESSAGE_BYTES_MAX} are taken");
                            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                        }
                        self.place = Place::Body { left: length - 4 };
                        self.end_body();
                    }
                }
                Place::Body { left } => {
                    let taken = bytes.len().min(*left as usize);
                    *left -= taken as u32;
                    bytes = &bytes[taken..];
                    self.end_body();
                }
            }
        }
        Ok(())
    }

    fn end_body(&mut self) {
        if matches!(self.place, Place::Body { left: 0 }) {
            self.place = Place::Header { type_bytes: 1, came: 0, length: 0 };
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready(self.follow(&buffer.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(messages: &[(Option<u8>, u32, usize)], expected: bool) {
        let mut bytes = Vec::new();
        for (kind, length, body) in messages {
            bytes.extend(kind.iter());
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.resize(bytes.len() + body, 7);
        }
        for step in [1, 3, 1000] {
            let mut stream = Bounded::new(());
            let is_taken = bytes.chunks(step).all(|part| stream.follow(part).is_ok());
            assert_eq!(is_taken, expected, "{messages:?} in steps of {step}");
        }
    }

    #[test]
    fn messages_are_taken_up_to_their_bound() {
        check(&[(None, 8, 4), (Some(b'Q'), 4, 0), (Some(b'Q'), 300, 296), (Some(b'X'), 4, 0)], true);
        check(&[(None, 8, 4), (Some(b'Q'), MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX as usize - 4)], true);
        check(&[(None, 8, 4), (Some(b'Q'), MESSAGE_BYTES_MAX + 1, 0)], false);
        check(&[(None, u32::MAX, 0)], false);
        check(&[(None, 8, 4), (Some(b'Q'), 3, 0)], false);
    }
}
