//! Events of persons as numbers, read from the files by two tasks.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{Array, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use datafusion::arrow::error::ArrowError;
use foldhash::fast::RandomState;
use futures::StreamExt;
use tickstream_warehouse_core::store::pieces::{BATCH_ROWS, Choose, Piece};
use tickstream_warehouse_core::tasks::next;
use tokio::task::JoinSet;

use super::people::{BUCKETS, People, Wanted, bucket};
use super::stitch::{Action, Contents, Event, Kind, Names, TEXTS, Visit, place};
use super::{TransformError, day_of};
use crate::memo::Memo;

/// Tasks that read.
const READERS: usize = 2;
const TIME: &str = "timestamp_ns";
const IDS: [&str; 2] = ["user_id", "anonymous_id"];
/// Columns of the texts, by place.
const TEXT_COLUMNS: [&str; TEXTS] = [
    "session_id",
    "platform",
    "app_version",
    "country",
    "device_type",
    "channel",
    "campaign",
    "event_name",
    "screen_name",
];
const REVENUE: &str = "revenue";

/// Files of events, and the persons who are wanted of them.
#[derive(Clone, Debug)]
pub struct Source {
    /// Pieces of the files.
    pub pieces: Arc<Vec<Piece>>,
    /// Persons behind ids.
    pub people: Arc<People>,
    /// Persons whose events are read.
    pub wanted: Arc<Wanted>,
}

/// Events of a range of time.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Their texts.
    pub names: Names,
    /// Their content.
    pub contents: Contents,
    /// Events of each bucket of persons, in any order.
    pub buckets: Vec<Vec<Event>>,
}

impl Source {
    /// Events with times of a range, both ends included; none if there are more than `max`.
    ///
    /// # Errors
    /// If files can't be read.
    pub async fn load(&self, times: RangeInclusive<i64>, max: u64) -> Result<Option<Loaded>, TransformError> {
        let loading = Arc::new(Loading {
            source: self.clone(),
            times,
            max,
            next: AtomicUsize::new(0),
            count: AtomicU64::new(0),
            names: Mutex::default(),
        });
        let mut readers = JoinSet::new();
        for _ in 0..READERS {
            readers.spawn(loading.clone().read());
        }
        let mut loaded = Loaded { buckets: vec![Vec::new(); BUCKETS as usize], ..Loaded::default() };
        while let Some(found) = next(&mut readers).await.transpose()? {
            loaded.add(found);
        }
        if loading.count.load(Ordering::Relaxed) > max {
            return Ok(None);
        }
        loaded.names = std::mem::take(&mut *loading.names.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Some(loaded))
    }

