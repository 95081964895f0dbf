//! DDSketch: quantiles with a bounded relative error, the same in any order of the values (Masson, Rim, Lee: "DDSketch: A
//! fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019).

use std::collections::BTreeMap;

/// Relative error of a quantile.
pub const RELATIVE_ERROR: f64 = 0.01;
/// Most buckets of each sign. Beyond it, the smallest magnitudes share one: only low quantiles suffer.
pub const BUCKETS_MAX: usize = 2048;

/// Counts of values by the logarithm of their magnitude.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sketch {
    positive: BTreeMap<i32, u64>,
    negative: BTreeMap<i32, u64>,
    zeros: u64,
}

impl Sketch {
    /// Adds a value; those that aren't finite are left out.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let magnitude = value.abs();
        if magnitude < f64::MIN_POSITIVE {
            self.zeros += 1;
            return;
        }
        let buckets = if value > 0.0 { &mut self.positive } else { &mut self.negative };
        *buckets.entry(bucket(magnitude)).or_default() += 1;
        bound(buckets);
    }

    /// Adds all that another sketch has.
    pub fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        for (mine, others) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            for (bucket, count) in others {
                *mine.entry(*bucket).or_default() += count;
            }
            bound(mine);
        }
    }

    /// Values that were added.
    pub fn count(&self) -> u64 {
        self.zeros + self.positive.values().sum::<u64>() + self.negative.values().sum::<u64>()
    }

    /// The value below which the share `quantile` (0 to 1) of all values lies; `None` without values.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 || !(0.0..=1.0).contains(&quantile) {
            return None;
        }
        let rank = (quantile * (count - 1) as f64).floor() as u64;
        let negative = self.negative.iter().rev().map(|(bucket, count)| (-middle(*bucket), *count));
        let positive = self.positive.iter().map(|(bucket, count)| (middle(*bucket), *count));
        let mut before = 0;
        for (value, count) in negative.chain([(0.0, self.zeros)]).chain(positive) {
            before += count;
            if before > rank {
                return Some(value);
            }
        }
        None
    }

    /// Bytes: the zeros, then buckets and counts of each sign behind their number; all little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.zeros.to_le_bytes().to_vec();
        for buckets in [&self.positive, &self.negative] {
            bytes.extend_from_slice(&(buckets.len() as u32).to_le_bytes());
            for (bucket, count) in buckets {
                bytes.extend_from_slice(&bucket.to_le_bytes());
                bytes.extend_from_slice(&count.to_le_bytes());
            }
        }
        bytes
    }

    /// The sketch that [`Sketch::to_bytes`] wrote; `None` if the bytes are none.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let zeros = u64::from_le_bytes(*bytes.split_off(..8)?.as_array()?);
        let mut sides = [BTreeMap::new(), BTreeMap::new()];
        for side in &mut sides {
            let length = u32::from_le_bytes(*bytes.split_off(..4)?.as_array()?);
            for _ in 0..length {
                let bucket = i32::from_le_bytes(*bytes.split_off(..4)?.as_array()?);
                side.insert(bucket, u64::from_le_bytes(*bytes.split_off(..8)?.as_array()?));
            }
        }
        let [positive, negative] = sides;
        bytes.is_empty().then_some(Self { positive, negative, zeros })
    }

    /// Bytes of memory, about.
    pub fn memory_bytes(&self) -> usize {
        (self.positive.len() + self.negative.len()) * 24 + size_of::<Self>()
    }
}

fn gamma() -> f64 {
    (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR)
}

fn bucket(magnitude: f64) -> i32 {
    (magnitude.ln() / gamma().ln()).ceil() as i32
}

fn middle(bucket: i32) -> f64 {
    2.0 * (f64::from(bucket) * gamma().ln()).exp() / (gamma() + 1.0)
}

fn bound(buckets: &mut BTreeMap<i32, u64>) {
    while buckets.len() > BUCKETS_MAX {
        let Some((_, count)) = buckets.pop_first() else { return };
        if let Some(mut next) = buckets.first_entry() {
            *next.get_mut() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(values: impl IntoIterator<Item = f64>) -> Sketch {
        let mut sketch = Sketch::default();
        values.into_iter().for_each(|value| sketch.add(value));
        sketch
    }

    #[test]
    fn quantiles_are_within_the_relative_error() {
        let sketch = sketch((1..=10_000).map(f64::from));
        for (quantile, exact) in [(0.0, 1.0), (0.5, 5000.0), (0.9, 9000.0), (0.99, 9900.0), (1.0, 10_000.0)] {
            let found = sketch.quantile(quantile).unwrap();
            assert!((found - exact).abs() <= exact * RELATIVE_ERROR + 1e-9, "{quantile}: {found}, {exact}");
        }
    }

    #[test]
    fn the_order_of_values_and_of_merges_is_of_no_account() {
        let values: Vec<f64> = (0..5000).map(|number| f64::from(number * 7919 % 5003 - 2500) / 3.0).collect();
        let whole = sketch(values.iter().copied());
        let mut merged = sketch(values[..1000].iter().rev().copied());
        let mut other = sketch(values[1000..3000].iter().copied());
        other.merge(&sketch(values[3000..].iter().copied()));
        merged.merge(&other);
        assert_eq!(whole, merged);
        assert_eq!(Sketch::from_bytes(&whole.to_bytes()), Some(whole));
    }

    #[test]
    fn negative_values_zeros_and_what_is_no_number_have_their_place() {
        let sketch = sketch([-10.0, 0.0, 10.0, f64::NAN, f64::INFINITY]);
        assert_eq!(sketch.count(), 3);
        assert!((sketch.quantile(0.0).unwrap() + 10.0).abs() < 0.2);
        assert_eq!(sketch.quantile(0.5), Some(0.0));
        assert_eq!(Sketch::default().quantile(0.5), None);
    }

    #[test]
    fn a_sketch_is_bounded_and_bytes_that_are_none_are_refused() {
        let sketch = sketch((0..20_000).map(|exponent| 1.05_f64.powi(exponent - 10_000)));
        assert!(sketch.memory_bytes() < 60_000);
        let bytes = sketch.to_bytes();
        for cut in [0, 7, 8, 11, 12, 20, bytes.len() - 1] {
            assert_eq!(Sketch::from_bytes(&bytes[..cut]), None);
        }
    }
}
