//! Answers of the admin endpoint, and refusals.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};

/// An answer.
pub type Answer = Response<Full<Bytes>>;

/// A request that isn't answered as it wishes: a status, and a line that says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    text: String,
    allowed: Option<Method>,
}

impl Refusal {
    /// A refusal with this status.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), allowed: None }
    }

    /// 404.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 400.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 503: the same request may be answered later.
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// 500.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    pub(super) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    pub(super) fn method(text: String, allowed: Method) -> Self {
        Self { allowed: Some(allowed), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, text) }
    }

    /// The line that says why.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn answer(&self) -> Answer {
        let mut answer = text(self.status, format!("{}\n", self.text));
        let allowed = self.allowed.as_ref().and_then(|method| HeaderValue::from_str(method.as_str()).ok());
        if let Some(allowed) = allowed {
            answer.headers_mut().insert(header::ALLOW, allowed);
        }
        answer
    }
}

/// JSON.
///
/// # Errors
/// A 500 if it can't be written as JSON, as a map with keys that are no text.
pub fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Result<Answer, Refusal> {
    let body = serde_json::to_string(value).map_err(|error| Refusal::failed(error.to_string()))?;
    Ok(of_type(status, "application/json", body))
}

/// Plain text.
pub fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    of_type(status, "text/plain; charset=utf-8", body.into())
}

/// An answer of this media type.
pub fn of_type(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Answer {
    const NO_SNIFFING: (HeaderName, HeaderValue) =
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NO_SNIFFING.0, NO_SNIFFING.1);
    answer
}
