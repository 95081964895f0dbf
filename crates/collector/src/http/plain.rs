//! Connections without TLS. One on which nothing comes for a moment holds nothing but its socket: HTTP's buffers are made
//! when its next request comes.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time,
};

use super::{
    connection::{
        self, Activity, Builder, ConnectionLimits, GOODBYE, LAST_REQUEST, READ_BYTES_LEAST, service,
    },
    guard::Guard,
};
use crate::{drain, http::exchange::Exchange};

/// Time after an answer until the buffers go.
const KEPT: Duration = Duration::from_millis(100);
/// The first bytes of HTTP/2; no method of HTTP/1.1 begins so.
const HTTP2: [u8; 3] = *b"PRI";
/// Pause while a part of these has come.
const PAUSE: Duration = Duration::from_millis(10);

/// A builder of connections of HTTP/1.1.
pub(super) fn builder(limits: ConnectionLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.head_bytes + READ_BYTES_LEAST)
        .half_close(true)
        .keep_alive(true);
    builder
}

/// Serves a connection to its end. `drained` becomes true when the collector ends.
pub(super) async fn serve(
    mut stream: TcpStream,
    address: IpAddr,
    exchange: Arc<Exchange>,
    builder: &Builder,
    mut drained: watch::Receiver<bool>,
) {
    let mut begun = Bytes::new();
    // A client that has just connected sends a request, which it can't know to be refused.
    let mut patience = GOODBYE;
    loop {
        if begun.is_empty() {
            tokio::select! {
                // What has come goes before a time that is over: both may be found at once where threads had to wait.
                biased;
                came = time::timeout(builder.limits.idle_timeout, is_http2(&stream)) => match came {
                    Ok(Ok(false)) => {}
                    Ok(Ok(true)) => {
                        let served = connection::serve(stream, address, exchange, builder, drained);
                        return Box::pin(served).await;
                    }
                    Ok(Err(_)) | Err(_) => return,
                },
                () = drain::has_begun_for(&mut drained, patience) => return,
            }
        }
        let activity = Arc::new(Activity::new());
        let socket = Socket { stream, begun, activity: activity.clone() };
        let requests = requests(socket, address, &exchange, activity, builder, &mut drained);
        match Box::pin(requests).await {
            Some(rest) => (stream, begun, patience) = (rest.0, rest.1, LAST_REQUEST),
            None => return,
        }
    }
}

/// Waits for the first bytes.
async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut bytes = [0; HTTP2.len()];
    loop {
        let count = stream.peek(&mut bytes).await?;
        match count {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if bytes[..count] != HTTP2[..count] => return Ok(false),
            _ if count == HTTP2.len() => return Ok(true),
            _ => time::sleep(PAUSE).await,
        }
    }
}

/// Answers requests until none comes for a moment. Gives the socket, and what has come of a next request; `None`: it is
/// over.
async fn requests(
    socket: Socket,
    address: IpAddr,
    exchange: &Arc<Exchange>,
    activity: Arc<Activity>,
    builder: &Builder,
    drained: &mut watch::Receiver<bool>,
) -> Option<(TcpStream, Bytes)> {
    let service = service(exchange.clone(), address, activity.clone());
    let guard = Guard::new(socket, builder.limits.head_bytes);
    let mut connection = builder.http1.serve_connection(TokioIo::new(guard), service);
    tokio::select! {
        biased;
        // An error is the client's, which knows it already.
        _ = &mut connection => return None,
        () = activity.answered(KEPT) => {
            let parts = connection.into_parts();
            let (Socket { stream, begun, .. }, held) = parts.io.into_inner().into_parts();
            return Some((stream, [&parts.read_buf[..], &held, &begun].concat().into()));
        }
        () = activity.idle(builder.limits.idle_timeout) => {}
        () = activity.last_request(drained) => {}
    }
    Pin::new(&mut connection).graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = activity.goodbye() => {}
    }
    None
}

/// A socket, before whose bytes others may come, and which says whether its client reads.
struct Socket {
    stream: TcpStream,
    begun: Bytes,
    activity: Arc<Activity>,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.begun.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = self.begun.len().min(buffer.remaining());
        buffer.put_slice(&self.begun[..count]);
        self.begun.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.is_blocked.store(written.is_pending(), Ordering::Relaxed);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.activity.is_blocked.store(written.is_pending(), Ordering::Relaxed);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
