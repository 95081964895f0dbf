//! Time as the engine is told it, and the clock that deadlines run on.

use std::num::NonZeroU64;

/// Nanoseconds in a millisecond.
pub(crate) const MS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000 * MS;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// A clock that only moves forward, nanoseconds from anywhere. Deadlines run on it.
    pub mono_ns: u64,
    /// Unix time, nanoseconds. Ticks are labelled by it; it may be set either way at any time.
    pub unix_ns: u64,
}

impl Now {
    /// The moment `unix_ns` on the clock of [`Now::mono_ns`], if Unix time isn't set in between; at least 1.
    pub(crate) fn mono_of(self, unix_ns: u64) -> NonZeroU64 {
        NonZeroU64::new((self.mono_ns + unix_ns).saturating_sub(self.unix_ns)).unwrap_or(NonZeroU64::MIN)
    }
}

/// A call later than this after the last one means that the shard was stopped (a paused machine, SIGSTOP): its
/// driver wakes ten times a second.
const STALL_NS: u64 = 500 * MS;

/// A stall counts as this much: a shard that is always late must still reach its deadlines.
const STALLED_NS: u64 = 100 * MS;

/// Unix time that moves ahead of the monotonic clock by more than this between two calls was set, not passed.
const STEP_NS: u64 = 500 * MS;

/// Active time: nanoseconds that the shard was running, [`Now::mono_ns`] less nearly all of the time for which it was stopped.
///
/// Deadlines run on it, so that a pause of our own is no fault of a peer's: bytes that it sent meanwhile are
/// still waiting in the kernel when the shard wakes.
pub(crate) type ActiveTime = u64;

/// The clock of one shard.
#[derive(Debug)]
pub(crate) struct Clock {
    last: Now,
    active_ns: ActiveTime,
}

impl Clock {
    pub fn new(now: Now) -> Self {
        Self { last: now, active_ns: 0 }
    }

    /// Moves on to `now`. True if Unix time was set forward since the last call: the ticks of the skipped time
    /// never were due.
    pub fn advance(&mut self, now: Now) -> bool {
        let passed = now.mono_ns.saturating_sub(self.last.mono_ns);
        self.active_ns += if passed > STALL_NS { STALLED_NS } else { passed };
        let stepped = now.unix_ns.saturating_sub(self.last.unix_ns) > passed + STEP_NS;
        self.last = now;
        stepped
    }

    /// The last reading.
    pub fn now(&self) -> Now {
        self.last
    }

    /// Active time, which deadlines are compared with.
    pub fn active(&self) -> ActiveTime {
        self.active_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_does_not_age_deadlines_and_a_step_is_told() {
        let at = |mono_ms: u64, unix_ms: u64| Now { mono_ns: mono_ms * MS, unix_ns: unix_ms * MS };
        let mut clock = Clock::new(at(100, 1_000_000));
        assert!(!clock.advance(at(200, 1_000_100)));
        assert_eq!(clock.active(), 100 * MS);
        assert!(!clock.advance(at(2_200, 1_002_100)), "a stall moves both clocks");
        assert_eq!(clock.active(), 200 * MS);
        assert!(clock.advance(at(2_300, 4_602_200)), "an hour forward");
        assert!(!clock.advance(at(2_400, 1_002_300)), "an hour back");
        assert_eq!(clock.active(), 400 * MS);
    }
}
