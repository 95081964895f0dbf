//! A detector for one series as it streams, in bounded memory.
//!
//! Four features are compared with their own recent past: the value, the mean of the last 10, the spread of the last
//! 20, and the difference to the same time of the day before. A feature raises an alarm when its deviation is 1.3 times
//! the largest one so far; the record fades. A value clearly outside the range seen so far raises one, too. After an alarm
//! the detector is quiet for 100 points. `tests/nab.rs` scores it.

use std::collections::VecDeque;

/// Cause of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The value is far from its recent mean.
    Value,
    /// The mean of the last values is far from that before.
    Level,
    /// The values scatter more, or less, than before.
    Spread,
    /// The value differs from that of the day before, more than usual.
    Season,
    /// The value lies outside the range of all before.
    Range,
}

/// Factor by which a deviation must exceed the record.
const RECORD_FACTOR: f64 = 1.3;
/// Share of its distance from 0 that a record keeps with each point: half in some 50,000 points.
const RECORD_KEEP: f64 = 0.999_986;
/// Largest deviation that is told from larger ones, standard deviations.
const DEVIATION_MAX: f64 = 1_000.0;
/// Share of the range that a value must lie outside of it.
const RANGE_MARGIN: f64 = 0.05;
/// Points without another alarm.
const QUIET_POINTS: u64 = 100;
/// Share of a feature's overall deviation that its recent one is at least taken for.
const SPREAD_FLOOR: f64 = 0.02;

/// A streaming detector; its memory doesn't grow.
#[derive(Clone, Debug)]
pub struct Detector {
    warmup: u64,
    points: u64,
    last_alarm: Option<u64>,
    range: Option<(f64, f64)>,
    last_10: Window,
    last_20: Window,
    differences: Window,
    day: VecDeque<f64>,
    points_a_day: usize,
    features: [Feature; 4],
}

impl Detector {
    /// A detector that is silent for `warmup` points. `points_a_day` of 0: no comparison with the day before.
    pub fn new(warmup: u64, points_a_day: usize) -> Self {
        let feature = |cause, window| Feature::new(cause, window);
        Self {
            warmup,
            points: 0,
            last_alarm: None,
            range: None,
            last_10: Window::new(10),
            last_20: Window::new(20),
            differences: Window::new(5),
            day: VecDeque::new(),
            points_a_day,
            features: [
                feature(Cause::Value, 1_000),
                feature(Cause::Level, 400),
                feature(Cause::Spread, 400),
                feature(Cause::Season, 600),
            ],
        }
    }

    /// Takes the next value; gives what is unusual about it, if an alarm is due. Values that aren't finite are skipped.
    pub fn push(&mut self, value: f64) -> Option<Cause> {
        if !value.is_finite() {
            return None;
        }
        let is_warm = self.points >= self.warmup;
        let may_learn = self.points >= self.warmup / 2;
        let mut cause = self.outside(value).then_some(Cause::Range);
        for (feature, value) in self.measure(value).into_iter().enumerate() {
            let feature = &mut self.features[feature];
            let is_record = value.is_some_and(|value| feature.push(value, may_learn, is_warm));
            cause = cause.or(is_record.then_some(feature.cause));
        }
        let is_quiet = self.last_alarm.is_some_and(|last| self.points - last <= QUIET_POINTS);
        let alarm = cause.filter(|_| is_warm && !is_quiet);
        if alarm.is_some() {
            self.last_alarm = Some(self.points);
        }
        self.points += 1;
        alarm
    }

    /// Values of the features, where there are enough points.
    fn measure(&mut self, value: f64) -> [Option<f64>; 4] {
        self.last_10.push(value);
        self.last_20.push(value);
        let mut season = None;
        if self.points_a_day > 0 {
            if self.day.len() == self.points_a_day
                && let Some(before) = self.day.pop_front()
            {
                self.differences.push(value - before);
                season = Some(self.differences.mean());
            }
            self.day.push_back(value);
        }
        let spread = (self.last_20.len() >= 5).then(|| self.last_20.deviation());
        [Some(value), Some(self.last_10.mean()), spread, season]
    }

    fn outside(&mut self, value: f64) -> bool {
        let Some((low, high)) = self.range else {
            self.range = Some((value, value));
            return false;
        };
        self.range = Some((low.min(value), high.max(value)));
        (low - value).max(value - high) > RANGE_MARGIN * (high - low)
    }
}

/// One feature with its recent past and its record.
#[derive(Clone, Debug)]
struct Feature {
    cause: Cause,
    recent: Window,
    /// Of all values: number, mean, sum of squared deviations (Welford).
    all: (f64, f64, f64),
    record: f64,
}

impl Feature {
    fn new(cause: Cause, window: usize) -> Self {
        Self { cause, recent: Window::new(window), all: (0.0, 0.0, 0.0), record: 0.0 }
    }