    /// Number of the events of each day with times of a range, both ends included.
    ///
    /// # Errors
    /// If files can't be read.
    pub async fn counts(&self, times: RangeInclusive<i64>) -> Result<BTreeMap<i64, u64>, TransformError> {
        let mut counts = BTreeMap::new();
        for piece in self.pieces.iter().filter(|piece| piece.may_have(&times)) {
            let (chosen_by, choose) = self.choice(piece, &times);
            let mut rows = piece.rows(&[TIME], BATCH_ROWS, chosen_by, choose)?;
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                for days in times_of(&batch)?.values().chunk_by(|a, b| day_of(*a) == day_of(*b)) {
                    *counts.entry(day_of(days[0])).or_insert(0) += days.len() as u64;
                }
            }
        }
        Ok(counts)
    }

    /// Chooses the rows of a piece by some columns; none if all are wanted.
    fn choice(
        &self,
        piece: &Piece,
        times: &RangeInclusive<i64>,
    ) -> (&'static [&'static str], Option<Choose>) {
        let (times, wanted) = (times.clone(), self.wanted.clone());
        let is_in_time = piece.is_within(&times);
        if matches!(*wanted, Wanted::Everybody) {
            let by_time: Choose = Box::new(move |rows| {
                let stamps = times_of(&rows)?.values();
                let is_wanted = BooleanBuffer::collect_bool(stamps.len(), |row| times.contains(&stamps[row]));
                Ok(BooleanArray::new(is_wanted, None))
            });
            return (&[TIME], Some(by_time).filter(|_| !is_in_time));
        }
        let (mut users, mut devices) = (Memo::default(), Memo::default());
        let by_id: Choose = Box::new(move |rows| {
            let stamps = times_of(&rows)?.values();
            let column = |name: &str, memo: &mut Memo<Choice>| {
                memo.rows(
                    &rows,
                    name,
                    Choice::Other,
                    |_| true,
                    |texts, new| {
                        let choice = |place: &usize| match texts.value(*place) {
                            "" => Choice::Other,
                            id if wanted.has_id(id) => Choice::Wanted,
                            _ => Choice::Unwanted,
                        };
                        new.iter().map(choice).collect()
                    },
                )
            };
            let (users, devices) = (column(IDS[0], &mut users)?, column(IDS[1], &mut devices)?);
            let is_wanted = BooleanBuffer::collect_bool(stamps.len(), |row| {
                let is_person = match users[row] {
                    Choice::Other => devices[row] == Choice::Wanted,
                    user => user == Choice::Wanted,
                };
                is_person && (is_in_time || times.contains(&stamps[row]))
            });
            Ok(BooleanArray::new(is_wanted, None))
        });
        (&[TIME, IDS[0], IDS[1]], Some(by_id))
    }
}

/// Choice by an id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Wanted,
    Unwanted,
    /// There is none: another one counts.
    Other,
}

impl Loaded {
    /// Adds the events of a reader.
    fn add(&mut self, found: Found) {
        let all = &mut self.contents;
        let (visits, actions) = (all.visits.len() as u32, all.actions.len() as u32);
        let revenues = all.revenues.len() as u32;
        all.visits.extend(found.visits.all);
        all.actions.extend(found.actions.all);
        all.revenues.extend(found.revenues);
        for (all, mut events) in self.buckets.iter_mut().zip(found.buckets) {
            for event in &mut events {
                event.visit += visits;
                event.action += actions;
                event.revenue += if event.revenue == 0 { 0 } else { revenues };
            }
            match all.is_empty() {
                true => *all = events,
                false => all.append(&mut events),
            }
        }
    }
}

/// Events that are being read.
struct Loading {
    source: Source,
    times: RangeInclusive<i64>,
    max: u64,
    /// Place of the next piece.
    next: AtomicUsize,
    count: AtomicU64,
    names: Mutex<Names>,
}

/// Events that a reader found.
struct Found {
    buckets: Vec<Vec<Event>>,
    visits: Numbered<Visit>,
    actions: Numbered<Action>,
    /// The first one isn't used.
    revenues: Vec<f64>,
}

/// Distinct values with numbers.
struct Numbered<T> {
    all: Vec<T>,
    numbers: HashMap<T, u32, RandomState>,
    /// The one before: it often comes again.
    last: Option<(T, u32)>,
}

impl<T: Copy + Eq + Hash> Numbered<T> {
    fn new() -> Self {
        Self { all: Vec::new(), numbers: HashMap::default(), last: None }
    }

    fn number(&mut self, value: T) -> u32 {
        if let Some((last, number)) = self.last
            && last == value
        {
            return number;
        }
        let number = *self.numbers.entry(value).or_insert_with(|| {
            self.all.push(value);
            self.all.len() as u32 - 1
        });
        self.last = Some((value, number));
        number
    }
}

/// An id, and the bucket of its person; number 0 is none.
#[derive(Clone, Copy, Debug, Default)]
struct Id {
    id: u32,
    bucket: u32,
}

/// Numbers of the texts of a piece.
#[derive(Default)]
struct Numbers {
    ids: [Memo<Id>; 2],
    texts: [Memo<u32>; TEXTS],
}

