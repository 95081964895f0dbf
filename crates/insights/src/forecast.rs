//! Forecasts with intervals: Holt-Winters' additive smoothing, its constants chosen by the least squared errors of one step.
//! Intervals are those of the additive-error model (Hyndman, Koehler, Ord and Snyder, 2008, table 6.1).

use crate::statistics::{mean, normal_quantile};

/// Smoothing constants, each from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoothing {
    /// Of the level.
    pub level: f64,
    /// Of the trend.
    pub trend: f64,
    /// Of the season.
    pub season: f64,
}

/// The forecast of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Expected value.
    pub value: f64,
    /// Bounds within which it is with the asked probability.
    pub interval: (f64, f64),
}

/// Level, trend and season after some values.
#[derive(Clone, Debug)]
struct State {
    level: f64,
    trend: f64,
    /// Of the next values; one entry without a season.
    season: Vec<f64>,
}

/// Forecasts `steps` values. `season`: its length, 1 for none. `coverage`: probability of the intervals, between 0 and 1.
/// None with fewer than two seasons (or four values), or with values that aren't finite.
pub fn forecast(values: &[f64], season: usize, steps: usize, coverage: f64) -> Option<Vec<Step>> {
    let smoothing = fit(values, season)?;
    Some(forecast_with(values, season, steps, coverage, smoothing)?.0)
}

/// The same with given constants; also the sum of squared errors of one step.
pub fn forecast_with(
    values: &[f64],
    season: usize,
    steps: usize,
    coverage: f64,
    smoothing: Smoothing,
) -> Option<(Vec<Step>, f64)> {
    let (state, errors) = smooth(values, season, smoothing)?;
    let deviation = deviation(values, season, errors);
    let mut growth = 1.0_f64;
    let step = |n: usize| {
        let found = Step::new(state.value(n), deviation * growth.sqrt(), coverage);
        growth += smoothing.share(n, season).powi(2);
        found
    };
    Some(((1..=steps).map(step).collect(), errors))
}

/// Forecasts the sum of the next `steps` values. Its interval is narrower than the sum of theirs, and wider than that of independent
/// ones: the error of a step is in all later ones, too.
pub fn forecast_sum(values: &[f64], season: usize, steps: usize, coverage: f64) -> Option<Step> {
    sum_with(values, season, steps, coverage, fit(values, season)?)
}

fn sum_with(
    values: &[f64],
    season: usize,
    steps: usize,
    coverage: f64,
    smoothing: Smoothing,
) -> Option<Step> {
    let (state, errors) = smooth(values, season, smoothing)?;
    // From the last step's error, which is in one value, to the first one's.
    let (mut weight, mut growth) = (1.0_f64, 0.0_f64);
    for n in 1..=steps {
        growth += weight.powi(2);
        weight += smoothing.share(n, season);
    }
    let sum = (1..=steps).map(|n| state.value(n)).sum();
    Some(Step::new(sum, deviation(values, season, errors) * growth.sqrt(), coverage))
}

/// Standard deviation of the errors of one step.
fn deviation(values: &[f64], season: usize, errors: f64) -> f64 {
    let parameters = if season > 1 { 3.0 } else { 2.0 };
    (errors / (values.len() as f64 - parameters).max(1.0)).sqrt()
}

impl Step {
    fn new(value: f64, deviation: f64, coverage: f64) -> Self {
        let half = deviation * normal_quantile((1.0 - coverage.clamp(0.0, 1.0)) / 2.0);
        Self { value, interval: (value - half, value + half) }
    }
}

impl Smoothing {
    /// Share of a step's error that is in the value `n` steps later.
    fn share(&self, n: usize, season: usize) -> f64 {
        let is_season_end = season > 1 && n.is_multiple_of(season);
        let of_season = if is_season_end { self.season * (1.0 - self.level) } else { 0.0 };
        self.level * (1.0 + n as f64 * self.trend) + of_season
    }
}

