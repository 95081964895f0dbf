//! One connection: requests until its client goes, is idle for too long, or the collector ends.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{self, Instant},
};

use super::exchange::Exchange;
use crate::drain;

/// Bounds of connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Time for a head to come, and for which a connection may be idle.
    pub idle_timeout: Duration,
    /// Most bytes of a head.
    pub head_bytes: usize,
    /// Most requests at the same time on one HTTP/2 connection.
    pub streams: u32,
}

/// Requests that run, and when the last one ended.
struct Activity {
    since: Instant,
    running: AtomicUsize,
    ended_ms: AtomicU64,
}

/// A builder of connections for a listener.
pub(super) fn builder(limits: ConnectionLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.head_bytes.max(READ_BYTES_LEAST))
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.head_bytes as u32)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(limits.idle_timeout / 2)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// hyper refuses buffers below.
const READ_BYTES_LEAST: usize = 8192;
/// Streams that a client resets before they were looked at (CVE-2023-44487).
const RESETS_MAX: usize = 20;
/// Bytes that a client may send before it is read from.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for a connection that was asked to end.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves a connection to its end. `drained` becomes true when the collector ends.
pub(super) async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + 'static,
    address: IpAddr,
    exchange: Arc<Exchange>,
    builder: &auto::Builder<TokioExecutor>,
    idle_timeout: Duration,
    mut drained: watch::Receiver<bool>,
) {
    let activity = Arc::new(Activity::new());
    let service = service_fn({
        let activity = activity.clone();
        move |request: hyper::Request<Incoming>| {
            let (exchange, running) = (exchange.clone(), Running::new(activity.clone()));
            async move {
                let response = exchange.answer(request, address).await;
                drop(running);
                Ok::<_, std::convert::Infallible>(response)
            }
        }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    tokio::select! {
        // An error is the client's, which knows it already.
        _ = connection.as_mut() => return,
        () = activity.idle(idle_timeout) => {}
        () = drain::begins(&mut drained) => {}
    }
    connection.as_mut().graceful_shutdown();
    let busy = async {
        loop {
            time::sleep(GOODBYE).await;
            if activity.running.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    };
    tokio::select! {
        _ = connection => {}
        () = busy => {}
    }
}

impl Activity {
    fn new() -> Self {
        Self { since: Instant::now(), running: AtomicUsize::new(0), ended_ms: AtomicU64::new(0) }
    }

    /// Until nothing has run for so long.
    async fn idle(&self, timeout: Duration) {
        loop {
            let idle_since = self.since + Duration::from_millis(self.ended_ms.load(Ordering::Relaxed));
            let is_running = self.running.load(Ordering::Relaxed) > 0;
            let now = Instant::now();
            match (idle_since + timeout).checked_duration_since(now) {
                _ if is_running => time::sleep(timeout).await,
                Some(left) if !left.is_zero() => time::sleep(left).await,
                _ => return,
            }
        }
    }
}

/// A request that runs.
struct Running(Arc<Activity>);

impl Running {
    fn new(activity: Arc<Activity>) -> Self {
        activity.running.fetch_add(1, Ordering::Relaxed);
        Self(activity)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Activity { since, running, ended_ms } = &*self.0;
        ended_ms.store(since.elapsed().as_millis() as u64, Ordering::Relaxed);
        running.fetch_sub(1, Ordering::Relaxed);
    }
}
