//! Sessions: runs of a person's events without a long pause, over midnight and over devices.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::identity::Identities;

const MINUTE_NS: i64 = 60_000_000_000;

/// Rules for the end of a session, in units of the events' times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRules {
    /// A longer pause ends a session.
    pub idle: i64,
    /// No session is longer.
    pub length_max: i64,
}

impl Default for SessionRules {
    /// 30 minutes and 24 hours, in nanoseconds.
    fn default() -> Self {
        Self { idle: 30 * MINUTE_NS, length_max: 24 * 60 * MINUTE_NS }
    }
}

/// An event of an id that may belong to somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity<'a> {
    /// User id, else anonymous id.
    pub id: &'a str,
    /// Of the event.
    pub time: i64,
}

/// A session of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Of its first event.
    pub begin: i64,
    /// Of its last event.
    pub end: i64,
    /// Places of its events in the list that it was made from, by time.
    pub events: Vec<usize>,
}

/// Ranges of the sorted times that are a session each.
pub fn sessions(times: &[i64], rules: SessionRules) -> Vec<Range<usize>> {
    debug_assert!(times.is_sorted(), "times are sorted");
    let mut found = Vec::new();
    let mut begin = 0;
    for place in 1..=times.len() {
        let is_end = times.get(place).is_none_or(|time| {
            time.saturating_sub(times[place - 1]) > rules.idle
                || time.saturating_sub(times[begin]) > rules.length_max
        });
        if is_end {
            found.push(begin..place);
            begin = place;
        }
    }
    found
}

/// Sessions of each person, stitched over all ids that belong to the person.
pub fn user_sessions(
    events: &[Activity<'_>],
    identities: &Identities,
    rules: SessionRules,
) -> BTreeMap<String, Vec<Session>> {
    let mut places = BTreeMap::<&str, Vec<usize>>::new();
    for (place, event) in events.iter().enumerate() {
        places.entry(identities.person(event.id)).or_default().push(place);
    }
    let of_person = |(person, mut places): (&str, Vec<usize>)| {
        places.sort_by_key(|place| events[*place].time);
        let times: Vec<_> = places.iter().map(|place| events[*place].time).collect();
        let session = |range: Range<usize>| Session {
            begin: times[range.start],
            end: times[range.end - 1],
            events: places[range].to_vec(),
        };
        (person.to_owned(), sessions(&times, rules).into_iter().map(session).collect())
    };
    places.into_iter().map(of_person).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Link;

    const RULES: SessionRules = SessionRules { idle: 30, length_max: 1_440 };

    #[track_caller]
    fn check(times: &[i64], expected: &[(usize, usize)]) {
        let found: Vec<_> = sessions(times, RULES).iter().map(|range| (range.start, range.end)).collect();
        assert_eq!(found, expected, "{times:?}");
    }

    /// Times in minutes.
    #[test]
    fn pauses_and_a_day_end_sessions() {
        check(&[], &[]);
        check(&[5], &[(0, 1)]);
        check(&[0, 30, 61], &[(0, 2), (2, 3)]);
        // Over midnight.
        check(&[1_430, 1_445], &[(0, 2)]);
        let steady: Vec<_> = (0..=97).map(|n| n * 15).collect();
        check(&steady, &[(0, 97), (97, 98)]);
        assert_eq!(SessionRules::default().idle, 1_800_000_000_000);
    }

    #[test]
    fn devices_are_stitched_afterwards() {
        let event = |id, time| Activity { id, time };
        let events = [event("phone", 0), event("tv", 20), event("anna", 40), event("web", 10)];
        let alone = user_sessions(&events, &Identities::default(), RULES);
        assert_eq!(alone.values().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 1]);
        let link = |time, from: &str| Link { time, from: from.into(), to: "anna".into(), is_alias: false };
        let stitched =
            user_sessions(&events, &Identities::new(vec![link(50, "tv"), link(60, "phone")]), RULES);
        assert_eq!(stitched["anna"], [Session { begin: 0, end: 40, events: vec![0, 1, 2] }]);
        assert_eq!(stitched["web"].len(), 1);
    }
}