/// The first step whose upper bound reaches a limit, counted from 1.
pub fn reaches(steps: &[Step], limit: f64) -> Option<usize> {
    steps.iter().position(|step| step.interval.1 >= limit).map(|place| place + 1)
}

/// Constants with the least sum of squared errors: a grid, then ever finer steps along each of them.
pub fn fit(values: &[f64], season: usize) -> Option<Smoothing> {
    let errors = |[level, trend, season_share]: [f64; 3]| {
        let smoothing = Smoothing { level, trend, season: season_share };
        smooth(values, season, smoothing).map(|(_, errors)| errors)
    };
    let seasons: &[f64] = if season > 1 { &[0.05, 0.3, 0.7] } else { &[0.0] };
    let mut best = ([0.5, 0.1, seasons[0]], errors([0.5, 0.1, seasons[0]])?);
    let try_out = |candidate: [f64; 3], best: &mut ([f64; 3], f64)| {
        if let Some(found) = errors(candidate).filter(|found| *found < best.1) {
            *best = (candidate, found);
        }
    };
    for level in [0.05, 0.3, 0.6, 0.9] {
        for trend in [0.0, 0.05, 0.3] {
            seasons.iter().for_each(|season| try_out([level, trend, *season], &mut best));
        }
    }
    let places = if season > 1 { 3 } else { 2 };
    let mut width = 0.16;
    while width > 0.0005 {
        let before = best.1;
        for place in 0..places {
            for change in [-width, width] {
                let mut candidate = best.0;
                candidate[place] = (candidate[place] + change).clamp(0.0, 1.0);
                try_out(candidate, &mut best);
            }
        }
        if best.1 >= before {
            width /= 2.0;
        }
    }
    let [level, trend, season] = best.0;
    Some(Smoothing { level, trend, season })
}

/// The state after all values, and the sum of squared errors of one step.
fn smooth(values: &[f64], season: usize, smoothing: Smoothing) -> Option<(State, f64)> {
    let mut state = State::begin(values, season)?;
    let mut errors = 0.0;
    for (place, value) in values.iter().enumerate() {
        let slot = place % state.season.len();
        let error = value - (state.level + state.trend + state.season[slot]);
        errors += error * error;
        state.level += state.trend + smoothing.level * error;
        state.trend += smoothing.level * smoothing.trend * error;
        if season > 1 {
            state.season[slot] += smoothing.season * (1.0 - smoothing.level) * error;
        }
    }
    let next = values.len() % state.season.len();
    state.season.rotate_left(next);
    Some((state, errors))
}

impl State {
    /// Expected value in `n` steps.
    fn value(&self, n: usize) -> f64 {
        self.level + n as f64 * self.trend + self.season[(n - 1) % self.season.len()]
    }

