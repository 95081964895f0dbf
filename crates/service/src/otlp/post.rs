//! One POST of spans, on a connection of its own: there is one a second at most, unless there is much to send.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::OtlpEndpoint;

/// From looking up the host to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Errors of sending spans.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No connection.
    #[error("can't connect: {0}")]
    Connect(#[from] io::Error),
    /// The exchange was cut off.
    #[error("the exchange failed: {0}")]
    Http(#[from] hyper::Error),
    /// No answer in time.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The endpoint is no URL after all.
    #[error("no request can be made to the endpoint: its URL is wrong")]
    Endpoint,
    /// An answer that refuses.
    #[error("it answered {status}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// When to try again.
        retry_after: Option<Duration>,
    },
}

impl PostError {
    /// Tells whether the same spans may be taken later. OTLP names the answers that mean so.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Http(_) | Self::Timeout => true,
            Self::Endpoint => false,
            Self::Refused { status, .. } => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }

    /// When the endpoint wants to be asked again, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Sends a request in protobuf. `Some` if only a part of it was taken.
///
/// # Errors
/// See [`PostError`].
pub async fn post(
    endpoint: &OtlpEndpoint,
    body: Bytes,
) -> Result<Option<ExportTracePartialSuccess>, PostError> {
    timeout(TIMEOUT, exchange(endpoint, body)).await.unwrap_or(Err(PostError::Timeout))
}

async fn exchange(
    endpoint: &OtlpEndpoint,
    body: Bytes,
) -> Result<Option<ExportTracePartialSuccess>, PostError> {
    let stream = TcpStream::connect(endpoint.authority()).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with this call, however that ends.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::post(endpoint.path())
        .header(HOST, endpoint.authority())
        .header(CONTENT_TYPE, "application/x-protobuf")
        .header(USER_AGENT, concat!("tickstream/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body))
        .map_err(|_| PostError::Endpoint)?;
    read(sender.send_request(request).await?).await
}

async fn read(response: Response<Incoming>) -> Result<Option<ExportTracePartialSuccess>, PostError> {
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        return Err(PostError::Refused { status: head.status, retry_after });
    }
    // Taken they are, whatever the rest of the answer is like.
    let Ok(body) = Limited::new(body, ANSWER_BYTES_MAX).collect().await else { return Ok(None) };
    let answer = ExportTraceServiceResponse::decode(body.to_bytes()).unwrap_or_default();
    Ok(answer.partial_success.filter(|partial| partial.rejected_spans > 0))
}
