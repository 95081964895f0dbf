//! `user_sessions` and `user_identities`: a part for each day on which sessions begin, and bucket of persons.
//!
//! A session reaches into the next day at most, so what happens on a day changes the sessions that begin on it and on the day before,
//! of the persons to whom it happens. Their rows take the place of the kept ones within a part. Sessions that were open at midnight are
//! taken up from the kept rows. If activity without a pause moves the begins of the next day's sessions, too, that day becomes dirty.
//! A person who was linked to another one has other sessions on all days.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::error::ArrowError;
use futures::future::try_join;
use tickstream_warehouse_core::derived::{USER_IDENTITIES, USER_SESSIONS};
use tickstream_warehouse_core::maintenance::changes::{Changes, since};
use tickstream_warehouse_core::maintenance::{Exchange, Making, Part};
use tickstream_warehouse_core::store::pieces::pieces;
use tickstream_warehouse_core::tasks::next;
use tokio::task::JoinSet;

use super::load::{Loaded, Source};
use super::people::{BUCKETS, People, Wanted};
use super::rows::{merged, rows_of};
use super::stitch::{Begins, Contents, Event, Events, Names};
use super::{DAY_NS, Done, TransformError, Work, day_name, day_of, runs, text, texts};

/// Kinds of events that make sessions: what a person does.
const KINDS: [&str; 3] = ["user_interaction", "custom", "video"];
/// Buckets whose sessions are made at the same time.
const STITCHERS: usize = 2;

