//! CORS: which pages may read answers. It protects pages, never the collector: a public key is public.

use hyper::{
    StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue, VARY,
    },
};

use super::{Head, Reply};
use crate::keys::Key;

/// True if the key may be used from the page that sends, if a page does.
pub(super) fn allows(key: &Key, head: &Head) -> bool {
    let origin = head.header("origin");
    origin.is_empty() || key.origins.is_empty() || key.origins.iter().any(|allowed| allowed == origin)
}

/// Lets the page that sends read the answer. Pages that may not send get no further than a refusal.
pub(super) fn expose(head: &Head, reply: &mut Reply) {
    if let Some(origin) = head.headers.get("origin") {
        let headers = reply.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        // A beacon goes with cookies, which nothing here reads: browsers don't send it otherwise.
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
        headers.insert(VARY, HeaderValue::from_static("origin"));
    }
}

/// The answer to a browser that asks before it sends.
pub(super) fn preflight(head: &Head) -> Reply {
    let mut reply = Reply::empty(StatusCode::NO_CONTENT)
        .header(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT"))
        .header(ACCESS_CONTROL_ALLOW_HEADERS, headers(head))
        .header(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    expose(head, &mut reply);
    reply
}

/// The headers that the page wants to send: applications set their own, and none of them is a danger here.
fn headers(head: &Head) -> HeaderValue {
    let asked = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    asked.unwrap_or_else(|| {
        HeaderValue::from_static("authorization, content-encoding, content-type, x-api-key")
    })
}
