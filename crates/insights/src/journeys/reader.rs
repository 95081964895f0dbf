//! Readers of persons' events: from answers of SQL, or from a scan of columns whose texts are dictionaries.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::arrow::error::ArrowError;
use foldhash::fast::RandomState;
use tickstream_warehouse_core::query::{Scan, facts};

use super::{Event, Journeys};
use crate::filters::{CLIENT, DAY, Filters};
use crate::memo::Memo;
use crate::texts::Texts;

/// Name of the time's column where the same person, day and name again, one row after the other, are read once.
const DAY_NAME: &str = "day";
const IDS: [&str; 2] = ["user_id", "anonymous_id"];
const TIME: &str = "timestamp_ns";
const NAME: &str = "event_name";

/// Names of the events that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// All events, without their names.
    Nameless,
    /// All events.
    All,
    /// Events with one of these names.
    OneOf(&'a [&'a str]),
}

/// Events of a batch that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// All.
    Each,
    /// At the day's begin; the same person, day and name again, one row after the other, once.
    Days,
    /// The first event of each person, and one that is marked.
    Firsts,
}

/// Events of persons to be read by a scan.
#[derive(Clone, Debug)]
pub struct Selection {
    kinds: &'static [&'static str],
    period: Range<i64>,
    /// Column of the events' names.
    name: Option<&'static str>,
    /// Column of numbers: an event with one above 0 is marked.
    mark: Option<&'static str>,
    /// Columns of texts, and the texts that an event has one of.
    conditions: Vec<(&'static str, Vec<String>)>,
    kept: Kept,
}

impl Selection {
    /// Events of people in the period, with the values of the filters.
    pub fn events(filters: &Filters, names: Named<'_>) -> Self {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (name, names) = match names {
            Named::Nameless => (None, None),
            Named::All => (Some(NAME), None),
            Named::OneOf(names) => (Some(NAME), Some((NAME, texts(names)))),
        };
        let values = filters.columns(CLIENT).map(|(column, value)| (column, texts(&[value])));
        Self {
            kinds: &facts::CLIENT,
            period: filters.from..filters.to,
            name,
            mark: None,
            conditions: names.into_iter().chain(values).collect(),
            kept: Kept::Each,
        }
    }

    /// Steps of ways through an application: interactions, and what it reports by names of its own.
    pub fn steps(filters: &Filters) -> Self {
        Self { kinds: &["user_interaction", "custom"], ..Self::events(filters, Named::All) }
    }

    /// Events that people make when they come, without names: their visits.
    pub fn visits(filters: &Filters) -> Self {
        Self { kinds: &["user_interaction", "video", "custom"], ..Self::events(filters, Named::Nameless) }
    }

    /// Interactions by their names, and everything else without a name.
    pub fn uses(filters: &Filters) -> Vec<Self> {
        const OTHERS: [&str; 6] = ["custom", "video", "performance", "exposure", "feedback", "crash"];
        let interactions = Self { kinds: &["user_interaction"], ..Self::events(filters, Named::All) };
        let others = Self { kinds: &OTHERS, ..Self::events(filters, Named::Nameless) };
        vec![interactions, others]
    }

    /// Days on which persons did something, up to the end of the period, as events at the day's begin. The same person, day and name
    /// again, one row after the other, are read once.
    pub fn days(filters: &Filters, names: Named<'_>) -> Self {
        Self { kept: Kept::Days, ..Self::events(&up_to_end(filters), names) }
    }

    /// Events with their channels as names; those with revenue are marked.
    pub fn channels(filters: &Filters) -> Self {
        Self { name: Some("channel"), mark: Some("revenue"), ..Self::events(filters, Named::Nameless) }
    }

    /// The same up to the end of the period, and of each person some: the first event is among them, and one that is marked.
    pub fn first_channels(filters: &Filters) -> Self {
        Self { kept: Kept::Firsts, ..Self::channels(&up_to_end(filters)) }
    }

    /// The scan that reads them.
    pub fn scan(&self) -> Scan {
        let mut columns: Vec<_> = IDS.into_iter().chain([TIME]).chain(self.name).chain(self.mark).collect();
        columns.extend(
            self.conditions.iter().map(|(column, _)| *column).filter(|column| self.name != Some(column)),
        );
        Scan { kinds: self.kinds, period: self.period.clone(), columns }
    }

    /// True for each row that is in the selection.
    fn wants(&self, batch: &RecordBatch, times: &[i64]) -> Result<Vec<bool>, ArrowError> {
        let mut is_wanted: Vec<bool> = times.iter().map(|time| self.period.contains(time)).collect();
        for (column, wanted) in &self.conditions {
            let is_one = |text: &str| wanted.iter().any(|one| one == text);
            let is_text_wanted = Memo::default().rows(
                batch,
                column,
                false,
                |row| is_wanted[row],
                |texts, new| new.iter().map(|place| is_one(texts.value(*place))).collect(),
            )?;
            is_wanted = is_text_wanted;
        }
        Ok(is_wanted)
    }
}

