//! Funnels: the number of steps that a person did in order within a window.
//!
//! [`window_funnel`] is ClickHouse's function of that name; [`Funnel`] adds what other products offer.

mod either;
mod report;
#[cfg(test)]
mod tests;
mod window;

use thiserror::Error;

pub use report::{Breakdown, Report};
pub use window::{Strict, window_funnel};

/// Maximum number of steps: bits of [`Event::steps`].
pub const STEPS_MAX: usize = 32;

/// One event of a person, as a funnel sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// In any unit, the same as that of the window.
    pub time: i64,
    /// Bit n: the event fulfils the condition of step n, counted from 0.
    pub steps: u32,
    /// Bit n: the event fulfils the condition of exclusion n.
    pub exclusions: u32,
}

/// Order of steps that happen at about the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// Steps of the same instant count in the order of the funnel; one event may fulfil several.
    #[default]
    ByStep,
    /// The next step must come later.
    Strict,
    /// Neighbouring steps may be exchanged within this time; each event fulfils one step.
    EitherWithin(i64),
}

/// Events that begin a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WindowFrom {
    /// Any event of the first step; the chain that gets furthest counts.
    #[default]
    Latest,
    /// The person's first event of the first step.
    First,
}

/// Importance of the steps' order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Each step comes after the one before.
    #[default]
    Ordered,
    /// Steps come in any order; any of them begins a window.
    Unordered,
}

/// An event that ends attempts which did step `after` and not yet step `before`, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// The step from which on it ends attempts.
    pub after: usize,
    /// The step that ends its effect.
    pub before: usize,
}

/// A funnel with its rules.
#[derive(Clone, Debug)]
pub struct Funnel {
    times: Vec<u32>,
    window: i64,
    ties: Ties,
    window_from: WindowFrom,
    order: Order,
    exclusions: Vec<Exclusion>,
}

/// Rules that no funnel can have.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FunnelError {
    /// No steps, or more than [`STEPS_MAX`].
    #[error("a funnel has 1 to {STEPS_MAX} steps, not {0}")]
    Steps(usize),
    /// A step that needs no event.
    #[error("step {0} must come at least once")]
    Times(usize),
    /// A negative window or tolerance.
    #[error("the funnel's window and tolerance can't be negative")]
    Window,
    /// An exclusion that isn't between two steps of the funnel.
    #[error("exclusion {0} isn't between two steps of the funnel")]
    Exclusion(usize),
    /// Rules for ordered steps in a funnel that has no order.
    #[error("an unordered funnel has no exclusions, no ties and no first step to begin its window")]
    Unordered,
}

/// Steps of a person in a funnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// Time of each step done, of the first that of its first event, with which the window begins. Its length is the
    /// level reached.
    pub times: Vec<i64>,
    /// An exclusion ended an attempt, and none went further.
    pub is_excluded: bool,
}

impl Conversion {
    /// Number of steps done.
    pub fn level(&self) -> usize {
        self.times.len()
    }
}

impl Funnel {
    /// A funnel of this many steps, each once, with ClickHouse's rules.
    ///
    /// # Errors
    /// No or too many steps, or a negative window.
    pub fn new(steps: usize, window: i64) -> Result<Self, FunnelError> {
        if steps == 0 || steps > STEPS_MAX {
            return Err(FunnelError::Steps(steps));
        }
        if window < 0 {
            return Err(FunnelError::Window);
        }
        Ok(Self {
            times: vec![1; steps],
            window,
            ties: Ties::default(),
            window_from: WindowFrom::default(),
            order: Order::default(),
            exclusions: Vec::new(),
        })
    }

    /// Sets the number of events that a step needs.
    ///
    /// # Errors
    /// No such step, or 0 events.
    pub fn times(mut self, step: usize, times: u32) -> Result<Self, FunnelError> {
        let known = self.times.get_mut(step).ok_or(FunnelError::Steps(step))?;
        if times == 0 {
            return Err(FunnelError::Times(step));
        }
        *known = times;
        Ok(self)
    }

    /// Sets the rules for order and windows.
    ///
    /// # Errors
    /// A negative tolerance, or rules that need an order in a funnel without one.
    pub fn rules(mut self, ties: Ties, window_from: WindowFrom, order: Order) -> Result<Self, FunnelError> {
        if matches!(ties, Ties::EitherWithin(tolerance) if tolerance < 0) {
            return Err(FunnelError::Window);
        }
        let has_default_rules = ties == Ties::ByStep && window_from == WindowFrom::Latest;
        if order == Order::Unordered && (!has_default_rules || !self.exclusions.is_empty()) {
            return Err(FunnelError::Unordered);
        }
        (self.ties, self.window_from, self.order) = (ties, window_from, order);
        Ok(self)
    }

    /// Adds exclusions; their places are the bits of [`Event::exclusions`].
    ///
    /// # Errors
    /// One that isn't between two steps, too many, or a funnel without order.
    pub fn exclusions(mut self, exclusions: &[Exclusion]) -> Result<Self, FunnelError> {
        if self.order == Order::Unordered && !exclusions.is_empty() {
            return Err(FunnelError::Unordered);
        }
        let is_wrong = |(place, exclusion): (usize, &Exclusion)| {
            place >= STEPS_MAX || exclusion.after >= exclusion.before || exclusion.before >= self.times.len()
        };
        if let Some(place) = exclusions.iter().enumerate().position(is_wrong) {
            return Err(FunnelError::Exclusion(place));
        }
        self.exclusions = exclusions.to_vec();
        Ok(self)
    }

