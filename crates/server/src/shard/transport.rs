//! Between the socket ring and the engine: nothing for plain TCP, a TLS session for each TLS connection.
//!
//! What the engine sends is sealed here, into a record of the connection's own; what the ring receives is opened
//! here. The engine is told that bytes were sent when the record that holds them was, so its deadlines and its
//! order hold for TLS as they do for plain TCP. What TLS says for itself (handshake, alerts, KeyUpdate) waits for the
//! record before it, and a record waits for it.
//!
//! A handshake costs a hundred times what a tick does: handshakes wait in a queue, of which each pass of the shard
//! takes a little. Those that have begun go first, since they hold memory.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use tickstream_engine::{ConnId, SealedFrame, Secured, SendOutcome, Shard};

use crate::ring::{Received, SocketRing, socket_id};
use crate::tls::{Acceptor, Progress, RECORD_BYTES_MAX, TlsError, TlsSession, material};

/// Most that TLS may have to say for itself while the socket is full, bytes. Who makes it say more without reading
/// is closed.
const OWED_BYTES_MAX: usize = 4_096;
/// Most that an established connection may leave of a record, bytes: the longest with its header (RFC 8446, section 5.2).
const RECORD_KEPT_MAX: usize = 5 + RECORD_BYTES_MAX + 256;
/// Scratch space that is kept for the next connection, bytes.
const SCRATCH_KEPT: usize = 64 * 1_024;

/// The TLS connections of a shard.
pub struct Transport {
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
    /// Shared by all connections, and empty between two calls.
    outgoing: Vec<u8>,
    plain: Vec<u8>,
}

/// One TLS connection. Most of them are idle: what they need only while they aren't is apart.
struct Connection {
    generation: u32,
    socket: Socket,
    /// FIN follows once all is sent.
    closing: bool,
    stage: Stage,
    busy: Option<Box<Busy>>,
}

/// What a connection has to do.
#[derive(Default)]
struct Busy {
    /// Bytes of the handshake that wait to be worked on.
    received: Vec<u8>,
    /// It is in the queue of handshakes.
    is_queued: bool,
    /// What the socket is asked to take, or didn't take.
    record: Option<Record>,
    /// A frame of the engine's that waits for what TLS is sending, and how much of it was sent.
    deferred: Option<(SealedFrame, u32)>,
    /// What TLS has to say behind the record.
    owed: Vec<u8>,
}

enum Stage {
    /// The session begins when its first bytes are worked on.
    Handshaking(Option<TlsSession>),
    Established(TlsSession),
    /// TLS failed: what still comes is thrown away.
    Failed,
}

/// What the socket is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    Idle,
    /// The ring has a SEND of the record that isn't answered.
    Sending,
    /// It is full; the engine waits for it, and sends again what it couldn't.
    FullForEngine,
    /// It is full; nobody but TLS has something to send.
    FullForTls,
}

