//! The head of a request, as sources see it.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{HeaderMap, Method, header::AUTHORIZATION, http::request::Parts};

/// Method, path, query and headers.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The client's address.
    pub address: Option<IpAddr>,
}

impl Head {
    /// Of hyper's request.
    pub fn new(parts: &Parts, address: Option<IpAddr>) -> Self {
        Self {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers.clone(),
            address,
        }
    }

    /// A header's text; empty where there is none, or one that isn't visible ASCII.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body's media type in lower case, without parameters; empty where there is none.
    pub fn media_type(&self) -> String {
        self.header("content-type").split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// The first parameter of the query with this name, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        form_parameter(&self.query, name)
    }
}

/// The first parameter of a form with this name, decoded.
pub fn form_parameter(form: &str, name: &str) -> Option<String> {
    let mut pairs = form.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| percent_decoded(key) == name).map(|(_, value)| percent_decoded(value))
}

/// Secrets in the head of a request: parameter `key`, `X-API-Key`, and those of `Authorization`, Bearer and Basic (of which
/// the user's name is the secret where there is no password, as with Segment).
pub fn secrets(head: &Head) -> impl Iterator<Item = String> {
    let header = |name| Some(head.header(name)).filter(|value| !value.is_empty());
    let authorization =
        head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, credentials) = authorization.split_once(' ').unwrap_or_default();
    let credentials = credentials.trim();
    let of_scheme = match &scheme.to_ascii_lowercase()[..] {
        "bearer" | "token" => Some(credentials.to_owned()),
        // Filebeat has an id in front of it, and packs both as Basic does.
        "apikey" => Some(api_key(credentials).unwrap_or_else(|| credentials.to_owned())),
        "basic" => basic_secret(credentials),
        _ => None,
    };
    [head.parameter("key"), header("x-api-key").map(str::to_owned), of_scheme].into_iter().flatten()
}

fn basic_secret(credentials: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (user, password) = text.split_once(':').unwrap_or((&text, ""));
    Some(if password.is_empty() { user } else { password }.to_owned())
}

/// The secret of `id:secret` in Base64.
fn api_key(credentials: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    text.split_once(':').map(|(_, secret)| secret.to_owned())
}

/// A part of a query. What isn't UTF-8 becomes U+FFFD.
fn percent_decoded(text: &str) -> String {
    let hex = |digit: u8| (digit as char).to_digit(16).map(|digit| digit as u8);
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| Some(hex(pair[0])? << 4 | hex(pair[1])?));
        match (bytes[at], pair) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use hyper::Request;

    use super::*;

    pub fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Head {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Head::new(&request.body(()).unwrap().into_parts().0, None)
    }

    #[test]
    fn secrets_stand_in_many_places() {
        let found =
            |uri: &str, headers: &[(&str, &str)]| secrets(&head("POST", uri, headers)).collect::<Vec<_>>();
        assert_eq!(found("/v1/events?a=b&key=wk%5F1+x", &[]), ["wk_1 x"]);
        assert_eq!(found("/", &[("x-api-key", "abc")]), ["abc"]);
        assert_eq!(found("/", &[("authorization", "Bearer  t0ken")]), ["t0ken"]);
        // "write-key:"
        assert_eq!(found("/", &[("authorization", "Basic d3JpdGUta2V5Og==")]), ["write-key"]);
        // "user:secret"
        assert_eq!(found("/", &[("authorization", "Basic dXNlcjpzZWNyZXQ=")]), ["secret"]);
        assert_eq!(found("/", &[("authorization", "ApiKey t0ken")]), ["t0ken"]);
        // "id:secret"
        assert_eq!(found("/", &[("authorization", "ApiKey aWQ6c2VjcmV0")]), ["secret"]);
        assert!(found("/?k=1", &[("authorization", "Basic !"), ("x-api-key", "")]).is_empty());
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(percent_decoded("%4a%zz%4"), "J%zz%4");
    }
}
