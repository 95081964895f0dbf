//! One request, from its head to its answer.

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Duration};

use hyper::{
    Method, Request, Response, Version,
    body::Incoming,
    header::{CONNECTION, EXPECT, HOST, HeaderValue},
    http::request::Parts,
};

use super::{
    DecodeError, Encoding, Head, HttpSource, Listener, Refusal, Reply, ReplyBody,
    body::{self, BodyLimits},
    cors, decode, grpc, guard,
    route::{self, Route},
    secrets,
};
use crate::{
    clock::now_ns,
    intake::{Intake, SharedIntake},
    keys::{self, Key, SharedKeys},
    networks::{self, Network},
    outcome::{Malformed, Outcome},
    writer::{Ids, Origin},
};

/// Bounds of requests.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Most bytes of a body, as it comes.
    pub body_bytes: usize,
    /// Most bytes of a body, decompressed.
    pub content_bytes: usize,
    /// Most events of a request.
    pub events: u32,
    /// Time for a body to come.
    pub body_timeout: Duration,
}

/// State that requests of one listener share.
pub(super) struct Exchange {
    /// The table of paths.
    pub routes: &'static [Route],
    pub listener: Listener,
    pub intake: SharedIntake,
    pub keys: SharedKeys,
    pub limits: RequestLimits,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted: Arc<[Network]>,
    /// The key of all senders where there are no keys.
    pub any_key: Arc<Key>,
}

/// More than events usually take in memory per byte of a body: decoded values, and events with what is added to each.
const CONTENT_FACTOR: usize = 3;

impl Exchange {
    /// Answers a request.
    pub async fn answer(&self, request: Request<Incoming>, address: IpAddr) -> Response<ReplyBody> {
        let problem = guard::problem(&request);
        let (parts, body) = request.into_parts();
        let address = networks::client(address, &parts.headers, &self.trusted);
        let head = Head::new(&parts, Some(address));
        let found = match problem {
            Some(problem) => Err(problem.into()),
            None => check_host(&parts).and_then(|()| route::find(self.routes, self.listener, &head)),
        };
        let mut reply = match found {
            Ok(_) if head.method == Method::OPTIONS => cors::preflight(&head),
            Ok(source) => self.answer_of(source, &head, body).await,
            Err(refusal) => {
                self.intake.metrics.refused(self.listener.option(), refusal.code());
                refused_unread(&head, &refusal)
            }
        };
        cors::expose(&head, &mut reply);
        reply.into_response()
    }

    async fn answer_of(&self, source: &'static dyn HttpSource, head: &Head, body: Incoming) -> Reply {
        let is_call = grpc::is_call(head);
        let mut body = Some(body);
        let taken = self.take(source, head, &mut body).await;
        let is_over = match body {
            None => true,
            // It would be told to come.
            Some(_) if head.headers.contains_key(EXPECT) => false,
            Some(unread) => body::pass_over(unread).await,
        };
        let reply = match taken {
            Ok(outcome) if is_call => grpc::success(source.success(head, &outcome).body()),
            Ok(outcome) => source.success(head, &outcome),
            Err(refusal) => {
                self.intake.metrics.refused(source.name(), refusal.code());
                tracing::debug!(source = source.name(), %refusal, "a request was refused");
                if is_call {
                    grpc::refusal(&refusal)
                } else {
                    refusal.with_headers(source.refusal(head, &refusal))
                }
            }
        };
        if is_over || is_call { reply } else { reply.header(CONNECTION, HeaderValue::from_static("close")) }
    }

