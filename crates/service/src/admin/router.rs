//! Paths of the admin endpoint: those that every program has, and those that a program adds.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, StatusCode};

use super::answer::{Answer, Refusal, of_type, text};
use super::{AdminToken, Page};

/// A program, as the admin endpoint sees it.
pub trait Program: Send + Sync + 'static {
    /// The settings in use, secrets masked, as TOML: `/config`.
    fn config(&self) -> String;

    /// The token that changes need on TCP; `None`: they are refused there.
    fn token(&self) -> Option<AdminToken>;

    /// `/healthz`.
    ///
    /// # Errors
    /// Lines that say what is wrong.
    fn health(&self) -> Result<(), String>;

    /// `/readyz`.
    ///
    /// # Errors
    /// Lines that say why the program isn't ready.
    fn readiness(&self) -> Result<(), String> {
        self.health()
    }

    /// Metrics in Prometheus' text format 0.0.4: `/metrics`.
    fn metrics(&self) -> impl Future<Output = String> + Send;
}

/// A request, as a handler sees it. Bodies are not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The parts of the path that stand for `{}` of the route.
    pub captures: Vec<String>,
    /// The query, not decoded.
    pub query: String,
}

impl Call {
    /// Keys and values of the query, the values decoded.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, String)> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key, percent_decoded(value)))
    }
}

/// The way of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// TCP, at this address of ours.
    Tcp(SocketAddr),
    /// The unix socket, whose rights the kernel has checked.
    Unix,
}

type Answering = Pin<Box<dyn Future<Output = Result<Answer, Refusal>> + Send>>;
type Handler<P> = Box<dyn Fn(Arc<P>, Call) -> Answering + Send + Sync>;

/// The routes of a program.
pub struct Router<P> {
    program: Arc<P>,
    title: &'static str,
    routes: Vec<Route<P>>,
}

struct Route<P> {
    method: Method,
    /// `{}`, with or without a name in it, stands for one part.
    path: &'static str,
    help: &'static str,
    guard: Guard,
    answer: Handler<P>,
}

/// Demands on whoever asks, on TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// None.
    Open,
    /// The token, since it changes the program.
    Changes,
    /// The token, since it tells what users have sent.
    Tells,
}

impl Guard {
    /// Begin of a sentence about what needs the token, and its verb.
    fn subject(self) -> (&'static str, &'static str) {
        match self {
            Self::Open | Self::Changes => ("changes", "are taken"),
            Self::Tells => ("events", "are shown"),
        }
    }
}

