//! Persons' events in order of time, read from SQL in columns: some bytes for each event, whatever its texts are.

use std::collections::HashMap;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::error::ArrowError;

use crate::filters::SECOND;
use crate::sessions::{SessionRules, sessions};
use crate::texts::Texts;

/// Sessions: 30 minutes idle, 24 hours at most.
pub const SESSIONS: SessionRules = SessionRules { idle: 30 * 60 * SECOND, length_max: 24 * 3_600 * SECOND };

/// Name of the time's column where events of the same person, day and name count once.
const DAY: &str = "day";

/// An event of a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// Nanoseconds since 1970.
    pub time: i64,
    /// Number of its name, or of another text.
    pub name: u32,
    /// The condition that SQL answers in the fifth column.
    pub is_marked: bool,
}

/// Events of persons.
#[derive(Debug, Default)]
pub struct Journeys {
    names: Texts,
    ids: Texts,
    /// Number of each person's id, and the end of the person's events.
    ends: Vec<(u32, usize)>,
    events: Vec<Event>,
}

impl Journeys {
    /// Events of each person, by time.
    pub fn persons(&self) -> impl Iterator<Item = &[Event]> {
        self.named_persons().map(|(_, events)| events)
    }

    /// The same with each person's id.
    pub fn named_persons(&self) -> impl Iterator<Item = (&str, &[Event])> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        begins.zip(&self.ends).map(|(begin, (id, end))| (self.ids.text(*id), &self.events[begin..*end]))
    }

    /// The text of a number; 0 is none.
    pub fn name(&self, number: u32) -> &str {
        self.names.text(number)
    }

    /// Number of texts, with the empty one.
    pub fn names(&self) -> usize {
        self.names.count()
    }

    /// Number of a text; `None` if no event has it.
    pub fn number(&self, name: &str) -> Option<u32> {
        (1..self.names.count() as u32).find(|number| self.names.text(*number) == name)
    }
}

/// Sessions of a person's events.
pub fn sessions_of(events: &[Event]) -> impl Iterator<Item = &[Event]> {
    let times: Vec<_> = events.iter().map(|event| event.time).collect();
    sessions(&times, SESSIONS).into_iter().map(|range| &events[range])
}

/// Reads batches with the columns user_id, anonymous_id, time, name and, if there is a condition, a truth value.
#[derive(Debug, Default)]
pub struct Reader {
    /// Persons of ids that belong to another.
    users: HashMap<String, String>,
    ids: Texts,
    /// Person of each id, as numbers of ids, once it was looked up.
    persons: Vec<Option<u32>>,
    names: Texts,
    rows: Vec<(u32, Event)>,
}

impl Reader {
    /// A reader that knows the answer to [`crate::filters::PERSONS`].
    ///
    /// # Errors
    /// If a column has no texts.
    pub fn new(persons: &[RecordBatch]) -> Result<Self, ArrowError> {
        let mut users = HashMap::new();
        for batch in persons {
            let texts = |place: usize| cast(batch.column(place), &DataType::Utf8);
            let (ids, of) = (texts(0)?, texts(1)?);
            let pairs = ids.as_string::<i32>().iter().zip(of.as_string::<i32>());
            users.extend(pairs.filter_map(|(id, user)| Some((id?.to_owned(), user?.to_owned()))));
        }
        Ok(Self { users, ..Self::default() })
    }

