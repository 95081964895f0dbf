//! Sessions from events in columns: the computation of `user_sessions`, without input or output.

use std::collections::HashMap;
use std::ops::Range;

use crate::filters::SECOND;
use crate::sessions::{SessionRules, sessions};
use crate::texts::Texts;

/// Sessions: 30 minutes idle, 24 hours at most.
const RULES: SessionRules = SessionRules { idle: 30 * 60 * SECOND, length_max: 24 * 3_600 * SECOND };

/// Texts of an event, as numbers of [`Texts`].
pub const TEXTS: usize = 9;
/// Places of the texts in [`Event::texts`].
pub mod place {
    pub const SESSION: usize = 0;
    pub const NAME: usize = 1;
    pub const SCREEN: usize = 2;
    pub const PLATFORM: usize = 3;
    pub const VERSION: usize = 4;
    pub const COUNTRY: usize = 5;
    pub const DEVICE: usize = 6;
    pub const CHANNEL: usize = 7;
    pub const CAMPAIGN: usize = 8;
}

/// Kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An interaction.
    Interaction,
    /// Something that the application reports by a name of its own.
    Custom,
    /// A video event.
    Video,
}

/// An event of a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Number of the person.
    pub person: u32,
    /// Number of the id that it came with.
    pub id: u32,
    /// Nanoseconds since 1970.
    pub time: i64,
    /// Its kind.
    pub kind: Kind,
    /// Its texts.
    pub texts: [u32; TEXTS],
    /// Its revenue.
    pub revenue: Option<f64>,
}

/// Events of some days.
#[derive(Debug, Default)]
pub struct Events {
    /// Texts of all columns.
    pub texts: Texts,
    /// The events, in any order.
    pub rows: Vec<Event>,
}

/// A session of a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Number of the person.
    pub person: u32,
    /// Time of the first event.
    pub begin: i64,
    /// Time of the last event.
    pub end: i64,
    /// Number of events.
    pub events: i64,
    /// Of these, interactions.
    pub interactions: i64,
    /// Of these, video events.
    pub video_events: i64,
    /// Different ids of the person in it.
    pub ids: i64,
    /// First text of each column that isn't empty.
    pub first: [u32; TEXTS],
    /// Last text of each column that isn't empty.
    pub last: [u32; TEXTS],
    /// Sum of the revenues, if there is one.
    pub revenue: Option<f64>,
}

impl Events {
    /// Sessions that begin within `days`, by person and begin. Events before `days` only belong to sessions that began then:
    /// `begins` has the last one of each person. Of `after`, sessions have begins alone: the second list has persons and begins.
    pub fn sessions(
        &mut self,
        begins: &HashMap<String, i64>,
        days: Range<i64>,
        after: Range<i64>,
    ) -> (Vec<Session>, Vec<(u32, i64)>) {
        let texts = &self.texts;
        let order = |a: &Event, b: &Event| {
            let by_text = |event: &Event| event.texts.map(|number| texts.text(number));
            a.person.cmp(&b.person).then(a.time.cmp(&b.time)).then(a.kind.cmp(&b.kind)).then_with(|| {
                // Of the same instant: by content, so that the order of files doesn't matter.
                let by_id = texts.text(a.id).cmp(texts.text(b.id));
                let revenue = |event: &Event| event.revenue.map(f64::to_bits);
                by_text(a).cmp(&by_text(b)).then(by_id).then(revenue(a).cmp(&revenue(b)))
            })
        };
        self.rows.sort_unstable_by(order);
        let (mut found, mut later) = (Vec::new(), Vec::new());
        let mut times = Vec::new();
        for events in self.rows.chunk_by(|a, b| a.person == b.person) {
            let begin = begins.get(texts.text(events[0].person)).copied();
            let first = begin.unwrap_or(days.start);
            let events = &events[events.partition_point(|event| event.time < first)..];
            times.clear();
            times.extend(events.iter().map(|event| event.time));
            for range in sessions(&times, RULES) {
                let begin = times[range.start];
                if days.contains(&begin) {
                    found.push(session(&events[range]));
                } else if after.contains(&begin) {
                    later.push((events[0].person, begin));
                }
            }
        }
        (found, later)
    }
}