    /// Takes a value; says whether its deviation is a record to tell of. Without `is_warm`, records are only learnt.
    fn push(&mut self, value: f64, may_learn: bool, is_warm: bool) -> bool {
        self.record *= RECORD_KEEP;
        let deviation = self.deviation(value).filter(|_| may_learn).unwrap_or(0.0);
        let is_record = is_warm && deviation > RECORD_FACTOR * self.record && deviation > 0.0;
        if is_record || (!is_warm && deviation > self.record) {
            self.record = deviation;
        }
        self.recent.push(value);
        let (count, mean, squares) = self.all;
        let next = mean + (value - mean) / (count + 1.0);
        self.all = (count + 1.0, next, squares + (value - mean) * (value - next));
        is_record
    }

    /// Distance to the recent mean, in recent standard deviations.
    fn deviation(&self, value: f64) -> Option<f64> {
        if self.recent.len() * 4 < self.recent.size {
            return None;
        }
        let overall = (self.all.2 / (self.all.0 - 1.0).max(1.0)).sqrt();
        let scale = self.recent.deviation() + SPREAD_FLOOR * overall;
        let distance = (value - self.recent.mean()).abs();
        // Sums of floats leave a rest where all values are the same.
        let is_rest = distance <= 1e-9 * self.recent.mean().abs();
        Some(if is_rest { 0.0 } else { (distance / scale).min(DEVIATION_MAX) })
    }
}

/// The newest values, with their sum and sum of squares about a shift.
#[derive(Clone, Debug)]
struct Window {
    size: usize,
    values: VecDeque<f64>,
    shift: f64,
    sum: f64,
    squares: f64,
    until_exact: usize,
}

impl Window {
    fn new(size: usize) -> Self {
        Self { size, values: VecDeque::new(), shift: 0.0, sum: 0.0, squares: 0.0, until_exact: 0 }
    }

    fn len(&self) -> usize {
        self.values.len()
    }

    fn push(&mut self, value: f64) {
        if self.values.len() == self.size
            && let Some(oldest) = self.values.pop_front()
        {
            self.sum -= oldest - self.shift;
            self.squares -= (oldest - self.shift).powi(2);
        }
        self.values.push_back(value);
        self.sum += value - self.shift;
        self.squares += (value - self.shift).powi(2);
        // Rounding errors of the running sums must not pile up.
        match self.until_exact.checked_sub(1) {
            Some(left) => self.until_exact = left,
            None => self.sum_anew(),
        }
    }

    fn sum_anew(&mut self) {
        self.shift += self.sum / self.values.len().max(1) as f64;
        self.sum = self.values.iter().map(|value| value - self.shift).sum();
        self.squares = self.values.iter().map(|value| (value - self.shift).powi(2)).sum();
        self.until_exact = self.size;
    }

    fn mean(&self) -> f64 {
        self.shift + self.sum / self.values.len().max(1) as f64
    }

    /// Standard deviation of the sample.
    fn deviation(&self) -> f64 {
        let count = self.values.len() as f64;
        let squares = self.squares - self.sum * self.sum / count.max(1.0);
        (squares.max(0.0) / (count - 1.0).max(1.0)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarms(values: impl Iterator<Item = f64>) -> Vec<(usize, Cause)> {
        let mut detector = Detector::new(750, 0);
        values.enumerate().filter_map(|(place, value)| Some((place, detector.push(value)?))).collect()
    }

    fn noise() -> impl Iterator<Item = f64> {
        let mut random = fastrand::Rng::with_seed(5);
        std::iter::repeat_with(move || 100.0 + random.f64())
    }

    #[test]
    fn a_spike_raises_one_alarm() {
        let spiked = noise().take(2_000).enumerate().map(|(n, value)| if n == 900 { 120.0 } else { value });
        assert_eq!(alarms(spiked), [(900, Cause::Range)]);
    }

    #[test]
    fn a_series_that_stops_to_move_raises_one() {
        let stuck = noise().take(2_000).enumerate().map(|(n, value)| if n >= 900 { 100.5 } else { value });
        let found = alarms(stuck);
        assert!(found.len() == 1 && (900..930).contains(&found[0].0), "{found:?}");
    }

    #[test]
    fn flat_and_unusable_values_raise_none() {
        assert!(alarms(std::iter::repeat_n(0.1, 5_000)).is_empty());
        assert!(alarms([f64::NAN, f64::INFINITY].into_iter().cycle().take(5_000)).is_empty());
    }

    #[test]
    fn running_sums_stay_exact() {
        let mut window = Window::new(50);
        for value in noise().take(100_000).chain(std::iter::repeat_n(1e6, 50)) {
            window.push(value);
        }
        assert!((window.mean() - 1e6).abs() < 1e-6 && window.deviation() < 0.1, "{window:?}");
    }
}
