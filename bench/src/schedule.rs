//! When which tick is due: the arithmetic of `docs/protocol.md`, DATA_BATCH.

use std::num::NonZeroU32;

use tickstream_wire::messages::Mode;

/// The ticks of one stream: `rate` of them in every period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    mode: Mode,
    period_ms: u64,
    rate: u64,
}

impl Schedule {
    /// `rate` ticks a second in mode SECOND, a minute in mode MINUTE.
    pub fn new(mode: Mode, rate: NonZeroU32) -> Self {
        let period_ms = match mode {
            Mode::Second => 1_000,
            Mode::Minute => 60_000,
        };
        Self { mode, period_ms, rate: u64::from(rate.get()) }
    }

    /// The stream.
    pub fn mode(self) -> Mode {
        self.mode
    }

    /// Ticks per second.
    pub fn ticks_per_second(self) -> f64 {
        self.rate as f64 * 1_000.0 / self.period_ms as f64
    }

    /// Ticks in each period.
    pub fn rate(self) -> u64 {
        self.rate
    }

    /// Ticks in each period of a server whose next sequence is this at `at_ms`, to the nearest whole number. An answer
    /// within one tick of the truth moves it by less than a millionth.
    pub fn rate_of(self, next_sequence: u64, at_ms: u64) -> u64 {
        let at = u128::from(at_ms.max(1));
        let rate = (u128::from(next_sequence) * u128::from(self.period_ms) + at / 2) / at;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// The interval, rounded up to a millisecond: every phase is below it.
    pub fn interval_ms(self) -> u64 {
        self.period_ms.div_ceil(self.rate)
    }

    /// `epoch_ms` of a tick in phase 0: when it is due, rounded down to a millisecond.
    pub fn label_ms(self, sequence: u64) -> u64 {
        self.scaled(sequence, self.period_ms)
    }

    /// When a tick is due, µs of Unix time. Finer than its label where the interval is no whole millisecond.
    pub fn due_us(self, sequence: u64, phase_ms: u32) -> u64 {
        self.scaled(sequence, self.period_ms * 1_000).saturating_add(u64::from(phase_ms) * 1_000)
    }

    /// The last tick that is due at `at_us`, µs of Unix time.
    pub fn last_due(self, at_us: u64, phase_ms: u32) -> u64 {
        let period_us = self.period_ms * 1_000;
        let at_us = at_us.saturating_sub(u64::from(phase_ms) * 1_000);
        at_us / period_us * self.rate + at_us % period_us * self.rate / period_us
    }

    /// `floor(sequence × period / rate)` without an intermediate above the result's size.
    fn scaled(self, sequence: u64, period: u64) -> u64 {
        let whole = (sequence / self.rate).saturating_mul(period);
        whole.saturating_add(sequence % self.rate * period / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(mode: Mode, rate: u32) -> Schedule {
        Schedule::new(mode, NonZeroU32::new(rate).unwrap())
    }

    #[test]
    fn a_sequence_tells_the_rate() {
        let check = |mode, rate| {
            let at_ms = 1_764_336_000_123;
            let next = schedule(mode, rate).last_due(at_ms * 1_000, 0) + 1;
            let reckoned_with = schedule(mode, 1);
            for next in [next - 1, next, next + 1] {
                assert_eq!(reckoned_with.rate_of(next, at_ms), u64::from(rate), "{mode:?}");
            }
        };
        [1, 2, 10, 999, 10_000_000].into_iter().for_each(|rate| check(Mode::Second, rate));
        [1, 2, 60, 1_000].into_iter().for_each(|rate| check(Mode::Minute, rate));
        assert_eq!(schedule(Mode::Second, 1).rate_of(u64::MAX, 0), u64::MAX);
    }

    #[test]
    fn labels_are_the_due_time_rounded_down() {
        let check = |mode, rate, sequence, label_ms, due_us| {
            let schedule = schedule(mode, rate);
            assert_eq!((schedule.label_ms(sequence), schedule.due_us(sequence, 0)), (label_ms, due_us));
        };
        check(Mode::Second, 1, 1_767_225_600, 1_767_225_600_000, 1_767_225_600_000_000);
        check(Mode::Minute, 1, 29_453_760, 1_767_225_600_000, 1_767_225_600_000_000);
        check(Mode::Second, 3, 4, 1_333, 1_333_333);
        check(Mode::Second, 10_000, 17_672_256_000_007, 1_767_225_600_000, 1_767_225_600_000_700);
        check(Mode::Second, 1_000_000, 1_767_225_600_000_001, 1_767_225_600_000, 1_767_225_600_000_001);
    }

    proptest! {
        #[test]
        fn the_last_due_tick_is_due_and_the_next_one_is_not(
            rate in 1..=1_000_000_u32, minute: bool, at_us in 1_600_000_000_000_000_u64..2_000_000_000_000_000,
            phase_ms in 0..1_000_u32,
        ) {
            let schedule = schedule(if minute { Mode::Minute } else { Mode::Second }, rate);
            let last = schedule.last_due(at_us, phase_ms);
            prop_assert!(schedule.due_us(last, phase_ms) <= at_us);
            // Due times are rounded down to a microsecond.
            prop_assert!(schedule.due_us(last + 1, phase_ms) + 1 > at_us);
        }
    }

    #[test]
    fn absurd_sequences_saturate() {
        assert_eq!(schedule(Mode::Second, 1).due_us(u64::MAX, 5), u64::MAX);
    }
}
