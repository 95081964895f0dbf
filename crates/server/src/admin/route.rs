//! What there is under which path.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Request, Response, StatusCode};
use tickstream_engine::{Mode, Standing};

use super::Subject;
use super::collect::{CollectError, Collector};
use super::health::Health;
use super::page;
use super::prometheus::Metrics;
use super::report::{self, ConnectionsReport, Frame, Report};
use crate::shard::{Closed, Filter, Order};

/// Connections of a page, unless it says otherwise.
const LIMIT_DEFAULT: usize = 100;
/// Connections of a page at most.
const LIMIT_MAX: usize = 1_000;
/// How deep pages go. Who looks for one connection filters.
const OFFSET_MAX: usize = 10_000;

/// What is served, for those who call by hand.
const HELP: &str = "\
tickstream's admin endpoint

GET  /                         a live page, for browsers
GET  /metrics                  for Prometheus
GET  /healthz                  200 while every shard's loop turns
GET  /readyz                   200 while connections are accepted
GET  /snapshot                 all counters, as JSON
GET  /connections              offset, limit, shard, peer, mode, state; the slowest first, as JSON
POST /connections/{id}/close   closes one; needs the token or the unix socket
POST /drain                    as SIGTERM; needs the token or the unix socket
POST /reload                   as SIGHUP; needs the token or the unix socket
POST /upgrade                  as SIGUSR2, and answers once a new process serves; needs the same
GET  /config                   the effective settings, secrets masked
GET  /help                     this
";

/// What requests are answered from.
pub struct State {
    subject: Subject,
    collector: Arc<Collector>,
    health: Health,
    metrics: Metrics,
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// TCP, at this address of ours.
    Tcp(SocketAddr),
    /// The unix socket, whose rights the kernel has checked.
    Unix,
}

/// An answer.
pub type Answer = Response<Full<Bytes>>;

/// Why a request isn't answered as it wishes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("there is nothing at {0}; GET /help lists what there is")]
    NotFound(String),
    #[error("{0} is asked for with {1}")]
    Method(String, Method),
    #[error("{0}")]
    Bad(String),
    #[error(
        "changes are taken on the admin endpoint's unix socket only, unless admin_token_file is set; it isn't"
    )]
    NoToken,
    #[error(
        "changes need the header \"Authorization: Bearer\" with the token of admin_token_file; this one is {0}"
    )]
    Token(&'static str),
    #[error(
        "the endpoint listens on the loopback, where it is called by address or as localhost, not as {0:?}"
    )]
    Host(String),
    #[error("there is no connection {0}")]
    NoConnection(String),
    #[error("no upgrade, this process goes on serving: {0}")]
    Upgrade(String),
    #[error(transparent)]
    Collect(#[from] CollectError),
}

impl State {
    pub fn new(subject: Subject) -> Self {
        let shards = subject.control.shards();
        Self {
            collector: Arc::new(Collector::new(Arc::clone(&subject.control))),
            health: Health::new(shards),
            metrics: Metrics::new(
                shards,
                subject.started,
                subject.losses.clone(),
                subject.spans_lost.clone(),
            ),
            subject,
        }
    }

    /// Looks whether the shards turn. Call it every [`super::health::LOOK_INTERVAL`].
    pub fn look(&self) {
        self.health.look(&self.subject.control);
    }

    /// Answers a request. Its body is not read.
    pub async fn answer<B>(&self, via: Via, request: &Request<B>) -> Answer {
        self.routed(via, request).await.unwrap_or_else(|refusal| refusal.answer())
    }

    async fn routed<B>(&self, via: Via, request: &Request<B>) -> Result<Answer, Refusal> {
        called_locally(via, request.headers())?;
        let path = request.uri().path();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (reads, changes) = match parts[..] {
            ["drain" | "reload" | "upgrade"] | ["connections", _, "close"] => (false, true),
            ["" | "metrics" | "healthz" | "readyz" | "snapshot" | "connections" | "config" | "help"] => {
                (true, false)
            }
            _ => return Err(Refusal::NotFound(path.to_owned())),
        };
        match *request.method() {
            Method::GET | Method::HEAD if reads => {}
            Method::POST if changes => self.may_change(via, request.headers())?,
            _ => {
                let expected = if reads { Method::GET } else { Method::POST };
                return Err(Refusal::Method(path.to_owned(), expected));
            }
        }
        Ok(match parts[..] {
            ["metrics"] => self.metrics().await,
            ["healthz"] => self.healthz(),
            ["readyz"] => self.readyz(),
            ["snapshot"] => self.snapshot().await,
            ["connections"] => self.connections(request.uri().query().unwrap_or_default()).await?,
            ["connections", id, _] => self.close(id).await?,
            ["drain"] => self.drain(),
            ["reload"] => self.reload(),
            ["upgrade"] => self.upgrade().await?,
            ["config"] => text(StatusCode::OK, self.subject.shown.value().effective.clone()),
            ["help"] => text(StatusCode::OK, HELP.to_owned()),
            _ => live_page(),
        })
    }

