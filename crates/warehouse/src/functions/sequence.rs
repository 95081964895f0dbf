//! Patterns of events, with the meaning of ClickHouse's `sequenceMatch` and `sequenceCount`.
//!
//! `(?1)(?2)`: an event that meets condition 1, and the next one meets condition 2. `.`: any event. `.*`: any number of
//! them. `(?t<=60)` between two of these: so much time, in the unit of the events' times.

/// Steps of a search, after which it is given up: patterns with several `.*` can take very long.
const STEPS_MAX: u64 = 1_000_000;

/// Time of an event, and the conditions that it meets, bit by bit.
pub type Event = (u64, u32);

/// One part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// An event that meets the condition, from 0.
    Condition(u32),
    /// Any event.
    Any,
    /// Any number of events.
    Many,
    /// Time since the event before.
    Time(Comparison, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Equal,
}

impl Comparison {
    fn holds(self, elapsed: u64, bound: u64) -> bool {
        match self {
            Self::LessOrEqual => elapsed <= bound,
            Self::Less => elapsed < bound,
            Self::GreaterOrEqual => elapsed >= bound,
            Self::Greater => elapsed > bound,
            Self::Equal => elapsed == bound,
        }
    }

    /// True if it may hold later, if it doesn't yet.
    fn may_hold_later(self, elapsed: u64, bound: u64) -> bool {
        match self {
            Self::GreaterOrEqual | Self::Greater => true,
            Self::Equal => elapsed < bound,
            Self::LessOrEqual | Self::Less => false,
        }
    }
}

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
    /// Conditions that are in it.
    conditions: u32,
}

/// A text that is no pattern, or a search that takes too long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text is no pattern.
    #[error("the pattern {pattern:?} is wrong at its byte {at}; a pattern looks like (?1).*(?t<=60)(?2)")]
    Syntax {
        /// The text.
        pattern: String,
        /// Place of the error.
        at: usize,
    },
    /// A condition that isn't given.
    #[error("the pattern names condition {condition}, {given} are given")]
    Condition {
        /// Its number, from 1.
        condition: u32,
        /// Conditions that there are.
        given: usize,
    },
    /// The search was given up.
    #[error("the pattern takes more than {STEPS_MAX} steps for one group; use fewer .*")]
    TooLong,
}

impl Pattern {
    /// Reads a pattern over so many conditions.
    ///
    /// # Errors
    /// [`PatternError::Syntax`] or [`PatternError::Condition`].
    pub fn parse(pattern: &str, given: usize) -> Result<Self, PatternError> {
        let wrong =
            |rest: &str| PatternError::Syntax { pattern: pattern.to_owned(), at: pattern.len() - rest.len() };
        let (mut parts, mut conditions) = (vec![Part::Many], 0);
        let mut rest = pattern;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix(".*") {
                parts.push(Part::Many);
                rest = after;
            } else if let Some(after) = rest.strip_prefix('.') {
                parts.push(Part::Any);
                rest = after;
            } else if let Some(inside) = rest.strip_prefix("(?") {
                let (inside, after) = inside.split_once(')').ok_or_else(|| wrong(rest))?;
                if let Some(time) = inside.strip_prefix('t') {
                    // Time is measured from the event before.
                    if parts.len() == 1 || matches!(parts.last(), Some(Part::Time(..))) {
                        return Err(wrong(rest));
                    }
                    parts.push(time_part(time).ok_or_else(|| wrong(rest))?);
                } else {
                    let condition: u32 = inside.parse().map_err(|_| wrong(rest))?;
                    if condition == 0 || condition as usize > given.min(32) {
                        return Err(PatternError::Condition { condition, given });
                    }
                    parts.push(Part::Condition(condition - 1));
                    conditions |= 1 << (condition - 1);
                }
                rest = after;
            } else {
                return Err(wrong(rest));
            }
        }
        if parts.len() == 1 {
            return Err(wrong(rest));
        }
        Ok(Self { parts, conditions })
    }

    /// True if events, in the order of their times, have the pattern somewhere.
    ///
    /// # Errors
    /// [`PatternError::TooLong`].
    pub fn matches(&self, events: &[Event]) -> Result<bool, PatternError> {
        Ok(self.may_match(events) && self.find(events)?.is_some())
    }

    /// Number of times that the pattern is there, one after another.
    ///
    /// # Errors
    /// [`PatternError::TooLong`].
    pub fn count(&self, events: &[Event]) -> Result<u64, PatternError> {
        if !self.may_match(events) {
            return Ok(0);
        }
        let (mut rest, mut count) = (events, 0);
        while let Some(end) = self.find(rest)? {
            count += 1;
            if end == 0 {
                break;
            }
            rest = &rest[end..];
        }
        Ok(count)
    }

    fn may_match(&self, events: &[Event]) -> bool {
        let met = events.iter().fold(0, |all, (_, conditions)| all | conditions);
        met & self.conditions == self.conditions
    }

    /// Events up to the end of the first match.
    fn find(&self, events: &[Event]) -> Result<Option<usize>, PatternError> {
        let mut place = Place { part: 0, event: 0, base: 0 };
        let mut choices: Vec<Place> = Vec::new();
        for _ in 0..STEPS_MAX {
            let Some(&part) = self.parts.get(place.part) else { return Ok(Some(place.event)) };
            if place.event >= events.len() {
                // Only `.*` needs no event.
                if self.parts[place.part..].iter().all(|part| *part == Part::Many) {
                    return Ok(Some(place.event));
                }
                match next_choice(&mut choices, events.len()) {
                    Some(next) => place = next,
                    None => return Ok(None),
                }
                continue;
            }
            let (time, conditions) = events[place.event];
            let fits = match part {
                Part::Condition(condition) => conditions >> condition & 1 == 1,
                Part::Any | Part::Many => true,
                Part::Time(comparison, bound) => {
                    let elapsed = time.saturating_sub(events[place.base].0);
                    let holds = comparison.holds(elapsed, bound);
                    if !holds && comparison.may_hold_later(elapsed, bound) {
                        place.event += 1;
                        continue;
                    }
                    holds
                }
            };
            if !fits {
                match next_choice(&mut choices, events.len()) {
                    Some(next) => place = next,
                    None => return Ok(None),
                }
                continue;
            }
            let takes_event = matches!(part, Part::Condition(_) | Part::Any);
            if !takes_event {
                choices.push(place);
            }
            place = Place {
                part: place.part + 1,
                event: place.event + usize::from(takes_event),
                // As in ClickHouse, `.*` moves the time from which is measured, too.
                base: place.event,
            };
        }
        Err(PatternError::TooLong)
    }
}