    /// From the first two seasons, or the first values: their mean, their growth, and the deviations from the line.
    fn begin(values: &[f64], season: usize) -> Option<Self> {
        if values.len() < (2 * season).max(4) || season == 0 || !values.iter().all(|value| value.is_finite())
        {
            return None;
        }
        if season == 1 {
            let trend = values[1] - values[0];
            return Some(Self { level: values[0] - trend, trend, season: vec![0.0] });
        }
        let (first, second) = (mean(&values[..season])?, mean(&values[season..2 * season])?);
        let trend = (second - first) / season as f64;
        let middle = (season as f64 - 1.0) / 2.0;
        let on_line = |place: usize| first + (place as f64 - middle) * trend;
        let deviations = (0..season)
            .map(|n| f64::midpoint(values[n] - on_line(n), values[n + season] - on_line(n + season)))
            .collect();
        Some(Self { level: on_line(0) - trend, trend, season: deviations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_a_season_goes_on() {
        let value = |n: usize| 100.0 + 2.0 * n as f64 + [5.0, -3.0, 0.0, -2.0][n % 4];
        let values: Vec<_> = (0..42).map(value).collect();
        let found = forecast(&values, 4, 8, 0.95).expect("a forecast");
        for (step, n) in found.iter().zip(42..) {
            assert!(
                (step.value - value(n)).abs() < 1e-6 && step.interval.1 - step.interval.0 < 1e-6,
                "{step:?}"
            );
        }
        assert_eq!(reaches(&found, 190.0), Some(3));
        assert_eq!(reaches(&found, 1e9), None);
    }

    #[test]
    fn too_little_is_no_forecast() {
        assert_eq!(forecast(&[1.0, 2.0, 3.0], 1, 1, 0.9), None);
        assert_eq!(forecast(&[1.0; 7], 4, 1, 0.9), None);
        assert_eq!(forecast(&[1.0, f64::NAN, 1.0, 1.0], 1, 1, 0.9), None);
        assert_eq!(forecast(&[1.0; 8], 0, 1, 0.9), None);
    }

    /// Of forecasts over a random walk with drift, about 80 % are within their 80 % interval, near and far.
    #[test]
    fn intervals_cover_what_they_say() {
        let mut random = fastrand::Rng::with_seed(2);
        let mut inside = [0; 2];
        const SERIES: usize = 500;
        for _ in 0..SERIES {
            let mut level = 0.0;
            let mut next = || {
                level += 1.0 + (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
                level
            };
            let values: Vec<_> = (0..110).map(|_| next()).collect();
            let smoothing = Smoothing { level: 1.0, trend: 0.0, season: 0.0 };
            let (steps, _) =
                forecast_with(&drifting(&values[..100]), 1, 10, 0.8, smoothing).expect("a forecast");
            for (count, n) in inside.iter_mut().zip([1, 10]) {
                let drift = (n + 99) as f64;
                let (low, high) = steps[n - 1].interval;
                *count += usize::from((low + drift..=high + drift).contains(&values[99 + n]));
            }
        }
        assert!(
            inside.iter().all(|count| (SERIES * 75 / 100..=SERIES * 85 / 100).contains(count)),
            "{inside:?}"
        );
    }

    /// Of sums over 30 steps of a level that wanders, about 80 % are within their 80 % interval; more are within the summed
    /// bounds of the steps.
    #[test]
    fn the_interval_of_a_sum_covers_what_it_says() {
        let mut random = fastrand::Rng::with_seed(5);
        let smoothing = Smoothing { level: 0.3, trend: 0.0, season: 0.0 };
        let (mut inside, mut inside_of_bounds) = (0, 0);
        const SERIES: usize = 500;
        for _ in 0..SERIES {
            let mut level = 100.0;
            let mut next = || {
                let error = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
                level += 0.3 * error;
                level + 0.7 * error
            };
            // Begun with two equal values, so that the trend is 0.
            let mut values = vec![100.0; 2];
            values.extend((0..228).map(|_| next()));
            let (known, later) = values.split_at(200);
            let sum: f64 = later.iter().sum();
            let is_inside = |(low, high): (f64, f64)| usize::from((low..=high).contains(&sum));
            inside += is_inside(sum_with(known, 1, 30, 0.8, smoothing).expect("a forecast").interval);
            let (steps, _) = forecast_with(known, 1, 30, 0.8, smoothing).expect("a forecast");
            let bound = |of: fn(&Step) -> f64| steps.iter().map(of).sum();
            inside_of_bounds += is_inside((bound(|step| step.interval.0), bound(|step| step.interval.1)));
        }
        assert!((SERIES * 75 / 100..=SERIES * 85 / 100).contains(&inside), "{inside} of {SERIES}");
        assert!(inside_of_bounds > SERIES * 85 / 100, "{inside_of_bounds} of {SERIES}");
    }

    /// Without the drift of 1 a step, begun with two equal values so that the trend is 0.
    fn drifting(values: &[f64]) -> Vec<f64> {
        let mut without: Vec<_> = values.iter().enumerate().map(|(n, value)| value - n as f64).collect();
        without[0] = without[1];
        without
    }
}