    /// The furthest that one person came, whose events are sorted by time.
    pub fn convert(&self, events: &[Event]) -> Conversion {
        debug_assert!(events.is_sorted_by_key(|event| event.time), "events are sorted by time");
        match (self.order, self.ties) {
            (Order::Unordered, _) => self.unordered(events),
            (Order::Ordered, Ties::EitherWithin(tolerance)) => self.either_within(events, tolerance),
            (Order::Ordered, ties) => self.ordered(events, ties == Ties::Strict),
        }
    }

    /// One pass: for each step the attempt that came there and began last.
    fn ordered(&self, events: &[Event], is_strict: bool) -> Conversion {
        let mut attempts = Attempts::new(self);
        for instant in events.chunk_by(|a, b| a.time == b.time) {
            attempts.exclude(instant, &self.exclusions);
            attempts.advance(instant, is_strict);
            if attempts.is_complete() {
                break;
            }
        }
        attempts.best
    }

    /// A window slides over the events; counts of each step in it.
    fn unordered(&self, events: &[Event]) -> Conversion {
        let mut counts = vec![0_u32; self.times.len()];
        let (mut begin, mut best) = (0, Conversion::default());
        let steps_of = |event: &Event| {
            let steps = event.steps;
            (0..self.times.len()).filter(move |step| steps >> step & 1 == 1)
        };
        for (end, event) in events.iter().enumerate() {
            steps_of(event).for_each(|step| counts[step] += 1);
            while event.time.saturating_sub(events[begin].time) > self.window {
                steps_of(&events[begin]).for_each(|step| counts[step] -= 1);
                begin += 1;
            }
            let level = counts.iter().zip(&self.times).filter(|(count, needed)| count >= needed).count();
            if level > best.level() {
                best.times = self.completions(&events[begin..=end]);
            }
        }
        best
    }

    /// Times at which each step of an unordered funnel was complete, in order of time.
    fn completions(&self, events: &[Event]) -> Vec<i64> {
        let mut times: Vec<_> = (0..self.times.len())
            .filter_map(|step| {
                let mut done = events.iter().filter(|event| event.steps >> step & 1 == 1);
                done.nth(self.times[step] as usize - 1).map(|event| event.time)
            })
            .collect();
        times.sort_unstable();
        times
    }
}

/// An attempt at a funnel: times of its steps, the first first.
type Attempt = [i64; STEPS_MAX];

/// Attempts underway, by the number of events done: a step of n events has n places.
struct Attempts<'a> {
    funnel: &'a Funnel,
    /// The attempt that began last, by place.
    places: Vec<Option<Attempt>>,
    /// Step of each place.
    step_of: Vec<usize>,
    has_begun: bool,
    best: Conversion,
}

impl<'a> Attempts<'a> {
    fn new(funnel: &'a Funnel) -> Self {
        let step_of: Vec<_> =
            funnel.times.iter().enumerate().flat_map(|(step, n)| (0..*n).map(move |_| step)).collect();
        let places = vec![None; step_of.len()];
        Self { funnel, places, step_of, has_begun: false, best: Conversion::default() }
    }

    fn is_complete(&self) -> bool {
        self.best.level() == self.funnel.times.len()
    }

    /// Ends the attempts that an exclusion of this instant ends.
    fn exclude(&mut self, instant: &[Event], exclusions: &[Exclusion]) {
        let met = instant.iter().fold(0, |met, event| met | event.exclusions);
        for (_, exclusion) in exclusions.iter().enumerate().filter(|(place, _)| met >> place & 1 == 1) {
            for (place, step) in self.step_of.iter().enumerate() {
                let is_done = self.step_of.get(place + 1) != Some(step);
                let done = if is_done { step + 1 } else { *step };
                if done > exclusion.after && done <= exclusion.before && self.places[place].take().is_some() {
                    self.best.is_excluded |= done >= self.best.level();
                }
            }
        }
    }

    /// Moves attempts on by the events of one instant.
    fn advance(&mut self, instant: &[Event], is_strict: bool) {
        let before = is_strict.then(|| self.places.clone());
        for step in 0..self.funnel.times.len() {
            for event in instant.iter().filter(|event| event.steps >> step & 1 == 1) {
                // From the last place to the first, so that one event isn't counted twice within a step.
                let begin = self.step_of.partition_point(|known| *known < step);
                let end = self.step_of.partition_point(|known| *known <= step);
                for place in (begin..end).rev() {
                    let from = match place {
                        0 => self.begin(event.time),
                        _ => before.as_ref().unwrap_or(&self.places)[place - 1],
                    };
                    if let Some(attempt) = from {
                        self.reach(place, attempt, event.time);
                    }
                }
            }
        }
    }

    fn begin(&mut self, time: i64) -> Option<Attempt> {
        let may_begin = self.funnel.window_from == WindowFrom::Latest || !self.has_begun;
        self.has_begun = true;
        may_begin.then_some([time; STEPS_MAX])
    }

    fn reach(&mut self, place: usize, mut attempt: Attempt, time: i64) {
        if time.saturating_sub(attempt[0]) > self.funnel.window {
            return;
        }
        let step = self.step_of[place];
        if step > 0 {
            attempt[step] = time;
        }
        self.places[place] = Some(attempt);
        let is_done = self.step_of.get(place + 1) != Some(&step);
        if is_done && step + 1 > self.best.level() {
            self.best = Conversion { times: attempt[..=step].to_vec(), is_excluded: false };
        }
    }
}
