//! Paths through sessions: from, to or around an event. Every session with the anchor counts once, so that the sums are
//! those of other reports.

use std::collections::BTreeMap;
use std::ops::Range;

/// Sign between the events of a path, for people.
pub const THEN: &str = " → ";

/// Part of a session that a path shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the anchor's first occurrence on.
    From,
    /// Up to the anchor's last occurrence.
    To,
    /// Before and after the anchor's first occurrence.
    Around,
}

/// Rules of a path report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRules {
    /// The event; none: the session's begin (for `To` its end).
    pub anchor: Option<u32>,
    /// Part of the session.
    pub direction: Direction,
    /// Events before or after the anchor.
    pub steps: usize,
    /// An event that repeats itself is shown once.
    pub is_collapsed: bool,
}

/// A path and the number of sessions that took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Events in order of time; none: the session began or ended there.
    pub events: Vec<Option<u32>>,
    /// Number of sessions.
    pub sessions: u64,
}

/// The most frequent paths, and the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// The most frequent first; equally frequent ones by their events.
    pub top: Vec<Path>,
    /// Sessions with other paths.
    pub other: u64,
}

/// One band of a Sankey diagram: the place of its left end in the path, the events at both ends, sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// Place of `from`, counted from 0.
    pub place: usize,
    /// The event at the left end.
    pub from: Option<u32>,
    /// The event at the right end.
    pub to: Option<u32>,
    /// Number of sessions.
    pub sessions: u64,
}

/// The paths of sessions, each its events in order of time.
pub fn paths(sessions: &[Vec<u32>], rules: PathRules, top: usize) -> Paths {
    let mut counts = BTreeMap::<Vec<Option<u32>>, u64>::new();
    for path in sessions.iter().filter_map(|session| rules.path(session)) {
        *counts.entry(path).or_default() += 1;
    }
    let mut all: Vec<_> = counts.into_iter().map(|(events, sessions)| Path { events, sessions }).collect();
    all.sort_by(|a, b| b.sessions.cmp(&a.sessions).then_with(|| a.events.cmp(&b.events)));
    let rest = all.split_off(top.min(all.len()));
    Paths { top: all, other: rest.iter().map(|path| path.sessions).sum() }
}

/// Bands of the paths; those at one place sum to the sessions of the paths that reach it.
pub fn bands(paths: &[Path]) -> Vec<Band> {
    let mut counts = BTreeMap::new();
    for path in paths {
        for (place, pair) in path.events.windows(2).enumerate() {
            *counts.entry((place, pair[0], pair[1])).or_default() += path.sessions;
        }
    }
    counts.into_iter().map(|((place, from, to), sessions)| Band { place, from, to, sessions }).collect()
}

impl PathRules {
    /// The path of a session; none where the anchor doesn't occur.
    pub fn path(&self, session: &[u32]) -> Option<Vec<Option<u32>>> {
        let mut events = session.to_vec();
        if self.is_collapsed {
            events.dedup();
        }
        let last = events.len().checked_sub(1)?;
        let anchor = match (self.anchor, self.direction) {
            (None, Direction::To) => last,
            (None, _) => 0,
            (Some(anchor), Direction::To) => events.iter().rposition(|event| *event == anchor)?,
            (Some(anchor), _) => events.iter().position(|event| *event == anchor)?,
        };
        let has_before = self.direction != Direction::From;
        let has_after = self.direction != Direction::To;
        let range = Range {
            start: if has_before { anchor.saturating_sub(self.steps) } else { anchor },
            end: if has_after { anchor.saturating_add(self.steps).min(last) + 1 } else { anchor + 1 },
        };
        let begins = has_before && anchor < self.steps;
        let ends = has_after && anchor.saturating_add(self.steps) > last;
        let shown = events[range].iter().copied().map(Some);
        Some(begins.then_some(None).into_iter().chain(shown).chain(ends.then_some(None)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(anchor: Option<u32>, direction: Direction, steps: usize) -> PathRules {
        PathRules { anchor, direction, steps, is_collapsed: false }
    }

    #[track_caller]
    fn check(session: &[u32], rules: PathRules, expected: Option<&[u32]>) {
        // 0 stands for the session's begin or end.
        let found =
            rules.path(session).map(|path| path.into_iter().map(|e| e.unwrap_or(0)).collect::<Vec<_>>());
        assert_eq!(found.as_deref(), expected, "{session:?} {rules:?}");
    }

    #[test]
    fn from_to_and_around() {
        check(&[1, 2, 3, 2, 4], rules(Some(2), Direction::From, 2), Some(&[2, 3, 2]));
        check(&[1, 2, 3, 2, 4], rules(Some(2), Direction::To, 2), Some(&[2, 3, 2]));
        check(&[1, 2, 3, 2, 4], rules(Some(2), Direction::Around, 1), Some(&[1, 2, 3]));
        check(&[2, 3], rules(Some(2), Direction::From, 2), Some(&[2, 3, 0]));
        check(&[2, 3], rules(Some(2), Direction::Around, 2), Some(&[0, 2, 3, 0]));
        check(&[1, 3], rules(Some(2), Direction::From, 2), None);
        check(&[1, 2, 3], rules(None, Direction::From, 1), Some(&[1, 2]));
        check(&[1, 2, 3], rules(None, Direction::To, 1), Some(&[2, 3]));
        check(&[], rules(None, Direction::To, 1), None);
        let collapsed = PathRules { is_collapsed: true, ..rules(None, Direction::From, 2) };
        check(&[1, 1, 1, 2, 2, 3], collapsed, Some(&[1, 2, 3]));
    }

    #[test]
    fn sums_are_the_sessions_with_the_anchor() {
        let sessions = [vec![1, 2], vec![1, 2], vec![1, 3], vec![4, 1], vec![5]];
        let found = paths(&sessions, rules(Some(1), Direction::From, 1), 1);
        let top = Path { events: vec![Some(1), Some(2)], sessions: 2 };
        assert_eq!(found, Paths { top: vec![top], other: 2 });
        let all = paths(&sessions, rules(Some(1), Direction::From, 1), 9);
        let bands = bands(&all.top);
        assert_eq!(bands.iter().map(|band| band.sessions).sum::<u64>(), 4);
        assert_eq!(bands[0], Band { place: 0, from: Some(1), to: None, sessions: 1 });
    }
}
