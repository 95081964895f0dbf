//! TLS sessions, between the socket ring and the engine. Plain connections don't pass through here.
//!
//! Bytes that the engine sends are sealed here, into a record of the connection's own; received ones are opened
//! here. It does no I/O and calls nobody: the driver passes in what happened, and carries each [`Output`] to the ring or
//! to the engine. The engine is told that bytes were sent when the record that holds them was, so its deadlines and its
//! order hold for TLS as they do for plain TCP. What TLS says for itself (handshake, alerts, KeyUpdate) waits for the
//! record before it, and a record waits for it.
//!
//! A handshake costs a hundred times what a tick does: handshakes wait in a queue, of which each pass of the shard
//! takes a little. Those that have begun go first, since they hold memory.

mod connection;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use tickstream_engine::{ConnId, SealedFrame, Secured, SendOutcome};

use crate::tls::{Acceptor, Progress, RECORD_BYTES_MAX, TlsError, alert_too_large, material};
use connection::{Busy, Connection, Socket, Stage};

/// Most that TLS may have to say for itself while the socket is full, bytes. A peer that makes it say more without
/// reading is closed.
const PENDING_BYTES_MAX: usize = 4_096;
/// Most that an established connection may leave of a record, bytes: the longest with its header (RFC 8446, section 5.2).
const RECORD_KEPT_MAX: usize = 5 + RECORD_BYTES_MAX + 256;
/// Scratch space that is kept for the next connection, bytes.
const SCRATCH_KEPT: usize = 64 * 1_024;

/// The TLS connections of a shard.
pub(super) struct Transport {
    acceptor: Option<Arc<Acceptor>>,
    /// By slot; shorter than the connection table, and empty without TLS.
    connections: Vec<Option<Box<Connection>>>,
    /// Handshakes with bytes to work on: those that have begun, and those that have yet to begin.
    begun: VecDeque<ConnId>,
    waiting: VecDeque<ConnId>,
    /// Handshakes that have begun and aren't complete.
    underway: u32,
    underway_max: u32,
    /// Connections for which TLS has something to say that may go with what the engine sends next.
    late: Vec<ConnId>,
    outputs: Outputs,
    /// Shared by all connections, and empty between two calls.
    outgoing: Vec<u8>,
    /// Bytes that the last [`Output::Received`] is about.
    plain: Vec<u8>,
}

/// Something that the driver carries to the ring or to the engine.
#[derive(Debug)]
pub(super) enum Output {
    /// To the ring: send these bytes from `offset` on.
    Send { conn: ConnId, bytes: Rc<[u8]>, offset: u32 },
    /// To the ring: await that the socket takes bytes again.
    AwaitWritable { conn: ConnId },
    /// To the ring: send FIN.
    Shutdown { conn: ConnId },
    /// To the engine: bytes of a handshake came.
    HandshakeReceived { conn: ConnId },
    /// To the engine: a handshake has to wait until others are done.
    HandshakeWaits,
    /// To the engine: the handshake is done.
    Secured { conn: ConnId, secured: Secured },
    /// To the engine: [`Transport::plaintext`] came.
    Received { conn: ConnId },
    /// To the engine: a send was answered.
    Sent { conn: ConnId, outcome: SendOutcome },
    /// To the engine: the socket takes bytes again.
    Writable { conn: ConnId },
    /// To the engine: the peer ended its side.
    PeerClosed { conn: ConnId },
    /// To the engine: the connection broke.
    PeerReset { conn: ConnId, error: String },
    /// To the engine: TLS failed.
    TlsFailed { conn: ConnId, error: String },
}

type Outputs = VecDeque<Output>;

impl Transport {
    /// A transport without TLS unless there is an acceptor.
    pub fn new(acceptor: Option<Arc<Acceptor>>, handshakes_max: u32) -> Self {
        Self {
            acceptor,
            connections: Vec::new(),
            begun: VecDeque::new(),
            waiting: VecDeque::new(),
            underway: 0,
            underway_max: handshakes_max,
            late: Vec::new(),
            outputs: Outputs::new(),
            outgoing: Vec::new(),
            plain: Vec::new(),
        }
    }

