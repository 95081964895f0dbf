//! `user_sessions` and `user_identities`: a part for each day on which sessions begin, and bucket of persons.
//!
//! A session reaches into the next day at most, so what happens on a day changes the sessions that begin on it and on the day before.
//! Sessions that were open at midnight are taken up from the kept rows. If activity without a pause moves the begins of the next
//! day's sessions, too, that day becomes dirty.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use datafusion::arrow::error::ArrowError;
use tickstream_warehouse_core::derived::{USER_IDENTITIES, USER_SESSIONS};
use tickstream_warehouse_core::maintenance::changes::{Changes, since};
use tickstream_warehouse_core::maintenance::{Exchange, Part};

use super::people::{BUCKETS, People, bucket};
use super::stitch::{Event, Events, Kind, Session, TEXTS, place};
use super::{DAY_NS, Done, TransformError, Work, between, day_name, day_of, runs, texts};
use crate::texts::Texts;

/// Kinds of events that make sessions: what a person does.
const KINDS: [&str; 3] = ["user_interaction", "custom", "video"];
/// Events that are in memory at a time, about.
const EVENTS_MAX: u64 = 3_000_000;

/// Days and ids of what changed.
#[derive(Default)]
struct Dirty {
    days: BTreeSet<i64>,
    ids: HashSet<String>,
    /// Some ids aren't known.
    is_anybody: bool,
    /// Links between ids came or went.
    has_links: bool,
}

impl Changes for Dirty {
    const COLUMNS: &'static [&'static str] = &["timestamp_ns", "user_id", "anonymous_id"];

    fn concerns(&self, event_type: &str) -> bool {
        KINDS.contains(&event_type) || matches!(event_type, "identify" | "alias")
    }

    fn rows(&mut self, event_type: &str, rows: &RecordBatch) {
        if !KINDS.contains(&event_type) {
            self.has_links = true;
            return;
        }
        if let Some(times) =
            rows.column_by_name("timestamp_ns").and_then(|times| times.as_primitive_opt::<Int64Type>())
        {
            self.days.extend(times.values().iter().copied().map(day_of));
        }
        for name in ["user_id", "anonymous_id"] {
            let ids = rows.column_by_name(name).and_then(|ids| ids.as_string_opt::<i32>());
            for id in ids.into_iter().flatten().flatten() {
                if !self.ids.contains(id) {
                    self.ids.insert(id.to_owned());
                }
            }
        }
    }

    fn between(&mut self, event_type: &str, least: i64, greatest: i64) {
        self.has_links |= !KINDS.contains(&event_type);
        self.is_anybody = true;
        self.days.extend(day_of(least)..=day_of(greatest));
    }
}

/// Brings both tables up to date.
pub async fn update(work: &Work<'_>) -> Result<Vec<Done>, TransformError> {
    let mut sessions = Exchange::begin(work.tables, &USER_SESSIONS).await?;
    let mut identities = Exchange::begin(work.tables, &USER_IDENTITIES).await?;
    let version = work.version();
    if !work.is_rebuild && (sessions.seen(), identities.seen()) == (Some(version), Some(version)) {
        return Ok(Vec::new());
    }
    let mut dirty = Dirty::default();
    let seen = sessions.seen().min(identities.seen()).filter(|_| !work.is_rebuild);
    let is_all = !since(&work.events, seen, &mut dirty).await.map_err(TransformError::from)?;
    let people = match dirty.has_links || is_all {
        true => People::linked(work).await?,
        false => People::kept(work).await?,
    };
    let (mut days, mut mask) = (BTreeSet::new(), 0);
    if is_all {
        days = work
            .integers(&format!("SELECT DISTINCT timestamp_ns / {DAY_NS} FROM events WHERE {}", kinds()))
            .await?;
        mask = (1 << BUCKETS) - 1;
    } else {
        // The day before, too: its sessions may reach into this one.
        days.extend(dirty.days.iter().flat_map(|day| [day - 1, *day]));
        if dirty.has_links {
            let before = People::kept(work).await?;
            affected(work, &before.changed(&people), &mut days, &mut mask).await?;
        }
        mask |= match dirty.is_anybody {
            true => (1 << BUCKETS) - 1,
            false => dirty.ids.iter().fold(0, |mask, id| mask | 1 << bucket(people.person(id))),
        };
    }
    let mut stitching = Stitching { work, people: &people, mask, exchange: &mut sessions };
    let mut left = days;
    while let Some((first, last)) = runs(&left).into_iter().next() {
        left.retain(|day| *day > last);
        stitching.run(first, last, &mut left, is_all).await?;
    }
    // Persons last: if the process ends before, the next update finds the same changes between them again.
    let (parts, rows) = sessions.commit(version, is_all).await?;
    identities.give(Part { name: "all".to_owned(), rows: vec![identities_of(&people)?] }).await?;
    let (_, persons) = identities.commit(version, true).await?;
    Ok(vec![
        Done { table: USER_SESSIONS.name, parts, rows },
        Done { table: USER_IDENTITIES.name, parts: 1, rows: persons },
    ])
}

