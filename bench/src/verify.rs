//! Verifies that one subscription got every tick, once, in order and under its right label.

use std::ops::{AddAssign, Range};

use serde::Serialize;

use crate::{batch::Batch, schedule::Schedule};

/// Faults in the ticks of some connections. All numbers are ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Left out between two that came, or between a resumed subscription and its last one.
    pub gaps: u64,
    /// Came again.
    pub duplicates: u64,
    /// Came after a later one.
    pub out_of_order: u64,
    /// `epoch_ms` or `mode` doesn't belong to the sequence and the subscription.
    pub wrong_label: u64,
    /// Were due before the end, minus the grace, and never came.
    pub missing: u64,
}

impl Faults {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.gaps + self.duplicates + self.out_of_order + self.wrong_label + self.missing
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.gaps += other.gaps;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.wrong_label += other.wrong_label;
        self.missing += other.missing;
    }
}

/// Most that an ACK's `server_time_ms` may be behind the clock that its `next_sequence` was reckoned with.
const ACK_SLACK_MS: u64 = 10;
/// The phase isn't known before the first tick.
const UNKNOWN: u32 = u32::MAX;
/// Ticks came, but none that shows a phase: their labels fit no sequence.
const NO_SUCH: u32 = u32::MAX - 1;

/// Ticks of one connection so far.
#[derive(Debug)]
pub struct Tracker {
    /// The sequence that must come next; 0 before the first subscription.
    next: u64,
    /// Ticks below it are replayed: they were due before the subscription, and say nothing about latency.
    live_from: u64,
    /// Ticks left out so far that may still come out of order. Rare, hence the box.
    gap: Option<Box<Range<u64>>>,
    phase_ms: u32,
}

impl Default for Tracker {
    fn default() -> Self {
        Self { next: 0, live_from: 0, gap: None, phase_ms: UNKNOWN }
    }
}