    /// New handshakes use `acceptor` from now on.
    pub fn set_acceptor(&mut self, acceptor: Arc<Acceptor>) {
        self.acceptor = Some(acceptor);
    }

    /// A connection on the port for TLS.
    pub fn adopt(&mut self, conn: ConnId) {
        let index = conn.slot.index();
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(Box::new(Connection {
            generation: conn.generation,
            socket: Socket::Idle,
            closing: false,
            stage: Stage::Handshaking(None),
            busy: None,
        }));
    }

    /// True if the connection is one over TLS.
    pub fn holds(&self, conn: ConnId) -> bool {
        let connection = self.connections.get(conn.slot.index()).and_then(Option::as_deref);
        connection.is_some_and(|connection| connection.generation == conn.generation)
    }

    /// The next output. Ask after each call, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Bytes that a TLS connection has received, of which [`Output::Received`] tells.
    pub fn plaintext(&self) -> &[u8] {
        &self.plain
    }

    /// Bytes came on a TLS connection.
    pub fn received(&mut self, conn: ConnId, bytes: &mut [u8]) {
        let progress = self.take(conn, bytes);
        self.settle(conn, progress);
    }

    /// Seals a frame that the engine sends on a TLS connection.
    pub fn send(&mut self, conn: ConnId, frame: SealedFrame, offset: u32) {
        let Self { connections, outputs, outgoing, .. } = self;
        let Some(connection) = find(connections, conn) else { return };
        match connection.socket {
            Socket::Sending => connection.busy().deferred = Some((frame, offset)),
            Socket::FullForTls => {
                connection.socket = Socket::FullForEngine;
                outputs.push_back(Output::Sent { conn, outcome: SendOutcome::WouldBlock });
            }
            Socket::Idle | Socket::FullForEngine => match connection.seal(&frame, offset, outgoing) {
                Ok(()) => connection.send_record(conn, outputs),
                Err(error) => {
                    // What was put together for it is for nobody else.
                    outgoing.clear();
                    connection.stage = Stage::Failed;
                    outputs.push_back(Output::TlsFailed { conn, error: error.to_string() });
                    outputs.push_back(Output::Sent { conn, outcome: SendOutcome::Broken });
                }
            },
        }
    }

    /// A SEND on a TLS connection was answered.
    pub fn sent(&mut self, conn: ConnId, outcome: SendOutcome) {
        let Self { connections, outputs, .. } = self;
        let Some(connection) = find(connections, conn) else { return };
        connection.socket = Socket::Idle;
        let busy = connection.busy();
        let deferred = busy.deferred.take();
        let Some(record) = &mut busy.record else { return };
        if let SendOutcome::Sent(bytes) = outcome {
            record.sent += bytes;
        }
        let holds = record.holds;
        if record.sent as usize == record.bytes.len() {
            busy.record = None;
            if holds > 0 {
                outputs.push_back(Output::Sent { conn, outcome: SendOutcome::Sent(holds) });
            }
            connection.flush(conn, outputs);
            if let Some((frame, offset)) = deferred {
                self.send(conn, frame, offset);
            }
            return;
        }
        let is_engine_s = holds > 0 || deferred.is_some();
        outputs.push_back(match outcome {
            SendOutcome::Broken if is_engine_s => Output::Sent { conn, outcome: SendOutcome::Broken },
            SendOutcome::Broken => Output::PeerReset { conn, error: "a send failed".to_owned() },
            _ if is_engine_s => {
                connection.socket = Socket::FullForEngine;
                Output::Sent { conn, outcome: SendOutcome::WouldBlock }
            }
            _ => {
                connection.socket = Socket::FullForTls;
                Output::AwaitWritable { conn }
            }
        });
    }

    /// A full socket of a TLS connection takes bytes again.
    pub fn writable(&mut self, conn: ConnId) {
        let Self { connections, outputs, .. } = self;
        match find(connections, conn) {
            Some(connection) if connection.socket == Socket::FullForTls => {
                connection.socket = Socket::Idle;
                connection.send_record(conn, outputs);
            }
            _ => outputs.push_back(Output::Writable { conn }),
        }
    }

