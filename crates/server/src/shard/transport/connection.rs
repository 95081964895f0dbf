//! One TLS connection: its record on the way, and what waits behind it.

use std::rc::Rc;

use tickstream_engine::{ConnId, SealedFrame, Secured};

use super::{Output, Outputs};
use crate::tls::{Acceptor, RECORD_BYTES_MAX, TlsError, TlsSession, material};

/// One TLS connection. Most of them are idle: what they need only while they aren't is apart.
pub(super) struct Connection {
    pub generation: u32,
    pub socket: Socket,
    /// FIN follows once all is sent.
    pub closing: bool,
    pub stage: Stage,
    pub busy: Option<Box<Busy>>,
}

/// Buffers of a connection that has something to do.
#[derive(Default)]
pub(super) struct Busy {
    /// Bytes of the handshake that wait to be worked on.
    pub received: Vec<u8>,
    /// True while it is in the queue of handshakes.
    pub is_queued: bool,
    /// Bytes that the socket is asked to take, or didn't take.
    pub record: Option<Record>,
    /// A frame of the engine's that waits for what TLS is sending, and how much of it was sent.
    pub deferred: Option<(SealedFrame, u32)>,
    /// TLS records behind the record.
    pub pending: Vec<u8>,
}

pub(super) enum Stage {
    /// The session begins when its first bytes are worked on.
    Handshaking(Option<TlsSession>),
    Established(TlsSession),
    /// TLS failed: what still comes is thrown away.
    Failed,
}

/// State of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    Idle,
    /// The ring has a SEND of the record that isn't answered.
    Sending,
    /// The socket is full; the engine waits for it, and sends again what it couldn't.
    FullForEngine,
    /// The socket is full; only TLS has something to send.
    FullForTls,
}

/// Sealed bytes on their way.
pub(super) struct Record {
    pub bytes: Rc<[u8]>,
    pub sent: u32,
    /// Bytes of the engine's frame in it; 0: a record of TLS's own.
    pub holds: u32,
}

impl Connection {
    pub fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    /// Seals what follows of a frame, behind what is left to send. What is left of a record that holds a part of the frame
    /// is that part.
    pub fn seal(&mut self, frame: &SealedFrame, offset: u32, scratch: &mut Vec<u8>) -> Result<(), TlsError> {
        let busy = self.busy.get_or_insert_default();
        if busy.record.as_ref().is_some_and(|record| record.holds > 0) {
            return Ok(());
        }
        let Stage::Established(session) = &mut self.stage else {
            return Err(TlsError::Sealing("the handshake isn't complete, or TLS has failed"));
        };
        scratch.clear();
        if let Some(record) = busy.record.take() {
            scratch.extend_from_slice(&record.bytes[record.sent as usize..]);
        }
        scratch.extend_from_slice(&std::mem::take(&mut busy.pending));
        let rest = &frame.as_bytes()[offset as usize..];
        let plain = &rest[..rest.len().min(RECORD_BYTES_MAX)];
        session.seal(plain, scratch)?;
        busy.record = Some(Record { bytes: scratch[..].into(), sent: 0, holds: plain.len() as u32 });
        scratch.clear();
        Ok(())
    }

    /// Sends what TLS has to say, if the socket has nothing else to do; then FIN, if that is due.
    pub fn flush(&mut self, conn: ConnId, outputs: &mut Outputs) {
        if self.socket != Socket::Idle {
            return;
        }
        if let Some(busy) = &mut self.busy {
            if busy.record.is_none() && !busy.pending.is_empty() {
                let bytes = std::mem::take(&mut busy.pending).into();
                busy.record = Some(Record { bytes, sent: 0, holds: 0 });
            }
            if busy.record.is_some() {
                return self.send_record(conn, outputs);
            }
            // What came of a handshake is kept until there is enough to work on.
            let awaits_more = matches!(self.stage, Stage::Handshaking(_)) && !busy.received.is_empty();
            if !awaits_more && busy.deferred.is_none() {
                self.busy = None;
            }
        }
        if self.closing {
            outputs.push_back(Output::Shutdown { conn });
        }
    }

    pub fn send_record(&mut self, conn: ConnId, outputs: &mut Outputs) {
        if let Some(record) = self.busy.as_ref().and_then(|busy| busy.record.as_ref()) {
            self.socket = Socket::Sending;
            let bytes = Rc::clone(&record.bytes);
            outputs.push_back(Output::Send { conn, bytes, offset: record.sent });
        }
    }

    pub fn secured(&self, acceptor: &Acceptor) -> Result<Secured, TlsError> {
        let Stage::Established(session) = &self.stage else {
            return Ok(Secured { resumed: false, user: None, subject: None });
        };
        let certificate = session.peer_certificate();
        let user = certificate.map(|certificate| acceptor.user(certificate)).transpose()?;
        Ok(Secured {
            resumed: session.is_resumed() == Some(true),
            user: user.flatten(),
            subject: certificate.and_then(material::subject).map(String::into_boxed_str),
        })
    }

    pub fn is_underway(&self) -> bool {
        matches!(self.stage, Stage::Handshaking(Some(_)))
    }
}
