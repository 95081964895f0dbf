//! Schedule of ticks: sequences as a function of Unix time.

use crate::clock::MS;
#[cfg(test)]
use crate::clock::SECOND;
use crate::ids::Sequence;
use tickstream_wire::messages::Mode;

/// Ticks per second, or per minute, of one stream, evenly spaced.
///
/// Tick `n` of the stream is due at `n × interval` of Unix time, where the interval may be any fraction: all
/// arithmetic is on whole periods and a rest below one period, so nothing drifts and nothing overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    period_ms: u64,
    per_period: u64,
}

/// A rate of 0 or above the most.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{ticks} ticks in mode {} must be 1 to {max}", .mode.as_str_name())]
pub struct RateError {
    mode: Mode,
    ticks: u32,
    max: u32,
}

impl Rate {
    /// Most ticks a second.
    pub const PER_SECOND_MAX: u32 = 10_000_000;
    /// Most ticks a minute.
    pub const PER_MINUTE_MAX: u32 = 600_000_000;

    /// The rate of `mode`'s stream: `ticks` in its second or minute.
    ///
    /// # Errors
    /// If `ticks` is 0 or above [`Rate::PER_SECOND_MAX`] or [`Rate::PER_MINUTE_MAX`].
    pub fn new(mode: Mode, ticks: u32) -> Result<Self, RateError> {
        let (period_ms, max) = match mode {
            Mode::Second => (1_000, Self::PER_SECOND_MAX),
            Mode::Minute => (60_000, Self::PER_MINUTE_MAX),
        };
        if ticks == 0 || ticks > max {
            return Err(RateError { mode, ticks, max });
        }
        Ok(Self { period_ms, per_period: u64::from(ticks) })
    }

    /// The last tick that is due at `unix_ns`.
    pub(crate) fn sequence_at(self, unix_ns: u64) -> Sequence {
        let period_ns = self.period_ms * MS;
        let (periods, rest) = (unix_ns / period_ns, unix_ns % period_ns);
        let within = u128::from(rest) * u128::from(self.per_period) / u128::from(period_ns);
        Sequence(periods * self.per_period + within as u64)
    }

    /// Time at which tick `sequence` is due, Unix nanoseconds, rounded up, so that [`Rate::sequence_at`] then counts it.
    pub(crate) fn due_ns(self, sequence: Sequence) -> u64 {
        let (periods, rest) = (sequence.0 / self.per_period, sequence.0 % self.per_period);
        let within =
            (u128::from(rest) * u128::from(self.period_ms * MS)).div_ceil(u128::from(self.per_period));
        periods * self.period_ms * MS + within as u64
    }

    /// The label of tick `sequence`: when it is due, Unix milliseconds, rounded down.
    pub(crate) fn epoch_ms(self, sequence: Sequence) -> u64 {
        let (periods, rest) = (sequence.0 / self.per_period, sequence.0 % self.per_period);
        // below 60,000 × 600,000,000
        periods * self.period_ms + rest * self.period_ms / self.per_period
    }

    /// Ticks that are due within `window_ms` of a first one, that one included: those of one batch.
    pub fn ticks_within(self, window_ms: u32) -> u64 {
        (u64::from(window_ms) * self.per_period).div_ceil(self.period_ms).max(1)
    }

    /// Ticks in `duration_ns`, rounded down.
    pub fn ticks_in(self, duration_ns: u64) -> u64 {
        (u128::from(duration_ns) * u128::from(self.per_period) / u128::from(self.period_ms * MS)) as u64
    }

    /// True if `sequence` lies at most `ticks` of this rate from `next` in a stream of fewer ticks a period: it is of
    /// before the rate was raised.
    pub(crate) fn is_of_lower_rate(self, sequence: Sequence, next: Sequence, ticks: u64) -> bool {
        let (scaled, next) =
            (u128::from(sequence.0) * u128::from(self.per_period), u128::from(next.0.max(1)));
        let other = (scaled + next / 2) / next;
        (1..u128::from(self.per_period)).contains(&other)
            && (scaled / other).abs_diff(next) <= u128::from(ticks)
    }

    /// Whole milliseconds from tick to tick, at least 1: how many phases there are to spread subscribers over.
    pub fn phases(self) -> u32 {
        (self.period_ms / self.per_period).max(1) as u32
    }