/// Condition on the kinds.
fn kinds() -> String {
    format!("event_type IN ('{}')", KINDS.join("', '"))
}

/// Adds the days of sessions of persons who were changed, and the buckets of those of before and after.
async fn affected(
    work: &Work<'_>,
    changed: &[(&str, &str)],
    days: &mut BTreeSet<i64>,
    mask: &mut u32,
) -> Result<(), TransformError> {
    if changed.is_empty() {
        return Ok(());
    }
    let before: HashSet<&str> = changed.iter().map(|(before, _)| *before).collect();
    for (before, after) in changed {
        *mask |= 1 << bucket(before) | 1 << bucket(after);
    }
    work.each("SELECT person, begin_ns, end_ns FROM user_sessions", |batch| {
        let persons = texts(batch, 0)?;
        let (begins, ends) =
            (batch.column(1).as_primitive::<Int64Type>(), batch.column(2).as_primitive::<Int64Type>());
        for row in (0..persons.len()).filter(|row| before.contains(persons.value(*row))) {
            let (begin, end) = (begins.value(row).div_euclid(DAY_NS), ends.value(row).div_euclid(DAY_NS));
            days.extend(begin - 1..=end);
        }
        Ok(())
    })
    .await
}

fn identities_of(people: &People) -> Result<RecordBatch, ArrowError> {
    let rows = people.rows();
    let ids = StringArray::from_iter_values(rows.iter().map(|(id, _)| id));
    let persons = StringArray::from_iter_values(rows.iter().map(|(_, person)| person));
    RecordBatch::try_new(USER_IDENTITIES.file_schema(), vec![Arc::new(ids), Arc::new(persons)])
}

/// Makes sessions of runs of days, for some buckets of persons.
struct Stitching<'a> {
    work: &'a Work<'a>,
    people: &'a People,
    mask: u32,
    exchange: &'a mut Exchange,
}

