//! Latencies of subscribers, and messages that were lost.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;
use tickstream_load::latency_histogram;

/// Faults in the messages, under the names of tickstream-load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Left out between two that came.
    pub gaps: u64,
    /// Came again, or after a later one.
    pub duplicates: u64,
    /// Published after the last that came.
    pub missing: u64,
}

/// Position of one subscriber in the sequence, from its subscription on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracker {
    pub subscribed: bool,
    /// The sequence that must come next.
    next: u64,
}

impl Tracker {
    /// Takes the next sequence that came.
    pub fn take(&mut self, sequence: u64, faults: &mut Faults) {
        match sequence.checked_sub(self.next) {
            None => faults.duplicates += 1,
            Some(left_out) => {
                faults.gaps += left_out;
                self.next = sequence.saturating_add(1);
            }
        }
    }
}

/// The findings of one thread, or of all of them.
#[derive(Debug)]
pub struct Collector {
    /// Of messages that were due in the measured time, µs.
    pub latency: Histogram<u64>,
    pub faults: Faults,
    /// Connections that never came about, by why.
    pub connect_errors: BTreeMap<String, u64>,
    /// Connections that ended, by why.
    pub closes: BTreeMap<String, u64>,
    /// Messages that came before they were due: clocks differ.
    pub early: u64,
    trackers: Vec<Tracker>,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            latency: latency_histogram(),
            faults: Faults::default(),
            connect_errors: BTreeMap::new(),
            closes: BTreeMap::new(),
            early: 0,
            trackers: Vec::new(),
        }
    }
}

impl Collector {
    /// Adds the trackers of a thread that has ended.
    pub fn end(&mut self, trackers: impl Iterator<Item = Tracker>) {
        self.trackers.extend(trackers);
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: Self) {
        self.latency.add(&other.latency).expect("all are built alike");
        self.faults.gaps += other.faults.gaps;
        self.faults.duplicates += other.faults.duplicates;
        self.early += other.early;
        self.trackers.extend(other.trackers);
        for (why, count) in other.connect_errors {
            *self.connect_errors.entry(why).or_default() += count;
        }
        for (why, count) in other.closes {
            *self.closes.entry(why).or_default() += count;
        }
    }

    /// Counts what is missing of `published` messages.
    pub fn count_missing(&mut self, published: u64) {
        let subscribed = self.trackers.iter().filter(|tracker| tracker.subscribed);
        self.faults.missing = subscribed.map(|tracker| published.saturating_sub(tracker.next)).sum();
    }

    /// Subscribers whose subscription held at least once.
    pub fn subscribed(&self) -> u64 {
        self.trackers.iter().filter(|tracker| tracker.subscribed).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(came: &[u64], published: u64) -> Faults {
        let mut collector = Collector::default();
        let mut tracker = Tracker { subscribed: true, next: 0 };
        for &sequence in came {
            tracker.take(sequence, &mut collector.faults);
        }
        collector.end([tracker, Tracker::default()].into_iter());
        let mut all = Collector::default();
        all.merge(collector);
        all.count_missing(published);
        assert_eq!(all.subscribed(), 1);
        all.faults
    }

    #[test]
    fn whatever_is_lost_or_comes_twice_is_counted() {
        let faults = |gaps, duplicates, missing| Faults { gaps, duplicates, missing };
        assert_eq!(faults_of(&[0, 1, 2], 3), faults(0, 0, 0));
        assert_eq!(faults_of(&[1, 2, 5], 6), faults(3, 0, 0));
        assert_eq!(faults_of(&[0, 0, 1], 5), faults(0, 1, 3));
        assert_eq!(faults_of(&[], 4), faults(0, 0, 4));
    }
}