    async fn metrics(&self) -> Answer {
        let gathered = self.collector.gathered().await;
        let body = self.metrics.render(&gathered);
        of_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
    }

    fn healthz(&self) -> Answer {
        let sick = self.health.sick();
        if sick.is_empty() {
            return text(StatusCode::OK, "ok\n".to_owned());
        }
        let lines = sick
            .iter()
            .map(|(shard, since)| format!("shard {shard}: its loop hasn't turned for {since:?}\n"));
        text(StatusCode::SERVICE_UNAVAILABLE, lines.collect())
    }

    fn readyz(&self) -> Answer {
        match self.subject.control.order() {
            Order::Serve => self.healthz(),
            order => text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", report::state(order))),
        }
    }

    async fn snapshot(&self) -> Answer {
        let gathered = self.collector.gathered().await;
        let frame = Frame {
            address: self.subject.address.to_string(),
            order: self.subject.control.order(),
            started: self.subject.started,
            cpus: self.subject.cpus.clone(),
            sick: self.health.sick(),
            log_lines_lost: self.subject.losses.lines(),
        };
        json(StatusCode::OK, &Report::new(&frame, &gathered))
    }

    async fn connections(&self, query: &str) -> Result<Answer, Refusal> {
        let List { shard, filter, offset, limit } = List::parse(query, self.subject.control.shards())?;
        let listed = self.collector.connections(shard, filter, offset, limit).await?;
        Ok(json(StatusCode::OK, &ConnectionsReport::new(offset, limit, listed)))
    }

    async fn close(&self, id: &str) -> Result<Answer, Refusal> {
        let unknown = || Refusal::NoConnection(id.to_owned());
        let (shard, number) = id.split_once('-').ok_or_else(unknown)?;
        let shard = shard.parse().ok().filter(|&shard: &usize| shard < self.subject.control.shards());
        let (shard, number) = shard.zip(number.parse().ok()).ok_or_else(unknown)?;
        match self.collector.close(shard, number).await? {
            Closed::Now => {
                tracing::info!(conn = id, "an operator closes a connection");
                Ok(text(StatusCode::OK, format!("{id} is being closed\n")))
            }
            Closed::Before => Ok(text(StatusCode::OK, format!("{id} was being closed already\n"))),
            Closed::Unknown => Err(unknown()),
        }
    }

    fn drain(&self) -> Answer {
        tracing::info!("an operator drains the server");
        self.subject.steering.drain();
        text(StatusCode::ACCEPTED, "draining\n".to_owned())
    }

    fn reload(&self) -> Answer {
        tracing::info!("an operator has the settings reloaded");
        self.subject.steering.reload();
        text(StatusCode::ACCEPTED, "reloading: the log says what came of it\n".to_owned())
    }

    /// Answers once a new process serves, or isn't going to.
    async fn upgrade(&self) -> Result<Answer, Refusal> {
        tracing::info!("an operator upgrades the server");
        let steering = self.subject.steering.clone();
        let upgraded = tokio::task::spawn_blocking(move || steering.upgrade()).await;
        let pid = match upgraded {
            Ok(Ok(pid)) => pid,
            Ok(Err(error)) => return Err(Refusal::Upgrade(error.to_string())),
            Err(error) => return Err(Refusal::Upgrade(error.to_string())),
        };
        Ok(text(StatusCode::OK, format!("process {pid} serves; this one drains\n")))
    }

    /// Whether who sent this may change anything.
    fn may_change(&self, via: Via, headers: &HeaderMap) -> Result<(), Refusal> {
        if via == Via::Unix {
            return Ok(());
        }
        let shown = self.subject.shown.value();
        let token = shown.token.as_ref().ok_or(Refusal::NoToken)?;
        let given = headers.get(header::AUTHORIZATION).ok_or(Refusal::Token("missing"))?;
        let given = given.as_bytes().strip_prefix(b"Bearer ").ok_or(Refusal::Token("no bearer token"))?;
        if token.is(given) { Ok(()) } else { Err(Refusal::Token("wrong")) }
    }
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
        Err(Refusal::Host(name.to_owned()))
    }
}