impl Stitching<'_> {
    /// Computes the parts of a run of days, in pieces that fit into memory. Days that become dirty are added to the run, and taken
    /// out of those that are `left`.
    async fn run(
        &mut self,
        first: i64,
        mut last: i64,
        left: &mut BTreeSet<i64>,
        is_all: bool,
    ) -> Result<(), TransformError> {
        let counts = self.counts(first, last).await?;
        let mut begins = if is_all { HashMap::new() } else { last_of(self.begins(first - 1).await?) };
        let mut day = first;
        while day <= last {
            let (mut end, mut events) = (day, counts.get(&day).copied().unwrap_or(0));
            while end < last && events + counts.get(&(end + 1)).unwrap_or(&0) <= EVENTS_MAX {
                end += 1;
                events += counts.get(&end).unwrap_or(&0);
            }
            let mut events = self.load(day - 1, end + 1).await?;
            let (days, after) = (day * DAY_NS..(end + 1) * DAY_NS, (end + 1) * DAY_NS..(end + 2) * DAY_NS);
            let (sessions, later) = events.sessions(&begins, days, after);
            begins = last_begins(&sessions, &events.texts, end);
            self.give(day, end, &events.texts, sessions).await?;
            if end == last && !is_all && self.are_moved(&later, &events.texts, end + 1).await? {
                last += 1;
                while left.remove(&(last + 1)) {
                    last += 1;
                }
                left.remove(&last);
            }
            day = end + 1;
        }
        Ok(())
    }

    /// Events of each day.
    async fn counts(&self, first: i64, last: i64) -> Result<HashMap<i64, u64>, TransformError> {
        let sql = format!(
            "SELECT timestamp_ns / {DAY_NS}, count(*) FROM events WHERE {} AND {} GROUP BY 1",
            kinds(),
            between(first, last)
        );
        let mut counts = HashMap::new();
        self.work
            .each(&sql, |batch| {
                let (days, events) = (
                    batch.column(0).as_primitive::<Int64Type>(),
                    batch.column(1).as_primitive::<Int64Type>(),
                );
                counts.extend(
                    days.values().iter().copied().zip(events.values().iter().map(|count| *count as u64)),
                );
                Ok(())
            })
            .await?;
        Ok(counts)
    }

    /// Begins of the kept sessions of a day, by person.
    async fn begins(&self, day: i64) -> Result<Vec<(String, i64)>, TransformError> {
        let (from, to) = (day * DAY_NS, (day + 1) * DAY_NS);
        let sql = format!(
            "SELECT person, begin_ns FROM user_sessions WHERE begin_ns >= {from} AND begin_ns < {to}"
        );
        let mut begins = Vec::new();
        self.work
            .each(&sql, |batch| {
                let (persons, times) = (texts(batch, 0)?, batch.column(1).as_primitive::<Int64Type>());
                let rows = (0..persons.len()).filter(|row| self.is_wanted(persons.value(*row)));
                begins.extend(rows.map(|row| (persons.value(row).to_owned(), times.value(row))));
                Ok(())
            })
            .await?;
        Ok(begins)
    }

    fn is_wanted(&self, person: &str) -> bool {
        self.mask & 1 << bucket(person) != 0
    }

    /// True if sessions of a day that isn't dirty begin at other times than the kept ones.
    async fn are_moved(&self, later: &[(u32, i64)], texts: &Texts, day: i64) -> Result<bool, TransformError> {
        let kept: HashSet<(String, i64)> = self.begins(day).await?.into_iter().collect();
        let found: HashSet<(String, i64)> =
            later.iter().map(|(person, begin)| (texts.text(*person).to_owned(), *begin)).collect();
        Ok(kept != found)
    }

    /// Events of days, of the wanted persons.
    async fn load(&self, first: i64, last: i64) -> Result<Events, TransformError> {
        let sql = format!(
            "SELECT timestamp_ns, event_type, user_id, anonymous_id, session_id, event_name, screen_name, platform, app_version, country, \
             device_type, channel, campaign, revenue FROM events WHERE {} AND {}",
            kinds(),
            between(first, last)
        );
        let mut events = Events::default();
        let mut persons = HashMap::new();
        self.work.each(&sql, |batch| self.add(batch, &mut events, &mut persons)).await?;
        Ok(events)
    }

    fn add(
        &self,
        batch: &RecordBatch,
        events: &mut Events,
        persons: &mut HashMap<u32, Option<u32>>,
    ) -> Result<(), ArrowError> {
        let mut column = |place: usize| events.texts.column(batch.column(place));
        let (kinds, users, devices) = (column(1)?, column(2)?, column(3)?);
        let mut columns = Vec::with_capacity(TEXTS);
        for place in 0..TEXTS {
            columns.push(column(4 + place)?);
        }
        let times = batch.column(0).as_primitive::<Int64Type>();
        let revenues = batch.column(4 + TEXTS).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            let id = if users[row] != 0 { users[row] } else { devices[row] };
            if id == 0 {
                continue;
            }
            let person = persons.entry(id).or_insert_with(|| {
                let person = self.people.person(events.texts.text(id)).to_owned();
                self.is_wanted(&person).then(|| events.texts.number(&person))
            });
            let Some(person) = *person else { continue };
            let kind = match events.texts.text(kinds[row]) {
                "video" => Kind::Video,
                "custom" => Kind::Custom,
                _ => Kind::Interaction,
            };
            let revenue = revenues.is_valid(row).then(|| revenues.value(row));
            let texts = std::array::from_fn(|place| columns[place][row]);
            events.rows.push(Event { person, id, time: times.value(row), kind, texts, revenue });
        }
        Ok(())
    }

    /// Gives the parts of days their sessions.
    async fn give(
        &mut self,
        first: i64,
        last: i64,
        texts: &Texts,
        sessions: Vec<Session>,
    ) -> Result<(), TransformError> {
        let mut parts: HashMap<(i64, u32), Vec<Session>> = HashMap::new();
        for session in sessions {
            let part = (session.begin.div_euclid(DAY_NS), bucket(texts.text(session.person)));
            parts.entry(part).or_default().push(session);
        }
        for day in first..=last {
            for bucket in (0..BUCKETS).filter(|bucket| self.mask & 1 << bucket != 0) {
                let mut sessions = parts.remove(&(day, bucket)).unwrap_or_default();
                sessions.sort_by(|a, b| {
                    texts.text(a.person).cmp(texts.text(b.person)).then(a.begin.cmp(&b.begin))
                });
                let rows = if sessions.is_empty() { Vec::new() } else { vec![rows_of(&sessions, texts)?] };
                self.exchange.give(Part { name: format!("{}.{bucket}", day_name(day)), rows }).await?;
            }
        }
        Ok(())
    }
}

