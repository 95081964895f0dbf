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
use tokio::time::{sleep, timeout};

use super::listener::Listener;
use super::router::{Program, Router, Via};

/// Connections of one listener at a time; one more is told to come back later.
const CONNECTIONS_MAX: usize = 64;
/// Longest time for a request's head, and longest silence between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head. The least that hyper accepts.
const HEAD_BYTES_MAX: usize = 8_192;
/// Header lines of a request.
const HEADERS_MAX: usize = 64;
/// Longest life of a connection; then its last answer is finished.
const LIFETIME: Duration = Duration::from_secs(60);
/// Longest time for that.
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// Accepting pauses for so long after it failed, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Threads for handlers that block, at a time.
pub const BLOCKING_THREADS_MAX: usize = 8;

/// The answer to one connection too many.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Length: 21\r\n\r\ntoo many connections\n";

/// Accepts connections on every listener from now on, on tasks of the current runtime.
pub fn serve<P: Program>(listeners: Vec<Listener>, router: &Arc<Router<P>>) {
    for listener in listeners {
        let router = Arc::clone(router);
        tokio::spawn(async move {
            if let Err(error) = accept(listener, router).await {
                tracing::error!(%error, "the admin endpoint stops listening");
            }
        });
    }
}

async fn accept<P: Program>(listener: Listener, router: Arc<Router<P>>) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    match listener {
        Listener::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            let via = Via::Tcp(listener.local_addr()?);
            loop {
                let Some((stream, _)) = accepted(listener.accept().await).await else { continue };
                match Arc::clone(&places).try_acquire_owned() {
                    Ok(permit) => drop(tokio::spawn(converse(stream, via, Arc::clone(&router), permit))),
                    Err(_) => _ = stream.try_write(FULL),
                }
            }
        }
        Listener::Unix(listener, _) => {
            let listener = UnixListener::from_std(listener)?;
            loop {
                let Some((stream, _)) = accepted(listener.accept().await).await else { continue };
                match Arc::clone(&places).try_acquire_owned() {
                    Ok(permit) => {
                        drop(tokio::spawn(converse(stream, Via::Unix, Arc::clone(&router), permit)));
                    }
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
async fn converse<P: Program>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    via: Via,
    router: Arc<Router<P>>,
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request| {
        let router = Arc::clone(&router);
        async move { Ok::<_, Infallible>(router.answer(via, &request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    // Its end is no news: clients go as they please.
    if timeout(LIFETIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_ANSWER, connection).await;
    }
}