/// Which connections `/connections` is asked for.
#[derive(Debug, PartialEq, Eq)]
struct List {
    shard: Option<usize>,
    filter: Filter,
    offset: usize,
    limit: usize,
}

impl List {
    fn parse(query: &str, shards: usize) -> Result<Self, Refusal> {
        let mut list = Self { shard: None, filter: Filter::default(), offset: 0, limit: LIMIT_DEFAULT };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decoded(value);
            let bad = |accepted: String| Refusal::Bad(format!("{key}={value:?} isn't {accepted}"));
            let number = |max: usize| {
                value
                    .parse()
                    .ok()
                    .filter(|&number| number <= max)
                    .ok_or_else(|| bad(format!("a number up to {max}")))
            };
            match key {
                "offset" => list.offset = number(OFFSET_MAX)?,
                "limit" => list.limit = number(LIMIT_MAX)?,
                "shard" => list.shard = Some(number(shards - 1)?),
                "peer" => {
                    let peer = value.parse().map_err(|_| bad("an IP address".to_owned()))?;
                    list.filter.peer = Some(peer);
                }
                "mode" => {
                    let mode = Mode::from_str_name(&value.to_ascii_uppercase());
                    list.filter.mode = Some(mode.ok_or_else(|| bad("SECOND or MINUTE".to_owned()))?);
                }
                "state" => {
                    let standing = Standing::ALL.into_iter().find(|standing| standing.as_str() == value);
                    let names = Standing::ALL.map(Standing::as_str).join(", ");
                    list.filter.standing = Some(standing.ok_or_else(|| bad(format!("one of {names}")))?);
                }
                _ => {
                    let known = "offset, limit, shard, peer, mode, state";
                    return Err(Refusal::Bad(format!("{key:?} isn't one of {known}")));
                }
            }
        }
        Ok(list)
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

impl Refusal {
    fn answer(&self) -> Answer {
        let status = match self {
            Self::NotFound(_) | Self::NoConnection(_) => StatusCode::NOT_FOUND,
            Self::Method(..) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::NoToken | Self::Token(_) | Self::Host(_) => StatusCode::FORBIDDEN,
            Self::Collect(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upgrade(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut answer = text(status, format!("{self}\n"));
        if let Self::Method(_, method) = self {
            let allowed = method.as_str().parse().expect("a method's name is a header's value");
            answer.headers_mut().insert(header::ALLOW, allowed);
        }
        answer
    }
}

fn live_page() -> Answer {
    let mut answer =
        of_type(StatusCode::OK, "text/html; charset=utf-8", Bytes::from_static(page::PAGE.as_bytes()));
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, page::POLICY.clone());
    answer
}

fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Answer {
    let body = serde_json::to_string(value).expect("numbers and strings");
    of_type(status, "application/json", body)
}

fn text(status: StatusCode, body: String) -> Answer {
    of_type(status, "text/plain; charset=utf-8", body)
}

fn of_type(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    const NO_SNIFFING: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .header(header::CACHE_CONTROL, "no-store")
        .header(NO_SNIFFING.0, NO_SNIFFING.1)
        .body(Full::new(body.into()))
        .expect("constant headers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_list(query: &str, expected: Result<(usize, usize, Option<usize>, Filter), &str>) {
        match (List::parse(query, 4), expected) {
            (Ok(list), Ok(expected)) => {
                assert_eq!((list.offset, list.limit, list.shard, list.filter), expected, "{query}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{query}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn lists_are_asked_for_by_query() {
        let filter = Filter::default();
        check_list("", Ok((0, 100, None, filter)));
        check_list("offset=10000&limit=1000&shard=3", Ok((10_000, 1_000, Some(3), filter)));
        let peer = Filter { peer: Some("::1".parse().unwrap()), ..filter };
        check_list("peer=::1", Ok((0, 100, None, peer)));
        check_list("peer=%3A%3a1", Ok((0, 100, None, peer)));
        let rest = Filter { mode: Some(Mode::Minute), standing: Some(Standing::Closing), ..filter };
        check_list("mode=minute&state=closing&", Ok((0, 100, None, rest)));
        check_list("limit=1001", Err("limit=\"1001\" isn't a number up to 1000"));
        check_list("offset=10001", Err("up to 10000"));
        check_list("shard=4", Err("shard=\"4\" isn't a number up to 3"));
        check_list("offset=-1", Err("offset=\"-1\""));
        check_list("peer=example.org", Err("isn't an IP address"));
        check_list("state=odd", Err("unauthenticated, authenticated, closing"));
        check_list("sort=age", Err("\"sort\" isn't one of offset"));
        check_list("peer=%zz%", Err("peer=\"%zz%\""));
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
