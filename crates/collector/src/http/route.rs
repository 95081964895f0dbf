//! Paths, and the sources that take what comes there.

use hyper::Method;

use super::{Head, HttpSource, Refusal};

/// A listener, by the option that opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// `--http`
    Http,
    /// `--otlp-http`
    OtlpHttp,
    /// `--otlp-grpc`
    OtlpGrpc,
}

impl Listener {
    /// The option's name.
    pub fn option(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::OtlpHttp => "otlp-http",
            Self::OtlpGrpc => "otlp-grpc",
        }
    }
}

/// A path, and the source that takes what comes there.
pub struct Route {
    /// The listeners that have it.
    pub listeners: &'static [Listener],
    /// The methods, as the header `Allow` has them.
    pub method: &'static str,
    /// The path; a segment `*` stands for any one.
    pub path: &'static str,
    /// The source.
    pub source: &'static dyn HttpSource,
}

/// Finds the source for a request in a table of routes.
pub(crate) fn find(
    routes: &[Route],
    listener: Listener,
    head: &Head,
) -> Result<&'static dyn HttpSource, Refusal> {
    let mut method = None;
    for route in routes.iter().filter(|route| route.listeners.contains(&listener)) {
        if !matches(route.path, &head.path) {
            continue;
        }
        let is_taken = route.method.split(", ").any(|method| head.method == *method);
        if is_taken || head.method == Method::OPTIONS {
            return Ok(route.source);
        }
        method = Some(route.method);
    }
    Err(method.map_or(Refusal::NotFound, Refusal::Method))
}

/// True if the path is the pattern's; a slash at the end makes no difference.
fn matches(pattern: &str, path: &str) -> bool {
    let segments = |path: &str| path.trim_end_matches('/').split('/').count();
    let pairs = pattern.trim_end_matches('/').split('/').zip(path.trim_end_matches('/').split('/'));
    let same = |(expected, found): (&str, &str)| expected == found || (expected == "*" && !found.is_empty());
    segments(pattern) == segments(path) && pairs.into_iter().all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::head::tests::head, routes::ROUTES};

    #[test]
    fn patterns_match_whole_paths() {
        let cases = [
            ("/v1/events", "/v1/events", true),
            ("/v1/events", "/v1/events/", true),
            ("/v1/events", "/v1/eventsx", false),
            ("/v1/events", "/v1", false),
            ("/*/_bulk", "/logs/_bulk", true),
            ("/*/_bulk", "//_bulk", false),
            ("/*/_bulk", "/_bulk", false),
            ("/", "/", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_path_of_another_method_or_listener_is_told_apart() {
        let find =
            |listener, method, path| find(ROUTES, listener, &head(method, path, &[])).map(HttpSource::name);
        assert_eq!(find(Listener::Http, "POST", "/v1/events"), Ok("events"));
        assert_eq!(find(Listener::Http, "OPTIONS", "/v1/events"), Ok("events"));
        assert_eq!(find(Listener::Http, "PUT", "/v1/events"), Err(Refusal::Method("POST")));
        assert_eq!(find(Listener::OtlpHttp, "POST", "/v1/events"), Err(Refusal::NotFound));
    }
}
