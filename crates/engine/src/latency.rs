//! Delivery latency of frames: a histogram of plain integers.
//!
//! Its bounds are round numbers, thirteen a decade, so that percentiles can be read from it and the coarser bounds
//! that a monitoring system asks for are folded from it exactly. A value finds its bucket without a search: powers of
//! two in eight slices each lie so close that at most one bound falls into a slice.

use std::num::NonZeroU64;

/// Bounds within a decade, in hundredths.
const STEPS: [u64; 13] = [100, 125, 150, 175, 200, 250, 300, 350, 400, 500, 600, 700, 800];
/// The first bound: 10 µs.
const FIRST_NS: u64 = 10_000;
/// From 10 µs to 10 s.
const DECADES: usize = 6;
/// Slices of a power of two, as a power of two.
const SLICE_BITS: u32 = 3;
/// Values below are in the first bucket.
const LEAST_NS: u64 = 1 << LEAST_BITS;
const LEAST_BITS: u32 = FIRST_NS.ilog2();
/// Values above are in the last bucket.
const MOST_NS: u64 = (1 << MOST_BITS) - 1;
const MOST_BITS: u32 = (FIRST_NS * 10_u64.pow(DECADES as u32)).ilog2() + 1;
const SLICES: usize = ((MOST_BITS - LEAST_BITS) << SLICE_BITS) as usize;

/// Latencies by size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies {
    counts: [u64; Latencies::BUCKETS],
    sum_ns: u64,
}

impl Latencies {
    /// Buckets: one up to each bound, and one for what is above the last.
    pub const BUCKETS: usize = DECADES * STEPS.len() + 2;

    /// Upper bounds of the buckets, nanoseconds; a value that equals one belongs to it. The last has none.
    pub const BOUNDS_NS: [u64; Self::BUCKETS] = bounds();

    /// Counts `times` frames that took `ns`.
    #[inline]
    pub fn record(&mut self, ns: u64, times: u32) {
        self.counts[bucket(ns)] += u64::from(times);
        self.sum_ns += ns.saturating_mul(u64::from(times));
    }

    /// Counts `times` frames that were due at `due_ns` and sent at `mono_ns`; those that weren't due at a time aren't.
    pub(crate) fn record_since(&mut self, due_ns: Option<NonZeroU64>, mono_ns: u64, times: u32) {
        if let Some(due_ns) = due_ns {
            self.record(mono_ns.saturating_sub(due_ns.get()), times);
        }
    }

    /// Frames in each bucket.
    pub fn counts(&self) -> &[u64; Self::BUCKETS] {
        &self.counts
    }

    /// All latencies together, nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: [0; Self::BUCKETS], sum_ns: 0 }
    }
}

#[inline]
fn bucket(ns: u64) -> usize {
    let ns = ns.clamp(LEAST_NS, MOST_NS);
    let bucket = usize::from(BELOW[slice(ns)]);
    bucket + usize::from(ns > Latencies::BOUNDS_NS[bucket])
}

/// The slice of a value from [`LEAST_NS`] to [`MOST_NS`].
const fn slice(ns: u64) -> usize {
    let octave = ns.ilog2() - LEAST_BITS;
    let within = (ns >> (ns.ilog2() - SLICE_BITS)) & ((1 << SLICE_BITS) - 1);
    ((octave << SLICE_BITS) as usize) + within as usize
}

/// Bounds that are below each slice.
const BELOW: [u8; SLICES] = {
    let mut below = [0; SLICES];
    let mut index = 0;
    while index < SLICES {
        let octave = LEAST_NS << (index >> SLICE_BITS);
        let width = octave >> SLICE_BITS;
        let start = octave + (index as u64 & ((1 << SLICE_BITS) - 1)) * width;
        let mut bound = 0;
        while Latencies::BOUNDS_NS[bound] < start {
            bound += 1;
        }
        assert!(bound + 1 >= Latencies::BUCKETS || Latencies::BOUNDS_NS[bound + 1] >= start + width);
        assert!(slice(start) == index && slice(start + width - 1) == index);
        below[index] = bound as u8;
        index += 1;
    }
    below
};

const fn bounds() -> [u64; Latencies::BUCKETS] {
    let mut bounds = [u64::MAX; Latencies::BUCKETS];
    let (mut index, mut decade_ns) = (0, FIRST_NS);
    while index < DECADES * STEPS.len() {
        bounds[index] = STEPS[index % STEPS.len()] * decade_ns / 100;
        index += 1;
        if index.is_multiple_of(STEPS.len()) {
            decade_ns *= 10;
        }
    }
    bounds[index] = decade_ns;
    bounds
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(ns: u64, bound_ns: u64) {
        assert_eq!(Latencies::BOUNDS_NS[bucket(ns)], bound_ns, "{ns} ns");
    }

    #[test]
    fn a_value_belongs_to_the_first_bound_that_is_not_below_it() {
        check(0, 10_000);
        check(10_000, 10_000);
        check(10_001, 12_500);
        check(250_000, 250_000);
        check(250_001, 300_000);
        check(1_000_000_000, 1_000_000_000);
        check(10_000_000_000, 10_000_000_000);
        check(10_000_000_001, u64::MAX);
        check(u64::MAX, u64::MAX);
    }

    proptest! {
        #[test]
        fn the_table_finds_what_a_search_finds(ns in 0..20_000_000_000_u64) {
            let found = Latencies::BOUNDS_NS.iter().position(|&bound| ns <= bound).unwrap();
            prop_assert_eq!(bucket(ns), found);
        }
    }

    #[test]
    fn it_counts_and_sums() {
        let mut latencies = Latencies::default();
        latencies.record(20_000, 3);
        latencies.record(7_000_000, 1);
        assert_eq!(latencies.counts().iter().sum::<u64>(), 4);
        assert_eq!(latencies.sum_ns(), 7_060_000);
    }
}