impl Loading {
    /// Reads one piece after the other, until there is none or there are too many events.
    async fn read(self: Arc<Self>) -> Result<Found, TransformError> {
        let columns: Vec<&str> = [TIME, REVENUE].into_iter().chain(IDS).chain(TEXT_COLUMNS).collect();
        let mut found = Found {
            buckets: vec![Vec::new(); BUCKETS as usize],
            visits: Numbered::new(),
            actions: Numbered::new(),
            revenues: vec![0.0],
        };
        while let Some(piece) = self.source.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if !piece.may_have(&self.times) {
                continue;
            }
            let kind = match piece.kind() {
                "video" => Kind::Video,
                "custom" => Kind::Custom,
                _ => Kind::Interaction,
            };
            let (chosen_by, choose) = self.source.choice(piece, &self.times);
            let mut rows = piece.rows(&columns, BATCH_ROWS, chosen_by, choose)?;
            let mut numbers = Numbers::default();
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                let count = batch.num_rows() as u64;
                if self.count.fetch_add(count, Ordering::Relaxed) + count > self.max {
                    return Ok(found);
                }
                self.add(kind, &batch, &mut numbers, &mut found)?;
            }
        }
        Ok(found)
    }

    /// Adds the events of a batch.
    fn add(
        &self,
        kind: Kind,
        batch: &RecordBatch,
        numbers: &mut Numbers,
        found: &mut Found,
    ) -> Result<(), ArrowError> {
        let [users, devices] = &mut numbers.ids;
        let users = users.rows(
            batch,
            IDS[0],
            Id::default(),
            |_| true,
            |texts, new| self.ids(new.iter().map(|place| texts.value(*place))),
        )?;
        let devices = devices.rows(
            batch,
            IDS[1],
            Id::default(),
            |row| users[row].id == 0,
            |texts, new| self.ids(new.iter().map(|place| texts.value(*place))),
        )?;
        let mut columns = Vec::with_capacity(TEXTS);
        for (name, memo) in TEXT_COLUMNS.iter().zip(&mut numbers.texts) {
            columns.push(memo.rows(
                batch,
                name,
                0,
                |_| true,
                |texts, new| {
                    let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
                    new.iter().map(|place| names.texts.number(texts.value(*place))).collect()
                },
            )?);
        }
        let times = times_of(batch)?.values();
        let revenues = batch.column_by_name(REVENUE);
        let revenues: Option<&Float64Array> =
            revenues.and_then(|column| column.as_primitive_opt::<Float64Type>());
        for row in 0..batch.num_rows() {
            let Id { id, bucket } = if users[row].id != 0 { users[row] } else { devices[row] };
            if id == 0 {
                continue;
            }
            let visit = found.visits.number(std::array::from_fn(|place| columns[place][row]));
            let action = found.actions.number((kind, columns[place::NAME][row], columns[place::SCREEN][row]));
            let mut revenue = 0;
            if let Some(revenues) = revenues.filter(|column| column.is_valid(row)) {
                revenue = found.revenues.len() as u32;
                found.revenues.push(revenues.value(row));
            }
            found.buckets[bucket as usize].push(Event { time: times[row], id, visit, action, revenue });
        }
        Ok(())
    }

    /// Numbers of ids; their persons become known.
    fn ids<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Vec<Id> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let id = |text: &str| {
            let person = self.source.people.person(text);
            let (id, number) = (names.texts.number(text), names.texts.number(person));
            let count = names.texts.count();
            names.persons.resize(count, 0);
            names.persons[id as usize] = number;
            Id { id, bucket: bucket(person) }
        };
        ids.map(id).collect()
    }
}

/// Times of the rows of a batch.
fn times_of(batch: &RecordBatch) -> Result<&Int64Array, ArrowError> {
    let column = batch.column_by_name(TIME).and_then(|column| column.as_primitive_opt::<Int64Type>());
    column.ok_or_else(|| ArrowError::SchemaError(format!("{TIME} isn't a column of whole numbers")))
}
