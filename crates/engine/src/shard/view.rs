//! A shard as operators see it, and what they may do to a connection.

use super::Shard;
use crate::close::{CloseReason, Fault};
use crate::counters::Counters;
use crate::ids::{ConnId, Slot};
use crate::latency::Latencies;
use crate::view::{Connection, Identified, Standing};
use tickstream_wire::messages::Mode;

impl Shard {
    /// Counters and gauges.
    pub fn counters(&self) -> Counters {
        let (connections, unauthenticated) = (self.slots.len(), self.admission.unauthenticated());
        let mut counters = Counters { connections, unauthenticated, ..self.counters };
        self.deliveries.add_to(&mut counters);
        if let Some(ingest) = &self.ingest {
            counters.ingest = ingest.counters();
        }
        for mode in [Mode::Second, Mode::Minute] {
            counters.streams[mode as usize].subscribers = self.streams.subscribers(mode);
        }
        counters
    }

    /// Delivery latencies of live frames, from when their first tick was due until their socket had them whole: as far as
    /// was told before the last [`Shard::advance`].
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Every connection's slot is below this.
    pub fn slots_end(&self) -> Slot {
        self.slots.end()
    }

    /// The connection in a slot below [`Shard::slots_end`]; `None` if it is free.
    pub fn connection(&self, slot: Slot) -> Option<Connection> {
        let session = &self.slots[slot];
        let standing = session.standing()?;
        let active = self.clock.active();
        let behind = session.subscription().map(|subscription| {
            let group = subscription.membership.group;
            self.streams.behind(group, subscription.next_sequence, subscription.replaying)
        });
        Some(Connection {
            id: self.slots.id(slot),
            number: session.number(),
            peer: session.peer(),
            standing,
            mode: session.mode(),
            open_ms: session.open_ms(active),
            lagging: session.is_lagging(),
            unsent_ms: session.unsent_ms(active),
            ticks_behind: behind.unwrap_or(0),
            bytes_sent: session.bytes_sent(),
            bytes_received: session.bytes_received(),
            events_accepted: self.ingest.as_ref().map_or(0, |ingest| ingest.accepted(slot)),
        })
    }

    /// Identity of the connection in a slot; without content before its AUTH was accepted.
    pub fn identified(&self, slot: Slot) -> Identified<'_> {
        Identified {
            user: self.identities.get(slot).map(|account| &*account.name),
            subject: self.identities.subject(slot),
            client: self.identities.client(slot),
        }
    }

    /// The slot of a connection that is still there.
    pub fn find(&self, conn: ConnId) -> Option<Slot> {
        self.slots.find(conn)
    }

    /// Closes a connection because an operator wants it. False if it isn't there, or is being closed already.
    pub fn kick(&mut self, conn: ConnId) -> bool {
        let Some(slot) = self.slots.find(conn) else { return false };
        if self.slots[slot].standing() == Some(Standing::Closing) {
            return false;
        }
        self.close(slot, Fault::new(CloseReason::Kicked, "closed by an operator"));
        true
    }
}
