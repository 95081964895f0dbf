//! The life of a connection: opened, connected, subscribed, dropped, over, tried again.

use std::{cmp::Reverse, net::Shutdown, os::fd::AsFd, rc::Rc};

use socket2::SockRef;
use tickstream_uring::ring::Completion;

use super::Worker;
use crate::{
    connection::{Close, Stage, greeting, may_come_back},
    control::Gauges,
    plan::Plan,
    socket::{errno_name, open_socket},
    stats::{Class, count},
    token::{Kind, Token},
};

/// A failed connection is tried again after this, unless the server asks for more.
const RETRY_US: u64 = 500_000;

/// A handshake that takes longer uses up the time that a heartbeat may be late.
const HANDSHAKE_LONG_US: u64 = 1_000_000;

impl Worker {
    /// Opens a connection that waits.
    pub(super) fn open(&mut self, slot: u32, now_us: u64) {
        let index = u64::from(self.number) + u64::from(slot) * u64::from(self.plan.threads);
        let connection = &mut self.connections[slot as usize];
        connection.restart();
        connection.opened_us = now_us as u32;
        match open_socket(&self.plan, connection.class, index) {
            Ok(socket) => {
                let token = Token { kind: Kind::Connect, generation: connection.generation, slot };
                self.ring.connect(socket.as_fd(), self.target, token.pack());
                connection.socket = Some(socket);
                connection.stage = Stage::Connecting;
                self.in_flight += 1;
            }
            Err(error) => {
                count(&mut self.counters.connect_errors, &errno_name(error.raw_os_error().unwrap_or(0)));
                self.try_again(slot, now_us, Some(0));
            }
        }
    }

    /// Takes up what has become of an operation.
    pub(super) fn complete(&mut self, completion: Completion, now_us: u64) {
        let token = Token::unpack(completion.token);
        let slot = token.slot;
        let connection = &mut self.connections[slot as usize];
        if connection.generation == token.generation {
            if token.kind == Kind::Receive && !completion.more {
                connection.armed = false;
            }
            match token.kind {
                Kind::Connect => self.connected(slot, completion.result, now_us),
                Kind::Greeting => self.sent(self.greeting.len(), completion.result),
                Kind::Heartbeat => self.sent(self.heartbeat.len(), completion.result),
                Kind::Receive => self.received(slot, &completion, now_us),
                Kind::Hangup => self.hung_up(slot),
                // Of `modes::publish` alone.
                Kind::Publish => {}
            }
        }
        if let Some(received) = completion.received {
            self.ring.recycle(received);
        }
    }

    fn connected(&mut self, slot: u32, result: Result<u32, i32>, now_us: u64) {
        let connection = &mut self.connections[slot as usize];
        if let Err(errno) = result {
            count(&mut self.counters.connect_errors, &errno_name(errno));
            self.in_flight -= 1;
            self.close_socket(slot);
            self.try_again(slot, now_us, Some(0));
            return;
        }
        self.counters.connects += 1;
        self.connected += 1;
        if self.tls.is_some() {
            return self.secure(slot, now_us);
        }
        connection.stage = Stage::Greeting;
        let Some(socket) = &connection.socket else { return };
        match connection.resume_after() {
            None => {
                let token = Token { kind: Kind::Greeting, generation: connection.generation, slot };
                self.ring.send(socket.as_fd(), Rc::clone(&self.greeting), 0, token.pack());
            }
            resume_after => {
                let Plan { options, password, schedule, .. } = &*self.plan;
                let greeting = greeting(&options.user, password, schedule.mode(), resume_after);
                // A socket that was just connected takes a few bytes. If the peer is gone, receiving says so.
                if SockRef::from(socket).send(&greeting).is_err() {
                    self.counters.sends_refused += 1;
                }
            }
        }
        self.arm(slot);
    }

    fn sent(&mut self, bytes: usize, result: Result<u32, i32>) {
        if result != Ok(bytes as u32) {
            self.counters.sends_refused += 1;
        }
    }

    fn received(&mut self, slot: u32, completion: &Completion, now_us: u64) {
        let connection = &mut self.connections[slot as usize];
        if connection.stage == Stage::Leaving {
            if !completion.more {
                self.close_socket(slot);
                self.connections[slot as usize].stage = Stage::Waiting;
                self.waiting.push_back(slot);
            }
            return;
        }
        match (completion.result, &completion.received) {
            (Ok(len), Some(received)) if len > 0 => {
                let outcome = if self.tls.is_some() {
                    self.unseal(slot, received, now_us)
                } else {
                    let Self { ring, reader, counters, recorder, .. } = self;
                    reader.receive(connection, ring.bytes(received), now_us, counters, recorder)
                };
                let connection = &self.connections[slot as usize];
                if outcome.subscribed && connection.stage == Stage::Greeting {
                    self.subscribed(slot, now_us);
                }
                match outcome.close {
                    Some(close) => self.closed(slot, &close, now_us),
                    None => self.rearm(slot, completion.more),
                }
            }
            (Err(libc::ENOBUFS), _) => self.rearm(slot, completion.more),
            (Ok(_), _) => {
                let how = match connection.stage {
                    Stage::Securing => "end of stream in the TLS handshake",
                    _ if self.tls.is_some() => "end of stream without close_notify",
                    _ => "end of stream without ERROR",
                };
                self.over(slot, how, now_us, Some(0));
            }
            (Err(errno), _) => self.over(slot, &errno_name(errno), now_us, Some(0)),
        }
    }

