//! Readers of persons' events: from answers of SQL, or from a scan of columns whose texts are dictionaries.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::arrow::error::ArrowError;
use tickstream_warehouse_core::query::{Scan, facts};

use super::{Event, Journeys};
use crate::filters::{CLIENT, DAY, Filters};
use crate::texts::Texts;

/// Name of the time's column where the same person, day and name again, one row after the other, are read once.
const DAY_NAME: &str = "day";
/// Columns that a selection reads, before those of its conditions.
const COLUMNS: [&str; 3] = ["user_id", "anonymous_id", "timestamp_ns"];

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

/// Events of persons to be read by a scan.
#[derive(Clone, Debug)]
pub struct Selection {
    kinds: &'static [&'static str],
    period: Range<i64>,
    /// Columns of texts, and the texts that an event has one of; without texts, any.
    conditions: Vec<(&'static str, Vec<String>)>,
    has_names: bool,
    is_by_day: bool,
}

impl Selection {
    /// Events of people in the period, with the values of the filters.
    pub fn events(filters: &Filters, names: Named<'_>) -> Self {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let names = match names {
            Named::Nameless => None,
            Named::All => Some(("event_name", Vec::new())),
            Named::OneOf(names) => Some(("event_name", texts(names))),
        };
        let values = filters.columns(CLIENT).map(|(column, value)| (column, texts(&[value])));
        Self {
            kinds: &facts::CLIENT,
            period: filters.from..filters.to,
            has_names: names.is_some(),
            conditions: names.into_iter().chain(values).collect(),
            is_by_day: false,
        }
    }

    /// Steps of ways through an application: interactions, and what it reports by names of its own.
    pub fn steps(filters: &Filters) -> Self {
        Self { kinds: &["user_interaction", "custom"], ..Self::events(filters, Named::All) }
    }

    /// Days on which persons did something, up to the end of the period, as events at the day's begin. The same person, day and name
    /// again, one row after the other, are read once.
    pub fn days(filters: &Filters, names: Named<'_>) -> Self {
        let until = Filters { from: i64::MIN, ..filters.clone() };
        Self { is_by_day: true, ..Self::events(&until, names) }
    }

    /// The scan that reads them.
    pub fn scan(&self) -> Scan {
        let columns = COLUMNS.into_iter().chain(self.conditions.iter().map(|(column, _)| *column));
        Scan { kinds: self.kinds, period: self.period.clone(), columns: columns.collect() }
    }
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
}

impl Chunk {
    fn push(&mut self, id: u32, event: Event, is_by_day: bool) {
        if !is_by_day || self.events.last() != Some(&event) || self.ids.last() != Some(&id) {
            self.ids.push(id);
            self.events.push(event);
        }
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
        let is_by_day = batch.schema().field(2).name() == DAY_NAME;
        let mut chunk = Chunk::default();
        for (row, id) in ids.into_iter().enumerate().filter(|(_, id)| *id != 0) {
            let is_marked = marks.is_some_and(|marks| marks.is_valid(row) && marks.value(row));
            chunk.push(id, Event { time: times.value(row), name: names[row], is_marked }, is_by_day);
        }
        lock(&self.chunks).push(chunk);
        Ok(())
    }

    /// Adds the rows of a scan's batch that are in the selection.
    ///
    /// # Errors
    /// If a column has another type.
    pub fn select(&self, selection: &Selection, batch: &RecordBatch) -> Result<(), ArrowError> {
        let mut is_wanted = vec![true; batch.num_rows()];
        let times = batch.column(2).as_primitive::<Int64Type>().values();
        for (is_wanted, time) in is_wanted.iter_mut().zip(times) {
            *is_wanted = selection.period.contains(time);
        }
        let conditions = batch.columns()[COLUMNS.len()..].iter().zip(&selection.conditions);
        for (column, (_, wanted)) in conditions.filter(|(_, (_, wanted))| !wanted.is_empty()) {
            let column = dictionary(column)?;
            let texts = column.values().as_string::<i32>();
            let is_text_wanted: Vec<bool> = texts
                .iter()
                .map(|text| text.is_some_and(|text| wanted.iter().any(|one| one == text)))
                .collect();
            for (is_wanted, key) in is_wanted.iter_mut().zip(column.keys()) {
                *is_wanted &= key.is_some_and(|key| is_text_wanted[key as usize]);
            }
        }
        let users = Keys::of(dictionary(batch.column(0))?);
        let devices = Keys::of(dictionary(batch.column(1))?);
        let names =
            selection.has_names.then(|| dictionary(batch.column(COLUMNS.len())).map(Keys::of)).transpose()?;
        // Devices of events without a user alone: most texts are never looked at.
        let mut of_users = vec![0; users.texts.len()];
        let mut of_devices = vec![0; devices.texts.len()];
        for row in (0..batch.num_rows()).filter(|row| is_wanted[*row]) {
            match (users.key(row), devices.key(row)) {
                (Some(user), _) => of_users[user] = 1,
                (None, Some(device)) => of_devices[device] = 1,
                (None, None) => {}
            }
        }
        let of_names = {
            let mut known = lock(&self.known);
            users.number(&mut of_users, &mut known.ids);
            devices.number(&mut of_devices, &mut known.ids);
            names.as_ref().map(|names| {
                let mut of_names = vec![1; names.texts.len()];
                names.number(&mut of_names, &mut known.names);
                of_names
            })
        };
        let mut chunk = Chunk::default();
        for (row, time) in times.iter().enumerate().filter(|(row, _)| is_wanted[*row]) {
            let id = match (users.key(row), devices.key(row)) {
                (Some(user), _) => of_users[user],
                (None, Some(device)) => of_devices[device],
                (None, None) => continue,
            };
            let key = names.as_ref().and_then(|names| names.key(row));
            let name = key.zip(of_names.as_ref()).map_or(0, |(key, of_names)| of_names[key]);
            let time = if selection.is_by_day { time.div_euclid(DAY) * DAY } else { *time };
            chunk.push(id, Event { time, name, is_marked: false }, selection.is_by_day);
        }
        lock(&self.chunks).push(chunk);
        Ok(())
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

/// Keys of a column, and the texts that they stand for. An empty text is none.
struct Keys<'a> {
    column: &'a DictionaryArray<Int32Type>,
    texts: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    fn of(column: &'a DictionaryArray<Int32Type>) -> Self {
        let texts = column.values().as_string::<i32>().iter().map(Option::unwrap_or_default).collect();
        Self { column, texts }
    }

    fn key(&self, row: usize) -> Option<usize> {
        let key = self.column.key(row)?;
        (!self.texts[key].is_empty()).then_some(key)
    }

    /// Numbers of the texts at the places that aren't 0.
    fn number(&self, places: &mut [u32], texts: &mut Texts) {
        for (place, text) in places.iter_mut().zip(&self.texts).filter(|(place, _)| **place != 0) {
            *place = texts.number(text);
        }
    }
}

fn dictionary(column: &ArrayRef) -> Result<&DictionaryArray<Int32Type>, ArrowError> {
    let found = column.as_dictionary_opt::<Int32Type>();
    found.ok_or_else(|| ArrowError::CastError(format!("{} is no dictionary", column.data_type())))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
