//! The connection table of a shard.

use std::net::SocketAddr;

use crate::clock::ActiveTime;
use crate::ids::{ConnId, Slot};
use crate::network::AddressKey;
use crate::session::Session;

/// Sessions by slot. A slot is used again after its connection ended, under another generation.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    sessions: Vec<Session>,
    free: Vec<Slot>,
    opened: u64,
}

impl Slots {
    /// Connections in the table.
    pub fn len(&self) -> u32 {
        (self.sessions.len() - self.free.len()) as u32
    }

    /// Slots that were ever used: every connection's slot is below.
    pub fn end(&self) -> Slot {
        Slot(self.sessions.len() as u32)
    }

    /// Puts a new connection into the table; see [`Session::new`].
    pub fn open(&mut self, peer: SocketAddr, active: ActiveTime, proxied: bool, tls: bool) -> Slot {
        self.opened += 1;
        match self.free.pop() {
            Some(slot) => {
                self.sessions[slot.index()] = Session::new(peer, self.opened, active, proxied, tls);
                slot
            }
            None => {
                self.sessions.push(Session::new(peer, self.opened, active, proxied, tls));
                Slot(self.sessions.len() as u32 - 1)
            }
        }
    }

    /// Takes a connection out of the table.
    pub fn release(&mut self, slot: Slot) {
        self.sessions[slot.index()].release();
        self.free.push(slot);
    }

    /// The address of each connection that counts for it, and whether it hasn't authenticated.
    pub fn counted(&self) -> impl Iterator<Item = (AddressKey, bool)> {
        let counted = self.sessions.iter().filter(|session| !session.is_free() && session.is_counted());
        counted.map(|session| (session.address(), session.is_pre_auth()))
    }

    /// The slot of a connection that is still there.
    pub fn find(&self, conn: ConnId) -> Option<Slot> {
        let session = self.sessions.get(conn.slot.index())?;
        (session.generation() == conn.generation && !session.is_free()).then_some(conn.slot)
    }

    /// The name of the connection in `slot`.
    pub fn id(&self, slot: Slot) -> ConnId {
        ConnId { slot, generation: self[slot].generation() }
    }
}

impl std::ops::Index<Slot> for Slots {
    type Output = Session;

    fn index(&self, slot: Slot) -> &Session {
        &self.sessions[slot.index()]
    }
}

impl std::ops::IndexMut<Slot> for Slots {
    fn index_mut(&mut self, slot: Slot) -> &mut Session {
        &mut self.sessions[slot.index()]
    }
}