    /// Nanoseconds from tick to tick, rounded up.
    pub fn interval_ns(self) -> u64 {
        (self.period_ms * MS).div_ceil(self.per_period)
    }
}

/// The far future, in which nothing is due: a year of Unix time that fits every computation above.
#[cfg(test)]
pub(crate) const FAR_FUTURE_NS: u64 = 4_000_000_000 * SECOND;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-21 20:00:00 UTC
    const NOW_NS: u64 = 1_795_291_200 * SECOND;

    #[test]
    fn a_sequence_of_a_lower_rate_is_told_from_an_old_one() {
        let check = |sequence: u64, next: u64, expected| {
            let rate = Rate::new(Mode::Second, 10).unwrap();
            assert_eq!(
                rate.is_of_lower_rate(Sequence(sequence), Sequence(next), 600),
                expected,
                "{sequence}"
            );
        };
        const NOW_S: u64 = 1_800_000_000;
        // Up to a minute before at 1, 5 and 9 ticks a second.
        check(NOW_S - 1, 10 * NOW_S, true);
        check(5 * (NOW_S - 60), 10 * NOW_S, true);
        check(9 * NOW_S + 3, 10 * NOW_S, true);
        check(5 * (NOW_S - 61), 10 * NOW_S, false);
        // An hour or a month ago, and all there is.
        check(10 * (NOW_S - 3_600), 10 * NOW_S, false);
        check(10 * (NOW_S - 2_592_000), 10 * NOW_S, false);
        check(0, 10 * NOW_S, false);
        check(1, 10 * NOW_S, false);
        check(u64::MAX, 10 * NOW_S, false);
        check(0, 0, false);
    }

    #[test]
    fn one_tick_a_second_and_one_a_minute() {
        let second = Rate::new(Mode::Second, 1).unwrap();
        assert_eq!(second.sequence_at(NOW_NS), Sequence(1_795_291_200));
        assert_eq!(second.sequence_at(NOW_NS - 1), Sequence(1_795_291_199));
        assert_eq!(second.epoch_ms(Sequence(1_795_291_200)), 1_795_291_200_000);
        assert_eq!(second.phases(), 1_000);

        let minute = Rate::new(Mode::Minute, 1).unwrap();
        assert_eq!(minute.sequence_at(NOW_NS), Sequence(1_795_291_200 / 60));
        assert_eq!(minute.due_ns(minute.sequence_at(NOW_NS) + 1), NOW_NS + 60 * SECOND);
        assert_eq!(minute.phases(), 60_000);
    }

    #[test]
    fn a_batch_holds_what_is_due_within_the_window() {
        let check = |ticks, window_ms, expected| {
            assert_eq!(Rate::new(Mode::Second, ticks).unwrap().ticks_within(window_ms), expected);
        };
        check(1, 5, 1);
        check(200, 5, 1);
        check(201, 5, 2);
        check(300, 5, 2);
        check(10_000, 5, 50);
        check(10_000, 0, 1);
        check(10_000_000, 1_000, 10_000_000);
    }

    #[test]
    fn a_rate_out_of_range_is_refused() {
        assert!(Rate::new(Mode::Second, 0).is_err());
        assert!(Rate::new(Mode::Second, Rate::PER_SECOND_MAX + 1).is_err());
        assert!(Rate::new(Mode::Minute, Rate::PER_MINUTE_MAX).is_ok());
    }

    proptest! {
        #[test]
        fn a_tick_is_due_exactly_when_its_sequence_is_reached(
            minute in any::<bool>(), ticks in 1..=Rate::PER_SECOND_MAX, offset in 0..100_000_000u64,
        ) {
            let rate = Rate::new(if minute { Mode::Minute } else { Mode::Second }, ticks).unwrap();
            let sequence = rate.sequence_at(NOW_NS) + offset;
            let due = rate.due_ns(sequence);
            prop_assert_eq!(rate.sequence_at(due), sequence);
            prop_assert!(rate.sequence_at(due - 1) < sequence);
            prop_assert!(rate.epoch_ms(sequence) <= due / MS);
            prop_assert!(rate.epoch_ms(sequence) + 1 >= due / MS);
            prop_assert!(rate.sequence_at(FAR_FUTURE_NS) > sequence);
        }
    }
}