    /// Takes the body once it may be read.
    async fn take(
        &self,
        source: &dyn HttpSource,
        head: &Head,
        body: &mut Option<Incoming>,
    ) -> Result<Outcome, Refusal> {
        if !source.needs_key() {
            return Ok(Outcome::default());
        }
        // The first secret counts: a wrong one isn't made good by another that is right.
        let secret = secrets(head).next();
        let mut key = self.key_of(secret.as_deref());
        match &key {
            Some(key) => self.check(key, head)?,
            None if secret.is_some() || !source.may_have_secret_in_body() => {
                return Err(Refusal::Unauthorized);
            }
            None => {}
        }
        source.accepts(head).map_err(Refusal::Unsupported)?;
        let mut reservation = self.intake.budget.reservation();
        let limits = BodyLimits { bytes: self.limits.body_bytes, timeout: self.limits.body_timeout };
        let body = body.take().ok_or(Refusal::Incomplete)?;
        let body = body::read(body, limits, &mut reservation).await?;
        let content = self.content(source, head, &body)?;
        if !reservation.grow(content.len().saturating_mul(CONTENT_FACTOR)) {
            return Err(Intake::full().into());
        }
        if key.is_none() {
            key = self.key_of(source.secret_in_body(head, &content).as_deref());
            self.check(key.as_deref().ok_or(Refusal::Unauthorized)?, head)?;
        }
        let origin = origin(source, head, key.ok_or(Refusal::Unauthorized)?);
        let ids = if source.has_retries() { Ids::OfBody(&content) } else { Ids::New };
        let mut writer = self.intake.writer(&origin, ids, self.limits.events);
        source.decode(head, &content, &mut writer)?;
        let request = writer.finish()?;
        let more = request.byte_len().saturating_sub(content.len().saturating_mul(CONTENT_FACTOR));
        if !reservation.grow(more) {
            return Err(Intake::full().into());
        }
        drop(content);
        drop(body);
        let outcome = self.intake.store(&origin, request).await?;
        if outcome.retryable().is_some() { Err(Refusal::Partly(outcome)) } else { Ok(outcome) }
    }

    /// The key with this secret; without a file of keys, the one that may do everything.
    fn key_of(&self, secret: Option<&str>) -> Option<Arc<Key>> {
        match keys::present(&self.keys) {
            Some(keys) => keys.find(secret?).cloned(),
            None => Some(self.any_key.clone()),
        }
    }

    fn check(&self, key: &Key, head: &Head) -> Result<(), Refusal> {
        if !cors::allows(key, head) {
            return Err(Refusal::Origin(head.header("origin").to_owned()));
        }
        Ok(self.intake.admit(key, head.address)?)
    }

    fn content<'a>(
        &self,
        source: &dyn HttpSource,
        head: &Head,
        body: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, Refusal> {
        if grpc::is_call(head) {
            return grpc::message(head, body, self.limits.content_bytes);
        }
        let name = head.header("content-encoding");
        let encoding =
            source.encoding(head, body).or_else(|| Encoding::from_header(name)).ok_or_else(|| {
                Refusal::Unsupported(format!("Content-Encoding {name} isn't taken; gzip, zstd or deflate is"))
            })?;
        decode(encoding, body, self.limits.content_bytes).map_err(|error| match error {
            DecodeError::TooLarge(bytes_max) => Refusal::TooLarge { bytes_max },
            DecodeError::Broken(problem) => {
                Malformed(format!("the body isn't {encoding:?}, as the request says: {problem}")).into()
            }
        })
    }
}

/// The answer to a request that no source has seen.
fn refused_unread(head: &Head, refusal: &Refusal) -> Reply {
    if grpc::is_call(head) {
        return grpc::refusal(refusal);
    }
    let text = serde_json::json!({ "error": { "code": refusal.code(), "message": refusal.to_string() } });
    refusal.with_headers(Reply::json(refusal.status(), &text))
}

/// HTTP/1.1 wants the name of the host once: behind a proxy that reads another one, it would be another's request
/// (RFC 9112, 3.2).
fn check_host(parts: &Parts) -> Result<(), Refusal> {
    let hosts = parts.headers.get_all(HOST).iter().count();
    let is_wrong = hosts > 1 || (hosts == 0 && parts.version == Version::HTTP_11);
    if is_wrong { Err(Malformed("the request needs the header Host once".to_owned()).into()) } else { Ok(()) }
}

/// Headers that are stored with each event, since they can't be had later.
const STORED_HEADERS: [&str; 8] = [
    "accept-language",
    "origin",
    "referer",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-gpc",
    "dnt",
];
/// The schema's bounds on what a header may be, bytes.
const HEADER_BYTES_MAX: usize = 1024;

fn origin(source: &dyn HttpSource, head: &Head, key: Arc<Key>) -> Origin {
    let stored = |name: &&str| {
        let value = clipped(head.header(name));
        (!value.is_empty()).then(|| ((*name).to_owned(), value.to_owned()))
    };
    Origin {
        key,
        source: source.name(),
        address: head.address,
        user_agent: clipped(head.header("user-agent")).to_owned(),
        headers: STORED_HEADERS.iter().filter_map(stored).collect(),
        receive_time: now_ns(),
        send_time: 0,
    }
}

fn clipped(ascii: &str) -> &str {
    &ascii[..ascii.len().min(HEADER_BYTES_MAX)]
}