/// A place of the search: what comes next, and the event from which time is measured.
#[derive(Clone, Copy)]
struct Place {
    part: usize,
    event: usize,
    base: usize,
}

/// The latest choice, with one event more skipped.
fn next_choice(choices: &mut Vec<Place>, events: usize) -> Option<Place> {
    while let Some(choice) = choices.pop() {
        if choice.event + 1 < events {
            return Some(Place { event: choice.event + 1, ..choice });
        }
    }
    None
}

fn time_part(text: &str) -> Option<Part> {
    let operators = [
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("==", Comparison::Equal),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let (operator, comparison) = operators.into_iter().find(|(operator, _)| text.starts_with(operator))?;
    Some(Part::Time(comparison, text[operator.len()..].trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(list: &[(u64, &[u32])]) -> Vec<Event> {
        list.iter()
            .map(|(time, met)| (*time, met.iter().map(|condition| 1 << (condition - 1)).sum()))
            .collect()
    }

    fn check(pattern: &str, list: &[(u64, &[u32])], matches: bool, count: u64) {
        let parsed = Pattern::parse(pattern, 4).unwrap();
        assert_eq!(parsed.matches(&events(list)), Ok(matches), "{pattern} {list:?}");
        assert_eq!(parsed.count(&events(list)), Ok(count), "{pattern} {list:?}");
    }

    #[test]
    fn the_examples_of_the_manual() {
        // clickhouse.com/docs, "sequenceMatch": time and number, with number = 1 and number = 2.
        check("(?1)(?2)", &[(1, &[1]), (2, &[]), (3, &[2])], false, 0);
        check("(?1)(?2)", &[(1, &[1]), (3, &[2])], true, 1);
        // "sequenceCount": 1, 3, 2, 1, 3, 2 with the conditions 1 and 2; an event of neither isn't kept.
        let list: [(u64, &[u32]); 4] = [(1, &[1]), (3, &[2]), (4, &[1]), (6, &[2])];
        check("(?1).*(?2)", &list, true, 2);
    }

    #[test]
    fn time_is_measured_from_the_event_before() {
        let list: [(u64, &[u32]); 3] = [(0, &[1]), (10, &[3]), (70, &[2])];
        // Each of these was asked of ClickHouse 26.9.
        check("(?1).*(?t<=60)(?2)", &list, true, 1);
        check("(?1).*(?t>=65)(?2)", &list, false, 0);
        check("(?1)(?t>60)(?2)", &list, true, 1);
        check("(?1)(?t>=70)(?2)", &list, true, 1);
        check("(?1)(?t>70)(?2)", &list, false, 0);
        check("(?1)(?t==70)(?2)", &list, true, 1);
        check("(?1)(?t<60)(?2)", &list, false, 0);
    }

    #[test]
    fn any_event_is_one() {
        check("(?1).(?2)", &[(0, &[1]), (1, &[3]), (2, &[2])], true, 1);
        check("(?1).(?2)", &[(0, &[1]), (2, &[2])], false, 0);
    }

    #[test]
    fn wrong_patterns_are_named() {
        for pattern in [
            "",
            "(?0)",
            "(?5)",
            "(1)",
            "(?1",
            "(?t>1)",
            "(?1)(?t!1)",
            "(?1)(?t>)",
            "(?1)x",
            "(?1)(?t>1)(?t<2)",
        ] {
            assert!(Pattern::parse(pattern, 4).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_search_without_end_is_given_up() {
        let list: Vec<Event> = (0..5000).map(|time| (time, 1)).collect();
        let pattern = Pattern::parse("(?1).*(?1).*(?1).*(?1).*(?t>99999)(?1)", 2).unwrap();
        assert_eq!(pattern.matches(&list), Err(PatternError::TooLong));
    }
}
