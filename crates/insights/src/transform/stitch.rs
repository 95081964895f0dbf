//! Sessions from events in columns: the computation of `user_sessions`, without input or output.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::RandomState;

use crate::filters::SECOND;
use crate::sessions::{SessionRules, sessions};
use crate::texts::Texts;

/// Sessions: 30 minutes idle, 24 hours at most.
const RULES: SessionRules = SessionRules { idle: 30 * 60 * SECOND, length_max: 24 * 3_600 * SECOND };

/// Texts of a session.
pub const TEXTS: usize = 9;
/// Places of the texts in [`Session::first`]: of a visit first, then those of an action.
pub mod place {
    pub const SESSION: usize = 0;
    pub const PLATFORM: usize = 1;
    pub const VERSION: usize = 2;
    pub const COUNTRY: usize = 3;
    pub const DEVICE: usize = 4;
    pub const CHANNEL: usize = 5;
    pub const CAMPAIGN: usize = 6;
    pub const NAME: usize = 7;
    pub const SCREEN: usize = 8;
}
/// Texts that the events of a visit have in common.
pub const VISIT_TEXTS: usize = place::NAME;

/// Kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An interaction.
    Interaction,
    /// Something that the application reports by a name of its own.
    Custom,
    /// A video event.
    Video,
}

/// The last begin of each person.
pub type Begins = HashMap<String, i64, RandomState>;

/// An event of a person: 24 bytes, so that many fit into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since 1970.
    pub time: i64,
    /// Number of the id that it came with.
    pub id: u32,
    /// Number of its visit.
    pub visit: u32,
    /// Number of its action.
    pub action: u32,
    /// Number of its revenue; 0 is none.
    pub revenue: u32,
}

/// Texts of a visit, as numbers of [`Texts`], by place.
pub type Visit = [u32; VISIT_TEXTS];

/// Kind of an event, its name and its screen, as numbers of [`Texts`].
pub type Action = (Kind, u32, u32);

/// Content of events by number.
#[derive(Debug, Default)]
pub struct Contents {
    /// Visits, some perhaps more than once.
    pub visits: Vec<Visit>,
    /// Actions, some perhaps more than once.
    pub actions: Vec<Action>,
    /// Revenues, after a first one that isn't used.
    pub revenues: Vec<f64>,
}

/// Texts of events, and the persons of their ids.
#[derive(Debug, Default)]
pub struct Names {
    /// Texts of all columns.
    pub texts: Texts,
    /// Number of the person of each id, by the id's number; 0 where the text is no id.
    pub persons: Vec<u32>,
}

/// Events of some persons, in any order.
#[derive(Clone, Copy, Debug)]
pub struct Events<'a> {
    /// The events.
    pub rows: &'a [Event],
    /// Their content.
    pub contents: &'a Contents,
    /// Their texts.
    pub names: &'a Names,
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

impl Events<'_> {
    /// Sessions that begin within `days`, by the person's text and begin. Events before `days` only belong to sessions that began
    /// then: `begins` has the last one of each person. Of `after`, sessions have begins alone: the second list has persons and
    /// begins.
    pub fn sessions(
        &self,
        begins: &Begins,
        days: Range<i64>,
        after: Range<i64>,
    ) -> (Vec<Session>, Vec<(u32, i64)>) {
        let order = self.order();
        let (mut found, mut later) = (Vec::new(), Vec::new());
        let mut times = Vec::new();
        for places in order.chunk_by(|a, b| self.person(*a) == self.person(*b)) {
            let person = self.person(places[0]);
            let first =
                if begins.is_empty() { None } else { begins.get(self.names.texts.text(person)).copied() };
            let first = first.unwrap_or(days.start);
            let places = &places[places.partition_point(|place| self.event(*place).time < first)..];
            times.clear();
            times.extend(places.iter().map(|place| self.event(*place).time));
            for range in sessions(&times, RULES) {
                let begin = times[range.start];
                if days.contains(&begin) {
                    found.push(self.session(person, &places[range]));
                } else if after.contains(&begin) {
                    later.push((person, begin));
                }
            }
        }
        (found, later)
    }

    fn event(&self, place: u32) -> &Event {
        &self.rows[place as usize]
    }

    fn person(&self, place: u32) -> u32 {
        self.names.persons[self.event(place).id as usize]
    }

    /// Places of events by the text of their person and time. Of the same instant, they are ordered by content, so that the order
    /// of files doesn't matter.
    fn order(&self) -> Vec<u32> {
        let ranks = self.ranks();
        let key = |(place, event): (usize, &Event)| {
            let rank = ranks[self.names.persons[event.id as usize] as usize];
            let time = event.time as u64 ^ 1 << 63;
            u128::from(rank) << 96 | u128::from(time) << 32 | place as u128
        };
        let mut keys: Vec<u128> = self.rows.iter().enumerate().map(key).collect();
        keys.sort_unstable();
        let mut order: Vec<u32> = keys.iter().map(|key| *key as u32).collect();
        let mut start = 0;
        for same in keys.chunk_by(|a, b| a >> 32 == b >> 32) {
            if same.len() > 1 {
                order[start..start + same.len()].sort_unstable_by(|a, b| self.by_content(*a, *b));
            }
            start += same.len();
        }
        order
    }

    /// Place of each person among those of the events, by text; by the person's number.
    fn ranks(&self) -> Vec<u32> {
        let mut ranks = vec![0; self.names.texts.count()];
        let mut persons = Vec::new();
        for event in self.rows {
            let person = self.names.persons[event.id as usize];
            if ranks[person as usize] == 0 {
                ranks[person as usize] = 1;
                persons.push(person);
            }
        }
        let text = |person: &u32| self.names.texts.text(*person);
        persons.sort_by(|a, b| text(a).cmp(text(b)));
        for (rank, person) in (0..).zip(persons) {
            ranks[person as usize] = rank;
        }
        ranks
    }

    /// Order of two events of a person at the same instant.
    fn by_content(&self, a: u32, b: u32) -> Ordering {
        let text = |number: u32| self.names.texts.text(number);
        let content = |place: u32| {
            let event = self.event(place);
            let (kind, name, screen) = self.contents.actions[event.action as usize];
            let visit = self.contents.visits[event.visit as usize].map(text);
            let (session, rest) = (visit[place::SESSION], &visit[place::PLATFORM..]);
            let rest: [&str; VISIT_TEXTS - 1] = std::array::from_fn(|place| rest[place]);
            (
                kind,
                session,
                text(name),
                text(screen),
                rest,
                text(event.id),
                self.revenue(event).map(f64::to_bits),
            )
        };
        content(a).cmp(&content(b))
    }

    fn revenue(&self, event: &Event) -> Option<f64> {
        (event.revenue != 0).then(|| self.contents.revenues[event.revenue as usize])
    }

    /// The session of some events, by time; there is one at least.
    fn session(&self, person: u32, places: &[u32]) -> Session {
        let mut session = Session {
            person,
            begin: self.event(places[0]).time,
            end: self.event(places[places.len() - 1]).time,
            events: places.len() as i64,
            interactions: 0,
            video_events: 0,
            ids: 0,
            first: [0; TEXTS],
            last: [0; TEXTS],
            revenue: None,
        };
        let (mut ids, mut visit) = (Vec::new(), None);
        for event in places.iter().map(|place| self.event(*place)) {
            let (kind, name, screen) = self.contents.actions[event.action as usize];
            session.interactions += i64::from(kind == Kind::Interaction);
            session.video_events += i64::from(kind == Kind::Video);
            if !ids.contains(&event.id) {
                ids.push(event.id);
            }
            if visit.replace(event.visit) != Some(event.visit) {
                for (place, text) in self.contents.visits[event.visit as usize].into_iter().enumerate() {
                    session.has(place, text);
                }
            }
            session.has(place::NAME, name);
            session.has(place::SCREEN, screen);
            session.revenue = match (session.revenue, self.revenue(event)) {
                (Some(sum), Some(revenue)) => Some(sum + revenue),
                (sum, revenue) => sum.or(revenue),
            };
        }
        session.ids = ids.len() as i64;
        session
    }
}