impl Tracker {
    /// The last sequence that came, for a resuming SUBSCRIBE.
    pub fn resume_after(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// The ACK of a SUBSCRIBE: ticks begin with `next_sequence`. `server_time_ms` is the ACK's.
    pub fn subscribe(
        &mut self,
        schedule: Schedule,
        next_sequence: u64,
        server_time_ms: u64,
        faults: &mut Faults,
    ) {
        let last_due = |at_ms: u64| schedule.last_due(at_ms.saturating_mul(1_000), 0);
        match self.resume_after() {
            None => {
                // The next one that becomes due: one more for a phase, and for clock reading and ACK apart.
                let latest = last_due(server_time_ms.saturating_add(ACK_SLACK_MS)) + 2;
                faults.gaps += next_sequence.saturating_sub(latest);
                self.next = next_sequence;
                self.live_from = next_sequence;
            }
            Some(_) => {
                faults.gaps += next_sequence.saturating_sub(self.next);
                self.next = self.next.max(next_sequence);
                self.live_from = last_due(server_time_ms) + 1;
            }
        }
        self.phase_ms = UNKNOWN;
        self.gap = None;
    }

    /// Judges a batch that came on this subscription. The answer is which of its ticks are new, live and
    /// rightly labelled: those whose latency counts.
    pub fn take(&mut self, batch: &Batch, schedule: Schedule, faults: &mut Faults) -> Range<usize> {
        let first = batch.first_sequence();
        let count = batch.len();
        let end = first.saturating_add(count as u64);
        let labels_fit = match batch.phase_ms() {
            Some(phase) if self.phase_ms == phase || !self.phase_is_known() => {
                self.phase_ms = phase;
                true
            }
            _ => {
                faults.wrong_label += self.wrong_labels(batch, schedule);
                false
            }
        };
        let new_from = if first == self.next { first } else { self.out_of_step(first, end, faults) };
        self.next = self.next.max(end);
        if !labels_fit {
            return 0..0;
        }
        let live_from = new_from.max(self.live_from);
        usize::try_from(live_from.saturating_sub(first)).map_or(count, |skip| skip.min(count))..count
    }

    fn phase_is_known(&self) -> bool {
        self.phase_ms < NO_SUCH
    }

    /// Ticks that were due at `until_us` and haven't come.
    pub fn missing(&self, schedule: Schedule, until_us: u64) -> u64 {
        let phase_ms = match self.phase_ms {
            // Its sequences are another rate's.
            NO_SUCH => return 0,
            // As lenient as can be.
            UNKNOWN => u32::try_from(schedule.interval_ms() - 1).expect("an interval is at most a minute"),
            known => known,
        };
        if self.next == 0 {
            return 0;
        }
        (schedule.last_due(until_us, phase_ms) + 1).saturating_sub(self.next)
    }

    /// A batch `first..end` that doesn't begin with the expected tick. Answers the first tick in it that is new.
    #[cold]
    fn out_of_step(&mut self, first: u64, end: u64, faults: &mut Faults) -> u64 {
        if first > self.next {
            faults.gaps += first - self.next;
            self.gap = Some(Box::new(self.next..first));
            return first;
        }
        for sequence in first..end.min(self.next) {
            match &mut self.gap {
                Some(gap) if gap.contains(&sequence) => {
                    faults.out_of_order += 1;
                    faults.gaps -= 1;
                    gap.start = sequence + 1;
                }
                _ => faults.duplicates += 1,
            }
        }
        self.next
    }

    /// Ticks of a batch whose label doesn't fit, by the subscription's phase or, where that isn't
    /// known, any one phase below the interval.
    #[cold]
    fn wrong_labels(&mut self, batch: &Batch, schedule: Schedule) -> u64 {
        if !self.phase_is_known() {
            self.phase_ms = NO_SUCH;
            return batch.len() as u64;
        }
        let right = |(at, &label): (usize, &u64)| {
            let expected = schedule.label_ms(batch.first_sequence().saturating_add(at as u64));
            label == expected.saturating_add(u64::from(self.phase_ms))
        };
        let wrong = batch.labels_ms().iter().enumerate().filter(|&tick| !right(tick)).count() as u64;
        // Right numbers under another mode.
        if wrong == 0 { batch.len() as u64 } else { wrong }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tickstream_wire::messages::{DataBatch, Message, Mode, Tick};

    use super::*;
    use crate::batch::BatchReader;

    fn schedule() -> Schedule {
        Schedule::new(Mode::Second, NonZeroU32::MIN)
    }

    fn with_labels(tracker: &mut Tracker, faults: &mut Faults, first: u64, labels: &[u64]) -> Range<usize> {
        let ticks = labels.iter().map(|&epoch_ms| Tick { mode: 0, epoch_ms }).collect();
        let batch = DataBatch { schema_version: 1, ticks, first_sequence: first };
        let mut reader = BatchReader::new(schedule());
        reader.read(&batch.encode_to_vec()).unwrap();
        tracker.take(reader.batch(), schedule(), faults)
    }

    /// A subscription that starts with tick 100 and gets the ticks `first..end` of each pair, as batches in phase 3 ms.
    fn check(batches: &[(u64, u64)], expected: Faults, next: u64) {
        let (mut tracker, mut faults) = (Tracker::default(), Faults::default());
        tracker.subscribe(schedule(), 100, 99_500, &mut faults);
        for &(first, end) in batches {
            let labels: Vec<u64> = (first..end).map(|sequence| sequence * 1_000 + 3).collect();
            with_labels(&mut tracker, &mut faults, first, &labels);
        }
        assert_eq!((faults, tracker.next), (expected, next), "{batches:?}");
    }

    #[test]
    fn every_break_of_the_sequence_is_counted_once() {
        let none = Faults::default();
        check(&[(100, 101), (101, 104), (104, 105)], none, 105);
        check(&[(101, 102)], Faults { gaps: 1, ..none }, 102);
        check(&[(100, 101), (105, 106), (106, 107)], Faults { gaps: 4, ..none }, 107);
        check(&[(100, 102), (101, 102)], Faults { duplicates: 1, ..none }, 102);
        check(&[(100, 102), (100, 104)], Faults { duplicates: 2, ..none }, 104);
        check(&[(100, 101), (102, 103), (101, 102)], Faults { out_of_order: 1, ..none }, 103);
        check(
            &[(100, 101), (102, 103), (101, 102), (101, 102)],
            Faults { out_of_order: 1, duplicates: 1, ..none },
            103,
        );
        check(&[(99, 101)], Faults { duplicates: 1, ..none }, 101);
    }

    #[test]
    fn labels_must_fit_the_sequence_and_the_phase_of_the_subscription() {
        let (mut tracker, mut faults) = (Tracker::default(), Faults::default());
        tracker.subscribe(schedule(), 5, 4_900, &mut faults);
        assert_eq!(with_labels(&mut tracker, &mut faults, 5, &[5_007]), 0..1);
        assert_eq!(with_labels(&mut tracker, &mut faults, 6, &[6_008]), 0..0);
        assert_eq!(faults, Faults { wrong_label: 1, ..Faults::default() });
        assert_eq!(with_labels(&mut tracker, &mut faults, 7, &[7_007, 8_000, 9_007]), 0..0);
        assert_eq!(faults, Faults { wrong_label: 2, ..Faults::default() });
        assert_eq!(with_labels(&mut tracker, &mut faults, 10, &[10_007]), 0..1);
        assert_eq!(faults.total(), 2);
    }

    #[test]
    fn a_server_of_another_rate_has_wrong_labels_and_nothing_else() {
        let (mut tracker, mut faults) = (Tracker::default(), Faults::default());
        tracker.subscribe(schedule(), 5, 9_900_000, &mut faults);
        assert_eq!(with_labels(&mut tracker, &mut faults, 5, &[9_901_000]), 0..0);
        assert_eq!(tracker.missing(schedule(), 9_905_000_000), 0);
        assert_eq!(faults, Faults { wrong_label: 1, ..Faults::default() });
    }

    #[test]
    fn replayed_ticks_are_verified_but_not_live() {
        let (mut tracker, mut faults) = (Tracker::default(), Faults::default());
        tracker.subscribe(schedule(), 5, 4_900, &mut faults);
        assert_eq!(with_labels(&mut tracker, &mut faults, 5, &[5_000]), 0..1);
        assert_eq!(tracker.resume_after(), Some(5));
        tracker.subscribe(schedule(), 6, 8_500, &mut faults);
        assert_eq!(with_labels(&mut tracker, &mut faults, 6, &[6_000, 7_000]), 2..2);
        assert_eq!(with_labels(&mut tracker, &mut faults, 8, &[8_000, 9_000]), 1..2);
        assert_eq!(faults, Faults::default());
    }

    #[test]
    fn a_resume_that_starts_late_is_a_gap_and_one_that_starts_early_repeats() {
        let (mut tracker, mut faults) = (Tracker::default(), Faults::default());
        tracker.subscribe(schedule(), 5, 4_900, &mut faults);
        with_labels(&mut tracker, &mut faults, 5, &[5_000]);
        tracker.subscribe(schedule(), 8, 8_500, &mut faults);
        assert_eq!(faults, Faults { gaps: 2, ..Faults::default() });
        with_labels(&mut tracker, &mut faults, 8, &[8_000]);
        tracker.subscribe(schedule(), 8, 9_500, &mut faults);
        with_labels(&mut tracker, &mut faults, 8, &[8_000, 9_000]);
        assert_eq!(faults, Faults { gaps: 2, duplicates: 1, ..Faults::default() });
    }

    #[test]
    fn a_first_subscription_that_starts_late_is_a_gap() {
        let check = |next_sequence, gaps| {
            let mut faults = Faults::default();
            Tracker::default().subscribe(schedule(), next_sequence, 99_500, &mut faults);
            assert_eq!(faults, Faults { gaps, ..Faults::default() });
        };
        check(99, 0);
        check(100, 0);
        check(101, 0);
        check(110, 9);
    }

    #[test]
    fn ticks_that_were_due_and_never_came_are_missing() {
        let (mut tracker, mut faults) = (Tracker::default(), Faults::default());
        assert_eq!(tracker.missing(schedule(), 90_000_000), 0);
        tracker.subscribe(schedule(), 5, 4_900, &mut faults);
        assert_eq!(tracker.missing(schedule(), 7_500_000), 2, "5 and 6; 7 may have a later phase");
        with_labels(&mut tracker, &mut faults, 5, &[5_000]);
        assert_eq!(tracker.missing(schedule(), 5_999_999), 0);
        assert_eq!(tracker.missing(schedule(), 7_500_000), 2);
    }
}
