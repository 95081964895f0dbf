//! Results of A/B tests that may be looked at at any time: always-valid intervals and p-values by the mixture sequential
//! probability ratio test (Johari, Koomen, Pekelis and Walsh, 2017), and the test of the sample ratio.

use crate::statistics::chi_square_tail;

/// p-value below which the sample ratio is taken for wrong: usual for this test, since a broken split ruins everything.
pub const RATIO_ALARM: f64 = 0.001;

/// Measurements of one variant: number of persons, sum and sum of squares of their values. For conversions both sums are
/// the number of converted persons.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Variant {
    /// Persons who were exposed.
    pub count: f64,
    /// Sum over persons.
    pub sum: f64,
    /// Sum of squares over persons.
    pub squares: f64,
}

/// Difference of a variant from the control.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// Mean of the variant minus that of the control.
    pub difference: f64,
    /// Bounds that hold at all times together with the probability 1 - alpha.
    pub interval: (f64, f64),
    /// Always-valid p-value at this look; the smallest over all looks counts.
    pub p_value: f64,
}

impl Variant {
    /// A variant of persons who either converted or didn't.
    pub fn of_conversions(count: u64, converted: u64) -> Self {
        Self { count: count as f64, sum: converted as f64, squares: converted as f64 }
    }

    /// Mean of the persons' values.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }

    /// Variance of the mean.
    fn variance_of_mean(&self) -> Option<f64> {
        let variance = (self.squares - self.sum * self.sum / self.count) / (self.count - 1.0);
        (self.count > 1.0).then(|| variance.max(0.0) / self.count)
    }
}

/// Effect of a variant at error level `alpha`, with `prior` the standard deviation of effects that are expected (the
/// mixture). None with fewer than two persons in either, or where no person differs from another.
pub fn effect(control: &Variant, variant: &Variant, alpha: f64, prior: f64) -> Option<Effect> {
    let difference = variant.mean()? - control.mean()?;
    let noise = control.variance_of_mean()? + variant.variance_of_mean()?;
    let mixture = prior * prior;
    if noise <= 0.0 || mixture <= 0.0 {
        return None;
    }
    let log_ratio = 0.5 * (noise / (noise + mixture)).ln()
        + difference * difference * mixture / (2.0 * noise * (noise + mixture));
    let half = (noise * (noise + mixture) / mixture
        * (2.0 * (1.0 / alpha).ln() + ((noise + mixture) / noise).ln()))
    .sqrt();
    Some(Effect {
        difference,
        interval: (difference - half, difference + half),
        p_value: (-log_ratio).exp().min(1.0),
    })
}

/// p-value of the counts under the planned shares (chi-square test); small: the split is broken. None without counts, or
/// with a share that isn't above 0.
pub fn sample_ratio(counts: &[u64], shares: &[f64]) -> Option<f64> {
    let (total, sum): (f64, f64) = (counts.iter().map(|count| *count as f64).sum(), shares.iter().sum());
    let is_usable =
        counts.len() == shares.len() && counts.len() > 1 && shares.iter().all(|share| *share > 0.0);
    if !is_usable || total <= 0.0 {
        return None;
    }
    let deviation = |(count, share): (&u64, &f64)| {
        let expected = total * share / sum;
        (*count as f64 - expected).powi(2) / expected
    };
    let statistic: f64 = counts.iter().zip(shares).map(deviation).sum();
    Some(chi_square_tail(statistic, counts.len() as f64 - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_split_is_noticed() {
        // scipy.stats.chisquare
        let found = sample_ratio(&[821_588, 815_482], &[0.5, 0.5]).expect("a p-value");
        assert!(found < RATIO_ALARM && (found - 1.822e-6).abs() < 1e-8, "{found}");
        assert_eq!(sample_ratio(&[500, 500], &[1.0, 1.0]), Some(1.0));
        assert_eq!(sample_ratio(&[0, 0], &[0.5, 0.5]), None);
        assert_eq!(sample_ratio(&[1, 2], &[0.0, 1.0]), None);
    }

    #[test]
    fn p_value_and_interval_say_the_same() {
        let control = Variant::of_conversions(10_000, 1_000);
        for converted in [1_000, 1_080, 1_130, 1_200, 1_300] {
            let found =
                effect(&control, &Variant::of_conversions(10_000, converted), 0.05, 0.02).expect("an effect");
            let excludes_0 = found.interval.0 > 0.0 || found.interval.1 < 0.0;
            assert_eq!(excludes_0, found.p_value < 0.05, "{found:?}");
        }
        assert_eq!(effect(&control, &Variant::of_conversions(1, 1), 0.05, 0.02), None);
    }

    /// Without an effect, looking after each of 200 batches errs in at most 5 % of the experiments; a fixed-sample test
    /// looked at as often errs in many more.
    #[test]
    fn looking_often_does_not_mislead() {
        let mut random = fastrand::Rng::with_seed(11);
        let (mut always_valid, mut fixed) = (0, 0);
        for _ in 0..400 {
            let mut sides = [Variant::default(); 2];
            let (mut is_wrong, mut is_fixed_wrong) = (false, false);
            for _ in 0..200 {
                for side in &mut sides {
                    let converted = (0..50).filter(|_| random.f64() < 0.2).count() as f64;
                    side.count += 50.0;
                    side.sum += converted;
                    side.squares += converted;
                }
                let Some(found) = effect(&sides[0], &sides[1], 0.05, 0.02) else { continue };
                is_wrong |= found.p_value < 0.05;
                let noise = (2.0 * 0.16 / sides[0].count).sqrt();
                is_fixed_wrong |= found.difference.abs() > 1.96 * noise;
            }
            always_valid += u32::from(is_wrong);
            fixed += u32::from(is_fixed_wrong);
        }
        assert!(always_valid <= 20 && fixed > 80, "{always_valid} and {fixed} of 400");
    }
}