impl<P: Program> Router<P> {
    /// The routes that every program has: `/metrics`, `/healthz`, `/readyz`, `/config` and `/help`, which begins with
    /// `title`.
    pub fn new(title: &'static str, program: Arc<P>) -> Self {
        Self { program, title, routes: Vec::new() }
            .get("/metrics", "for Prometheus", |program, _| async move {
                let body = program.metrics().await;
                Ok(of_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body))
            })
            .get(
                "/healthz",
                "200 while the program works",
                |program, _| async move { health(program.health()) },
            )
            .get("/readyz", "200 while the program takes work", |program, _| async move {
                health(program.readiness())
            })
            .get("/config", "the effective settings, secrets masked", |program, _| async move {
                Ok(text(StatusCode::OK, program.config()))
            })
    }

    /// Adds a page at `/`.
    #[must_use]
    pub fn page(self, page: Page) -> Self {
        self.get("/", "a live page, for browsers", move |_, _| {
            let answer = page.answer();
            async move { Ok(answer) }
        })
    }

    /// Adds something to read. A part of the path in braces stands for any text.
    #[must_use]
    pub fn get<F, A>(self, path: &'static str, help: &'static str, answer: F) -> Self
    where
        F: Fn(Arc<P>, Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Answer, Refusal>> + Send + 'static,
    {
        self.route((Method::GET, Guard::Open), path, help, answer)
    }

    /// Adds something to read that not everybody may: on TCP it needs the token.
    #[must_use]
    pub fn get_guarded<F, A>(self, path: &'static str, help: &'static str, answer: F) -> Self
    where
        F: Fn(Arc<P>, Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Answer, Refusal>> + Send + 'static,
    {
        self.route((Method::GET, Guard::Tells), path, help, answer)
    }

    /// Adds something that changes the program: on TCP it needs the token.
    #[must_use]
    pub fn post<F, A>(self, path: &'static str, help: &'static str, answer: F) -> Self
    where
        F: Fn(Arc<P>, Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Answer, Refusal>> + Send + 'static,
    {
        self.route((Method::POST, Guard::Changes), path, help, answer)
    }

    fn route<F, A>(
        mut self,
        (method, guard): (Method, Guard),
        path: &'static str,
        help: &'static str,
        answer: F,
    ) -> Self
    where
        F: Fn(Arc<P>, Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Answer, Refusal>> + Send + 'static,
    {
        let answer = move |program, call| -> Answering { Box::pin(answer(program, call)) };
        self.routes.push(Route { method, path, help, guard, answer: Box::new(answer) });
        self
    }

    /// Answers a request. Its body is not read.
    pub(super) async fn answer<B>(&self, via: Via, request: &Request<B>) -> Answer {
        match self.find(via, request) {
            Ok(Found::Help) => text(StatusCode::OK, self.help()),
            Ok(Found::Route(route, call)) => (route.answer)(Arc::clone(&self.program), call)
                .await
                .unwrap_or_else(|refusal| refusal.answer()),
            Err(refusal) => refusal.answer(),
        }
    }

    fn find<B>(&self, via: Via, request: &Request<B>) -> Result<Found<'_, P>, Refusal> {
        called_locally(via, request.headers())?;
        let (path, method) = (request.uri().path(), request.method());
        let is_read = *method == Method::GET || *method == Method::HEAD;
        if path == "/help" {
            return if is_read { Ok(Found::Help) } else { Err(wrong_method(path, Method::GET)) };
        }
        let is_meant =
            |route: &Route<P>| if is_read { route.method == Method::GET } else { route.method == *method };
        let matching = || self.routes.iter().filter_map(|route| Some((route, captured(route.path, path)?)));
        let Some((route, captures)) = matching().find(|(route, _)| is_meant(route)) else {
            return Err(match matching().next() {
                Some((other, _)) => wrong_method(path, other.method.clone()),
                None => {
                    Refusal::not_found(format!("there is nothing at {path}; GET /help lists what there is"))
                }
            });
        };
        self.is_allowed(route.guard, via, request.headers())?;
        let query = request.uri().query().unwrap_or_default().to_owned();
        Ok(Found::Route(route, Call { captures, query }))
    }

    /// Lets through those who meet the demands of a route.
    fn is_allowed(&self, guard: Guard, via: Via, headers: &HeaderMap) -> Result<(), Refusal> {
        if via == Via::Unix || guard == Guard::Open {
            return Ok(());
        }
        let (what, verb) = guard.subject();
        let Some(token) = self.program.token() else {
            return Err(Refusal::forbidden(format!(
                "{what} {verb} on the admin endpoint's unix socket only, unless admin_token_file is set; it isn't"
            )));
        };
        let refused = |how| {
            Refusal::forbidden(format!(
                "{what} need the header \"Authorization: Bearer\" with the token of admin_token_file; this one is {how}"
            ))
        };
        let given = headers.get(header::AUTHORIZATION).ok_or_else(|| refused("missing"))?;
        let given = bearer(given.as_bytes()).ok_or_else(|| refused("no bearer token"))?;
        if token.is(given) { Ok(()) } else { Err(refused("wrong")) }
    }

    fn help(&self) -> String {
        let mut help = format!("{}\n\n", self.title);
        let mut routes: Vec<_> =
            self.routes.iter().map(|route| (route.path, &route.method, route.help, route.guard)).collect();
        routes.push(("/help", &Method::GET, "this", Guard::Open));
        for (path, method, about, guard) in routes {
            let needs = if guard != Guard::Open { "; needs the token or the unix socket" } else { "" };
            writeln!(help, "{:<4} {path:<26} {about}{needs}", method.as_str())
                .expect("writing to a String can't fail");
        }
        help
    }
}

enum Found<'a, P> {
    Help,
    Route(&'a Route<P>, Call),
}

fn health(health: Result<(), String>) -> Result<Answer, Refusal> {
    Ok(match health {
        Ok(()) => text(StatusCode::OK, "ok\n"),
        Err(lines) => text(StatusCode::SERVICE_UNAVAILABLE, lines),
    })
}

fn wrong_method(path: &str, expected: Method) -> Refusal {
    Refusal::method(format!("{path} is asked for with {expected}"), expected)
}

/// The parts of `path` that stand for braces of `route`, if it fits.
fn captured(route: &str, path: &str) -> Option<Vec<String>> {
    let (mut expected, mut given) = (route.split('/'), path.split('/'));
    let mut captures = Vec::new();
    loop {
        match (expected.next(), given.next()) {
            (None, None) => return Some(captures),
            (Some(name), Some(part)) if name.starts_with('{') => captures.push(percent_decoded(part)),
            (Some(name), Some(part)) if name == part => {}
            _ => return None,
        }
    }
}

/// The token of a header `Authorization` (RFC 6750, section 2.1): the scheme in any case (RFC 9110, section 11.1), then
/// one or more spaces.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = header.split_at_checked("Bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer") && rest.first() == Some(&b' ');
    is_bearer.then(|| rest.trim_ascii())
}

/// Refuses what a web page in somebody's browser sends under a name of its own that leads to the loopback (DNS
/// rebinding): it could read the answers.
fn called_locally(via: Via, headers: &HeaderMap) -> Result<(), Refusal> {
    let Via::Tcp(address) = via else { return Ok(()) };
    let Some(host) = headers.get(header::HOST).filter(|_| address.ip().is_loopback()) else {
        return Ok(());
    };
    let host = String::from_utf8_lossy(host.as_bytes());
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.parse::<u16>().is_ok())
        .map_or(&*host, |(name, _)| name);
    let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    if is_address || name.eq_ignore_ascii_case("localhost") {
        Ok(())
    } else {
        Err(Refusal::forbidden(format!(
            "the endpoint listens on the loopback, where it is called by address or as localhost, not as {name:?}"
        )))
    }
}

