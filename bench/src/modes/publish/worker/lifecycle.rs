//! The life of a connection: opened, authenticated, over, tried again.

use std::{cmp::Reverse, net::Shutdown, os::fd::AsFd, sync::atomic::Ordering, time::Duration};

use socket2::SockRef;
use tickstream_uring::ring::{Completion, Returned};

use super::{
    super::session::{Close, Outcome, Rules, Stage},
    Worker,
};
use crate::{
    pace::Pace,
    socket::{errno_name, open_socket, send_whole},
    stats::{Class, count},
    token::{Kind, Token},
};

/// A connection that ended is opened again after this, unless the server asks for more.
const RETRY_US: u64 = 20_000;

impl Worker<'_> {
    /// Opens a connection that waits.
    pub(super) fn open(&mut self, slot: u32, now_us: u64) {
        let index = u64::from(self.number) + u64::from(slot) * u64::from(self.plan.threads);
        let session = &mut self.sessions[slot as usize];
        session.restart();
        self.opening += 1;
        match open_socket(&self.plan, Class::Steady, index) {
            Ok(socket) => {
                session.stage = Stage::Connecting;
                let token = Token { kind: Kind::Connect, generation: session.generation, slot };
                self.ring.connect(socket.as_fd(), self.target, token.pack());
                session.socket = Some(socket);
            }
            Err(error) => {
                session.stage = Stage::Connecting;
                let why = errno_name(error.raw_os_error().unwrap_or(0));
                self.close(slot, &Close::passing(why), now_us);
            }
        }
    }

    /// Takes up what has become of an operation.
    pub(super) fn complete(&mut self, completion: Completion, now_us: u64) {
        let Token { kind, generation, slot } = Token::unpack(completion.token);
        let is_current = self.sessions[slot as usize].generation == generation;
        match kind {
            Kind::Publish => {
                self.sending -= 1;
                let Some(Returned { bytes, is_whole }) = completion.returned else { return };
                if self.tls.is_none() {
                    self.keep(bytes);
                }
                // Where less was sent than there was, nothing may follow, and receiving says what happened.
                if is_current && is_whole {
                    self.sessions[slot as usize].sending = false;
                    self.send_heartbeat(slot);
                    self.enqueue(slot);
                }
            }
            Kind::Connect if is_current => match completion.result {
                Ok(_) => self.connected(slot, now_us),
                Err(errno) => self.close(slot, &Close::passing(errno_name(errno)), now_us),
            },
            Kind::Receive if is_current && self.sessions[slot as usize].socket.is_some() => {
                self.received(slot, &completion, now_us);
            }
            _ => {}
        }
        if let Some(received) = completion.received {
            self.ring.recycle(received);
        }
    }

    fn connected(&mut self, slot: u32, now_us: u64) {
        let session = &mut self.sessions[slot as usize];
        let Some(socket) = &session.socket else { return };
        let sent = match &mut self.tls {
            None => {
                session.stage = Stage::Greeting;
                send_whole(socket, &self.auth).map_err(|error| format!("send: {error}"))
            }
            Some(tls) => {
                session.stage = Stage::Securing;
                let entered = tls.enter(slot, now_us).map_err(|error| format!("TLS: {error}"));
                entered
                    .and_then(|()| send_whole(socket, tls.output()).map_err(|error| format!("send: {error}")))
            }
        };
        match sent {
            Ok(()) => self.receive(slot),
            Err(why) => self.close(slot, &Close::passing(why), now_us),
        }
    }

    fn receive(&mut self, slot: u32) {
        let session = &self.sessions[slot as usize];
        if let Some(socket) = &session.socket {
            let token = Token { kind: Kind::Receive, generation: session.generation, slot };
            self.ring.receive(socket.as_fd(), token.pack());
        }
    }

    fn received(&mut self, slot: u32, completion: &Completion, now_us: u64) {
        match completion.result {
            Ok(0) => return self.close(slot, &Close::passing("closed without a word"), now_us),
            Err(libc::ENOBUFS) | Ok(_) => {}
            Err(errno) => return self.close(slot, &Close::passing(errno_name(errno)), now_us),
        }
        let outcome = self.understand(slot, completion, now_us);
        if let Some(ms) = outcome.heartbeat_interval_ms {
            let interval = self.plan.options.heartbeat_interval.unwrap_or(Duration::from_millis(ms.into()));
            let interval_us = interval.as_micros() as u64;
            let count = self.sessions.len() as u64;
            if interval_us > 0 && !self.heartbeats.is_some_and(|pace| pace.is(count, interval_us)) {
                self.heartbeats = Some(Pace::new(now_us, count, interval_us));
            }
        }
        if outcome.live {
            self.opening -= 1;
            self.shared.live.fetch_add(1, Ordering::Relaxed);
        }
        if outcome.live || outcome.acknowledged {
            self.enqueue(slot);
        }
        match outcome.close {
            Some(close) => self.close(slot, &close, now_us),
            None if !completion.more => self.receive(slot),
            None => {}
        }
    }

    /// Takes received bytes.
    fn understand(&mut self, slot: u32, completion: &Completion, now_us: u64) -> Outcome {
        let Self { ring, tls, sessions, counts, acked, plan, shared, template, auth, .. } = self;
        let Some(received) = &completion.received else { return Outcome::default() };
        let mut rules = Rules {
            window: shared.window(),
            events: template.events(),
            ignore_throttle: plan.options.modes.publish.ignore_throttle,
            acked: acked.as_mut(),
            counts,
        };
        let session = &mut sessions[slot as usize];
        let Some(tls) = tls else {
            return session.receive(ring.bytes(received), now_us, &mut rules);
        };
        let mut opened = tls.receive(slot, ring.bytes(received), now_us);
        if opened.as_ref().is_ok_and(|opened| opened.agreed) {
            session.stage = Stage::Greeting;
            opened = tls.seal_more(slot, auth).and(opened);
        }
        let sent = match &session.socket {
            Some(socket) if !tls.output().is_empty() => send_whole(socket, tls.output()),
            _ => Ok(()),
        };
        let mut outcome = session.receive(tls.plaintext(), now_us, &mut rules);
        outcome.close = outcome.close.or_else(|| match (opened, sent) {
            (Err(error), _) => Some(Close {
                is_passing: matches!(error, rustls::Error::AlertReceived(_)),
                ..Close::for_good(format!("TLS: {error}"))
            }),
            (Ok(opened), _) if opened.closed => Some(Close::passing("close_notify without a word")),
            (_, Err(error)) => Some(Close::passing(format!("TLS: {error}"))),
            _ => None,
        });
        outcome
    }

    /// A connection is over, or wasn't made. It is opened again if that may help.
    fn close(&mut self, slot: u32, close: &Close, now_us: u64) {
        let options = &self.plan.options;
        let session = &mut self.sessions[slot as usize];
        if let Some(socket) = session.socket.take() {
            // Ends what the ring still does with it.
            let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
            self.closing.push(socket);
        }
        let was_live = session.stage == Stage::Live;
        if was_live {
            self.shared.live.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.opening -= 1;
        }
        session.failures = session.failures.saturating_add(1);
        let made = !matches!(session.stage, Stage::Connecting);
        count(if made { &mut self.counts.closes } else { &mut self.counts.connect_errors }, &close.why);
        let tries = options.reconnect || !made && session.failures < options.attempts;
        if close.is_passing && tries {
            session.stage = Stage::Waiting;
            let delay_us = RETRY_US.max(u64::from(close.retry_after_ms) * 1_000);
            // Not all at once.
            let spread_us = u64::from(slot) * 7_919 % RETRY_US;
            self.retries.push(Reverse((now_us + delay_us + spread_us, slot)));
        } else {
            session.stage = Stage::Over;
            self.shared.over.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(tls) = &mut self.tls {
            tls.leave(slot);
        }
    }
}
