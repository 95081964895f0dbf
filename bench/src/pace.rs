//! Work at a rate rather than at an arrival: opening, heartbeats, churn. All of it is a function of the
//! time since the start, so that a late wake-up catches up and nothing keeps a timer of its own.

/// Something that happens `count` times in every `interval_us`, evenly spread.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    started_us: u64,
    count: u64,
    interval_us: u64,
    done: u64,
}

impl Pace {
    /// `count` times in every `interval_us`, which isn't 0, from `started_us` on.
    pub fn new(started_us: u64, count: u64, interval_us: u64) -> Self {
        assert!(interval_us > 0, "an interval has a length");
        Self { started_us, count, interval_us, done: 0 }
    }

    /// Number per interval.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// True for this number per interval.
    pub fn is(&self, count: u64, interval_us: u64) -> bool {
        (self.count, self.interval_us) == (count, interval_us)
    }

    /// The running numbers of what has become due since the last call; at most one interval's worth.
    pub fn due(&mut self, now_us: u64) -> std::ops::Range<u64> {
        let passed_us = u128::from(now_us.saturating_sub(self.started_us));
        let due = passed_us * u128::from(self.count) / u128::from(self.interval_us);
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        let from = self.done.max(due.saturating_sub(self.count.max(1)));
        self.done = self.done.max(due);
        from..self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_round_once_per_interval_and_evenly() {
        let mut pace = Pace::new(1_000_000, 100, 15_000_000);
        let mut seen = vec![0; 100];
        for step in 0..3_000 {
            let due = pace.due(1_000_000 + step * 10_000);
            assert!(due.end - due.start <= 1, "100 in 15 s are at most one in 10 ms");
            due.for_each(|at| seen[(at % 100) as usize] += 1);
        }
        assert!(seen.iter().all(|&times| (1..=2).contains(&times)), "{seen:?}");
    }

    #[test]
    fn a_long_pause_is_not_made_up_for_by_more_than_one_round() {
        let mut pace = Pace::new(0, 10, 1_000);
        assert_eq!(pace.due(10_000), 90..100);
        assert_eq!(pace.due(10_000), 100..100);
        assert_eq!(pace.due(9_000), 100..100, "a clock that was set back");
        assert_eq!(pace.due(10_100), 100..101);
    }

    #[test]
    fn nothing_is_never_due() {
        assert_eq!(Pace::new(0, 0, 1_000).due(1_000_000), 0..0);
    }
}