fn up_to_end(filters: &Filters) -> Filters {
    Filters { from: i64::MIN, ..filters.clone() }
}

/// Reads batches of persons' events.
#[derive(Debug, Default)]
pub struct Reader {
    known: Mutex<Known>,
    chunks: Mutex<Vec<Chunk>>,
}

/// Texts of all batches.
#[derive(Debug, Default)]
struct Known {
    ids: Texts,
    names: Texts,
}

/// Rows of one batch: ids and events.
#[derive(Debug, Default)]
struct Chunk {
    ids: Vec<u32>,
    events: Vec<Event>,
    /// Places of the first event of each id, and of one that is marked.
    firsts: HashMap<(u32, bool), usize, RandomState>,
}

impl Chunk {
    fn push(&mut self, id: u32, event: Event, kept: Kept) {
        match kept {
            Kept::Days if self.events.last() == Some(&event) && self.ids.last() == Some(&id) => return,
            Kept::Firsts => {
                let place = *self.firsts.entry((id, event.is_marked)).or_insert(self.ids.len());
                if let Some(first) = self.events.get_mut(place) {
                    *first = event.min(*first);
                    return;
                }
            }
            _ => {}
        }
        self.ids.push(id);
        self.events.push(event);
    }
}

impl Reader {
    /// Adds rows of SQL with the columns user_id, anonymous_id, time, name and, if there is a condition, a truth value. Those
    /// without an id are left out.
    ///
    /// # Errors
    /// If a column has another type.
    pub fn add(&self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let (ids, names) = {
            let mut known = lock(&self.known);
            (known.ids.first(&[batch.column(0), batch.column(1)])?, known.names.column(batch.column(3))?)
        };
        let times = cast(batch.column(2), &DataType::Int64)?;
        let times = times.as_primitive::<Int64Type>();
        let marks: Option<&BooleanArray> = batch.columns().get(4).and_then(|marks| marks.as_boolean_opt());
        let kept = if batch.schema().field(2).name() == DAY_NAME { Kept::Days } else { Kept::Each };
        let mut chunk = Chunk::default();
        for (row, id) in ids.into_iter().enumerate().filter(|(_, id)| *id != 0) {
            let is_marked = marks.is_some_and(|marks| marks.is_valid(row) && marks.value(row));
            chunk.push(id, Event { time: times.value(row), name: names[row], is_marked }, kept);
        }
        lock(&self.chunks).push(chunk);
        Ok(())
    }

