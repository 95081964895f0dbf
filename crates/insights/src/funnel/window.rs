//! ClickHouse's `windowFunnel`, with its strict modes. Checked against the engine itself by `tests/insights/funnel.py`.

use super::{Event, STEPS_MAX};

/// ClickHouse's strict modes; any of them may be combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strict {
    /// A step that comes again ends the chain.
    pub deduplication: bool,
    /// Any other event, or a step too early, ends the chain.
    pub order: bool,
    /// Steps need rising times. As in ClickHouse, the newest event of a step counts, even where an older one would
    /// still lead on.
    pub increase: bool,
}

/// Level reached by the events of one person, sorted by time: 0 to `steps`. The window's bound is inclusive.
pub fn window_funnel(events: &[Event], steps: usize, window: i64, strict: Strict) -> usize {
    let mut chains = Chains { reached: [None; STEPS_MAX], steps: steps.min(STEPS_MAX), window, strict };
    for instant in events.chunk_by(|a, b| a.time == b.time) {
        if let Some(level) = chains.instant(instant) {
            return level;
        }
    }
    chains.level()
}

struct Chains {
    /// By step: begin of its newest chain, and the time of the step.
    reached: [Option<(i64, i64)>; STEPS_MAX],
    steps: usize,
    window: i64,
    strict: Strict,
}

impl Chains {
    /// Handles the events of one instant; gives the level where it is final.
    fn instant(&mut self, events: &[Event]) -> Option<usize> {
        let mask = u32::MAX >> (STEPS_MAX - self.steps.max(1));
        // Events without a step come first, as ClickHouse sorts.
        let has_other = events.iter().any(|event| event.steps & mask == 0);
        if self.strict.order && has_other && self.reached[0].is_some() {
            return Some(self.level());
        }
        for step in 0..self.steps {
            for event in events.iter().filter(|event| event.steps >> step & 1 == 1) {
                if let Some(level) = self.step(step, event.time) {
                    return Some(level);
                }
            }
        }
        None
    }

    fn step(&mut self, step: usize, time: i64) -> Option<usize> {
        if step == 0 {
            self.reached[0] = Some((time, time));
            return None;
        }
        if self.strict.deduplication && self.reached[step].is_some() {
            return Some(self.level());
        }
        let Some((begin, before)) = self.reached[step - 1] else {
            let is_early = self.strict.order && self.reached[0].is_some();
            return is_early.then(|| self.reached.iter().take_while(|step| step.is_some()).count());
        };
        if time.saturating_sub(begin) <= self.window && (!self.strict.increase || before < time) {
            self.reached[step] = Some((begin, time));
            if step + 1 == self.steps {
                return Some(self.steps);
            }
        }
        None
    }

    fn level(&self) -> usize {
        self.reached.iter().rposition(Option::is_some).map_or(0, |step| step + 1)
    }
}