/// Days and ids of what changed.
#[derive(Default)]
struct Dirty {
    days: BTreeSet<i64>,
    /// Ids of the events that came or went.
    ids: HashSet<String, foldhash::fast::RandomState>,
    /// Some ids aren't known.
    is_anybody: bool,
    /// Links between ids came.
    has_links: bool,
    /// Links went, or it isn't known which came: the kept identities may lack them already.
    has_lost_links: bool,
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
        let times =
            rows.column_by_name("timestamp_ns").and_then(|times| times.as_primitive_opt::<Int64Type>());
        self.days.extend(times.into_iter().flat_map(|times| times.values()).copied().map(day_of));
        let ids = |name| rows.column_by_name(name).and_then(|ids| ids.as_string_opt::<i32>());
        let (users, devices) = (ids("user_id"), ids("anonymous_id"));
        for row in 0..rows.num_rows() {
            let [user, device] = [users, devices].map(|ids| ids.map_or("", |ids| text(ids, row)));
            let id = if user.is_empty() { device } else { user };
            if !self.ids.contains(id) {
                self.ids.insert(id.to_owned());
            }
        }
    }

    fn between(&mut self, event_type: &str, least: i64, greatest: i64) {
        if KINDS.contains(&event_type) {
            self.is_anybody = true;
            self.days.extend(day_of(least)..=day_of(greatest));
        } else {
            self.has_links = true;
        }
    }

    fn went(&mut self, event_type: &str) {
        self.has_lost_links |= !KINDS.contains(&event_type);
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
    // A process that ended between the two commits left persons and sessions of different versions.
    let seen = sessions.seen().filter(|seen| !work.is_rebuild && identities.seen() == Some(*seen));
    let is_known = since(&work.events, seen, &mut dirty).await?;
    let is_all = !is_known || dirty.has_lost_links || (dirty.has_links && dirty.is_anybody);
    let people = match dirty.has_links || is_all {
        true => People::linked(work).await?,
        false => People::kept(&identities).await?,
    };
    let mut persons: HashSet<String, _> = HashSet::default();
    if dirty.has_links && !is_all {
        for (before, after) in People::kept(&identities).await?.changed(&people) {
            persons.extend([before.to_owned(), after.to_owned()]);
        }
    }
    // Who became another person did so on all days.
    let is_whole = is_all || !persons.is_empty();
    let wanted = match is_all || dirty.is_anybody {
        true => Wanted::Everybody,
        false => {
            persons.extend(dirty.ids.iter().map(|id| people.person(id).to_owned()));
            Wanted::some(persons, &people)
        }
    };
    let pieces = Arc::new(pieces(&work.events, &KINDS).await?);
    let people = Arc::new(people);
    let source = Source { pieces, people: people.clone(), wanted: Arc::new(wanted) };
    let events_max = work.events_max;
    let mut stitching = Stitching { source, is_all, events_max, counts: None, exchange: &mut sessions };
    // The day before, too: its sessions may reach into this one.
    let days = dirty.days.iter().flat_map(|day| [day - 1, *day]).collect();
    match is_whole {
        true => stitching.all_days(days).await?,
        false => stitching.days(days).await?,
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

fn identities_of(people: &People) -> Result<RecordBatch, ArrowError> {
    let rows = people.rows();
    let ids = StringArray::from_iter_values(rows.iter().map(|(id, _)| id));
    let persons = StringArray::from_iter_values(rows.iter().map(|(_, person)| person));
    RecordBatch::try_new(USER_IDENTITIES.file_schema(), vec![Arc::new(ids), Arc::new(persons)])
}

/// Makes the sessions of wanted persons.
struct Stitching<'a> {
    source: Source,
    /// Everything is made from nothing.
    is_all: bool,
    /// Events that are in memory at a time, about.
    events_max: u64,
    /// Events of each day, once they were counted.
    counts: Option<BTreeMap<i64, u64>>,
    exchange: &'a mut Exchange,
}

/// Persons and begins of sessions.
type PersonBegins = HashSet<(String, i64), foldhash::fast::RandomState>;

/// Sessions of some days.
#[derive(Default)]
struct Stitched {
    /// Rows of days and buckets.
    rows: HashMap<(i64, u32), RecordBatch>,
    /// Days of the events that they were made of.
    days: BTreeSet<i64>,
    /// The last begin of each person on the last day.
    begins: Begins,
    /// Persons and begins of sessions of the day after.
    later: PersonBegins,
}

impl Stitching<'_> {
    /// Computes all days on which wanted persons have events, and `others`.
    async fn all_days(&mut self, others: BTreeSet<i64>) -> Result<(), TransformError> {
        // Everybody's events hardly fit into memory at once.
        if !self.is_all
            && let Some(loaded) = self.source.load(i64::MIN..=i64::MAX, self.events_max).await?
        {
            let all = stitch(loaded, Begins::default(), i64::MIN..i64::MAX, 0..0, None).await?;
            let days: BTreeSet<i64> = all.days.union(&others).copied().collect();
            let parts = self.parts(days, all.rows);
            return make(self.exchange, parts).await;
        }
        let counts = self.source.counts(i64::MIN..=i64::MAX).await?;
        let days = counts.keys().copied().chain(others).collect();
        self.counts = Some(counts);
        self.days(days).await
    }

    /// Computes days.
    async fn days(&mut self, days: BTreeSet<i64>) -> Result<(), TransformError> {
        let mut left = days;
        while let Some((first, last)) = runs(&left).into_iter().next() {
            left.retain(|day| *day > last);
            self.run(first, last, &mut left).await?;
        }
        Ok(())
    }

    /// Computes the parts of a run of days, in pieces that fit into memory. Days that become dirty are added to the run, and taken
    /// out of those that are `left`.
    async fn run(
        &mut self,
        first: i64,
        mut last: i64,
        left: &mut BTreeSet<i64>,
    ) -> Result<(), TransformError> {
        let begins = if self.is_all { PersonBegins::default() } else { self.begins(first - 1).await? };
        let mut begins = last_of(begins);
        // Those of the piece before, which are made while the next one is loaded.
        let mut parts = Vec::new();
        let mut day = first;
        while day <= last {
            let (end, loaded) = self.load(day, last, std::mem::take(&mut parts)).await?;
            let days = day * DAY_NS..(end + 1) * DAY_NS;
            let after = if self.is_all { 0..0 } else { days.end..days.end + DAY_NS };
            let found = stitch(loaded, begins, days, after, Some(end)).await?;
            begins = found.begins;
            parts = self.parts(day..=end, found.rows);
            if end == last && !self.is_all && self.begins(end + 1).await? != found.later {
                last += 1;
                while left.remove(&(last + 1)) {
                    last += 1;
                }
                left.remove(&last);
            }
            day = end + 1;
        }
        make(self.exchange, parts).await
    }

    /// Loads as many days as fit into memory, with those beside them; the last one, and the events. Meanwhile `parts` are made.
    async fn load(
        &mut self,
        day: i64,
        last: i64,
        mut parts: Vec<Making>,
    ) -> Result<(i64, Loaded), TransformError> {
        if self.counts.is_none() {
            let load = self.source.load(times_of(day - 1, last + 1), self.events_max);
            if let (Some(loaded), ()) =
                try_join(load, make(self.exchange, std::mem::take(&mut parts))).await?
            {
                return Ok((last, loaded));
            }
            self.counts = Some(self.source.counts(i64::MIN..=i64::MAX).await?);
        }
        let count = |day: i64| self.counts.as_ref().and_then(|counts| counts.get(&day)).copied().unwrap_or(0);
        let (mut end, mut events) = (day, count(day));
        while end < last && events + count(end + 1) <= self.events_max {
            end += 1;
            events += count(end);
        }
        let load = self.source.load(times_of(day - 1, end + 1), u64::MAX);
        let (loaded, ()) = try_join(load, make(self.exchange, parts)).await?;
        Ok((end, loaded.unwrap_or_default()))
    }

    /// Wanted persons and begins of their kept sessions of a day.
    async fn begins(&self, day: i64) -> Result<PersonBegins, TransformError> {
        let mut begins = PersonBegins::default();
        for bucket in 0..BUCKETS {
            for rows in self.exchange.kept(&part_name(day, bucket), &["person", "begin_ns"]).await? {
                let (persons, times) = (texts(&rows, 0)?, rows.column(1).as_primitive::<Int64Type>());
                let wanted = (0..rows.num_rows()).filter(|row| self.source.wanted.has(persons.value(*row)));
                begins.extend(wanted.map(|row| (persons.value(row).to_owned(), times.value(row))));
            }
        }
        Ok(begins)
    }

    /// Parts of days with new rows.
    fn parts(
        &self,
        days: impl IntoIterator<Item = i64>,
        mut rows: HashMap<(i64, u32), RecordBatch>,
    ) -> Vec<Making> {
        let mut parts = Vec::new();
        for (day, bucket) in days.into_iter().flat_map(|day| (0..BUCKETS).map(move |bucket| (day, bucket))) {
            let (name, new) = (part_name(day, bucket), rows.remove(&(day, bucket)));
            let wanted = self.source.wanted.clone();
            match *wanted {
                Wanted::Everybody => {
                    let make = Box::new(move |_| Ok(Some(new.into_iter().collect())));
                    parts.push(Making { name, needs_kept: false, make });
                }
                Wanted::Some { .. } if new.is_some() || self.exchange.has(&name) => {
                    let make = Box::new(move |kept: Vec<RecordBatch>| merged(&kept, new, &wanted));
                    parts.push(Making { name, needs_kept: true, make });
                }
                Wanted::Some { .. } => {}
            }
        }
        parts
    }
}