    /// Adds the rows of a scan's batch that are in the selection.
    ///
    /// # Errors
    /// If a column has another type.
    pub fn select(&self, selection: &Selection, batch: &RecordBatch) -> Result<(), ArrowError> {
        let times = batch.column_by_name(TIME).and_then(|times| times.as_primitive_opt::<Int64Type>());
        let times = times
            .ok_or_else(|| ArrowError::SchemaError(format!("{TIME} isn't a column of whole numbers")))?;
        let is_wanted = selection.wants(batch, times.values())?;
        // Devices of events without a user alone: most texts are never looked at.
        let users = self.ids(batch, IDS[0], |row| is_wanted[row])?;
        let devices = self.ids(batch, IDS[1], |row| is_wanted[row] && users[row] == 0)?;
        let names = Memo::default().rows(
            batch,
            selection.name.unwrap_or_default(),
            0,
            |row| is_wanted[row],
            |texts, new| {
                let mut known = lock(&self.known);
                new.iter().map(|place| known.names.number(texts.value(*place))).collect()
            },
        )?;
        let marks =
            selection.mark.and_then(|mark| batch.column_by_name(mark)?.as_primitive_opt::<Float64Type>());
        let is_marked = |row| marks.is_some_and(|marks| marks.is_valid(row) && marks.value(row) > 0.0);
        let mut chunk = Chunk::default();
        for (row, time) in times.values().iter().enumerate().filter(|(row, _)| is_wanted[*row]) {
            let id = if users[row] == 0 { devices[row] } else { users[row] };
            if id != 0 {
                let is_by_day = selection.kept == Kept::Days;
                let time = if is_by_day { time.div_euclid(DAY) * DAY } else { *time };
                chunk.push(id, Event { time, name: names[row], is_marked: is_marked(row) }, selection.kept);
            }
        }
        chunk.firsts = HashMap::default();
        lock(&self.chunks).push(chunk);
        Ok(())
    }

    /// Numbers of the ids in a column; 0 where there is none, or it isn't needed.
    fn ids(
        &self,
        batch: &RecordBatch,
        column: &str,
        is_needed: impl Fn(usize) -> bool,
    ) -> Result<Vec<u32>, ArrowError> {
        Memo::default().rows(batch, column, 0, is_needed, |texts, new| {
            let mut known = lock(&self.known);
            new.iter().map(|place| known.ids.number(texts.value(*place))).collect()
        })
    }

    /// All events that were added, by person and time; the reader is empty again. `persons` is the answer to [`crate::filters::PERSONS`].
    ///
    /// # Errors
    /// If a column of it has no texts.
    pub fn finish(&self, persons: &[RecordBatch]) -> Result<Journeys, ArrowError> {
        let Known { mut ids, names } = std::mem::take(&mut *lock(&self.known));
        let chunks = std::mem::take(&mut *lock(&self.chunks));
        let person_of = person_of(&mut ids, persons)?;
        let mut ends = vec![0_usize; ids.count()];
        for id in chunks.iter().flat_map(|chunk| &chunk.ids) {
            ends[person_of[*id as usize] as usize] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += std::mem::replace(end, sum);
        }
        // Now each is the begin, and moves to the end while events come.
        let mut events = vec![Event::default(); sum];
        for chunk in chunks {
            for (id, event) in chunk.ids.into_iter().zip(chunk.events) {
                let place = &mut ends[person_of[id as usize] as usize];
                events[*place] = event;
                *place += 1;
            }
        }
        let mut begin = 0;
        for end in &ends {
            let of_person = &mut events[begin..*end];
            if !of_person.is_sorted() {
                of_person.sort_unstable();
            }
            begin = *end;
        }
        let mut ends: Vec<_> = (0..).zip(ends).collect();
        // Ids without events of their own end where the one before does.
        ends.dedup_by_key(|(_, end)| *end);
        ends.retain(|(_, end)| *end > 0);
        Ok(Journeys { names, ids, ends, events })
    }
}

/// Number of the person of each id.
fn person_of(ids: &mut Texts, persons: &[RecordBatch]) -> Result<Vec<u32>, ArrowError> {
    let mut persons_of: HashMap<u32, String> = HashMap::new();
    for batch in persons {
        let texts = |place: usize| cast(batch.column(place), &DataType::Utf8);
        let (linked, of) = (texts(0)?, texts(1)?);
        for (id, person) in linked.as_string::<i32>().iter().zip(of.as_string::<i32>()) {
            if let (Some(id), Some(person)) = (id.and_then(|id| ids.known(id)), person) {
                persons_of.insert(id, person.to_owned());
            }
        }
    }
    let mut numbers: Vec<u32> = (0..ids.count() as u32).collect();
    for (id, person) in persons_of {
        let person = ids.number(&person);
        numbers[id as usize] = person;
    }
    // Persons whose own id no event has.
    numbers.extend(numbers.len() as u32..ids.count() as u32);
    Ok(numbers)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
