//! A connection's way in: admission, its PROXY header, its TLS handshake, AUTH.

use std::net::SocketAddr;

use tickstream_wire::messages::MsgType;

use super::{Shard, error_frame, go_away, not_permitted};
use crate::action::{Refused, Secured};
use crate::auth::Grant;
use crate::close::{CloseReason, Fault};
use crate::config::ProxyProtocol;
use crate::identity::Account;
use crate::ids::{ConnId, Sequence, Slot};
use crate::limit::Limit;
use crate::network::AddressKey;
use crate::session::{Certificate, Header};

impl Shard {
    /// A connection was accepted; with `tls`, on the port for that.
    ///
    /// # Errors
    /// If the shard doesn't take it: send the frame, if there is one, and close.
    pub fn accept(&mut self, peer: SocketAddr, tls: bool) -> Result<ConnId, Refused> {
        let active = self.clock.active();
        let trusted = self.config.proxy_trusted.iter().any(|network| network.contains(peer.ip()));
        let proxied = trusted && self.config.proxy_protocol != ProxyProtocol::Off;
        let refused = if self.drain.is_some() {
            Some((CloseReason::ShuttingDown, None))
        } else if self.config.proxy_protocol == ProxyProtocol::Required && !trusted {
            Some((CloseReason::BadProxyHeader, Some(Limit::UntrustedProxy)))
        } else {
            let admitted = self.admission.admit(self.slots.len(), &self.config.limits, active);
            admitted.err().map(|limit| (CloseReason::ServerBusy, Some(limit)))
        };
        if let Some((reason, limit)) = refused {
            return Err(self.refused(reason, limit, tls || proxied));
        }
        if !proxied && let Err(limit) = self.admit_address(|| peer.ip().into(), tls) {
            self.admission.take_back(&self.config.limits);
            return Err(self.refused(CloseReason::ServerBusy, Some(limit), tls));
        }
        let slot = self.slots.open(peer, active, proxied, tls);
        self.counters.accepted += 1;
        self.rearm(slot);
        Ok(self.slots.id(slot))
    }

    /// True while the connection's bytes are for [`Shard::received`], though it speaks TLS.
    pub fn awaits_proxy_header(&self, conn: ConnId) -> bool {
        self.slots.find(conn).is_some_and(|slot| self.slots[slot].awaits_proxy_header())
    }

    /// Bytes of a TLS handshake came.
    pub fn handshake_received(&mut self, conn: ConnId) {
        if let Some(slot) = self.slots.find(conn) {
            self.slots[slot].note_received(0);
        }
    }

    /// A TLS handshake has to wait until others are done.
    pub fn handshake_waits(&mut self) {
        self.counters.count_fired(Limit::Handshakes);
    }

    /// The TLS handshake is done: from now on [`Shard::received`] gets what it protects.
    pub fn secured(&mut self, conn: ConnId, secured: Secured) {
        let Some(slot) = self.slots.find(conn) else { return };
        let active = self.clock.active();
        let certificate = Certificate { user: secured.user, subject: secured.subject };
        if !self.slots[slot].secured(certificate, active) {
            return;
        }
        if secured.resumed {
            self.counters.handshakes_resumed += 1;
        } else {
            self.counters.handshakes_full += 1;
        }
        self.rearm(slot);
    }

    /// TLS failed, in the handshake or later; the peer was told by an alert, if it could be.
    pub fn tls_failed(&mut self, conn: ConnId, error: String) {
        if let Some(slot) = self.slots.find(conn) {
            self.close(slot, Fault::new(CloseReason::TlsFailed, error));
        }
    }

    /// The process went above or below its memory watermark.
    pub fn set_memory_is_short(&mut self, is_short: bool) {
        self.admission.set_memory_is_short(is_short);
    }

    /// Takes a PROXY header off the front of `bytes`. True if it is there, or needn't be.
    pub(super) fn take_proxy_header(&mut self, slot: Slot, bytes: &mut &[u8]) -> bool {
        match self.slots[slot].take_proxy_header(bytes, self.config.proxy_protocol) {
            Ok(Header::Complete) => self.arrived(slot),
            Ok(Header::Incomplete) => false,
            Err(fault) => {
                self.close(slot, fault);
                false
            }
        }
    }

