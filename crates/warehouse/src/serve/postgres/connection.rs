//! One client's connection: TLS, then message after message.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use pgwire::api::cancel::DefaultCancelHandler;
use pgwire::api::{ClientInfo, DefaultClient, NoopHandler, PgWireConnectionState};
use pgwire::messages::PgWireFrontendMessage;
use pgwire::tokio::server::{PgWireMessageServerCodec, process_error, process_message};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::codec::Framed;

use super::bounded::Bounded;
use super::handler::Handler;
use super::startup::Startup;
use super::statement::Prepared;
use super::{Access, Shared, stopped};

/// Time in which a client must be authenticated.
const STARTUP_TIME: Duration = Duration::from_secs(10);
/// Codes of requests that come before the first message.
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// Serves one client.
///
/// # Errors
/// If the connection fails.
pub async fn run(
    socket: TcpStream,
    peer: SocketAddr,
    shared: &Shared,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let late = tokio::time::Instant::now() + STARTUP_TIME;
    let expired = |_| io::Error::from(io::ErrorKind::TimedOut);
    let (socket, wants_tls) =
        tokio::time::timeout_at(late, requests(socket, shared)).await.map_err(expired)??;
    match (wants_tls, &shared.tls) {
        (true, Some(tls)) => {
            let stream = tokio::time::timeout_at(late, tls.accept(socket)).await.map_err(expired)??;
            messages(stream, peer, true, shared, stop, late).await
        }
        _ => messages(socket, peer, false, shared, stop, late).await,
    }
}

/// Answers the requests that come before the first message; whether TLS begins.
async fn requests(mut socket: TcpStream, shared: &Shared) -> io::Result<(TcpStream, bool)> {
    // One for encryption by GSSAPI, one for TLS, then the first message.
    for _ in 0..3 {
        let mut head = [0; 8];
        while socket.peek(&mut head).await? < head.len() {
            // Part of a request: more comes, or the limit of time does.
            tokio::time::sleep(Duration::from_millis(5)).await;
            socket.readable().await?;
            if socket.peek(&mut head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let [length, code] =
            [0, 4].map(|at| u32::from_be_bytes(head[at..at + 4].try_into().unwrap_or_default()));
        if length != 8 || !matches!(code, SSL_REQUEST | GSS_REQUEST) {
            return Ok((socket, false));
        }
        socket.read_exact(&mut head).await?;
        if code == SSL_REQUEST && shared.tls.is_some() {
            socket.write_all(b"S").await?;
            return Ok((socket, true));
        }
        socket.write_all(b"N").await?;
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "too many requests for encryption"))
}

async fn messages<S>(
    stream: S,
    peer: SocketAddr,
    is_secure: bool,
    shared: &Shared,
    mut stop: watch::Receiver<bool>,
    late: tokio::time::Instant,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    let client = DefaultClient::<Prepared>::new(peer, is_secure);
    let mut socket = Framed::new(Bounded::new(stream), PgWireMessageServerCodec::new(client));
    socket.set_state(PgWireConnectionState::AwaitingStartup);
    let needs_tls = matches!(shared.access, Access::Users(_)) && shared.tls.is_some();
    let startup = Arc::new(Startup::new(&shared.access, shared.cancellable.clone(), needs_tls));
    let handler = Arc::new(Handler::new(shared.engine.clone(), shared.access.clone()));
    let (copy, cancel) =
        (Arc::new(NoopHandler), Arc::new(DefaultCancelHandler::new(shared.cancellable.clone())));
    loop {
        let is_starting = matches!(
            socket.state(),
            PgWireConnectionState::AwaitingStartup | PgWireConnectionState::AuthenticationInProgress
        );
        let message = tokio::select! {
            message = socket.next() => message,
            () = tokio::time::sleep_until(late), if is_starting => return Err(io::ErrorKind::TimedOut.into()),
            // Between two queries: an answer that was begun is finished.
            () = stopped(&mut stop) => return Ok(()),
        };
        let message = match message {
            None | Some(Ok(PgWireFrontendMessage::Terminate(_))) => return Ok(()),
            Some(message) => message.map_err(io::Error::other)?,
        };
        let is_extended = message.is_extended_query();
        let handled = process_message(
            message,
            &mut socket,
            startup.clone(),
            handler.clone(),
            handler.clone(),
            copy.clone(),
            cancel.clone(),
        );
        if let Err(error) = handled.await {
            tracing::debug!(%peer, %error, "PostgreSQL query");
            process_error(&mut socket, error, is_extended).await?;
            if is_starting {
                // A wrong password: a pause, then the connection ends.
                tokio::time::sleep(super::super::WRONG_PASSWORD_PAUSE).await;
                return Ok(());
            }
        }
    }
}
