//! Change points of a series' level: the segmentation with the least sum of squared deviations from the segments' means,
//! plus a penalty for each change, found exactly by PELT (Killick, Fearnhead and Eckley, 2012).

use crate::statistics::scaled_mad;

/// Smallest number of points between two changes.
const SEGMENT_MIN: usize = 2;

/// Places at which the level changes: of the first point of each segment but the first.
pub fn change_points(values: &[f64], penalty: f64) -> Vec<usize> {
    let sums = Sums::new(values);
    let count = values.len();
    let mut costs = vec![f64::INFINITY; count + 1];
    costs[0] = -penalty;
    let mut previous = vec![0; count + 1];
    // Begins of the last segment, each with the end at which it turned out to be needless.
    let mut candidates = Vec::<(usize, Option<usize>)>::new();
    for end in SEGMENT_MIN..=count {
        if costs[end - SEGMENT_MIN].is_finite() {
            candidates.push((end - SEGMENT_MIN, None));
        }
        // A change at that end replaces the begin, but not before a segment fits behind it.
        candidates.retain(|(_, needless)| needless.is_none_or(|at| end < at + SEGMENT_MIN));
        let cost = |begin: usize| costs[begin] + sums.cost(begin, end);
        let begins = candidates.iter().map(|(begin, _)| *begin);
        let best = begins.min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(0);
        let total = cost(best) + penalty;
        for (begin, needless) in candidates.iter_mut().filter(|(_, needless)| needless.is_none()) {
            *needless = (cost(*begin) > total).then_some(end);
        }
        (costs[end], previous[end]) = (total, best);
    }
    let mut found = Vec::new();
    let mut place = previous[count];
    while place > 0 {
        found.push(place);
        place = previous[place];
    }
    found.reverse();
    found
}

/// A usual penalty: 3 · variance · ln(points), the variance from differences of neighbours, which a change of the level
/// hardly moves.
pub fn default_penalty(values: &[f64]) -> f64 {
    let differences: Vec<_> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let deviation = scaled_mad(&differences).unwrap_or(0.0) / 2.0_f64.sqrt();
    3.0 * deviation * deviation * (values.len().max(1) as f64).ln()
}

/// Running sums, about the first value.
struct Sums {
    sums: Vec<(f64, f64)>,
}

impl Sums {
    fn new(values: &[f64]) -> Self {
        let shift = values.first().copied().unwrap_or(0.0);
        let mut sums = vec![(0.0, 0.0)];
        let (mut sum, mut squares) = (0.0, 0.0);
        for value in values {
            sum += value - shift;
            squares += (value - shift).powi(2);
            sums.push((sum, squares));
        }
        Self { sums }
    }

    /// Sum of squared deviations from the mean of the points from `begin` to before `end`.
    fn cost(&self, begin: usize, end: usize) -> f64 {
        let (sum, squares) = (self.sums[end].0 - self.sums[begin].0, self.sums[end].1 - self.sums[begin].1);
        squares - sum * sum / (end - begin) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_distinguished() {
        let mut random = fastrand::Rng::with_seed(1);
        let levels = [(0.0, 50), (5.0, 30), (4.0, 40), (-2.0, 60)];
        let values: Vec<_> = levels
            .iter()
            .flat_map(|(level, count)| std::iter::repeat_n(*level, *count))
            .map(|level| level + random.f64() - 0.5)
            .collect();
        assert_eq!(change_points(&values, default_penalty(&values)), [50, 80, 120]);
    }

    #[test]
    fn short_series_have_none() {
        assert_eq!(change_points(&[], 1.0), [0; 0]);
        assert_eq!(change_points(&[1.0], 1.0), [0; 0]);
        assert_eq!(change_points(&[1.0, 9.0], 1.0), [0; 0]);
        assert_eq!(change_points(&[1.0, 1.0, 9.0, 9.0], 1.0), [2]);
        assert_eq!(default_penalty(&[]), 0.0);
    }
}