/// The last begin of each person.
fn last_of(begins: Vec<(String, i64)>) -> HashMap<String, i64> {
    let mut last = HashMap::new();
    for (person, begin) in begins {
        let known = last.entry(person).or_insert(begin);
        *known = begin.max(*known);
    }
    last
}

/// The last begins on a day.
fn last_begins(sessions: &[Session], texts: &Texts, day: i64) -> HashMap<String, i64> {
    let of_day = sessions.iter().filter(|session| session.begin.div_euclid(DAY_NS) == day);
    last_of(of_day.map(|session| (texts.text(session.person).to_owned(), session.begin)).collect())
}

/// Rows of the table.
fn rows_of(sessions: &[Session], texts: &Texts) -> Result<RecordBatch, ArrowError> {
    let integer = |of: fn(&Session) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(sessions.iter().map(of)))
    };
    let time = |of: fn(&Session) -> i64| -> ArrayRef {
        let times = sessions.iter().map(|session| of(session).div_euclid(1_000));
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let text = |of: &dyn Fn(&Session) -> u32| -> ArrayRef {
        let named =
            sessions.iter().map(|session| Some(texts.text(of(session))).filter(|text| !text.is_empty()));
        Arc::new(StringArray::from_iter(named))
    };
    let first = |place: usize| text(&move |session: &Session| session.first[place]);
    let last = |place: usize| text(&move |session: &Session| session.last[place]);
    let durations = sessions.iter().map(|session| (session.end - session.begin) as f64 / 1e9);
    let columns = vec![
        text(&|session: &Session| session.person),
        time(|session| session.begin),
        time(|session| session.end),
        integer(|session| session.begin),
        integer(|session| session.end),
        Arc::new(Float64Array::from_iter_values(durations)) as ArrayRef,
        integer(|session| session.events),
        integer(|session| session.interactions),
        integer(|session| session.video_events),
        integer(|session| session.ids),
        first(place::SESSION),
        first(place::PLATFORM),
        first(place::VERSION),
        first(place::COUNTRY),
        first(place::DEVICE),
        first(place::CHANNEL),
        first(place::CAMPAIGN),
        first(place::SCREEN),
        last(place::SCREEN),
        first(place::NAME),
        last(place::NAME),
        Arc::new(Float64Array::from_iter(sessions.iter().map(|session| session.revenue))),
    ];
    RecordBatch::try_new(USER_SESSIONS.file_schema(), columns)
}