    /// Adds rows. Those without an id are left out.
    ///
    /// # Errors
    /// If a column has another type.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let ids = self.ids.first(&[batch.column(0), batch.column(1)])?;
        let times = cast(batch.column(2), &DataType::Int64)?;
        let times = times.as_primitive::<Int64Type>();
        let names = self.names.column(batch.column(3))?;
        let marks: Option<&BooleanArray> = batch.columns().get(4).and_then(|marks| marks.as_boolean_opt());
        let is_by_day = batch.schema().field(2).name() == DAY;
        self.persons.resize(self.ids.count(), None);
        for (row, id) in ids.into_iter().enumerate() {
            if id == 0 {
                continue;
            }
            let person = self.person(id);
            let is_marked = marks.is_some_and(|marks| marks.is_valid(row) && marks.value(row));
            let event = (person, Event { time: times.value(row), name: names[row], is_marked });
            if !is_by_day || self.rows.last() != Some(&event) {
                self.rows.push(event);
            }
        }
        Ok(())
    }

    fn person(&mut self, id: u32) -> u32 {
        if let Some(person) = self.persons[id as usize] {
            return person;
        }
        let person = match self.users.get(self.ids.text(id)) {
            Some(user) => self.ids.number(user),
            None => id,
        };
        self.persons.resize(self.ids.count(), None);
        self.persons[id as usize] = Some(person);
        person
    }

    /// All events, by person and time.
    pub fn finish(self) -> Journeys {
        let mut ends = vec![0_usize; self.ids.count()];
        for (person, _) in &self.rows {
            ends[*person as usize] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += std::mem::replace(end, sum);
        }
        // Now each is the begin, and moves to the end while events come.
        let mut events = vec![Event::default(); self.rows.len()];
        for (person, event) in self.rows {
            let place = &mut ends[person as usize];
            events[*place] = event;
            *place += 1;
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
        Journeys { names: self.names, ids: self.ids, ends, events }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int64Array, StringArray};
    use datafusion::arrow::datatypes::{Field, Schema};

    use super::*;

    fn batch(time: &str, rows: &[(Option<&str>, Option<&str>, i64, &str)]) -> RecordBatch {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let fields = vec![
            text("user_id"),
            text("anonymous_id"),
            Field::new(time, DataType::Int64, false),
            text("name"),
        ];
        RecordBatch::try_new(
            Arc::new(Schema::new(fields)),
            vec![
                Arc::new(StringArray::from_iter(rows.iter().map(|row| row.0))),
                Arc::new(StringArray::from_iter(rows.iter().map(|row| row.1))),
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2))),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.3))),
            ],
        )
        .unwrap()
    }

    fn journeys(time: &str, rows: &[(Option<&str>, Option<&str>, i64, &str)]) -> Vec<String> {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let persons = RecordBatch::try_new(
            Arc::new(Schema::new(vec![text("anonymous_id"), text("user_id")])),
            vec![Arc::new(StringArray::from(vec!["phone"])), Arc::new(StringArray::from(vec!["anna"]))],
        );
        let mut reader = Reader::new(&[persons.unwrap()]).unwrap();
        for row in rows {
            reader.add(&batch(time, std::slice::from_ref(row))).unwrap();
        }
        let found = reader.finish();
        let mut all: Vec<_> = found
            .persons()
            .map(|events| events.iter().map(|event| found.name(event.name)).collect::<Vec<_>>().join(" "))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn events_are_grouped_by_person_and_sorted() {
        let rows = [
            (Some("bert"), None, 9, "z"),
            (None, Some("phone"), 5, "c"),
            (Some("anna"), Some("tv"), 1, "a"),
            (None, Some("web"), 2, "y"),
            (None, None, 3, "nobody"),
            (None, Some("phone"), 3, "b"),
            (Some("bert"), Some("phone"), 8, "x"),
        ];
        assert_eq!(journeys("timestamp_ns", &rows), ["a b c", "x z", "y"]);
        assert!(journeys("timestamp_ns", &[]).is_empty());
    }

    #[test]
    fn by_day_the_same_again_counts_once() {
        let rows =
            [(Some("bert"), None, 9, "z"), (Some("bert"), None, 9, "z"), (Some("bert"), None, 10, "z")];
        assert_eq!(journeys("day", &rows), ["z z"]);
        assert_eq!(journeys("timestamp_ns", &rows), ["z z z"]);
    }
}
