//! One connection: requests until its client goes, is idle for too long, or the collector ends.

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, watch},
    time::{self, Instant},
};

use super::{exchange::Exchange, guard::Guard, reply::ReplyBody};
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
pub(super) struct Activity {
    since: Instant,
    running: AtomicUsize,
    begins: Notify,
    /// Milliseconds since; 0: none has ended.
    ended_ms: AtomicU64,
    /// The client doesn't read what is there for it.
    pub is_blocked: AtomicBool,
}

/// Builders of connections for a listener.
pub(super) struct Builder {
    pub any: auto::Builder<TokioExecutor>,
    pub http1: http1::Builder,
    pub limits: ConnectionLimits,
}

/// A builder of connections of both versions.
pub(super) fn any(limits: ConnectionLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.head_bytes + READ_BYTES_LEAST)
        .half_close(true)
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

/// hyper refuses buffers below. With room for a head beside it, no head is too large for hyper that the guard lets pass.
pub(super) const READ_BYTES_LEAST: usize = 8192;
/// Streams that a client resets before they were looked at (CVE-2023-44487).
const RESETS_MAX: usize = 20;
/// Bytes that a client may send before it is read from.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Time that a connection has for one more request when the collector ends: one may be on its way.
pub(super) const LAST_REQUEST: Duration = Duration::from_secs(1);
/// Time for a connection that was asked to end, or that has brought no request yet.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);

/// Serves a connection to its end, of HTTP/1.1 or 2. `drained` becomes true when the collector ends.
pub(super) async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + 'static,
    address: IpAddr,
    exchange: Arc<Exchange>,
    builder: &Builder,
    mut drained: watch::Receiver<bool>,
) {
    let activity = Arc::new(Activity::new());
    let service = service(exchange, address, activity.clone());
    let io = TokioIo::new(Guard::new(io, builder.limits.head_bytes));
    let mut connection = std::pin::pin!(builder.any.serve_connection(io, service));
    tokio::select! {
        // What has come goes before a time that is over: both may be found at once where threads had to wait.
        biased;
        // An error is the client's, which knows it already.
        _ = connection.as_mut() => return,
        () = activity.idle(builder.limits.idle_timeout) => {}
        () = activity.last_request(&mut drained) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = activity.goodbye() => {}
    }
}

/// Answers requests of a connection. What an answer needs while it is made goes with it.
pub(super) fn service(
    exchange: Arc<Exchange>,
    address: IpAddr,
    activity: Arc<Activity>,
) -> impl Service<Request<Incoming>, Response = Response<ReplyBody>, Error = Infallible, Future = Answering> + Send
{
    service_fn(move |request: Request<Incoming>| -> Answering {
        let (exchange, running) = (exchange.clone(), Running::new(activity.clone()));
        Box::pin(async move {
            let response = exchange.answer(request, address).await;
            drop(running);
            Ok(response)
        })
    })
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<ReplyBody>, Infallible>> + Send>>;

impl Activity {
    pub fn new() -> Self {
        Self {
            since: Instant::now(),
            running: AtomicUsize::new(0),
            begins: Notify::new(),
            ended_ms: AtomicU64::new(0),
            is_blocked: AtomicBool::new(false),
        }
    }

    /// Until the collector ends, and the request runs whose answer tells the client so; or none has come.
    pub async fn last_request(&self, drained: &mut watch::Receiver<bool>) {
        drain::begins(drained).await;
        let begins = self.begins.notified();
        if self.running.load(Ordering::Relaxed) == 0 {
            _ = time::timeout(LAST_REQUEST, begins).await;
        }
    }

    /// Until a request was answered, which the client has read, and nothing has run for so long.
    pub async fn answered(&self, time: Duration) {
        loop {
            self.idle(time).await;
            if self.ended_ms.load(Ordering::Relaxed) > 0 && !self.is_blocked.load(Ordering::Relaxed) {
                return;
            }
            time::sleep(time).await;
        }
    }

    /// Until nothing runs on a connection that was asked to end.
    pub async fn goodbye(&self) {
        loop {
            time::sleep(GOODBYE).await;
            if self.running.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }

    /// Until nothing has run for so long.
    pub async fn idle(&self, timeout: Duration) {
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
        activity.begins.notify_waiters();
        Self(activity)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Activity { since, running, ended_ms, .. } = &*self.0;
        ended_ms.store((since.elapsed().as_millis() as u64).max(1), Ordering::Relaxed);
        running.fetch_sub(1, Ordering::Relaxed);
    }
}
