//! Counters and latency histograms of one worker: plain numbers, merged by the main thread.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::{batch::Batch, verify::Faults};

/// The highest latency that is told apart, µs; later ones count as this.
const LATENCY_MAX_US: u64 = 600_000_000;
/// The time series turns over this much before each whole second, so that a fan-out at the second isn't cut.
pub const SECOND_LEAD_US: u64 = 50_000;

/// A histogram of µs with three significant digits, for a whole run.
pub fn precise() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("bounds are in order")
}

/// A histogram of µs with two significant digits, for one second or for what matters less.
pub fn coarse() -> Histogram<u32> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 2).expect("bounds are in order")
}

/// The second of the time series that a moment belongs to.
pub fn second_of(now_us: u64) -> u64 {
    (now_us + SECOND_LEAD_US) / 1_000_000
}

/// Why a connection is treated apart: its own faults are no fault of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Reads at once and stays.
    Steady,
    /// Was dropped on purpose and resumed.
    Churned,
    /// Reads with pauses.
    Slow,
    /// Doesn't read any more.
    Stalled,
}

impl Class {
    /// Every class, in the order of [`PerClass`].
    pub const ALL: [Self; 4] = [Self::Steady, Self::Churned, Self::Slow, Self::Stalled];

    /// As in the summary.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Churned => "churned",
            Self::Slow => "slow",
            Self::Stalled => "stalled",
        }
    }
}

/// A number for each class.
pub type PerClass<T> = [T; Class::ALL.len()];

/// Counters of one worker.
#[derive(Debug, Default)]
pub struct Counters {
    /// At the end.
    pub connections: PerClass<u64>,
    /// Connections that were subscribed at least once.
    pub subscribed: u64,
    pub connects: u64,
    pub connect_errors: BTreeMap<String, u64>,
    /// Closes that this side didn't ask for, by ERROR code or what else ended the connection.
    pub closes: PerClass<BTreeMap<String, u64>>,
    pub faults: PerClass<Faults>,
    /// Ticks in each period of a server whose rate isn't the one that was given.
    pub other_rate: Option<u64>,
    /// Bytes that are no valid frame or message, by what was wrong.
    pub malformed: BTreeMap<String, u64>,
    pub frames: u64,
    pub ticks: u64,
    pub bytes: u64,
    pub ticks_replayed: u64,
    pub ticks_early: u64,
    pub heartbeats_sent: u64,
    pub heartbeats_answered: u64,
    pub goaways: u64,
    pub churned: u64,
    pub sends_refused: u64,
}

impl Counters {
    /// Adds another worker's.
    pub fn merge(&mut self, other: Self) {
        let add = |into: &mut BTreeMap<String, u64>, from: BTreeMap<String, u64>| {
            for (key, count) in from {
                *into.entry(key).or_default() += count;
            }
        };
        add(&mut self.connect_errors, other.connect_errors);
        add(&mut self.malformed, other.malformed);
        for (into, from) in self.closes.iter_mut().zip(other.closes) {
            add(into, from);
        }
        for (into, from) in self.faults.iter_mut().zip(other.faults) {
            *into += from;
        }
        for (into, from) in self.connections.iter_mut().zip(other.connections) {
            *into += from;
        }
        self.other_rate = self.other_rate.or(other.other_rate);
        self.subscribed += other.subscribed;
        self.connects += other.connects;
        self.frames += other.frames;
        self.ticks += other.ticks;
        self.bytes += other.bytes;
        self.ticks_replayed += other.ticks_replayed;
        self.ticks_early += other.ticks_early;
        self.heartbeats_sent += other.heartbeats_sent;
        self.heartbeats_answered += other.heartbeats_answered;
        self.goaways += other.goaways;
        self.churned += other.churned;
        self.sends_refused += other.sends_refused;
    }
}

/// Counts one more under `key`, which is allocated only the first time.
pub fn count(map: &mut BTreeMap<String, u64>, key: &str) {
    match map.get_mut(key) {
        Some(count) => *count += 1,
        None => {
            map.insert(key.to_owned(), 1);
        }
    }
}

/// Arrivals of one second at one worker.
#[derive(Debug)]
pub struct SecondReport {
    pub second: u64,
    pub frames: u64,
    pub ticks: u64,
    pub bytes: u64,
    pub latency: Histogram<u32>,
}

