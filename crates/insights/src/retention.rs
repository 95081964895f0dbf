//! Retention, lifecycle and stickiness of persons. Cells of periods that aren't over are empty.

mod lifecycle;

use std::collections::BTreeMap;

pub use lifecycle::{Lifecycle, lifecycle, stickiness};

/// Start and return events of a person, each sorted by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// Times of the start event.
    pub starts: Vec<i64>,
    /// Times of the return event.
    pub returns: Vec<i64>,
}

/// Membership of cohorts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cohorts {
    /// The period of the first start event ever.
    FirstTime,
    /// Each period with a start event, from its first one there.
    Recurring,
}

/// The grid of periods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Periods {
    /// Between neighbouring bounds, which rise: days, weeks or months of a time zone.
    Calendar(Vec<i64>),
    /// Multiples of this length, such as 24 hours, from each person's own start event. Cohorts are by the same length
    /// since time 0.
    FromStart(i64),
}

/// Rules of a retention report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionRules {
    /// Membership.
    pub cohorts: Cohorts,
    /// The grid.
    pub periods: Periods,
    /// Number of periods after the first.
    pub count: usize,
    /// Return events that a period needs.
    pub times: usize,
    /// A return in the period or later counts.
    pub is_rolling: bool,
    /// Periods that end later aren't over.
    pub now: i64,
}

/// One row of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cohort {
    /// Begin of its period.
    pub begin: i64,
    /// Persons in it.
    pub size: u64,
    /// Persons who returned in period 1, 2 and so on after the start's; none where the period isn't over for all.
    pub retained: Vec<Option<u64>>,
}

/// Cohorts by time, without empty ones.
pub fn retention(persons: &[Person], rules: &RetentionRules) -> Vec<Cohort> {
    let mut cohorts = BTreeMap::<i64, Cohort>::new();
    for person in persons {
        for (period, start) in rules.memberships(person) {
            let begin = rules.periods.begin(period);
            let cohort = cohorts.entry(period).or_insert_with(|| Cohort {
                begin,
                size: 0,
                retained: (1..=rules.count).map(|n| rules.is_over(period, n).then_some(0)).collect(),
            });
            cohort.size += 1;
            let counts = rules.returns(person, period, start);
            for (cell, has_returned) in cohort.retained.iter_mut().zip(counts) {
                if let Some(cell) = cell {
                    *cell += u64::from(has_returned);
                }
            }
        }
    }
    cohorts.into_values().collect()
}

impl RetentionRules {
    /// Periods that a person belongs to, each with the start event there.
    fn memberships(&self, person: &Person) -> Vec<(i64, i64)> {
        let in_period = |start: &i64| Some((self.periods.of(*start)?, *start));
        match self.cohorts {
            Cohorts::FirstTime => person.starts.first().and_then(in_period).into_iter().collect(),
            Cohorts::Recurring => {
                let mut all: Vec<_> = person.starts.iter().filter_map(in_period).collect();
                all.dedup_by_key(|(period, _)| *period);
                all
            }
        }
    }

    /// For each period after the start's: the person returned often enough.
    fn returns(&self, person: &Person, period: i64, start: i64) -> Vec<bool> {
        let mut counts = vec![0; self.count];
        let from = person.returns.partition_point(|time| *time < start);
        for time in person.returns[from..].iter().filter(|time| **time < self.now) {
            let after = match &self.periods {
                Periods::Calendar(_) => self.periods.of(*time).map_or(0, |other| other - period),
                Periods::FromStart(length) => (time - start) / length,
            };
            if let Some(count) = usize::try_from(after - 1).ok().and_then(|place| counts.get_mut(place)) {
                *count += 1;
            }
        }
        let mut returned: Vec<_> = counts.iter().map(|count| *count >= self.times.max(1)).collect();
        if self.is_rolling {
            for place in (1..returned.len()).rev() {
                returned[place - 1] |= returned[place];
            }
        }
        returned
    }

    /// The n-th period after this one is over for all of the cohort. A rolling cell needs the last period of the report.
    fn is_over(&self, period: i64, n: usize) -> bool {
        let n = if self.is_rolling { self.count } else { n } as i64;
        match &self.periods {
            Periods::Calendar(bounds) => {
                let end = usize::try_from(period + n + 1).ok().and_then(|place| bounds.get(place));
                end.is_some_and(|end| *end <= self.now)
            }
            // The last of the cohort may start at the end of its period.
            Periods::FromStart(length) => (period + n + 2).saturating_mul(*length) <= self.now,
        }
    }
}