async fn make(exchange: &mut Exchange, parts: Vec<Making>) -> Result<(), TransformError> {
    Ok(exchange.make(parts).await?)
}

/// Sessions of events, each bucket by a task: those that begin within `days`, and the begins `after`; of the day `last`, the last
/// begin of each person.
async fn stitch(
    loaded: Loaded,
    begins: Begins,
    days: Range<i64>,
    after: Range<i64>,
    last: Option<i64>,
) -> Result<Stitched, TransformError> {
    let stitcher = Stitcher { names: loaded.names, contents: loaded.contents, begins, days, after, last };
    let stitcher = Arc::new(stitcher);
    let (mut all, mut stitchers) = (Stitched::default(), JoinSet::new());
    let mut buckets = (0..).zip(loaded.buckets);
    loop {
        while stitchers.len() < STITCHERS
            && let Some((bucket, events)) = buckets.next()
        {
            let stitcher = stitcher.clone();
            stitchers.spawn_blocking(move || stitcher.stitch(bucket, &events));
        }
        let Some(found) = next(&mut stitchers).await.transpose()? else { return Ok(all) };
        all.rows.extend(found.rows);
        all.days.extend(found.days);
        all.begins.extend(found.begins);
        all.later.extend(found.later);
    }
}

/// Makes sessions of the events of one bucket after the other.
struct Stitcher {
    names: Names,
    contents: Contents,
    begins: Begins,
    days: Range<i64>,
    after: Range<i64>,
    last: Option<i64>,
}

impl Stitcher {
    fn stitch(&self, bucket: u32, rows: &[Event]) -> Result<Stitched, TransformError> {
        let mut found = Stitched::default();
        for events in rows.chunk_by(|a, b| day_of(a.time) == day_of(b.time)) {
            found.days.insert(day_of(events[0].time));
        }
        let events = Events { rows, contents: &self.contents, names: &self.names };
        let (sessions, later) = events.sessions(&self.begins, self.days.clone(), self.after.clone());
        let texts = &self.names.texts;
        let named = |person: u32, begin: i64| (texts.text(person).to_owned(), begin);
        found.later = later.into_iter().map(|(person, begin)| named(person, begin)).collect();
        let of_last = sessions.iter().filter(|session| Some(day_of(session.begin)) == self.last);
        found.begins = last_of(of_last.map(|session| named(session.person, session.begin)));
        // They stay in their order.
        let mut by_day: HashMap<i64, Vec<_>> = HashMap::new();
        for session in sessions {
            by_day.entry(day_of(session.begin)).or_default().push(session);
        }
        for (day, sessions) in by_day {
            found.rows.insert((day, bucket), rows_of(&sessions, texts)?);
        }
        Ok(found)
    }
}

/// Times of days, nanoseconds since 1970.
fn times_of(first: i64, last: i64) -> std::ops::RangeInclusive<i64> {
    first * DAY_NS..=(last + 1) * DAY_NS - 1
}

fn part_name(day: i64, bucket: u32) -> String {
    format!("{}.{bucket}", day_name(day))
}

/// The last begin of each person.
fn last_of(begins: impl IntoIterator<Item = (String, i64)>) -> Begins {
    let mut last = Begins::default();
    for (person, begin) in begins {
        let known = last.entry(person).or_insert(begin);
        *known = begin.max(*known);
    }
    last
}
