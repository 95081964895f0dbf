//! The TLS sessions of one worker.

use std::sync::Arc;

use hdrhistogram::Histogram;
use rustls::{ClientConfig, HandshakeKind, pki_types::ServerName};

use super::{
    TlsPlan,
    session::{Scratch, Session},
    tickets::Tickets,
};
use crate::stats::coarse;

/// The sessions of one worker's connections, by slot.
pub struct TlsSessions {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    tickets: Arc<Tickets>,
    sessions: Vec<Option<Box<Entry>>>,
    scratch: Scratch,
    /// From the TCP connection to the client's Finished, µs.
    pub full: Histogram<u32>,
    pub resumed: Histogram<u32>,
}

struct Entry {
    session: Session,
    connected_us: u64,
}

/// Progress of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Data may be sealed from now on.
    pub agreed: bool,
    /// The server closed, in order.
    pub closed: bool,
}

impl TlsSessions {
    /// No session yet, of `slots` connections.
    pub fn new(plan: &TlsPlan, slots: usize) -> Self {
        let tickets = Arc::new(Tickets::new(slots));
        let mut sessions = Vec::new();
        sessions.resize_with(slots, || None);
        Self {
            config: plan.config(&tickets),
            name: plan.name(),
            tickets,
            sessions,
            scratch: Scratch::default(),
            full: coarse(),
            resumed: coarse(),
        }
    }

    /// A connection stands: its ClientHello is to be sent ([`output`](Self::output)).
    ///
    /// # Errors
    /// If rustls can't begin.
    pub fn enter(&mut self, slot: u32, now_us: u64) -> Result<(), rustls::Error> {
        self.clear(slot);
        let session = Session::start(&self.config, self.name.clone(), &mut self.scratch)?;
        self.sessions[slot as usize] = Some(Box::new(Entry { session, connected_us: now_us }));
        Ok(())
    }

    /// A connection is over.
    pub fn leave(&mut self, slot: u32) {
        self.sessions[slot as usize] = None;
    }

    /// Takes what came over a connection: [`plaintext`](Self::plaintext) is what it means, [`output`](Self::output)
    /// what is to be sent, also after an error.
    ///
    /// # Errors
    /// An error that ends the session.
    pub fn receive(&mut self, slot: u32, bytes: &[u8], now_us: u64) -> Result<Opened, rustls::Error> {
        self.clear(slot);
        let Some(entry) = &mut self.sessions[slot as usize] else {
            return Ok(Opened::default());
        };
        let progress = entry.session.receive(bytes, &mut self.scratch)?;
        if let Some(kind) = progress.agreed {
            let histogram = match kind {
                HandshakeKind::Resumed => &mut self.resumed,
                HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => &mut self.full,
            };
            histogram.saturating_record(now_us.saturating_sub(entry.connected_us));
        }
        Ok(Opened { agreed: progress.agreed.is_some(), closed: progress.closed })
    }

    /// Seals a frame in addition to what is to be sent.
    ///
    /// # Errors
    /// If the handshake isn't over, or the session is.
    pub fn seal_more(&mut self, slot: u32, frame: &[u8]) -> Result<(), rustls::Error> {
        let Some(entry) = &mut self.sessions[slot as usize] else {
            return Err(rustls::Error::HandshakeNotComplete);
        };
        entry.session.seal(frame, &mut self.scratch)
    }

    /// Seals a frame: all that is to be sent.
    ///
    /// # Errors
    /// If the handshake isn't over, or the session is.
    pub fn seal(&mut self, slot: u32, frame: &[u8]) -> Result<(), rustls::Error> {
        self.clear(slot);
        self.seal_more(slot, frame)
    }

    /// Seals a close_notify: all that is to be sent.
    ///
    /// # Errors
    /// If the handshake isn't over, or the session is.
    pub fn say_goodbye(&mut self, slot: u32) -> Result<(), rustls::Error> {
        self.clear(slot);
        match &mut self.sessions[slot as usize] {
            Some(entry) => entry.session.close_notify(&mut self.scratch),
            None => Err(rustls::Error::HandshakeNotComplete),
        }
    }

    /// Plaintext of the last bytes.
    pub fn plaintext(&self) -> &[u8] {
        &self.scratch.plaintext
    }

    /// Bytes to be sent.
    pub fn output(&self) -> &[u8] {
        &self.scratch.output
    }

    fn clear(&mut self, slot: u32) {
        self.tickets.of(slot);
        self.scratch.plaintext.clear();
        self.scratch.output.clear();
    }
}