impl Periods {
    fn of(&self, time: i64) -> Option<i64> {
        match self {
            Self::Calendar(bounds) => {
                let place = bounds.partition_point(|bound| *bound <= time);
                (place > 0 && place < bounds.len()).then_some(place as i64 - 1)
            }
            Self::FromStart(length) => (*length > 0).then(|| time.div_euclid(*length)),
        }
    }

    fn begin(&self, period: i64) -> i64 {
        match self {
            Self::Calendar(bounds) => {
                usize::try_from(period).ok().and_then(|place| bounds.get(place)).copied().unwrap_or(0)
            }
            Self::FromStart(length) => period.saturating_mul(*length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(cohorts: Cohorts, periods: Periods) -> RetentionRules {
        RetentionRules { cohorts, periods, count: 3, times: 1, is_rolling: false, now: 100 }
    }

    /// Days of 10 from 0 to 100.
    fn days() -> Periods {
        Periods::Calendar((0..=10).map(|day| day * 10).collect())
    }

    fn person(starts: &[i64], returns: &[i64]) -> Person {
        Person { starts: starts.to_vec(), returns: returns.to_vec() }
    }

    #[track_caller]
    fn check(persons: &[Person], rules: &RetentionRules, expected: &[(i64, u64, [Option<u64>; 3])]) {
        let found: Vec<_> = retention(persons, rules)
            .into_iter()
            .map(|cohort| (cohort.begin, cohort.size, <[_; 3]>::try_from(cohort.retained).expect("3 cells")))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn calendar_days_and_24_hours_differ() {
        // Starts late on day 0, returns early on day 1: the next day, but not 24 hours later.
        let persons = [person(&[9], &[11])];
        let by_day = rules(Cohorts::FirstTime, days());
        check(&persons, &by_day, &[(0, 1, [Some(1), Some(0), Some(0)])]);
        let by_hours = rules(Cohorts::FirstTime, Periods::FromStart(10));
        check(&persons, &by_hours, &[(0, 1, [Some(0), Some(0), Some(0)])]);
        check(&[person(&[9], &[19])], &by_hours, &[(0, 1, [Some(1), Some(0), Some(0)])]);
    }

    #[test]
    fn first_time_and_recurring_cohorts() {
        let persons = [person(&[1, 2, 21], &[15, 31])];
        let first = rules(Cohorts::FirstTime, days());
        check(&persons, &first, &[(0, 1, [Some(1), Some(0), Some(1)])]);
        let recurring = rules(Cohorts::Recurring, days());
        check(
            &persons,
            &recurring,
            &[(0, 1, [Some(1), Some(0), Some(1)]), (20, 1, [Some(1), Some(0), Some(0)])],
        );
    }

    #[test]
    fn unfinished_cells_are_empty() {
        let persons = [person(&[75], &[85, 95])];
        check(&persons, &rules(Cohorts::FirstTime, days()), &[(70, 1, [Some(1), Some(1), None])]);
        let by_hours = rules(Cohorts::FirstTime, Periods::FromStart(10));
        check(&persons, &by_hours, &[(70, 1, [Some(1), None, None])]);
    }

    #[test]
    fn several_returns_and_rolling() {
        let persons = [person(&[1], &[11, 31, 32])];
        let twice = RetentionRules { times: 2, ..rules(Cohorts::FirstTime, days()) };
        check(&persons, &twice, &[(0, 1, [Some(0), Some(0), Some(1)])]);
        let rolling = RetentionRules { is_rolling: true, ..rules(Cohorts::FirstTime, days()) };
        check(&persons, &rolling, &[(0, 1, [Some(1), Some(1), Some(1)])]);
        check(&[person(&[1], &[11])], &rolling, &[(0, 1, [Some(1), Some(0), Some(0)])]);
    }

    #[test]
    fn events_outside_of_the_grid_are_left_out() {
        check(&[person(&[-5], &[5]), person(&[], &[5])], &rules(Cohorts::FirstTime, days()), &[]);
    }
}