impl Session {
    /// Takes in a text of its next event.
    fn has(&mut self, place: usize, text: u32) {
        if text != 0 {
            if self.first[place] == 0 {
                self.first[place] = text;
            }
            self.last[place] = text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::DAY;

    const MINUTE: i64 = 60 * SECOND;

    /// Events of persons at minutes.
    #[derive(Default)]
    struct Sample {
        rows: Vec<Event>,
        contents: Contents,
        names: Names,
    }

    impl Sample {
        fn at(of: &[(&str, i64)]) -> Self {
            let mut sample = Self::default();
            sample.contents.visits.push([0; VISIT_TEXTS]);
            sample.contents.revenues.extend([0.0, 1.5]);
            for (action, (person, minute)) in (0..).zip(of) {
                let id = sample.names.texts.number(person);
                let name = sample.names.texts.number(&format!("at {minute}"));
                sample.contents.actions.push((Kind::Interaction, name, 0));
                let revenue = u32::from(minute % 2 == 0);
                sample.rows.push(Event { time: minute * MINUTE, id, visit: 0, action, revenue });
            }
            sample.names.persons = (0..sample.names.texts.count() as u32).collect();
            sample
        }

        fn events(&self) -> Events<'_> {
            Events { rows: &self.rows, contents: &self.contents, names: &self.names }
        }
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
            let whole = Sample::at(&of);
            let all = whole.events().sessions(&Begins::default(), 0..6 * DAY, 0..0).0;
            let day = random.i64(1..5);
            let is_near = |minute: i64| (day - 1..day + 2).contains(&(minute / 1_440));
            let near: Vec<_> = of.iter().copied().filter(|(_, minute)| is_near(*minute)).collect();
            let near = Sample::at(&near);
            let before = all.iter().filter(|session| session.begin / DAY == day - 1);
            let before =
                before.map(|session| (whole.names.texts.text(session.person).to_owned(), session.begin));
            let last: Begins = before.collect();
            let (days, after) = (day * DAY..(day + 1) * DAY, (day + 1) * DAY..(day + 2) * DAY);
            let (mut found, mut later) = near.events().sessions(&last, days, after);
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
        let sample = Sample::at(&[("ada", 4), ("ada", 1), ("ada", 2), ("ada", 100)]);
        let (found, _) = sample.events().sessions(&Begins::default(), 0..DAY, 0..0);
        assert_eq!(begins(&found), [(1, 4, 3), (100, 100, 1)]);
        let text = |texts: &[u32; TEXTS]| sample.names.texts.text(texts[place::NAME]).to_owned();
        assert_eq!((text(&found[0].first), text(&found[0].last)), ("at 1".to_owned(), "at 4".to_owned()));
        assert_eq!((found[0].revenue, found[1].revenue, found[0].ids), (Some(3.0), Some(1.5), 1));
        assert_eq!(found[0].first[place::SCREEN], 0);
    }
}
