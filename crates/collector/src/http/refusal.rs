//! Reasons not to take a request, before a protocol puts them into its own words.

use std::time::Duration;

use hyper::{
    StatusCode,
    header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};

use tickstream_service::text::counted;

use super::{Reply, framing::Problem};
use crate::{
    outcome::{Malformed, Outcome, Unavailable, seconds},
    writer::TooManyEvents,
};

/// A request that wasn't taken, or not all of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The body can't be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The request breaks HTTP/1.1's rules.
    #[error(transparent)]
    Framing(#[from] Problem),
    /// No key, or one that there isn't.
    #[error("a valid key is needed: as ?key=, Authorization: Bearer, or X-API-Key")]
    Unauthorized,
    /// The key isn't for pages of this origin.
    #[error("this key may not be used from {0}")]
    Origin(String),
    /// There is no such path.
    #[error("there is nothing at this path")]
    NotFound,
    /// The path takes another method.
    #[error("this path takes {0}")]
    Method(&'static str),
    /// The body didn't come in time.
    #[error("the body didn't come within {0:?}")]
    Slow(Duration),
    /// The connection broke within the body.
    #[error("the body ended early")]
    Incomplete,
    /// The body is too large, as it came or decompressed.
    #[error("the body has more than {bytes_max} bytes; send smaller ones")]
    TooLarge {
        /// Most bytes.
        bytes_max: usize,
    },
    /// The request has too many events.
    #[error(transparent)]
    TooManyEvents(#[from] TooManyEvents),
    /// The body's Content-Type or Content-Encoding.
    #[error("{0}")]
    Unsupported(String),
    /// Nothing is known to be stored.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Some events can't be stored at present.
    #[error("{} can't be stored at present: {}", counted(.0.rejected.iter().filter(|r| r.retryable).count() as u64, "event"), .0.summary())]
    Partly(Outcome),
}

impl Refusal {
    /// HTTP's status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Framing(problem) => problem.status(),
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Slow(_) | Self::Incomplete => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } | Self::TooManyEvents(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unavailable(unavailable) if unavailable.cause.is_quota() => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Partly(outcome) if is_rate_limited(outcome) => StatusCode::TOO_MANY_REQUESTS,
            Self::Partly(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// HTTP's status for senders that send again after 429 and some of 5xx alone, as those of OTLP, Prometheus and
    /// Elasticsearch do: what came too slowly isn't lost.
    pub fn status_to_repeat(&self) -> StatusCode {
        match self {
            Self::Slow(_) | Self::Incomplete => StatusCode::SERVICE_UNAVAILABLE,
            _ => self.status(),
        }
    }

    /// Label for metrics, and code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Framing(_) => "framing",
            Self::Unauthorized => "unauthorized",
            Self::Origin(_) => "origin",
            Self::NotFound => "not_found",
            Self::Method(_) => "method",
            Self::Slow(_) => "slow",
            Self::Incomplete => "incomplete",
            Self::TooLarge { .. } => "too_large",
            Self::TooManyEvents(_) => "too_many_events",
            Self::Unsupported(_) => "unsupported",
            Self::Unavailable(unavailable) => unavailable.cause.label(),
            Self::Partly(_) => "partly",
        }
    }

    /// The time after which to send again; `None`: sending the same again won't help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(unavailable) => Some(unavailable.retry_after),
            Self::Partly(outcome) => Some(outcome.retry_after.max(RETRY_AFTER_LEAST)),
            Self::Slow(_) | Self::Incomplete => Some(RETRY_AFTER_LEAST),
            _ => None,
        }
    }

    /// Adds the headers that belong to the status: `Retry-After`, `WWW-Authenticate`, `Allow`.
    pub fn with_headers(&self, mut reply: Reply) -> Reply {
        if let Some(time) = self.retry_after() {
            reply = reply.header(RETRY_AFTER, HeaderValue::from(seconds(time)));
        }
        match self {
            Self::Unauthorized => {
                reply.header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tickstream\""))
            }
            Self::Method(methods) => reply.header(ALLOW, HeaderValue::from_static(methods)),
            _ => reply,
        }
    }
}

const RETRY_AFTER_LEAST: Duration = Duration::from_secs(1);

fn is_rate_limited(outcome: &Outcome) -> bool {
    outcome.retryable().is_some_and(|rejection| rejection.code == "RATE_LIMITED")
}
