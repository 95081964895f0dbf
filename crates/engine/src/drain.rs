//! Closing every connection in good order, over a while instead of at once.

use crate::clock::{ActiveTime, MS};
use crate::config::Limits;
use crate::ids::Slot;

/// Connections that one call tells to go away, so that sending gets its turn.
const GOAWAYS_PER_CALL: u32 = 256;
/// The earliest that a client is asked to come back, milliseconds.
const RETRY_AFTER_MS_MIN: u32 = 200;
/// Spread of the times at which clients are asked to come back, milliseconds.
const RETRY_AFTER_MS_SPREAD: u32 = 3_000;

/// A drain: connections are told to go away one after the other over the first part of the time given, each is
/// closed a while after it was told, and what is left gets the rest of the time to finish.
#[derive(Debug)]
pub(crate) struct Drain {
    began: ActiveTime,
    tell_ns: u64,
    grace_ns: u64,
    linger_ns: u64,
    /// The next slot to tell.
    next: u32,
    /// Slots there were when it began.
    end: u32,
}

impl Drain {
    /// A drain of the slots below `end` in `over_ms`, at least [`Limits::DRAIN_MS_MIN`].
    pub fn new(now: ActiveTime, over_ms: u32, end: Slot) -> Self {
        let over_ns = u64::from(over_ms.max(Limits::DRAIN_MS_MIN)) * MS;
        let grace_ns = (over_ns / 5).min(1_000 * MS);
        let linger_ns = (over_ns / 5).min(u64::from(Limits::LINGER_MS) * MS);
        // A tenth is to spare: a shard that stalls ages more slowly than the time that it was given.
        Self {
            began: now,
            tell_ns: over_ns - grace_ns - linger_ns - over_ns / 10,
            grace_ns,
            linger_ns,
            next: 0,
            end: end.0,
        }
    }

    /// The next slot to tell, if it's time: few slots are told at once, many evenly over the time.
    pub fn next_slot(&mut self, now: ActiveTime) -> Option<Slot> {
        let passed = now - self.began;
        let share = if passed >= self.tell_ns {
            self.end
        } else {
            let even = u128::from(self.end) * u128::from(passed) / u128::from(self.tell_ns);
            (even as u32).max(GOAWAYS_PER_CALL).min(self.end)
        };
        (self.next < share).then(|| {
            self.next += 1;
            Slot(self.next - 1)
        })
    }

    /// True while there are slots to tell.
    pub fn is_telling(&self) -> bool {
        self.next < self.end
    }

    /// Time at which a connection is closed that is told at `now`.
    pub fn closes_at(&self, now: ActiveTime) -> ActiveTime {
        now + self.grace_ns
    }

    /// Time that a closed connection may linger, nanoseconds.
    pub fn linger_ns(&self) -> u64 {
        self.linger_ns
    }

    /// Delay after which the client in `slot` is asked to come back: spread, so that not all do at once.
    pub fn retry_after_ms(slot: Slot) -> u32 {
        RETRY_AFTER_MS_MIN + slot.0.wrapping_mul(0x9E37_79B1) % RETRY_AFTER_MS_SPREAD
    }

    /// Connections that one call tells.
    pub const fn per_call() -> u32 {
        GOAWAYS_PER_CALL
    }
}