    fn subscribed(&mut self, slot: u32, now_us: u64) {
        let connection = &mut self.connections[slot as usize];
        connection.stage = Stage::Live;
        connection.failures = 0;
        let took_us = u64::from((now_us as u32).wrapping_sub(connection.opened_us));
        let handshake = if self.storming { &mut self.storm_handshake } else { &mut self.handshake };
        handshake.saturating_record(took_us);
        self.in_flight -= 1;
        self.live += 1;
        Gauges::set(&self.gauges.last_subscribed_us, now_us);
        // The server has counted since it accepted AUTH, which may be as long ago; the next turn to send one may
        // be a whole interval away.
        if took_us > HANDSHAKE_LONG_US && self.heartbeats.is_some() {
            self.send_heartbeat(slot);
        }
    }

    /// Receives again where that has ended, in the way of the connection's class.
    fn rearm(&mut self, slot: u32, more: bool) {
        let connection = &self.connections[slot as usize];
        match (connection.class, connection.stage) {
            _ if more => {}
            // The pace of the slow ones does it.
            (Class::Slow, Stage::Live) => {}
            (Class::Stalled, Stage::Live) => self.arm_hangup(slot),
            _ => self.arm(slot),
        }
    }

    /// Receives: for good, or once where the connection is to be slow.
    pub(super) fn arm(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let Some(socket) = &connection.socket else { return };
        connection.armed = true;
        let token = Token { kind: Kind::Receive, generation: connection.generation, slot }.pack();
        match connection.class {
            Class::Steady | Class::Churned => self.ring.receive(socket.as_fd(), token),
            Class::Slow | Class::Stalled => self.ring.receive_once(socket.as_fd(), token),
        }
    }

    fn arm_hangup(&mut self, slot: u32) {
        let connection = &self.connections[slot as usize];
        if let Some(socket) = &connection.socket {
            let token = Token { kind: Kind::Hangup, generation: connection.generation, slot };
            self.ring.await_hangup(socket.as_fd(), token.pack());
        }
    }

    /// A stalled connection is over: its last words are read after all.
    fn hung_up(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if connection.stage == Stage::Live {
            // From here on it reads whatever comes, like a slow one that is always due.
            self.arm(slot);
        }
    }

    /// Drops a live connection; it comes back when its receive is over.
    pub(super) fn leave(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let Some(socket) = &connection.socket else { return };
        self.live -= 1;
        connection.stage = Stage::Leaving;
        // Its receive is armed, and ends. An error means that the peer was faster, which ends it as well.
        let _ = SockRef::from(socket).shutdown(Shutdown::Both);
    }

    pub(super) fn closed(&mut self, slot: u32, close: &Close, now_us: u64) {
        match close {
            Close::Error { code, retry_after_ms } => {
                let retry_after_us = u64::from(*retry_after_ms) * 1_000;
                self.over(slot, code, now_us, may_come_back(code).then_some(retry_after_us));
            }
            Close::Malformed(what) => {
                count(&mut self.counters.malformed, what);
                self.over(slot, "malformed", now_us, None);
            }
            Close::Notified => self.over(slot, "close_notify without ERROR", now_us, Some(0)),
            Close::Tls { what, is_passing } => self.over(slot, what, now_us, is_passing.then_some(0)),
        }
    }

    /// The peer ended a connection. After `retry_after_us`, if there is one, it may be tried again.
    fn over(&mut self, slot: u32, how: &str, now_us: u64, retry_after_us: Option<u64>) {
        let connection = &self.connections[slot as usize];
        if connection.stage == Stage::Live {
            self.live -= 1;
            count(&mut self.counters.closes[connection.class as usize], how);
            let again = retry_after_us.filter(|_| self.plan.options.reconnect);
            self.close_socket(slot);
            self.try_again(slot, now_us, again);
        } else {
            self.in_flight -= 1;
            count(&mut self.counters.connect_errors, how);
            self.close_socket(slot);
            self.try_again(slot, now_us, retry_after_us);
        }
    }

    /// An attempt has failed or a connection is over: another attempt, or none any more.
    fn try_again(&mut self, slot: u32, now_us: u64, retry_after_us: Option<u64>) {
        let connection = &mut self.connections[slot as usize];
        connection.failures = connection.failures.saturating_add(1);
        match retry_after_us.filter(|_| connection.failures < self.plan.options.attempts) {
            Some(after_us) => {
                connection.stage = Stage::Waiting;
                self.retries.push(Reverse((now_us + after_us.max(RETRY_US), slot)));
            }
            None => {
                connection.stage = Stage::Gone;
                self.gone += 1;
            }
        }
    }

    /// Closes a socket once no queued submission can name it any more.
    fn close_socket(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if let Some(socket) = connection.socket.take() {
            if connection.armed {
                // Ends the receive, whose completion then belongs to an old generation.
                let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
                connection.armed = false;
            }
            connection.restart();
            self.closing.push(socket);
            if let Some(tls) = &mut self.tls {
                tls.leave(slot);
            }
        }
    }
}
