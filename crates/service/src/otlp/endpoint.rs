//! The endpoint that spans are sent to.

use crate::settings::{Setting, ValueError, kind};
use hyper::Uri;
use std::fmt;

/// The port of OTLP over HTTP (opentelemetry.io/docs/specs/otlp).
const PORT: u16 = 4_318;
/// The path that the specification appends to an endpoint, for traces.
const PATH: &str = "/v1/traces";

/// An endpoint for people.
const ENDPOINT: &str = "an http:// URL, such as http://127.0.0.1:4318";

/// A setting with the endpoint, which may be empty.
pub const fn endpoint() -> Setting<Option<OtlpEndpoint>> {
    kind::text(|| ENDPOINT.to_owned(), |text| OtlpEndpoint::parse(text).map(Some)).value_name("URL")
}

/// A collector that takes spans by OTLP over plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint {
    authority: String,
    path: String,
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// No URL that traces can be sent to. Continues the sentence that begins with key, value and origin.
#[derive(Debug, thiserror::Error)]
#[error("{reason}; accepted: {ENDPOINT}")]
pub struct OtlpEndpointError {
    reason: &'static str,
}

impl OtlpEndpoint {
    /// Its host and port, as the header Host has them.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path that spans are posted to.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn parse(text: &str) -> Result<Self, ValueError> {
        let wrong = |reason| ValueError::program(OtlpEndpointError { reason });
        let url: Uri = text.parse().map_err(|_| wrong("is not a URL"))?;
        match url.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(wrong("asks for TLS, which spans aren't sent over; use a collector nearby"));
            }
            _ => return Err(wrong("doesn't begin with http://")),
        }
        if text.contains(['@', '?', '#']) {
            return Err(wrong("has more than a host, a port and a path"));
        }
        let host = url.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("has no host"))?;
        let is_without_port = url.authority().is_some_and(|authority| authority.as_str() == host);
        let port = if is_without_port { Some(PORT) } else { url.port_u16() };
        let port = port.filter(|port| *port != 0).ok_or_else(|| wrong("has no valid port"))?;
        let base = url.path().trim_end_matches('/');
        let path = format!("{}{PATH}", base.strip_suffix(PATH).unwrap_or(base));
        Ok(Self { authority: format!("{host}:{port}"), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        match (OtlpEndpoint::parse(text), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.to_string(), expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
            (found, expected) => panic!("{text}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn an_endpoint_is_the_base_of_a_url() {
        check("http://127.0.0.1:4318", Ok("http://127.0.0.1:4318/v1/traces"));
        check("http://collector/", Ok("http://collector:4318/v1/traces"));
        check("http://[::1]:80/otlp/", Ok("http://[::1]:80/otlp/v1/traces"));
        check("http://[::1]", Ok("http://[::1]:4318/v1/traces"));
        check("http://c:1/v1/traces", Ok("http://c:1/v1/traces"));
        check("https://c:4318", Err("asks for TLS"));
        check("127.0.0.1:4318", Err("accepted: an http:// URL, such as http://127.0.0.1:4318"));
        check("grpc://c:4317", Err("doesn't begin with http://"));
        check("http://", Err("is not a URL"));
        check("http://:4318", Err("has no host"));
        check("http://c:0", Err("has no valid port"));
        check("http://c:99999", Err("has no valid port"));
        check("http://u:p@c:4318", Err("more than a host"));
        check("http://c:4318/?a=b", Err("more than a host"));
    }
}
