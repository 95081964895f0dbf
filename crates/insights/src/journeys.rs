//! Persons' events in order of time: some bytes for each event, whatever its texts are.

mod reader;

pub use reader::{Named, Reader, Selection};

use crate::filters::SECOND;
use crate::sessions::{SessionRules, sessions};
use crate::texts::Texts;

/// Sessions: 30 minutes idle, 24 hours at most.
pub const SESSIONS: SessionRules = SessionRules { idle: 30 * 60 * SECOND, length_max: 24 * 3_600 * SECOND };

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};

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
        let reader = Reader::default();
        let (some, others) = rows.split_at(rows.len() / 4);
        for rows in [some, others] {
            reader.add(&batch(time, rows)).unwrap();
        }
        let found = reader.finish(&[persons.unwrap()]).unwrap();
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
    fn by_day_the_same_again_is_read_once() {
        let rows =
            [(Some("bert"), None, 9, "z"), (Some("bert"), None, 9, "z"), (Some("bert"), None, 10, "z")];
        assert_eq!(journeys("day", &rows), ["z z"]);
        assert_eq!(journeys("timestamp_ns", &rows), ["z z z"]);
    }
}
