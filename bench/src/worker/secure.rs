//! Connections under TLS: between the socket and the frames there is a session.

use std::os::fd::OwnedFd;

use socket2::SockRef;
use tickstream_uring::Received;

use super::Worker;
use crate::{
    connection::{Close, Outcome, Stage, greeting},
    plan::Plan,
    socket::send_whole,
};

impl Worker {
    /// Begins the handshake on a connection that stands.
    pub(super) fn secure(&mut self, slot: u32, now_us: u64) {
        let Some(tls) = &mut self.tls else { return };
        let connection = &mut self.connections[slot as usize];
        connection.stage = Stage::Securing;
        let begun = tls.enter(slot, now_us).map_err(|error| failed(&error));
        match begun.and_then(|()| send(connection.socket.as_ref(), tls.output())) {
            Ok(()) => self.arm(slot),
            Err(close) => self.closed(slot, &close, now_us),
        }
    }

    /// Takes received bytes. When TLS is agreed on, AUTH and SUBSCRIBE follow at once.
    pub(super) fn unseal(&mut self, slot: u32, received: &Received, now_us: u64) -> Outcome {
        let Self { tls, ring, connections, reader, counters, recorder, plan, .. } = self;
        let Some(tls) = tls else { return Outcome::default() };
        let connection = &mut connections[slot as usize];
        let mut opened = tls.receive(slot, ring.bytes(received), now_us);
        if opened.as_ref().is_ok_and(|opened| opened.agreed) {
            connection.stage = Stage::Greeting;
            let Plan { options, password, schedule, .. } = &**plan;
            let greeting = greeting(&options.user, password, schedule.mode(), connection.resume_after());
            opened = tls.seal_more(slot, &greeting).and(opened);
        }
        // Also an alert about what came.
        let sent = send(connection.socket.as_ref(), tls.output());
        let mut outcome = reader.receive(connection, tls.plaintext(), now_us, counters, recorder);
        if outcome.close.is_none() {
            outcome.close = match opened {
                Err(error) => Some(failed(&error)),
                Ok(opened) if opened.closed => Some(Close::Notified),
                Ok(_) => sent.err(),
            };
        }
        outcome
    }

    /// Sends a frame. Where that fails, the session is of no use any more, and receiving says what happened.
    pub(super) fn send_sealed(&mut self, slot: u32, frame: &[u8]) {
        let Some(tls) = &mut self.tls else { return };
        let socket = self.connections[slot as usize].socket.as_ref();
        self.counters.heartbeats_sent += 1;
        let sealed = tls.seal(slot, frame).map_err(|error| failed(&error));
        if sealed.and_then(|()| send(socket, tls.output())).is_err() {
            self.counters.sends_refused += 1;
            if let Some(socket) = socket {
                let _ = SockRef::from(socket).shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

fn send(socket: Option<&OwnedFd>, bytes: &[u8]) -> Result<(), Close> {
    let Some(socket) = socket.filter(|_| !bytes.is_empty()) else {
        return Ok(());
    };
    send_whole(socket, bytes).map_err(|error| Close::Tls { what: format!("TLS: {error}"), is_passing: true })
}

fn failed(error: &rustls::Error) -> Close {
    Close::Tls { what: format!("TLS: {error}"), is_passing: matches!(error, rustls::Error::AlertReceived(_)) }
}
