//! Admission of connections before AUTH: caps on connections, on those without AUTH, on both by address,
//! and on new ones a second; and none at all while the process is out of memory or the shard is late.

use std::collections::BTreeMap;

use crate::clock::{ActiveTime, SECOND};
use crate::config::Limits;
use crate::limit::Limit;
use crate::network::AddressKey;

/// Time that lateness keeps new connections out.
const LATE_NS: u64 = SECOND;
/// Seconds of new connections that may come at once: a fleet that reconnects.
const BURST_SECONDS: u64 = 2;

/// Counts by which a shard takes more connections or not.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Connections that haven't authenticated.
    unauthenticated: u32,
    /// By address; empty where no limit asks for it.
    held: BTreeMap<AddressKey, Held>,
    counts_addresses: bool,
    /// Until when the connections so far are paid for (GCRA).
    paid: ActiveTime,
    /// The process is above its memory watermark.
    memory_is_short: bool,
    /// The shard is late until then.
    late_until: ActiveTime,
}

/// Connections of one address.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    connections: u32,
    unauthenticated: u32,
}

impl Admission {
    pub fn new(limits: &Limits) -> Self {
        Self {
            unauthenticated: 0,
            held: BTreeMap::new(),
            counts_addresses: counts_addresses(limits),
            paid: 0,
            memory_is_short: false,
            late_until: 0,
        }
    }

    /// Holds to other limits from now on; `counted` are the addresses of all connections that count for them, and
    /// whether each hasn't authenticated.
    pub fn count_again(&mut self, limits: &Limits, counted: impl Iterator<Item = (AddressKey, bool)>) {
        self.counts_addresses = counts_addresses(limits);
        self.held.clear();
        if self.counts_addresses {
            for (address, unauthenticated) in counted {
                let held = self.held.entry(address).or_default();
                held.connections += 1;
                held.unauthenticated += u32::from(unauthenticated);
            }
        }
    }

    /// Takes one more connection to the `connections` that there are, from wherever it comes.
    ///
    /// # Errors
    /// The limit that forbids it.
    pub fn admit(&mut self, connections: u32, limits: &Limits, now: ActiveTime) -> Result<(), Limit> {
        if connections >= limits.connections {
            return Err(Limit::Connections);
        }
        if self.memory_is_short {
            return Err(Limit::Memory);
        }
        if now < self.late_until {
            return Err(Limit::Lag);
        }
        if self.unauthenticated >= limits.unauthenticated {
            return Err(Limit::Unauthenticated);
        }
        if let Some(rate) = limits.connections_per_second {
            let paid = self.paid.max(now) + SECOND / u64::from(rate.get());
            if paid > now + BURST_SECONDS * SECOND {
                return Err(Limit::ConnectionRate);
            }
            self.paid = paid;
        }
        self.unauthenticated += 1;
        Ok(())
    }

    /// Counts an admitted connection for its address, which is asked for where a limit needs it.
    ///
    /// # Errors
    /// The limit that forbids it; it isn't counted then.
    #[inline]
    pub fn admit_address(
        &mut self,
        address: impl FnOnce() -> AddressKey,
        limits: &Limits,
    ) -> Result<(), Limit> {
        if !self.counts_addresses {
            return Ok(());
        }
        let address = address();
        let held = self.held.get(&address).copied().unwrap_or_default();
        if limits.connections_per_address.is_some_and(|most| held.connections >= most.get()) {
            return Err(Limit::ConnectionsPerAddress);
        }
        if limits.unauthenticated_per_address.is_some_and(|most| held.unauthenticated >= most.get()) {
            return Err(Limit::UnauthenticatedPerAddress);
        }
        let (connections, unauthenticated) = (held.connections + 1, held.unauthenticated + 1);
        self.held.insert(address, Held { connections, unauthenticated });
        Ok(())
    }

    /// An admitted connection isn't taken after all, for its address: it cost nobody else anything.
    pub fn take_back(&mut self, limits: &Limits) {
        self.unauthenticated -= 1;
        if let Some(rate) = limits.connections_per_second {
            self.paid -= SECOND / u64::from(rate.get());
        }
    }

    /// An admitted connection has authenticated, or ends without; `address`, which is asked for where a limit needs it,
    /// if it was counted.
    #[inline]
    pub fn left_pre_auth(&mut self, address: impl FnOnce() -> Option<AddressKey>) {
        self.unauthenticated -= 1;
        if self.counts_addresses
            && let Some(held) = address().and_then(|address| self.held.get_mut(&address))
        {
            held.unauthenticated -= 1;
        }
    }

    /// A connection that was counted for its address is gone.
    #[inline]
    pub fn left(&mut self, address: impl FnOnce() -> AddressKey) {
        if !self.counts_addresses {
            return;
        }
        let address = address();
        if let Some(held) = self.held.get_mut(&address) {
            held.connections -= 1;
            if held.connections == 0 {
                self.held.remove(&address);
            }
        }
    }

    /// The process went above or below its memory watermark.
    pub fn set_memory_is_short(&mut self, is_short: bool) {
        self.memory_is_short = is_short;
    }

    /// A batch was published so late that there is no room for more clients.
    pub fn late(&mut self, now: ActiveTime) {
        self.late_until = now + LATE_NS;
    }

    /// Connections that haven't authenticated.
    pub fn unauthenticated(&self) -> u32 {
        self.unauthenticated
    }
}

fn counts_addresses(limits: &Limits) -> bool {
    limits.connections_per_address.is_some() || limits.unauthenticated_per_address.is_some()
}