    /// Sends close_notify and FIN, behind what is on its way.
    pub fn shutdown(&mut self, conn: ConnId) {
        let Self { connections, outputs, .. } = self;
        let Some(connection) = find(connections, conn) else { return };
        connection.closing = true;
        let underway = connection.is_underway();
        if !matches!(connection.stage, Stage::Established(_)) {
            // Its handshake is over: what it held is for others.
            connection.stage = Stage::Failed;
        }
        if let Stage::Established(session) = &mut connection.stage {
            // An error means that the session can't send any more: then there is FIN alone.
            let _ = session.close_notify(&mut connection.busy.get_or_insert_default().pending);
        }
        connection.flush(conn, outputs);
        self.underway -= u32::from(underway);
    }

    /// Forgets a connection whose socket is about to be closed: in good order, unless it is aborted.
    pub fn close(&mut self, conn: ConnId, abort: bool) {
        let Self { connections, outputs, .. } = self;
        let Some(connection) = find(connections, conn) else { return };
        let Busy { record, pending, .. } = connection.busy.take().map_or_else(Busy::default, |busy| *busy);
        if !abort
            && !connection.closing
            && connection.socket == Socket::Idle
            // What is left of one had a SEND that failed: the peer couldn't tell what comes behind it from its rest.
            && record.is_none()
            && let Stage::Established(session) = &mut connection.stage
        {
            // What TLS has to say still was sealed before it: without that, the peer couldn't open it.
            let mut bytes = pending;
            if session.close_notify(&mut bytes).is_ok() {
                outputs.push_back(Output::Send { conn, bytes: bytes.into(), offset: 0 });
            }
        }
        let underway = connection.is_underway();
        self.connections[conn.slot.index()] = None;
        self.underway -= u32::from(underway);
    }

    /// Works on one handshake. False if none is waiting for it.
    pub fn work(&mut self) -> bool {
        let next = match self.begun.pop_front() {
            None if self.underway < self.underway_max => self.waiting.pop_front(),
            begun => begun,
        };
        let Some(conn) = next else { return false };
        let progress = self.shake_hands(conn);
        self.settle(conn, progress);
        true
    }

    /// Sends what TLS has to say and the engine's answers didn't take along. Call it once those were sent.
    pub fn flush(&mut self) {
        for conn in self.late.drain(..) {
            if let Some(connection) = find(&mut self.connections, conn) {
                connection.flush(conn, &mut self.outputs);
            }
        }
    }

    /// True if [`Transport::work`] or [`Transport::flush`] has something to do.
    pub fn has_work(&self) -> bool {
        let may_begin = !self.waiting.is_empty() && self.underway < self.underway_max;
        !self.begun.is_empty() || may_begin || !self.late.is_empty()
    }

    /// The subject of a client's certificate, for people.
    pub fn subject(&mut self, conn: ConnId) -> Option<String> {
        match &find(&mut self.connections, conn)?.stage {
            Stage::Established(session) => material::subject(session.peer_certificate()?),
            _ => None,
        }
    }

    /// Opens what came, or keeps it until the handshake is worked on.
    fn take(&mut self, conn: ConnId, bytes: &mut [u8]) -> Result<Progress, TlsError> {
        let Some(connection) = find(&mut self.connections, conn) else {
            return Ok(Progress::default());
        };
        match &mut connection.stage {
            Stage::Handshaking(session) => {
                self.outputs.push_back(Output::HandshakeReceived { conn });
                let acceptor = self.acceptor.as_ref();
                let most = match session {
                    Some(_) => acceptor.map_or(0, |acceptor| acceptor.handshake_bytes_max()),
                    None => RECORD_KEPT_MAX,
                };
                let busy = connection.busy.get_or_insert_default();
                if busy.received.len() + bytes.len() > most {
                    alert_too_large(session.as_ref(), &mut self.outgoing);
                    return Err(TlsError::TooLarge(most));
                }
                busy.received.extend_from_slice(bytes);
                // A handshake that comes byte by byte takes nobody's place.
                if (session.is_some() || begins_whole(&busy.received))
                    && !std::mem::replace(&mut busy.is_queued, true)
                {
                    if session.is_some() {
                        self.begun.push_back(conn);
                    } else {
                        // Those before it take places, too.
                        if self.underway as usize + self.waiting.len() >= self.underway_max as usize {
                            self.outputs.push_back(Output::HandshakeWaits);
                        }
                        self.waiting.push_back(conn);
                    }
                }
                Ok(Progress::default())
            }
            Stage::Established(session) => {
                session.receive(bytes, RECORD_KEPT_MAX, &mut self.outgoing, &mut self.plain)
            }
            Stage::Failed => Ok(Progress::default()),
        }
    }

