//! `POST /v1/query`: SQL in the body, rows in the answer as they are found.
//!
//! The user stands in the header `Authorization` (Basic, RFC 7617). `Accept` chooses JSON lines, CSV or Parquet. An answer
//! that fails on the way ends without its last chunk, so that no client takes a part for the whole.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::{Access, WRONG_PASSWORD_PAUSE, stopped};
use crate::loader::with_sources;
use crate::query::guard::SQL_BYTES_MAX;
use crate::query::{Answer, AsOf, Engine, Format, QueryError, Role, Writer};

/// Connections at the same time.
const CONNECTIONS_MAX: usize = 256;
/// Time in which a request's headers and body must have come.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Chunks of an answer that wait for its client.
const CHUNKS_WAITING: usize = 4;

type Body = UnsyncBoxBody<Bytes, Aborted>;

/// An answer that ends before its end.
#[derive(Debug, thiserror::Error)]
#[error("the query failed while its answer was sent")]
pub struct Aborted;

/// Serves queries until `stop` is set; answers that were begun are finished.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<Engine>,
    access: Access,
    tls: Option<TlsAcceptor>,
    mut stop: watch::Receiver<bool>,
) {
    let access = Arc::new(access);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        let Ok((socket, peer)) = accepted else {
            // No descriptors are left, for example: others must end first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = connections.clone().try_acquire_owned() else { continue };
        let (engine, access, tls, stop) = (engine.clone(), access.clone(), tls.clone(), stop.clone());
        tokio::spawn(async move {
            let ended = match tls {
                None => connection(socket, peer, &engine, &access, stop).await,
                Some(tls) => match tokio::time::timeout(REQUEST_TIME, tls.accept(socket)).await {
                    Ok(Ok(socket)) => connection(socket, peer, &engine, &access, stop).await,
                    Ok(Err(error)) => Err(error.into()),
                    Err(late) => Err(late.into()),
                },
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "connection");
            }
            drop(permit);
        });
    }
    // All permits are back when all connections have ended.
    let _ = connections.acquire_many(CONNECTIONS_MAX as u32).await;
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    peer: SocketAddr,
    engine: &Engine,
    access: &Access,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let service =
        service_fn(async |request| Ok::<_, Infallible>(respond(engine, access, peer, request).await));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    Ok(ended?)
}

async fn respond(
    engine: &Engine,
    access: &Access,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    if request.uri().path() != "/v1/query" {
        return text(StatusCode::NOT_FOUND, "POST SQL to /v1/query");
    }
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "POST SQL to /v1/query");
    }
    let Some(role) = authenticate(access, request.headers()) else {
        tokio::time::sleep(WRONG_PASSWORD_PAUSE).await;
        let mut response = text(StatusCode::UNAUTHORIZED, "a user and password are needed");
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"tickstream\""));
        return response;
    };
    let Ok(format) = format_of(request.headers()) else {
        return text(
            StatusCode::NOT_ACCEPTABLE,
            "Accept application/x-ndjson, text/csv or application/vnd.apache.parquet",
        );
    };
    let body = Limited::new(request.into_body(), SQL_BYTES_MAX).collect();
    let sql = match tokio::time::timeout(REQUEST_TIME, body).await {
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the query didn't come in time"),
        Ok(Err(_)) => return text(StatusCode::PAYLOAD_TOO_LARGE, "the query is too long"),
        Ok(Ok(body)) => body.to_bytes(),
    };
    let Ok(sql) = std::str::from_utf8(&sql) else {
        return text(StatusCode::BAD_REQUEST, "the query isn't UTF-8");
    };
    match engine.query(sql, &role).await {
        Ok(answer) => stream(answer, format),
        Err(error) => {
            tracing::debug!(%peer, user = role.user, error = with_sources(&error), "query");
            failure(&error)
        }
    }
}

