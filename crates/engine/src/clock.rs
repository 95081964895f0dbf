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

/// Unix time that moves otherwise than the monotonic clock by more than this was set, not passed.
const STEP_NS: u64 = 500 * MS;

/// A step of Unix time: it was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockStep {
    /// Ahead by so many nanoseconds: the ticks of the skipped time never were due.
    Forward(u64),
    /// Back by so many nanoseconds: ticks that were sent will be due again.
    Back(u64),
}

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
    /// The latest Unix time since the last step: many small steps back are one.
    latest_unix_ns: u64,
}

impl Clock {
    pub fn new(now: Now) -> Self {
        Self { last: now, active_ns: 0, latest_unix_ns: now.unix_ns }
    }

    /// Moves on to `now`. Answers with the step, if Unix time was set since the last call.
    pub fn advance(&mut self, now: Now) -> Option<ClockStep> {
        let passed = now.mono_ns.saturating_sub(self.last.mono_ns);
        self.active_ns += if passed > STALL_NS { STALLED_NS } else { passed };
        let expected_ns = self.last.unix_ns.saturating_add(passed);
        let forward_ns = now.unix_ns.saturating_sub(expected_ns);
        let back_ns = expected_ns.max(self.latest_unix_ns).saturating_sub(now.unix_ns);
        self.last = now;
        let step = match (forward_ns > STEP_NS, back_ns > STEP_NS) {
            (true, _) => Some(ClockStep::Forward(forward_ns)),
            (false, true) => Some(ClockStep::Back(back_ns)),
            (false, false) => None,
        };
        self.latest_unix_ns = if step.is_some() { now.unix_ns } else { self.latest_unix_ns.max(now.unix_ns) };
        step
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
        assert_eq!(clock.advance(at(200, 1_000_100)), None);
        assert_eq!(clock.active(), 100 * MS);
        assert_eq!(clock.advance(at(2_200, 1_002_100)), None, "a stall moves both clocks");
        assert_eq!(clock.active(), 200 * MS);
        assert_eq!(clock.advance(at(2_300, 4_602_200)), Some(ClockStep::Forward(3_600_000 * MS)));
        assert_eq!(clock.advance(at(2_400, 1_002_300)), Some(ClockStep::Back(3_600_000 * MS)));
        assert_eq!(clock.active(), 400 * MS);
    }

    #[test]
    fn small_steps_back_add_up_and_a_slow_clock_is_no_step() {
        let at = |mono_ms: u64, unix_ms: u64| Now { mono_ns: mono_ms * MS, unix_ns: unix_ms * MS };
        let mut clock = Clock::new(at(0, 10_000));
        assert_eq!(clock.advance(at(10, 9_700)), None);
        assert_eq!(clock.advance(at(20, 9_400)), Some(ClockStep::Back(600 * MS)));
        assert_eq!(clock.advance(at(30, 9_200)), None, "counted from the step on");
        let mut clock = Clock::new(at(0, 10_000));
        for hundred in 1..1_000 {
            assert_eq!(clock.advance(at(hundred * 100, 10_000 + hundred * 90)), None, "slewed");
        }
    }
}