fn session(events: &[Event]) -> Session {
    let of_kind = |kind: Kind| events.iter().filter(|event| event.kind == kind).count() as i64;
    let text = |place: usize, event: Option<&Event>| event.map_or(0, |event| event.texts[place]);
    let mut ids: Vec<_> = events.iter().map(|event| event.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let revenues = events.iter().filter_map(|event| event.revenue);
    Session {
        person: events[0].person,
        begin: events[0].time,
        end: events[events.len() - 1].time,
        events: events.len() as i64,
        interactions: of_kind(Kind::Interaction),
        video_events: of_kind(Kind::Video),
        ids: ids.len() as i64,
        first: std::array::from_fn(|place| text(place, events.iter().find(|event| event.texts[place] != 0))),
        last: std::array::from_fn(|place| text(place, events.iter().rfind(|event| event.texts[place] != 0))),
        revenue: revenues.reduce(|sum, revenue| sum + revenue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::DAY;

    const MINUTE: i64 = 60 * SECOND;

    /// Events of persons at minutes.
    fn events(of: &[(&str, i64)]) -> Events {
        let mut events = Events::default();
        for (person, minute) in of {
            let person = events.texts.number(person);
            let name = events.texts.number(&format!("at {minute}"));
            let mut texts = [0; TEXTS];
            texts[place::NAME] = name;
            events.rows.push(Event {
                person,
                id: person,
                time: minute * MINUTE,
                kind: Kind::Interaction,
                texts,
                revenue: (minute % 2 == 0).then_some(1.5),
            });
        }
        events
    }

    fn begins(sessions: &[Session]) -> Vec<(i64, i64, i64)> {
        sessions
            .iter()
            .map(|session| (session.begin / MINUTE, session.end / MINUTE, session.events))
            .collect()
    }

    #[test]
    fn days_that_are_computed_alone_have_the_sessions_of_all() {
        let mut random = fastrand::Rng::with_seed(17);
        for _ in 0..300 {
            // Steady activity, so that sessions are cut by their length, or single visits.
            let pause = [3, 20, 29, 200][random.usize(..4)];
            let mut minute = 0;
            let mut of = Vec::new();
            while minute < 5 * 1_440 {
                minute += 1 + random.i64(0..pause * 2);
                of.push((["ada", "bob"][random.usize(..2)], minute));
            }
            let mut whole = events(&of);
            let all = whole.sessions(&HashMap::new(), 0..6 * DAY, 0..0).0;
            let day = random.i64(1..5);
            let is_near = |minute: i64| (day - 1..day + 2).contains(&(minute / 1_440));
            let near: Vec<_> = of.iter().copied().filter(|(_, minute)| is_near(*minute)).collect();
            let mut near = events(&near);
            let before = all.iter().filter(|session| session.begin / DAY == day - 1);
            let before = before.map(|session| (whole.texts.text(session.person).to_owned(), session.begin));
            let last: HashMap<String, i64> = before.collect();
            let (mut found, mut later) =
                near.sessions(&last, day * DAY..(day + 1) * DAY, (day + 1) * DAY..(day + 2) * DAY);
            let mut expected: Vec<_> =
                all.iter().filter(|session| session.begin / DAY == day).cloned().collect();
            let by_begin = |session: &Session| (session.begin, session.end, session.events);
            expected.sort_by_key(by_begin);
            found.sort_by_key(by_begin);
            assert_eq!(begins(&found), begins(&expected), "day {day} of {of:?}");
            later.sort_by_key(|(_, begin)| *begin);
            let mut next: Vec<_> =
                all.iter().map(|session| session.begin).filter(|begin| begin / DAY == day + 1).collect();
            next.sort_unstable();
            assert_eq!(later.iter().map(|(_, begin)| *begin).collect::<Vec<_>>(), next);
        }
    }

    #[test]
    fn a_session_has_its_first_and_last_texts_and_its_sums() {
        let mut events = events(&[("ada", 4), ("ada", 1), ("ada", 2), ("ada", 100)]);
        let (found, _) = events.sessions(&HashMap::new(), 0..DAY, 0..0);
        assert_eq!(begins(&found), [(1, 4, 3), (100, 100, 1)]);
        let text = |texts: &[u32; TEXTS]| events.texts.text(texts[place::NAME]).to_owned();
        assert_eq!((text(&found[0].first), text(&found[0].last)), ("at 1".to_owned(), "at 4".to_owned()));
        assert_eq!((found[0].revenue, found[1].revenue, found[0].ids), (Some(3.0), Some(1.5), 1));
        assert_eq!(found[0].first[place::SCREEN], 0);
    }
}
