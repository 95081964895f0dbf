//! Bound on the series of a metric: a label whose values have no end, such as a request's id, makes a series of each.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
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

/// A series whose labels are texts.
#[derive(Clone, Copy, Debug)]
pub struct TextSeries<'a> {
    /// Name of the metric.
    pub name: &'a str,
    /// Its service; may be empty.
    pub service: &'a str,
    /// Names and values, by rising name.
    pub labels: &'a [(&'a str, &'a str)],
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
        let labels = series.labels.iter().map(|(name, value)| (&name[..], &value[..]));
        let mut hasher = self.hasher_of(&series.service, labels);
        for (name, value) in &series.typed_labels {
            (name, value.encode_to_vec()).hash(&mut hasher);
        }
        self.count(&series.name, hasher.finish(), now_ns)
    }

    /// As [`check`](Self::check), which counts it as the same series.
    ///
    /// # Errors
    /// [`TooManySeries`].
    pub fn check_texts(&self, series: &TextSeries<'_>, now_ns: u64) -> Result<(), TooManySeries> {
        let hasher = self.hasher_of(series.service, series.labels.iter().copied());
        self.count(series.name, hasher.finish(), now_ns)
    }

    fn hasher_of<'a>(
        &self,
        service: &str,
        labels: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    ) -> DefaultHasher {
        let mut hasher = self.hasher.build_hasher();
        (service, labels.len()).hash(&mut hasher);
        labels.for_each(|label| label.hash(&mut hasher));
        hasher
    }

    fn count(&self, name: &str, series: u64, now_ns: u64) -> Result<(), TooManySeries> {
        let metric = self.hasher.hash_one(name);
        // Counts are whole after each step.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now_ns.saturating_sub(window.since_ns) >= WINDOW_NS {
            *window = Window { since_ns: now_ns, ..Window::default() };
        }
        let Window { metrics, total, .. } = &mut *window;
        let known = metrics.entry(metric).or_default();
        let is_known = known.contains(&series);
        if !is_known && (known.len() >= self.max || *total >= TOTAL_MAX) {
            return Err(TooManySeries { name: name.to_owned(), max: self.max });
        }
        *total += usize::from(!is_known && known.insert(series));
        Ok(())
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

    #[test]
    fn a_series_is_the_same_either_way() {
        let limit = SeriesLimit::new(1);
        let labels = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())];
        let service = "api".to_owned();
        let whole =
            MetricSeries { name: "m".into(), service, labels: labels.into(), ..MetricSeries::default() };
        let texts = TextSeries { name: "m", service: "api", labels: &[("a", "1"), ("b", "2")] };
        assert_eq!(limit.check(&whole, 1), Ok(()));
        assert_eq!(limit.check_texts(&texts, 1), Ok(()));
        for labels in [&[("a", "1")][..], &[("a", "1"), ("b", "")], &[("a1", ""), ("b", "2")]] {
            assert!(limit.check_texts(&TextSeries { labels, ..texts }, 1).is_err());
        }
    }
}
