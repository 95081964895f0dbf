//! Counts against the same weekday and hour of the weeks before: median, and the median absolute deviation (MAD) as the
//! measure of what is usual. Few events are no evidence: small counts and small differences raise no alarm.

use std::collections::BTreeMap;

use crate::statistics::{median, scaled_mad};

const HOUR_S: i64 = 3_600;
const HOURS_A_WEEK: i64 = 168;

/// Limits of a seasonal baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Weeks that must be known of an hour.
    pub weeks_min: usize,
    /// Deviations from the median that are unusual.
    pub deviations: f64,
    /// Counts that are both below this raise no alarm.
    pub count_floor: f64,
    /// Differences below this raise no alarm.
    pub difference_floor: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { weeks_min: 3, deviations: 4.0, count_floor: 20.0, difference_floor: 10.0 }
    }
}

/// A count beside what is usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assessment {
    /// Median of the weeks before.
    pub expected: f64,
    /// Smallest and largest usual count.
    pub usual: (f64, f64),
    /// The count is outside, and neither floor forbids an alarm.
    pub is_anomaly: bool,
}

/// Counts by hour of the week.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    by_hour: BTreeMap<i64, Vec<f64>>,
}

impl Baseline {
    /// A baseline from hours (Unix time of their begin, seconds, of the time zone that has the season) and their counts.
    /// Hours without events must be there, with 0.
    pub fn new(hours: &[(i64, f64)]) -> Self {
        let mut by_hour = BTreeMap::<_, Vec<_>>::new();
        for (time, count) in hours {
            by_hour.entry(hour_of_week(*time)).or_default().push(*count);
        }
        Self { by_hour }
    }

    /// Compares the count of an hour; none where too few weeks are known.
    pub fn assess(&self, time: i64, count: f64, limits: &Limits) -> Option<Assessment> {
        let known = self.by_hour.get(&hour_of_week(time)).filter(|known| known.len() >= limits.weeks_min)?;
        let (expected, mad) = (median(known)?, scaled_mad(known)?);
        // Counts scatter at least as Poisson's distribution does.
        let usual = limits.deviations * mad.max(expected.max(0.0).sqrt());
        let difference = (count - expected).abs();
        let is_much = count.max(expected) >= limits.count_floor && difference >= limits.difference_floor;
        Some(Assessment {
            expected,
            usual: ((expected - usual).max(0.0), expected + usual),
            is_anomaly: difference > usual && is_much,
        })
    }
}

fn hour_of_week(time: i64) -> i64 {
    time.div_euclid(HOUR_S).rem_euclid(HOURS_A_WEEK)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four weeks: 1,000 an hour, 100 in each week's hour 5, 2 in hour 6.
    fn baseline() -> Baseline {
        let count = |hour: i64| match hour % HOURS_A_WEEK {
            5 => 100.0,
            6 => 2.0,
            _ => 1_000.0 + (hour / HOURS_A_WEEK) as f64,
        };
        let hours: Vec<_> = (0..4 * HOURS_A_WEEK).map(|hour| (hour * HOUR_S, count(hour))).collect();
        Baseline::new(&hours)
    }

    #[track_caller]
    fn check(hour: i64, count: f64, expected: bool) {
        let time = (4 * HOURS_A_WEEK + hour) * HOUR_S;
        let found = baseline().assess(time, count, &Limits::default()).expect("a known hour");
        assert_eq!(found.is_anomaly, expected, "{found:?}");
    }

    #[test]
    fn each_hour_has_its_own_baseline() {
        check(5, 100.0, false);
        check(4, 100.0, true);
        check(5, 141.0, true);
        check(5, 139.0, false);
        check(4, 1_050.0, false);
    }

    #[test]
    fn few_events_are_no_anomaly() {
        check(6, 19.0, false);
        check(6, 30.0, true);
        check(6, 0.0, false);
    }

    #[test]
    fn unknown_hours_have_no_answer() {
        assert_eq!(Baseline::new(&[(0, 1.0), (604_800, 1.0)]).assess(0, 1.0, &Limits::default()), None);
    }
}