    /// Works on what came of a connection's handshake.
    fn shake_hands(&mut self, conn: ConnId) -> Result<Progress, TlsError> {
        let connection = find(&mut self.connections, conn);
        let (Some(connection), Some(acceptor)) = (connection, &self.acceptor) else {
            return Ok(Progress::default());
        };
        let Stage::Handshaking(session) = &mut connection.stage else {
            return Ok(Progress::default());
        };
        let busy = connection.busy.get_or_insert_default();
        busy.is_queued = false;
        let mut bytes = std::mem::take(&mut busy.received);
        let current = match session {
            Some(session) => session,
            None => {
                let began = session.insert(acceptor.accept()?);
                self.underway += 1;
                began
            }
        };
        let most = acceptor.handshake_bytes_max();
        let progress = current.receive(&mut bytes, most, &mut self.outgoing, &mut self.plain)?;
        if progress.established
            && let Some(session) = session.take()
        {
            self.underway -= 1;
            connection.stage = Stage::Established(session);
        }
        Ok(progress)
    }

    /// Passes on what came of received bytes: first what TLS says, then what it protected.
    fn settle(&mut self, conn: ConnId, progress: Result<Progress, TlsError>) {
        let mut progress = progress;
        if let Some(connection) = find(&mut self.connections, conn) {
            if !self.outgoing.is_empty() {
                let busy = connection.busy();
                busy.pending.append(&mut self.outgoing);
                if busy.record.is_some() && busy.pending.len() > PENDING_BYTES_MAX {
                    progress = progress.and(Err(TlsError::Sealing("it asks without reading the answers")));
                }
            }
            if self.plain.is_empty() {
                connection.flush(conn, &mut self.outputs);
            } else {
                self.late.push(conn);
            }
            if let Ok(Progress { established: true, .. }) = progress
                && let Some(acceptor) = &self.acceptor
            {
                match connection.secured(acceptor) {
                    Ok(secured) => self.outputs.push_back(Output::Secured { conn, secured }),
                    Err(error) => progress = Err(error),
                }
            }
        }
        self.outgoing.clear();
        self.outgoing.shrink_to(SCRATCH_KEPT);
        match progress {
            Ok(progress) => {
                if !self.plain.is_empty() {
                    self.outputs.push_back(Output::Received { conn });
                }
                if progress.peer_closed {
                    self.outputs.push_back(Output::PeerClosed { conn });
                }
            }
            Err(error) => {
                self.clear_plaintext();
                if let Some(connection) = find(&mut self.connections, conn) {
                    self.underway -= u32::from(connection.is_underway());
                    connection.stage = Stage::Failed;
                }
                self.outputs.push_back(Output::TlsFailed { conn, error: error.to_string() });
            }
        }
    }

    /// [`Transport::plaintext`] was handed on.
    pub fn clear_plaintext(&mut self) {
        self.plain.clear();
        self.plain.shrink_to(SCRATCH_KEPT);
    }
}

/// The TLS connection `conn`; `None` for a plain one, or one that is gone.
fn find(connections: &mut [Option<Box<Connection>>], conn: ConnId) -> Option<&mut Connection> {
    let connection = connections.get_mut(conn.slot.index())?.as_deref_mut();
    connection.filter(|connection| connection.generation == conn.generation)
}

/// True if the first record has come as a whole, or isn't one of a handshake (RFC 8446, section 5.1).
fn begins_whole(received: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    match received {
        [HANDSHAKE, _, _, high, low, rest @ ..] => {
            rest.len() >= usize::from(u16::from_be_bytes([*high, *low]))
        }
        [HANDSHAKE, ..] => false,
        _ => true,
    }
}
