//! What a shard shows to operators, and what they may do to a connection.

use super::Shard;
use crate::action::ConnId;
use crate::clock::MS;
use crate::close::{CloseReason, Fault};
use crate::counters::Counters;
use crate::latency::Latencies;
use crate::session::Sending;
use crate::view::{Connection, Standing};
use tickstream_wire::messages::Mode;

impl Shard {
    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        let (connections, unauthenticated) = (self.slots.len(), self.admission.unauthenticated());
        let mut counters = Counters { connections, unauthenticated, ..self.counters };
        self.tally.add_to(&mut counters);
        if let Some(ingest) = &self.ingest {
            counters.ingest = ingest.counters();
        }
        for mode in [Mode::Second, Mode::Minute] {
            counters.streams[mode as usize].subscribers = self.streams.subscribers(mode);
        }
        counters
    }

    /// How long live frames took, from when their first tick was due until their socket had them whole: as far as
    /// was told before the last [`Shard::advance`].
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Every connection's slot is below this.
    pub fn slots_end(&self) -> u32 {
        self.slots.end()
    }

    /// The connection in a slot below [`Shard::slots_end`]; `None` if it is free.
    pub fn connection(&self, slot: u32) -> Option<Connection> {
        let session = &self.slots[slot];
        let standing = Standing::of(session.state)?;
        let lived = self.clock.lived();
        let behind = session.membership.map(|membership| {
            self.streams.behind(membership.group, session.next_sequence, session.replaying)
        });
        Some(Connection {
            id: self.slots.id(slot),
            number: session.number,
            peer: session.peer,
            standing,
            mode: session.mode,
            open_ms: lived.saturating_sub(session.opened) / MS,
            lagging: matches!(session.sending, Sending::Full | Sending::Blocked),
            unsent_ms: session.outbox.oldest().map_or(0, |since| lived.saturating_sub(since) / MS),
            ticks_behind: behind.unwrap_or(0),
            bytes_sent: session.bytes_sent,
        })
    }

    /// Closes a connection because an operator wants it. False if it isn't there, or is being closed already.
    pub fn kick(&mut self, conn: ConnId) -> bool {
        let Some(slot) = self.slots.find(conn) else { return false };
        if Standing::of(self.slots[slot].state) == Some(Standing::Closing) {
            return false;
        }
        self.close(slot, Fault::new(CloseReason::Kicked, "closed by an operator"));
        true
    }
}