/// Sealed bytes on their way.
struct Record {
    bytes: Rc<[u8]>,
    sent: u32,
    /// How many bytes of the engine's frame are in it; 0: it is TLS's own.
    holds: u32,
}

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
        let index = conn.slot as usize;
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

    /// Bytes came.
    pub fn received(
        &mut self,
        conn: ConnId,
        mut received: Received,
        shard: &mut Shard,
        ring: &mut SocketRing,
    ) {
        let bytes = ring.bytes_mut(&mut received);
        if self.find(conn).is_none() {
            shard.received(conn, bytes);
        } else {
            let rest =
                if shard.awaits_proxy_header(conn) { shard.received(conn, bytes).len() } else { bytes.len() };
            let skipped = bytes.len() - rest;
            if rest > 0 {
                let progress = self.take(conn, &mut bytes[skipped..], shard);
                self.settle(conn, progress, shard, ring);
            }
        }
        ring.recycle(received);
    }

    /// Sends what the engine wants to send.
    pub fn send(
        &mut self,
        conn: ConnId,
        frame: SealedFrame,
        offset: u32,
        shard: &mut Shard,
        ring: &mut SocketRing,
    ) {
        let outgoing = &mut self.outgoing;
        let Some(connection) = find(&mut self.connections, conn) else {
            return ring.send(socket_id(conn), frame.into_shared(), offset);
        };
        match connection.socket {
            Socket::Sending => connection.busy().deferred = Some((frame, offset)),
            Socket::FullForTls => {
                connection.socket = Socket::FullForEngine;
                shard.sent(conn, SendOutcome::WouldBlock);
            }
            Socket::Idle | Socket::FullForEngine => match connection.seal(&frame, offset, outgoing) {
                Ok(()) => connection.send_record(conn, ring),
                Err(error) => {
                    // What was put together for it is for nobody else.
                    outgoing.clear();
                    connection.stage = Stage::Failed;
                    shard.tls_failed(conn, error.to_string());
                    shard.sent(conn, SendOutcome::Broken);
                }
            },
        }
    }

    /// A SEND was answered, by a number of bytes or a negative errno.
    pub fn sent(&mut self, conn: ConnId, result: i32, shard: &mut Shard, ring: &mut SocketRing) {
        let Some(connection) = self.find(conn) else {
            return shard.sent(conn, outcome(result));
        };
        connection.socket = Socket::Idle;
        let busy = connection.busy();
        let deferred = busy.deferred.take();
        let Some(record) = &mut busy.record else { return };
        record.sent += result.max(0) as u32;
        let holds = record.holds;
        if record.sent as usize == record.bytes.len() {
            busy.record = None;
            if holds > 0 {
                shard.sent(conn, SendOutcome::Sent(holds));
            }
            connection.flush(conn, ring);
            if let Some((frame, offset)) = deferred {
                self.send(conn, frame, offset, shard, ring);
            }
            return;
        }
        let is_engine_s = holds > 0 || deferred.is_some();
        match outcome(result) {
            SendOutcome::Broken if is_engine_s => shard.sent(conn, SendOutcome::Broken),
            SendOutcome::Broken => shard.peer_reset(conn, "a send failed".to_owned()),
            _ if is_engine_s => {
                connection.socket = Socket::FullForEngine;
                shard.sent(conn, SendOutcome::WouldBlock);
            }
            _ => {
                connection.socket = Socket::FullForTls;
                ring.await_writable(socket_id(conn));
            }
        }
    }

    /// A full socket takes bytes again.
    pub fn writable(&mut self, conn: ConnId, shard: &mut Shard, ring: &mut SocketRing) {
        match self.find(conn) {
            Some(connection) if connection.socket == Socket::FullForTls => {
                connection.socket = Socket::Idle;
                connection.send_record(conn, ring);
            }
            _ => shard.writable(conn),
        }
    }

    /// Sends close_notify and FIN, behind what is on its way.
    pub fn shutdown(&mut self, conn: ConnId, ring: &mut SocketRing) {
        let Some(connection) = self.find(conn) else {
            return ring.shutdown(socket_id(conn));
        };
        connection.closing = true;
        let underway = connection.is_underway();
        if !matches!(connection.stage, Stage::Established(_)) {
            // Its handshake is over: what it held is for others.
            connection.stage = Stage::Failed;
        }
        if let Stage::Established(session) = &mut connection.stage {
            // An error means that the session can't send any more: then there is FIN alone.
            let _ = session.close_notify(&mut connection.busy.get_or_insert_default().owed);
        }
        connection.flush(conn, ring);
        self.underway -= u32::from(underway);
    }

    /// Forgets a connection whose socket is about to be closed: in good order, unless it is aborted.
    pub fn close(&mut self, conn: ConnId, abort: bool, ring: &mut SocketRing) {
        let Some(connection) = self.find(conn) else { return };
        let Busy { record, owed, .. } = connection.busy.take().map_or_else(Busy::default, |busy| *busy);
        if !abort
            && !connection.closing
            && connection.socket == Socket::Idle
            // What is left of one had a SEND that failed: the peer couldn't tell what comes behind it from its rest.
            && record.is_none()
            && let Stage::Established(session) = &mut connection.stage
        {
            // What TLS has to say still was sealed before it: without that, the peer couldn't open it.
            let mut bytes = owed;
            if session.close_notify(&mut bytes).is_ok() {
                ring.send(socket_id(conn), bytes.into(), 0);
            }
        }
        let underway = connection.is_underway();
        self.connections[conn.slot as usize] = None;
        self.underway -= u32::from(underway);
    }

    /// Works on one handshake. False if none is waiting for it.
    pub fn work(&mut self, shard: &mut Shard, ring: &mut SocketRing) -> bool {
        let next = match self.begun.pop_front() {
            None if self.underway < self.underway_max => self.waiting.pop_front(),
            begun => begun,
        };
        let Some(conn) = next else { return false };
        let progress = self.shake_hands(conn);
        self.settle(conn, progress, shard, ring);
        true
    }

    /// Sends what TLS has to say and the engine's answers didn't take along. Call it once those were sent.
    pub fn flush(&mut self, ring: &mut SocketRing) {
        for conn in std::mem::take(&mut self.late) {
            if let Some(connection) = self.find(conn) {
                connection.flush(conn, ring);
            }
        }
    }

    /// Whether [`Transport::work`] or [`Transport::flush`] has something to do.
    pub fn has_work(&self) -> bool {
        let may_begin = !self.waiting.is_empty() && self.underway < self.underway_max;
        !self.begun.is_empty() || may_begin || !self.late.is_empty()
    }

    /// The subject of a client's certificate, for people.
    pub fn subject(&mut self, conn: ConnId) -> Option<String> {
        match &self.find(conn)?.stage {
            Stage::Established(session) => material::subject(session.peer_certificate()?),
            _ => None,
        }
    }

    /// Opens what came, or keeps it until the handshake is worked on.
    fn take(&mut self, conn: ConnId, bytes: &mut [u8], shard: &mut Shard) -> Result<Progress, TlsError> {
        let Some(connection) = find(&mut self.connections, conn) else {
            return Ok(Progress::default());
        };
        match &mut connection.stage {
            Stage::Handshaking(session) => {
                shard.heard(conn);
                let acceptor = self.acceptor.as_ref();
                let most = match session {
                    Some(_) => acceptor.map_or(0, |acceptor| acceptor.handshake_bytes_max()),
                    None => RECORD_KEPT_MAX,
                };
                let busy = connection.busy.get_or_insert_default();
                if busy.received.len() + bytes.len() > most {
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
                            shard.handshake_waits();
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
    fn settle(
        &mut self,
        conn: ConnId,
        progress: Result<Progress, TlsError>,
        shard: &mut Shard,
        ring: &mut SocketRing,
    ) {
        let mut plain = std::mem::take(&mut self.plain);
        let mut progress = progress;
        if let Some(connection) = find(&mut self.connections, conn) {
            if !self.outgoing.is_empty() {
                let busy = connection.busy();
                busy.owed.append(&mut self.outgoing);
                if busy.record.is_some() && busy.owed.len() > OWED_BYTES_MAX {
                    progress = progress.and(Err(TlsError::Sealing("it asks without reading the answers")));
                }
            }
            if plain.is_empty() {
                connection.flush(conn, ring);
            } else {
                self.late.push(conn);
            }
            if let Ok(Progress { established: true, .. }) = progress
                && let Some(acceptor) = &self.acceptor
            {
                match connection.secured(acceptor) {
                    Ok(secured) => shard.secured(conn, secured),
                    Err(error) => progress = Err(error),
                }
            }
        }
        self.outgoing.clear();
        if !plain.is_empty() && progress.is_ok() {
            shard.received(conn, &plain);
        }
        match progress {
            Ok(progress) if progress.peer_closed => shard.peer_closed(conn),
            Ok(_) => {}
            Err(error) => {
                if let Some(connection) = find(&mut self.connections, conn) {
                    self.underway -= u32::from(connection.is_underway());
                    connection.stage = Stage::Failed;
                }
                shard.tls_failed(conn, error.to_string());
            }
        }
        plain.clear();
        plain.shrink_to(SCRATCH_KEPT);
        self.outgoing.shrink_to(SCRATCH_KEPT);
        self.plain = plain;
    }

    fn find(&mut self, conn: ConnId) -> Option<&mut Connection> {
        find(&mut self.connections, conn)
    }
}

impl Connection {
    fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    /// Seals what follows of a frame, behind what is left to send. What is left of a record that holds a part of the frame
    /// is that part.
    fn seal(&mut self, frame: &SealedFrame, offset: u32, scratch: &mut Vec<u8>) -> Result<(), TlsError> {
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
        scratch.extend_from_slice(&std::mem::take(&mut busy.owed));
        let rest = &frame.as_bytes()[offset as usize..];
        let plain = &rest[..rest.len().min(RECORD_BYTES_MAX)];
        session.seal(plain, scratch)?;
        busy.record = Some(Record { bytes: scratch[..].into(), sent: 0, holds: plain.len() as u32 });
        scratch.clear();
        Ok(())
    }

    /// Sends what TLS has to say, if the socket has nothing else to do; then FIN, if that is due.
    fn flush(&mut self, conn: ConnId, ring: &mut SocketRing) {
        if self.socket != Socket::Idle {
            return;
        }
        if let Some(busy) = &mut self.busy {
            if busy.record.is_none() && !busy.owed.is_empty() {
                let bytes = std::mem::take(&mut busy.owed).into();
                busy.record = Some(Record { bytes, sent: 0, holds: 0 });
            }
            if busy.record.is_some() {
                return self.send_record(conn, ring);
            }
            // What came of a handshake is kept until there is enough to work on.
            let awaits_more = matches!(self.stage, Stage::Handshaking(_)) && !busy.received.is_empty();
            if !awaits_more && busy.deferred.is_none() {
                self.busy = None;
            }
        }
        if self.closing {
            ring.shutdown(socket_id(conn));
        }
    }

    fn send_record(&mut self, conn: ConnId, ring: &mut SocketRing) {
        if let Some(record) = self.busy.as_ref().and_then(|busy| busy.record.as_ref()) {
            self.socket = Socket::Sending;
            ring.send(socket_id(conn), Rc::clone(&record.bytes), record.sent);
        }
    }

    fn secured(&self, acceptor: &Acceptor) -> Result<Secured, TlsError> {
        let Stage::Established(session) = &self.stage else {
            return Ok(Secured { resumed: false, user: None });
        };
        let user = session.peer_certificate().map(|certificate| acceptor.user(certificate)).transpose()?;
        Ok(Secured { resumed: session.is_resumed() == Some(true), user: user.flatten() })
    }

    fn is_underway(&self) -> bool {
        matches!(self.stage, Stage::Handshaking(Some(_)))
    }
}

/// The TLS connection `conn`; `None` for a plain one, or one that is gone.
fn find(connections: &mut [Option<Box<Connection>>], conn: ConnId) -> Option<&mut Connection> {
    let connection = connections.get_mut(conn.slot as usize)?.as_deref_mut();
    connection.filter(|connection| connection.generation == conn.generation)
}

/// Whether the first record has come as a whole, or isn't one of a handshake (RFC 8446, section 5.1).
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

fn outcome(result: i32) -> SendOutcome {
    match result {
        bytes @ 0.. => SendOutcome::Sent(bytes as u32),
        error if -error == libc::EAGAIN => SendOutcome::WouldBlock,
        _ => SendOutcome::Broken,
    }
}
