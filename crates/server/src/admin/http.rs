//! Connections of the admin endpoint: few, short, and each bounded, since anybody on the machine may open them.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::health::LOOK_INTERVAL;
use super::listener::Listener;
use super::route::{State, Via};

/// Connections of one listener at a time; one more is told to come back later.
const CONNECTIONS_MAX: usize = 64;
/// How long a request's head may take, and how long a connection may be silent between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head. The least that hyper accepts.
const HEAD_BYTES_MAX: usize = 8_192;
/// Header lines of a request.
const HEADERS_MAX: usize = 64;
/// How long a connection may last; then its last answer is finished.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long that may take.
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// Accepting pauses for so long after it failed, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Threads that wait for shards at a time.
pub const BLOCKING_THREADS_MAX: usize = 8;

/// What one connection too many is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Length: 21\r\n\r\ntoo many connections\n";

/// Serves for ever.
pub async fn serve(listeners: Vec<Listener>, state: Arc<State>) {
    for listener in listeners {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            if let Err(error) = accept(listener, state).await {
                tracing::error!(%error, "the admin endpoint stops listening");
            }
        });
    }
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        state.look();
    }
}

async fn accept(listener: Listener, state: Arc<State>) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    match listener {
        Listener::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            let via = Via::Tcp(listener.local_addr()?);
            loop {
                let Some((stream, _)) = accepted(listener.accept().await).await else { continue };
                match Arc::clone(&room).try_acquire_owned() {
                    Ok(permit) => drop(tokio::spawn(converse(stream, via, Arc::clone(&state), permit))),
                    Err(_) => _ = stream.try_write(FULL),
                }
            }
        }
        Listener::Unix(listener, _) => {
            let listener = UnixListener::from_std(listener)?;
            loop {
                let Some((stream, _)) = accepted(listener.accept().await).await else { continue };
                match Arc::clone(&room).try_acquire_owned() {
                    Ok(permit) => drop(tokio::spawn(converse(stream, Via::Unix, Arc::clone(&state), permit))),
                    Err(_) => _ = stream.try_write(FULL),
                }
            }
        }
    }
}

async fn accepted<T>(accepted: io::Result<T>) -> Option<T> {
    if accepted.is_err() {
        sleep(ACCEPT_PAUSE).await;
    }
    accepted.ok()
}

/// One connection, until it ends or has lasted long enough.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    via: Via,
    state: Arc<State>,
    _room: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(state.answer(via, &request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    // How it ends is nobody's business: clients go as they please.
    if timeout(LIFETIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_ANSWER, connection).await;
    }
}
