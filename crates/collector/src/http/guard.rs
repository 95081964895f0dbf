//! A socket of HTTP/1.1 whose requests keep to the letter, as hyper reads them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use hyper::Request;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::framing::{Framing, Part, Problem};

/// The method of the request that takes the place of one whose head has a problem: hyper gives it its turn among the answers.
const REFUSED: &str = "REFUSED";
/// Room for what isn't checked yet.
const READ_BYTES: usize = 8 * 1024;
/// Bytes that are passed over after a problem, so that the answer isn't lost in a reset.
const PASSED_OVER_BYTES_MAX: usize = 1 << 20;

/// Checks what is read.
pub(super) struct Guard<T> {
    io: T,
    framing: Framing,
    /// Bytes that have come, and weren't read.
    held: BytesMut,
    /// Those of them that may be read.
    sound: usize,
    end: Option<End>,
}

/// A problem, which ends what is read.
enum End {
    /// In a head: so many bytes may still be passed over.
    Refused(usize),
    /// In a body.
    Broken(Problem),
}

impl<T> Guard<T> {
    pub fn new(io: T, head_bytes_max: usize) -> Self {
        let framing = Framing::new(head_bytes_max);
        Self { io, framing, held: BytesMut::new(), sound: 0, end: None }
    }

    /// The socket, and what has come of a next request.
    pub fn into_parts(self) -> (T, Bytes) {
        (self.io, self.held.freeze())
    }

    /// Checks what is held.
    fn check(&mut self) {
        while self.end.is_none() && self.sound < self.held.len() {
            match self.framing.check(&self.held[self.sound..]) {
                Ok(Part::Sound(count)) => self.sound += count,
                Ok(Part::Unfinished) => return,
                Err(problem) if self.framing.is_in_head() => self.refuse(problem),
                Err(problem) => self.end = Some(End::Broken(problem)),
            }
        }
    }

    /// Puts a request in the place of the one with a problem, and of all that follow.
    fn refuse(&mut self, problem: Problem) {
        self.held.truncate(self.sound);
        let index = Problem::OF_HEADS.iter().position(|one| *one == problem).unwrap_or_default();
        let request = format!("{REFUSED} /{index} HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n");
        self.held.extend_from_slice(request.as_bytes());
        self.sound = self.held.len();
        self.end = Some(End::Refused(PASSED_OVER_BYTES_MAX));
    }
}

/// The problem in whose place a request stands.
pub(super) fn problem<B>(request: &Request<B>) -> Option<Problem> {
    let index = request.uri().path().strip_prefix('/').filter(|_| request.method() == REFUSED)?;
    Some(
        index
            .parse()
            .ok()
            .and_then(|index: usize| Problem::OF_HEADS.get(index).copied())
            .unwrap_or(Problem::RequestLine),
    )
}

impl<T: AsyncRead + Unpin> Guard<T> {
    /// Reads more into what is held: the number of bytes.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut piece = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
        self.held.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Passes over what follows a problem; never ready, since the answer to it is what ends the connection.
    fn poll_rest(&mut self, left: usize, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut left = left;
        while left > 0 {
            self.held.clear();
            left = match ready!(self.poll_more(context)) {
                Ok(0) | Err(_) => 0,
                Ok(count) => left.saturating_sub(count),
            };
            self.end = Some(End::Refused(left));
        }
        Poll::Pending
    }

    /// Reads what needn't be checked, without a copy.
    fn poll_opaque(
        &mut self,
        count: u64,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut (&mut self.io).take(count)).poll_read(context, buffer))?;
        self.framing.passed((buffer.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.sound > 0 {
                let count = self.sound.min(buffer.remaining());
                buffer.put_slice(&self.held[..count]);
                self.held.advance(count);
                self.sound -= count;
                return Poll::Ready(Ok(()));
            }
            match self.end {
                Some(End::Refused(left)) => return self.poll_rest(left, context),
                Some(End::Broken(problem)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, problem)));
                }
                None => {}
            }
            match self.framing.opaque() {
                0 => {}
                count => return self.poll_opaque(count, context, buffer),
            }
            if ready!(self.poll_more(context))? == 0 {
                return Poll::Ready(Ok(()));
            }
            self.check();
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guard<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
