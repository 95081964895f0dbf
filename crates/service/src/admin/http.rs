//! Connections of the admin endpoint: few, short, and each bounded, since anybody on the machine may open them.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
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
/// Time after the endpoint was told to end in which connections are still taken: those that wait to be.
const LAST_ACCEPTS: Duration = Duration::from_millis(50);
/// Longest time from then on for requests that have begun, or are about to.
pub const GOODBYE: Duration = Duration::from_secs(2);
/// Threads for handlers that block, at a time.
pub const BLOCKING_THREADS_MAX: usize = 8;

/// The answer to one connection too many.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Length: 21\r\n\r\ntoo many connections\n";

/// Answers on every listener, on tasks of the current runtime, until `until` ends; then takes the connections that wait, and
/// lets requests come to their answers.
pub async fn serve<P: Program>(
    listeners: Vec<Listener>,
    router: &Arc<Router<P>>,
    until: impl Future<Output = ()>,
) {
    let (end, ended) = watch::channel(false);
    for listener in listeners {
        let (router, ended) = (Arc::clone(router), ended.clone());
        tokio::spawn(async move {
            if let Err(error) = accept(listener, router, ended).await {
                tracing::error!(%error, "the admin endpoint stops listening");
            }
        });
    }
    drop(ended);
    until.await;
    end.send_replace(true);
    // Each listener and each connection has a receiver.
    let _ = timeout(GOODBYE, end.closed()).await;
}

async fn accept<P: Program>(
    listener: Listener,
    router: Arc<Router<P>>,
    ended: watch::Receiver<bool>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut over = pin!(over(ended.clone()));
    match listener {
        Listener::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            let via = Via::Tcp(listener.local_addr()?);
            while let Some(accepted) = accepted(listener.accept(), over.as_mut()).await {
                let Ok((stream, _)) = accepted else { continue };
                match Arc::clone(&places).try_acquire_owned() {
                    Ok(permit) => {
                        drop(tokio::spawn(converse(stream, via, Arc::clone(&router), ended.clone(), permit)));
                    }
                    Err(_) => _ = stream.try_write(FULL),
                }
            }
        }
        Listener::Unix(listener, _) => {
            let listener = UnixListener::from_std(listener)?;
            while let Some(accepted) = accepted(listener.accept(), over.as_mut()).await {
                let Ok((stream, _)) = accepted else { continue };
                match Arc::clone(&places).try_acquire_owned() {
                    Ok(permit) => drop(tokio::spawn(converse(
                        stream,
                        Via::Unix,
                        Arc::clone(&router),
                        ended.clone(),
                        permit,
                    ))),
                    Err(_) => _ = stream.try_write(FULL),
                }
            }
        }
    }
    Ok(())
}

/// Until the endpoint was told to end, and those who had connected then were seen.
async fn over(mut ended: watch::Receiver<bool>) {
    ends(&mut ended).await;
    sleep(LAST_ACCEPTS).await;
}

/// Until the endpoint was told to end.
async fn ends(ended: &mut watch::Receiver<bool>) {
    // An error means that its runtime goes.
    let _ = ended.wait_for(|has_ended| *has_ended).await;
}

/// One connection more; `None`: no more are taken.
async fn accepted<T>(
    accept: impl Future<Output = io::Result<T>>,
    over: Pin<&mut impl Future<Output = ()>>,
) -> Option<io::Result<T>> {
    let accepted = tokio::select! {
        biased;
        accepted = accept => accepted,
        () = over => return None,
    };
    if accepted.is_err() {
        sleep(ACCEPT_PAUSE).await;
    }
    Some(accepted)
}

/// One connection, until it ends, has lasted long enough, or the endpoint ends: then a client that has just connected still
/// has its first request answered.
async fn converse<P: Program>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    via: Via,
    router: Arc<Router<P>>,
    mut ended: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let first_request = Arc::new(Notify::new());
    let begun = Arc::clone(&first_request);
    let service = service_fn(move |request| {
        begun.notify_one();
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
    let last_request = async {
        ends(&mut ended).await;
        first_request.notified().await;
    };
    tokio::select! {
        biased;
        // Its end is no news: clients go as they please.
        _ = connection.as_mut() => return,
        () = sleep(LIFETIME) => {}
        () = last_request => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(LAST_ANSWER, connection).await;
}
