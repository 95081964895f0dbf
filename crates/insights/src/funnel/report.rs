//! A funnel over all persons: levels, breakdown, times to convert.

use std::collections::BTreeMap;

use super::Conversion;
use crate::statistics::median;

/// Figures of one value of the breakdown.
#[derive(Clone, Debug, Default)]
pub struct Breakdown {
    /// Persons who did at least step n, counted from 0.
    reached: Vec<u64>,
    /// Times from step n to the next.
    durations: Vec<Vec<f64>>,
    excluded: u64,
}

impl Breakdown {
    /// Persons who did at least this step, counted from 0.
    pub fn reached(&self, step: usize) -> u64 {
        self.reached.get(step).copied().unwrap_or(0)
    }

    /// Share of those who did step 0 that did this one; none where nobody began.
    pub fn share(&self, step: usize) -> Option<f64> {
        let begun = self.reached(0);
        (begun > 0).then(|| self.reached(step) as f64 / begun as f64)
    }

    /// Median time from the step before to this one, in units of the events' times.
    pub fn median_time(&self, step: usize) -> Option<f64> {
        median(self.durations.get(step.checked_sub(1)?)?)
    }

    /// Persons whose furthest attempt was ended by an exclusion.
    pub fn excluded(&self) -> u64 {
        self.excluded
    }

    fn add(&mut self, conversion: &Conversion) {
        let level = conversion.level();
        self.reached.resize(self.reached.len().max(level), 0);
        self.reached[..level].iter_mut().for_each(|count| *count += 1);
        self.durations.resize(self.durations.len().max(level.saturating_sub(1)), Vec::new());
        for (durations, times) in self.durations.iter_mut().zip(conversion.times.windows(2)) {
            durations.push((times[1] - times[0]) as f64);
        }
        self.excluded += u64::from(conversion.is_excluded);
    }
}

/// A funnel over all persons, by a value such as the platform of the first step.
#[derive(Clone, Debug, Default)]
pub struct Report {
    by_value: BTreeMap<String, Breakdown>,
}

impl Report {
    /// Adds one person. Those that an exclusion ended count for the steps that they did.
    pub fn add(&mut self, value: &str, conversion: &Conversion) {
        self.by_value.entry(value.to_owned()).or_default().add(conversion);
    }

    /// Figures by value, in the order of values.
    pub fn by_value(&self) -> impl Iterator<Item = (&str, &Breakdown)> {
        self.by_value.iter().map(|(value, breakdown)| (value.as_str(), breakdown))
    }
}