/// Undoes percent-encoding, which clients may use for the colons of an IPv6 address.
fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[2..]);
            }
            None => bytes.extend([b"%", part.as_bytes()].concat()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing(Option<AdminToken>);

    impl Program for Nothing {
        fn config(&self) -> String {
            "a = 1\n".to_owned()
        }

        fn token(&self) -> Option<AdminToken> {
            self.0.clone()
        }

        fn health(&self) -> Result<(), String> {
            Err("unwell\n".to_owned())
        }

        async fn metrics(&self) -> String {
            String::new()
        }
    }

    fn router() -> Router<Nothing> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789abcdef").unwrap();
        let token = AdminToken::from_file(file.path()).unwrap();
        Router::new("a program", Arc::new(Nothing(Some(token))))
            .post("/things/{id}/close", "closes one", |_, call| async move {
                Ok(text(StatusCode::OK, call.captures.concat()))
            })
            .get("/level", "shows it", |_, _| async move { Ok(text(StatusCode::OK, "l")) })
            .post("/level", "sets it", |_, _| async move { Ok(text(StatusCode::OK, "l")) })
            .get_guarded("/secrets", "tells them", |_, _| async move { Ok(text(StatusCode::OK, "s")) })
    }

    fn check(method: &str, path: &str, authorization: Option<&str>, expected: u16) {
        let via = Via::Tcp("127.0.0.1:9090".parse().unwrap());
        let mut request = Request::builder().method(method).uri(path);
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let (router, request) = (router(), request.body(()).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(router.answer(via, &request));
        assert_eq!(answer.status().as_u16(), expected, "{method} {path} {authorization:?}");
    }

    #[test]
    fn paths_and_methods_are_told_apart() {
        check("GET", "/config", None, 200);
        check("HEAD", "/config", None, 200);
        check("GET", "/help", None, 200);
        check("GET", "/healthz", None, 503);
        check("GET", "/", None, 404);
        check("GET", "/things/7", None, 404);
        check("GET", "/things/7/close", None, 405);
        check("POST", "/config", None, 405);
        check("POST", "/help", None, 405);
        check("GET", "/level", None, 200);
        check("POST", "/level", None, 403);
        check("POST", "/level", Some("Bearer 0123456789abcdef"), 200);
        check("PUT", "/level", None, 405);
    }

    #[test]
    fn a_token_is_taken_as_the_rfc_has_it() {
        let close = |authorization, expected| check("POST", "/things/7/close", authorization, expected);
        close(None, 403);
        for good in ["Bearer 0123456789abcdef", "bearer 0123456789abcdef", "BEARER   0123456789abcdef"] {
            close(Some(good), 200);
        }
        for bad in [
            "Bearer0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcde",
            "Bearer",
            "Bearer ",
            "",
        ] {
            close(Some(bad), 403);
        }
    }

    #[test]
    fn what_not_everybody_may_read_needs_the_token_too() {
        check("GET", "/secrets", None, 403);
        check("HEAD", "/secrets", None, 403);
        check("GET", "/secrets", Some("Bearer 0123456789abcdef"), 200);
        check("POST", "/secrets", Some("Bearer 0123456789abcdef"), 405);
        let help = router().help();
        assert!(help.contains("tells them; needs the token or the unix socket\n"), "{help}");
    }

    #[test]
    fn braces_stand_for_one_part() {
        assert_eq!(captured("/a/{id}/b", "/a/%31-2/b"), Some(vec!["1-2".to_owned()]));
        assert_eq!(captured("/a/{id}/b", "/a/1/2/b"), None);
        assert_eq!(captured("/a", "/a/"), None);
        assert_eq!(captured("/", "/"), Some(vec![]));
    }

    #[test]
    fn help_lists_every_route() {
        let help = router().help();
        assert!(help.contains("GET  /metrics                   for Prometheus\n"), "{help}");
        let close = "POST /things/{id}/close         closes one; needs the token or the unix socket\n";
        assert!(help.starts_with("a program\n\n") && help.contains(close), "{help}");
    }

    #[test]
    fn queries_are_decoded() {
        let call = Call { captures: vec![], query: "peer=%3A%3a1&odd=%zz%&&flag".to_owned() };
        let pairs: Vec<_> = call.pairs().collect();
        let expected = [("peer", "::1"), ("odd", "%zz%"), ("flag", "")];
        assert_eq!(pairs, expected.map(|(key, value)| (key, value.to_owned())));
    }

    #[test]
    fn on_the_loopback_only_local_names_are_heard() {
        let check = |address: &str, host: &str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            let via = Via::Tcp(address.parse().unwrap());
            assert_eq!(called_locally(via, &headers).is_ok(), expected, "{host} at {address}");
            assert!(called_locally(Via::Unix, &headers).is_ok());
        };
        for host in ["127.0.0.1:9090", "127.0.0.1", "localhost:9090", "LOCALHOST", "[::1]:9090", "[::1]"] {
            check("127.0.0.1:9090", host, true);
        }
        for host in ["evil.example", "evil.example:9090", "localhost.evil.example", ""] {
            check("127.0.0.1:9090", host, false);
            check("10.0.0.1:9090", host, true);
        }
        let via = Via::Tcp("127.0.0.1:9090".parse().unwrap());
        assert_eq!(called_locally(via, &HeaderMap::new()), Ok(()));
    }
}
