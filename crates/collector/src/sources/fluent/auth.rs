//! Authentication of a connection by a shared key: HELO, PING, PONG. The shared key is the secret of a key, which neither
//! side sends; the sender gets a proof that the collector knows it, too.

use std::fmt::Write;

use ring::{
    digest::{Context, SHA512},
    rand::{SecureRandom, SystemRandom},
};

use super::{
    FluentStream,
    msgpack::{self, Item, LIST, MAP, Scan, Scanner, put_boolean, put_bytes, put_text},
};
use crate::{
    keys::{self, SharedKeys},
    outcome::{Malformed, Rejection},
    stream::StreamDecoder,
    writer::EventWriter,
};

/// Name of this side. Fluentd refuses one that is its own `self_hostname`, so it isn't that of the host.
const HOSTNAME: &str = "tickstream-collector";
/// Largest PING, bytes: two names, a salt and two digests.
const PING_BYTES_MAX: usize = 4096;

/// Fluent Forward whose senders prove that they know the secret of a key.
#[derive(Debug)]
pub struct AuthenticatedFluent {
    keys: SharedKeys,
    stream: FluentStream,
    scanner: Scanner,
    /// Random bytes of this connection; `None` where the system has given none.
    nonce: Option<[u8; 16]>,
    /// Name of the key that the sender has proven to have.
    key: Option<String>,
    /// A PONG that is due.
    pong: Vec<u8>,
}

impl AuthenticatedFluent {
    /// A connection at its beginning.
    pub fn new(keys: SharedKeys) -> Self {
        let mut nonce = [0; 16];
        let nonce = SystemRandom::new().fill(&mut nonce).ok().map(|()| nonce);
        let (stream, scanner) = (FluentStream::default(), Scanner::default());
        Self { keys, stream, scanner, nonce, key: None, pong: Vec::new() }
    }

    /// Checks a PING, and makes the answer.
    fn authenticate(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let malformed = |problem: &str| Malformed(problem.to_owned());
        let ping = Ping::read(message);
        let ping =
            ping.ok_or_else(|| malformed("the sender has to begin with PING: give it a shared_key"))?;
        let nonce = self.nonce.ok_or_else(|| malformed("the system gives no random bytes"))?;
        let keys = keys::present(&self.keys);
        let proven = keys.as_ref().and_then(|keys| {
            keys.proven(|secret| {
                let digest = |hostname: &[u8]| digest(&[&ping.salt, hostname, &nonce, secret.as_bytes()]);
                // A digest is of this connection's nonce: the time of the comparison tells nothing of the next one's.
                (digest(&ping.hostname).as_bytes() == ping.digest).then(|| digest(HOSTNAME.as_bytes()))
            })
        });
        let Some((key, digest)) = proven else {
            // Nothing on how near a guess was; Fluent Bit has room for 32 bytes.
            let problem = "no key has this shared_key";
            self.pong = pong(false, problem, "");
            return Err(malformed(problem));
        };
        self.pong = pong(true, "", &digest);
        self.key = Some(key.name.clone());
        Ok(())
    }
}

impl StreamDecoder for AuthenticatedFluent {
    fn name(&self) -> &'static str {
        self.stream.name()
    }

    fn greet(&mut self, out: &mut Vec<u8>) {
        out.push(LIST | 2);
        put_text(out, "HELO");
        out.push(MAP | 3);
        put_text(out, "nonce");
        put_bytes(out, &self.nonce.unwrap_or_default());
        // Users with passwords aren't asked for beside the shared key.
        put_text(out, "auth");
        put_text(out, "");
        put_text(out, "keepalive");
        put_boolean(out, true);
    }

    fn decode(&mut self, bytes: &[u8], writer: &mut EventWriter<'_>) -> Result<usize, Malformed> {
        if self.key.is_some() {
            return self.stream.decode(bytes, writer);
        }
        match self.scanner.scan(bytes) {
            Scan::Part => Ok(0),
            Scan::Broken => Err(Malformed(msgpack::BROKEN.to_owned())),
            // What follows comes under the key.
            Scan::Whole(len) => self.authenticate(&bytes[..len]).map(|()| len),
        }
    }

    fn acknowledge(&mut self, rejected: &[Rejection], out: &mut Vec<u8>) {
        out.append(&mut self.pong);
        self.stream.acknowledge(rejected, out);
    }

    fn has_acknowledgements(&self) -> bool {
        self.key.is_none() || self.stream.has_acknowledgements()
    }

    fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn refuse(&mut self, out: &mut Vec<u8>) -> &'static str {
        out.append(&mut self.pong);
        if self.key.is_some() { "malformed" } else { "unauthorized" }
    }

    fn message_bytes_max(&self) -> usize {
        if self.key.is_some() { self.stream.message_bytes_max() } else { PING_BYTES_MAX }
    }
}

/// Name of a sender, and its proof.
struct Ping {
    hostname: Vec<u8>,
    salt: Vec<u8>,
    digest: Vec<u8>,
}

impl Ping {
    /// `["PING", hostname, salt, digest, user, digest of the password]`
    fn read(message: &[u8]) -> Option<Self> {
        let Item::List(parts) = msgpack::parse(message, PING_BYTES_MAX)? else { return None };
        let mut parts = parts.into_iter().map(|part| match part {
            Item::Text(text) => Some(text.into_bytes()),
            // Fluent Bit's salt is any bytes as a text.
            Item::Bytes(bytes) => Some(bytes),
            _ => None,
        });
        parts.next()?.filter(|kind| kind == b"PING")?;
        Some(Self { hostname: parts.next()??, salt: parts.next()??, digest: parts.next()?? })
    }
}

/// SHA-512 of the parts, in hexadecimal digits.
fn digest(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA512);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().iter().fold(String::with_capacity(128), |mut hex, byte| {
        _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// `["PONG", is taken, reason, hostname, digest]`
fn pong(is_taken: bool, reason: &str, digest: &str) -> Vec<u8> {
    let mut out = vec![LIST | 5];
    put_text(&mut out, "PONG");
    put_boolean(&mut out, is_taken);
    put_text(&mut out, reason);
    put_text(&mut out, HOSTNAME);
    put_text(&mut out, digest);
    out
}
