//! Funnels whose neighbouring steps may be exchanged within a tolerance.

use super::{Conversion, Event, Funnel, WindowFrom};

impl Funnel {
    /// The best chain from each first step; within one, each step takes the earliest event that is left to it.
    pub(super) fn either_within(&self, events: &[Event], tolerance: i64) -> Conversion {
        let by_step: Vec<Vec<usize>> = (0..self.times.len())
            .map(|step| (0..events.len()).filter(|place| events[*place].steps >> step & 1 == 1).collect())
            .collect();
        let begins = match self.window_from {
            WindowFrom::Latest => &by_step[0][..],
            WindowFrom::First => &by_step[0][..by_step[0].len().min(1)],
        };
        let mut best = Conversion::default();
        for begin in begins.iter().rev() {
            let found = self.chain(events, &by_step, *begin, tolerance);
            if found.level() > best.level() {
                best = found;
            }
            if best.level() == self.times.len() {
                break;
            }
        }
        best
    }

    fn chain(&self, events: &[Event], by_step: &[Vec<usize>], begin: usize, tolerance: i64) -> Conversion {
        let window_end = events[begin].time.saturating_add(self.window);
        let (mut used, mut done) = (Vec::new(), Conversion::default());
        let mut earliest = events[begin].time;
        for (step, places) in by_step.iter().enumerate() {
            let from = places.partition_point(|place| events[*place].time < earliest);
            let mut needed = self.times[step];
            let mut last = None;
            for place in &places[from..] {
                if needed == 0 || events[*place].time > window_end {
                    break;
                }
                if !used.contains(place) {
                    used.push(*place);
                    (needed, last) = (needed - 1, Some(events[*place].time));
                }
            }
            let Some(time) = last.filter(|_| needed == 0) else { return done };
            if self.is_excluded(events, &done.times, step, time) {
                done.is_excluded = true;
                return done;
            }
            done.times.push(if step == 0 { events[begin].time } else { time });
            earliest = time.saturating_sub(tolerance);
        }
        done
    }

    /// An exclusion lies between the step that it comes after and this step, which isn't beyond its effect.
    fn is_excluded(&self, events: &[Event], times: &[i64], step: usize, time: i64) -> bool {
        self.exclusions.iter().enumerate().any(|(place, exclusion)| {
            let Some(after) = times.get(exclusion.after).filter(|_| exclusion.before >= step) else {
                return false;
            };
            let begin = events.partition_point(|event| event.time <= *after);
            events[begin..]
                .iter()
                .take_while(|event| event.time < time)
                .any(|event| event.exclusions >> place & 1 == 1)
        })
    }
}
