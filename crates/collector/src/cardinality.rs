//! Bound on the series of a metric: a label whose values have no end, such as a request's id, makes a series of each.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{Mutex, PoisonError},
};

use prost::Message;
use tickstream_client::events::MetricSeries;

/// Series are counted anew after this, nanoseconds.
const WINDOW_NS: u64 = 3600 * 1_000_000_000;
/// Most series of a key that are counted, over all metrics.
const TOTAL_MAX: usize = 4_000_000;

/// Counts the series of one key.
#[derive(Debug)]
pub struct SeriesLimit {
    /// Most series of a metric within an hour.
    max: usize,
    hasher: RandomState,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    since_ns: u64,
    /// Hashes of series, by the hash of the metric's name.
    metrics: HashMap<u64, HashSet<u64>>,
    total: usize,
}

/// A metric has more series than it may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "metric {name} has more than {max} series within an hour; leave out a label whose values have no end"
)]
pub struct TooManySeries {
    name: String,
    max: usize,
}

impl SeriesLimit {
    /// A limit of so many series of each metric within an hour.
    pub fn new(max: usize) -> Self {
        Self { max, hasher: RandomState::new(), window: Mutex::default() }
    }

    /// Counts a series, unless it was counted within this hour.
    ///
    /// # Errors
    /// [`TooManySeries`].
    pub fn check(&self, series: &MetricSeries, now_ns: u64) -> Result<(), TooManySeries> {
        let (metric, series_hash) = (self.hasher.hash_one(&series.name), self.hash(series));
        // Counts are whole after each step.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now_ns.saturating_sub(window.since_ns) >= WINDOW_NS {
            *window = Window { since_ns: now_ns, ..Window::default() };
        }
        let Window { metrics, total, .. } = &mut *window;
        let known = metrics.entry(metric).or_default();
        let is_known = known.contains(&series_hash);
        if !is_known && (known.len() >= self.max || *total >= TOTAL_MAX) {
            return Err(TooManySeries { name: series.name.clone(), max: self.max });
        }
        *total += usize::from(!is_known && known.insert(series_hash));
        Ok(())
    }

    fn hash(&self, series: &MetricSeries) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        (&series.service, &series.labels).hash(&mut hasher);
        for (name, value) in &series.typed_labels {
            (name, value.encode_to_vec()).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// Two limits are alike where they allow the same.
impl PartialEq for SeriesLimit {
    fn eq(&self, other: &Self) -> bool {
        self.max == other.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, id: u32) -> MetricSeries {
        let labels = [("id".to_owned(), id.to_string())].into();
        MetricSeries { name: name.into(), labels, ..MetricSeries::default() }
    }

    #[test]
    fn fault_94_a_million_label_sets_are_refused_by_the_metrics_name() {
        let limit = SeriesLimit::new(1000);
        let refused: Vec<_> =
            (0..1_000_000).filter_map(|id| limit.check(&series("requests", id), 1).err()).collect();
        assert_eq!(refused.len(), 999_000);
        let message = refused[0].to_string();
        assert!(message.contains("metric requests has more than 1000 series"), "{message}");
        // Those that were there, other metrics, and the next hour are free.
        assert_eq!(limit.check(&series("requests", 5), 2), Ok(()));
        assert_eq!(limit.check(&series("errors", 1), 2), Ok(()));
        assert!(limit.check(&series("requests", 5000), WINDOW_NS - 1).is_err());
        assert_eq!(limit.check(&series("requests", 5000), WINDOW_NS + 1), Ok(()));
    }

    #[test]
    fn types_of_labels_tell_series_apart() {
        use tickstream_client::events::{Kind, Value};
        let limit = SeriesLimit::new(2);
        let typed = |kind| {
            let typed_labels = [("n".to_owned(), Value { kind: Some(kind) })].into();
            MetricSeries { name: "m".into(), typed_labels, ..MetricSeries::default() }
        };
        let kinds = [Kind::Integer(1), Kind::Boolean(true), Kind::Integer(2)];
        let found = kinds.map(|kind| limit.check(&typed(kind), 1).is_ok());
        assert_eq!(found, [true, true, false]);
    }
}