/// The time in which live ticks count for a result: those due within `from_us..until_us`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub from_us: u64,
    pub until_us: u64,
}

impl Window {
    /// The moment is within it.
    pub fn contains(self, due_us: u64) -> bool {
        (self.from_us..self.until_us).contains(&due_us)
    }
}

/// The latencies of one worker.
#[derive(Debug)]
pub struct Recorder {
    pub steady_window: Window,
    pub storm_window: Window,
    pub steady: Histogram<u64>,
    pub storm: Histogram<u64>,
    pub second: Histogram<u32>,
    /// Received before they were due.
    pub early: u64,
    /// Deliveries of the batch at hand that aren't recorded yet.
    pending: u64,
}

impl Recorder {
    /// An empty recorder; nothing counts before there is a window.
    pub fn new() -> Self {
        Self {
            steady_window: Window::default(),
            storm_window: Window::default(),
            steady: precise(),
            storm: precise(),
            second: coarse(),
            early: 0,
            pending: 0,
        }
    }

    /// All ticks of the batch at hand arrived at one more connection. They are recorded at the next
    /// [`Recorder::flush`], all at once.
    pub fn batch_arrived(&mut self) {
        self.pending += 1;
    }

    /// Records what arrived of `batch`, the batch at hand; before another batch and at the end of each drain.
    pub fn flush(&mut self, batch: &Batch, now_us: u64) {
        let pending = std::mem::take(&mut self.pending);
        if pending > 0 {
            for &due_us in batch.due_us() {
                self.record(due_us, now_us, pending);
            }
        }
    }

    /// Records `count` arrivals of a tick.
    pub fn record(&mut self, due_us: u64, now_us: u64, count: u64) {
        if now_us < due_us {
            self.early += count;
        }
        let latency_us = now_us.saturating_sub(due_us);
        self.second.saturating_record_n(latency_us, u32::try_from(count).unwrap_or(u32::MAX));
        if self.steady_window.contains(due_us) {
            self.steady.saturating_record_n(latency_us, count);
        } else if self.storm_window.contains(due_us) {
            self.storm.saturating_record_n(latency_us, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tickstream_wire::messages::{DataBatch, Message, Mode, Tick};

    use super::*;
    use crate::{batch::BatchReader, schedule::Schedule};

    #[test]
    fn every_tick_of_a_batch_weighs_as_much_as_any_and_only_those_due_in_the_window_count() {
        let schedule = Schedule::new(Mode::Second, NonZeroU32::new(10_000).unwrap());
        let first_sequence = 10_000 * 1_000;
        let ticks = (0..50).map(|n| Tick { mode: 0, epoch_ms: 1_000_000 + n / 10 }).collect();
        let mut reader = BatchReader::new(schedule);
        reader.read(&DataBatch { schema_version: 1, ticks, first_sequence }.encode_to_vec()).unwrap();

        let mut recorder = Recorder::new();
        // The last ten ticks, due at 4.0 ms to 4.9 ms, aren't in it.
        recorder.steady_window = Window { from_us: 1_000_000_000, until_us: 1_000_004_000 };
        for _ in 0..3 {
            recorder.batch_arrived();
        }
        recorder.flush(reader.batch(), 1_000_006_000);
        recorder.flush(reader.batch(), 1_000_007_000);
        assert_eq!(recorder.steady.len(), 40 * 3);
        assert_eq!(recorder.second.len(), 50 * 3);
        assert!((2_100..2_110).contains(&recorder.steady.min()));
        assert!((6_000..6_010).contains(&recorder.steady.max()));
        assert_eq!(recorder.early, 0);
    }

    #[test]
    fn a_tick_before_its_time_is_seen() {
        let mut recorder = Recorder::new();
        recorder.record(5_000, 4_000, 2);
        assert_eq!((recorder.early, recorder.second.max()), (2, 0));
    }

    #[test]
    fn a_fan_out_at_the_whole_second_lies_within_one_second_of_the_series() {
        assert_eq!(second_of(7_000_000 - SECOND_LEAD_US), 7);
        assert_eq!(second_of(7_900_000), 7);
        assert_eq!(second_of(7_950_000), 8);
    }
}