    /// The connection's address is known: the limits by address hold from now on. False if one has fired.
    fn arrived(&mut self, slot: Slot) -> bool {
        let session = &mut self.slots[slot];
        let (address, tls) = (session.address(), session.proxy_header_taken());
        match self.admit_address(|| address, tls) {
            Ok(()) => self.slots[slot].count_for_address(),
            Err(limit) => {
                self.close(slot, Fault::limit(limit, CloseReason::ServerBusy, limit.refusal()));
                return false;
            }
        }
        self.rearm(slot);
        true
    }

    /// Looks at what is known of an address. A handshake is too dear for one that failed to authenticate too often.
    fn admit_address(&mut self, address: impl Fn() -> AddressKey, tls: bool) -> Result<(), Limit> {
        if tls && self.auth_limiter.check(address(), self.clock.active()).is_err() {
            return Err(Limit::AuthFailures);
        }
        self.admission.admit_address(address, &self.config.limits)
    }

    /// Answers AUTH.
    pub(super) fn authenticate(
        &mut self,
        slot: Slot,
        grant: Option<Grant>,
        client: Option<Box<str>>,
    ) -> Result<(), Fault> {
        let active = self.clock.active();
        let address = self.slots[slot].address();
        if let Err(retry_after_ms) = self.auth_limiter.check(address, active) {
            let limit = Limit::AuthFailures;
            let fault = Fault::limit(limit, CloseReason::RateLimited, limit.refusal());
            return Err(Fault { retry_after_ms, ..fault });
        }
        let Some(grant) = grant else {
            self.auth_limiter.failed(address, active);
            self.counters.auth_failures += 1;
            return Err(Fault::new(CloseReason::AuthFailed, "user name or password is wrong"));
        };
        let certified = self.slots[slot].certified_user();
        let account = self.identities.account(&self.config.credentials, grant, certified);
        let account =
            account.map_err(|limit| Fault::limit(limit, CloseReason::ServerBusy, limit.refusal()))?;
        self.counters.authenticated += 1;
        self.leave_pre_auth(slot);
        let subject = self.slots[slot].authenticated(active);
        self.identities.insert(slot, account, subject, client);
        self.rearm(slot);
        self.enqueue(slot, self.ack(MsgType::Auth, Sequence::default()))?;
        if self.slots[slot].is_draining() { self.enqueue(slot, go_away(slot)) } else { Ok(()) }
    }

    /// Closes the connections of users that aren't listed any more, and the subscribers that may not subscribe any more.
    pub(super) fn close_unpermitted(&mut self) {
        for slot in (0..self.slots.end().0).map(Slot) {
            let Some(access) = self.identities.get(slot).map(Account::access) else {
                continue;
            };
            if !access.subscribe && !access.publish {
                let detail = "the user was removed, or lost its roles";
                self.close(slot, Fault::new(CloseReason::PermissionDenied, detail));
            } else if !access.subscribe && self.slots[slot].subscription().is_some() {
                self.close(slot, not_permitted("subscribe any more", "subscribe"));
            }
        }
    }

    /// The connection doesn't count among those that haven't authenticated any more, if it did.
    pub(super) fn leave_pre_auth(&mut self, slot: Slot) {
        let session = &self.slots[slot];
        if session.is_pre_auth() {
            self.admission.left_pre_auth(|| session.is_counted().then(|| session.address()));
        }
    }

    fn refused(&mut self, reason: CloseReason, limit: Option<Limit>, silently: bool) -> Refused {
        self.counters.refused += 1;
        if let Some(limit) = limit {
            self.counters.count_fired(limit);
        }
        let detail = limit.map_or("the server is shutting down", Limit::refusal);
        let sends_error = !silently && reason.code().is_some();
        let fault = Fault::new(reason, detail);
        Refused { reason, limit, frame: sends_error.then(|| error_frame(&fault, self.counters.refused)) }
    }
}
