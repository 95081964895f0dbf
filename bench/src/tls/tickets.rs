//! Session tickets, one for each connection of a worker: each stands for a client of its own, which has no other
//! client's tickets.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};

/// The tickets of one worker's connections, by slot.
///
/// rustls asks for them by the server's name, which is the same for all. So whoever calls into a session says
/// before whose it is; one worker is one thread, and rustls asks from within the call.
#[derive(Debug)]
pub struct Tickets {
    slot: AtomicU32,
    tickets: Mutex<Vec<Option<Box<Tls13ClientSessionValue>>>>,
}

impl Tickets {
    /// None yet, for `slots` connections.
    pub fn new(slots: usize) -> Self {
        let mut tickets = Vec::new();
        tickets.resize_with(slots, || None);
        Self { slot: AtomicU32::new(0), tickets: Mutex::new(tickets) }
    }

    /// From here on it is about the connection in `slot`.
    pub fn of(&self, slot: u32) {
        self.slot.store(slot, Relaxed);
    }

    fn ticket<T>(&self, act: impl FnOnce(&mut Option<Box<Tls13ClientSessionValue>>) -> T) -> T {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut tickets[self.slot.load(Relaxed) as usize])
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    /// The provider's first choice, X25519.
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    /// The last one is as good as any, and one is enough to come back once.
    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.ticket(|kept| *kept = Some(Box::new(ticket)));
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.ticket(|kept| kept.take().map(|ticket| *ticket))
    }
}