fn authenticate(access: &Access, headers: &HeaderMap) -> Option<Role> {
    let users = match access {
        Access::Users(users) => users,
        // A page of another site that makes its name mean this host sends its own name.
        Access::Local => return is_local(headers).then(Role::local),
    };
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = STANDARD.decode(credentials.trim()).ok()?;
    let colon = credentials.iter().position(|byte| *byte == b':')?;
    let name = std::str::from_utf8(&credentials[..colon]).ok()?;
    users.role(name, &credentials[colon + 1..])
}

/// Whether a request names this host by its address or as localhost, and comes from no page.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    let is_loopback = name.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    (is_loopback || name == "localhost") && !headers.contains_key(ORIGIN)
}

fn format_of(headers: &HeaderMap) -> Result<Format, ()> {
    let Some(accept) = headers.get(ACCEPT) else { return Ok(Format::Json) };
    let accept = accept.to_str().map_err(|_| ())?;
    for range in accept.split(',') {
        match range.split(';').next().unwrap_or_default().trim() {
            "*/*" | "application/*" | "application/json" | "application/x-ndjson" => return Ok(Format::Json),
            "text/csv" | "text/*" => return Ok(Format::Csv),
            "application/vnd.apache.parquet" => return Ok(Format::Parquet),
            _ => {}
        }
    }
    Err(())
}

fn failure(error: &QueryError) -> Response<Body> {
    let status = match error {
        QueryError::Refused(_) => StatusCode::BAD_REQUEST,
        QueryError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
        QueryError::Time(_) | QueryError::Rows(_) | QueryError::Run(_) => StatusCode::UNPROCESSABLE_ENTITY,
        QueryError::Store(_) | QueryError::Tail(_) | QueryError::Damaged(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    let mut response = text(status, &with_sources(error));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn text(status: StatusCode, message: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{message}\n"))).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Sends the rows as they come. A client that is slow slows the query.
fn stream(answer: Answer, format: Format) -> Response<Body> {
    let as_of = as_of_header(&answer.as_of);
    let (sender, receiver) = mpsc::channel::<Result<Bytes, Aborted>>(CHUNKS_WAITING);
    tokio::spawn(async move {
        if let Err(error) = send(answer, format, &sender).await {
            tracing::debug!(error, "an answer was aborted");
            let _ = sender.send(Err(Aborted)).await;
        }
    });
    let chunks = futures::stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((chunk.map(Frame::data), receiver))
    });
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(chunks)));
    let kind = match format {
        Format::Csv => "text/csv; charset=utf-8",
        Format::Parquet => "application/vnd.apache.parquet",
        Format::Json | Format::Table => "application/x-ndjson",
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(as_of) = as_of {
        response.headers_mut().insert("tickstream-as-of", as_of);
    }
    response
}

async fn send(
    mut answer: Answer,
    format: Format,
    sender: &mpsc::Sender<Result<Bytes, Aborted>>,
) -> Result<(), String> {
    let buffer = Shared::default();
    let mut writer =
        Writer::new(format, &answer.schema, buffer.clone()).map_err(|error| with_sources(&error))?;
    while let Some(batch) = answer.next().await {
        let batch = batch.map_err(|error| with_sources(&error))?;
        writer.write(&batch).map_err(|error| with_sources(&error))?;
        let chunk = buffer.take();
        if !chunk.is_empty() && sender.send(Ok(chunk)).await.is_err() {
            return Err("the client has gone".to_owned());
        }
    }
    writer.finish().map_err(|error| with_sources(&error))?;
    let _ = sender.send(Ok(buffer.take())).await;
    Ok(())
}

fn as_of_header(as_of: &AsOf) -> Option<HeaderValue> {
    let mut text = format!("version={}", as_of.version);
    for journal in &as_of.journals {
        let behind = if journal.is_behind { "+" } else { "" };
        text.push_str(&format!("; {}={}{behind}", journal.journal, journal.sequence));
    }
    HeaderValue::from_str(&text).ok()
}

/// Bytes that a writer wrote and that weren't sent yet.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<std::sync::Mutex<Vec<u8>>>);

impl Shared {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)).into()
    }
}

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
