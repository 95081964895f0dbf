//! A connection's way in: its PROXY header, its TLS handshake, AUTH.

use super::{Certificate, PartialHeader, Session, State};
use crate::clock::ActiveTime;
use crate::close::{CloseReason, Fault};
use crate::config::ProxyProtocol;
use crate::proxy::{self, Parsed};

/// Outcome of bytes that came where a PROXY header may.
#[derive(Debug)]
pub(crate) enum Header {
    /// More has to come.
    Incomplete,
    /// The client's address is known: the rest of the bytes is its own.
    Complete,
}

impl Session {
    /// Bytes came, of whatever layer; `frame_bytes` of them are of frames.
    pub fn note_received(&mut self, frame_bytes: usize) {
        self.has_received = true;
        self.bytes_received += frame_bytes as u64;
    }

    /// Takes a PROXY header off the front of `bytes`, if it has come; what has come of one is kept.
    ///
    /// # Errors
    /// If what came is no PROXY header, and `proxy_protocol` or earlier pieces demand one.
    pub fn take_proxy_header(
        &mut self,
        bytes: &mut &[u8],
        proxy_protocol: ProxyProtocol,
    ) -> Result<Header, Fault> {
        let State::AwaitingProxyHeader { held, .. } = &mut self.state else { return Ok(Header::Complete) };
        let held_bytes = held.as_ref().map_or(0, |held| held.0.len());
        let parsed = match held {
            None => proxy::parse(bytes),
            Some(held) => {
                held.0.extend_from_slice(bytes);
                proxy::parse(&held.0)
            }
        };
        match parsed {
            Ok(Parsed::Incomplete) => {
                held.get_or_insert_with(|| Box::new(PartialHeader(bytes.to_vec())));
                *bytes = &[];
                Ok(Header::Incomplete)
            }
            Ok(Parsed::Header { len, source }) => {
                // What was held was incomplete: the header ends in these bytes.
                *bytes = &bytes[len - held_bytes..];
                self.peer = source.map_or(self.peer, Into::into);
                Ok(Header::Complete)
            }
            // A first byte that a header has, too, decides: what came after it in pieces couldn't be handed on.
            Ok(Parsed::NotProxy)
                if proxy_protocol == ProxyProtocol::Optional
                    && held_bytes == 0
                    && proxy::parse(&bytes[..1]) == Ok(Parsed::NotProxy) =>
            {
                Ok(Header::Complete)
            }
            Ok(Parsed::NotProxy) => {
                Err(Fault::new(CloseReason::BadProxyHeader, "it doesn't begin with a PROXY header"))
            }
            Err(error) => Err(Fault::new(CloseReason::BadProxyHeader, error.to_string())),
        }
    }

    /// Its address is known: TLS or AUTH comes next. Answers whether it is TLS.
    pub fn proxy_header_taken(&mut self) -> bool {
        let State::AwaitingProxyHeader { tls, .. } = self.state else { return false };
        self.state = if tls { State::Handshaking } else { State::Unauthenticated { certificate: None } };
        tls
    }

    /// Counts it among the connections of its address.
    pub fn count_for_address(&mut self) {
        self.is_counted = true;
    }

    /// The TLS handshake is done, with a verified certificate or without. False if there was none underway.
    pub fn secured(&mut self, certificate: Certificate, now: ActiveTime) -> bool {
        if !self.is_handshaking() {
            return false;
        }
        let is_there = certificate.user.is_some() || certificate.subject.is_some();
        self.state = State::Unauthenticated { certificate: is_there.then(|| Box::new(certificate)) };
        self.restart(now);
        true
    }

    /// The name in its certificate, which stands for AUTH's; `None` once it has authenticated.
    pub fn certified_user(&self) -> Option<&str> {
        match &self.state {
            State::Unauthenticated { certificate: Some(certificate) } => certificate.user.as_deref(),
            _ => None,
        }
    }

    /// AUTH was accepted. Answers with the subject of its certificate.
    pub fn authenticated(&mut self, now: ActiveTime) -> Option<Box<str>> {
        self.restart(now);
        match std::mem::replace(&mut self.state, State::Authenticated { subscription: None }) {
            State::Unauthenticated { certificate } => certificate.and_then(|certificate| certificate.subject),
            _ => None,
        }
    }
}
